"""jrnn in Flax NNX: Flax's own examples with one line changed, variables, training, dropout, episodes, mistakes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from cases import CELLS, key, normal, random_inputs, random_params, run, same
from flax import nnx
from jax.sharding import PartitionSpec as P

import jrnn
from jrnn.flax.nnx import RNN, Cell

BATCH, TIME, INPUT, HIDDEN = 3, 6, 4, 5
X = normal(0, BATCH, TIME, INPUT)
LENGTHS = jnp.array([6, 2, 4])
REAL = np.arange(TIME) < np.asarray(LENGTHS)[:, None]
STACK = jrnn.rnn(jrnn.GRU, input_size=INPUT, hidden_size=HIDDEN, num_layers=2, bidirectional=True)
DROPOUT = jrnn.rnn(jrnn.LSTM, input_size=INPUT, hidden_size=HIDDEN, num_layers=2, dropout=0.5)


def rngs(seed=0):
    return nnx.Rngs(seed)


def shaken(module, seed=100):
    """The same module with no parameter zero, so that biases matter."""
    leaves, structure = jax.tree.flatten(nnx.state(module, nnx.Param))
    nnx.update(
        module,
        jax.tree.unflatten(structure, [normal(seed + i, *a.shape, scale=0.5) for i, a in enumerate(leaves)]),
    )
    return module


def set_cell(rnn, weights):
    for name, value in weights.items():
        setattr(rnn.cell, name, nnx.Param(value))
    return rnn


def gates(cell, side, names, what):
    return jnp.concatenate([jnp.asarray(getattr(getattr(cell, side + n), what)) for n in names], -1)


def from_lstm(cell):
    """The weights of `nnx.LSTMCell`, gate by gate, as those of `jrnn.LSTM`."""
    return {
        "w_x": gates(cell, "i", ["i", "f_", "g", "o"], "kernel"),
        "w_h": gates(cell, "h", "ifgo", "kernel"),
        "b": gates(cell, "h", "ifgo", "bias"),
    }


def from_gru(cell):
    """The weights of `nnx.GRUCell`, which has no second bias for n."""
    w_x, w_h, b = (jnp.asarray(a) for a in (cell.dense_i.kernel, cell.dense_h.kernel, cell.dense_i.bias))
    return {"w_x": w_x, "w_h": w_h, "b": b, "b_n": jnp.zeros(HIDDEN)}


def from_simple(cell):
    w_x, w_h, b = (jnp.asarray(a) for a in (cell.dense_i.kernel, cell.dense_h.kernel, cell.dense_i.bias))
    return {"w_x": w_x, "w_h": w_h, "b": b}


SWAPS = {
    "lstm": (nnx.LSTMCell, jrnn.LSTM, from_lstm),
    "gru": (nnx.GRUCell, jrnn.GRU, from_gru),
    "simple": (nnx.SimpleCell, jrnn.Elman, from_simple),
}


def both(name="lstm", **options):
    """Flax's `RNN` and ours, with the same weights."""
    theirs, ours, convert = SWAPS[name]
    flax_rnn = shaken(nnx.RNN(theirs(INPUT, HIDDEN, rngs=rngs()), **options))
    return flax_rnn, set_cell(RNN(ours(INPUT, HIDDEN), rngs=rngs(), **options), convert(flax_rnn.cell))


@functools.partial(nnx.jit, static_argnames=("return_carry", "time_major", "reverse", "keep_order"))
def call(rnn, x, **options):
    return rnn(x, **options)


def hidden_first(carry):
    """Flax's carry of an LSTM is (c, h)."""
    return jrnn.cells.lstm.LSTMState(h=carry[1], c=carry[0])


# One line changed


@pytest.mark.parametrize("name", SWAPS)
def test_outputs_are_those_of_flax(name):
    theirs, ours = both(name)
    same(call(ours, X), call(theirs, X))


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ("constructor", {"time_major": True, "reverse": True}),
        ("constructor", {"reverse": True, "keep_order": True}),
        ("call", {"time_major": True}),
        ("call", {"reverse": True}),
        ("call", {"time_major": True, "reverse": True, "keep_order": True}),
    ],
    ids=str,
)
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "lengths"])
def test_every_option_is_that_of_flax(lengths, given, options):
    """What the call says prevails: there the constructor says the opposite of each."""
    options = {"time_major": False, "reverse": False, "keep_order": False, "return_carry": True} | options
    theirs, ours = both(**(options if given == "constructor" else {n: not v for n, v in options.items()}))
    now = {} if given == "constructor" else options
    x, real = (jnp.swapaxes(X, 0, 1), REAL.T) if options["time_major"] else (X, REAL)
    (want, zs), (carry, ys) = (call(rnn, x, seq_lengths=lengths, **now) for rnn in (theirs, ours))
    if lengths is not None:
        assert not np.any(ys[~real])
        zs = jnp.where(real[..., None], zs, 0)
    same((carry, ys), (hidden_first(want), zs))


