"""The sequential unroll: one step after the other, everything that can leave the loop outside it."""

import dataclasses
from typing import Any

import jax
from jax import lax

from ..cell import Cell
from ..checks import is_key, positive, select
from .engine import Engine, Sequence


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Scan(Engine):
    """`jax.lax.scan` over time: `project` and `readout` for all times at once outside, `recur` and `update` inside.

    `unroll` steps are laid out in each turn of the loop (see `jax.lax.scan`): larger compiles longer, and may run faster.
    """

    unroll: int = 1

    def __post_init__(self) -> None:
        positive("Scan", unroll=self.unroll)

    def run(self, cell: Cell, params: Any, state: Any, sequence: Sequence, reverse: bool) -> tuple[Any, jax.Array]:
        def body(state: Any, inputs: Any) -> tuple[Any, Any]:
            z, real, restart = inputs
            if restart is not None:
                state = restarted(restart, sequence.initial, state)
            new = cell.update(params, state, z, cell.recur(params, state))
            if real is not None:
                new = select(real, new, state)
            # Without the barrier XLA computes the state twice, once for the carry and once for the stacked outputs.
            new = lax.optimization_barrier(new)
            return new, new

        inputs = (cell.project(params, sequence.xs), sequence.real, sequence.restart)
        state, states = lax.scan(body, state, inputs, reverse=reverse, unroll=self.unroll)
        return state, cell.readout(params, states, sequence.xs)


def restarted(restart: jax.Array, initial: Any, state: Any) -> Any:
    """`initial` where `restart`, else `state`; a noise key, of which `initial` has none, runs on, or the noise would repeat."""
    values = iter(jax.tree.leaves(initial))
    return jax.tree.map(lambda s: s if is_key(s) else select(restart, next(values), s), state)
