"""jrnn in Flax NNX, where Flax has its own RNN: its examples with one line changed, episodes, what it cannot do, mistakes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CELLS, normal, random_inputs, random_params, run, same
from flax import nnx
from flax_cases import BATCH, DONE, HELD, HIDDEN, INPUT, LENGTHS, REAL, STACK, TIME, X, hidden_first
from jax.sharding import PartitionSpec as P
from nnx_modules import SWAPS, Tagger, both, call, from_lstm, rngs, set_cell, shaken

import jrnn
from jrnn.flax.nnx import RNN, Cell


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


def test_a_model_with_one_line_changed():
    theirs, ours = both()
    forward = nnx.jit(lambda model: model(X, LENGTHS))
    got, want = (forward(Tagger(rnn, rngs())) for rnn in (ours, theirs))
    same(got[REAL], want[REAL])


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
