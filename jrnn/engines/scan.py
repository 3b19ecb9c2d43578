"""The sequential unroll: one step after the other, everything that can leave the loop outside it."""

import dataclasses
from typing import Any

import jax

from ..cell import Cell
from ..checks import check_positive
from .engine import Engine, Sequence
from .gradient import Gradient, check_gradient
from .solve import LinearSolve


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Scan(Engine):
    """`jax.lax.scan` over time: `project` and `readout` for many times at once outside, `recur` and `update` inside.

    `unroll` steps are laid out in each turn of the loop (see `jax.lax.scan`): larger compiles longer, and may run faster.
    `gradient` says how the loop is differentiated, and with that what it keeps in memory.
    """

    unroll: int = dataclasses.field(default=1, kw_only=True)
    gradient: Gradient = dataclasses.field(default=LinearSolve(), kw_only=True)

    def __post_init__(self) -> None:
        check_positive("Scan", unroll=self.unroll)
        check_gradient("Scan", self.gradient)

    def run(
        self, cell: Cell, params: Any, state: Any, initial: Any, sequence: Sequence, reverse: bool
    ) -> tuple[Any, jax.Array]:
        options = {"reverse": reverse, "unroll": self.unroll}
        state, states = self.gradient.states(cell, params, state, initial, sequence, **options)
        return state, cell.readout(params, states, sequence.xs)
