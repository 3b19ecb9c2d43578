"""Dropout."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ..checks import check_key
from .base import Layer


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
    stateless = True

    def __post_init__(self) -> None:
        if not 0 <= self.rate < 1:
            raise ValueError(f"Dropout: rate is {self.rate}; expected a share in [0, 1)")

    def init(self, key: jax.Array) -> tuple[()]:
        return ()

    def initial_state(self, params: Any, batch: tuple[int, ...] = (), key: jax.Array | None = None) -> tuple[()]:
        return ()

    def apply(self, params, xs, state=None, *, lengths=None, mask=None, reset=None, key=None):
        if key is None or self.rate == 0:
            return (), xs
        keep = self._keep(key, xs.shape[1:] if self.variational else xs.shape)
        return (), jnp.where(jnp.broadcast_to(keep, xs.shape), xs / (1 - self.rate), jnp.zeros_like(xs))

    def step(self, params, state, x, *, key=None):
        if key is None or self.rate == 0:
            return (), x
        return (), jnp.where(self._keep(key, x.shape), x / (1 - self.rate), jnp.zeros_like(x))

    def _keep(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        check_key(key)
        return jax.random.bernoulli(key, 1 - self.rate, shape)
