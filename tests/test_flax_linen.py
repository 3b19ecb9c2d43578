"""jrnn in Flax linen: Flax's own examples with one line changed, paths, training, dropout, episodes, mistakes."""

import functools

import jax
import jax.numpy as jnp
import laws
import numpy as np
import optax
import pytest
from cases import CELLS, key, normal, random_inputs, random_params, run, same
from flax import linen as nn
from flax import serialization, traverse_util
from flax.training.train_state import TrainState
from jax.sharding import PartitionSpec as P

import jrnn
from jrnn.flax.linen import RNN, Cell, FlaxCell

BATCH, TIME, INPUT, HIDDEN = 3, 6, 4, 5
X = normal(0, BATCH, TIME, INPUT)
LENGTHS = jnp.array([6, 2, 4])
REAL = np.arange(TIME) < np.asarray(LENGTHS)[:, None]
STACK = jrnn.rnn(jrnn.GRU, input_size=INPUT, hidden_size=HIDDEN, num_layers=2, bidirectional=True)
DROPOUT = jrnn.rnn(jrnn.LSTM, input_size=INPUT, hidden_size=HIDDEN, num_layers=2, dropout=0.5)


def random_like(variables, seed=100):
    """The same variables with nothing zero, so that biases matter."""
    leaves, structure = jax.tree.flatten(variables)
    return jax.tree.unflatten(structure, [normal(seed + i, *a.shape, scale=0.5) for i, a in enumerate(leaves)])


def shapes(module, *inputs):
    return jax.tree.map(jnp.shape, jax.eval_shape(module.init, key(0), *inputs))


def from_lstm(p):
    """The weights of `nn.LSTMCell`, gate by gate, as those of `jrnn.LSTM`."""
    kernels = [jnp.concatenate([p[side + gate]["kernel"] for gate in "ifgo"], -1) for side in "ih"]
    return {"w_x": kernels[0], "w_h": kernels[1], "b": jnp.concatenate([p["h" + gate]["bias"] for gate in "ifgo"])}


def from_gru(p):
    """The weights of `nn.GRUCell`, whose hidden kernels have a bias for n alone."""
    kernels = [jnp.concatenate([p[side + gate]["kernel"] for gate in "rzn"], -1) for side in "ih"]
    b = jnp.concatenate([p["i" + gate]["bias"] for gate in "rzn"])
    return {"w_x": kernels[0], "w_h": kernels[1], "b": b, "b_n": p["hn"]["bias"]}


def from_simple(p):
    return {"w_x": p["i"]["kernel"], "w_h": p["h"]["kernel"], "b": p["i"]["bias"]}


SWAPS = {
    "lstm": (nn.LSTMCell, jrnn.LSTM, from_lstm),
    "gru": (nn.GRUCell, jrnn.GRU, from_gru),
    "simple": (nn.SimpleCell, jrnn.Elman, from_simple),
}


def both(name="lstm", **options):
    """Flax's `RNN` and ours, with the same weights: two functions of inputs and arguments."""
    theirs, ours, convert = SWAPS[name]
    flax_rnn, rnn = nn.RNN(theirs(HIDDEN), **options), RNN(ours(INPUT, HIDDEN), **options)
    variables = random_like(jax.eval_shape(flax_rnn.init, key(0), X))
    swapped = {"params": {"cell": convert(variables["params"]["cell"])}}
    flags = ("return_carry", "time_major", "reverse", "keep_order")
    jitted = [jax.jit(module.apply, static_argnames=flags) for module in (flax_rnn, rnn)]
    return [functools.partial(apply, weights) for apply, weights in zip(jitted, (variables, swapped))]


def hidden_first(carry):
    """Flax's carry of an LSTM is (c, h)."""
    return jrnn.cells.lstm.LSTMState(h=carry[1], c=carry[0])


# One line changed


