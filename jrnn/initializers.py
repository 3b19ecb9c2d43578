"""Recurrent initialisers: functions from parameters to parameters, so each works on every cell.

`initializer(key, cell, params, ...)` or, where nothing is random, `initializer(cell, params, ...)`. They find weights by the
names that cells share: `w_x` [input, gates * hidden] from the input, `w_h` [state, gates * hidden] from the past, `b` [gates *
hidden], with one block per gate in the order of `cell.gates`; matrices of other names (a projection, an output layer) are
treated as ordinary dense weights. What a function does not name it leaves alone.

    cell = jrnn.LSTM(input_size=8, hidden_size=64)
    params = jrnn.initializers.chrono(key, cell, cell.init(key), longest=400)
"""

import math
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from .arrays import at_least_float32
from .cell import Cell

P = TypeVar("P", bound=Any)


def standard(key: jax.Array, cell: Cell, params: P) -> P:
    """The default of every cell: Glorot inputs, orthogonal recurrence per gate; biases stay as they are."""
    inputs, recurrence = jax.random.split(key)
    return orthogonal(recurrence, cell, glorot(inputs, cell, params))


def uniform(key: jax.Array, cell: Cell, params: P, scale: float | None = None) -> P:
    """Every array uniform in ±scale, by default ±1/sqrt(hidden_size), as PyTorch initialises RNN, LSTM and GRU."""
    bound = 1 / math.sqrt(_hidden(cell, params)) if scale is None else scale
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    drawn = [jax.random.uniform(k, a.shape, a.dtype, -bound, bound) for k, a in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, drawn)


def glorot(key: jax.Array, cell: Cell, params: P) -> P:
    """Every matrix except `w_h` uniform in ±sqrt(6 / (in + out)), gate by gate (Glorot & Bengio 2010)."""
    names = [name for name, w in params._asdict().items() if name != "w_h" and np.ndim(w) == 2]
    draw = jax.nn.initializers.glorot_uniform()
    for name, k in zip(names, jax.random.split(key, max(len(names), 1)), strict=False):
        gates = len(cell.gates) if name.startswith("w_x") else 1
        params = params._replace(**{name: _per_gate(k, gates, getattr(params, name), draw)})
    return params


def orthogonal(key: jax.Array, cell: Cell, params: P, scale: float = 1.0) -> P:
    """Each gate's block of `w_h` orthogonal times `scale` (Saxe, McClelland & Ganguli 2014)."""
    draw = jax.nn.initializers.orthogonal(scale)
    return params._replace(w_h=_per_gate(key, len(cell.gates), params.w_h, draw))


def identity(cell: Cell, params: P, scale: float = 1.0) -> P:
    """Each gate's block of `w_h` the identity times `scale`, biases zero: the IRNN, on a ReLU Elman cell (Le et al. 2015)."""
    rows, columns = params.w_h.shape
    if columns != rows * len(cell.gates):
        raise ValueError(
            f"w_h of {cell} is {list(params.w_h.shape)}, {len(cell.gates)} blocks that are not square; "
            "the identity needs square ones: use orthogonal"
        )
    block = scale * jnp.eye(rows, dtype=params.w_h.dtype)
    return params._replace(w_h=jnp.tile(block, (1, len(cell.gates))), b=jax.tree.map(jnp.zeros_like, params.b))


def forget_bias(cell: Cell, params: P, value: float = 1.0) -> P:
    """The bias of the gate that keeps the past set to `value` (Gers et al. 2000; Jozefowicz et al. 2015: 1 or 2)."""
    return params._replace(b=_set_gate(cell, _bias(cell, params), _forget_gate(cell), value))


def chrono(key: jax.Array, cell: Cell, params: P, longest: float) -> P:
    """Gate biases for memories of 1 to `longest` steps (Tallec & Ollivier 2018): b_f = log U(1, longest - 1), b_i = -b_f.

    For a cell whose input gate is one minus its forget gate (GRU) only the latter is set.
    """
    if longest <= 2:
        raise ValueError(f"longest is {longest}; expected more than 2 steps, the longest dependency in the data")
    b = _bias(cell, params)
    size = b.shape[0] // len(cell.gates)
    bias = jnp.log(jax.random.uniform(key, (size,), jnp.float32, 1.0, longest - 1)).astype(b.dtype)
    b = _set_gate(cell, b, _forget_gate(cell), bias)
    return params._replace(b=_set_gate(cell, b, cell.input_gate, -bias) if cell.input_gate else b)


def spectral_radius(cell: Cell, params: P, radius: float) -> P:
    """Each gate's block of `w_h` scaled to largest |eigenvalue| = `radius` (Jaeger 2001). Not under jit: NumPy's eigenvalues."""
    blocks = np.split(np.asarray(params.w_h, np.float64), len(cell.gates), -1)
    if blocks[0].shape[0] != blocks[0].shape[1]:
        raise ValueError(f"w_h of {cell} has blocks {list(blocks[0].shape)}; a spectral radius needs square ones")
    largest = [np.abs(np.linalg.eigvals(block)).max() for block in blocks]
    if min(largest) == 0:
        raise ValueError(f"a block of w_h of {cell} has spectral radius 0 and cannot be scaled to {radius}")
    scaled = [block * (radius / size) for block, size in zip(blocks, largest, strict=True)]
    return params._replace(w_h=jnp.asarray(np.concatenate(scaled, -1), params.w_h.dtype))


def _hidden(cell: Cell, params: Any) -> int:
    return params.w_h.shape[1] // len(cell.gates)


def _per_gate(key: jax.Array, gates: int, w: jax.Array, draw: Any) -> jax.Array:
    """`draw` for every gate's block of `w`, in float32 (half precision has no QR), then `w`'s dtype."""
    shape = (w.shape[0], w.shape[1] // gates)
    blocks = [draw(k, shape, at_least_float32(w.dtype)) for k in jax.random.split(key, gates)]
    return jnp.concatenate(blocks, -1).astype(w.dtype)


def _forget_gate(cell: Cell) -> str:
    if cell.forget_gate is None:
        raise ValueError(f"{cell} has no gate that keeps the past; expected a gated cell such as LSTM or GRU")
    return cell.forget_gate


def _bias(cell: Cell, params: Any) -> jax.Array:
    if params.b is None:
        raise ValueError(f"{cell} has no bias to set; expected one made with bias=True")
    return params.b


def _set_gate(cell: Cell, b: jax.Array, gate: str, value: Any) -> jax.Array:
    size = b.shape[0] // len(cell.gates)
    start = cell.gates.index(gate) * size
    return b.at[start : start + size].set(value)
