"""What of a step is kept for its derivative, so that it is not computed twice."""

import collections
import itertools
from typing import Any, NamedTuple

import jax
from jax.extend.core import Literal

from ..program import Program, depending, variables

PRODUCTS = ("dot_general", "conv_general_dilated")
"""Primitives that multiply matrices, or kernels."""


class Residuals(NamedTuple):
    """Intermediates of an `update`. Dead-code elimination drops them where no derivative is taken."""

    products: list[
        Any
    ]  # for each product of PRODUCTS, in order: its operands that vary from step to step, then its result
    sums: list[Any]  # z + r, where nothing else reads the two: half as much to keep


class Update:
    """A traced `update(params, state, z, r)` that gives its residuals, or is given those of an earlier call."""

    def __init__(self, program: Program):
        self.program = program
        jaxpr, (_, *varying) = program.jaxpr, program.inputs
        inside = depending(jaxpr, itertools.chain(*varying))
        sums = _sums(jaxpr, *varying[1:])
        self._noted: dict[Any, str] = {}
        """Of which kind each residual is, by its variable."""
        for equation in jaxpr.eqns:
            if equation.primitive.name in PRODUCTS:
                atoms = [*variables(equation.invars), *equation.outvars]
                self._noted |= dict.fromkeys((atom for atom in atoms if atom in inside), "products")
            elif equation.primitive.name == "add" and equation.outvars[0] in sums:
                self._noted[equation.outvars[0]] = "sums"

    @property
    def avals(self) -> Residuals:
        """Shapes and dtypes of what one step keeps."""
        kinds = {kind: [v.aval for v, of in self._noted.items() if of == kind] for kind in Residuals._fields}
        return Residuals(**kinds)

    def __call__(self, closed_over: list[Any], *arguments: Any, residuals: Residuals | None = None) -> Any:
        """`(new state, residuals)`.

        Given residuals are read in place of computing them again; the derivatives are those of `update`.
        """
        if not self._noted:
            return self.program(closed_over, *arguments), Residuals([], [])
        found = Residuals([], [])

        def noted(atom: Any, value: jax.Array) -> jax.Array:
            if isinstance(atom, Literal) or atom not in self._noted:
                return value
            among = getattr(found, self._noted[atom])
            among.append(
                value if residuals is None else _same_value(getattr(residuals, self._noted[atom])[len(among)], value)
            )
            return among[-1]

        def multiply(equation: Any, factors: list[jax.Array]) -> jax.Array:
            factors = list(map(noted, equation.invars, factors))
            return noted(equation.outvars[0], equation.primitive.bind(*factors, **equation.params))

        def add(equation: Any, terms: list[jax.Array]) -> jax.Array:
            value, (end,) = equation.primitive.bind(*terms, **equation.params), equation.outvars
            return noted(end, value) if self._noted.get(end) == "sums" else value

        return self.program(closed_over, *arguments, rules=dict.fromkeys(PRODUCTS, multiply) | {"add": add}), found


def _sums(jaxpr: Any, z: list[Any], r: list[Any]) -> set[Any]:
    """The results of z + r, as they are or converted, where neither is read by anything else."""
    times = collections.Counter(variables(itertools.chain(jaxpr.outvars, *(e.invars for e in jaxpr.eqns))))
    sides, sums = (set(z), set(r)), set()
    for equation in jaxpr.eqns:
        reads = variables(equation.invars)
        if any(times[variable] > 1 for variable in reads):
            continue
        if equation.primitive.name == "add" and not any(side.isdisjoint(reads) for side in sides):
            sums.update(equation.outvars)
        elif equation.primitive.name == "convert_element_type":
            for side in sides:
                side.update([] if side.isdisjoint(reads) else equation.outvars)
    return sums


@jax.custom_jvp
def _same_value(known: jax.Array, value: jax.Array) -> jax.Array:
    """`known`, which equals `value`, with the derivative of `value`."""
    return known


@_same_value.defjvp
def _(primals: Any, tangents: Any) -> Any:
    return primals[0], tangents[1]
