"""Initialisers: the property each is named after, on every cell that has the parts."""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import cast, key, random_params

import jrnn
from jrnn import initializers

INPUT, HIDDEN = 5, 8

CELLS = {
    "elman": jrnn.Elman(INPUT, HIDDEN),
    "jordan": jrnn.Jordan(INPUT, HIDDEN, 3),
    "lstm": jrnn.LSTM(INPUT, HIDDEN),
    "lstm-peephole": jrnn.PeepholeLSTM(INPUT, HIDDEN),
    "lstm-projected": jrnn.ProjectedLSTM(INPUT, HIDDEN, 3),
    "lstm-coupled": jrnn.CoupledLSTM(INPUT, HIDDEN),
    "gru-after": jrnn.GRU(INPUT, HIDDEN),
    "gru-before": jrnn.GRU(INPUT, HIDDEN, reset_after=False),
    "ctrnn": jrnn.CTRNN(INPUT, HIDDEN, tau=tuple(range(1, 9)), learn_tau=True),
}
GATED = {name: cell for name, cell in CELLS.items() if cell.forget_gate or cell.input_gate}
OBLONG = {name: CELLS[name] for name in ("jordan", "lstm-projected")}
SQUARE = {name: cell for name, cell in CELLS.items() if name not in OBLONG}


def on(cells):
    return pytest.mark.parametrize("cell", cells.values(), ids=cells)


def blocks(cell, w):
    """The part of `w` or `b` that belongs to each gate."""
    return dict(zip(cell.gates, np.split(np.asarray(w, np.float64), len(cell.gates), -1)))


def unchanged(before, after, *but):
    for name in before._fields:
        if name not in but and getattr(before, name) is not None:
            np.testing.assert_array_equal(getattr(before, name), getattr(after, name), err_msg=name)


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 1e-5), (jnp.bfloat16, 0.05)], ids=["float32", "bf16"])
@on(CELLS)
def test_orthogonal(cell, dtype, tolerance):
    before = cast(random_params(cell), dtype)
    params = initializers.orthogonal(key(0), cell, before, scale=2.0)
    unchanged(before, params, "w_h")
    assert params.w_h.dtype == dtype
    for q in blocks(cell, params.w_h / 2).values():
        short = q @ q.T if len(q) < q.shape[1] else q.T @ q
        np.testing.assert_allclose(short, np.eye(len(short)), atol=tolerance)
    first, *others = blocks(cell, params.w_h).values()
    assert not any(np.allclose(first, other) for other in others)


@on(CELLS)
def test_glorot(cell):
    before = random_params(cell)
    params = initializers.glorot(key(0), cell, before)
    changed = [name for name, a in before._asdict().items() if a is not None and a.ndim == 2 and name != "w_h"]
    unchanged(before, params, *changed)
    for name in changed:
        w = getattr(params, name)
        for block in blocks(cell, w).values() if name == "w_x" else [w]:
            bound = math.sqrt(6 / sum(block.shape))
            assert 0.7 * bound < np.abs(block).max() <= bound


@on(CELLS)
def test_standard_is_what_init_does_to_the_weights(cell):
    params = cell.init(key(0))
    again = initializers.standard(key(0), cell, params)
    unchanged(params, again)
    for q in blocks(cell, params.w_h).values():
        np.testing.assert_allclose(np.linalg.svd(q, compute_uv=False), 1, atol=1e-5)
    assert all(a.dtype == jnp.float32 for a in jax.tree.leaves(params))
    for gate, b in blocks(cell, params.b).items():
        np.testing.assert_array_equal(b, STARTS.get((type(cell), gate), 0))


STARTS = {(kind, "f"): 1 for kind in (jrnn.LSTM, jrnn.PeepholeLSTM, jrnn.ProjectedLSTM)} | {(jrnn.CoupledLSTM, "i"): -1}
"""Biases that do not start at 0, all for an open forget gate."""


def test_uniform():
    cell = jrnn.LSTM(INPUT, 64)
    before = random_params(cell)
    for scale, bound in ((None, 1 / 8), (0.5, 0.5)):
        for a in initializers.uniform(key(0), cell, before, scale):
            assert 0.9 * bound < np.abs(a).max() <= bound
            assert abs(np.mean(a)) < 4 * bound / math.sqrt(3 * a.size)


@on(CELLS)
def test_uniform_draws_every_array_on_its_own(cell):
    params = initializers.uniform(key(0), cell, random_params(cell))
    assert len({float(a.ravel()[0]) for a in jax.tree.leaves(params)}) == len(jax.tree.leaves(params))
    assert all(np.abs(a).max() <= 1 / math.sqrt(HIDDEN) for a in jax.tree.leaves(params))


@on(SQUARE)
def test_identity(cell):
    before = random_params(cell)
    params = initializers.identity(cell, before, scale=0.9)
    unchanged(before, params, "w_h", "b")
    for block in blocks(cell, params.w_h).values():
        np.testing.assert_allclose(block, 0.9 * np.eye(HIDDEN), rtol=1e-6)
    assert not np.any(params.b)


