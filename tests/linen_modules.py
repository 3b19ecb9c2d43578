"""Flax's modules of linen and ours, with the same weights."""

import functools

import jax
import jax.numpy as jnp
from cases import key, normal
from flax import linen as nn
from flax_cases import HIDDEN, INPUT, X

import jrnn
from jrnn.flax.linen import RNN


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
