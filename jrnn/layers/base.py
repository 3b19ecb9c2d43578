"""Layer: from sequence to sequence, `init` and `apply`."""

import abc
from typing import Any

import jax
import jax.numpy as jnp

from ..arrays import select
from ..checks import check_key
from ..segments import step_mask


class Layer(abc.ABC):
    """Sequence to sequence. A frozen dataclass of hyperparameters, registered with `jax.tree_util.register_static`."""

    input_size: int | None
    """Features of xs; None: any, or tokens (an embedding)."""
    output_size: int | None
    """Features of ys; None: as many as xs has."""
    stateless: bool = False
    """True: no parameters and no state (dropout)."""

    @abc.abstractmethod
    def init(self, key: jax.Array) -> Any:
        """Fresh parameters, in JAX's default float (float32, unless `jax_enable_x64` is set)."""

    @abc.abstractmethod
    def initial_state(self, params: Any, batch: tuple[int, ...] = (), key: jax.Array | None = None) -> Any:
        """The state before the first step; `key` drives the noise of cells that have some."""

    @abc.abstractmethod
    def apply(
        self,
        params: Any,
        xs: jax.Array,
        state: Any = None,
        *,
        lengths: jax.Array | None = None,
        mask: jax.Array | None = None,
        reset: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> tuple[Any, jax.Array]:
        """xs [time, *batch, input] -> (final state, ys [time, *batch, output]).

        `lengths`, `mask` and `reset` as in `unroll`. `key` is for dropout and noise; without one there is neither.
        """

    @abc.abstractmethod
    def step(self, params: Any, state: Any, x: jax.Array, *, key: jax.Array | None = None) -> tuple[Any, jax.Array]:
        """One time step: x [*batch, input] -> (new state, y [*batch, output]); the same numbers as `apply`."""

    def ends(self, ys: jax.Array, real: jax.Array | None) -> jax.Array:
        """Of the outputs ys [time, *batch, output] those at the end of the run, [*batch, output]: at the last real step.

        A reversed layer ends at the first real step, and each half of a `Bidirectional` where its direction does. A row without
        real steps ends in zeros. `real` is bool [time, *batch], or None where every step is.
        """
        return _at(_last_step, ys, real)

    def last(
        self,
        params: Any,
        xs: jax.Array,
        state: Any = None,
        *,
        lengths: jax.Array | None = None,
        mask: jax.Array | None = None,
        reset: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> tuple[Any, jax.Array]:
        """As `apply`, with the output at the end of the run alone: [*batch, output], as `ends` picks it.

        A `Recurrent` layer reads it from its state, so under `jit` its outputs over time are never stacked.
        """
        state, ys = self.apply(params, xs, state, lengths=lengths, mask=mask, reset=reset, key=key)
        return state, self.ends(ys, step_mask(lengths, mask, ys.shape[:-1]))


def _last_step(real: jax.Array) -> jax.Array:
    """The last real step of each row: int32 [*batch]."""
    return len(real) - 1 - jnp.argmax(real[::-1], axis=0).astype(jnp.int32)


def _first_step(real: jax.Array) -> jax.Array:
    return jnp.argmax(real, axis=0).astype(jnp.int32)


def _at(step: Any, ys: jax.Array, real: jax.Array | None) -> jax.Array:
    """ys [time, *batch, features] at one real step of each row; zeros where there is none."""
    if real is None:
        return ys[0] if step is _first_step else ys[-1]
    ys = select(real, ys, jnp.zeros_like(ys))
    return jnp.take_along_axis(ys, step(real)[None, ..., None], axis=0)[0]


def _split(key: jax.Array | None, parts: int) -> Any:
    if key is None:
        return [None] * parts
    check_key(key)
    return jax.random.split(key, parts)