def test_the_carry_goes_on():
    theirs, ours = both(return_carry=True)
    carry, want = theirs(X)
    _, again = theirs(X, initial_carry=carry)
    state, ys = ours(X)
    _, after = ours(X, initial_carry=state)
    same((ys, after), (want, again))
    assert not np.allclose(ys, after)


def test_both_directions_in_flax_own_bidirectional():
    (forward, ours), (backward, ours_too) = both(), both()
    shaken(backward, 200)
    set_cell(ours_too, from_lstm(backward.cell))
    carries, want = nnx.Bidirectional(forward, backward, return_carry=True)(X, seq_lengths=LENGTHS)
    states, ys = nnx.Bidirectional(ours, ours_too, return_carry=True)(X, seq_lengths=LENGTHS)
    same((states, ys), (tuple(map(hidden_first, carries)), jnp.where(REAL[..., None], want, 0)))


class Tagger(nnx.Module):
    def __init__(self, rnn, rngs):
        self.embed = nnx.Linear(INPUT, INPUT, rngs=rngs)
        self.rnn = rnn
        self.head = nnx.Linear(HIDDEN, 2, rngs=rngs)

    def __call__(self, x, seq_lengths=None):
        return self.head(self.rnn(self.embed(x), seq_lengths=seq_lengths))


def test_a_model_with_one_line_changed():
    theirs, ours = both()
    forward = nnx.jit(lambda model: model(X, LENGTHS))
    got, want = (forward(Tagger(rnn, rngs())) for rnn in (ours, theirs))
    same(got[REAL], want[REAL])


# Variables


def paths(module):
    return {".".join(map(str, path)) for path, _ in nnx.to_flat_state(nnx.state(module, nnx.Param))}


def test_parameters_are_variables_by_the_names_of_their_fields():
    assert paths(RNN(jrnn.LSTM(INPUT, HIDDEN), rngs=rngs())) == {"cell.w_x", "cell.w_h", "cell.b"}
    assert paths(RNN(jrnn.Recurrent(jrnn.Elman(INPUT, HIDDEN)), rngs=rngs())) == {"cell.w_x", "cell.w_h", "cell.b"}
    before = jrnn.GRU(INPUT, HIDDEN, reset_after=False)
    assert paths(RNN(before, rngs=rngs())) == {"cell.w_x", "cell.w_h", "cell.b"}
    assert paths(RNN(STACK, rngs=rngs())) == {
        f"layers.{i}.{direction}.{name}"
        for i in (0, 1)
        for direction in ("forward", "backward")
        for name in ("w_x", "w_h", "b", "b_n")
    }
    pair = jrnn.Bidirectional(jrnn.Recurrent(before), jrnn.Recurrent(before, reverse=True))
    assert {"forward.w_x", "backward.w_h"} < paths(RNN(pair, rngs=rngs()))
    assert paths(Cell(jrnn.LSTM(INPUT, HIDDEN), rngs=rngs())) == {"w_x", "w_h", "b"}


@pytest.mark.parametrize("name", ["stack", "pair", "before"])
def test_outputs_are_those_of_the_layer(name):
    before = jrnn.Recurrent(jrnn.GRU(INPUT, HIDDEN, reset_after=False))
    layer = {"stack": STACK, "pair": jrnn.Bidirectional(before, STACK), "before": before}[name]
    rnn = shaken(RNN(layer, rngs=rngs(), return_carry=True, time_major=True))
    x = jnp.swapaxes(X, 0, 1)
    assert jax.tree.structure(rnn.params()) == jax.tree.structure(layer.init(key(0)))
    same(rnn(x), layer.apply(rnn.params(), x))