@pytest.mark.parametrize("name", SWAPS)
def test_outputs_are_those_of_flax(name):
    theirs, ours = both(name)
    same(ours(X), theirs(X))


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
    call = {} if given == "constructor" else options
    x, real = (jnp.swapaxes(X, 0, 1), REAL.T) if options["time_major"] else (X, REAL)
    (want, zs), (carry, ys) = theirs(x, seq_lengths=lengths, **call), ours(x, seq_lengths=lengths, **call)
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
    theirs = nn.Bidirectional(nn.RNN(nn.LSTMCell(HIDDEN)), nn.RNN(nn.LSTMCell(HIDDEN)), return_carry=True)
    ours = nn.Bidirectional(RNN(jrnn.LSTM(INPUT, HIDDEN)), RNN(jrnn.LSTM(INPUT, HIDDEN)), return_carry=True)
    variables = random_like(jax.eval_shape(theirs.init, key(0), X))
    swapped = {"params": {name: {"cell": from_lstm(p["cell"])} for name, p in variables["params"].items()}}
    assert shapes(ours, X) == jax.tree.map(jnp.shape, swapped)
    carries, want = theirs.apply(variables, X, seq_lengths=LENGTHS)
    states, ys = ours.apply(swapped, X, seq_lengths=LENGTHS)
    same((states, ys), (tuple(map(hidden_first, carries)), jnp.where(REAL[..., None], want, 0)))


def test_a_model_with_one_line_changed():
    class Tagger(nn.Module):
        rnn: nn.Module

        @nn.compact
        def __call__(self, x, seq_lengths):
            return nn.Dense(2, name="head")(self.rnn(nn.Dense(INPUT, name="embed")(x), seq_lengths=seq_lengths))

    theirs, ours = Tagger(nn.RNN(nn.LSTMCell(HIDDEN))), Tagger(RNN(jrnn.LSTM(INPUT, HIDDEN)))
    params = random_like(jax.eval_shape(theirs.init, key(0), X, LENGTHS))["params"]
    swapped = params | {"rnn": {"cell": from_lstm(params["rnn"]["cell"])}}
    assert shapes(ours, X, LENGTHS)["params"] == jax.tree.map(jnp.shape, swapped)
    got, want = (jax.jit(m.apply)({"params": p}, X, LENGTHS) for m, p in ((ours, swapped), (theirs, params)))
    same(got[REAL], want[REAL])


