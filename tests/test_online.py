"""Online gradients: against back-propagation through time, and against what each approximation leaves out."""

import functools
import pickle
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import CANNOT_STREAM, CELLS, HIDDEN, INPUT, LAYERS, cast, key, normal, random_inputs, random_params
from online import ROWS, TIME, Cut, bptt, distance, example, in_windows, online

import jrnn
from jrnn.arrays import is_key
from jrnn.checkpoint import Checkpoints
from jrnn.flax import linen
from jrnn.losses import Mean
from jrnn.online import RTRL, UORO, EProp, Online, SnAp, Truncated, feedback_product, pattern
from jrnn.train import init_state, make_step

EXACT = 1e-12
STREAMING = {name: model for name, model in (CELLS | LAYERS).items() if name not in CANNOT_STREAM}
STACK = jrnn.rnn(jrnn.GRU, input_size=INPUT, hidden_size=HIDDEN, num_layers=2)


@pytest.mark.parametrize("name", STREAMING)
def test_rtrl_is_bptt(name):
    """Over windows shorter than the sequence, where truncation is not exact; with padded steps and resets at any step."""
    with jax.enable_x64(True):
        model, run = STREAMING[name], jax.jit(in_windows, static_argnums=(0, 1))
        data = example(model)
        want = jax.jit(bptt, static_argnums=0)(model, *data)
        assert distance(run(online(model, RTRL()), 2, *data)[0], want) <= EXACT
        if name in ("lstm", "gru-before", "learned-state", "rnn-lstm"):
            assert distance(run(online(model, RTRL()), 1, *data)[0], want) <= EXACT
            assert distance(run(online(model, RTRL()).layer, 1, *data)[0], want) > 1e-3


UNITWISE = {
    name: CELLS[name]
    for name in (
        "elman-relu", "lstm", "lstm-without-bias", "lstm-peephole", "lstm-coupled", "gru-after", "ctrnn-learn-tau",
        "ctrnn-dt-input",
    )
}  # fmt: skip
"""Cells whose units are followed one by one."""


@pytest.mark.parametrize("method", [SnAp(), EProp()], ids=str)
@pytest.mark.parametrize("cell", UNITWISE.values(), ids=UNITWISE)
def test_local_rules_are_bptt_of_a_cell_whose_connections_are_cut(cell, method):
    """SnAp-1 leaves a unit's connection to itself, e-prop none."""
    with jax.enable_x64(True):
        data = example(cell)
        want = jax.jit(bptt, static_argnums=0)(Cut(cell, own=method == SnAp()), *data)
        for steps in (1, 3) if cell == CELLS["gru-after"] else (2,):
            got, _ = jax.jit(in_windows, static_argnums=(0, 1))(online(cell, method, local=True), steps, *data)
            assert distance(got, want) <= EXACT


@pytest.mark.parametrize("name", ["lstm", "gru-after", "ctrnn", "elman-tanh"])
def test_a_trace_comes_closer_to_the_gradient_than_none(name):
    """One exact step and a trace: SnAp-1 nearer than e-prop or about, both nearer than truncation."""
    with jax.enable_x64(True):
        cell, run = CELLS[name], jax.jit(in_windows, static_argnums=(0, 1))
        data = example(cell)
        want = jax.jit(bptt, static_argnums=0)(cell, *data)
        without = distance(run(jrnn.Recurrent(cell), 1, *data)[0], want)
        for method in (SnAp(), EProp()):
            assert distance(run(online(cell, method), 1, *data)[0], want) < 0.8 * without


