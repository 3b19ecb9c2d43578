"""Mixtures of Gaussians against SciPy's densities."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from jax.test_util import check_grads

from jrnn import losses
from jrnn.distributions import GaussianMixture, gaussian_mixture, log_density, sample

COMPONENTS, FEATURES = 3, 2
OUTPUTS = np.random.default_rng(0).normal(size=(4, 5, COMPONENTS * (1 + 2 * FEATURES))).astype(np.float32)
X = np.random.default_rng(1).normal(size=(4, 5, FEATURES)).astype(np.float32)


def by_scipy(outputs, x):
    """log p of one x under one output vector."""
    weights = scipy.special.softmax(outputs[:COMPONENTS].astype(np.float64))
    means, log_scales = outputs[COMPONENTS:].reshape(2, COMPONENTS, FEATURES).astype(np.float64)
    each = [scipy.stats.multivariate_normal(m, np.diag(np.exp(2 * s))).pdf(x) for m, s in zip(means, log_scales)]
    return np.log(weights @ each)


WANT = np.array([[by_scipy(OUTPUTS[i, j], X[i, j]) for j in range(5)] for i in range(4)])


@jax.jit
def loss(outputs, x, mask):
    return losses.negative_log_likelihood(gaussian_mixture(outputs, FEATURES, min_scale=1e-9), x, mask)


def test_the_density_is_that_of_scipy():
    mixture = gaussian_mixture(OUTPUTS, FEATURES)
    np.testing.assert_allclose(log_density(mixture, X), WANT, rtol=1e-5)
    shifted = mixture._replace(log_weights=mixture.log_weights + 3)
    np.testing.assert_allclose(log_density(shifted, X), WANT, rtol=1e-5)
    got = loss(OUTPUTS, X, None)
    assert got.weight == 20
    np.testing.assert_allclose(got.value, -WANT.mean(), rtol=1e-5)


def test_it_integrates_to_one():
    grid = jnp.linspace(-30, 30, 20001)
    mixture = GaussianMixture(jnp.array([0.0, 1.0]), jnp.array([[-2.0], [3.0]]), jnp.array([[0.5], [-1.0]]))
    whole = jax.vmap(functools.partial(log_density, mixture))(grid[:, None])
    np.testing.assert_allclose(jnp.trapezoid(jnp.exp(whole), grid), 1, rtol=1e-4)


def test_far_targets_and_small_scales_stay_finite():
    """Where each density is 0 in float32: the log is that of the component nearest by far."""
    mixture = GaussianMixture(jnp.zeros(2), jnp.array([[0.0], [1.0]]), jnp.array([[-5.0], [-5.0]]))
    value, slope = jax.value_and_grad(log_density)(mixture, jnp.array([9.0]))
    want = scipy.stats.norm(1, np.exp(-5)).logpdf(9) - np.log(2)
    np.testing.assert_allclose(value, want, rtol=1e-5)
    assert all(jnp.isfinite(leaf).all() for leaf in slope)
    single = gaussian_mixture(jnp.array([0.0, 2.0, -80.0]), 1, min_scale=0.1)
    np.testing.assert_allclose(jnp.exp(single.log_scales), [[0.1]], rtol=1e-6)


def test_gradients():
    with jax.enable_x64(True):
        given = jnp.asarray(OUTPUTS[0], jnp.float64), jnp.asarray(X[0], jnp.float64)
        each = jax.jit(lambda outputs, x: log_density(gaussian_mixture(outputs, FEATURES, min_scale=0.01), x))
        check_grads(each, given, order=2, modes=("fwd", "rev"), atol=1e-4, rtol=1e-3)
        assert each(*given).dtype == jnp.float64


def test_masked_frames_count_for_nothing_whatever_they_hold():
    mask = np.arange(20).reshape(4, 5) % 3 > 0
    outputs, x = np.where(mask[..., None], OUTPUTS, np.nan), np.where(mask[..., None], X, np.inf)
    got = loss(outputs, x, mask)
    assert got.weight == int(mask.sum())
    np.testing.assert_allclose(got.value, -WANT[mask].mean(), rtol=1e-5)
    slopes = jax.grad(lambda outputs, x: loss(outputs, x, mask).value, (0, 1))(outputs, x)
    for slope in slopes:
        assert jnp.isfinite(slope).all()
        assert not slope[~mask].any()
        assert slope[mask].any(-1).all()


def test_16_bit_outputs_are_summed_in_float32():
    mixture = gaussian_mixture(jnp.zeros((5000, 3), jnp.bfloat16), 1)
    got = losses.negative_log_likelihood(mixture, jnp.zeros((5000, 1), jnp.bfloat16), None)
    assert got.total.dtype == jnp.float32
    np.testing.assert_allclose(got.value, 0.5 * np.log(2 * np.pi), rtol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_draws_have_the_distribution(temperature):
    """Kolmogorov and Smirnov's test on each feature, the temperature as in the docstring."""
    mixture = GaussianMixture(
        jnp.log(jnp.array([0.2, 0.8])), jnp.array([[-2.0, 0.0], [1.0, 5.0]]), jnp.array([[0.0, -1.0], [0.5, 0.0]])
    )
    keys = jax.random.split(jax.random.key(0), 4000)
    draws = jax.vmap(lambda key: sample(key, mixture, temperature=temperature))(keys)
    weights = np.array([0.2, 0.8]) ** (1 / temperature)
    scales = np.exp(np.asarray(mixture.log_scales)) * temperature**0.5
    for feature in range(2):

        def cumulative(x, feature=feature):
            each = scipy.stats.norm(mixture.means[:, feature], scales[:, feature]).cdf(np.asarray(x)[:, None])
            return each @ (weights / weights.sum())

        assert scipy.stats.kstest(np.asarray(draws[:, feature]), cumulative).pvalue > 0.01
    # Features of one draw are of one component.
    joint = ((draws[:, 0] < -1) & (draws[:, 1] < 1.5)).mean()
    np.testing.assert_allclose(
        joint,
        sum(
            w * scipy.stats.norm(m[0], s[0]).cdf(-1) * scipy.stats.norm(m[1], s[1]).cdf(1.5)
            for w, m, s in zip(weights / weights.sum(), np.asarray(mixture.means), scales)
        ),
        atol=0.03,
    )


