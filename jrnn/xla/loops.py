"""The loop over time, written so that XLA's CPU backend runs it fast."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import eval_jaxpr

from ..arrays import cast_like, halves_to_float32, is_half
from ..program import Program, depending, evaluate, variables
from .convolutions import convolution_rules
from .products import product_rules
from .switches import on, on_cpu


def loop(
    body: Callable[[Any, Any, Any], tuple[Any, Any]],
    constants: Any,
    init: Any,
    xs: Any,
    *,
    reverse: bool,
    unroll: int,
    differentiable: bool,
) -> tuple[Any, Any]:
    """`jax.lax.scan` of `body(constants, carry, x) -> (carry, y)`.

    `differentiable`: whether JAX may be asked for the derivative of the loop; without one, 16-bit floats cross it as
    integers.
    """
    program = Program(body, constants, init, one_step(xs))
    hoisted, step = hoist(program, constants)
    ends = program.jaxpr.outvars[len(jax.tree.leaves(init)) :]
    distinct = list(dict.fromkeys(ends)) if on("distinct_stacks") else ends
    places = [distinct.index(end) for end in ends] if on("distinct_stacks") else list(range(len(ends)))
    dtypes: list[Any] = [end.aval for end in ends]

    def one(carry: list[Any], x: list[Any]) -> tuple[list[Any], list[Any]]:
        made = step(hoisted, [*carry, *x])
        carry, ys = made[: len(carry)], made[len(carry) :]
        return carry, [ys[places.index(place)] for place in range(len(distinct))]

    run = _scan_stacking_float32 if differentiable else _scan_of_integers
    carry, ys = run(one, jax.tree.leaves(init), jax.tree.leaves(xs), reverse=reverse, unroll=unroll)
    ys = cast_like([ys[place] for place in places], dtypes)
    return jax.tree.unflatten(program.structure, [*carry, *ys])


def one_step(xs: Any) -> Any:
    """The shapes and dtypes of what one step reads."""
    return jax.eval_shape(lambda xs: jax.tree.map(lambda a: a[0], xs), xs)


def hoist(program: Program, constants: Any) -> tuple[list[Any], Callable[[list[Any], list[Any]], list[Any]]]:
    """`(hoisted, step)` such that `step(hoisted, leaves of the other arguments)` is what the program makes of
    `constants` and them.

    `hoisted`: every intermediate that depends on `constants` alone, such as one gate's columns of a weight, which the
    CPU backend would copy at every step. An intermediate larger than its inputs, such as a broadcast bias, stays in the
    loop: reading it each step would cost more than making it. A matrix that the loop reads by its last axis is hoisted
    transposed.
    """
    jaxpr = program.jaxpr
    lifted = len(program.closed_over)
    fixed = jaxpr.invars[: lifted + len(program.inputs[0])]
    varying = jaxpr.invars[len(fixed) :]
    inside = depending(jaxpr, varying)
    before, after = [], []
    for equation in jaxpr.eqns:
        reads = variables(equation.invars)
        leaves = reads and inside.isdisjoint(reads) and not _grows(equation.outvars, reads) and not equation.effects
        (before if leaves and on("hoisting") else after).append(equation)
        if after and after[-1] is equation:
            inside.update(equation.outvars)
    read = dict.fromkeys(variable for equation in after for variable in variables(equation.invars))
    read |= dict.fromkeys(variables(jaxpr.outvars))
    crossing = [variable for variable in read if variable not in inside and variable not in jaxpr.constvars]
    once = jaxpr.replace(invars=fixed, outvars=crossing, eqns=before)
    each = jaxpr.replace(invars=[*crossing, *varying], eqns=after)
    values = eval_jaxpr(once, program.consts, *program.closed_over, *jax.tree.leaves(constants))
    turned = _read_by_last_axis(after, crossing)
    hoisted = [_transposed(a) if variable in turned else a for variable, a in zip(crossing, values, strict=True)]
    rules = product_rules([variable.aval for variable in (*jaxpr.invars, *jaxpr.outvars)]) | convolution_rules()

    def step(hoisted: list[Any], arguments: list[Any]) -> list[Any]:
        back = [a.swapaxes(-1, -2) if variable in turned else a for variable, a in zip(crossing, hoisted, strict=True)]
        return evaluate(each, program.consts, [*back, *arguments], rules)

    return hoisted, step


def _grows(made: list[Any], reads: list[Any]) -> bool:
    """Also where a symbolic dimension, of which the parameters have none, leaves it open."""
    size = sum(variable.aval.size for variable in made)
    return not isinstance(size, int) or size > sum(variable.aval.size for variable in reads)


def _read_by_last_axis(equations: list[Any], among: list[Any]) -> set[Any]:
    """The matrices whose last axis a product sums over, as the reversed loop's products with weights do.

    Such a product is 1.2 to 3 times as slow in a loop (1.06 to 1.14 of a training step). A lone row is the exception,
    and so are 16-bit floats, which are multiplied as such only where the weight is as it was.
    """
    found: set[Any] = set()
    if not on("transposed_weights"):
        return found
    for equation in equations:
        if equation.primitive.name != "dot_general":
            continue
        contracted, batch = equation.params["dimension_numbers"]
        for side in (0, 1):
            atom, other = equation.invars[side], equation.invars[1 - side].aval
            rank = len(atom.aval.shape)
            gone = {*contracted[1 - side], *batch[1 - side]}
            many = any(size != 1 for axis, size in enumerate(other.shape) if axis not in gone)
            by_last = atom in among and rank > 1 and contracted[side] == (rank - 1,)
            if many and by_last and not is_half(atom.aval.dtype):
                found.add(atom)
    return found


def _transposed(a: jax.Array) -> jax.Array:
    """The last two axes swapped; without the barrier the compiler would put the transposition back into the product."""
    return lax.optimization_barrier(a.swapaxes(-1, -2))


def stackable(tree: Any) -> Any:
    """The tree in the dtypes that a loop which may be differentiated stacks fast: 16-bit floats as float32."""
    return halves_to_float32(tree) if on("halves_stacked_as_float32") else tree


def made_once(tree: Any, *, on_any_backend: bool = False) -> Any:
    """The tree behind a barrier: what follows reads it, and does not compute it again.

    Without one the CPU backend computes a new state twice, once for the carry and once for the stack. With jax 0.12 1.07 times the
    time forward (LSTM of 256 units, float32: 1.26); 0.10.2 drops most barriers before it could gain by them.
    """
    if not (on("barriers") or (on_any_backend and not on_cpu())):
        return tree
    leaves, structure = jax.tree.flatten(tree)
    distinct = {id(leaf): leaf for leaf in leaves}
    kept = dict(zip(distinct, lax.optimization_barrier(list(distinct.values())), strict=True))
    return jax.tree.unflatten(structure, [kept[id(leaf)] for leaf in leaves])


def _scan_stacking_float32(body: Any, init: list[Any], xs: list[Any], **options: Any) -> tuple[list[Any], list[Any]]:
    """`jax.lax.scan` that stacks 16-bit floats as float32 (1.8 times as fast forward in bfloat16).

    Up to jax 0.10 the CPU backend converts a whole stack of 16-bit floats to float32 and back at every step.
    """

    def step(carry: list[Any], x: list[Any]) -> tuple[list[Any], list[Any]]:
        carry, ys = body(carry, x)
        return carry, stackable(ys)

    return lax.scan(step, init, xs, **options)


def _scan_of_integers(body: Any, init: list[Any], xs: list[Any], **options: Any) -> tuple[list[Any], list[Any]]:
    """`jax.lax.scan` without derivatives, which reads and stacks 16-bit floats as integers (2.2 to 2.4 in training).

    For the same reason: 24 against 1.1 ms for 512 steps of [32, 128] in bfloat16.
    """
    if not on("halves_as_integers"):
        return lax.scan(body, init, xs, **options)
    given = [a.dtype for a in xs]
    made: list[Any] = []

    def step(carry: list[Any], x: list[Any]) -> tuple[list[Any], list[Any]]:
        carry, ys = body(carry, [_as_float(a, dtype) for a, dtype in zip(x, given, strict=True)])
        made[:] = [a.dtype for a in ys]
        return carry, list(map(_as_integer, ys))

    carry, ys = lax.scan(step, init, list(map(_as_integer, xs)), **options)
    return carry, [_as_float(a, dtype) for a, dtype in zip(ys, made, strict=True)]


def _as_integer(a: jax.Array) -> jax.Array:
    return lax.bitcast_convert_type(a, jnp.uint16) if is_half(a.dtype) else a


def _as_float(a: jax.Array, dtype: Any) -> jax.Array:
    return lax.bitcast_convert_type(a, dtype) if is_half(dtype) else a