def test_what_a_wrapper_adds_is_followed():
    """A learned initial state, and masks of noise that a state draws."""
    with jax.enable_x64(True):
        learned = jrnn.LearnedState(jrnn.Elman(INPUT, HIDDEN))
        data = example(learned)
        got, _ = jax.jit(in_windows, static_argnums=(0, 1))(online(learned, SnAp(), local=True), 1, *data)
        exact, _ = jax.jit(in_windows, static_argnums=(0, 1))(online(learned, RTRL()), 1, *data)
        assert np.abs(got.state.h).min() > 0
        assert distance(got, exact) < 1  # of the same kind, through the unit's own weight
        masked = jrnn.Parametrized(jrnn.GRU(INPUT, HIDDEN), jrnn.parametrizations.Sparse(0.6))
        data = example(masked)
        within = data[0], masked.made(data[0])
        run = jax.jit(in_windows, static_argnums=(0, 1))
        raw, made = (run(online(cell, SnAp()), 1, p, *data[1:])[0] for cell, p in zip((masked, masked.cell), within))
        there = jnp.asarray(within[1].w_h != 0, float)
        assert distance(raw, made._replace(w_h=made.w_h * there)) <= EXACT
        for cell in (jrnn.Zoneout(jrnn.LSTM(INPUT, HIDDEN), 0.3), jrnn.RecurrentDropout(jrnn.GRU(INPUT, HIDDEN), 0.4)):
            data = example(cell)
            noisy = online(cell, RTRL())
            keyed = noisy.initial_state(data[0], (ROWS,), key(3)).state

            def whole(params, cell=cell, data=data, keyed=keyed):
                ys = jrnn.unroll(cell, params, data[1], keyed, mask=data[3], reset=data[4])[1]
                return jnp.sum(data[2] * ys + ys**2)

            got, _ = jax.jit(in_windows, static_argnums=(0, 1))(noisy, 2, *data, key(3))
            assert distance(got, jax.jit(jax.grad(whole))(data[0])) <= EXACT


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        (jrnn.GRU(INPUT, HIDDEN, reset_after=False), "its update mixes units; expected RTRL() or UORO()"),
        (jrnn.Jordan(INPUT, HIDDEN, 2), "expected RTRL() or UORO()"),
        (jrnn.ProjectedLSTM(INPUT, HIDDEN, 2), "where each should have one entry a unit; expected RTRL() or UORO()"),
        (jrnn.ConvGRU((4, 3, 2), 2, 3), "where each should have one entry a unit; expected RTRL() or UORO()"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_cells_whose_units_cannot_be_followed(cell, says):
    params = random_params(cell)
    for method in (SnAp(), EProp()):
        with pytest.raises(TypeError, match=re.escape(says)):
            online(cell, method).initial_state(params)


def test_a_recurrent_weight_of_another_name_is_not_guessed():
    from own_cells import Simple, cell

    @cell
    class Renamed(Simple):
        """Its recurrent weight is not called so: the diagonal of what is would be the wrong one."""

        def project(self, params, x):
            return x @ jnp.concatenate([params.w_h, params.w_x])[: x.shape[-1]]

        def recur(self, params, state):
            return state.h @ jnp.concatenate([params.w_x, params.w_h])[:HIDDEN]

    params = random_params(Renamed())
    with pytest.raises(TypeError, match=r"SnAp.*names its recurrent weights, or EProp\(\)"):
        online(Renamed(), SnAp()).initial_state(params)
    online(Renamed(), EProp()).initial_state(params)


def test_truncated_looks_back_as_far_as_it_says():
    """As far as the start: back-propagation; and a learned initial state has its derivative until it is out of sight."""
    with jax.enable_x64(True):
        run = jax.jit(in_windows, static_argnums=(0, 1))
        for model in (CELLS["learned-state"], CELLS["conv-gru"], STACK):
            data = example(model)
            want = jax.jit(bptt, static_argnums=0)(model, *data)
            assert distance(run(online(model, Truncated(TIME - 1)), 1, *data)[0], want) <= EXACT
            assert distance(run(online(model, Truncated(4)), 2, *data)[0], want) <= EXACT
            near, far = (distance(run(online(model, Truncated(steps)), 1, *data)[0], want) for steps in (3, 1))
            assert 0 < near < far


def test_truncated_is_the_derivative_of_the_last_steps():
    """Each window's gradient is that of a run from the state `steps` before it, through which no derivative passes."""
    with jax.enable_x64(True):
        cell, back = jrnn.LSTM(INPUT, HIDDEN), 2
        params, xs, marks, mask, reset = example(cell)

        def by_hand(params):
            total = 0.0
            for t in range(TIME):
                start = max(0, t - back)
                state = (
                    jrnn.unroll(cell, params, xs[:start], mask=mask[:start], reset=reset[:start])[0] if start else None
                )
                state = jax.lax.stop_gradient(state)
                ys = jrnn.unroll(
                    cell, params, xs[start : t + 1], state, mask=mask[start : t + 1], reset=reset[start : t + 1]
                )[1]
                total += jnp.sum(marks[t] * ys[-1] + ys[-1] ** 2)
            return total

        data = params, xs, marks, mask, reset
        got, _ = jax.jit(in_windows, static_argnums=(0, 1))(online(cell, Truncated(back)), 1, *data)
        assert distance(got, jax.jit(jax.grad(by_hand))(params)) <= EXACT


@pytest.mark.parametrize("model", [jrnn.Elman(INPUT, HIDDEN), STACK], ids=["elman", "stack"])
def test_uoro_is_right_on_average(model):
    with jax.enable_x64(True):
        data = example(model)
        want = jax.jit(bptt, static_argnums=0)(model, *data)

        def one(key):
            return in_windows(online(model, UORO()), 2, *data, key)[0]

        some = jax.jit(jax.vmap(one))
        drawn = [some(jax.random.split(key(seed), 1000)) for seed in range(16)]
        few, many = (jax.tree.map(lambda *g: np.mean(g, (0, 1)), *drawn[:count]) for count in (4, 16))
        assert distance(few, want) < 0.05
        assert distance(many, want) < 0.6 * distance(few, want) + 0.002


def test_snap_of_more_steps_comes_closer_in_a_sparse_network():
    with jax.enable_x64(True):
        rng, units = np.random.default_rng(0), 12
        cell = jrnn.Elman(INPUT, units)
        layer = jrnn.Recurrent(cell)
        params, xs, marks, mask, reset = example(cell)
        sparse = np.where(rng.random((units, units)) < 0.25, rng.standard_normal((units, units)), 0)
        params = params._replace(w_h=jnp.asarray(sparse / np.abs(np.linalg.eigvals(sparse)).max()))
        data = params, xs, marks, mask, reset & False
        there = jax.tree.map(lambda a: (a != 0).astype(a.dtype), params)
        run = jax.jit(in_windows, static_argnums=(0, 1))

        def masked(gradient):
            return jax.tree.map(jnp.multiply, gradient, there)

        want = masked(jax.jit(bptt, static_argnums=0)(cell, *data))
        patterns = [pattern(layer, params, steps) for steps in (1, 2, 3, 12)]
        errors = [distance(masked(run(Online(layer, SnAp(one)), 1, *data)[0]), want) for one in patterns]
        assert errors[0] > errors[1] > errors[2] > errors[3]
        assert errors[3] <= EXACT
        # One array of state: what a parameter moves at once is one unit, as in the traces that follow units.
        assert distance(errors[0], distance(masked(run(Online(layer, SnAp()), 1, *data)[0]), want)) <= 1e-9


def test_snap_of_two_steps_is_exact_where_weights_are_dense():
    with jax.enable_x64(True):
        cell = jrnn.GRU(INPUT, HIDDEN)
        data = example(cell)
        want = jax.jit(bptt, static_argnums=0)(cell, *data)
        method = SnAp(pattern(jrnn.Recurrent(cell), data[0], 2))
        for steps in (1, 2):
            got, _ = jax.jit(in_windows, static_argnums=(0, 1))(online(cell, method), steps, *data)
            assert distance(got, want) <= EXACT


def test_layer_by_layer_is_exact_in_the_last_layer_alone():
    with jax.enable_x64(True):
        data = example(STACK)
        want = jax.jit(bptt, static_argnums=0)(STACK, *data)
        each = jrnn.Layered(tuple(Online(layer, RTRL()) for layer in STACK.layers))
        got, _ = jax.jit(in_windows, static_argnums=(0, 1))(each, 1, *data)
        assert distance(got[1], want[1]) <= EXACT
        assert 1e-3 < distance(got[0], want[0]) < 0.9


LEARNERS = {
    "rtrl": Online(STACK, RTRL()),
    "snap": online(jrnn.LSTM(INPUT, HIDDEN), SnAp()),
    "eprop": online(jrnn.CTRNN(INPUT, HIDDEN, tau=3.0, noise=0.2), EProp()),
    "eprop-local": online(jrnn.GRU(INPUT, HIDDEN), EProp(), local=True),
    "uoro": online(jrnn.GRU(INPUT, HIDDEN), UORO()),
    "truncated": online(jrnn.GRU(INPUT, HIDDEN), Truncated(2)),
}


def gradient(layer, params, state, xs, **segments):
    """Of one window, and the state after it."""

    def loss(params):
        new, ys = layer.apply(params, xs, state, **segments)
        return jnp.sum(ys**2 + ys), new

    return jax.grad(loss, has_aux=True)(params)


def window(layer, *batch, steps=2):
    """Parameters, a state that has run some steps, and the inputs of the next ones."""
    params, xs = random_params(layer), random_inputs(layer, 4 + steps, *batch)
    state = layer.apply(params, xs[:4], layer.initial_state(params, batch, key(5)))[0]
    return params, state, xs[4:]


@functools.cache
def compiled(*static):
    return jax.jit(gradient, static_argnums=0)


def close(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if is_key(x):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        assert x.dtype == y.dtype
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer", LEARNERS.values(), ids=LEARNERS)
def test_rows_are_alone(layer):
    """Each row's gradient and trace are those of the row by itself, whatever the batch axes; `step` is a window of one."""
    params, state, xs = window(layer, 2, 2)
    found, new = compiled()(layer, params, state, xs)
    rows = jax.vmap(jax.vmap(functools.partial(gradient, layer, params)))(state, jnp.moveaxis(xs, 0, 2))
    close(new, rows[1])
    close(found, jax.tree.map(lambda a: a.sum((0, 1)), rows[0]))
    one, y = layer.step(params, state, xs[0])
    again, ys = layer.apply(params, xs[:1], state)
    close((one, y), (again, ys[0]))


@pytest.mark.parametrize("layer", LEARNERS.values(), ids=LEARNERS)
def test_what_lies_behind_a_reset_has_no_influence(layer):
    """A reset makes a row's state, trace and gradient those of a fresh start; a padded step leaves all as they are, NaN or not."""
    params, state, xs = window(layer, 3)
    reset = jnp.zeros((2, 3), bool).at[0, 1].set(True)
    mask = jnp.ones((2, 3), bool).at[:, 2].set(False)
    holes = xs.at[:, 2].set(jnp.nan)
    found, new = compiled()(layer, params, state, holes, reset=reset, mask=mask)
    first, third = (jax.tree.map(lambda a, i=i: a[i], state) for i in (0, 2))
    fresh = layer.initial_state(params, (3,), key(5))
    fresh = jax.tree.map(lambda a, b: b[1] if is_key(b) else a[1], fresh, state)  # keys of noise run on
    alone = [gradient(layer, params, s, xs[:, i]) for i, s in enumerate((first, fresh))]
    close(found, jax.tree.map(jnp.add, alone[0][0], alone[1][0]))
    for i, want in enumerate((alone[0][1], alone[1][1], third)):
        close(jax.tree.map(lambda a, i=i: a[i], new.state), want.state)
    if not isinstance(layer.method, (Truncated, UORO)):
        close(
            jax.tree.map(lambda a: a[1:], new.trace),
            jax.tree.map(lambda *a: jnp.stack(a), alone[1][1].trace, third.trace),
        )


def test_two_devices_make_one_step():
    """`make_step` divides rows, states and traces."""
    optimizer = optax.sgd(1e-2)
    for layer in (LEARNERS["rtrl"], LEARNERS["snap"], LEARNERS["uoro"]):
        params, state, xs = window(layer, 4, steps=1)

        def loss(params, carry, batch, key, layer=layer):
            carry, ys = layer.apply(params, batch, carry)
            return Mean(jnp.sum(ys**2), jnp.float32(batch.shape[1])), carry

        both = []
        for devices in (jax.devices()[:1], jax.devices()[:2]):
            mesh = jax.sharding.Mesh(np.array(devices), ("rows",))
            trained = init_state(params, optimizer, key(0), state)
            step = make_step(loss, optimizer, mesh=mesh)
            for x in xs:
                trained, _ = step(trained, x[None])
            both.append((trained.params, trained.carry))
        close(*both)


@pytest.mark.parametrize("name", ["snap", "uoro"])
def test_a_run_goes_on_bit_for_bit(name, tmp_path):
    layer = LEARNERS[name]
    params, state, xs = window(layer, 3)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(0, state, {})
    restored = checkpoints.restore(layer.initial_state(params, (3,), key(9))).state
    checkpoints.close()
    run = compiled()
    same = [jax.tree.leaves(run(layer, params, s, xs)) for s in (state, restored)]
    for a, b in zip(*same, strict=True):
        assert np.array_equal(*((jax.random.key_data(k) if is_key(k) else k) for k in (a, b)))
    assert pickle.loads(pickle.dumps(layer)) == layer
    assert hash(pickle.loads(pickle.dumps(layer))) == hash(layer)


def test_forward_mode_is_reverse_mode():
    layer = LEARNERS["snap"]
    params, state, xs = window(layer, 2)
    found, _ = compiled()(layer, params, state, xs)
    along = random_params(layer, seed=7)

    def loss(params):
        ys = layer.apply(params, xs, state)[1]
        return jnp.sum(ys**2 + ys)

    slope = jax.jvp(loss, (params,), (along,))[1]
    want = sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(along), strict=True))
    np.testing.assert_allclose(slope, want, rtol=1e-5)


