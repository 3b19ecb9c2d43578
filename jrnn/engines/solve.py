"""x with M x = b, for a linear map M that is solved forwards and transposed by functions of its own.

As `jax.lax.custom_linear_solve` it has every derivative: of M x = b follows M dx = db - dM x, and its transpose is M^T
w = g. That function traces M, its transpose and both solvers at every call, four times as much as back-propagation
needs; here each is traced where it is used. Zeros stay symbolic: what nobody varies or reads is not made.
"""

import abc
import functools
from typing import Any

import jax
from jax.extend.core import Primitive, unmapped_aval
from jax.interpreters import ad, batching, mlir

Vector = list[Any]
"""Arrays; None: zero."""


class Operator(abc.ABC):
    """An invertible linear map M(θ) between lists of arrays; θ is a list of arrays too. Compared by identity."""

    avals: list[Any]
    """Shapes and dtypes of x, b, and, as it maps between the same spaces, of w and g."""

    @abc.abstractmethod
    def apply(self, theta: list[Any], x: Vector) -> list[Any]:
        """M(θ) x."""

    @abc.abstractmethod
    def solve(self, theta: list[Any], b: Vector) -> list[Any]:
        """x with M(θ) x = b."""

    @abc.abstractmethod
    def solve_transposed(self, theta: list[Any], g: Vector) -> list[Any]:
        """w with M(θ)^T w = g."""


def solve(operator: Operator, theta: list[Any], b: Vector) -> list[Any]:
    """x with M(θ) x = b, differentiable in θ and b in every mode."""
    present = tuple(a is not None for a in b)
    return _solve_p.bind(*theta, *_given(b), operator=operator, transposed=False, present=present)


def _given(values: Vector) -> list[Any]:
    return [a for a in values if a is not None]


def _split(arguments: Any, present: tuple[bool, ...]) -> tuple[list[Any], Vector]:
    """θ, and b with None where it is zero."""
    count = len(arguments) - sum(present)
    given = iter(arguments[count:])
    return list(arguments[:count]), [next(given) if there else None for there in present]


def evaluate(*arguments: Any, operator: Operator, transposed: bool, present: tuple[bool, ...]) -> list[Any]:
    """What an equation of the primitive runs: θ and the leaves of b that are present -> x."""
    theta, b = _split(arguments, present)
    return operator.solve_transposed(theta, b) if transposed else operator.solve(theta, b)


def _apply(operator: Operator, transposed: bool, theta: list[Any], x: list[Any]) -> list[Any]:
    apply = functools.partial(operator.apply, theta)
    return jax.linear_transpose(apply, x)(x)[0] if transposed else apply(x)


def _is_zero(tangent: Any) -> bool:
    return type(tangent) is ad.Zero


def _jvp(primals: Any, tangents: Any, *, operator: Operator, transposed: bool, present: tuple[bool, ...]) -> Any:
    x = _solve_p.bind(*primals, operator=operator, transposed=transposed, present=present)
    theta, _ = _split(primals, present)
    dtheta, db = _split(tangents, present)
    db = [None if a is None or _is_zero(a) else a for a in db]
    moved = [index for index, tangent in enumerate(dtheta) if not _is_zero(tangent)]
    if moved:

        def image(values: list[Any]) -> list[Any]:
            at = list(theta)
            for index, value in zip(moved, values, strict=True):
                at[index] = value
            return _apply(operator, transposed, at, x)

        _, moves = jax.jvp(image, ([theta[i] for i in moved],), ([dtheta[i] for i in moved],))
        db = [-move if a is None else a - move for a, move in zip(db, moves, strict=True)]
    if not _given(db):
        return x, [ad.Zero(aval.to_tangent_aval()) for aval in operator.avals]
    there = tuple(a is not None for a in db)
    return x, _solve_p.bind(*theta, *_given(db), operator=operator, transposed=transposed, present=there)


def _transpose(
    cotangents: Any, *arguments: Any, operator: Operator, transposed: bool, present: tuple[bool, ...]
) -> Any:
    theta, b = _split(arguments, present)
    g = [None if _is_zero(cotangent) else cotangent for cotangent in cotangents]
    if not _given(g):
        return [None] * len(arguments)
    there = tuple(a is not None for a in g)
    w = _solve_p.bind(*theta, *_given(g), operator=operator, transposed=not transposed, present=there)
    wanted = [a if ad.is_undefined_primal(given) else None for a, given in zip(w, b) if given is not None]
    return [None] * len(theta) + wanted


class _Mapped(Operator):
    """An operator under `jax.vmap`: an axis before all axes of x and b, and the axes `axes` of θ."""

    def __init__(self, operator: Operator, axes: tuple[int | None, ...], axis: Any):
        self.operator, self.axes, self.axis = operator, axes, axis
        self.avals = [unmapped_aval(axis.size, 0, aval, axis.explicit_mesh_axis) for aval in operator.avals]

    def _map(self, f: Any, theta: list[Any], values: Vector) -> list[Any]:
        name = self.axis.name if isinstance(self.axis.name, str) else None
        axes = (list(self.axes), [None if a is None else 0 for a in values])
        return jax.vmap(f, in_axes=axes, out_axes=0, axis_size=self.axis.size, axis_name=name)(theta, values)

    def apply(self, theta: list[Any], x: Vector) -> list[Any]:
        return self._map(self.operator.apply, theta, x)

    def solve(self, theta: list[Any], b: Vector) -> list[Any]:
        return self._map(self.operator.solve, theta, b)

    def solve_transposed(self, theta: list[Any], g: Vector) -> list[Any]:
        return self._map(self.operator.solve_transposed, theta, g)


def _batch(
    axis: Any, arguments: Any, axes: Any, *, operator: Operator, transposed: bool, present: tuple[bool, ...]
) -> Any:
    count = len(arguments) - sum(present)
    b = [batching.bdim_at_front(a, at, axis.size) for a, at in zip(arguments[count:], axes[count:], strict=True)]
    mapped = _Mapped(operator, tuple(axes[:count]), axis)
    x = _solve_p.bind(*arguments[:count], *b, operator=mapped, transposed=transposed, present=present)
    return x, [0] * len(x)


_solve_p = Primitive("linear_solve")
_solve_p.multiple_results = True
_solve_p.def_impl(jax.jit(evaluate, static_argnames=("operator", "transposed", "present")))
_solve_p.def_abstract_eval(lambda *arguments, operator, transposed, present: operator.avals)
ad.primitive_jvps[_solve_p] = _jvp
ad.primitive_transposes[_solve_p] = _transpose
batching.fancy_primitive_batchers[_solve_p] = _batch
mlir.register_lowering(_solve_p, mlir.lower_fun(evaluate, multiple_results=True))
