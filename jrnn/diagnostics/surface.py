"""The loss around a point in the space of parameters."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ..checks import check_positive, describe


def surface(loss: Callable[[Any], Any], params: Any, directions: Sequence[Any], *grids: Any, at_once: int = 64) -> Any:
    """`loss(params + a first + b second)` for every a and b of two grids, or of any number of grids, one for each direction.

    Args:
      loss: of the parameters; a number, or a tree of arrays: `jax.value_and_grad(loss)` has the slopes too.
      params: the origin.
      directions: trees like `params`: 1 for one weight and 0 for all others, say, or random numbers of the size of the weights.
      grids: how far to go along each direction, 1-D arrays.
      at_once: how many points are computed side by side.

    Returns arrays [len(grids[0]), len(grids[1]), ...].
    """
    check_positive("surface", at_once=at_once)
    grids = tuple(map(jnp.asarray, grids))
    if not grids or len(directions) != len(grids) or any(grid.ndim != 1 for grid in grids):
        raise ValueError(
            f"directions is {len(directions)} trees and grids are {', '.join(map(describe, grids)) or 'none'}; expected a 1-D grid "
            "for each direction"
        )
    for place, direction in enumerate(directions):
        if jax.tree.map(jnp.shape, direction) != jax.tree.map(jnp.shape, params):
            raise ValueError(
                f"directions[{place}] is {jax.tree.map(describe, direction)}; expected a tree like params: "
                f"{jax.tree.map(describe, params)}"
            )
    places = jnp.stack([grid.ravel() for grid in jnp.meshgrid(*grids, indexing="ij")], -1)

    def at(steps: jax.Array) -> Any:
        def move(origin: jax.Array, *along: jax.Array) -> jax.Array:
            moved = origin
            for step, direction in zip(steps, along, strict=True):
                moved = moved + step.astype(moved.dtype) * jnp.asarray(direction, moved.dtype)
            return moved

        return loss(jax.tree.map(move, jax.tree.map(jnp.asarray, params), *directions))

    found = jax.lax.map(at, places, batch_size=at_once)
    return jax.tree.map(lambda a: a.reshape(*(grid.size for grid in grids), *a.shape[1:]), found)
