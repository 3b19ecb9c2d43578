"""Losses and metrics as a sum and a weight, so that a mean over shards, windows or unequal batches is exact.

Each takes the mask of what is real, which nobody can forget to give: None says that everything is.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from .arrays import at_least_float32, select, widened
from .checks import check_labels, describe
from .distributions import GaussianMixture, log_density


class Mean(NamedTuple):
    """A mean that has not been divided yet: add two with `jax.tree.map(jnp.add, a, b)` to pool what they saw."""

    total: jax.Array  # []: the sum over real entries
    weight: jax.Array  # []: how many entries are real

    @property
    def value(self) -> jax.Array:
        """total / weight; 0 where nothing is real."""
        return divide(self.total, self.weight)


def divide(total: jax.Array, weight: jax.Array) -> jax.Array:
    """total / weight; 0 where the weight is."""
    some = weight > 0
    return jnp.where(some, total / jnp.where(some, weight, jnp.ones_like(weight)), jnp.zeros_like(total))


def cross_entropy(logits: jax.Array, targets: jax.Array, mask: jax.Array | None, *, ignore: int | None = None) -> Mean:
    """Cross-entropy in nats of integer `targets` [...] under `logits` [..., classes], where `mask` [...] is True.

    Computed in float32 at least. A masked entry may hold any logits and any target, and one whose target is `ignore` (-1 or -100,
    say) is masked too. Another target outside of 0..classes - 1 is an error, under `jit`, where its value is unknown, NaN.
    """
    targets = _checked(targets, logits.shape[:-1])
    logits = logits.astype(at_least_float32(logits.dtype))
    mask = _without(ignore, targets, mask)
    if mask is not None:
        logits = jnp.where(mask[..., None], logits, jnp.zeros_like(logits))
    targets, inside = check_labels(targets, logits.shape[-1], mask, "targets")
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    return _mean(jnp.where(inside, nats, jnp.full_like(nats, jnp.nan)), mask)


def binary_cross_entropy(logits: jax.Array, targets: jax.Array, mask: jax.Array | None) -> Mean:
    """Cross-entropy in nats of a frame of independent yes-or-no `targets` under `logits`, where `mask` [...] is True.

    Both are [..., keys], such as those of a piano: summed over the keys, a mean over frames (Boulanger-Lewandowski et al. 2012).
    Targets are bool, 0 and 1, or probabilities. Computed in float32 at least. A masked frame may hold anything.
    """
    if logits.ndim == 0 or targets.shape != logits.shape:
        raise ValueError(
            f"targets is {describe(targets)}; expected the shape of logits, {list(logits.shape)}: [..., keys]"
        )
    logits = logits.astype(at_least_float32(logits.dtype))
    targets = targets.astype(logits.dtype)
    if mask is not None:
        _check_mask(mask, targets.shape[:-1])
        logits, targets = (jnp.where(mask[..., None], a, jnp.zeros_like(a)) for a in (logits, targets))
    return _mean(optax.sigmoid_binary_cross_entropy(logits, targets).sum(-1), mask)


def negative_log_likelihood(mixture: GaussianMixture, targets: jax.Array, mask: jax.Array | None) -> Mean:
    """-log p in nats of `targets` [..., features] under a mixture of Gaussians for each, where `mask` [...] is True.

    A mean over frames; a density, so it may be negative. Computed in float32 at least. A masked frame may hold anything.
    """
    if mask is not None:
        _check_mask(mask, targets.shape[:-1])
        *some, targets = (select(mask, a, jnp.zeros_like(a)) for a in (*mixture, targets))
        mixture = GaussianMixture(*some)
    return _mean(-log_density(mixture, targets), mask)


def accuracy(predicted: jax.Array, targets: jax.Array, mask: jax.Array | None, *, ignore: int | None = None) -> Mean:
    """The share of integers `predicted` [...] that are `targets` [...], where `mask` [...] is True.

    An entry whose target is `ignore` is masked too. Another negative target is an error, under `jit` NaN.
    """
    targets = _checked(targets, predicted.shape)
    mask = _without(ignore, targets, mask)
    labels, inside = check_labels(targets, None, mask, "targets")
    right = (predicted == labels).astype(jnp.float32)
    return _mean(jnp.where(inside, right, jnp.full_like(right, jnp.nan)), mask)


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


def _without(ignore: int | None, targets: jax.Array, mask: jax.Array | None) -> jax.Array | None:
    """`mask`, checked, without the entries whose target is `ignore`."""
    if mask is not None:
        _check_mask(mask, targets.shape)
    if ignore is None:
        return mask
    return targets != ignore if mask is None else mask & (targets != ignore)


def _checked(targets: Any, shape: tuple[int, ...]) -> jax.Array:
    """Integer `targets` of that shape, as int32 at least."""
    targets = jnp.asarray(targets)
    if not jnp.issubdtype(targets.dtype, jnp.integer) or targets.shape != shape:
        raise ValueError(f"targets is {describe(targets)}; expected integers of shape {list(shape)}")
    return widened(targets)


def _check_mask(mask: jax.Array, shape: tuple[int, ...]) -> None:
    if mask.shape != shape or mask.dtype != jnp.bool_:
        raise ValueError(f"mask is {describe(mask)}; expected bool{list(shape)}, or None where every entry is real")
