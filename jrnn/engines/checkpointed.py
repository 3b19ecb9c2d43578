"""The derivative of a loop in the least memory: most states are forgotten and computed again."""

import dataclasses
import math
from typing import Any

import jax

from ..checks import check_positive
from .engine import Sequence
from .gradient import Gradient, check_gradient, dividing, tiled
from .solve import LinearSolve


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Checkpointed(Gradient):
    """Only every `every`-th state is kept, and the steps between are run again for the derivative (Chen et al. 2016).

    The memory that the derivative takes, beyond inputs, outputs and their gradients, grows as time / every + every: with the
    square root of time where `every` is None, which takes the largest divisor of time between that root and twice it, or
    about twice it where there is none. It costs one more forward pass. `gradient` differentiates the steps between.
    """

    every: int | None = None
    gradient: Gradient = dataclasses.field(default=LinearSolve(), kw_only=True)

    def __post_init__(self) -> None:
        if self.every is not None:
            check_positive("Checkpointed", every=self.every)
        check_gradient("Checkpointed", self.gradient)

    def states(self, cell, params, state, initial, sequence, *, reverse, unroll):
        @jax.checkpoint
        def part(params: Any, state: Any, initial: Any, sequence: Sequence) -> tuple[Any, Any]:
            return self.gradient.states(cell, params, state, initial, sequence, reverse=reverse, unroll=unroll)

        time = sequence.xs.shape[0]
        every = self.every or dividing(time, 2 * math.isqrt(time - 1) + 1)
        return tiled(lambda s, q: part(params, s, initial, q), state, sequence, every, reverse=reverse)
