"""Traces that follow each unit by itself: what one unit passes to the others is left out."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ..arrays import differentiable, select, vector, with_differentiable
from ..cell import Cell
from ..engines.system import Steps, System
from ..layers import Recurrent
from .method import Method, Window, contract
from .structure import Structure, immediate, in_blocks, own_factors, per_unit, structure, to_itself

Trace = list[list[jax.Array]]
"""For each leaf of the state and each leaf of the parameters [..., blocks, n], an entry's unit last; [n, *param] where an entry
moves several of the n units."""


class Units(Method[Trace]):
    """The influence of each parameter on the unit that it moves first, for one cell. Abstract.

    Of d s_t / d s_{t-1} what leads from a unit to itself is kept, for each two leaves of the state.
    """

    through_recur: bool
    """Whether the unit's own recurrent weights are a way from it to itself, or `update` alone."""

    def init(self, layer: Any, params: Any, state: Any, key: Any) -> Any:
        found = self._structure(layer)
        cell = layer.cell

        def start(p: list[jax.Array]) -> list[jax.Array]:
            return differentiable(cell.initial_state(with_differentiable(params, p)))

        return immediate(found, start, params)

    def push(self, layer: Any, params: Any, state: Any, trace: Any, dparams: list[jax.Array]) -> jax.Array:
        found, pushed = self._structure(layer), []
        for of_leaf in trace:
            moved = [
                (e * in_blocks(d.astype(e.dtype), found.units)).sum(tuple(range(e.ndim - 1))) if own else contract(e, d)
                for own, e, d in zip(found.own, of_leaf, dparams, strict=True)
            ]
            pushed.append(sum(moved, jnp.zeros(found.units, vector(state).dtype)))
        return jnp.concatenate(pushed)

    def advance(self, layer: Any, params: Any, state: Any, trace: Any, window: Window) -> Any:
        found = self._structure(layer)
        cell = layer.cell
        initial = cell.initial_state(params)
        system = System(cell, params, state, initial, window.xs, window.mask, window.reset, False, 0)
        fresh = None if window.reset is None else self.init(layer, params, initial, None)
        alone = to_itself(cell, params) if self.through_recur else None

        def one(carry: tuple[Any, Trace], at: tuple[Any, Steps]) -> tuple[tuple[Any, Trace], None]:
            (state, trace), (x, now) = carry, at
            before = system.before(state, now)
            kept = trace if now.restart is None else select(now.restart, fresh, trace)
            new = cell.step(params, before, x)[0], _advanced(cell, found, params, alone, before, x, kept)
            return (new if now.mask is None else select(now.mask, new, (before, kept))), None

        steps = window.xs, Steps(None, window.mask, window.reset)
        if window.xs.shape[0] == 1:  # a loop would copy the trace
            return one((state, trace), jax.tree.map(lambda a: a[0], steps))[0][1]
        return lax.scan(one, (state, trace), steps)[0][1]

    def _structure(self, layer: Any) -> Structure:
        if not isinstance(layer, Recurrent):
            raise TypeError(
                f"{self} follows the units of one cell, and is given {layer}; expected Online(Recurrent(cell), {self}) for each "
                "layer of a stack, or RTRL() or UORO() around the whole"
            )
        found = structure(layer.cell)
        if isinstance(found, str):
            raise TypeError(f"{self} cannot follow the units of {layer.cell}: {found}; expected RTRL() or UORO()")
        if self.through_recur and not found.recurrent:
            raise TypeError(
                f"{self} takes a unit's weight to itself from the diagonal of {layer.cell.recurrent}, by which {layer.cell} moves "
                "its units otherwise; expected a cell that names its recurrent weights, or EProp(), RTRL() or UORO()"
            )
        return found


def _advanced(cell: Cell, found: Structure, params: Any, alone: Any, state: Any, x: jax.Array, trace: Trace) -> Trace:
    """The trace after a step from `state`."""

    def step(p: list[jax.Array]) -> list[jax.Array]:
        return differentiable(cell.step(with_differentiable(params, p), state, x)[0])

    factors, made = own_factors(cell, params, alone, state, x), immediate(found, step, params)
    for to, of_leaf in enumerate(made):
        for of_source, kept in zip(factors, trace, strict=True):
            parts = zip(of_leaf, kept, found.own, strict=True)
            of_leaf[:] = [i + per_unit(of_source[to], e, own) for i, e, own in parts]
    return made


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class EProp(Units):
    """Eligibility traces (e-prop, Bellec et al. 2020; on a `CTRNN` those of RFLO, Murray 2019).

    What a parameter did to a unit is followed within `update` alone, not through any recurrent weight.

    L x P floats a row, for L leaves of the state and P parameters. For cells whose `update` is pointwise.
    """

    through_recur = False
