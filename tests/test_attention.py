"""Attention: scores and contexts by loops from the papers; cells that attend, by their equations, under every engine."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import cast, normal, random_params, random_state, same
from jax.interpreters.partial_eval import dce_jaxpr

import jrnn
from jrnn import attention
from jrnn.program import is_affine, multiplications

SOURCE, ROWS, TIME, INPUT, HIDDEN, MEMORY = 5, 3, 4, 2, 4, 6
LENGTHS = jnp.array([5, 2, 0])
WAYS = {
    "default": jrnn.LinearSolve(),
    "states": jrnn.LinearSolve(save="states", tile=2),
    "checkpointed": jrnn.Checkpointed(every=2),
}
KINDS = {
    "dot": attention.Dot(HIDDEN),
    "scaled": attention.Dot(HIDDEN, scaled=True),
    "general": attention.General(HIDDEN, MEMORY),
    "additive": attention.Additive(HIDDEN, MEMORY, 3),
}


def score(kind, params, query, value):
    """One number, as the papers have it."""
    if kind in ("dot", "scaled"):
        return query @ value / (np.sqrt(len(query)) if kind == "scaled" else 1)
    if kind == "general":
        return query @ params.w.T @ value
    return params.v @ np.tanh(query @ params.w_query + value @ params.w_memory)


def attended(kind, params, query, values):
    """The context and weights of one row, of its real values."""
    if len(values) == 0:
        return np.zeros(values.shape[1]), np.zeros(0)
    scores = np.array([score(kind, params, query, value) for value in values])
    shares = np.exp(scores - scores.max())
    shares /= shares.sum()
    return shares @ values, shares


def made(kind):
    """An attention, its parameters, and outputs to attend to, NaN where they are padded."""
    model = KINDS[kind]
    ys = normal(5, SOURCE, ROWS, model.memory_size)
    padded = jnp.arange(SOURCE)[:, None] >= LENGTHS[None]
    return model, random_params(model), jnp.where(padded[..., None], jnp.nan, ys)


@pytest.mark.parametrize("kind", KINDS)
def test_contexts_and_weights_are_those_of_the_papers(kind):
    model, params, ys = made(kind)
    query = normal(6, ROWS, HIDDEN)
    context, weights = model.attend(params, model.memory(params, ys, lengths=LENGTHS), query)
    numbers = jax.tree.map(np.asarray, params)
    for row, length in enumerate(LENGTHS.tolist()):
        want, shares = attended(kind, numbers, np.asarray(query[row]), np.asarray(ys[:length, row]))
        np.testing.assert_allclose(context[row], want, atol=1e-6)
        np.testing.assert_allclose(weights[row, :length], shares, atol=1e-6)
        assert not weights[row, length:].any()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_padded_reaches_no_gradient(kind):
    model, params, ys = made(kind)

    def loss(params, ys, query):
        return (model.attend(params, model.memory(params, ys, lengths=LENGTHS), query)[0] ** 2).sum()

    for gradient in jax.tree.leaves(jax.jit(jax.grad(loss, (0, 1, 2)))(params, ys, normal(6, ROWS, HIDDEN))):
        assert jnp.isfinite(gradient).all()


@pytest.mark.parametrize("kind", KINDS)
def test_hypotheses_share_the_memory_of_their_row(kind):
    model, params, ys = made(kind)
    queries = normal(6, ROWS, 2, HIDDEN)
    memory = model.memory(params, ys, lengths=LENGTHS)
    shared = jax.tree.map(lambda a: a[:, None], memory)
    each = [model.attend(params, memory, queries[:, place]) for place in range(2)]
    same(model.attend(params, shared, queries), jax.tree.map(lambda *a: jnp.stack(a, 1), *each))

    def largest(shared, queries):
        program = jax.make_jaxpr(lambda *a: model.attend(params, *a))(shared, queries)
        return max(end.aval.size for equation in program.eqns for end in equation.outvars)

    if kind != "additive":  # whose hidden layer belongs to query and position
        many = jnp.zeros((ROWS, 50, HIDDEN))
        assert largest(shared, many) < 50 * ROWS * SOURCE * HIDDEN


def test_all_steps_attend_at_once():
    model, params, ys = made("additive")
    queries = normal(6, TIME, ROWS, HIDDEN)
    memory = model.memory(params, ys, lengths=LENGTHS)
    each = [model.attend(params, memory, query) for query in queries]
    same(model.attend(params, memory, queries), jax.tree.map(lambda *a: jnp.stack(a), *each))


@pytest.mark.parametrize("kind", KINDS)
def test_16_bit_floats_stay_and_are_summed_in_float32(kind):
    model, params, _ = made(kind)
    half = cast(params, jnp.bfloat16)
    memory = model.memory(half, jnp.ones((2000, 1, model.memory_size), jnp.bfloat16))
    context, weights = model.attend(half, memory, jnp.ones((1, HIDDEN), jnp.bfloat16))
    assert (context.dtype, weights.dtype) == (jnp.bfloat16, jnp.float32)
    np.testing.assert_allclose(context, 1, rtol=0.01)  # in bfloat16 a sum of 1/2000 stops at 0.25


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Bent(jrnn.Cell):
    """A cell whose projection is not affine, and which shows twice its state."""

    input_size: int
    hidden_size: int
    output_size = property(lambda self: self.hidden_size)

    def init(self, key):
        return jrnn.Elman(self.input_size, self.hidden_size).init(key)

    def initial_state(self, params, batch=(), key=None):
        return jrnn.ElmanState(jnp.zeros((*batch, self.hidden_size), params.w_x.dtype))

    def project(self, params, x):
        return jnp.sin(x @ params.w_x)

    def recur(self, params, state):
        return state.h @ params.w_h

    def update(self, params, state, z, r):
        return jrnn.ElmanState(jnp.tanh(z + r))

    def readout(self, params, state, x):
        return 2 * state.h


INSIDE = {
    "lstm": jrnn.LSTM,
    "gru": jrnn.GRU,
    "gru-before": lambda i, h: jrnn.GRU(i, h, reset_after=False),
    "dt-input": lambda i, h: jrnn.CTRNN(i, h, tau=2.0, dt=None),
    "bent": Bent,
}


def test_affine_projections_are_seen():
    for name, make in INSIDE.items():
        cell = make(INPUT, HIDDEN)
        params = random_params(cell)
        found = is_affine(lambda x, cell=cell, params=params: cell.project(params, x), jnp.zeros(INPUT))
        assert found == (name != "bent"), name
    assert not is_affine(lambda x: jnp.where(x > 0, x, 0 * x), jnp.zeros(3))


def before(inside):
    return jrnn.AttentionBefore(INSIDE[inside](INPUT + MEMORY, HIDDEN), KINDS["additive"])


def after(inside):
    return jrnn.AttentionAfter(INSIDE[inside](INPUT + 3, HIDDEN), KINDS["general"], 3)


def apart(inside):
    return jrnn.AttentionAfter(INSIDE[inside](INPUT, HIDDEN), KINDS["general"], 3, input_feeding=False)


ORDERS = {"before": before, "after": after, "apart": apart}
MODELS = {f"{order}-{inside}": ORDERS[order](inside) for order in ORDERS for inside in INSIDE}
FEW = ("before-gru", "after-lstm", "before-bent", "apart-gru-before")


def bound(model, params, ys, lengths=LENGTHS):
    return jrnn.Bound(params, model.attention.memory(params.attention, ys, lengths=lengths))


def given(model):
    params = random_params(model)
    _, _, ys = made("additive")
    xs = normal(3, TIME, ROWS, INPUT)
    return params, jnp.nan_to_num(ys), xs.at[..., -1].set(0.1 + 0.2 * jnp.abs(xs[..., -1]))


def by_the_papers(model, params, memory, xs):
    """The equations in the docstrings, over the inner cell's own `step` on joined inputs."""
    cell, attention = model.cell, model.attention
    state = cell.initial_state(params.cell, (ROWS,))

    def show(state):
        return cell.readout(params.cell, state, jnp.zeros((ROWS, cell.input_size)))

    fed, ys = jnp.zeros((ROWS, 3)), []
    for x in xs:
        if isinstance(model, jrnn.AttentionBefore):
            context, _ = attention.attend(params.attention, memory, show(state))
            state, y = cell.step(params.cell, state, jnp.concatenate([context, x], -1))
            ys.append(jnp.concatenate([y, context], -1))
        else:
            state, y = cell.step(params.cell, state, jnp.concatenate([fed, x], -1) if model.input_feeding else x)
            context, _ = attention.attend(params.attention, memory, y)
            fed = jnp.tanh(jnp.concatenate([context, y], -1) @ params.w)
            ys.append(fed)
    return jnp.stack(ys)


