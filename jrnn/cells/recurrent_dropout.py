"""Dropout of what a cell sees of its past."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..cell import Cell
from .wrapper import Wrapper, check_rate, chosen_each, keys_of_rows, map_differentiable, split_each


class RecurrentDropoutState(NamedTuple):
    cell: Any  # of the cell inside
    key: jax.Array | None  # [*batch] typed keys of the masks; None: no dropout


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class RecurrentDropout(Wrapper):
    """Zeroes a share `rate` of the state that `recur` sees, and scales the rest by 1 / (1 - rate), while there is a
    key.

        r_t = recur(params, s_{t-1} m / (1 - rate)),   m ~ Bernoulli(1 - rate)

    One mask a row for all its steps (Gal & Ghahramani 2016), kept as the row's key in the state, so that runs in chunks
    or step by step draw the same; a reset does not change it. With `per_step` a new one at each step. `update` is given
    the state as it is, so the cell's memory is not dropped; a product inside `update` (a GRU with `reset_after=False`)
    is not either, where Keras' `recurrent_dropout` drops its factor too. Gal & Ghahramani also draw a mask for the
    inputs: see `Dropout(rate, variational=True)`.

    The key goes to `initial_state(params, batch, key)`; without one there is no dropout.
    """

    cell: Cell
    rate: float
    per_step: bool = dataclasses.field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rate("RecurrentDropout", self.rate)

    def init(self, key: jax.Array) -> Any:
        return self.cell.init(key)

    def initial_state(
        self, params: Any, batch: tuple[int, ...] = (), key: jax.Array | None = None
    ) -> RecurrentDropoutState:
        if key is None or self.rate == 0:
            return RecurrentDropoutState(self.cell.initial_state(params, batch, key), None)
        keys = keys_of_rows(jax.random.fold_in(key, 1), batch)
        return RecurrentDropoutState(self.cell.initial_state(params, batch, jax.random.fold_in(key, 0)), keys)

    def project(self, params: Any, x: jax.Array) -> Any:
        return self.cell.project(params, x)

    def recur(self, params: Any, state: RecurrentDropoutState) -> Any:
        if state.key is None:
            return self.cell.recur(params, state.cell)
        keys = split_each(state.key)[1] if self.per_step else state.key

        def drop(index: int, a: jax.Array) -> jax.Array:
            kept = chosen_each(keys, 1 - self.rate, index, a.shape)
            return jnp.where(kept, a / (1 - self.rate), jnp.zeros_like(a))

        return self.cell.recur(params, map_differentiable(drop, state.cell))

    def update(self, params: Any, state: RecurrentDropoutState, z: Any, r: Any) -> RecurrentDropoutState:
        key = split_each(state.key)[0] if self.per_step and state.key is not None else state.key
        return RecurrentDropoutState(self.cell.update(params, state.cell, z, r), key)

    def readout(self, params: Any, state: RecurrentDropoutState, x: jax.Array) -> Any:
        return self.cell.readout(params, state.cell, x)