def test_parameters_have_their_own_traces_under_vmap():
    layer = LEARNERS["rtrl"]
    _, state, xs = window(layer, 2)
    several = jax.tree.map(lambda *a: jnp.stack(a), *(random_params(layer, seed) for seed in (1, 2)))
    found, _ = jax.jit(jax.vmap(functools.partial(gradient, layer), in_axes=(0, None, None)))(several, state, xs)
    for i in range(2):
        one, _ = compiled()(layer, jax.tree.map(lambda a, i=i: a[i], several), state, xs)
        close(jax.tree.map(lambda a, i=i: a[i], found), one)


def test_half_precision_keeps_traces_in_float32():
    for name in ("rtrl", "snap", "uoro", "truncated"):
        layer = LEARNERS[name]
        params, _, xs = window(layer, 2)
        half, xs = cast((params, xs), jnp.bfloat16)
        state = layer.apply(half, xs, layer.initial_state(half, (2,), key(1)))[0]
        found, new = compiled()(layer, half, state, xs)
        assert {a.dtype for a in jax.tree.leaves((found, new.state))} == {jnp.dtype(jnp.bfloat16)}
        if name != "truncated":
            assert {a.dtype for a in jax.tree.leaves(new.trace) if not is_key(a)} == {jnp.dtype(jnp.float32)}
        full = cast(half, jnp.float32)
        state = layer.apply(full, cast(xs, jnp.float32), layer.initial_state(full, (2,), key(1)))[0]
        want, _ = compiled()(layer, full, state, cast(xs, jnp.float32))
        assert distance(cast(found, jnp.float32), want) < 0.05


