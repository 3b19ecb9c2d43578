"""Loops as XLA runs them well: what depends on the parameters alone leaves them, and 16-bit floats cross them as what is fast."""

import collections
import functools
import itertools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import eval_jaxpr
from jax.extend.core import JaxprEqn, Literal

from ..checks import is_half, is_sharded, vary_alike, wide


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
        reads = _variables(equation.invars)
        leaves = reads and inside.isdisjoint(reads) and not _grows(equation.outvars, reads) and not equation.effects
        (before if leaves else after).append(equation)
        if not leaves:
            inside.update(equation.outvars)
    read = dict.fromkeys(variable for equation in after for variable in _variables(equation.invars))
    read |= dict.fromkeys(_variables(jaxpr.jaxpr.outvars))
    constants = jaxpr.jaxpr.constvars
    crossing = [variable for variable in read if variable not in inside and variable not in constants]

    once = jaxpr.jaxpr.replace(invars=variables[:given], outvars=crossing, eqns=before)
    each = jaxpr.jaxpr.replace(invars=[*crossing, *variables[given:]], eqns=after)

    def rest(known: list[Any], *arguments: Any) -> Any:
        values = _evaluated(each, jaxpr.consts, [*known, *jax.tree.leaves(arguments)], {"dot_general": _accumulated})
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


def closed(f: Callable[..., Any], *examples: Any) -> Callable[..., Any]:
    """`f`, for arguments like `examples`, with all that it closes over marked as varying alike.

    `custom_linear_solve` needs it in `jax.shard_map`: it marks the constants of its functions so, after tracing them.
    """
    jaxpr, shapes = jax.make_jaxpr(f, return_shape=True)(*examples)
    (constants,) = vary_alike(jaxpr.consts)

    def marked(equation: Any, values: list[jax.Array]) -> jax.Array:
        missing = set(equation.params["axes"]) - jax.typeof(values[0]).manual_axis_type.varying
        return lax.pcast(values[0], tuple(sorted(missing)), to="varying") if missing else values[0]

    def again(*arguments: Any) -> Any:
        values = _evaluated(jaxpr.jaxpr, constants, jax.tree.leaves(arguments), {"pvary": marked})
        return jax.tree.unflatten(jax.tree.structure(shapes), values)

    return again


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
        if not inside.isdisjoint(_variables(equation.invars)):
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
    values = _evaluated(jaxpr.jaxpr, jaxpr.consts, jax.tree.leaves((params, state, z, r)), by)
    return jax.tree.unflatten(jax.tree.structure(shapes), values), found


def _sums(jaxpr: Any, z: list[Any], r: list[Any]) -> set[Any]:
    """The results of z + r, as they are or converted, where neither is read by anything else."""
    times = collections.Counter(_variables(itertools.chain(jaxpr.outvars, *(e.invars for e in jaxpr.eqns))))
    sides, sums = (set(z), set(r)), set()
    for equation in jaxpr.eqns:
        reads = _variables(equation.invars)
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


def accumulated(f: Callable[..., Any], *arguments: Any) -> Any:
    """`f(*arguments)`, where the sums in products of 16-bit floats are kept in float32 and then rounded.

    Up to jax 0.10, XLA's CPU backend converts what it multiplies to float32 otherwise: 190 against 410 GFLOP/s.
    """
    if not any(is_half(a.dtype) for a in jax.tree.leaves(arguments)):
        return f(*arguments)
    return _with(f, {"dot_general": _accumulated}, *arguments)


def gathered(f: Callable[..., Any], *arguments: Any) -> Any:
    """`accumulated` for gradients, which sum over the rows of large matrices, as XLA's CPU backend does that fast."""
    return _with(f, {"dot_general": _gathered, "reduce_sum": _summed}, *arguments)


def _with(f: Callable[..., Any], by: dict[str, Callable[..., Any]], *arguments: Any) -> Any:
    """`f(*arguments)`, where `by` takes the place of primitives."""
    jaxpr, shapes = jax.make_jaxpr(f, return_shape=True)(*arguments)
    values = _evaluated(jaxpr.jaxpr, jaxpr.consts, jax.tree.leaves(arguments), by)
    return jax.tree.unflatten(jax.tree.structure(shapes), values)


def _accumulated(equation: Any, factors: list[jax.Array]) -> jax.Array:
    """The product as `accumulated` has it."""
    if not _of_halves(equation):
        return equation.primitive.bind(*factors, **equation.params)
    single = equation.primitive.bind(*factors, **equation.params | {"preferred_element_type": jnp.dtype(jnp.float32)})
    return single.astype(equation.outvars[0].aval.dtype)


def _of_halves(equation: Any) -> bool:
    return all(is_half(variable.aval.dtype) for variable in (*equation.invars, *equation.outvars))


def _gathered(equation: Any, factors: list[jax.Array]) -> jax.Array:
    """The product; one that sums over all rows of two arrays as XLA's CPU backend is fast: of matrices, the narrower transposed.

    float32: for GRUs of 128 to 512 units 3 to 7 % of a training step, for LSTMs none; two equally narrow matrices lose. 16-bit
    floats are transposed by a product with the identity, as any other transposition is put back into the product, which is then
    one of float32: a third slower in training.
    """
    rows = tuple(range(factors[0].ndim - 1))
    by_rows = equation.params["dimension_numbers"] == ((rows, rows), ((), ()))
    if jax.default_backend() != "cpu" or not by_rows or any(map(is_sharded, factors)):
        return _accumulated(equation, factors)
    a, b = (factor.reshape(-1, factor.shape[-1]) for factor in factors)
    narrow, other = sorted((a, b), key=lambda factor: factor.shape[1])
    if _of_halves(equation):
        one = jnp.eye(narrow.shape[1], dtype=narrow.dtype)
        turned = lax.dot_general(one, narrow, (((1,), (1,)), ((), ())), preferred_element_type=jnp.float32)
        product = jnp.matmul(turned.astype(narrow.dtype), other, preferred_element_type=jnp.float32)
    else:
        pays = narrow.shape[1] >= 128 and other.shape[1] >= 2 * narrow.shape[1]
        turned = lax.optimization_barrier(narrow.T) if pays else narrow.T
        product = jnp.matmul(turned, other)
    product = product.astype(equation.outvars[0].aval.dtype)
    # Rounded first: the transpose of a float32 product of 16-bit floats is one that XLA's CPU backend makes and cannot run.
    return product if narrow is a else product.T


def _summed(equation: Any, terms: list[jax.Array]) -> jax.Array:
    """The sum, of 16-bit floats in float32."""
    return equation.primitive.bind(*wide(terms), **equation.params).astype(equation.outvars[0].aval.dtype)


def _evaluated(jaxpr: Any, consts: list[Any], arguments: list[Any], by: dict[str, Callable[..., Any]]) -> list[Any]:
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
            reads = list(dict.fromkeys(_variables(equation.invars)))
            alone = jaxpr.replace(constvars=[], invars=reads, outvars=equation.outvars, eqns=[equation])
            made = eval_jaxpr(alone, [], *map(value, reads))
        values.update(zip(equation.outvars, made, strict=True))
    return [value(atom) for atom in jaxpr.outvars]


def _variables(atoms: Iterable[Any]) -> list[Any]:
    return [atom for atom in atoms if not isinstance(atom, Literal)]


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
