"""Loops as XLA runs them well: what depends on the parameters alone leaves them, and 16-bit floats cross them as what is fast."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import eval_jaxpr
from jax.extend.core import JaxprEqn, Literal

from ..checks import is_half


def hoisted(body: Callable[..., Any], fixed: Any, *examples: Any) -> tuple[list[Any], Callable[..., Any]]:
    """`(known, rest)` such that `rest(known, *arguments)` is `body(fixed, *arguments)`, for arguments like `examples`.

    `known` is what of the body depends on `fixed` alone, such as the columns of a weight that one gate reads: XLA's CPU backend
    would copy them at every step. What grows stays in the body, such as a bias that is broadcast: it would be more to read.
    """
    jaxpr, shapes = jax.make_jaxpr(body, return_shape=True)(fixed, *examples)
    given = len(jax.tree.leaves(fixed))
    variables = jaxpr.jaxpr.invars
    inside = set(variables[given:])  # and what follows from it
    before: list[JaxprEqn] = []
    after: list[JaxprEqn] = []
    for equation in jaxpr.eqns:
        reads = [atom for atom in equation.invars if not isinstance(atom, Literal)]
        leaves = reads and inside.isdisjoint(reads) and not _grows(equation.outvars, reads) and not equation.effects
        (before if leaves else after).append(equation)
        if not leaves:
            inside.update(equation.outvars)
    read = {atom: None for equation in after for atom in equation.invars if not isinstance(atom, Literal)}
    read |= {atom: None for atom in jaxpr.jaxpr.outvars if not isinstance(atom, Literal)}
    constants = jaxpr.jaxpr.constvars
    crossing = [variable for variable in read if variable not in inside and variable not in constants]

    once = jaxpr.jaxpr.replace(invars=variables[:given], outvars=crossing, eqns=before)
    each = jaxpr.jaxpr.replace(invars=[*crossing, *variables[given:]], eqns=after)

    def rest(known: list[Any], *arguments: Any) -> Any:
        values = _evaluated(each, jaxpr.consts, [*known, *jax.tree.leaves(arguments)], _accumulated)
        return jax.tree.unflatten(jax.tree.structure(shapes), values)

    return eval_jaxpr(once, jaxpr.consts, *jax.tree.leaves(fixed)), rest


def scan(
    body: Callable[..., Any], fixed: Any, init: Any, xs: Any, by: Callable[..., Any] = lax.scan, **options: Any
) -> Any:
    """`jax.lax.scan`, or what `by` is instead, of `body(fixed, carry, x)`."""
    known, rest = hoisted(body, fixed, init, one_step(xs))
    return by(functools.partial(rest, known), init, xs, **options)


def undifferentiated(body: Callable[..., Any], init: Any, xs: Any, **options: Any) -> Any:
    """`jax.lax.scan` without derivatives, which reads and stacks 16-bit floats as integers.

    XLA's CPU backend up to jax 0.10 converts the whole stack to float32 and back at every step: 24 against 1.1 ms for
    512 steps of [32, 128] in bfloat16.
    """
    given = jax.tree.map(lambda a: a.dtype, xs)
    made = None

    def step(carry: Any, x: Any) -> Any:
        nonlocal made
        carry, y = body(carry, _as_floats(x, given))
        made = jax.tree.map(lambda a: a.dtype, y)
        return carry, _as_integers(y)

    carry, ys = lax.scan(step, init, _as_integers(xs), **options)
    return carry, _as_floats(ys, made)


def products(f: Callable[..., Any], fixed: Any, *arguments: Any, known: Any = None) -> tuple[Any, list[jax.Array]]:
    """`f(fixed, *arguments)`, and of each product in it the result and the factors that depend on the arguments.

    `known`: those of an earlier call, which are then not computed again. The derivatives are those of `f` either way.
    """
    if known == []:
        return f(fixed, *arguments), []
    jaxpr, shapes = jax.make_jaxpr(f, return_shape=True)(fixed, *arguments)
    inside = set(jaxpr.jaxpr.invars[len(jax.tree.leaves(fixed)) :])  # what depends on the arguments
    for equation in jaxpr.eqns:
        if any(atom in inside for atom in equation.invars if not isinstance(atom, Literal)):
            inside.update(equation.outvars)
    found: list[jax.Array] = []
    earlier = iter(known or ())

    def noted(atom: Any, value: jax.Array) -> jax.Array:
        if isinstance(atom, Literal) or atom not in inside:
            return value
        found.append(value if known is None else _instead(next(earlier), value))
        return found[-1]

    def multiply(equation: Any, factors: list[jax.Array]) -> jax.Array:
        factors = list(map(noted, equation.invars, factors))
        return noted(equation.outvars[0], equation.primitive.bind(*factors, **equation.params))

    values = _evaluated(jaxpr.jaxpr, jaxpr.consts, jax.tree.leaves((fixed, arguments)), multiply)
    return jax.tree.unflatten(jax.tree.structure(shapes), values), found


@jax.custom_jvp
def _instead(known: jax.Array, value: jax.Array) -> jax.Array:
    """`known`, which equals `value`, with the derivative of `value`."""
    return known


@_instead.defjvp
def _(primals: Any, tangents: Any) -> Any:
    return primals[0], tangents[1]


def accumulated(f: Callable[..., Any], *arguments: Any) -> Any:
    """`f(*arguments)`, where the sums in products of 16-bit floats are kept in float32 and then rounded.

    Up to jax 0.10, XLA's CPU backend converts what it multiplies to float32 otherwise: 190 against 410 GFLOP/s.
    """
    if not any(is_half(a.dtype) for a in jax.tree.leaves(arguments)):
        return f(*arguments)
    jaxpr, shapes = jax.make_jaxpr(f, return_shape=True)(*arguments)
    values = _evaluated(jaxpr.jaxpr, jaxpr.consts, jax.tree.leaves(arguments), _accumulated)
    return jax.tree.unflatten(jax.tree.structure(shapes), values)


def _accumulated(equation: Any, factors: list[jax.Array]) -> jax.Array:
    """The product as `accumulated` has it."""
    variables = (*equation.invars, *equation.outvars)
    if not all(is_half(variable.aval.dtype) for variable in variables):
        return equation.primitive.bind(*factors, **equation.params)
    wide = equation.primitive.bind(*factors, **equation.params | {"preferred_element_type": jnp.dtype(jnp.float32)})
    return wide.astype(equation.outvars[0].aval.dtype)


def _evaluated(jaxpr: Any, consts: list[Any], arguments: list[Any], multiply: Callable[..., jax.Array]) -> list[Any]:
    """What the program computes, where `multiply(equation, factors)` takes its products."""
    if not any(equation.primitive is lax.dot_general_p for equation in jaxpr.eqns):
        return eval_jaxpr(jaxpr, consts, *arguments)
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *arguments], strict=True))

    def value(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else values[atom]

    for equation in jaxpr.eqns:
        if equation.primitive is lax.dot_general_p:
            made = [multiply(equation, list(map(value, equation.invars)))]
        else:
            reads = list({atom: None for atom in equation.invars if not isinstance(atom, Literal)})
            alone = jaxpr.replace(constvars=[], invars=reads, outvars=equation.outvars, eqns=[equation])
            made = eval_jaxpr(alone, [], *map(value, reads))
        values.update(zip(equation.outvars, made, strict=True))
    return [value(atom) for atom in jaxpr.outvars]


def one_step(tree: Any) -> Any:
    """What one step of a loop reads."""
    return jax.tree.map(lambda a: a[0], tree)


def _as_integers(tree: Any) -> Any:
    return jax.tree.map(lambda a: lax.bitcast_convert_type(a, jnp.uint16) if is_half(a.dtype) else a, tree)


def _as_floats(tree: Any, dtypes: Any) -> Any:
    return jax.tree.map(lambda a, dtype: lax.bitcast_convert_type(a, dtype) if is_half(dtype) else a, tree, dtypes)


def _grows(made: list[Any], reads: list[Any]) -> bool:
    """Also where a symbolic dimension, of which the parameters have none, leaves it open."""
    size = sum(variable.aval.size for variable in made)
    return not isinstance(size, int) or size > sum(variable.aval.size for variable in reads)
