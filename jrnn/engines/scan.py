"""The sequential unroll: one step after the other, everything that can leave the loop outside it."""

import dataclasses
from typing import Any

import jax

from ..checks import check_positive
from ..xla import on_cpu
from .engine import Engine
from .gradient import Gradient, check_gradient
from .linear_solve import LinearSolve
from .system import System


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Scan(Engine):
    """`jax.lax.scan` over time: `project` and `readout` for many times at once outside, `recur` and `update` inside.

    `unroll`: steps per iteration, as in `jax.lax.scan`: more compile longer, and may run faster. None: 1 on a CPU, 8
    elsewhere, where a loop's cost is the launch of its kernels. `gradient` says how the loop is differentiated, and
    with that what it keeps in memory.
    """

    unroll: int | None = dataclasses.field(default=None, kw_only=True)
    gradient: Gradient = dataclasses.field(default=LinearSolve(), kw_only=True)

    def __post_init__(self) -> None:
        if self.unroll is not None:
            check_positive("Scan", unroll=self.unroll)
        check_gradient("Scan", self.gradient)

    def run(self, system: System) -> tuple[Any, Any]:
        return self.gradient.states(system, unroll=self.unroll or (1 if on_cpu() else 8))
