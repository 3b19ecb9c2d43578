"""Weights that obey something: Dale's law and masks, on any cell, made once for a whole run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CELLS, apply, given, key, normal, random_inputs, random_params, run, same
from jax.extend.core import jaxprs_in_params

import jrnn
from jrnn import attention, initializers
from jrnn.parametrizations import DalesLaw, Sparse

BOTH = jrnn.Parametrized(jrnn.Parametrized(jrnn.Elman(3, 10, activation="relu"), Sparse(0.5, 3)), DalesLaw(0.7))


def blocks(w, gates):
    return np.split(np.asarray(w), gates, -1)


# What they make


def test_dales_law_is_a_sign_for_each_row():
    cell = jrnn.Elman(3, 10)
    params = random_params(cell)
    made = DalesLaw(0.7)(cell, params)
    w = np.abs(np.asarray(params.w_h))
    w[7:] *= -1
    np.testing.assert_array_equal(made.w_h, w)
    same(made._replace(w_h=params.w_h), params, 0)


def test_a_mask_is_the_same_for_all_gates_and_seeds():
    cell = jrnn.GRU(3, 40)
    made = Sparse(0.3, 5, self_connections=False)(cell, jax.tree.map(jnp.ones_like, random_params(cell)))
    gates = blocks(made.w_h, 3)
    assert set(np.unique(gates)) == {0.0, 1.0}
    np.testing.assert_array_equal(gates, [gates[0]] * 3)
    assert not np.diag(gates[0]).any()
    assert gates[0].mean() == pytest.approx(0.3, abs=0.05)
    assert np.diag(Sparse(0.9).mask(40, 40)).any()
    assert (Sparse(0.3, 5).mask(40, 40) != Sparse(0.3, 6).mask(40, 40)).any()
    np.testing.assert_array_equal(Sparse(1.0)(cell, made).w_h, made.w_h)


@pytest.mark.parametrize(
    "name", ["jordan", "lstm-projected", "gru-before", "conv-gru", "learned-state", "ctrnn-learn-tau"]
)
def test_on_any_cell(name):
    """All weights that leave a unit have its sign, whatever receives them."""
    cell = CELLS[name]
    law = DalesLaw(0.5)
    made = law(cell, random_params(cell))
    inner, params = (cell.cell, made.cell) if name == "learned-state" else (cell, made)
    for recurrent in inner.recurrent:
        w = np.asarray(getattr(params, recurrent))
        signs = law.signs(w.shape[-2])
        np.testing.assert_array_equal(np.sign(w), np.broadcast_to(signs[:, None], w.shape))
        assert set(signs) == {1, -1}


@pytest.mark.parametrize("excitatory", [0.8, 0.5, 1.0, 0.0])
@pytest.mark.parametrize("density", [1.0, 0.2])
def test_the_start_is_balanced_and_about_as_large_as_that_of_the_cell(excitatory, density):
    cell = jrnn.Parametrized(jrnn.Parametrized(jrnn.Elman(3, 200), Sparse(density)), DalesLaw(excitatory))
    w = np.asarray(cell.cell.made(cell.made(cell.init(key(0)))).w_h)
    assert np.square(w).sum() == pytest.approx(200, rel=0.1)
    if excitatory not in (0.0, 1.0):
        received = w.sum(0)
        assert abs(received.mean()) < 0.05 * np.abs(w).sum(0).mean()
        assert 0.5 < np.abs(np.linalg.eigvals(w)).max() < 1.6


# What is computed


@pytest.mark.parametrize(
    "inside", [jrnn.Elman(3, 10, activation="relu"), jrnn.LSTM(3, 10), jrnn.CTRNN(3, 10, learn_tau=True)]
)
def test_values_and_gradients_are_those_of_the_cell_with_made_weights(inside):
    law, mask = DalesLaw(0.7), Sparse(0.5, 3)
    cell = jrnn.Parametrized(jrnn.Parametrized(inside, mask), law)
    params, xs, _ = given(cell)
    made = mask(inside, law(inside, params))
    same(cell.cell.made(cell.made(params)), made, 0)
    lengths = jnp.array([6, 3, 0])

    def loss(model, params):
        state, ys = jrnn.unroll(model, params, xs, lengths=lengths)
        return jnp.sum(jnp.sin(ys)) + jnp.sum(jax.tree.leaves(state)[0]), (state, ys)

    value_and_grad = jax.jit(jax.value_and_grad(loss, argnums=1, has_aux=True), static_argnums=0)
    (_, got), slope = value_and_grad(cell, params)
    (_, want), by_made = value_and_grad(inside, made)
    same(got, want)
    signs = np.where(np.arange(10) < 7, 1, -1)[:, None] * np.sign(params.w_h)
    drawn = np.tile(mask.mask(10, 10), (1, len(inside.gates)))
    same(slope, by_made._replace(w_h=by_made.w_h * (signs * drawn).astype(np.float32)))

    state = cell.initial_state(params, (3,))
    after, y = cell.step(params, state, xs[0])
    same((after, y), inside.step(made, state, xs[0]))


def test_learning_keeps_signs_and_zeros():
    params, xs, _ = given(BOTH)
    target = normal(9, 6, 3, 10)
    slope = jax.jit(jax.grad(lambda params: jnp.mean(jnp.square(jrnn.unroll(BOTH, params, xs)[1] - target))))
    before = BOTH.cell.made(BOTH.made(params)).w_h
    for _ in range(30):
        params = jax.tree.map(lambda p, g: p - 0.05 * g, params, slope(params))
    w = np.asarray(BOTH.cell.made(BOTH.made(params)).w_h)
    assert (w[:7] >= 0).all()
    assert (w[7:] <= 0).all()
    np.testing.assert_array_equal(w == 0, ~Sparse(0.5, 3).mask(10, 10))
    assert np.abs(w - before).max() > 0.01


@pytest.mark.parametrize(
    "wrap",
    [
        lambda cell: jrnn.LearnedState(jrnn.Parametrized(cell, DalesLaw(0.5))),
        lambda cell: jrnn.Parametrized(jrnn.LearnedState(cell), DalesLaw(0.5)),
        lambda cell: jrnn.Zoneout(jrnn.LearnedState(jrnn.Parametrized(cell, DalesLaw(0.5))), 0.3),
        lambda cell: jrnn.Parametrized(jrnn.RecurrentDropout(jrnn.LearnedState(cell), 0.3), DalesLaw(0.5)),
    ],
    ids=["learned-outside", "learned-inside", "zoneout-outside", "dropout-inside"],
)
def test_beside_other_wrappers(wrap):
    inside = CELLS["gru-after"]
    cell, plain = wrap(inside), wrap(inside)
    params, xs, state = given(cell)
    made = params._replace(cell=DalesLaw(0.5)(inside, params.cell))
    without = {
        jrnn.LearnedState: lambda c: jrnn.LearnedState(c.cell.cell),
        jrnn.Parametrized: lambda c: c.cell,
        jrnn.Zoneout: lambda c: jrnn.Zoneout(jrnn.LearnedState(c.cell.cell.cell), c.rate),
    }[type(plain)](plain)
    same(run(cell, params, xs, state), run(without, made, xs, state))
    same(run(cell, params, xs, lengths=jnp.array([6, 2, 0])), run(without, made, xs, lengths=jnp.array([6, 2, 0])))


def test_of_a_cell_that_attends():
    inside = jrnn.GRU(3 + 6, 5)
    plain = jrnn.AttentionBefore(inside, attention.General(5, 6))
    memory, xs = normal(1, 4, 3, 6), normal(2, 5, 3, 3)
    params = random_params(plain)
    made = params._replace(cell=DalesLaw(0.5)(inside, params.cell))
    want = run(plain, plain.bind(made, memory), xs)
    for cell in (
        jrnn.Parametrized(plain, DalesLaw(0.5)),
        jrnn.AttentionBefore(jrnn.Parametrized(inside, DalesLaw(0.5)), attention.General(5, 6)),
    ):
        bound = cell.bind(params, memory)
        same(run(cell, bound, xs), want)
        same(cell.step(bound, cell.initial_state(bound, (3,)), xs[0])[1], want[1][0])


def test_initialisers_and_files_reach_what_is_inside(tmp_path):
    params = BOTH.init(key(0))
    same(initializers.forget_bias(jrnn.Parametrized(CELLS["lstm"], DalesLaw()), random_params(CELLS["lstm"]), 2.0),
         initializers.forget_bias(CELLS["lstm"], random_params(CELLS["lstm"]), 2.0), 0)  # fmt: skip
    pytest.importorskip("safetensors", reason="the interop extra is not installed")
    from jrnn import interop

    interop.save(tmp_path / "model.safetensors", jrnn.Recurrent(BOTH), params)
    model, read = interop.load(tmp_path / "model.safetensors")
    assert model == jrnn.Recurrent(BOTH)
    same(read, params, 0)


# Once for a whole run


def marked(cell, params):
    """A parametrization that leaves its mark on a program, once for each of w_x and w_h."""
    return params._replace(w_x=jnp.arcsinh(params.w_x), w_h=jnp.arcsinh(params.w_h))


def marks(jaxpr, in_loop=False):
    """How often the mark stands outside of loops, and in them."""
    outside = inside = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "asinh":
            outside, inside = outside + (not in_loop), inside + in_loop
        loops = in_loop or equation.primitive.name in ("scan", "while")
        for inner in jaxprs_in_params(equation.params):
            more = marks(inner, loops)
            outside, inside = outside + more[0], inside + more[1]
    return outside, inside


ENGINES = {
    "scan": jrnn.Scan(),
    "states": jrnn.Scan(gradient=jrnn.LinearSolve(save="states", tile=2)),
    "checkpointed": jrnn.Scan(gradient=jrnn.Checkpointed(every=2)),
    "autodiff": jrnn.Scan(gradient=jrnn.Autodiff()),
}


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
@pytest.mark.parametrize("wrap", [lambda c: c, jrnn.LearnedState, lambda c: jrnn.Zoneout(jrnn.LearnedState(c), 0.2)])
def test_they_are_made_once_outside_of_the_loop(engine, wrap):
    cell = wrap(jrnn.Parametrized(CELLS["gru-after"], marked))
    params, xs = random_params(cell), random_inputs(cell, 6, 2)

    def loss(params):
        return jnp.sum(jrnn.unroll(cell, params, xs, engine=engine)[1])

    assert marks(jax.make_jaxpr(loss)(params).jaxpr) == (2, 0)
    made, in_loops = marks(jax.make_jaxpr(jax.grad(loss))(params).jaxpr)
    assert in_loops == 0
    assert 2 <= made <= 4  # JAX may trace a run once more where it is differentiated
    step = jax.make_jaxpr(lambda params: cell.step(params, cell.initial_state(params, (2,)), xs[0]))(params)
    assert marks(step.jaxpr)[0] <= 4  # of the initial state and of the step


def test_the_reader_of_marks_sees_those_in_loops():
    """A cell that makes its own weights in every piece."""
    cell = jrnn.Parametrized(CELLS["gru-after"], marked)
    params, xs = random_params(cell), random_inputs(cell, 6, 2)

    def loop(params):
        return jax.lax.scan(lambda state, x: cell.step(params, state, x), cell.initial_state(params, (2,)), xs)[1]

    assert marks(jax.make_jaxpr(loop)(params).jaxpr)[1] == 2


def test_both_directions_in_one_loop():
    layer = jrnn.Recurrent(jrnn.Parametrized(CELLS["gru-after"], DalesLaw(0.5)))
    backward = jrnn.Recurrent(layer.cell, reverse=True)
    one, two = (jrnn.Bidirectional(layer, backward, one_loop=one_loop) for one_loop in (True, False))
    params, xs = random_params(one), random_inputs(one, 5, 2)
    same(apply(one, params, xs), apply(two, params, xs))


# Mistakes


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: jrnn.Parametrized(CELLS["lstm"], DalesLaw), TypeError, "parametrization is .*class.*DalesLaw.*expected a func"),
        (lambda: jrnn.Parametrized(CELLS["lstm"], 0.5), TypeError, "parametrization is float 0.5; expected a function"),
        (lambda: jrnn.Parametrized("lstm", DalesLaw()), TypeError, "Parametrized: cell is str 'lstm'; expected a Cell"),
        (lambda: DalesLaw(1.5), ValueError, r"DalesLaw: excitatory is 1.5; expected a share in \[0, 1\]"),
        (lambda: DalesLaw(True), TypeError, "DalesLaw: excitatory is True; expected a plain number"),
        (lambda: Sparse(0), ValueError, r"Sparse: density is 0; expected a share of the connections in \(0, 1\]"),
        (
            lambda: given(jrnn.Parametrized(CELLS["elman-tanh"], lambda cell, params: params.w_h)),
            TypeError,
            "what .* makes of params is a .*; Elman.* expects a ElmanParams",
        ),
    ],
)  # fmt: skip
def test_mistakes(make, error, words):
    with pytest.raises(error, match=words):
        make()