def test_modules_made_inside_a_module():
    class Inside(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = RNN(jrnn.Recurrent(FlaxCell(nn.GRUCell(HIDDEN), INPUT)), name="first")(x)
            return nn.RNN(Cell(jrnn.GRU(HIDDEN, 2)), name="second")(x)

    variables = Inside().init(key(0), X)
    # What is made in a compact method belongs to the module around it: so linen names a cell inside `nn.RNN`.
    assert {name: set(p) for name, p in variables["params"].items()} == {
        "first": {"cell"},
        "Cell_0": {"w_x", "w_h", "b", "b_n"},
    }
    assert Inside().apply(variables, X).shape == (BATCH, TIME, 2)


# Parameters by path


@pytest.mark.parametrize(
    ("layer", "path"),
    [
        (jrnn.LSTM(INPUT, HIDDEN), "cell/w_h"),
        (jrnn.Recurrent(jrnn.LSTM(INPUT, HIDDEN)), "cell/w_h"),
        (jrnn.Residual(jrnn.Recurrent(jrnn.GRU(INPUT, INPUT))), "cell/w_h"),
        (STACK, "layers_1/forward/w_h"),
        (jrnn.Bidirectional(jrnn.Recurrent(jrnn.GRU(INPUT, 2)), STACK), "backward/layers_0/forward/w_h"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_parameters_are_found_by_path_and_are_the_layers_own(layer, path):
    rnn = RNN(layer)
    variables = random_like(jax.eval_shape(rnn.init, key(0), X))
    flat = traverse_util.flatten_dict(variables["params"], sep="/")
    assert path in flat
    assert len(flat) == len(jax.tree.leaves(jax.eval_shape(layer.init, key(0))))
    changed = variables | {"params": traverse_util.unflatten_dict(flat | {path: 2 * flat[path]}, sep="/")}
    assert not np.allclose(rnn.apply(variables, X), rnn.apply(changed, X))


def test_outputs_are_those_of_the_layer():
    params = random_params(STACK)
    named = {
        f"layers_{index}": {"forward": pair.forward._asdict(), "backward": pair.backward._asdict()}
        for index, pair in enumerate(params)
    }
    got = RNN(STACK, return_carry=True, time_major=True).apply({"params": named}, jnp.swapaxes(X, 0, 1))
    same(got, STACK.apply(params, jnp.swapaxes(X, 0, 1)))
    without = jrnn.GRU(INPUT, HIDDEN, reset_after=False)
    cell = random_params(without)
    named = {name: value for name, value in cell._asdict().items() if value is not None}
    want = jrnn.unroll(without, cell, jnp.swapaxes(X, 0, 1))[1]
    same(RNN(without).apply({"params": {"cell": named}}, X), jnp.swapaxes(want, 0, 1))


def test_initial_parameters_are_those_of_the_cell():
    cell = jrnn.LSTM(INPUT, 64, forget_bias=3.0)
    params = RNN(cell).init(key(0), X)["params"]["cell"]
    np.testing.assert_array_equal(params["b"], np.repeat([0, 3, 0, 0], 64))
    blocks = np.split(np.asarray(params["w_h"]), 4, 1)
    for block in blocks:
        np.testing.assert_allclose(block @ block.T, np.eye(64), atol=1e-4)
    first, second = (RNN(STACK).init(key(0), X)["params"][f"layers_{i}"]["forward"]["w_h"] for i in (0, 1))
    assert not np.allclose(first, second)


def test_masks_by_path_and_a_train_state():
    rnn = RNN(STACK)
    params = rnn.init(key(0), X)["params"]
    labels = traverse_util.path_aware_map(lambda path, _: "still" if "w_h" in path else "trained", params)
    decay = traverse_util.path_aware_map(lambda path, _: path[-1].startswith("w_"), params)
    optimizer = optax.chain(
        optax.masked(optax.add_decayed_weights(1e-3), decay),
        optax.multi_transform({"trained": optax.adam(1e-2), "still": optax.set_to_zero()}, labels),
    )
    state = TrainState.create(apply_fn=rnn.apply, params=params, tx=optimizer)

    @jax.jit
    @jax.numpy_dtype_promotion("standard")  # Adam raises a float to its integer count
    def step(state):
        def loss(params):
            return jnp.mean(jnp.square(state.apply_fn({"params": params}, X, seq_lengths=LENGTHS) - 0.5))

        value, gradient = jax.value_and_grad(loss)(state.params)
        return state.apply_gradients(grads=gradient), value

    losses = []
    for _ in range(30):
        state, value = step(state)
        losses.append(value)
    assert losses[-1] < 0.9 * losses[0]
    before, after = (traverse_util.flatten_dict(p) for p in (params, state.params))
    for path, value in after.items():
        assert np.array_equal(value, before[path]) == ("w_h" in path), path

    restored = serialization.from_bytes(
        TrainState.create(apply_fn=rnn.apply, params=jax.tree.map(jnp.zeros_like, params), tx=optimizer),
        serialization.to_bytes(state),
    )
    same(restored.params, state.params, tolerance=0)
    same(step(restored)[1], step(state)[1], tolerance=0)


def test_parameters_of_another_dtype():
    rnn = RNN(jrnn.LSTM(INPUT, HIDDEN), param_dtype=jnp.bfloat16, return_carry=True)
    variables = rnn.init(key(0), X.astype(jnp.bfloat16))
    result = rnn.apply(variables, X.astype(jnp.bfloat16))
    cell = nn.RNN(Cell(jrnn.LSTM(INPUT, HIDDEN), param_dtype=jnp.bfloat16), return_carry=True)
    assert {a.dtype for a in jax.tree.leaves((variables, result))} == {jnp.dtype(jnp.bfloat16)}
    same(cell.apply(variables, X.astype(jnp.bfloat16)), result, 0.05)


# Dropout and noise


def test_dropout_takes_its_key_from_the_rngs():
    rnn = RNN(DROPOUT)
    variables = rnn.init(key(0), X, deterministic=True)

    def train(seed):
        return rnn.apply(variables, X, deterministic=False, rngs={"dropout": key(seed)})

    still = rnn.apply(variables, X, deterministic=True)
    same(train(1), train(1), tolerance=0)
    assert not np.allclose(train(1), train(2))
    assert not np.allclose(train(1), still)
    same(RNN(DROPOUT, deterministic=True).apply(variables, X, rngs={"dropout": key(1)}), still)
    plain = jrnn.rnn(jrnn.LSTM, input_size=INPUT, hidden_size=HIDDEN, num_layers=2)
    same(RNN(plain).apply(variables, X, rngs={"dropout": key(1)}), still)


def test_keys_may_be_plain_numbers():
    """Flax takes `jax.random.PRNGKey`; the numbers drawn are those of the typed key."""
    rnn = RNN(jrnn.Layered((jrnn.Recurrent(jrnn.CTRNN(INPUT, HIDDEN, noise=0.5)), jrnn.Dropout(0.5))))

    def drawn(key):
        variables = rnn.init({"params": key(0), "dropout": key(1)}, X, deterministic=False)
        trained = rnn.apply(variables, X, deterministic=False, rngs={"dropout": key(1)})
        return variables, trained, rnn.apply(variables, X, deterministic=True, init_key=key(2))

    same(drawn(jax.random.PRNGKey), drawn(jax.random.key), tolerance=0)


def test_dropout_is_never_left_out_unsaid():
    rnn = RNN(DROPOUT)
    variables = rnn.init(key(0), X, deterministic=True)
    with pytest.raises(ValueError, match="deterministic"):
        rnn.apply(variables, X)
    with pytest.raises(Exception, match="dropout") as error:
        rnn.apply(variables, X, deterministic=False)
    assert type(error.value).__name__ == "InvalidRngError"


def test_noise_takes_its_key_from_the_rngs_or_from_init_key():
    cell = jrnn.CTRNN(INPUT, HIDDEN, tau=3.0, noise=0.5)
    rnn = RNN(cell, deterministic=False)
    variables = rnn.init({"params": key(0), "dropout": key(1)}, X)
    first, second = (rnn.apply(variables, X, rngs={"dropout": key(seed)}) for seed in (1, 2))
    still = rnn.apply(variables, X, deterministic=True)
    assert not np.allclose(first, second)
    same(RNN(jrnn.CTRNN(INPUT, HIDDEN, tau=3.0)).apply(variables, X), still)
    params = jrnn.cells.ctrnn.CTRNNParams(**{"log_tau": None} | variables["params"]["cell"])
    state = cell.initial_state(params, (BATCH,), key(7))
    want = jrnn.unroll(cell, params, jnp.swapaxes(X, 0, 1), state)[1]
    same(rnn.apply(variables, X, deterministic=True, init_key=key(7)), jnp.swapaxes(want, 0, 1))


# Episodes that end, steps that are not real

DONE = jnp.array([[1, 0, 0, 1, 0, 0], [0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 1]], bool)
HELD = jnp.array([[1, 1, 0, 1, 1, 0], [0, 1, 1, 1, 1, 1], [1, 0, 0, 1, 0, 1]], bool)  # not a step where False


class Scanned(nn.Module):
    """What recurrent reinforcement learning writes by hand: a cell that starts anew where an episode begins."""

    @functools.partial(nn.scan, variable_broadcast="params", in_axes=1, out_axes=1, split_rngs={"params": False})
    @nn.compact
    def __call__(self, carry, step):
        x, done, held = step
        fresh = nn.GRUCell(HIDDEN).initialize_carry(key(0), x.shape)
        before = jnp.where(done[:, None], fresh, carry)
        after, y = nn.GRUCell(HIDDEN, name="cell")(before, x)
        return jnp.where(held[:, None], after, before), jnp.where(held[:, None], y, 0)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("time_major", [False, True])
def test_reset_and_mask_are_those_of_a_scan_written_by_hand(time_major, reverse):
    by_hand = Scanned()
    rnn = RNN(jrnn.GRU(INPUT, HIDDEN), time_major=time_major, return_carry=True, reverse=reverse)
    start = normal(1, BATCH, HIDDEN)
    variables = random_like(jax.eval_shape(by_hand.init, key(0), start, (X, DONE, HELD)))
    swapped = {"params": {"cell": from_gru(variables["params"]["cell"])}}
    carry = jrnn.cells.gru.GRUState(start)

    def turned(a):
        return jnp.swapaxes(a, 0, 1) if time_major else a

    @jax.jit
    def want(x):
        marks = jax.tree.map(lambda a: jnp.flip(a, 1) if reverse else a, (x, DONE, HELD))
        end, ys = by_hand.apply(variables, start, marks)
        return laws.weighted(end) + laws.weighted(ys), (end, ys)

    @jax.jit
    def got(x):
        marks = {"mask": turned(HELD), "reset": turned(DONE)}
        end, ys = rnn.apply(swapped, turned(x), initial_carry=carry, **marks)
        return laws.weighted(end.h) + laws.weighted(turned(ys)), (end.h, turned(ys))

    same(jax.value_and_grad(got, has_aux=True)(X), jax.value_and_grad(want, has_aux=True)(X))


def test_reset_within_lengths_of_the_run_in_reverse():
    """Each row as if it were alone, without its padding."""
    rnn = RNN(jrnn.GRU(INPUT, HIDDEN), reverse=True, return_carry=True)
    variables = random_like(jax.eval_shape(rnn.init, key(0), X))
    carry, ys = rnn.apply(variables, X, seq_lengths=LENGTHS, reset=DONE & REAL)
    for row, length in enumerate(LENGTHS.tolist()):
        end, outputs = rnn.apply(variables, X[row, :length], reset=DONE[row, :length])
        same((carry.h[row], ys[row, :length]), (end.h, outputs))


def test_weights_may_be_drawn_by_another_initialiser():
    def longest(key, cell):
        return jrnn.initializers.chrono(key, cell, cell.init(key), longest=30)

    cell = jrnn.LSTM(INPUT, HIDDEN)
    drawn = RNN(cell, params_init=longest, param_dtype=jnp.bfloat16).init(key(0), X.astype(jnp.bfloat16))
    assert drawn["params"]["cell"]["w_h"].dtype == jnp.bfloat16
    forget = drawn["params"]["cell"]["b"][HIDDEN : 2 * HIDDEN]
    assert jnp.all(forget >= 0)
    assert jnp.any(forget > 1)
    half = lambda key, layer: jax.tree.map(lambda a: jnp.full_like(a, 0.5), layer.init(key))  # noqa: E731
    stack = RNN(STACK, params_init=half).init(key(0), X)
    single = Cell(cell, params_init=half).init(key(0), cell.initial_state(cell.init(key(0))), X[0, 0])
    assert all(jnp.all(a == 0.5) for a in jax.tree.leaves((stack, single)))


# Where Flax's own RNN fails


@pytest.mark.parametrize("layer", [jrnn.LSTM(INPUT, HIDDEN), STACK], ids=["lstm", "stack"])
@pytest.mark.parametrize("reverse", [False, True])
def test_inside_shard_map(layer, reverse):
    rnn = RNN(layer, reverse=reverse, keep_order=True, return_carry=True)
    x, lengths = normal(0, 4, TIME, INPUT), jnp.array([6, 0, 3, 1])
    variables = random_like(jax.eval_shape(rnn.init, key(0), x))

    def loss_and_result(variables, x, lengths):
        result = rnn.apply(variables, x, seq_lengths=lengths)
        return sum(jnp.sum(jnp.square(a)) for a in jax.tree.leaves(result)), result

    value = jax.value_and_grad(loss_and_result, has_aux=True)
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))

    def on_each(*arguments):
        (_, result), gradient = value(*arguments)
        return result, gradient

    sharded = jax.shard_map(on_each, mesh=mesh, in_specs=(P(), P("data"), P("data")), out_specs=(P("data"), P()))
    (_, result), gradient = jax.jit(value)(variables, x, lengths)
    same(jax.jit(sharded)(variables, x, lengths), (result, gradient))


@pytest.mark.parametrize("reverse", [False, True])
def test_length_zero_two_batch_axes_and_nan_in_the_padding(reverse):
    rnn = RNN(jrnn.LSTM(INPUT, HIDDEN), reverse=reverse, return_carry=True)
    x, lengths = normal(0, 2, 3, TIME, INPUT), jnp.array([[6, 0, 3], [1, 2, 0]])
    variables = random_like(jax.eval_shape(rnn.init, key(0), x))
    padded = jnp.where((np.arange(TIME) < np.asarray(lengths)[..., None])[..., None], x, jnp.nan)
    start = jrnn.cells.lstm.LSTMState(h=normal(1, 2, 3, HIDDEN), c=normal(2, 2, 3, HIDDEN))

    def loss(variables, x, start):
        result = rnn.apply(variables, x, initial_carry=start, seq_lengths=lengths)
        return laws.weighted(result), result

    gradient = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))
    ((_, (carry, ys)), (slopes, dx, _)) = gradient(variables, padded, start)
    assert all(np.all(np.isfinite(a)) for a in jax.tree.leaves((carry, ys, slopes, dx)))
    for row in np.ndindex(2, 3):
        begin, n = jax.tree.map(lambda a, row=row: a[row], start), int(lengths[row])
        end, outputs = (begin, x[row][:0, :1]) if not n else rnn.apply(variables, x[row][:n], initial_carry=begin)
        same(jax.tree.map(lambda a, row=row: a[row], carry), end)
        same(ys[row][:n], outputs) if n else None
        assert not np.any(ys[row][n:])
        assert not np.any(dx[row][n:])


