"""What an online learner keeps of the past, and vectors of all floats of a state."""

import abc
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from ..arrays import at_least_float32, differentiable, match_varying_axes, with_differentiable
from ..layers import Layer
from ..segments import Segments

T = TypeVar("T")


class Window(NamedTuple):
    """The steps that `apply` is given at once."""

    xs: Any  # [time, ...]
    mask: jax.Array | None  # bool [time]: False where a step is padded
    reset: jax.Array | None  # bool [time]: True where the row starts anew


class Method(abc.ABC, Generic[T]):
    """What stands in for the derivative of the state that a window of steps starts from.

    M = d state / d params, of all that happened before the window, is the influence; a method keeps it, or something like it, in a
    trace. Everything here is for one row; `Online` maps it over the batch. The floats of a state and of parameters are those of
    `vector` and of `leaves`; what a method keeps is float32 at least, and every array of a trace one of its own.
    """

    @abc.abstractmethod
    def init(self, layer: Layer, params: Any, state: Any, key: jax.Array | None) -> T:
        """The trace before the first step, where `state` is `layer.initial_state(params)`."""

    @abc.abstractmethod
    def push(self, layer: Layer, params: Any, state: Any, trace: T, dparams: list[jax.Array]) -> jax.Array:
        """M @ dparams, linear in `dparams` (the tangents of `leaves(params)`): a tangent of the state, [floats of the state]."""

    @abc.abstractmethod
    def advance(self, layer: Layer, params: Any, state: Any, trace: T, window: Window) -> T:
        """The trace after the window, from that before it and the state the window starts from."""


def after(layer: Layer, params: Any, state: Any, window: Window) -> Any:
    """The state after the window."""
    return layer.run(params, window.xs, state, Segments(window.mask, window.reset), None)[0]


def leaves(params: Any) -> list[jax.Array]:
    """The parameters that have a derivative."""
    return differentiable(params)


def vector(state: Any) -> jax.Array:
    """All floats of a state, [n], float32 at least; of complex numbers the real and then the imaginary parts."""
    parts = [p.ravel() for a in differentiable(state) for p in ((a.real, a.imag) if jnp.iscomplexobj(a) else (a,))]
    dtype = at_least_float32(jnp.result_type(*parts)) if parts else jnp.float32
    return jnp.concatenate([p.astype(dtype) for p in parts]) if parts else jnp.zeros(0, dtype)


def as_vector(state: Any, v: jax.Array) -> Any:
    """A state like `state` whose floats are those of `v`."""
    return with_differentiable(state, values(state, v))


def values(state: Any, v: jax.Array) -> list[jax.Array]:
    """The floats `v` as the leaves of `state` that have a derivative."""
    made, start = [], 0
    for a in differentiable(state):
        parts = []
        for _ in range(2 if jnp.iscomplexobj(a) else 1):
            parts.append(v[start : start + a.size].reshape(a.shape).astype(a.real.dtype))
            start += a.size
        made.append(jax.lax.complex(*parts) if len(parts) == 2 else parts[0])
    return made


def contract(row: jax.Array, d: jax.Array) -> jax.Array:
    """Derivatives [..., *param] with respect to a parameter, times its tangent [*param]: [...]."""
    made = jnp.tensordot(row, d.astype(at_least_float32(d.dtype)), d.ndim)
    return made.real if jnp.iscomplexobj(made) else made


def pull(f: Callable[[list[jax.Array]], jax.Array], params: Any) -> Callable[[jax.Array], list[jax.Array]]:
    """`f` of the leaves of `params` is a vector; its derivatives with respect to them, along a cotangent of that vector."""
    _, back = jax.vjp(f, leaves(params))

    def along(cotangent: jax.Array) -> list[jax.Array]:
        return [d.astype(at_least_float32(d.dtype)) for d in back(cotangent)[0]]

    return along


def identity(like: jax.Array) -> jax.Array:
    """The identity [n, n] for a vector [n], varying over the axes of a mesh as it does."""
    return match_varying_axes(jnp.eye(like.size, dtype=like.dtype), like)[0]


def from_initial_state(layer: Layer, params: Any) -> Callable[[jax.Array], list[jax.Array]]:
    """How the parameters move the initial state: not at all, unless it is learned."""
    return pull(lambda p: vector(layer.initial_state(with_differentiable(params, p))), params)
