"""What an engine is: a way to run and differentiate the loop. Every engine returns the same numbers."""

import abc
from typing import Any, NamedTuple

import jax

from ..cell import Cell
from ..checks import is_key, select


class Sequence(NamedTuple):
    """What an engine is given, checked and normalised by `unroll`."""

    xs: jax.Array  # [time, *batch, input]; zero where padded
    real: jax.Array | None  # bool [time, *batch]: False leaves the state alone; None: all real
    restart: (
        jax.Array | None
    )  # bool [time, *batch]: put `initial` back before the step is taken, in the loop's own order


class Engine(abc.ABC):
    """How the loop is run. A frozen dataclass registered with `jax.tree_util.register_static`."""

    @abc.abstractmethod
    def run(
        self, cell: Cell, params: Any, state: Any, initial: Any, sequence: Sequence, reverse: bool
    ) -> tuple[Any, jax.Array]:
        """The final state and the outputs [time, *batch, output], in input order; `initial` is what a restart puts back."""


class Steps(NamedTuple):
    """What the loop reads; leaves [time, *batch, ...], or [*batch, ...] for one step."""

    z: Any  # project(params, x)
    real: jax.Array | None  # as in Sequence
    restart: jax.Array | None


def move(cell: Cell, params: Any, state: Any, initial: Any, steps: Steps) -> Any:
    """The state after a step, from the one before it; like the pieces of a cell it serves one step and all at once."""
    state = restarted(state, initial, steps)
    new = cell.update(params, state, steps.z, cell.recur(params, state))
    return new if steps.real is None else select(steps.real, new, state)


def restarted(state: Any, initial: Any, steps: Steps) -> Any:
    """`initial` where a step restarts; a noise key, of which `initial` has none, runs on, or the noise would repeat."""
    if steps.restart is None:
        return state
    restart, values = steps.restart, iter(jax.tree.leaves(initial))
    return jax.tree.map(lambda s: s if is_key(s) else select(restart, next(values), s), state)
