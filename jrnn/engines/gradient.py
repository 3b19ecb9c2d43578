"""How a loop is differentiated: what a way to do it is, JAX's own, and the plain loop that all of them run."""

import abc
import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ..arrays import by_rows, cast_like, halves_to_float32, select
from ..cell import Cell, updated
from . import loops
from .engine import Sequence, Steps, restarted
from .inside import Inside, once
from .programs import accumulated, uncut


class Gradient(abc.ABC):
    """A way to differentiate the sequential loop. Each gives the same derivatives, up to rounding."""

    @abc.abstractmethod
    def states(
        self, cell: Cell, params: Any, state: Any, initial: Any, sequence: Sequence, *, reverse: bool, unroll: int
    ) -> tuple[Any, Any]:
        """The final state and the states after every step, leaves [time, *batch, ...]."""


def check_gradient(owner: str, gradient: Any) -> None:
    """TypeError where it is none."""
    if not isinstance(gradient, Gradient):
        raise TypeError(f"{owner}: gradient is {gradient!r}; expected LinearSolve(), Checkpointed() or Autodiff()")


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Autodiff(Gradient):
    """JAX's own differentiation of `lax.scan`: every intermediate of every step is kept."""

    def states(self, cell, params, state, initial, sequence, *, reverse, unroll):
        steps = Steps(projected(cell, params, sequence.xs), sequence.real, sequence.restart)
        state, (states, _) = substitute(cell, params, state, initial, steps, reverse=reverse, unroll=unroll)
        return state, states


def project(cell: Cell, params: Any, xs: jax.Array) -> Any:
    """z at all times."""
    return by_rows(functools.partial(cell.project, params), xs.ndim - 1, xs)


def projected(cell: Cell, params: Any, xs: jax.Array) -> Any:
    """The same, and 16-bit floats multiplied as what is fast."""
    return accumulated(functools.partial(project, cell), params, xs)


def read_late(cell: Cell, params: Any, xs: jax.Array) -> tuple[Any, Callable[[Any], Any]]:
    """`(stacks, read)`: `read` makes z at t from `stacks` at t, for a loop that is not differentiated.

    Where `project` splits what it returns (gates), a step reads each piece from the stack of the whole. Split before the loop,
    all would be written once more; split after the step is read, XLA's CPU backend does not vectorise what follows.
    """
    cut: Any = None

    def project_whole(xs: jax.Array) -> list[jax.Array]:
        nonlocal cut
        wholes, cut = uncut(cell.project, params, xs)
        return wholes

    wholes = by_rows(project_whole, xs.ndim - 1, xs)

    def read(stacks: tuple[jax.Array, list[jax.Array]]) -> Any:
        time, now = stacks

        def piece(whole: tuple[jax.Array, jax.Array], start: int, size: int | None) -> jax.Array:
            stack, row = whole
            if size is None:
                return row
            corner = (time, *[0] * (stack.ndim - 2), start)
            return lax.dynamic_slice(stack, corner, (1, *stack.shape[1:-1], size))[0]

        return cut(list(zip(wholes, now, strict=True)), piece)

    return (jnp.arange(xs.shape[0]), wholes), read


class Made(NamedTuple):
    """What a step makes on the way to the new state; where nobody reads it, it is not kept."""

    r: Any  # recur(params, state)
    inside: Inside  # of `update`


def substitute(
    cell: Cell,
    params: Any,
    state: Any,
    initial: Any,
    steps: Steps,
    *,
    reverse: bool,
    unroll: int,
    read: Callable[[Any], Any] = lambda z: z,
) -> tuple[Any, tuple[Any, Made]]:
    """The plain loop: the final state, and after every step the state and what was made on the way to it.

    A step's z is `read(steps.z)`.

    16-bit floats are stacked as float32: up to jax 0.10, XLA's CPU backend converts a whole stack of them at every step.
    """

    types = None

    def body(fixed: Any, state: Any, step: Steps) -> tuple[Any, tuple[Any, Made]]:
        nonlocal types
        params, initial = fixed
        state = restarted(state, initial, step)
        z, r = read(step.z), cell.recur(params, state)
        new, inside = stepped(cell, params, state, z, r)
        # Without the barrier XLA computes the state twice, once for the carry and once for the stacked states.
        new = lax.optimization_barrier(new if step.real is None else select(step.real, new, state))
        types = jax.tree.map(jax.typeof, (new, Made(r, inside)))
        return new, halves_to_float32((new, Made(r, inside)))

    state, stacked = loops.scan(body, (params, initial), state, steps, reverse=reverse, unroll=unroll)
    return state, cast_like(stacked, types)


def stepped(cell: Cell, params: Any, state: Any, z: Any, r: Any, known: Any = None) -> tuple[Any, Inside]:
    """The new state, and what is inside its `update`; `known`: that, where it has been computed before."""
    return once(functools.partial(updated, cell), params, state, z, r, known)


def dividing(time: int, most: int) -> int:
    """How many steps to take at once, at most `most`: rather a little fewer than a shorter rest, which is compiled apart."""
    return next((n for n in range(most, most // 2, -1) if time % n == 0), most)


def tiled(
    run: Callable[[Any, Sequence], tuple[Any, Any]], state: Any, sequence: Sequence, tile: int | None, *, reverse: bool
) -> tuple[Any, Any]:
    """`run(state, part)` over parts of `tile` steps (None: all), in a loop, and over the shorter rest; states as in one run."""
    if tile is None or sequence.xs.shape[0] < 2 * tile:
        return run(state, sequence)
    whole = sequence.xs.shape[0] // tile * tile

    def wide_part(state: Any, part: Sequence) -> tuple[Any, Any]:  # see `substitute`
        state, states = run(state, part)
        return state, halves_to_float32(states)

    def loop(state: Any) -> tuple[Any, Any]:
        parts = jax.tree.map(lambda a: a[:whole].reshape(whole // tile, tile, *a.shape[1:]), sequence)
        final, states = lax.scan(wide_part, state, parts, reverse=reverse)
        return final, cast_like(jax.tree.map(lambda a: a.reshape(whole, *a.shape[2:]), states), state)

    if whole == sequence.xs.shape[0]:
        return loop(state)
    rest = jax.tree.map(lambda a: a[whole:], sequence)
    first, second = (lambda s: run(s, rest), loop) if reverse else (loop, lambda s: run(s, rest))
    state, before = first(state)
    state, after = second(state)
    pair = (after, before) if reverse else (before, after)
    return state, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), *pair)