# A cell of jrnn in Flax's RNN


@pytest.mark.parametrize("name", ["elman-tanh", "jordan", "lstm", "lstm-peephole", "gru-before", "ctrnn-learn-tau"])
def test_a_cell_in_flax_own_rnn(name):
    cell = CELLS[name]
    x = random_inputs(cell, 2, 5)
    rnn = nn.RNN(Cell(cell), return_carry=True)
    params = random_params(cell)
    named = {field: value for field, value in params._asdict().items() if value is not None}
    assert shapes(rnn, x) == {"params": {"cell": jax.tree.map(jnp.shape, named)}}
    state, ys = rnn.apply({"params": {"cell": named}}, x)
    want, zs = run(cell, params, jnp.swapaxes(x, 0, 1))
    same((state, ys), (want, jnp.swapaxes(zs, 0, 1)))


def test_a_state_that_depends_on_parameters_is_refused():
    @jax.tree_util.register_static
    class FromBias(type(CELLS["lstm"])):
        def initial_state(self, params, batch=(), key=None):
            h = jnp.broadcast_to(params.b[: self.hidden_size], (*batch, self.hidden_size))
            return jrnn.cells.lstm.LSTMState(h=h, c=h)

    cell = FromBias(INPUT, HIDDEN)
    with pytest.raises(TypeError, match=r"depends on its parameters.*jrnn\.flax\.linen\.RNN"):
        nn.RNN(Cell(cell)).init(key(0), X)
    assert RNN(cell).init_with_output(key(0), X)[0].shape == (BATCH, TIME, HIDDEN)


