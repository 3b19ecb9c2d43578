"""What of a step is kept for its derivative, so that it is not computed twice."""

import collections
import itertools
from typing import Any, NamedTuple

import jax
from jax.extend.core import Literal

from ..program import Program, depending, variables

PRODUCTS = ("dot_general", "conv_general_dilated")
"""Primitives that multiply matrices, or kernels."""

LINEAR = (
    "add", "add_any", "sub", "neg", "convert_element_type", "copy", "reshape", "squeeze", "expand_dims", "transpose", "rev",
    "broadcast_in_dim", "slice", "split", "concatenate", "pad", "reduce_sum", "pvary",
)  # fmt: skip
"""Primitives that are linear in all their operands."""


class Residuals(NamedTuple):
    """Intermediates of one piece of a cell. Dead-code elimination drops them where no derivative is taken."""

    products: list[Any]  # operands and results of PRODUCTS, in order, those that the derivative needs
    sums: list[Any]  # z + r, where nothing else reads the two: half as much to keep


class Kept(NamedTuple):
    """Residuals of a step."""

    recur: Residuals
    update: Residuals


class Piece:
    """A traced piece of a cell that gives its residuals, or is given those of an earlier call."""

    def __init__(self, program: Program, noted: dict[Any, str]):
        self.program = program
        self._noted = noted
        """Of which kind each residual is, by its variable."""

    @property
    def avals(self) -> Residuals:
        """Shapes and dtypes of what one step keeps."""
        kinds = {kind: [v.aval for v, of in self._noted.items() if of == kind] for kind in Residuals._fields}
        return Residuals(**kinds)

    def __call__(self, closed_over: list[Any], *arguments: Any, residuals: Residuals | None = None) -> Any:
        """`(result, residuals)`.

        Given residuals are read in place of computing them again; the derivatives are those of the program.
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


class Update(Piece):
    """`update(params, state, z, r)`. Kept are, of each product, the operands that vary from step to step and the result."""

    def __init__(self, program: Program):
        jaxpr, (_, *varying) = program.jaxpr, program.inputs
        inside = depending(jaxpr, itertools.chain(*varying))
        sums = _sums(jaxpr, *varying[1:])
        noted: dict[Any, str] = {}
        for equation in jaxpr.eqns:
            if equation.primitive.name in PRODUCTS:
                atoms = [*variables(equation.invars), *equation.outvars]
                noted |= dict.fromkeys((atom for atom in atoms if atom in inside), "products")
            elif equation.primitive.name == "add" and equation.outvars[0] in sums:
                noted[equation.outvars[0]] = "sums"
        super().__init__(program, noted)


class Recur(Piece):
    """`recur(params, state)`, most often linear in the state: nothing is kept then, for its derivative reads nothing of it.

    Else kept are the products that something nonlinear is made of: the scores of an attention, of which its weights are, but not
    its context, of which products alone are.
    """

    def __init__(self, program: Program):
        jaxpr, (_, state) = program.jaxpr, program.inputs
        inside = depending(jaxpr, state)
        needed: set[Any] = set()
        for equation in reversed(jaxpr.eqns):
            reads = [variable for variable in variables(equation.invars) if variable in inside]
            if equation.primitive.name in PRODUCTS and len(reads) == 1:
                continue  # its result is kept where it is needed, and its operand is not
            if not _is_linear(equation, reads) or not needed.isdisjoint(equation.outvars):
                needed.update(reads)
        made = [end for equation in jaxpr.eqns if equation.primitive.name in PRODUCTS for end in equation.outvars]
        super().__init__(program, dict.fromkeys((end for end in made if end in needed), "products"))


def _is_linear(equation: Any, reads: list[Any]) -> bool:
    """Whether it is linear in the variables that it reads."""
    name = equation.primitive.name
    if name == "mul":
        return len(reads) < 2
    return not reads or name in LINEAR or (name == "div" and equation.invars[1] not in reads)


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
