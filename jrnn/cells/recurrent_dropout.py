"""Dropout of what a cell sees of its past."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..cell import Cell
from .noise import chosen_each, split_each
from .wrapper import Wrapper, check_rate, divide_key, map_differentiable


class RecurrentDropoutState(NamedTuple):
    cell: Any  # of the cell inside
    key: jax.Array | None  # [*batch] typed keys of the masks; None: no dropout


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class RecurrentDropout(Wrapper):
    """Dropout of the state that `recur` sees: a share `rate` of its entries is zeroed, the rest scaled.

        r_t = recur(params, m s_{t-1} / (1 - rate)),   m ~ Bernoulli(1 - rate)

    One mask a row for all its steps (Gal & Ghahramani 2016), the same for all gates (their tied weights; Keras'
    `recurrent_dropout` draws one for each gate). It follows from the row's key in the state, so that runs in chunks or
    step by step draw the same; a reset does not change it. With `per_step` a new mask at each step.

    `update` gets the state as it is, so no memory is lost: an LSTM's c, a GRU's z h_{t-1} and a CTRNN's leak are not
    dropped. Nor is a product inside `update`: the (r h_{t-1}) W_hn of a GRU with `reset_after=False`, where Keras drops
    h too, or the output layer of a `Jordan`.

    Other places to drop: the inputs, as Gal & Ghahramani do as well (`Dropout(rate, variational=True)`); an LSTM's c,
    with one mask a sequence (Moon et al. 2015, RNNDrop); its candidate g, with one a step (Semeniuta, Severyn & Barth
    2016). Neither of the last two is here.

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
        inside, keys = (key, None) if self.rate == 0 else divide_key(key, batch)
        return RecurrentDropoutState(self.cell.initial_state(params, batch, inside), keys)

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

    def update_with_gates(
        self, params: Any, state: RecurrentDropoutState, z: Any, r: Any
    ) -> tuple[RecurrentDropoutState, dict[str, jax.Array]]:
        key = split_each(state.key)[0] if self.per_step and state.key is not None else state.key
        new, gates = self.cell.update_with_gates(params, state.cell, z, r)
        return RecurrentDropoutState(new, key), gates

    def readout(self, params: Any, state: RecurrentDropoutState, x: jax.Array) -> Any:
        return self.cell.readout(params, state.cell, x)
