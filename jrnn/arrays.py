"""Array helpers: broadcasting over leading axes, dtypes, the leaves of a tree that have a derivative, also as one vector."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def copied(tree: Any) -> Any:
    """JAX arrays that share no memory with those of `tree`, which may be NumPy's.

    Nothing is compiled, where `jnp.array` compiles a program for each shape: 13 ms for each weight of a model (jax 0.10, 0.12).
    """

    def one(leaf: Any) -> jax.Array:
        # Of a NumPy array `device_put` is a view on a CPU, whatever `may_alias` says.
        return jax.device_put(leaf, may_alias=False) if isinstance(leaf, jax.Array) else jax.device_put(np.array(leaf))

    return jax.tree.map(one, tree)


def broadcast_like(vector: jax.Array, like: jax.Array) -> jax.Array:
    """`vector` [features] repeated over the leading axes of `like` [..., features]."""
    return jnp.broadcast_to(vector, like.shape)


def feature_shape(size: Any) -> tuple[Any, ...]:
    """The feature axes that a size stands for: one, or several where it is a tuple."""
    return size if isinstance(size, tuple) else (size,)


def affine(x: jax.Array, w: jax.Array, b: jax.Array | None) -> jax.Array:
    """`x @ w + b` with `x` [..., in], `w` [in, out], `b` [out] or None."""
    return add_bias(x @ w, b)


def add_bias(x: jax.Array, b: jax.Array | None) -> jax.Array:
    """`x + b` with `x` [..., features], `b` [features] or None."""
    return x if b is None else x + broadcast_like(b, x)


def select(condition: jax.Array, yes: Any, no: Any) -> Any:
    """Leaf by leaf `where`, `condition` [*batch] against leaves [*batch, ...]: NaN in what is not selected does not leak."""

    def one(a: jax.Array, b: jax.Array) -> jax.Array:
        rank = max(a.ndim, b.ndim)
        shape = jnp.broadcast_shapes(a.shape, b.shape)
        where = jnp.broadcast_to(condition.reshape(condition.shape + (1,) * (rank - condition.ndim)), shape)
        return jnp.where(where, jnp.broadcast_to(a, shape), jnp.broadcast_to(b, shape))

    return jax.tree.map(one, yes, no)


def select_values(condition: jax.Array, yes: Any, no: Any) -> Any:
    """`select` between two states, where typed keys stay those of `no`; `yes` may have none."""
    values = iter([leaf for leaf in jax.tree.leaves(yes) if not is_key(leaf)])
    return jax.tree.map(lambda a: a if is_key(a) else select(condition, next(values), a), no)


def by_rows(f: Callable[..., Any], batch_axes: int, *axes: int | None) -> Callable[..., Any]:
    """`f` of one row, mapped over the batch axes, the first of which is at `axes` in each argument; None: it has none."""
    for _ in range(batch_axes):
        f = jax.vmap(f, in_axes=axes)
    return f


def at_least_float32(dtype: Any) -> np.dtype:
    """`dtype`, or float32 where it is of half precision."""
    return np.promote_types(dtype, np.float32)


def is_half(dtype: Any) -> bool:
    """Whether it is a 16-bit float."""
    return jnp.issubdtype(dtype, jnp.floating) and jnp.dtype(dtype).itemsize == 2


def widened(integers: jax.Array) -> jax.Array:
    """As int32 at least: 8 and 16 bits do not hold every number that such integers are compared with, as 256 classes in uint8."""
    return integers if integers.dtype.itemsize >= 4 else integers.astype(jnp.int32)


def halves_to_float32(tree: Any) -> Any:
    """The same, with 16-bit floats as float32."""
    return jax.tree.map(lambda a: a.astype(jnp.float32) if is_half(a.dtype) else a, tree)


def cast_like(tree: Any, examples: Any) -> Any:
    """The same, in the dtypes of `examples`."""
    return jax.tree.map(lambda a, to: a if a.dtype == to.dtype else a.astype(to.dtype), tree, examples)


def is_key(leaf: Any) -> bool:
    """Whether a leaf holds typed PRNG keys."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def is_differentiable(leaf: Any) -> bool:
    """Whether a leaf has a derivative: real and complex floats have, integers and keys have none."""
    return jnp.issubdtype(leaf.dtype, jnp.inexact)


