"""Recurrent: a cell over time."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ..arrays import select
from ..cell import Cell
from ..checks import check_input, check_params
from ..engines import Engine, Scan
from ..segments import step_mask
from ..unroll import unroll
from .base import Layer, _at, _first_step, _last_step


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Recurrent(Layer):
    """A cell unrolled over time; its parameters and state are the cell's own."""

    cell: Cell
    reverse: bool = dataclasses.field(default=False, kw_only=True)
    engine: Engine = dataclasses.field(default=Scan(), kw_only=True)

    @property
    def input_size(self) -> int:
        return self.cell.input_size

    @property
    def output_size(self) -> int:
        return self.cell.output_size

    def init(self, key: jax.Array) -> Any:
        return self.cell.init(key)

    def initial_state(self, params: Any, batch: tuple[int, ...] = (), key: jax.Array | None = None) -> Any:
        return self.cell.initial_state(params, batch, key)

    def apply(self, params, xs, state=None, *, lengths=None, mask=None, reset=None, key=None):
        if state is None and key is not None:
            check_input(self.cell, xs, check_params(self.cell, params), "xs", time=True)
            state = self.cell.initial_state(params, xs.shape[1:-1], key)
        return unroll(
            self.cell,
            params,
            xs,
            state,
            lengths=lengths,
            mask=mask,
            reset=reset,
            reverse=self.reverse,
            engine=self.engine,
        )

    def ends(self, ys, real):
        return _at(_first_step if self.reverse else _last_step, ys, real)

    def last(self, params, xs, state=None, *, lengths=None, mask=None, reset=None, key=None):
        state, _ = self.apply(params, xs, state, lengths=lengths, mask=mask, reset=reset, key=key)
        real = step_mask(lengths, mask, xs.shape[:-1])
        y = self.cell.readout(params, state, self.ends(xs, real))
        return state, y if real is None else select(real.any(0), y, jnp.zeros_like(y))

    def step(self, params, state, x, *, key=None):
        if self.reverse:
            raise TypeError(f"{self} runs from the last step to the first and cannot be streamed; use apply")
        return self.cell.step(params, state, x)
