"""Flax's modules of NNX and ours, with the same weights."""

import functools

import jax
import jax.numpy as jnp
from cases import normal
from flax import nnx
from flax_cases import HIDDEN, INPUT

import jrnn
from jrnn.flax.nnx import RNN


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


class Tagger(nnx.Module):
    def __init__(self, rnn, rngs):
        self.embed = nnx.Linear(INPUT, INPUT, rngs=rngs)
        self.rnn = rnn
        self.head = nnx.Linear(HIDDEN, 2, rngs=rngs)

    def __call__(self, x, seq_lengths=None):
        return self.head(self.rnn(self.embed(x), seq_lengths=seq_lengths))


def paths(module):
    return {".".join(map(str, path)) for path, _ in nnx.to_flat_state(nnx.state(module, nnx.Param))}