def test_initial_parameters_are_those_of_the_cell():
    cell = jrnn.LSTM(INPUT, 64, forget_bias=3.0)
    rnn = RNN(cell, rngs=nnx.Rngs(params=7))
    np.testing.assert_array_equal(rnn.cell.b[...], np.repeat([0, 3, 0, 0], 64))
    for block in np.split(np.asarray(rnn.cell.w_h[...]), 4, 1):
        np.testing.assert_allclose(block @ block.T, np.eye(64), atol=1e-4)
    same(RNN(cell, rngs=nnx.Rngs(params=7)).params(), rnn.params(), tolerance=0)
    assert not np.allclose(RNN(cell, rngs=nnx.Rngs(params=8)).cell.w_h[...], rnn.cell.w_h[...])


class LowRank(nnx.Module):
    """A weight and a learned correction of rank one, in place of the weight."""

    def __init__(self, weight):
        self.weight = weight
        self.a = nnx.LoRAParam(normal(1, weight.shape[0], 1))
        self.b = nnx.LoRAParam(normal(2, 1, weight.shape[1]))

    def __jax_array__(self):
        return self.weight[...] + self.a[...] @ self.b[...]


def test_a_parameter_replaced_takes_effect():
    rnn = shaken(RNN(jrnn.LSTM(INPUT, HIDDEN), rngs=rngs()))
    params, before = rnn.params(), rnn(X)

    def expected(w_h):
        return jnp.swapaxes(
            jrnn.unroll(jrnn.LSTM(INPUT, HIDDEN), params._replace(w_h=w_h), jnp.swapaxes(X, 0, 1))[1], 0, 1
        )

    rnn.cell.w_h[...] = params.w_h / 2
    same(rnn(X), expected(params.w_h / 2))
    rnn.cell.w_h = nnx.Param(params.w_h)
    same(rnn(X), before)
    rnn.cell.w_h = LowRank(rnn.cell.w_h)
    same(rnn(X), expected(params.w_h + normal(1, HIDDEN, 1) @ normal(2, 1, 4 * HIDDEN)))

    of_lora = nnx.DiffState(0, nnx.LoRAParam)
    gradient = nnx.grad(lambda rnn: jnp.sum(jnp.square(rnn(X))), argnums=of_lora)(rnn)
    assert {path[-1] for path, _ in nnx.to_flat_state(gradient)} == {"a", "b"}
    optimizer = nnx.Optimizer(rnn, optax.sgd(0.1), wrt=nnx.LoRAParam)
    optimizer.update(rnn, gradient)
    same(rnn.cell.w_h.weight[...], params.w_h, tolerance=0)
    assert not np.allclose(rnn.cell.w_h.a[...], normal(1, HIDDEN, 1))


def test_split_merge_and_filters():
    rnn = shaken(RNN(STACK, rngs=rngs()))
    graph, weights, biases = nnx.split(rnn, lambda path, _: path[-1].startswith("w_"), ...)
    assert {path[-1] for path, _ in nnx.to_flat_state(weights)} == {"w_x", "w_h"}
    assert {path[-1] for path, _ in nnx.to_flat_state(biases)} == {"b", "b_n"}
    same(nnx.merge(graph, weights, biases)(X), rnn(X))
    zero = nnx.merge(graph, weights, jax.tree.map(jnp.zeros_like, biases))
    assert not np.allclose(zero(X), rnn(X))
    assert graph == nnx.split(RNN(STACK, rngs=rngs(1)))[0]
    # Nothing but parameters, so no filter need say what becomes of the rest.
    assert len(nnx.split(RNN(jrnn.LSTM(INPUT, HIDDEN), rngs=rngs()), nnx.Param)) == 2


def test_equal_modules_compile_once():
    traces = 0

    @nnx.jit
    def forward(rnn):
        nonlocal traces
        traces += 1
        return rnn(X)

    for seed in (0, 1):
        forward(RNN(jrnn.LSTM(INPUT, HIDDEN), rngs=rngs(seed)))
    assert traces == 1
    forward(RNN(jrnn.LSTM(INPUT, HIDDEN), reverse=True, rngs=rngs()))
    assert traces == 2


