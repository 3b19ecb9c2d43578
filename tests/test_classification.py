"""What the experiments that choose a class share."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("tyro", reason="the experiments extra is not installed")

from experiments.common.classification import HeldOut, most_frequent
from jrnn.data import bucketed


class Example(NamedTuple):
    xs: np.ndarray
    label: np.ndarray


def test_always_the_most_frequent_class():
    assert most_frequent(np.array([0, 1, 1, 2]), np.array([1, 1, 0, 2])) == 0.5
    assert most_frequent(np.array([0, 0, 1, 1, 2]), np.array([1, 1, 1, 0])) == 0.5  # 3/4 and 1/4: their mean
    assert most_frequent(np.array([3, 3]), np.array([0])) == 0


def test_surprise_is_the_cross_entropy_in_the_order_of_the_examples():
    """Logits that are the examples' own numbers, however they come into batches."""
    random = np.random.default_rng(0)
    logits = random.normal(size=(7, 4)).astype(np.float32)
    labels = random.integers(0, 4, 7).astype(np.int32)
    examples = [Example(np.tile(one, (n % 3 + 1, 1)), label) for n, (one, label) in enumerate(zip(logits, labels))]
    held_out = HeldOut(
        lambda scale, batch: scale * batch.data.xs[0],
        {"valid": bucketed(examples, batch=3, shapes=2)},
        {"valid": labels},
    )
    scaled = 2 * logits.astype(np.float64)
    known = scaled - np.log(np.exp(scaled).sum(1, keepdims=True))
    np.testing.assert_allclose(held_out.log_probabilities(jnp.float32(2), "valid"), known, rtol=1e-5)
    assert held_out.surprise(jnp.float32(2)) == pytest.approx(-known[np.arange(7), labels].mean(), rel=1e-5)
