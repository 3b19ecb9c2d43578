"""Functions evaluated with other products and sums in them: those that XLA's CPU backend is fast at."""

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import eval_jaxpr
from jax.extend.core import Literal

from ..arrays import halves_to_float32, is_half, is_sharded, match_varying_axes


def accumulated(f: Callable[..., Any], *arguments: Any) -> Any:
    """`f(*arguments)`, where the sums in products of 16-bit floats are kept in float32 and then rounded.

    Up to jax 0.10, XLA's CPU backend converts what it multiplies to float32 otherwise: 190 against 410 GFLOP/s.
    """
    if not any(is_half(a.dtype) for a in jax.tree.leaves(arguments)):
        return f(*arguments)
    return _with(f, {"dot_general": product}, *arguments)


def gathered(f: Callable[..., Any], *arguments: Any) -> Any:
    """`accumulated` for gradients, which sum over the rows of large matrices, as XLA's CPU backend does that fast."""
    return _with(f, {"dot_general": _product_over_rows, "reduce_sum": _sum}, *arguments)


def _with(f: Callable[..., Any], by: dict[str, Callable[..., Any]], *arguments: Any) -> Any:
    """`f(*arguments)`, where `by` takes the place of primitives."""
    jaxpr, shapes = jax.make_jaxpr(f, return_shape=True)(*arguments)
    values = evaluated(jaxpr.jaxpr, jaxpr.consts, jax.tree.leaves(arguments), by)
    return jax.tree.unflatten(jax.tree.structure(shapes), values)


def uncut(f: Callable[..., Any], *arguments: Any) -> tuple[list[jax.Array], Callable[..., Any]]:
    """`(wholes, cut)`: what `f(*arguments)`, as `accumulated` has it, returns before it splits along the last axis, and how.

    `cut(wholes, piece)` is the result, where `piece(whole, start, size)` makes a piece of a whole; size None: all of it.
    """
    jaxpr, shapes = jax.make_jaxpr(f, return_shape=True)(*arguments)
    places: dict[Any, tuple[Any, int, int | None]] = {end: (end, 0, None) for end in jaxpr.jaxpr.outvars}
    for equation in jaxpr.eqns:
        if equation.primitive.name == "split" and equation.params["axis"] == equation.invars[0].aval.ndim - 1:
            sizes = [int(size) for size in equation.params["sizes"]]
            starts = itertools.accumulate(sizes, initial=0)
            for made, start, size in zip(equation.outvars, starts, sizes):
                if made in places:
                    places[made] = (equation.invars[0], start, size)
    origins = list(dict.fromkeys(whole for whole, *_ in places.values()))
    program = jaxpr.jaxpr.replace(outvars=origins)
    wholes = evaluated(program, jaxpr.consts, jax.tree.leaves(arguments), {"dot_general": product})

    def cut(wholes: list[Any], piece: Callable[..., Any]) -> Any:
        known = dict(zip(origins, wholes, strict=True))
        pieces = [piece(known[whole], *place) for whole, *place in map(places.__getitem__, jaxpr.jaxpr.outvars)]
        return jax.tree.unflatten(jax.tree.structure(shapes), pieces)

    return wholes, cut


def product(equation: Any, factors: list[jax.Array]) -> jax.Array:
    """The product as `accumulated` has it."""
    if not _of_halves(equation):
        return equation.primitive.bind(*factors, **equation.params)
    single = equation.primitive.bind(*factors, **equation.params | {"preferred_element_type": jnp.dtype(jnp.float32)})
    return single.astype(equation.outvars[0].aval.dtype)


def _of_halves(equation: Any) -> bool:
    return all(is_half(variable.aval.dtype) for variable in (*equation.invars, *equation.outvars))