def test_identity_makes_a_relu_network_that_adds_up():
    cell = jrnn.Elman(1, 1, activation="relu")
    params = initializers.identity(cell, cell.init(key(0)))._replace(w_x=jnp.ones((1, 1)))
    _, ys = jrnn.unroll(cell, params, jnp.arange(1.0, 5.0)[:, None])
    np.testing.assert_array_equal(ys[:, 0], [1, 3, 6, 10])


@on(GATED)
def test_forget_bias(cell):
    before = random_params(cell)
    params = initializers.forget_bias(cell, before, 2.5)
    unchanged(before, params, "b")
    old, new = blocks(cell, before.b), blocks(cell, params.b)
    for gate in cell.gates:
        kept = -2.5 if cell.forget_gate is None and gate == cell.input_gate else old[gate]
        np.testing.assert_array_equal(new[gate], 2.5 if gate == cell.forget_gate else kept)


@on(GATED)
def test_an_open_forget_gate_keeps_the_past(cell):
    """What the gate's name promises, whichever way round a cell writes it."""
    params = initializers.forget_bias(cell, jax.tree.map(jnp.zeros_like, random_params(cell)), 50.0)
    state = jax.tree.map(lambda a: a + 0.3, cell.initial_state(params))
    new, _ = cell.step(params, state, jnp.zeros(INPUT))
    memory = "c" if hasattr(state, "c") else "h"
    np.testing.assert_allclose(getattr(new, memory), 0.3, rtol=1e-6)


@on(GATED)
def test_chrono(cell):
    before = random_params(cell)
    params = initializers.chrono(key(0), cell, before, longest=50)
    unchanged(before, params, "b")
    old, new = blocks(cell, before.b), blocks(cell, params.b)
    memories = np.exp(new[cell.forget_gate] if cell.forget_gate else -new[cell.input_gate])
    assert memories.min() >= 1 - 1e-5
    assert memories.max() <= 49 + 1e-3
    assert len(set(memories)) == HIDDEN
    for gate in cell.gates:
        if gate == cell.input_gate:
            np.testing.assert_allclose(new[gate], -np.log(memories), rtol=1e-6)
        elif gate != cell.forget_gate:
            np.testing.assert_array_equal(new[gate], old[gate])


@on(SQUARE)
def test_spectral_radius(cell):
    before = random_params(cell)
    params = initializers.spectral_radius(cell, before, 0.95)
    unchanged(before, params, "w_h")
    old, new = blocks(cell, before.w_h), blocks(cell, params.w_h)
    for gate in cell.gates:
        assert np.abs(np.linalg.eigvals(new[gate])).max() == pytest.approx(0.95, rel=1e-5)
        ratio = new[gate] / old[gate]
        np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-4)


@on(CELLS)
def test_initialised_parameters_fit_their_cell(cell):
    params = initializers.uniform(key(1), cell, cell.init(key(0)))
    for out in (params, initializers.standard(key(0), cell, params)):
        assert jrnn.unroll(cell, out, jnp.ones((2, INPUT)))[1].shape == (2, cell.output_size)


# Cells that name their recurrent weights otherwise


class LeakyParams(NamedTuple):
    w_x: jax.Array  # [input, hidden]
    decay: jax.Array  # [hidden]
    w_y: jax.Array  # [hidden, output]


class TwiceParams(NamedTuple):
    w_x: jax.Array  # [input, 2 hidden]
    from_h: jax.Array  # [hidden, 2 hidden]
    from_c: jax.Array  # [hidden, 2 hidden]
    b: jax.Array  # [2 hidden]


class One(NamedTuple):
    h: jax.Array  # [*batch, hidden]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Leaky(jrnn.Cell):
    """h_t = decay h_{t-1} + x_t W_x, y_t = h_t W_y: no matrix multiplies the past."""

    input_size: int = INPUT
    hidden_size: int = HIDDEN
    output_size: int = 3

    recurrent = ()

    def init(self, key):
        zero = LeakyParams(jnp.zeros((INPUT, HIDDEN)), jnp.full(HIDDEN, 0.9), jnp.zeros((HIDDEN, 3)))
        return initializers.standard(key, self, zero)

    def initial_state(self, params, batch=(), key=None):
        return One(jnp.zeros((*batch, HIDDEN), params.decay.dtype))

    def project(self, params, x):
        return x @ params.w_x

    def recur(self, params, state):
        return state.h * jnp.broadcast_to(params.decay, state.h.shape)

    def update(self, params, state, z, r):
        return One(z + r)

    def readout(self, params, state, x):
        return state.h @ params.w_y


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Twice(Leaky):
    """Two recurrent weights of two gates each."""

    gates = ("keep", "new")
    forget_gate = "keep"
    recurrent = ("from_h", "from_c")

    def init(self, key):
        wide = jnp.zeros((HIDDEN, 2 * HIDDEN))
        return initializers.standard(key, self, TwiceParams(jnp.zeros((INPUT, 2 * HIDDEN)), wide, wide, jnp.zeros(16)))


