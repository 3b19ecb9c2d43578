"""The layers that are compared, as a textbook writes them: the float64 reference, and the plain scan among the peers."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import jrnn


class Data(NamedTuple):
    """What every peer is given, in the dtype of the point."""

    params: Any  # of the jrnn cell, NumPy arrays
    xs: np.ndarray  # [time, batch, input]
    cotangent: np.ndarray  # [time, batch, output]: training takes the gradients of sum(ys * cotangent)


class Function(NamedTuple):
    """A layer by what it computes."""

    cell: Callable[[int], jrnn.Cell]  # from the hidden size, which is the input size too
    state: tuple[str, ...]  # the parameters whose first axis is the size of each array of the state
    step: Callable[[Any, Any, jax.Array], tuple[Any, jax.Array]]  # (params, state, x) -> (state, y)


def elman(phi: Any, p: Any, state: Any, x: jax.Array) -> Any:
    h = phi(x @ p.w_x + state[0] @ p.w_h + p.b)
    return (h,), h


def lstm(p: Any, state: Any, x: jax.Array) -> Any:
    h, c = state
    i, f, g, o = jnp.split(x @ p.w_x + h @ p.w_h + p.b, 4, -1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return (h, c), h


def projected_lstm(p: Any, state: Any, x: jax.Array) -> Any:
    (_, c), h = lstm(p, state, x)
    h = h @ p.w_r
    return (h, c), h


def gru(p: Any, state: Any, x: jax.Array) -> Any:
    (h,) = state
    (x_r, x_z, x_n), (h_r, h_z, h_n) = jnp.split(x @ p.w_x + p.b, 3, -1), jnp.split(h @ p.w_h, 3, -1)
    r, z = jax.nn.sigmoid(x_r + h_r), jax.nn.sigmoid(x_z + h_z)
    h = (1 - z) * jnp.tanh(x_n + r * (h_n + p.b_n)) + z * h
    return (h,), h


def gru_before(p: Any, state: Any, x: jax.Array) -> Any:
    (h,), hidden = state, p.w_h.shape[0]
    x_r, x_z, x_n = jnp.split(x @ p.w_x + p.b, 3, -1)
    h_r, h_z = jnp.split(h @ p.w_h[:, : 2 * hidden], 2, -1)
    r, z = jax.nn.sigmoid(x_r + h_r), jax.nn.sigmoid(x_z + h_z)
    h = (1 - z) * jnp.tanh(x_n + (r * h) @ p.w_h[:, 2 * hidden :]) + z * h
    return (h,), h


FUNCTIONS: dict[str, Function] = {
    "elman": Function(lambda n: jrnn.Elman(n, n), ("w_h",), functools.partial(elman, jnp.tanh)),
    "lstm": Function(lambda n: jrnn.LSTM(n, n), ("w_h", "w_h"), lstm),
    "gru": Function(lambda n: jrnn.GRU(n, n), ("w_h",), gru),
    "projected_lstm": Function(lambda n: jrnn.ProjectedLSTM(n, n, max(n // 2, 1)), ("w_h", "w_r"), projected_lstm),
    # What a peer computes that has no other: timed against jrnn computing the same.
    "elman, ReLU": Function(
        lambda n: jrnn.Elman(n, n, activation="relu"), ("w_h",), functools.partial(elman, jax.nn.relu)
    ),
    "gru, reset before": Function(lambda n: jrnn.GRU(n, n, reset_after=False), ("w_h",), gru_before),
}


def draw(function: str, *, hidden: int, batch: int, time: int, dtype: Any, seed: int) -> Data:
    """Parameters as the cell starts from, normal inputs and cotangents; the same numbers for both kinds of GRU."""
    cell = FUNCTIONS[function].cell(hidden)
    params = jax.tree.map(lambda a: np.array(a, dtype), cell.init(jax.random.key(seed)))
    if getattr(params, "b_n", None) is not None:
        params = params._replace(b_n=np.zeros_like(params.b_n))  # Flax nnx has none: at 0 all compute the same
    rng = np.random.default_rng(seed)
    xs, cotangent = (rng.standard_normal((time, batch, n)).astype(dtype) for n in (hidden, cell.output_size))
    return Data(params, xs, cotangent)


def variant(function: str, data: Data) -> Data:
    """The same numbers as parameters of another function."""
    if function == "gru, reset before":
        return data._replace(params=data.params._replace(b_n=None))
    return data


def scan(function: str, params: Any, xs: jax.Array, *, remember: bool = True) -> jax.Array:
    """`lax.scan` over the whole step; the reference does not remember the intermediates, which are many in float64."""
    state, step = FUNCTIONS[function].state, functools.partial(FUNCTIONS[function].step, params)
    zeros = tuple(jnp.zeros((xs.shape[1], getattr(params, name).shape[0]), xs.dtype) for name in state)
    return lax.scan(step if remember else jax.checkpoint(step), zeros, xs)[1]


def reference(function: str, data: Data) -> dict[str, Mapping[str, np.ndarray]]:
    """Outputs ("forward") and gradients ("train") of the same numbers in float64, by name."""
    with jax.enable_x64(True):
        params, xs, cotangent = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), tuple(data))

        @jax.jit
        def both(params: Any, xs: jax.Array) -> Any:
            ys, pull = jax.vjp(functools.partial(scan, function, remember=False), params, xs)
            return ys, pull(cotangent)

        ys, (weights, inputs) = jax.tree.map(np.asarray, both(params, xs))
    return {"forward": {"ys": ys}, "train": gradients_by_name(weights, inputs)}


def gradients_by_name(params: Any, xs: Any) -> dict[str, np.ndarray]:
    named = {name: a for name, a in params._asdict().items() if a is not None}
    return {name: np.asarray(a) for name, a in {"xs": xs, **named}.items()}


def flop(function: str, data: Data, mode: str) -> int:
    """Of the matrix products: two for every weight, step and row; training takes three times as many."""
    time, batch, _ = data.xs.shape
    weights = sum(a.size for a in jax.tree.leaves(data.params) if a.ndim == 2)
    return 2 * weights * time * batch * (3 if mode == "train" else 1)
