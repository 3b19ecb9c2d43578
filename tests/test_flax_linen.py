"""jrnn in Flax linen, where Flax has its own RNN: its examples with one line changed, episodes, what it cannot do, mistakes."""

import functools

import jax
import jax.numpy as jnp
import laws
import numpy as np
import pytest
from cases import CELLS, key, normal, random_inputs, random_params, run, same
from flax import linen as nn
from flax_cases import BATCH, DONE, HELD, HIDDEN, INPUT, LENGTHS, REAL, STACK, TIME, X, hidden_first
from jax.sharding import PartitionSpec as P
from linen_modules import SWAPS, both, from_gru, from_lstm, random_like, shapes

import jrnn
from jrnn.flax.linen import RNN, Cell, FlaxCell


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
