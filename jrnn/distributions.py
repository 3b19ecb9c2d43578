"""Distributions of real-valued outputs: what a network's output vector says, its density, draws from it.

Of tokens the logits are the distribution: `jrnn.losses.cross_entropy`, `jrnn.decode.draw`.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from .arrays import at_least_float32
from .checks import check_key_or_legacy, check_positive, describe


class GaussianMixture(NamedTuple):
    """A mixture of Gaussians with a scale for each feature: p(x) = Σ_k weight_k Π_f N(x_f; mean_kf, scale_kf²)."""

    log_weights: jax.Array  # [..., components]; up to a constant: those of the density sum to 1
    means: jax.Array  # [..., components, features]
    log_scales: jax.Array  # [..., components, features]: of standard deviations


def gaussian_mixture(outputs: jax.Array, features: int, *, min_scale: float = 0.0) -> GaussianMixture:
    """The mixture that `outputs` [..., components * (1 + 2 * features)] of a network say (Bishop 1994; Graves 2013).

    In order: the log weights, up to a constant, the means, and the log scales, each of the latter two component by component.
    `min_scale` is added to the scales: the likelihood of a component on a single target grows without bound as its scale goes to 0.
    Float32 at least.
    """
    check_positive("gaussian_mixture", features=features)
    if isinstance(min_scale, bool) or not isinstance(min_scale, int | float) or not 0 <= min_scale < math.inf:
        raise ValueError(f"min_scale is {min_scale!r}; expected a number of at least 0")
    each = 1 + 2 * features
    if not hasattr(outputs, "shape") or not outputs.shape or outputs.shape[-1] % each or not outputs.shape[-1]:
        raise ValueError(
            f"outputs is {describe(outputs)}; expected a multiple of {each} in the last axis: for each component a weight, and a "
            f"mean and a scale for each of {features} features"
        )
    _check_floats("outputs", outputs)
    components = outputs.shape[-1] // each
    outputs = outputs.astype(at_least_float32(outputs.dtype))
    weights, means, scales = jnp.split(outputs, [components, components * (1 + features)], -1)
    means, scales = (a.reshape(*a.shape[:-1], components, features) for a in (means, scales))
    if min_scale:
        real = jnp.isfinite(scales)  # what a padded step holds, NaN too, reaches no gradient
        floored = jnp.logaddexp(jnp.where(real, scales, 0), jnp.full_like(scales, math.log(min_scale)))
        scales = jnp.where(real, floored, scales)
    return GaussianMixture(weights, means, scales)


def log_density(mixture: GaussianMixture, x: jax.Array) -> jax.Array:
    """log p(x) in nats, [...], of `x` [..., features]; float32 at least."""
    shape = _check_mixture(mixture)
    if getattr(x, "shape", None) != (*shape[:-2], shape[-1]):
        raise ValueError(
            f"x is {describe(x)}; expected floats of shape {[*shape[:-2], shape[-1]]}, as mixture.means has"
        )
    _check_floats("x", x)
    wide = np.promote_types(at_least_float32(mixture.means.dtype), at_least_float32(x.dtype))
    log_weights, means, log_scales, x = (a.astype(wide) for a in (*mixture, x))
    z = (x[..., None, :] - means) * jnp.exp(-log_scales)
    each = -0.5 * jnp.square(z).sum(-1) - log_scales.sum(-1) - 0.5 * shape[-1] * math.log(2 * math.pi)
    return jax.nn.logsumexp(jax.nn.log_softmax(log_weights) + each, -1)


def sample(key: jax.Array, mixture: GaussianMixture, *, temperature: Any = 1.0) -> jax.Array:
    """A draw from each of the mixtures: [..., features], float32 at least.

    `temperature` divides the log weights and multiplies the variances (Ha & Eck 2018); 0 takes the mean of the component with the
    largest weight. A number or an array [...], which may be traced; values are checked where they are known.
    """
    check_key_or_legacy(key)
    shape = _check_mixture(mixture)
    if not isinstance(temperature, Tracer):
        try:
            fits = bool(np.all(np.isfinite(temperature) & (np.asarray(temperature) >= 0)))
        except TypeError:
            fits = False
        if not fits:
            raise ValueError(f"temperature is {temperature!r:.80}; expected a finite number of at least 0")
    wide = at_least_float32(mixture.means.dtype)
    heat = jnp.asarray(temperature).astype(wide)
    if heat.shape not in ((), shape[:-2]):
        raise ValueError(
            f"temperature is {describe(heat)}; expected a number, or one for each mixture, {list(shape[:-2])}"
        )
    heat = jnp.broadcast_to(heat, shape[:-2])[..., None]
    log_weights, means, log_scales = (a.astype(wide) for a in mixture)
    choose, noise = jax.random.split(key)
    over = jnp.where(heat > 0, heat, jnp.ones_like(heat))
    drawn = jax.random.categorical(choose, (log_weights - log_weights.max(-1, keepdims=True)) / over)
    chosen = jnp.where(heat[..., 0] > 0, drawn, log_weights.argmax(-1))[..., None, None]
    mean, scale = (jnp.take_along_axis(a, chosen, -2)[..., 0, :] for a in (means, jnp.exp(log_scales)))
    return mean + jnp.sqrt(heat) * scale * jax.random.normal(noise, mean.shape, wide)


def _check_mixture(mixture: Any) -> tuple[int, ...]:
    """The three arrays of a mixture fit each other; returns the shape of the means."""
    if not isinstance(mixture, GaussianMixture):
        raise TypeError(f"mixture is {describe(mixture)}; expected a GaussianMixture, as gaussian_mixture makes it")
    shape = mixture.means.shape
    for name, array, want in zip(mixture._fields, mixture, (shape[:-1], shape, shape), strict=True):
        if array.shape != want or len(shape) < 2:
            raise ValueError(
                f"mixture.{name} is {describe(array)}; expected log_weights [..., components], means and log_scales "
                f"[..., components, features], and means is {describe(mixture.means)}"
            )
        _check_floats(f"mixture.{name}", array)
    return shape


def _check_floats(name: str, array: jax.Array) -> None:
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{name} is {describe(array)}; expected floats")
