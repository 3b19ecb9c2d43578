"""What an online learner keeps of the past."""

import abc
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from ..arrays import at_least_float32, differentiable, match_varying_axes, vector, with_differentiable, with_vector
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
    `vector` and of `differentiable`; what a method keeps is float32 at least, and every array of a trace one of its own.
    """

    entry_by_entry = False
    """Whether `push` multiplies parameters entry by entry, not by products of matrices."""

    @abc.abstractmethod
    def init(self, layer: Layer, params: Any, state: Any, key: jax.Array | None) -> T:
        """The trace before the first step, where `state` is `layer.initial_state(params)`."""

    @abc.abstractmethod
    def push(self, layer: Layer, params: Any, state: Any, trace: T, dparams: list[jax.Array]) -> jax.Array:
        """M @ dparams, linear in `dparams`, the tangents of `differentiable(params)`: a tangent of `vector(state)`."""

    @abc.abstractmethod
    def advance(self, layer: Layer, params: Any, state: Any, trace: T, window: Window) -> T:
        """The trace after the window, from that before it and the state the window starts from."""


def after(layer: Layer, params: Any, state: Any, window: Window) -> Any:
    """The state after the window."""
    return layer.run(params, window.xs, state, Segments(window.mask, window.reset), None)[0]


def transition(layer: Layer, params: Any, state: Any, window: Window) -> Callable[..., tuple[jax.Array, Any]]:
    """`f(p, v) -> (v, state)`: the window as a function of the parameters that have a derivative and of the state as a vector."""

    def f(p: list[jax.Array], v: jax.Array) -> tuple[jax.Array, Any]:
        new = after(layer, with_differentiable(params, p), with_vector(state, v), window)
        return vector(new), new

    return f


def contract(row: jax.Array, d: jax.Array) -> jax.Array:
    """Derivatives [..., *param] with respect to a parameter, times its tangent [*param]: [...]."""
    made = jnp.tensordot(row, d.astype(at_least_float32(d.dtype)), d.ndim)
    return made.real if jnp.iscomplexobj(made) else made


def pull(f: Callable[[list[jax.Array]], jax.Array], params: Any) -> Callable[[jax.Array], list[jax.Array]]:
    """Of a vector that `f` makes of the parameters that have a derivative: the derivatives along a cotangent of that vector."""
    _, back = jax.vjp(f, differentiable(params))

    def along(cotangent: jax.Array) -> list[jax.Array]:
        return [d.astype(at_least_float32(d.dtype)) for d in back(cotangent)[0]]

    return along


def identity(like: jax.Array) -> jax.Array:
    """The identity [n, n] for a vector [n], varying over the axes of a mesh as it does."""
    return match_varying_axes(jnp.eye(like.size, dtype=like.dtype), like)[0]


def from_initial_state(layer: Layer, params: Any) -> Callable[[jax.Array], list[jax.Array]]:
    """How the parameters move the initial state: not at all, unless it is learned."""
    return pull(lambda p: vector(layer.initial_state(with_differentiable(params, p))), params)