def test_training_through_the_optimizer():
    rnn = RNN(STACK, rngs=rngs())
    optimizer = nnx.Optimizer(rnn, optax.sgd(0.5), wrt=nnx.Param)

    @nnx.jit
    def step(rnn, optimizer):
        def loss(rnn):
            return jnp.mean(jnp.square(rnn(X, seq_lengths=LENGTHS) - 0.5))

        value, gradient = nnx.value_and_grad(loss)(rnn)
        optimizer.update(rnn, gradient)
        return value

    before = rnn.params()
    losses = [step(rnn, optimizer) for _ in range(20)]
    assert losses[-1] < 0.9 * losses[0]
    assert all(not np.array_equal(a, b) for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(rnn.params())))


def test_gradients_are_those_of_unroll():
    rnn = shaken(RNN(jrnn.LSTM(INPUT, HIDDEN), rngs=rngs()))
    gradient = nnx.grad(lambda rnn: jnp.sum(jnp.square(rnn(X))))(rnn)
    want = jax.grad(
        lambda params: jnp.sum(jnp.square(jrnn.unroll(jrnn.LSTM(INPUT, HIDDEN), params, jnp.swapaxes(X, 0, 1))[1]))
    )(rnn.params())
    same({name: a[...] for name, a in gradient["cell"].items()}, want._asdict())


def test_a_checkpoint_and_back(tmp_path):
    rnn = shaken(RNN(DROPOUT, rngs=rngs()))
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", nnx.state(rnn, nnx.Param))
        checkpointer.wait_until_finished()
        abstract = nnx.eval_shape(lambda: RNN(DROPOUT, rngs=rngs()))
        like = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(
                a.shape, a.dtype, sharding=jax.sharding.SingleDeviceSharding(jax.devices()[0])
            ),
            nnx.state(abstract, nnx.Param),
        )
        restored = checkpointer.restore(tmp_path / "state", like)
    other = RNN(DROPOUT, rngs=rngs(1))
    nnx.update(other, restored)
    same(other.params(), rnn.params(), tolerance=0)


def test_parameters_of_another_dtype():
    x = X.astype(jnp.bfloat16)
    rnn = RNN(jrnn.LSTM(INPUT, HIDDEN), param_dtype=jnp.bfloat16, return_carry=True, rngs=rngs())
    result = rnn(x)
    cell = nnx.RNN(Cell(jrnn.LSTM(INPUT, HIDDEN), param_dtype=jnp.bfloat16, rngs=rngs()), return_carry=True)
    assert {a.dtype for a in jax.tree.leaves((rnn.params(), result))} == {jnp.dtype(jnp.bfloat16)}
    same(cell(x), result, 0.05)


# Dropout and noise


def test_dropout_takes_its_keys_from_the_rngs():
    def outputs(seed, calls=1, **options):
        rnn = shaken(RNN(DROPOUT, rngs=nnx.Rngs(params=0, dropout=seed)))
        return [rnn(X, **options) for _ in range(calls)]

    (first, second), (again,), (other,) = outputs(1, calls=2), outputs(1), outputs(2)
    same(again, first, tolerance=0)
    assert not np.allclose(first, second)
    assert not np.allclose(first, other)
    (given,), (given_again,) = (outputs(seed, rngs=nnx.Rngs(dropout=5)) for seed in (1, 2))
    same(given, given_again, tolerance=0)
    assert not np.allclose(given, first)
    (still,) = outputs(1, deterministic=True)
    assert not np.allclose(first, still)


def test_train_and_eval():
    model = Tagger(shaken(RNN(DROPOUT, rngs=rngs())), rngs())
    plain = Tagger(RNN(jrnn.Layered(DROPOUT.layers[::2]), rngs=rngs()), rngs())
    nnx.update(plain, nnx.state(model, nnx.Param))
    forward = nnx.jit(lambda model: model(X))
    model.eval()
    same(forward(model), forward(plain))
    same(forward(model), model(X))
    model.train()
    first, second = forward(model), forward(model)
    assert not np.allclose(first, second)
    same(nnx.view(model, deterministic=True)(X), forward(plain))


