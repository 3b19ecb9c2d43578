"""Products of matrices, and sums over rows, in the forms that XLA's CPU backend is fast at."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ..arrays import by_rows, halves_to_float32, is_half, match_varying_axes
from ..program import Rules, run_by_rules
from .convolutions import convolution_rules
from .switches import on


def sums_in_float32(f: Callable[..., Any], *arguments: Any) -> Any:
    """`f(*arguments)`, where products of 16-bit floats are summed in float32 and then rounded.

    Up to jax 0.10 the CPU backend otherwise converts what it multiplies to float32: 190 against 410 GFLOP/s.
    """
    rules = product_rules(*arguments)
    return run_by_rules(f, rules, *arguments) if rules else f(*arguments)


def product_rules(*arguments: Any) -> Rules:
    """The rule of `sums_in_float32`, where any of the arguments is a 16-bit float."""
    halves = on("halves_summed_in_float32") and any(is_half(a.dtype) for a in jax.tree.leaves(arguments))
    return {"dot_general": _product} if halves else {}


def weight_gradients(f: Callable[..., Any], *arguments: Any) -> Any:
    """`f(*arguments)` for a transposed map, whose products are gradients of weights: sums over all rows of two tall
    arrays.

    The CPU backend is slow at them as they stand: float32 gradients of GRUs of 128 to 512 units are 3 to 7 % of a
    training step faster with the narrower matrix transposed first, 16-bit training steps 1.03 to 1.17 times as fast.
    """
    rules = _sum_rules() | product_rules(*arguments) | convolution_rules()
    if on("weight_gradients"):
        rules["dot_general"] = _product_over_rows
    return run_by_rules(f, rules, *arguments)


def mapped_over_rows(f: Callable[..., Any], axes: int, shared: Any, *by_row: Any) -> Any:
    """`f(shared, *by_row)` of one row, mapped over the `axes` batch axes with which each of `by_row` begins.

    `f` is linear in `shared` and takes it in float32 where that is of 16 bits.
    For an `f` that multiplies large arrays entry by entry: transposed, it sums arrays like `shared` over rows. The CPU
    backend is slow at such a sum: of 16 rows of 81,920 float32 it took 11 ms, a loop over the rows 0.3 (jax 0.10.2).
    Elsewhere, and where the rows are seen to be divided among devices, `jax.vmap`.
    """
    if not on("rows_in_turn") or any(map(_is_sharded, jax.tree.leaves(by_row))):
        return by_rows(f, axes, None, *(0 for _ in by_row))(shared, *by_row)
    shared, by_row = match_varying_axes(halves_to_float32(shared), by_row)  # 16-bit floats are summed in float32

    def in_turn(axes: int, by_row: Any) -> Any:
        return lax.map(lambda one: in_turn(axes - 1, one), by_row) if axes else f(shared, *by_row)

    return in_turn(axes, by_row)


def _product(equation: Any, factors: list[jax.Array]) -> jax.Array:
    if not _of_halves(equation):
        return equation.primitive.bind(*factors, **equation.params)
    single = equation.primitive.bind(*factors, **equation.params | {"preferred_element_type": jnp.dtype(jnp.float32)})
    return single.astype(equation.outvars[0].aval.dtype)


def _of_halves(equation: Any) -> bool:
    return all(is_half(variable.aval.dtype) for variable in (*equation.invars, *equation.outvars))


def _product_over_rows(equation: Any, factors: list[jax.Array]) -> jax.Array:
    """The product; one that sums over all rows of two arrays as a product of matrices, the narrower transposed first.

    Two equally narrow matrices lose by it. 16-bit floats are transposed by a product with the identity, as any other
    transposition is put back into the product, which is then one of float32, at half the rate.
    """
    rows = tuple(range(factors[0].ndim - 1))
    over_rows = equation.params["dimension_numbers"] == ((rows, rows), ((), ()))
    mixed = factors[0].dtype != factors[1].dtype  # where a cell asks for float32 sums itself
    if not over_rows or mixed or any(map(_is_sharded, factors)):
        return _product(equation, factors)
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
    # Rounded first: the transpose of a float32 product of 16-bit floats is one that the CPU backend makes and cannot run.
    return result if narrow is a else result.T


def _is_sharded(a: jax.Array) -> bool:
    """Whether the compiler divides it among devices, so that its axes must stay as they are."""
    return any(axis is not None for axis in jax.typeof(a).sharding.spec)


def _sum_rules() -> Rules:
    """Sums of 16-bit floats in float32: the gradient of a bias is a sum over all rows.

    A sum of a sum, over time and then over rows, is taken at once: rounded between them, the CPU backend makes one nested loop of
    the two (13 in place of 0.4 ms for [32, 32, 2048] in bfloat16, where a training step of an LSTM takes 65).
    """
    # By the id of a sum: it, what it sums, and which axis of that each of its own is; None is one of size 1.
    known: dict[int, tuple[jax.Array, jax.Array, list[int | None]]] = {}

    def total(equation: Any, operands: list[jax.Array]) -> jax.Array:
        _, terms, axes = known.get(id(operands[0]), (None, operands[0], list(range(operands[0].ndim))))
        left = [axis for place, axis in enumerate(axes) if place not in equation.params["axes"]]
        gone = tuple(axis for axis in range(terms.ndim) if axis not in left)
        made = equation.primitive.bind(halves_to_float32(terms), **equation.params | {"axes": gone})
        out = equation.outvars[0].aval
        made = made.astype(out.dtype)
        made = made if made.shape == out.shape else made.reshape(out.shape)
        if is_half(out.dtype):  # others are not rounded between
            known[id(made)] = made, terms, left
        return made

    def reshaped(equation: Any, operands: list[jax.Array]) -> jax.Array:
        made = equation.primitive.bind(*operands, **equation.params)
        a = operands[0]
        if id(a) in known and [size for size in made.shape if size != 1] == [size for size in a.shape if size != 1]:
            _, terms, axes = known[id(a)]
            longer = iter([axis for axis, size in zip(axes, a.shape, strict=True) if size != 1])
            known[id(made)] = made, terms, [None if size == 1 else next(longer) for size in made.shape]
        return made

    return {"reduce_sum": total, "reshape": reshaped}
