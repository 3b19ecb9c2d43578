import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jrnn import losses


def test_cross_entropy_is_the_mean_of_minus_log_probability():
    logits = jax.random.normal(jax.random.key(0), (5, 3, 7))
    targets = jax.random.randint(jax.random.key(1), (5, 3), 0, 7)
    p = np.exp(np.asarray(logits, np.float64))
    p /= p.sum(-1, keepdims=True)
    by_hand = -np.log(np.take_along_axis(p, np.asarray(targets)[..., None], -1)).mean()
    np.testing.assert_allclose(losses.cross_entropy(logits, targets, None).value, by_hand, rtol=1e-6)


def test_masked_entries_count_for_nothing_whatever_they_hold():
    logits = jax.random.normal(jax.random.key(0), (6, 4))
    targets = jnp.array([0, 1, 2, 3, 0, 1])
    mask = jnp.array([True, False, True, True, False, True])
    real = losses.cross_entropy(logits[mask], targets[mask], None)
    dirty = jnp.where(mask[:, None], logits, jnp.nan)

    def loss(logits):
        return losses.cross_entropy(logits, jnp.where(mask, targets, -7), mask).value

    np.testing.assert_allclose(loss(dirty), real.value, rtol=1e-6)
    gradient = jax.grad(loss)(dirty)
    assert jnp.isfinite(gradient).all()
    assert not gradient[~mask].any()


def test_means_pool_exactly():
    logits = jax.random.normal(jax.random.key(0), (10, 4))
    targets = jnp.arange(10) % 4
    parts = [losses.cross_entropy(logits[a:b], targets[a:b], None) for a, b in ((0, 3), (3, 10))]
    pooled = jax.tree.map(jnp.add, *parts)
    np.testing.assert_allclose(pooled.value, losses.cross_entropy(logits, targets, None).value, rtol=1e-6)
    assert losses.cross_entropy(logits, targets, jnp.zeros(10, bool)).value == 0


def test_half_precision_logits_are_summed_in_float32():
    logits = jnp.zeros((4096, 10), jnp.bfloat16)
    mean = losses.cross_entropy(logits, jnp.zeros(4096, jnp.int32), None)
    assert mean.total.dtype == jnp.float32
    np.testing.assert_allclose(mean.value, np.log(10), rtol=1e-6)


def test_binary_cross_entropy_is_the_sum_over_keys_by_hand():
    logits = np.random.default_rng(0).normal(size=(4, 3, 6)).astype(np.float32)
    targets = np.random.default_rng(1).random((4, 3, 6)) < 0.3
    mask = np.arange(12).reshape(4, 3) % 5 != 0
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    by_hand = -np.where(targets, np.log(p), np.log(1 - p)).sum(-1)
    for kind in (bool, np.int32, np.float32):
        got = losses.binary_cross_entropy(jnp.asarray(logits), jnp.asarray(targets.astype(kind)), None)
        assert got.weight == 12
        np.testing.assert_allclose(got.value, by_hand.mean(), rtol=1e-6)

    def masked(logits):
        dirty = jnp.where(mask[..., None], targets.astype(np.float32), jnp.nan)
        return losses.binary_cross_entropy(jnp.where(mask[..., None], logits, jnp.nan), dirty, jnp.asarray(mask)).value

    value, slope = jax.value_and_grad(masked)(jnp.asarray(logits))
    np.testing.assert_allclose(value, by_hand[mask].mean(), rtol=1e-6)
    np.testing.assert_allclose(slope, np.where(mask[..., None], p - targets, 0) / mask.sum(), atol=1e-6)
    half = losses.binary_cross_entropy(jnp.zeros((4096, 2), jnp.bfloat16), jnp.zeros((4096, 2), bool), None)
    assert half.total.dtype == jnp.float32
    np.testing.assert_allclose(half.value, 2 * np.log(2), rtol=1e-6)
    large = losses.binary_cross_entropy(jnp.array([500.0, -500.0]), jnp.array([0, 1]), None)
    np.testing.assert_allclose(large.value, 1000)


def test_bits():
    assert losses.bits(np.log(2)) == pytest.approx(1)


@pytest.mark.parametrize(
    ("targets", "mask", "words"),
    [
        (jnp.zeros(3, jnp.float32), None, "targets is float32"),
        (jnp.zeros(4, jnp.int32), None, r"targets is int32\[4\]; expected integers of shape \[3\]"),
        (jnp.zeros(3, jnp.int32), jnp.ones(3, jnp.int32), "mask is int32"),
        (jnp.zeros(3, jnp.int32), jnp.ones(2, bool), r"mask is bool\[2\]; expected bool\[3\]"),
    ],
)
def test_bad_input(targets, mask, words):
    with pytest.raises(ValueError, match=words):
        losses.cross_entropy(jnp.zeros((3, 5)), targets, mask)


MEASURES = {
    "squared": (losses.squared_error, lambda a, b: (a - b) ** 2),
    "absolute": (losses.absolute_error, lambda a, b: np.abs(a - b)),
}


