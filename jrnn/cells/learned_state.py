"""An initial state that is learned."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ..arrays import is_differentiable
from ..cell import Cell
from .wrapper import Wrapper


class LearnedStateParams(NamedTuple):
    cell: Any  # of the cell inside
    state: Any  # a state without batch axes; None for what is not learned; a complex number as [2, ...], real and imaginary


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class LearnedState(Wrapper):
    """A cell whose initial state is a parameter, the same for every row; it starts as the cell's own.

    Gradients flow through it, resets return to it. What of a state has no derivative (a counter, the keys of noise)
    starts as in the cell.
    """

    cell: Cell

    inner_params = "cell"

    def init(self, key: jax.Array) -> LearnedStateParams:
        params = self.cell.init(key)
        if self.takes_context:
            raise TypeError(
                f"{self}: the initial state of a cell with a context may depend on it and cannot be learned"
            )

        def learned(a: jax.Array) -> jax.Array | None:
            if jnp.iscomplexobj(a):
                return jnp.stack([a.real, a.imag])
            return a if is_differentiable(a) else None

        return LearnedStateParams(params, jax.tree.map(learned, self.cell.initial_state(params)))

    def initial_state(
        self, params: LearnedStateParams, batch: tuple[int, ...] = (), key: jax.Array | None = None
    ) -> Any:
        values = iter(jax.tree.leaves(params.state))

        def start(a: jax.Array) -> jax.Array:
            if not is_differentiable(a):
                return a
            value = next(values)
            return jnp.broadcast_to(lax.complex(*value) if jnp.iscomplexobj(a) else value, a.shape)

        return jax.tree.map(start, self.cell.initial_state(params.cell, batch, key))

    def project(self, params: Any, x: jax.Array) -> Any:
        return self.cell.project(self.inside(params), x)

    def recur(self, params: Any, state: Any) -> Any:
        return self.cell.recur(self.inside(params), state)

    def update(self, params: Any, state: Any, z: Any, r: Any) -> Any:
        return self.cell.update(self.inside(params), state, z, r)

    def readout(self, params: Any, state: Any, x: jax.Array) -> Any:
        return self.cell.readout(self.inside(params), state, x)