def test_only_layers_that_draw_keep_a_stream():
    noisy = jrnn.CTRNN(INPUT, HIDDEN, tau=3.0, noise=0.5)
    for layer, draws in [
        (DROPOUT, True),
        (noisy, True),
        (jrnn.Bidirectional(jrnn.Recurrent(noisy), jrnn.Recurrent(noisy, reverse=True)), True),
        (jrnn.Residual(jrnn.Layered((jrnn.Dropout(0.1), jrnn.Recurrent(jrnn.GRU(INPUT, INPUT))))), True),
        (jrnn.Layered((jrnn.Dropout(0.0), jrnn.Recurrent(jrnn.GRU(INPUT, INPUT)))), False),
        (jrnn.CTRNN(INPUT, HIDDEN, tau=3.0), False),
        (STACK, False),
    ]:
        assert bool(nnx.state(RNN(layer, rngs=rngs()), nnx.RngState)) == draws, layer
    rnn = RNN(noisy, rngs=rngs())
    assert not np.allclose(rnn(X), rnn(X))
    rnn.eval()
    same(rnn(X), rnn(X), tolerance=0)


# Where Flax's own RNN fails


@pytest.mark.parametrize("reverse", [False, True])
def test_inside_shard_map(reverse):
    x, lengths = normal(0, 4, TIME, INPUT), jnp.array([6, 0, 3, 1])
    graph, params = nnx.split(shaken(RNN(jrnn.LSTM(INPUT, HIDDEN), reverse=reverse, return_carry=True, rngs=rngs())))

    def on_each(params, x, lengths):
        def loss(params):
            result = nnx.merge(graph, params)(x, seq_lengths=lengths)
            return sum(jnp.sum(jnp.square(a)) for a in jax.tree.leaves(result)), result

        gradient, result = jax.grad(loss, has_aux=True)(params)
        return result, gradient

    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    specs = {"in_specs": (P(), P("data"), P("data")), "out_specs": (P("data"), P())}
    got = jax.jit(jax.shard_map(on_each, mesh=mesh, **specs))(params, x, lengths)
    same(got, jax.jit(on_each)(params, x, lengths))


@pytest.mark.parametrize("reverse", [False, True])
def test_length_zero_two_batch_axes_and_nan_in_the_padding(reverse):
    rnn = shaken(RNN(jrnn.GRU(INPUT, HIDDEN), reverse=reverse, return_carry=True, rngs=rngs()))
    x, lengths = normal(0, 2, 3, TIME, INPUT), np.array([[6, 0, 3], [1, 2, 0]])
    padded = jnp.where((np.arange(TIME) < lengths[..., None])[..., None], x, jnp.nan)
    start = jrnn.cells.gru.GRUState(h=normal(1, 2, 3, HIDDEN))
    carry, ys = rnn(padded, initial_carry=start, seq_lengths=lengths)
    for row in np.ndindex(2, 3):
        n = lengths[row]
        if n:
            end, outputs = rnn(x[row][:n], initial_carry=type(start)(start.h[row]))
            same((carry.h[row], ys[row][:n]), (end.h, outputs))
        else:
            same(carry.h[row], start.h[row], tolerance=0)
        assert not np.any(ys[row][n:])
    loss = functools.partial(_squares, initial_carry=start, seq_lengths=lengths)
    slopes, dx = nnx.jit(nnx.grad(loss, argnums=(0, 1)))(rnn, padded)
    assert all(np.all(np.isfinite(a)) for a in jax.tree.leaves((slopes, dx)))
    assert np.any(dx)


def _squares(rnn, x, **options):
    return sum(jnp.sum(jnp.square(a)) for a in jax.tree.leaves(rnn(x, **options)))


# Episodes that end, steps that are not real

DONE = jnp.array([[1, 0, 0, 1, 0, 0], [0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 1]], bool)
HELD = jnp.array([[1, 1, 0, 1, 1, 0], [0, 1, 1, 1, 1, 1], [1, 0, 0, 1, 0, 1]], bool)  # not a step where False


def test_reset_and_mask_are_those_of_a_loop_written_by_hand():
    flax_rnn, rnn = both("gru", return_carry=True)

    def by_hand(cell, x):
        h, ys = jnp.zeros((BATCH, HIDDEN)), []
        for t in range(TIME):
            before = jnp.where(DONE[:, t, None], 0, h)
            after, y = cell(before, x[:, t])
            h = jnp.where(HELD[:, t, None], after, before)
            ys.append(jnp.where(HELD[:, t, None], y, 0))
        return h, jnp.stack(ys, 1)

    want = nnx.jit(by_hand)(flax_rnn.cell, X)
    carry, ys = rnn(X, mask=HELD, reset=DONE)
    same((carry.h, ys), want)
    turned = rnn(jnp.swapaxes(X, 0, 1), time_major=True, mask=HELD.T, reset=DONE.T)
    same((turned[0].h, jnp.swapaxes(turned[1], 0, 1)), want)
    backwards = rnn(jnp.flip(X, 1), reverse=True, keep_order=True, mask=jnp.flip(HELD, 1), reset=jnp.flip(DONE, 1))
    same((backwards[0].h, jnp.flip(backwards[1], 1)), want)