def test_temperature_of_each_mixture_and_zero():
    mixture = gaussian_mixture(OUTPUTS[0], FEATURES)
    heat = jnp.array([0.0, 1.0, 0.0, 0.3, 2.0])
    draw = jax.jit(sample)
    got = draw(jax.random.key(3), mixture, temperature=heat)
    for row in range(5):
        same = draw(jax.random.key(3), mixture, temperature=jnp.full(5, heat[row]))
        np.testing.assert_array_equal(got[row], same[row])
        if heat[row] == 0:
            np.testing.assert_array_equal(got[row], mixture.means[row, mixture.log_weights[row].argmax()])
    assert got.shape == (5, FEATURES)


GIVEN = gaussian_mixture(OUTPUTS[0], FEATURES)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: gaussian_mixture(jnp.zeros((2, 11)), 2), ValueError, r"float32\[2, 11\]; expected a multiple of 5"),
        (
            lambda: gaussian_mixture(jnp.zeros((2, 10), int), 2),
            TypeError,
            r"outputs is int32\[2, 10\]; expected floats",
        ),
        (lambda: gaussian_mixture(jnp.zeros(5), 0), ValueError, "features is 0"),
        (lambda: gaussian_mixture(jnp.zeros(5), 2, min_scale=-1), ValueError, "min_scale is -1; expected a number"),
        (lambda: log_density(GIVEN, jnp.zeros((5, 3))), ValueError, r"x is float32\[5, 3\]; .* shape \[5, 2\]"),
        (lambda: log_density(GIVEN, jnp.zeros((5, 2), int)), TypeError, r"x is int32\[5, 2\]; expected floats"),
        (lambda: log_density(jnp.zeros(3), jnp.zeros(3)), TypeError, "mixture is float32.* expected a GaussianMixture"),
        (
            lambda: log_density(GIVEN._replace(log_weights=jnp.zeros(3)), X[0]),
            ValueError,
            r"log_weights is float32\[3\]",
        ),
        (lambda: losses.negative_log_likelihood(GIVEN, X[0], jnp.ones(4, bool)), ValueError, r"mask is bool\[4\]"),
        (lambda: losses.negative_log_likelihood(GIVEN, X, None), ValueError, r"x is float32\[4, 5, 2\]"),
        (lambda: sample(jax.random.key(0), GIVEN, temperature=-1), ValueError, "temperature is -1; expected a finite"),
        (lambda: sample(jax.random.key(0), GIVEN, temperature="x"), ValueError, "temperature is 'x'"),
        (lambda: sample(jax.random.key(0), GIVEN, temperature=jnp.ones(2)), ValueError, r"temperature is float32\[2\]"),
        (lambda: sample(0, GIVEN), TypeError, "key is int 0"),
    ],
)
def test_what_does_not_fit(call, error, words):
    with pytest.raises(error, match=words):
        call()
