"""How a sequential loop is differentiated: what a way to do it is, and JAX's own."""

import abc
import dataclasses
from typing import Any

import jax
from jax import lax

from .system import System


class Gradient(abc.ABC):
    """A way to differentiate the loop of `Scan`. Each gives the same derivatives, up to rounding."""

    @abc.abstractmethod
    def states(self, system: System, *, unroll: int) -> tuple[Any, Any]:
        """The final state, and the states after every step, leaves [time, *batch, ...]."""


def check_gradient(owner: str, gradient: Any) -> None:
    """TypeError where it is none."""
    if not isinstance(gradient, Gradient):
        raise TypeError(f"{owner}: gradient is {gradient!r}; expected LinearSolve(), Checkpointed() or Autodiff()")


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Autodiff(Gradient):
    """A plain `jax.lax.scan` over `recur` and `update`, differentiated by JAX: the oracle of all others.

    It takes every cell that JAX takes, and keeps every intermediate of every step for the derivative.
    """

    def states(self, system: System, *, unroll: int) -> tuple[Any, Any]:
        return lax.scan(system.step, system.state, system.steps(), reverse=system.reverse, unroll=unroll)
