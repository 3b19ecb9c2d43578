"""What an engine is: a way to run and differentiate the loop. Every engine returns the same numbers."""

import abc
from typing import Any, NamedTuple

import jax

from ..cell import Cell


class Sequence(NamedTuple):
    """What an engine is given, checked and normalised by `unroll`."""

    xs: jax.Array  # [time, *batch, input]; zero where padded
    real: jax.Array | None  # bool [time, *batch]: False leaves the state alone; None: all real
    restart: (
        jax.Array | None
    )  # bool [time, *batch]: put `initial` back before the step is taken, in the loop's own order
    initial: Any  # a state: what `restart` puts back


class Engine(abc.ABC):
    """How the loop is run. A frozen dataclass registered with `jax.tree_util.register_static`."""

    @abc.abstractmethod
    def run(self, cell: Cell, params: Any, state: Any, sequence: Sequence, reverse: bool) -> tuple[Any, jax.Array]:
        """The final state and the outputs [time, *batch, output], in input order."""
