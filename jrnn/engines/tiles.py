"""A sequence in tiles of time, so that what is made of one at a time stays small."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ..arrays import cast_like
from ..xla.loops import stackable
from .system import System


def tiled(run: Callable[[System], tuple[Any, Any]], system: System, tile: int | None) -> tuple[Any, Any]:
    """`run` over tiles of `tile` steps, in a loop, and over the shorter rest: final state and states as in one run.

    All at once where `tile` is None, where the sequence has fewer than two tiles, and where the number of steps is
    symbolic.
    """
    time = system.xs.shape[0]
    if tile is None or not isinstance(time, int) or time < 2 * tile:
        return run(system)
    whole = time // tile * tile
    sequence = system.xs, system.mask, system.restart

    def part(state: Any, sequence: Any) -> System:
        xs, mask, restart = sequence
        return dataclasses.replace(system, state=state, xs=xs, mask=mask, restart=restart)

    def one(state: Any, sequence: Any) -> tuple[Any, Any]:
        state, states = run(part(state, sequence))
        return state, stackable(states)

    def tiles(state: Any) -> tuple[Any, Any]:
        parts = jax.tree.map(lambda a: a[:whole].reshape(whole // tile, tile, *a.shape[1:]), sequence)
        final, states = lax.scan(one, state, parts, reverse=system.reverse)
        return final, cast_like(jax.tree.map(lambda a: a.reshape(whole, *a.shape[2:]), states), state)

    def rest(state: Any) -> tuple[Any, Any]:
        return run(part(state, jax.tree.map(lambda a: a[whole:], sequence)))

    if whole == time:
        return tiles(system.state)
    first, second = (rest, tiles) if system.reverse else (tiles, rest)
    state, before = first(system.state)
    state, after = second(state)
    pair = (after, before) if system.reverse else (before, after)
    return state, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), *pair)
