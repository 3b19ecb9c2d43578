"""An initial state that is learned."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ..arrays import differentiable, is_differentiable, with_differentiable
from ..cell import Cell
from .wrapper import Wrapper


class LearnedStateParams(NamedTuple):
    cell: Any  # of the cell inside
    state: Any  # a state without batch axes; None where it is not learned; complex numbers as [2, ...], real and imaginary part


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class LearnedState(Wrapper):
    """A cell whose initial state is a parameter, the same for every row.

        s_0 = params.state

    It starts as the cell's own. Gradients flow through it, resets return to it. Leaves of the state without a
    derivative (a counter, the keys of noise) are not learned: the cell makes them.
    """

    cell: Cell

    inner_params = "cell"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.takes_context:
            raise TypeError(
                f"LearnedState: {self.cell} takes a context; expected a cell without one: an initial state that depends on "
                "a context cannot be a parameter"
            )

    def init(self, key: jax.Array) -> LearnedStateParams:
        params = self.cell.init(key)

        def learned(a: jax.Array) -> jax.Array | None:
            if jnp.iscomplexobj(a):
                return jnp.stack([a.real, a.imag])
            return a if is_differentiable(a) else None

        return LearnedStateParams(params, jax.tree.map(learned, self.cell.initial_state(params)))

    def initial_state(
        self, params: LearnedStateParams, batch: tuple[int, ...] = (), key: jax.Array | None = None
    ) -> Any:
        state = self.cell.initial_state(params.cell, batch, key)

        def start(own: jax.Array, learned: jax.Array) -> jax.Array:
            value = learned.astype(own.real.dtype)
            value = lax.complex(*value) if jnp.iscomplexobj(own) else value
            return jnp.copy(jnp.broadcast_to(value, own.shape))  # a state may be donated, a parameter not with it

        values = map(start, differentiable(state), jax.tree.leaves(params.state))
        return with_differentiable(state, list(values))

    def project(self, params: LearnedStateParams, x: jax.Array) -> Any:
        return self.cell.project(params.cell, x)

    def recur(self, params: LearnedStateParams, state: Any) -> Any:
        return self.cell.recur(params.cell, state)

    def update_with_gates(
        self, params: LearnedStateParams, state: Any, z: Any, r: Any
    ) -> tuple[Any, dict[str, jax.Array]]:
        return self.cell.update_with_gates(params.cell, state, z, r)

    def readout(self, params: LearnedStateParams, state: Any, x: jax.Array) -> Any:
        return self.cell.readout(params.cell, state, x)