def test_an_embedding_inside():
    """An embedding inside learns from what its vectors did to later steps."""
    with jax.enable_x64(True):
        layer = jrnn.Layered((jrnn.Embedding(5, INPUT), jrnn.Recurrent(jrnn.GRU(INPUT, HIDDEN))))
        params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), random_params(layer))
        tokens = jnp.asarray(np.random.default_rng(0).integers(0, 5, (TIME, ROWS)))
        marks = jnp.ones((TIME, ROWS, HIDDEN))
        data = params, tokens, marks, tokens >= 0, tokens < 0
        want = jax.jit(bptt, static_argnums=0)(layer, *data)
        for method in (RTRL(), Truncated(TIME)):
            got, _ = jax.jit(in_windows, static_argnums=(0, 1))(Online(layer, method), 2, *data)
            assert distance(got, want) <= EXACT


def test_feedback_takes_another_way_back():
    x, w, b = normal(1, 4, 3), normal(2, 3, 2), normal(3, 3, 2)
    y, back = jax.vjp(feedback_product, x, w, b)
    np.testing.assert_allclose(y, x @ w, rtol=1e-6)
    dx, dw, db = back(jnp.ones_like(y))
    np.testing.assert_allclose(dx, jnp.ones_like(y) @ b.T, rtol=1e-6)
    np.testing.assert_allclose(dw, x.T @ jnp.ones_like(y), rtol=1e-6)
    assert not db.any()