def _product_over_rows(equation: Any, factors: list[jax.Array]) -> jax.Array:
    """The product; one that sums over all rows of two arrays as XLA's CPU backend is fast: of matrices, the narrower transposed.

    float32: for GRUs of 128 to 512 units 3 to 7 % of a training step, for LSTMs none; two equally narrow matrices lose. 16-bit
    floats are transposed by a product with the identity, as any other transposition is put back into the product, which is then
    one of float32, at half the rate.
    """
    rows = tuple(range(factors[0].ndim - 1))
    by_rows = equation.params["dimension_numbers"] == ((rows, rows), ((), ()))
    if jax.default_backend() != "cpu" or not by_rows or any(map(is_sharded, factors)):
        return product(equation, factors)
    a, b = (factor.reshape(-1, factor.shape[-1]) for factor in factors)
    narrow, other = sorted((a, b), key=lambda factor: factor.shape[1])
    if _of_halves(equation):
        one = jnp.eye(narrow.shape[1], dtype=narrow.dtype)
        turned = lax.dot_general(one, narrow, (((1,), (1,)), ((), ())), preferred_element_type=jnp.float32)
        result = jnp.matmul(turned.astype(narrow.dtype), other, preferred_element_type=jnp.float32)
    else:
        pays = narrow.shape[1] >= 128 and other.shape[1] >= 2 * narrow.shape[1]
        turned = lax.optimization_barrier(narrow.T) if pays else narrow.T
        result = jnp.matmul(turned, other)
    result = result.astype(equation.outvars[0].aval.dtype)
    # Rounded first: the transpose of a float32 product of 16-bit floats is one that XLA's CPU backend makes and cannot run.
    return result if narrow is a else result.T


def _sum(equation: Any, terms: list[jax.Array]) -> jax.Array:
    """The sum, of 16-bit floats in float32."""
    return equation.primitive.bind(*halves_to_float32(terms), **equation.params).astype(equation.outvars[0].aval.dtype)


def evaluated(jaxpr: Any, consts: list[Any], arguments: list[Any], by: dict[str, Callable[..., Any]]) -> list[Any]:
    """What the program computes, where `by[name](equation, operands)` takes the place of the primitives of these names."""
    if not any(equation.primitive.name in by for equation in jaxpr.eqns):
        return eval_jaxpr(jaxpr, consts, *arguments)
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *arguments], strict=True))

    def value(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else values[atom]

    for equation in jaxpr.eqns:
        if equation.primitive.name in by:
            made = [by[equation.primitive.name](equation, list(map(value, equation.invars)))]
        else:
            reads = list(dict.fromkeys(variables(equation.invars)))
            alone = jaxpr.replace(constvars=[], invars=reads, outvars=equation.outvars, eqns=[equation])
            made = eval_jaxpr(alone, [], *map(value, reads))
        values.update(zip(equation.outvars, made, strict=True))
    return [value(atom) for atom in jaxpr.outvars]


def variables(atoms: Iterable[Any]) -> list[Any]:
    return [atom for atom in atoms if not isinstance(atom, Literal)]


def closed(f: Callable[..., Any], *examples: Any) -> Callable[..., Any]:
    """`f`, for arguments like `examples`, with all that it closes over marked as varying alike.

    `custom_linear_solve` needs it in `jax.shard_map`: it marks the constants of its functions so, after tracing them.
    """
    jaxpr, shapes = jax.make_jaxpr(f, return_shape=True)(*examples)
    (constants,) = match_varying_axes(jaxpr.consts)

    def marked(equation: Any, values: list[jax.Array]) -> jax.Array:
        missing = set(equation.params["axes"]) - jax.typeof(values[0]).manual_axis_type.varying
        return lax.pcast(values[0], tuple(sorted(missing)), to="varying") if missing else values[0]

    def again(*arguments: Any) -> Any:
        values = evaluated(jaxpr.jaxpr, constants, jax.tree.leaves(arguments), {"pvary": marked})
        return jax.tree.unflatten(jax.tree.structure(shapes), values)

    return again
