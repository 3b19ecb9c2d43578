"""Losses and metrics as a sum and a weight, so that a mean over shards, windows or unequal batches is exact.

Each takes the mask of what is real, which nobody can forget to give: None says that everything is.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from .arrays import at_least_float32
from .checks import describe


class Mean(NamedTuple):
    """A mean that has not been divided yet: add two with `jax.tree.map(jnp.add, a, b)` to pool what they saw."""

    total: jax.Array  # []: the sum over real entries
    weight: jax.Array  # []: how many entries are real

    @property
    def value(self) -> jax.Array:
        """total / weight; 0 where nothing is real."""
        return self.total / jnp.maximum(self.weight, 1)


def cross_entropy(logits: jax.Array, targets: jax.Array, mask: jax.Array | None) -> Mean:
    """Cross-entropy in nats of integer `targets` [...] under `logits` [..., classes], where `mask` [...] is True.

    Computed in float32 at least. A masked entry may hold any logits and any target.
    """
    _check_targets(targets, logits.shape[:-1])
    logits = logits.astype(at_least_float32(logits.dtype))
    if mask is not None:
        _check_mask(mask, targets.shape)
        logits = jnp.where(mask[..., None], logits, jnp.zeros_like(logits))
        targets = jnp.where(mask, targets, jnp.zeros_like(targets))
    return _mean(optax.softmax_cross_entropy_with_integer_labels(logits, targets), mask)


def accuracy(predicted: jax.Array, targets: jax.Array, mask: jax.Array | None) -> Mean:
    """The share of integers `predicted` [...] that are `targets` [...], where `mask` [...] is True."""
    _check_targets(targets, predicted.shape)
    if mask is not None:
        _check_mask(mask, targets.shape)
    return _mean((predicted == targets).astype(jnp.float32), mask)


def squared_error(predicted: jax.Array, targets: jax.Array, mask: jax.Array | None) -> Mean:
    """The squared difference of `predicted` and `targets`, both [...], where `mask` [...] is True, in float32 at least."""
    return _mean(jnp.square(_difference(predicted, targets, mask)), mask)


def absolute_error(predicted: jax.Array, targets: jax.Array, mask: jax.Array | None) -> Mean:
    """The absolute difference of `predicted` and `targets`, both [...], where `mask` [...] is True, in float32 at least."""
    return _mean(jnp.abs(_difference(predicted, targets, mask)), mask)


def bits(nats: float) -> float:
    """Nats to bits: bits per character from a mean cross-entropy per character."""
    return nats / math.log(2)


def _mean(values: jax.Array, mask: jax.Array | None) -> Mean:
    if mask is None:
        return Mean(total=values.sum(), weight=jnp.asarray(values.size, values.dtype))
    return Mean(total=jnp.where(mask, values, jnp.zeros_like(values)).sum(), weight=mask.sum(dtype=values.dtype))


def _difference(predicted: jax.Array, targets: jax.Array, mask: jax.Array | None) -> jax.Array:
    if predicted.shape != targets.shape:
        raise ValueError(f"targets is {describe(targets)}; expected the shape of predicted, {list(predicted.shape)}")
    difference = predicted.astype(at_least_float32(predicted.dtype)) - targets.astype(at_least_float32(targets.dtype))
    if mask is None:
        return difference
    _check_mask(mask, targets.shape)
    return jnp.where(mask, difference, jnp.zeros_like(difference))


def _check_targets(targets: jax.Array, shape: tuple[int, ...]) -> None:
    if not jnp.issubdtype(targets.dtype, jnp.integer) or targets.shape != shape:
        raise ValueError(f"targets is {describe(targets)}; expected integers of shape {list(shape)}")


def _check_mask(mask: jax.Array, shape: tuple[int, ...]) -> None:
    if mask.shape != shape or mask.dtype != jnp.bool_:
        raise ValueError(f"mask is {describe(mask)}; expected bool{list(shape)}, or None where every entry is real")
