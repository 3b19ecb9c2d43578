"""Losses as a sum and a weight, so that a mean over shards, windows or unequal batches is exact."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from .checks import describe, single


class Mean(NamedTuple):
    """A mean that has not been divided yet: add two with `jax.tree.map(jnp.add, a, b)` to pool what they saw."""

    total: jax.Array  # []: the sum over real entries
    weight: jax.Array  # []: how many entries are real

    @property
    def value(self) -> jax.Array:
        """total / weight; 0 where nothing is real."""
        return self.total / jnp.maximum(self.weight, 1)


def cross_entropy(logits: jax.Array, targets: jax.Array, mask: jax.Array | None = None) -> Mean:
    """Cross-entropy in nats of integer `targets` [...] under `logits` [..., classes], where `mask` [...] is True.

    Computed in float32 at least. A masked entry may hold any logits and any target.
    """
    if not jnp.issubdtype(targets.dtype, jnp.integer) or targets.shape != logits.shape[:-1]:
        raise ValueError(f"targets is {describe(targets)}; expected integers of shape {list(logits.shape[:-1])}")
    if mask is not None and (mask.shape != targets.shape or mask.dtype != jnp.bool_):
        raise ValueError(f"mask is {describe(mask)}; expected bool{list(targets.shape)}")
    logits = logits.astype(single(logits.dtype))
    if mask is not None:
        logits = jnp.where(mask[..., None], logits, jnp.zeros_like(logits))
        targets = jnp.where(mask, targets, jnp.zeros_like(targets))
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    if mask is None:
        return Mean(total=nats.sum(), weight=jnp.asarray(nats.size, nats.dtype))
    return Mean(total=jnp.where(mask, nats, jnp.zeros_like(nats)).sum(), weight=mask.sum(dtype=nats.dtype))


def bits(nats: float) -> float:
    """Nats to bits: bits per character from a mean cross-entropy per character."""
    return nats / math.log(2)
