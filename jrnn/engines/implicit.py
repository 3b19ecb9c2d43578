"""States found in any way, differentiated by their linear system in every mode."""

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from ..arrays import differentiable, is_differentiable
from ..xla.products import sums_in_float32, weight_gradients
from .linear_system import LinearSystem, Unknowns, linearised
from .residuals import Kept
from .solve import Operator, Vector, solve
from .solver import Solver
from .system import Steps, System, shift


class Found(NamedTuple):
    """States, and what was made on the way to them, where it is kept for their derivative."""

    states: Any  # after every step, leaves [time, *batch, ...]
    steps: Steps
    r: Any = None  # recur(params, state before the step); None: made again
    residuals: Kept | None = None  # None: made again


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def implicit(find: Callable[[System], Found], solver: Solver, system: System) -> Any:
    """The states of a traced system that `find` finds; their linear system, solved by `solver`, is their derivative."""
    return find(system).states


@functools.partial(implicit.defjvp, symbolic_zeros=True)
def _(find: Callable[[System], Found], solver: Solver, primals: Any, tangents: Any) -> tuple[Any, Any]:
    found = find(primals[0])
    linear = linearised(primals[0], *found)
    operator = Bidiagonal(solver, linear)
    dstates = iter(
        operator.states(solve(operator, jax.tree.leaves(linear), operator.right_hand_side(*primals, *tangents)))
    )

    def tangent(a: jax.Array) -> Any:
        return next(dstates) if is_differentiable(a) else SymbolicZero(jax.typeof(a).to_tangent_aval())

    return found.states, jax.tree.map(tangent, found.states)


class Bidiagonal(Operator):
    """The linear system as one operator.

    Its unknowns are the tangents of what is given (parameters, inputs, initial state; the state before the first step),
    and those of z, r and the state at each step.
    """

    def __init__(self, solver: Solver, linear: LinearSystem):
        self.solver, self.structure = solver, jax.tree.structure(linear)
        parts = [*_given(linear.system), linear.at.now.z, linear.at.r, linear.at.before]
        self.sizes = [len(differentiable(part)) for part in parts]
        self.avals = [jax.typeof(leaf).to_tangent_aval() for leaf in differentiable(parts)]

    def right_hand_side(self, system: System, dsystem: System) -> Vector:
        """The tangents of what is given; nothing else is contributed."""
        pairs = zip(jax.tree.leaves(_given(system)), jax.tree.leaves(_given(dsystem)), strict=True)
        given = [None if isinstance(da, SymbolicZero) else da for a, da in pairs if is_differentiable(a)]
        return [*given, *[None] * (len(self.avals) - len(given))]

    def states(self, x: list[Any]) -> list[Any]:
        return x[len(x) - self.sizes[-1] :]

    def apply(self, theta: list[Any], x: Vector) -> list[Any]:
        linear = jax.tree.unflatten(self.structure, theta)
        *given, first, z, r, state = self._parts(x)
        through = jax.vmap(linear.through)(linear.at, shift(first, state, linear.reverse), z, r)
        contributed = self._contributed(linear, x)
        made = jax.tree.map(lambda a, b: a - b, [z, r, state], [_zeros(z), *through])
        rest = [_minus(a, b) for a, b in zip(made, contributed, strict=True)]
        return [*itertools.chain(*given), *first, *itertools.chain(*rest)]

    def solve(self, theta: list[Any], b: Vector) -> list[Any]:
        linear = jax.tree.unflatten(self.structure, theta)
        first, *at_each = self._parts(b)[3:]
        contributed = sums_in_float32(functools.partial(self._contributed, linear), b)
        first = _zeros(differentiable(linear.system.state)) if first is None else first
        u = self.solver.solve(linear, first, Unknowns(*map(_plus, at_each, contributed)))
        given = [jnp.zeros(aval.shape, aval.dtype) if a is None else a for a, aval in zip(b, self.avals)]
        return [*given[: sum(self.sizes[:3])], *first, *itertools.chain(*u)]  # type: ignore[arg-type]

    def solve_transposed(self, theta: list[Any], g: Vector) -> list[Any]:
        linear = jax.tree.unflatten(self.structure, theta)
        dfirst, w = self.solver.solve_transposed(linear, Unknowns(*self._parts(g)[4:]))
        at, put_back = self._given_values(linear)
        _, pull = jax.vjp(lambda values: linear.contributions(*put_back(values)), at)
        (dgiven,) = weight_gradients(pull, w if linear.moves_states else w._replace(state=None))
        gathered = [a if b is None else a + b for a, b in zip([*dgiven, *dfirst], g)]
        return [*gathered, *itertools.chain(*w)]  # type: ignore[arg-type]

    def _contributed(self, linear: LinearSystem, b: Vector) -> Unknowns:
        """What the given tangents contribute to z, r and the states."""
        values, put_back = self._given_values(linear)
        there = [i for i in range(len(values)) if b[i] is not None]
        if not there:
            return Unknowns(None, None, None)

        def some(moved: list[Any]) -> Unknowns:
            at = list(values)
            for i, value in zip(there, moved, strict=True):
                at[i] = value
            return linear.contributions(*put_back(at))

        return jax.jvp(some, ([values[i] for i in there],), ([b[i] for i in there],))[1]

    def _given_values(self, linear: LinearSystem) -> tuple[list[Any], Callable[[list[Any]], Any]]:
        """The leaves of parameters, inputs and initial state that have a derivative, and the way back."""
        leaves, structure = jax.tree.flatten(_given(linear.system)[:3])
        places = [i for i, leaf in enumerate(leaves) if is_differentiable(leaf)]

        def put_back(values: list[Any]) -> Any:
            filled = list(leaves)
            for i, value in zip(places, values, strict=True):
                filled[i] = value
            return jax.tree.unflatten(structure, filled)

        return [leaves[i] for i in places], put_back

    def _parts(self, values: Vector) -> list[Any]:
        """The values of each part; None where they are all zero."""
        ends = itertools.pairwise(itertools.accumulate(self.sizes, initial=0))
        return [self._part(values[start:end], self.avals[start:end]) for start, end in ends]

    @staticmethod
    def _part(values: Vector, avals: list[Any]) -> list[Any] | None:
        if values and all(a is None for a in values):
            return None
        return [jnp.zeros(aval.shape, aval.dtype) if a is None else a for a, aval in zip(values, avals, strict=True)]


def _given(system: System) -> tuple[Any, Any, Any, Any]:
    return system.params, system.xs, system.initial, system.state


def _zeros(values: list[Any]) -> list[Any]:
    return [jnp.zeros_like(a) for a in values]


def _plus(a: list[Any] | None, b: list[Any] | None) -> list[Any] | None:
    return a if b is None else b if a is None else jax.tree.map(jnp.add, a, b)


def _minus(a: list[Any], b: list[Any] | None) -> list[Any]:
    return a if b is None else jax.tree.map(jnp.subtract, a, b)