def test_weights_may_be_drawn_by_another_initialiser():
    def half(key, owner):
        return jax.tree.map(lambda a: jnp.full_like(a, 0.5), owner.init(key))

    cell = jrnn.LSTM(INPUT, HIDDEN)
    for make, owner in ((RNN, cell), (RNN, STACK), (Cell, cell)):
        module = make(owner, params_init=half, param_dtype=jnp.bfloat16, rngs=rngs())
        leaves = jax.tree.leaves(nnx.state(module, nnx.Param))
        assert len(leaves) == len(jax.tree.leaves(owner.init(key(0))))
        assert all(leaf.dtype == jnp.bfloat16 and jnp.all(leaf == 0.5) for leaf in leaves)


# A cell of jrnn in Flax's RNN


@pytest.mark.parametrize("name", ["elman-tanh", "jordan", "lstm-peephole", "gru-before", "ctrnn-learn-tau"])
def test_a_cell_in_flax_own_rnn(name):
    cell = CELLS[name]
    x, params = random_inputs(cell, 2, 5), random_params(cell)
    rnn = nnx.RNN(Cell(cell, rngs=rngs()), return_carry=True)
    for field, value in params._asdict().items():
        if value is not None:
            getattr(rnn.cell, field)[...] = value
    same(rnn.cell.params(), params)
    state, ys = rnn(x)
    want, zs = run(cell, params, jnp.swapaxes(x, 0, 1))
    same((state, ys), (want, jnp.swapaxes(zs, 0, 1)))


# Mistakes


def test_mistakes_are_named():
    rnn = RNN(jrnn.LSTM(INPUT, HIDDEN), rngs=rngs())
    broken = RNN(jrnn.LSTM(INPUT, HIDDEN), rngs=rngs())
    broken.cell.w_h = nnx.Param(jnp.zeros((2, 2)))
    cell = Cell(jrnn.LSTM(INPUT, HIDDEN), rngs=rngs())
    for attempt, words in [
        (lambda: RNN(nnx.LSTMCell(INPUT, HIDDEN, rngs=rngs()), rngs=rngs()), "cell is a LSTMCell.*FlaxCell"),
        (lambda: RNN(jrnn.BatchFirst(STACK), rngs=rngs()), "cell is BatchFirst.*time first.*time_major"),
        (lambda: rnn(X[..., :2]), r"inputs has shape \[3, 6, 2\].*\[\*batch, time, 4\]"),
        (lambda: rnn(X[..., :2], time_major=True), r"\[time, \*batch, 4\]"),
        (lambda: rnn(X.astype(jnp.bfloat16)), "bfloat16.*float32"),
        (lambda: rnn(X, seq_lengths=LENGTHS[:2]), r"seq_lengths is int32\[2\].*\[3\]"),
        (lambda: rnn(X, seq_lengths=jnp.array([9, 0, 0])), "lengths holds 9"),
        (lambda: rnn(X, mask=HELD.T), r"mask is bool\[6, 3\]; expected bool\[3, 6\]"),
        (lambda: rnn(X, reset=DONE.astype(jnp.int32)), "reset has dtype int32; expected bool: write reset != 0"),
        (lambda: rnn(X, initial_carry=X), "state is a"),
        (
            lambda: RNN(jrnn.LSTM(INPUT, HIDDEN), params_init=lambda key, cell: {}, rngs=rngs()),
            "what params_init returned is a dict.*expects a LSTMParams",
        ),
        (lambda: broken(X), r"params.w_h has shape \[2, 2\].*\[5, 20\]"),
        (lambda: cell.initialize_carry((2, INPUT), rngs(), jax.nn.initializers.zeros), "carry_init is.*expected None"),
        (lambda: Cell(STACK, rngs=rngs()), "cell is a Layered; expected a cell of jrnn"),
    ]:
        with pytest.raises((ValueError, TypeError), match=words):
            attempt()
