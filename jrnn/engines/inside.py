"""What is inside a cell's update and worth keeping, so that its derivative does not compute it again."""

import collections
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.extend.core import Literal

from .programs import evaluated, variables


class Inside(NamedTuple):
    """What of an `update` is not computed twice; where nobody reads it, it is not kept."""

    products: list[jax.Array]  # of each product the factors that depend on state, z and r, and the result
    sums: list[jax.Array]  # of a z and an r, where that is all that reads the two: half as much to keep


def once(
    f: Callable[..., Any], params: Any, state: Any, z: Any, r: Any, known: Inside | None = None
) -> tuple[Any, Inside]:
    """`f(params, state, z, r)`, an `update`, and what is inside.

    `known`: that of an earlier call, which is then not computed again. The derivatives are those of `f` either way.
    """
    if known is not None and not any(known):
        return f(params, state, z, r), known
    jaxpr, shapes = jax.make_jaxpr(f, return_shape=True)(params, state, z, r)
    ends = itertools.accumulate(len(jax.tree.leaves(tree)) for tree in (params, state, z, r))
    _, *varying = (jaxpr.jaxpr.invars[slice(*ends)] for ends in itertools.pairwise([0, *ends]))
    inside = set(itertools.chain(*varying))  # and what follows from it
    for equation in jaxpr.eqns:
        if not inside.isdisjoint(variables(equation.invars)):
            inside.update(equation.outvars)
    sums = _sums(jaxpr.jaxpr, *varying[1:])
    found = Inside([], [])

    def noted(among: str, value: jax.Array) -> jax.Array:
        already = getattr(found, among)
        already.append(value if known is None else _instead(getattr(known, among)[len(already)], value))
        return already[-1]

    def noted_factor(atom: Any, value: jax.Array) -> jax.Array:
        return value if isinstance(atom, Literal) or atom not in inside else noted("products", value)

    def multiply(equation: Any, factors: list[jax.Array]) -> jax.Array:
        factors = list(map(noted_factor, equation.invars, factors))
        return noted_factor(equation.outvars[0], equation.primitive.bind(*factors, **equation.params))

    def add(equation: Any, terms: list[jax.Array]) -> jax.Array:
        value = equation.primitive.bind(*terms, **equation.params)
        return noted("sums", value) if equation.outvars[0] in sums else value

    by = {"dot_general": multiply, "add": add}
    values = evaluated(jaxpr.jaxpr, jaxpr.consts, jax.tree.leaves((params, state, z, r)), by)
    return jax.tree.unflatten(jax.tree.structure(shapes), values), found


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
def _instead(known: jax.Array, value: jax.Array) -> jax.Array:
    """`known`, which equals `value`, with the derivative of `value`."""
    return known


@_instead.defjvp
def _(primals: Any, tangents: Any) -> Any:
    return primals[0], tangents[1]