@pytest.mark.parametrize("name", MODELS)
def test_cells_that_attend_follow_their_equations(name):
    model = MODELS[name]
    params, ys, xs = given(model)
    here = bound(model, params, ys)
    got = jax.jit(lambda here, xs: jrnn.unroll(model, here, xs)[1])(here, xs)
    same(got, jax.jit(lambda here, xs: by_the_papers(model, *here, xs))(here, xs))


def weighted(outputs):
    return sum((normal(i, *a.shape) * a).sum() for i, a in enumerate(jax.tree.leaves(outputs)))


@functools.cache
def gradients(name, gradient):
    """Of parameters, of what is attended to and of inputs, with padded steps and a restart."""
    model = MODELS[name]
    marks = {"lengths": jnp.array([4, 3, 0]), "reset": jnp.zeros((TIME, ROWS), bool).at[2, 0].set(True)}

    def loss(params, ys, xs):
        engine = jrnn.Scan(gradient=gradient)
        return weighted(jrnn.unroll(model, bound(model, params, ys), xs, engine=engine, **marks))

    return jax.jit(jax.value_and_grad(loss, (0, 1, 2)))(*given(model))


@pytest.mark.parametrize(
    ("name", "way"), [*((name, "default") for name in FEW), ("before-gru", "states"), ("before-gru", "checkpointed")]
)
def test_every_engine_gives_the_same_derivatives(name, way):
    same(gradients(name, WAYS[way]), gradients(name, jrnn.Autodiff()))