@pytest.mark.parametrize("name", MEASURES)
def test_errors_by_hand(name):
    measure, by_hand = MEASURES[name]
    predicted, truth = np.random.default_rng(0).standard_normal((2, 4, 3)).astype(np.float32)
    mask = np.arange(12).reshape(4, 3) % 5 != 0
    expected = by_hand(predicted, truth)
    np.testing.assert_allclose(
        measure(jnp.asarray(predicted), jnp.asarray(truth), None).value, expected.mean(), rtol=1e-6
    )

    def masked(predicted):
        dirty = jnp.where(jnp.asarray(mask), predicted, jnp.full_like(predicted, jnp.nan))
        return measure(dirty, jnp.asarray(truth), jnp.asarray(mask)).value

    value, gradient = jax.value_and_grad(masked)(jnp.asarray(predicted))
    np.testing.assert_allclose(value, expected[mask].mean(), rtol=1e-6)
    assert not gradient[~mask].any()
    assert gradient[mask].all()
    half = measure(jnp.zeros(4096, jnp.bfloat16), jnp.ones(4096, jnp.bfloat16), None)
    assert (half.total, half.total.dtype) == (4096, jnp.float32)


def test_accuracy_by_hand():
    predicted, truth = jnp.array([0, 1, 2, 2, 1]), jnp.array([0, 2, 2, 0, 1])
    assert tuple(losses.accuracy(predicted, truth, None)) == (3, 5)
    assert tuple(losses.accuracy(predicted, truth, jnp.array([True, True, False, False, True]))) == (2, 3)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: losses.squared_error(jnp.zeros((3, 1)), jnp.zeros(3), None),
            r"targets is float32\[3\]; expected the shape",
        ),
        (
            lambda: losses.absolute_error(jnp.zeros(3), jnp.zeros(3), jnp.ones(3)),
            r"mask is float32\[3\]; expected bool\[3\]",
        ),
        (lambda: losses.accuracy(jnp.zeros(3, int), jnp.zeros(2, int), None), r"targets is int32\[2\]"),
        (
            lambda: losses.binary_cross_entropy(jnp.zeros((3, 5)), jnp.zeros(3, int), None),
            r"targets is int32\[3\]; expected the shape of logits, \[3, 5\]: \[\.\.\., keys\]",
        ),
        (
            lambda: losses.binary_cross_entropy(jnp.zeros((3, 5)), jnp.zeros((3, 5)), jnp.ones((3, 5), bool)),
            r"mask is bool\[3, 5\]; expected bool\[3\]",
        ),
        (lambda: losses.accuracy(jnp.zeros(3, int), jnp.zeros(3, int), jnp.ones(2, bool)), r"mask is bool\[2\]"),
    ],
)
def test_bad_measures(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize("label", [-1, -100, 4])
def test_a_target_out_of_range_is_no_class(label):
    logits, targets = jnp.arange(12.0).reshape(3, 4), jnp.array([0, 0, label])
    with pytest.raises(ValueError, match=rf"targets\[2\] is {label}.*expected 0..3"):
        losses.cross_entropy(logits, targets, None)
    assert jnp.isnan(jax.jit(losses.cross_entropy)(logits, targets, None).total)
    for mask, ignore in [(jnp.array([True, True, False]), None), (None, label)]:
        found = losses.cross_entropy(logits, targets, mask, ignore=ignore)
        expected = losses.cross_entropy(logits[:2], targets[:2], None)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_an_ignored_target_has_no_gradient():
    logits = jnp.array([[1.0, 2.0], [jnp.nan, jnp.inf]])
    slope = jax.grad(lambda a: losses.cross_entropy(a, jnp.array([1, -100]), None, ignore=-100).value)(logits)
    p = 1 / (1 + np.exp(1.0))
    np.testing.assert_allclose(slope, [[p, -p], [0, 0]], rtol=1e-5)


def test_accuracy_counts_no_negative_target():
    predicted, targets = jnp.array([-1, 2, 3]), jnp.array([-1, 2, 2])
    with pytest.raises(ValueError, match=r"targets\[0\] is -1"):
        losses.accuracy(predicted, targets, None)
    assert jnp.isnan(jax.jit(losses.accuracy)(predicted, targets, None).total)
    assert losses.accuracy(predicted, targets, None, ignore=-1) == (1.0, 2.0)


def test_weights_below_one_are_divided_by():
    assert losses.Mean(jnp.float32(0.05), jnp.float32(0.1)).value == 0.5
    assert losses.Mean(jnp.float32(0.0), jnp.float32(0.0)).value == 0
    assert jax.grad(lambda w: losses.Mean(w, jnp.float32(0.0)).value)(0.0) == 0


@pytest.mark.parametrize(("dtype", "classes"), [("uint8", 256), ("uint8", 300), ("int8", 300), ("int16", 40_000)])
def test_classes_that_the_targets_dtype_cannot_count(dtype, classes):
    """256 is 0 in uint8: compared in it, no byte would be a class."""
    targets = np.array([0, 44, 127], dtype)
    logits = jax.random.normal(jax.random.key(0), (3, classes))
    expected = -jax.nn.log_softmax(logits)[np.arange(3), targets.astype(int)].sum()
    for run in (losses.cross_entropy, jax.jit(losses.cross_entropy)):
        np.testing.assert_allclose(run(logits, targets, None).total, expected, rtol=1e-5)


def test_what_is_ignored_is_no_byte():
    """-100 is 156 in uint8."""
    targets = np.array([156, 1], np.uint8)
    assert losses.accuracy(jnp.array([156, 1]), targets, None, ignore=-100) == (2.0, 2.0)
