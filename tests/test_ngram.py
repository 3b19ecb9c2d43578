"""The n-gram floor against a slow dictionary implementation, its own definition, and the numbers it has to reproduce."""

import itertools
import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from data_sets import needs
from hypothesis import given
from hypothesis import strategies as st

from experiments.data import text as corpora
from experiments.data.ngram import ngram_floor, ngram_probabilities


def witten_bell(train, vocabulary_size, order):
    """p(c | context) by recursion over dictionaries, straight from the equation."""
    followers = defaultdict(Counter)
    for k in range(1, order + 1):
        for i in range(len(train) - k + 1):
            followers[tuple(train[i : i + k - 1])][train[i + k - 1]] += 1

    def probability(context, c):
        shorter = probability(context[1:], c) if context else 1 / vocabulary_size
        seen = followers.get(tuple(context))
        return (seen[c] + len(seen) * shorter) / (seen.total() + len(seen)) if seen else shorter

    return probability


@given(data=st.data(), vocabulary_size=st.integers(1, 4), order=st.integers(1, 4))
def test_probabilities_agree_with_dictionaries(data, vocabulary_size, order):
    characters = st.lists(st.integers(0, vocabulary_size - 1), min_size=order, max_size=30)
    train, text = data.draw(characters), data.draw(characters)
    slow = witten_bell(train, vocabulary_size, order)
    want = [slow(text[i - order + 1 : i], text[i]) for i in range(order - 1, len(text))]
    got = ngram_probabilities(np.array(train), np.array(text), vocabulary_size, order)
    np.testing.assert_allclose(got, want, rtol=1e-12)
    floor = ngram_floor(np.array(train), np.array(text), vocabulary_size, order)
    assert floor == pytest.approx(-np.mean(np.log(want)), rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_probabilities_sum_to_one_for_every_context(order):
    vocabulary_size = 5  # character 4 never occurs in training
    train = np.random.default_rng(0).integers(0, 4, 40)
    for context in itertools.product(range(vocabulary_size), repeat=order - 1):
        each = [
            ngram_probabilities(train, np.array([*context, c]), vocabulary_size, order).item()
            for c in range(vocabulary_size)
        ]
        assert min(each) > 0
        assert sum(each) == pytest.approx(1, rel=1e-12)


def test_order_one_of_unseen_characters_by_hand():
    # Train a a b: n = 3, t = 2, uniform 1/4. p(a) = (2 + 2/4) / 5, p(never seen) = (2/4) / 5.
    got = ngram_probabilities(np.array([0, 0, 1]), np.array([0, 3]), 4, 1)
    np.testing.assert_allclose(got, [0.5, 0.1])


@pytest.mark.parametrize(
    ("train", "text", "vocabulary_size", "order", "message"),
    [
        ([0, 1, 1], [0, 1], 2, 0, "order 0"),
        ([0, 1, 1], [0, 1], 0, 1, "vocabulary_size 0"),
        ([0, 1, 1], [0, 1], 2, 63, r"below 2\*\*63"),
        ([0, 1, 1], [0, 1], 2, 3, "text has 2 characters, fewer than order 3"),
        ([0], [0, 1], 2, 2, "train has 1 characters, fewer than order 2"),
        ([0, 2, 1], [0, 1], 2, 2, "train must lie between 0 and vocabulary_size - 1 = 1, got 0 to 2"),
        ([0, 1, 1], [0, -1], 2, 2, "text must lie between 0 .* got -1 to 0"),
        ([0.0, 1.0], [0, 1], 2, 2, r"train must be integers \[length\], got float64 \(2,\)"),
        ([[0, 1]], [0, 1], 2, 2, r"train must be integers \[length\], got int64 \(1, 2\)"),
    ],
)
def test_errors(train, text, vocabulary_size, order, message):
    with pytest.raises(ValueError, match=message):
        ngram_probabilities(np.array(train), np.array(text), vocabulary_size, order)


@pytest.mark.parametrize(
    ("corpus", "part", "order", "nats"),
    [("tinyshakespeare", "valid", 5, 1.669), ("ptb", "test", 6, 1.567 * math.log(2))],
)
def test_known_floors(data_dir, corpus, part, order, nats):
    needs(data_dir, corpus)
    text = corpora.load(corpus, data_dir=data_dir)
    vocabulary = corpora.vocabulary(text)
    train, held_out = (corpora.encode(characters, vocabulary) for characters in (text.train, getattr(text, part)))
    assert ngram_floor(train, held_out, len(vocabulary), order) == pytest.approx(nats, rel=5e-4)
