"""Zoneout: units that keep their previous value at random."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..arrays import differentiable
from ..cell import Cell
from .noise import chosen_each, split_each
from .wrapper import Wrapper, check_rate, divide_key, map_differentiable


class ZoneoutState(NamedTuple):
    cell: Any  # of the cell inside
    key: jax.Array | None  # [*batch] typed keys of the masks; None: the expectation


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Zoneout(Wrapper):
    """Each unit of the state keeps its previous value with probability `rate`, while there is a key (Krueger et al.
    2017).

        s_t = m s_{t-1} + (1 - m) update(...),   m ~ Bernoulli(rate)

    Without a key, in evaluation, m is `rate` itself, the expectation. `rate` is one for the whole state, or one for each
    of its arrays in their order: (z_h, z_c) for an LSTM, of the state (h, c). Integers and keys in a state take their
    new values. A new mask at each step, as in the paper; with `per_step=False` one a row for all its steps. The masks
    follow from each row's key in the state, so that runs in chunks or step by step draw the same. As in the paper, the
    new h of an LSTM is made of its new c before zoneout.

    The key goes to `initial_state(params, batch, key)`.
    """

    cell: Cell
    rate: float | tuple[float, ...]
    per_step: bool = dataclasses.field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        for rate in self.rate if isinstance(self.rate, tuple) else (self.rate,):
            check_rate("Zoneout", rate)

    def init(self, key: jax.Array) -> Any:
        return self.cell.init(key)

    def initial_state(self, params: Any, batch: tuple[int, ...] = (), key: jax.Array | None = None) -> ZoneoutState:
        inside, keys = divide_key(key, batch)
        state = self.cell.initial_state(params, batch, inside)
        self._rates(state)
        return ZoneoutState(state, keys)

    def project(self, params: Any, x: jax.Array) -> Any:
        return self.cell.project(params, x)

    def recur(self, params: Any, state: ZoneoutState) -> Any:
        return self.cell.recur(params, state.cell)

    def update_with_gates(
        self, params: Any, state: ZoneoutState, z: Any, r: Any
    ) -> tuple[ZoneoutState, dict[str, jax.Array]]:
        new, gates = self.cell.update_with_gates(params, state.cell, z, r)
        key, use = (state.key, state.key) if state.key is None or not self.per_step else split_each(state.key)
        rates = iter(self._rates(new))

        def keep(index: int, old: jax.Array, new: jax.Array) -> jax.Array:
            rate, new = next(rates), jnp.broadcast_to(new, old.shape).astype(old.dtype)
            if use is None:
                return rate * old + (1 - rate) * new
            return jnp.where(chosen_each(use, rate, index, old.shape), old, new)

        return ZoneoutState(map_differentiable(keep, state.cell, new), key), gates

    def readout(self, params: Any, state: ZoneoutState, x: jax.Array) -> Any:
        return self.cell.readout(params, state.cell, x)

    def _rates(self, state: Any) -> tuple[float, ...]:
        """A rate for each array of the inner cell's state."""
        count = len(differentiable(state))
        rates = self.rate if isinstance(self.rate, tuple) else (self.rate,) * count
        if len(rates) != count:
            raise ValueError(
                f"Zoneout: rate has {len(rates)} values; expected one, or one for each of the {count} arrays in the state of "
                f"{self.cell}"
            )
        return rates
