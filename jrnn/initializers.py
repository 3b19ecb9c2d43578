"""Recurrent initialisers: functions from parameters to parameters, so each works on every cell.

`initializer(key, cell, params, ...)` or, where nothing is random, `initializer(cell, params, ...)`. A cell names its
recurrent weights itself (`cell.recurrent`). They have one block per gate along the last axis, in the order of
`cell.gates`, and so have `w_x`, the weights of the input, and `b`. Matrices of other names (a projection, an output
layer) are ordinary dense weights. What a function does not name it leaves alone. On a wrapper such as `LearnedState` it
acts on the parameters of the cell inside.

    cell = jrnn.LSTM(input_size=8, hidden_size=64)
    params = jrnn.initializers.chrono(key, cell, cell.init(key), longest=400)
"""

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from .arrays import at_least_float32, feature_shape
from .cell import Cell, check_cell
from .checks import check_key_or_legacy, describe

P = TypeVar("P", bound=Any)
F = TypeVar("F", bound=Callable[..., Any])


def inside(initializer: F) -> F:
    """The initialiser, on the innermost cell and its parameters where `cell` is a wrapper."""
    signature = inspect.signature(initializer)

    @functools.wraps(initializer)
    def initialize(*arguments: Any, **options: Any) -> Any:
        given = signature.bind(*arguments, **options).arguments
        cell, params = given["cell"], given["params"]
        if "key" in given:
            check_key_or_legacy(given["key"])
        check_cell(cell)
        inner = getattr(cell, "cell", None)
        if not isinstance(inner, Cell):
            return initializer(*arguments, **options)
        name = cell.inner_params
        if name is None:
            return initialize(**given | {"cell": inner})
        changed = initialize(**given | {"cell": inner, "params": _parameter(cell, params, name)})
        return params._replace(**{name: changed})

    return initialize  # type: ignore[return-value]


@inside
def standard(key: jax.Array, cell: Cell, params: P) -> P:
    """The default of every cell: Glorot inputs, orthogonal recurrence per gate; biases stay as they are."""
    inputs, recurrence = jax.random.split(key)
    params = glorot(inputs, cell, params)
    return orthogonal(recurrence, cell, params) if cell.recurrent else params


@inside
def uniform(key: jax.Array, cell: Cell, params: P, scale: float | None = None) -> P:
    """Every array uniform in ±scale, by default ±1/sqrt(hidden_size), as PyTorch initialises RNN, LSTM and GRU."""
    bound = 1 / math.sqrt(_hidden(cell, params)) if scale is None else scale
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    drawn = [jax.random.uniform(k, a.shape, a.dtype, -bound, bound) for k, a in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, drawn)


@inside
def glorot(key: jax.Array, cell: Cell, params: P) -> P:
    """Every matrix that is not recurrent uniform in ±sqrt(6 / (in + out)), gate by gate (Glorot & Bengio 2010).

    Of a kernel, in and out are features times places of the window.
    """
    names = [name for name, w in params._asdict().items() if name not in cell.recurrent and _is_matrix(name, w)]
    draw = jax.nn.initializers.glorot_uniform()
    for name, k in zip(names, jax.random.split(key, max(len(names), 1)), strict=False):
        gates = len(cell.gates) if name.startswith("w_x") else 1
        params = params._replace(**{name: _per_gate(k, gates, getattr(params, name), draw)})
    return params


@inside
def orthogonal(key: jax.Array, cell: Cell, params: P, scale: float = 1.0) -> P:
    """Each gate's block of the recurrent weights orthogonal times `scale` (Saxe, McClelland & Ganguli 2014).

    Of a kernel, the matrix [window times in, out] is, as in Keras.
    """
    draw = jax.nn.initializers.orthogonal(scale)
    names = recurrent_names(cell, params)
    keys = [key] if len(names) == 1 else jax.random.split(key, len(names))
    drawn = {name: _per_gate(k, len(cell.gates), getattr(params, name), draw) for name, k in zip(names, keys)}
    return params._replace(**drawn)


@inside
def diagonal(cell: Cell, params: P) -> P:
    """Each gate's block of the recurrent weights without what is off its diagonal: each unit sees its own past alone."""
    for name in recurrent_names(cell, params):
        w = getattr(params, name)
        if w.ndim != 2 or w.shape[1] != w.shape[0] * len(cell.gates):
            raise ValueError(
                f"{name} of {cell} is {list(w.shape)}; expected {len(cell.gates)} square blocks, one for each gate"
            )
        keep = jnp.tile(jnp.eye(w.shape[0], dtype=w.dtype), (1, len(cell.gates)))
        params = params._replace(**{name: w * keep})
    return params