def differentiable(tree: Any) -> list[Any]:
    """The leaves that have a derivative."""
    return [leaf for leaf in jax.tree.leaves(tree) if is_differentiable(leaf)]


def with_differentiable(tree: Any, values: list[Any]) -> Any:
    """`tree` with the leaves that have a derivative replaced, in their order."""
    remaining = iter(values)
    return jax.tree.map(lambda a: next(remaining) if is_differentiable(a) else a, tree)


def vector(tree: Any) -> jax.Array:
    """The numbers of a tree that have a derivative, one after the other: [n], in float32 at least.

    A complex number is two, its real and its imaginary part (of an array all real parts come first). Integers, booleans and
    keys have no place in it.
    """
    parts = [part for leaf in differentiable(tree) for part in _real_parts(leaf)]
    dtype = max((at_least_float32(part.dtype) for part in parts), key=lambda kind: kind.itemsize, default=np.float32)
    return jnp.concatenate([jnp.zeros(0, dtype), *(part.ravel().astype(dtype) for part in parts)])


def with_vector(tree: Any, v: jax.Array) -> Any:
    """`tree` with its numbers taken from `v` [n], as `vector` has them, in its own dtypes; the rest stays."""
    made, start = [], 0
    for leaf in differentiable(tree):
        parts = []
        for part in jax.eval_shape(_real_parts, leaf):
            parts.append(v[start : start + part.size].reshape(part.shape).astype(part.dtype))
            start += part.size
        made.append(lax.complex(*parts) if len(parts) == 2 else parts[0])
    return with_differentiable(tree, made)


def _real_parts(leaf: jax.Array) -> list[jax.Array]:
    return [leaf.real, leaf.imag] if jnp.iscomplexobj(leaf) else [leaf]


def length_and_unit(values: list[jax.Array], axes: int) -> tuple[jax.Array, list[jax.Array]]:
    """The length [*batch] of each row's values, and the values divided by it; zeros where it is 0.

    Divided by the largest first: the square of 1e-23, to which a gradient soon falls, is 0 in float32.
    """
    wide = [a.astype(at_least_float32(a.dtype)) for a in values]
    largest = functools.reduce(jnp.maximum, (jnp.abs(a).max(range(axes, a.ndim), initial=0) for a in wide))
    scaled = [_divided(a, largest) for a in wide]
    relative = length(scaled, axes)
    return relative * largest, [_divided(a, relative).astype(b.dtype) for a, b in zip(scaled, values)]


def length(values: list[jax.Array], axes: int) -> jax.Array:
    """The length [*batch] of each row's values; the derivative is 0 where it is."""
    wide = [a.astype(at_least_float32(a.dtype)) for a in values]
    squares = sum(jnp.square(jnp.abs(a)).sum(range(axes, a.ndim)) for a in wide)
    some = squares > 0
    return jnp.where(some, jnp.sqrt(jnp.where(some, squares, jnp.ones_like(squares))), jnp.zeros_like(squares))


def _divided(a: jax.Array, by: jax.Array) -> jax.Array:
    """a [*batch, ...] / by [*batch], 0 where that is 0."""
    by = jnp.broadcast_to(by.reshape(*by.shape, *(1,) * (a.ndim - by.ndim)), a.shape)
    return jnp.where(by > 0, a / jnp.where(by > 0, by, jnp.ones_like(by)).astype(a.dtype), jnp.zeros_like(a))


def match_varying_axes(*trees: Any) -> tuple[Any, ...]:
    """Mark every array as varying over each mesh axis that any of them varies over.

    Inside `jax.shard_map` a scan's carry must vary alike at both ends, and a parameter that meets varying data inside
    the loop would have its gradient summed over devices once per step; marked here, it is summed once. Elsewhere:
    no-op.
    """
    axes = frozenset().union(*(jax.typeof(leaf).manual_axis_type.varying for leaf in jax.tree.leaves(trees)))

    def cast(leaf: Any) -> Any:
        missing = tuple(sorted(axes - jax.typeof(leaf).manual_axis_type.varying))
        return lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(cast, trees) if axes else trees