@pytest.mark.parametrize("name", FEW)
def test_chunks_steps_and_vmap_are_the_whole(name):
    model = MODELS[name]
    params, ys, xs = given(model)
    here = bound(model, params, ys)
    run = jax.jit(lambda here, xs, state: jrnn.unroll(model, here, xs, state))
    step = jax.jit(lambda state, x: model.step(here, state, x))
    start = model.initial_state(here, (ROWS,))
    want = run(here, xs, start)
    half, first = run(here, xs[:2], start)
    final, second = run(here, xs[2:], half)
    same((final, jnp.concatenate([first, second])), want)
    state, stepped = start, []
    for x in xs:
        state, y = step(state, x)
        stepped.append(y)
    same((state, jnp.stack(stepped)), want)
    rows = jax.vmap(lambda memory, xs: jrnn.unroll(model, jrnn.Bound(params, memory), xs), (0, 1), (0, 1))
    same(jax.jit(rows)(here.context, xs), want)


@pytest.mark.parametrize("name", ["before-lstm", "after-gru"])
def test_dtypes_are_kept(name):
    model = MODELS[name]
    params, ys, xs = given(model)
    half = cast((params, ys, xs), jnp.bfloat16)
    state, got = jrnn.unroll(model, bound(model, *half[:2]), half[2])
    assert {a.dtype for a in jax.tree.leaves((state, got))} == {jnp.dtype(jnp.bfloat16)}
    np.testing.assert_allclose(got, jrnn.unroll(model, bound(model, params, ys), xs)[1], atol=0.1)


