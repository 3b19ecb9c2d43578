"""Pooling: what a whole sequence comes to, from its outputs over the real steps."""

import abc
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .arrays import affine, at_least_float32, broadcast_like, select
from .checks import check_flags, check_positive


class Pooling(abc.ABC):
    """ys [time, *batch, size] -> [*batch, size]. A row without real steps comes to zeros.

    A frozen dataclass of hyperparameters, registered with `jax.tree_util.register_static`. The last output is
    `Layer.last`, which has no need of the others.
    """

    def init(self, key: jax.Array, size: int) -> Any:
        """Parameters for outputs of `size` features."""
        return ()

    def apply(self, params: Any, ys: jax.Array, mask: jax.Array | None) -> jax.Array:
        """`mask` is bool [time, *batch], None where every step is real. What a padded step holds, NaN too, reaches nothing."""
        mask = jnp.ones(ys.shape[:-1], bool) if mask is None else jnp.asarray(mask)
        check_flags(mask, "mask", ys.shape[:-1])
        pooled = self.pool(params, select(mask, ys, jnp.zeros_like(ys)), mask)
        return select(mask.any(0), pooled, jnp.zeros_like(pooled))

    @abc.abstractmethod
    def pool(self, params: Any, ys: jax.Array, mask: jax.Array) -> jax.Array:
        """The same, with zeros in `ys` where `mask` is False; a row without real steps may come to anything finite."""


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Mean(Pooling):
    """The mean of each feature over the real steps."""

    def pool(self, params, ys, mask):
        total = ys.astype(at_least_float32(ys.dtype)).sum(0)
        count = jnp.maximum(mask.sum(0), 1).astype(total.dtype)
        return (total / jnp.broadcast_to(count[..., None], total.shape)).astype(ys.dtype)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Max(Pooling):
    """The largest value of each feature over the real steps (Collobert et al. 2011)."""

    def pool(self, params, ys, mask):
        return select(mask, ys, jnp.full_like(ys, jnp.finfo(ys.dtype).min)).max(0)


class AttentionParams(NamedTuple):
    w: jax.Array  # [size, hidden]
    b: jax.Array  # [hidden]
    query: jax.Array  # [hidden]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Attention(Pooling):
    """A mean weighted by what each step says about itself, against one learned query (Yang et al. 2016).

        u_t = tanh(y_t W + b)
        a = softmax(u · query)
        pooled = Σ_t a_t y_t

    The softmax is over the real steps.
    """

    hidden_size: int

    def __post_init__(self) -> None:
        check_positive("Attention", hidden_size=self.hidden_size)

    def init(self, key: jax.Array, size: int) -> AttentionParams:
        w, query = jax.random.split(key)
        return AttentionParams(
            w=jax.nn.initializers.glorot_uniform()(w, (size, self.hidden_size)),
            b=jnp.zeros(self.hidden_size),
            query=jax.random.normal(query, (self.hidden_size,)) / self.hidden_size**0.5,
        )

    def weights(self, params: AttentionParams, ys: jax.Array, mask: jax.Array | None) -> jax.Array:
        """a [time, *batch], float32 at least: what each step weighs, summing to 1 over the real steps of a row that has any."""
        u = jnp.tanh(affine(ys, params.w, params.b))
        u, query = (a.astype(at_least_float32(a.dtype)) for a in (u, params.query))
        weights = jax.nn.softmax((u * broadcast_like(query, u)).sum(-1), axis=0, where=mask)
        return weights if mask is None else jnp.where(mask, weights, jnp.zeros_like(weights))

    def pool(self, params, ys, mask):
        weights = self.weights(params, ys, mask | ~mask.any(0)[None])  # an empty row: anything finite
        return (weights[..., None] * ys.astype(weights.dtype)).sum(0).astype(ys.dtype)