def test_flax_carries_a_trace():
    """Window by window through a Flax module is the sequence through one."""
    cell = jrnn.GRU(INPUT, HIDDEN)
    whole, each = (
        linen.RNN(layer, time_major=True, return_carry=True)
        for layer in (jrnn.Recurrent(cell), Online(jrnn.Recurrent(cell), RTRL()))
    )
    xs = random_inputs(cell, TIME, ROWS)
    variables = each.init(key(0), xs)

    def loss(variables, module, xs, carry):
        carry, ys = module.apply(variables, xs, initial_carry=carry)
        return jnp.sum(ys**2), carry

    gradient = jax.jit(jax.grad(loss, has_aux=True), static_argnums=1)
    want, _ = gradient(variables, whole, xs, None)
    found, carry = gradient(variables, each, xs[:2], None)
    for start in (2, 4):
        more, carry = gradient(variables, each, xs[start : start + 2], carry)
        found = jax.tree.map(jnp.add, found, more)
    close(found, want)


def test_errors_name_what_was_given():
    cell = jrnn.GRU(INPUT, HIDDEN)
    params, xs = random_params(cell), jnp.ones((2, 3, INPUT))
    with pytest.raises(TypeError, match=r"layer is GRU.*Recurrent\(cell\)"):
        Online(cell, RTRL())
    with pytest.raises(TypeError, match="method is 'rtrl'"):
        Online(jrnn.Recurrent(cell), "rtrl")
    with pytest.raises(TypeError, match=r"local is True for Layered.*Recurrent\(cell\)"):
        Online(STACK, RTRL(), local=True)
    with pytest.raises(ValueError, match="steps is 0"):
        Truncated(0)
    with pytest.raises(ValueError, match=r"key is None; UORO"):
        online(cell, UORO()).apply(params, xs)
    with pytest.raises(TypeError, match="state is a GRUState; expected an OnlineState"):
        online(cell, RTRL()).apply(params, xs, cell.initial_state(params, (3,)))
    with pytest.raises(TypeError, match="expected one that runs step by step"):
        Online(jrnn.Recurrent(cell, reverse=True), RTRL()).apply(params, xs)
    with pytest.raises(TypeError, match=r"SnAp.*one cell.*for each layer of a stack"):
        Online(STACK, SnAp()).apply(random_params(STACK), xs)
    dropped = jrnn.rnn(jrnn.GRU, input_size=INPUT, hidden_size=HIDDEN, num_layers=2, dropout=0.3)
    with pytest.raises(TypeError, match="place Dropout before or after Online"):
        Online(dropped, RTRL()).apply(random_params(dropped), xs, key=key(0))
    with pytest.raises(TypeError, match=r"pattern is 3; expected jrnn.online.pattern"):
        SnAp(3)
    with pytest.raises(TypeError, match="takes tokens"):
        pattern(jrnn.Layered((jrnn.Embedding(5, 2),)), random_params(jrnn.Layered((jrnn.Embedding(5, 2),))), 2)