RECURRENT_INITIALISERS = {
    "orthogonal": lambda cell, params: initializers.orthogonal(key(1), cell, params),
    "identity": lambda cell, params: initializers.identity(cell, params),
    "spectral-radius": lambda cell, params: initializers.spectral_radius(cell, params, 1.0),
}


def test_a_cell_without_recurrent_weights_has_dense_ones_alone():
    cell = Leaky()
    params = cell.init(key(0))
    np.testing.assert_array_equal(params.decay, np.float32(0.9))
    for w in (params.w_x, params.w_y):
        bound = math.sqrt(6 / sum(w.shape))
        assert 0.7 * bound < np.abs(w).max() <= bound
    drawn = initializers.uniform(key(0), cell, params)
    assert all(0 < np.abs(a).max() <= 1 / math.sqrt(3) for a in jax.tree.leaves(drawn))


@pytest.mark.parametrize("initialise", RECURRENT_INITIALISERS.values(), ids=RECURRENT_INITIALISERS)
def test_without_recurrent_weights_there_is_nothing_to_initialise(initialise):
    with pytest.raises(ValueError, match=r"Leaky.* has no recurrent weights; expected a cell with some"):
        initialise(Leaky(), Leaky().init(key(0)))


@pytest.mark.parametrize("initialise", RECURRENT_INITIALISERS.values(), ids=RECURRENT_INITIALISERS)
def test_every_recurrent_weight_is_initialised_gate_by_gate(initialise):
    cell = Twice()
    before = random_params(cell)
    params = initialise(cell, before)
    unchanged(before, params, *cell.recurrent, "b")
    for name in cell.recurrent:
        for block in blocks(cell, getattr(params, name)).values():
            assert np.abs(np.linalg.eigvals(block)).max() == pytest.approx(1, rel=1e-5)


def test_recurrent_weights_are_drawn_apart():
    params = initializers.orthogonal(key(1), Twice(), random_params(Twice()))
    assert not np.allclose(params.from_h, params.from_c)


@pytest.mark.parametrize("initialise", RECURRENT_INITIALISERS.values(), ids=RECURRENT_INITIALISERS)
def test_parameters_of_another_cell(initialise):
    with pytest.raises(TypeError, match=r"params is a LSTMParams with w_x, w_h, b; Twice.* has a from_h"):
        initialise(Twice(), random_params(CELLS["lstm"]))


NOT_GATED = random_params(CELLS["elman"])
MISTAKES = {
    "forget-bias": (lambda: initializers.forget_bias(CELLS["elman"], NOT_GATED), ["Elman", "no gate that keeps"]),
    "chrono": (lambda: initializers.chrono(key(0), CELLS["elman"], NOT_GATED, 9), ["Elman", "no gate that keeps"]),
    "chrono-short": (
        lambda: initializers.chrono(key(0), CELLS["lstm"], random_params(CELLS["lstm"]), 2),
        ["longest is 2", "more than 2"],
    ),
    "vector": (
        lambda: initializers.orthogonal(key(0), Twice(), random_params(Twice())._replace(from_c=jnp.ones(8))),
        ["from_c of Twice", r"float32\[8\]", "expected a matrix"],
    ),
    "radius-nothing": (
        lambda: initializers.spectral_radius(CELLS["elman"], NOT_GATED._replace(w_h=jnp.zeros((8, 8))), 1.0),
        ["w_h", "Elman", "spectral radius 0"],
    ),
}


@pytest.mark.parametrize(("mistake", "words"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_named(mistake, words):
    with pytest.raises(ValueError, match=".*".join(words)):
        mistake()


@on(OBLONG)
def test_oblong_weights_have_no_identity_and_no_eigenvalues(cell):
    with pytest.raises(ValueError, match=r"w_h.*not square"):
        initializers.identity(cell, random_params(cell))
    with pytest.raises(ValueError, match=r"w_h.*square"):
        initializers.spectral_radius(cell, random_params(cell), 0.9)


def test_arguments_in_another_order():
    with pytest.raises(TypeError, match=r"key is LSTM.*; expected a key"):
        initializers.chrono(CELLS["lstm"], key(0), random_params(CELLS["lstm"]), 9)
    with pytest.raises(TypeError, match=r"(?s)cell is LSTMParams.*; expected a Cell"):
        initializers.identity(random_params(CELLS["lstm"]), CELLS["lstm"])
    with pytest.raises(
        TypeError, match=r"params is a LSTMParams .*; LearnedState.* has a cell: expected those of its init"
    ):
        initializers.identity(jrnn.LearnedState(CELLS["lstm"]), random_params(CELLS["lstm"]))