# Mistakes


def test_mistakes_are_named():
    rnn = RNN(jrnn.LSTM(INPUT, HIDDEN))
    variables = rnn.init(key(0), X)
    for attempt, words in [
        (lambda: RNN(nn.LSTMCell(HIDDEN)).init(key(0), X), "cell is a LSTMCell.*FlaxCell"),
        (lambda: RNN(jrnn.BatchFirst(STACK)).init(key(0), X), "cell is BatchFirst.*time first.*time_major"),
        (lambda: rnn.apply(variables, X[..., :2]), r"inputs has shape \[3, 6, 2\].*\[\*batch, time, 4\]"),
        (lambda: rnn.apply(variables, X[0, 0]), r"inputs has shape \[4\]"),
        (lambda: rnn.apply(variables, X.astype(jnp.bfloat16)), "bfloat16.*float32"),
        (lambda: rnn.apply(variables, X, seq_lengths=LENGTHS[:2]), r"seq_lengths is int32\[2\].*\[3\]"),
        (lambda: rnn.apply(variables, X, seq_lengths=LENGTHS.astype(float)), r"seq_lengths is float32\[3\]"),
        (lambda: rnn.apply(variables, X, reset=DONE.T), r"reset is bool\[6, 3\]; expected bool\[3, 6\]"),
        (
            lambda: rnn.apply(variables, X, mask=HELD.astype(float)),
            "mask has dtype float32; expected bool: write mask != 0",
        ),
        (lambda: rnn.apply(variables, X, initial_carry=X), "state is a"),
        (
            lambda: RNN(jrnn.LSTM(INPUT, HIDDEN), params_init=lambda key, cell: {}).init(key(0), X),
            "what params_init returned is a dict.*expects a LSTMParams",
        ),
        (
            lambda: rnn.apply({"params": {"cell": {"w_h": jnp.zeros((5, 20)), "b": jnp.zeros(20)}}}, X),
            r"params lacks \['w_x'\]",
        ),
        (lambda: Cell(STACK), "cell is a Layered; expected a cell of jrnn"),
    ]:
        with pytest.raises((ValueError, TypeError), match=words):
            attempt()
