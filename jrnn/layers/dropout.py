"""Dropout: zeroes features at random in training."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ..checks import check_key, check_switches
from .base import Layer, on_real_steps


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Dropout(Layer):
    """Zeroes a share `rate` of the features and scales the rest by 1 / (1 - rate), while there is a key (Srivastava et al. 2014).

    Per step by default; `variational`: the same features at every step of a row (Gal & Ghahramani 2016). In `step` the mask
    follows the key: pass the same key at every step for variational dropout, a new one for each step otherwise.
    """

    rate: float
    variational: bool = dataclasses.field(default=False, kw_only=True)

    input_size = None
    output_size = None
    parameterless = True
    pointwise = True

    def __post_init__(self) -> None:
        if isinstance(self.rate, bool) or not isinstance(self.rate, int | float):
            raise TypeError(f"Dropout: rate is {self.rate!r}; expected a number, a share in [0, 1)")
        if not 0 <= self.rate < 1:
            raise ValueError(f"Dropout: rate is {self.rate}; expected a share in [0, 1)")
        check_switches("Dropout", variational=self.variational)

    def init(self, key: jax.Array) -> tuple[()]:
        return ()

    def initial_state(self, params: Any, batch: tuple[int, ...] = (), key: jax.Array | None = None) -> tuple[()]:
        return ()

    def run(self, params, xs, state, segments, key):
        xs = jnp.asarray(xs)
        shape = xs.shape[1:] if self.variational else xs.shape
        return (), on_real_steps(lambda xs: self._dropped(xs, shape, key), xs, segments.mask)

    def step(self, params, state, x, *, key=None):
        return (), self._dropped(x, x.shape, key)

    def _dropped(self, x: jax.Array, shape: tuple[int, ...], key: jax.Array | None) -> jax.Array:
        """`x` with what is drawn, of `shape`, repeated over its leading axes."""
        if key is None or self.rate == 0:
            return x
        check_key(key)
        keep = jnp.broadcast_to(jax.random.bernoulli(key, 1 - self.rate, shape), x.shape)
        return jnp.where(keep, x / (1 - self.rate), jnp.zeros_like(x))