@pytest.mark.parametrize("name", ["before-lstm", "after-lstm", "apart-gru"])
def test_the_weights_of_a_step_are_those_of_the_state_that_asks(name):
    model = MODELS[name]
    params, ys, xs = given(model)
    here = model.bind(params, ys, lengths=LENGTHS)
    before = random_state(model, here, (ROWS,))
    after, _ = model.step(here, before, xs[0])
    h = {"before-lstm": lambda: before.cell.h, "after-lstm": lambda: after.cell.h, "apart-gru": lambda: after.h}[name]()
    same(model.weights(here, before, after), model.attention.attend(params.attention, here.context, h)[1])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: attention.Dot(0), "Dot: size is 0; expected at least 1"),
        (lambda: attention.Dot(3, scaled=1), "Dot: scaled is 1; expected True or False"),
        (lambda: attention.Additive(3, 4, -1), "Additive: hidden_size is -1"),
        (lambda: jrnn.AttentionBefore(jrnn.GRU(9, 4), "dot"), "attention is str 'dot'; expected an Attention"),
        (lambda: jrnn.AttentionBefore(jrnn.GRU(9, 4), attention.Dot(3)), "query_size is 3; expected 4"),
        (lambda: jrnn.AttentionBefore(jrnn.GRU(4, 4), attention.Dot(4)), "input_size 4; expected more than 4"),
        (lambda: jrnn.AttentionAfter(before("gru"), attention.Dot(10), 3), "expected one with one feature axis"),
        (lambda: jrnn.AttentionAfter(jrnn.GRU(4, 4), attention.Dot(4), 0), "attended_size is 0; expected at least 1"),
    ],
)
def test_options_that_do_not_fit(make, words):
    with pytest.raises((TypeError, ValueError), match=words):
        make()


def test_arguments_that_do_not_fit():
    model, params, ys = made("general")
    with pytest.raises(ValueError, match=r"ys is float32\[5, 3, 2\]; .* expects \[source, \*batch, 6\]"):
        model.memory(params, ys[..., :2])
    with pytest.raises(ValueError, match=r"lengths is int32\[2\]; expected integers of shape \[3\]"):
        model.memory(params, ys, lengths=LENGTHS[:2])
    with pytest.raises(ValueError, match=r"query is float32\[3, 3\]; .* expects \[\*batch, 4\]"):
        model.attend(params, model.memory(params, ys), normal(6, ROWS, 3))
    cell = MODELS["before-gru"]
    params, ys, xs = given(cell)
    with pytest.raises(TypeError, match=r"expects Bound\(params, context\)"):
        jrnn.unroll(cell, params, xs)


@pytest.mark.parametrize("order", ["before", "after"])
def test_no_product_is_taken_of_zeros(order):
    """What is fed to the cell, and x, meet their own rows of the weights alone: as many multiplications as by hand."""
    inner, score = jrnn.LSTM(INPUT + HIDDEN, HIDDEN), attention.Dot(HIDDEN)
    after = functools.partial(jrnn.AttentionAfter, attended_size=HIDDEN)
    cell = (jrnn.AttentionBefore if order == "before" else after)(inner, score)
    params = cell.bind(random_params(cell), normal(1, SOURCE, ROWS, HIDDEN))
    state, x = random_state(cell, params, (ROWS,)), normal(2, ROWS, INPUT)
    whole = jax.make_jaxpr(lambda params, state, x: cell.step(params, state, x))(params, state, x).jaxpr
    step, _ = dce_jaxpr(whole, [True] * len(whole.outvars))  # as the compiler will see it
    of_cell = (INPUT + HIDDEN + HIDDEN) * 4 * HIDDEN  # the input with what is fed, the state
    looking_back = 2 * SOURCE * HIDDEN + (0 if order == "before" else 2 * HIDDEN * HIDDEN)
    assert multiplications(step) == ROWS * (of_cell + looking_back)
