"""Loops as XLA runs them well: what depends on the parameters alone leaves them, and 16-bit floats cross them as what is fast."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import eval_jaxpr
from jax.extend.core import JaxprEqn

from ..arrays import is_half
from .programs import evaluated, product, variables


def hoisted(body: Callable[..., Any], fixed: Any, *examples: Any) -> tuple[list[Any], Callable[..., Any]]:
    """`(known, rest)` such that `rest(known, *arguments)` is `body(fixed, *arguments)`, for arguments like `examples`.

    `known` is what of the body depends on `fixed` alone, such as the columns of a weight that one gate reads: XLA's CPU backend
    would copy them at every step. What grows stays in the body, such as a bias that is broadcast: it would be more to read.
    """
    jaxpr, shapes = jax.make_jaxpr(body, return_shape=True)(fixed, *examples)
    given = len(jax.tree.leaves(fixed))
    inputs = jaxpr.jaxpr.invars
    inside = set(inputs[given:])  # and what follows from it
    before: list[JaxprEqn] = []
    after: list[JaxprEqn] = []
    for equation in jaxpr.eqns:
        reads = variables(equation.invars)
        leaves = reads and inside.isdisjoint(reads) and not _grows(equation.outvars, reads) and not equation.effects
        (before if leaves else after).append(equation)
        if not leaves:
            inside.update(equation.outvars)
    read = dict.fromkeys(variable for equation in after for variable in variables(equation.invars))
    read |= dict.fromkeys(variables(jaxpr.jaxpr.outvars))
    constants = jaxpr.jaxpr.constvars
    crossing = [variable for variable in read if variable not in inside and variable not in constants]

    once = jaxpr.jaxpr.replace(invars=inputs[:given], outvars=crossing, eqns=before)
    each = jaxpr.jaxpr.replace(invars=[*crossing, *inputs[given:]], eqns=after)

    def rest(known: list[Any], *arguments: Any) -> Any:
        values = evaluated(each, jaxpr.consts, [*known, *jax.tree.leaves(arguments)], {"dot_general": product})
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