@inside
def identity(cell: Cell, params: P, scale: float = 1.0) -> P:
    """Each gate's block of the recurrent weights the identity times `scale`, biases zero.

    On a ReLU Elman cell it is the IRNN (Le et al. 2015). Of a kernel, the identity is in the middle of the window.
    """
    for name in recurrent_names(cell, params):
        w = getattr(params, name)
        *window, rows, columns = w.shape
        if columns != rows * len(cell.gates):
            raise ValueError(
                f"{name} of {cell} is {list(w.shape)}, {len(cell.gates)} blocks that are not square; "
                "the identity needs square ones: use orthogonal"
            )
        square = jnp.tile(scale * jnp.eye(rows, dtype=w.dtype), (1, len(cell.gates)))
        middle = tuple((size - 1) // 2 for size in window)
        params = params._replace(**{name: jnp.zeros_like(w).at[middle].set(square) if window else square})
    return params._replace(b=jax.tree.map(jnp.zeros_like, params.b)) if hasattr(params, "b") else params


@inside
def forget_bias(cell: Cell, params: P, value: float = 1.0) -> P:
    """The bias of the gate that keeps the past set to `value` (Gers et al. 2000; Jozefowicz et al. 2015: 1 or 2).

    Where that gate is one minus the input gate (`CoupledLSTM`), the bias of the latter is set to -`value`.
    """
    b = _bias(cell, params)
    if cell.forget_gate is None and cell.input_gate is not None:
        return params._replace(b=_set_gate(cell, b, cell.input_gate, -value))
    return params._replace(b=_set_gate(cell, b, _forget_gate(cell), value))


@inside
def chrono(key: jax.Array, cell: Cell, params: P, longest: float) -> P:
    """Gate biases for memories of 1 to `longest` steps (Tallec & Ollivier 2018): b_f = log U(1, longest - 1), b_i =
    -b_f.

    For a cell with one gate for both, of which the other is one minus it (GRU, `CoupledLSTM`), that one is set.
    """
    if longest <= 2:
        raise ValueError(f"longest is {longest}; expected more than 2 steps, the longest dependency in the data")
    b = _bias(cell, params)
    size = b.shape[-1] // len(cell.gates)
    bias = jnp.log(jax.random.uniform(key, (size,), jnp.float32, 1.0, longest - 1)).astype(b.dtype)
    if cell.input_gate is not None:
        b = _set_gate(cell, b, cell.input_gate, -bias)
        if cell.forget_gate is None:
            return params._replace(b=b)
    return params._replace(b=_set_gate(cell, b, _forget_gate(cell), bias))


@inside
def spectral_radius(cell: Cell, params: P, radius: float) -> P:
    """Each gate's block of the recurrent weights scaled to largest |eigenvalue| = `radius` (Jaeger 2001).

    Not under jit: NumPy's eigenvalues.
    """
    for name in recurrent_names(cell, params):
        w = getattr(params, name)
        if w.ndim > 2:
            raise ValueError(f"{name} of {cell} is {describe(w)}, a kernel; a spectral radius is one of a matrix")
        blocks = np.split(np.asarray(w, np.float64), len(cell.gates), -1)
        if blocks[0].shape[0] != blocks[0].shape[1]:
            raise ValueError(
                f"{name} of {cell} has blocks {list(blocks[0].shape)}; a spectral radius needs square ones"
            )
        largest = [np.abs(np.linalg.eigvals(block)).max() for block in blocks]
        if min(largest) == 0:
            raise ValueError(f"a block of {name} of {cell} has spectral radius 0 and cannot be scaled to {radius}")
        scaled = [block * (radius / size) for block, size in zip(blocks, largest, strict=True)]
        params = params._replace(**{name: jnp.asarray(np.concatenate(scaled, -1), w.dtype)})
    return params


def _parameter(cell: Cell, params: Any, name: str) -> Any:
    """The parameter of that name, which the cell says it has."""
    if not hasattr(params, name):
        fields = getattr(params, "_fields", ())
        has = f" with {', '.join(fields)}" if fields else ""
        raise TypeError(
            f"params is a {type(params).__name__}{has}; {cell} has a {name}: expected those of its init(key)"
        )
    return getattr(params, name)


def recurrent_names(cell: Cell, params: Any) -> tuple[str, ...]:
    """The names of the recurrent weights, which are matrices, or kernels [*window, in, out]."""
    if not cell.recurrent:
        raise ValueError(f"{cell} has no recurrent weights; expected a cell with some, such as LSTM or Elman")
    for name in cell.recurrent:
        w = _parameter(cell, params, name)
        if np.ndim(w) < 2:
            raise ValueError(
                f"{name} of {cell} is {describe(w)}; expected a matrix, as for all that its `recurrent` names"
            )
    return cell.recurrent


def _is_matrix(name: str, w: Any) -> bool:
    """Whether a parameter is a weight [in, out], or a kernel [*window, in, out]; a bias or peephole at each place is none."""
    return getattr(w, "ndim", 0) >= 2 and name.partition("_")[0] not in ("b", "p")


def _hidden(cell: Cell, params: Any) -> int:
    if cell.recurrent:
        return _parameter(cell, params, cell.recurrent[0]).shape[-1] // len(cell.gates)
    return math.prod(feature_shape(cell.output_size))


def _per_gate(key: jax.Array, gates: int, w: jax.Array, draw: Any) -> jax.Array:
    """`draw` for every gate's block of `w`, in float32 (half precision has no QR), then `w`'s dtype."""
    shape = (*w.shape[:-1], w.shape[-1] // gates)
    blocks = [draw(k, shape, at_least_float32(w.dtype)) for k in jax.random.split(key, gates)]
    return jnp.concatenate(blocks, -1).astype(w.dtype)


def _forget_gate(cell: Cell) -> str:
    if cell.forget_gate is None:
        raise ValueError(f"{cell} has no gate that keeps the past; expected a gated cell such as LSTM or GRU")
    return cell.forget_gate


def _bias(cell: Cell, params: Any) -> jax.Array:
    b = _parameter(cell, params, "b")
    if b is None:
        raise ValueError(f"{cell} has no bias to set; expected one made with bias=True")
    return b


def _set_gate(cell: Cell, b: jax.Array, gate: str, value: Any) -> jax.Array:
    size = b.shape[-1] // len(cell.gates)
    start = cell.gates.index(gate) * size
    return b.at[..., start : start + size].set(value)
