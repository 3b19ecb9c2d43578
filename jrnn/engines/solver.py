"""How the linear system is solved: what a solver is, and substitution, the sequential one."""

import abc
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ..arrays import differentiable, match_varying_axes
from ..checks import check_positive
from ..xla.loops import loop, made_once
from .linear_system import At, LinearSystem, Unknowns


class Solver(abc.ABC):
    """A way to solve the bidiagonal system u_t = advance(u_{t-1}, b_t). A frozen dataclass, registered as static."""

    @abc.abstractmethod
    def solve(self, linear: LinearSystem, first: list[Any], b: Unknowns) -> Unknowns:
        """The tangents at all times, from that of the state before the first step and what is contributed at each."""

    def solve_transposed(self, linear: LinearSystem, g: Unknowns) -> tuple[list[Any], Unknowns]:
        """Cotangents of `first` and `b`, from those of the solution: here JAX's own transpose of `solve`."""
        at = linear.at
        first = [jnp.zeros_like(a) for a in differentiable(linear.system.state)]
        zero = Unknowns(*([jnp.zeros_like(a) for a in differentiable(part)] for part in (at.now.z, at.r, at.before)))
        g = Unknowns(*(z if a is None else a for a, z in zip(g, zero, strict=True)))

        def solution(first: list[Any], b: Unknowns) -> Unknowns:
            return self.solve(linear, first, b)

        return jax.linear_transpose(solution, first, zero)(g)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Substitution(Solver):
    """Step after step: forwards forward mode, backwards in the transpose back-propagation through time.

    `unroll`: steps per iteration, as in `jax.lax.scan`.
    """

    unroll: int = 1

    def __post_init__(self) -> None:
        check_positive("Substitution", unroll=self.unroll)

    def solve(self, linear: LinearSystem, first: list[Any], b: Unknowns) -> Unknowns:
        def body(linear: LinearSystem, ds: list[Any], now: tuple[At, Unknowns]) -> tuple[list[Any], Unknowns]:
            u = linear.advance(now[0], ds, now[1])
            return u.state, u  # type: ignore[return-value]

        return self._loop(body, linear, first, b, linear.reverse)[1]

    def solve_transposed(self, linear: LinearSystem, g: Unknowns) -> tuple[list[Any], Unknowns]:
        def body(linear: LinearSystem, ds: list[Any], now: tuple[At, Unknowns]) -> tuple[list[Any], Unknowns]:
            at, g = now
            state = made_once(ds if g.state is None else jax.tree.map(jnp.add, ds, g.state))
            return linear.advance_transposed(at, g._replace(state=state))

        zero = [jnp.zeros_like(a) for a in differentiable(linear.system.state)]
        return self._loop(body, linear, zero, g, not linear.reverse)

    def _loop(self, body: Any, linear: LinearSystem, init: list[Any], values: Unknowns, reverse: bool) -> Any:
        init, _ = match_varying_axes(init, linear)
        constants = dataclasses.replace(linear, at=None)
        xs = linear.at, values
        return loop(body, constants, init, xs, reverse=reverse, unroll=self.unroll, differentiable=False)
