"""Meshes with explicit axes, `jax.make_mesh`'s default.

Inside a call the compiler divides the work; its results are placed explicitly.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AxisType, PartitionSpec, auto_axes


def is_explicit(tree: Any) -> bool:
    """Whether an array is divided along an explicit axis of a mesh."""
    return any(
        any(axis is not None for axis in spec) and explicit for spec, explicit in map(_placed, jax.tree.leaves(tree))
    )


def _placed(leaf: Any) -> tuple[Any, bool]:
    sharding = jax.typeof(leaf).sharding
    return sharding.spec, AxisType.Explicit in sharding.mesh.axis_types


def run_with_auto_axes(
    f: Callable[..., tuple[Any, Any]], xs: Any, axes: int, *arguments: Any, time: bool
) -> tuple[Any, Any]:
    """`f(xs, *arguments) -> (state, outputs)` where the compiler divides all explicit axes of the mesh, as it does
    automatic ones.

    The results are placed as the first `axes` axes of `xs` are, time and batch: states without time, outputs with it if
    `time`. A loop written for explicit axes would have to say of each of its intermediates where it lies, weights of
    cells not known here included.
    """
    example = next(leaf for leaf in jax.tree.leaves((xs, arguments)) if is_explicit(leaf))
    mesh = jax.typeof(example).sharding.mesh
    names = tuple(
        name for name, kind in zip(mesh.axis_names, mesh.axis_types, strict=True) if kind == AxisType.Explicit
    )
    leaf = jax.tree.leaves(xs)[0]
    lead = tuple(jax.typeof(leaf).sharding.spec[:axes])
    rows, batch = PartitionSpec(*lead[1:]), leaf.shape[1:axes]
    here = jax.sharding.get_abstract_mesh()
    inside = jax.sharding.use_abstract_mesh(mesh) if here.empty else contextlib.nullcontext()

    def shapes(tree: Any) -> Any:
        return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), tree)

    with inside:
        state, outputs = jax.eval_shape(f, *shapes((xs, *arguments)))
        placed = (
            jax.tree.map(lambda a: rows if a.shape[: len(batch)] == batch else PartitionSpec(), state),
            jax.tree.map(lambda a: PartitionSpec(*lead) if time else rows, outputs),
        )
        run: Any = auto_axes(f, axes=names, out_sharding=placed)
        return run(xs, *arguments)
