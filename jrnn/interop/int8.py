"""int8 weights, for small devices: a quarter of float32's size, and a float state."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..arrays import broadcast_like, copied


class Int8(NamedTuple):
    """A matrix as `values * scale`, one scale for each column."""

    values: jax.Array  # int8 [..., out], within -127..127
    scale: jax.Array  # [out]


def quantize(params: Any) -> Any:
    """Every matrix of `params` as `Int8`: symmetric, one scale per output column, rounded to the nearest; vectors stay float.

    The scale is the column's largest magnitude over 127, so no entry moves by more than half a scale. For any cell, layer or
    model; `dequantize` inside `jit` to run it, or export it: the file then holds the int8 values.

    Raises ValueError where a matrix holds NaN or infinity, TypeError where it is quantised already.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(params, is_leaf=_is_int8)
    return jax.tree.unflatten(structure, [_quantized(jax.tree_util.keystr(path), leaf) for path, leaf in leaves])


def dequantize(params: Any) -> Any:
    """The float parameters that quantised ones stand for, in the dtype that they had; others are left as they are."""
    return jax.tree.map(lambda leaf: _float(leaf) if _is_int8(leaf) else leaf, params, is_leaf=_is_int8)


def _quantized(name: str, leaf: Any) -> Any:
    if _is_int8(leaf):
        raise TypeError(f"params{name} is Int8 already; expected float parameters")
    if jnp.ndim(leaf) < 2 or not jnp.issubdtype(leaf.dtype, jnp.floating):
        return leaf
    w = np.asarray(leaf, np.float64)
    if not np.isfinite(w).all():
        raise ValueError(f"params{name} holds NaN or infinity; expected finite weights")
    largest = np.abs(w).max(axis=tuple(range(w.ndim - 1)))
    scale = np.where(largest > 0, largest / 127, 1).astype(leaf.dtype)
    values = np.clip(np.round(w / scale.astype(np.float64)), -127, 127)
    return Int8(values=copied(values.astype(np.int8)), scale=copied(scale))


def _float(w: Int8) -> jax.Array:
    values = w.values.astype(w.scale.dtype)
    return values * broadcast_like(w.scale, values)


def _is_int8(leaf: Any) -> bool:
    return isinstance(leaf, Int8)
