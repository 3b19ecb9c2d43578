"""A cell whose weights obey something."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from ..cell import Bound, Cell
from ..checks import check_params, describe
from ..parametrizations import Parametrization
from .wrapper import Wrapper


class Made(NamedTuple):
    """Parameters that a parametrization has made, as the cell inside takes them."""

    params: Any


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Parametrized(Wrapper):
    """A cell whose parameters are made of raw ones, which are learned.

        params = parametrization(cell, raw)

    `parametrization` is one of `jrnn.parametrizations`, or any function `(cell, params) -> params` that changes no shape. Raw
    parameters look like those of the cell inside. They are made into its own once for a whole run, outside of the loop,
    whatever the engine, and once in `step`; gradients are those of the raw ones.

        cell = jrnn.Parametrized(jrnn.CTRNN(3, 100, activation="relu"), jrnn.parametrizations.DalesLaw(0.8))
        params = cell.init(key)
        weights = cell.made(params).w_h  # what the cell computes with: of the same network without the wrapper, cell.cell
    """

    cell: Cell
    parametrization: Callable[[Cell, Any], Any]

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.parametrization, type) or not callable(self.parametrization):
            raise TypeError(
                f"Parametrized: parametrization is {describe(self.parametrization)}; expected a function (cell, params) -> "
                "params, such as jrnn.parametrizations.DalesLaw(0.8)"
            )

    def init(self, key: jax.Array) -> Any:
        params = self.cell.init(key)
        if isinstance(self.parametrization, Parametrization):
            return self.parametrization.start(self.cell, params)
        return params

    def made(self, params: Any) -> Any:
        """The parameters of the cell inside, from raw ones."""
        made = self.parametrization(self.cell, params)
        check_params(self.cell, made, f"what {self.parametrization} makes of params")
        return made

    def prepare(self, params: Any) -> Any:
        own = params.params if isinstance(params, Bound) else params
        if isinstance(own, Made):
            return params
        made = self.made(own)
        inner = params._replace(params=made) if isinstance(params, Bound) else made
        ready = self.cell.prepare(inner)
        if isinstance(ready, Bound):
            return ready._replace(params=Made(ready.params))
        return Made(ready)

    def bind(self, params: Any, ys: Any, *, lengths: Any = None, mask: Any = None) -> Any:
        bound = self.cell.bind(self.made(params), ys, lengths=lengths, mask=mask)
        return bound._replace(params=params)

    def initial_state(self, params: Any, batch: tuple[int, ...] = (), key: jax.Array | None = None) -> Any:
        return self.cell.initial_state(self._inner(params), batch, key)

    def project(self, params: Any, x: jax.Array) -> Any:
        return self.cell.project(self._inner(params), x)

    def recur(self, params: Any, state: Any) -> Any:
        return self.cell.recur(self._inner(params), state)

    def update_with_gates(self, params: Any, state: Any, z: Any, r: Any) -> tuple[Any, dict[str, jax.Array]]:
        return self.cell.update_with_gates(self._inner(params), state, z, r)

    def readout(self, params: Any, state: Any, x: jax.Array) -> Any:
        return self.cell.readout(self._inner(params), state, x)

    def _inner(self, params: Any) -> Any:
        """The parameters of the cell inside, which a run has made already."""
        ready = self.prepare(params)
        return ready._replace(params=ready.params.params) if isinstance(ready, Bound) else ready.params
