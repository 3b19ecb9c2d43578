"""The derivative of a loop in the least memory: most states are forgotten and computed again."""

import dataclasses
import math
from typing import Any

import jax

from ..checks import check_positive
from ..xla.choices import dividing
from .gradient import Gradient, check_gradient
from .linear_solve import LinearSolve
from .system import System
from .tiles import tiled


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Checkpointed(Gradient):
    """Only every `every`-th state is kept, and the steps between are run again for the derivative (Chen et al. 2016).

    The memory that the derivative takes, beyond inputs, outputs and their gradients, grows as time / every + every.
    `every` None: the largest divisor of time in [sqrt(time), 2 sqrt(time)], else about 2 sqrt(time). It costs one more
    forward pass. `gradient` differentiates the steps between. Where the number of steps is symbolic (export), all of
    them are one part.
    """

    every: int | None = None
    gradient: Gradient = dataclasses.field(default=LinearSolve(), kw_only=True)

    def __post_init__(self) -> None:
        if self.every is not None:
            check_positive("Checkpointed", every=self.every)
        check_gradient("Checkpointed", self.gradient)

    def states(self, system: System, *, unroll: int) -> tuple[Any, Any]:
        time = system.xs.shape[0]
        every = self.every
        if every is None and isinstance(time, int):
            every = dividing(time, 2 * math.isqrt(time - 1) + 1)
        return tiled(jax.checkpoint(lambda part: self.gradient.states(part, unroll=unroll)), system, every)
