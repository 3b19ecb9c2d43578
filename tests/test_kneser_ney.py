"""The Kneser-Ney floor against a slow dictionary implementation, its own definition, and a number by hand."""

import itertools
from collections import Counter

import numpy as np
import pytest
from data_sets import needs
from hypothesis import given
from hypothesis import strategies as st

from experiments.data import text as corpora
from experiments.data.ngram import kneser_ney_floor, kneser_ney_probabilities


def kneser_ney(train, vocabulary_size, order):
    """p(c | context) by recursion over dictionaries, straight from the equation."""
    grams = [Counter(tuple(train[i : i + k]) for i in range(len(train) - k + 1)) for k in range(order + 1)]
    counts = {k: Counter(gram[1:] for gram in grams[k + 1]) for k in range(1, order)} | {order: grams[order]}
    discounts = {}
    for k, found in counts.items():
        once, twice = (list(found.values()).count(n) for n in (1, 2))
        discounts[k] = once / (once + 2 * twice) if once and twice else 0.5

    def probability(context, c):
        k = len(context) + 1
        shorter = probability(context[1:], c) if context else 1 / vocabulary_size
        after = {gram[-1]: n for gram, n in counts[k].items() if gram[:-1] == tuple(context)}
        if not after:
            return shorter
        kept = max(after.get(c, 0) - discounts[k], 0)
        return (kept + discounts[k] * len(after) * shorter) / sum(after.values())

    return probability


@given(data=st.data(), vocabulary_size=st.integers(1, 4), order=st.integers(1, 4))
def test_probabilities_agree_with_dictionaries(data, vocabulary_size, order):
    characters = st.lists(st.integers(0, vocabulary_size - 1), min_size=order, max_size=30)
    train, text = data.draw(characters), data.draw(characters)
    slow = kneser_ney(train, vocabulary_size, order)
    want = [slow(text[i - order + 1 : i], text[i]) for i in range(order - 1, len(text))]
    got = kneser_ney_probabilities(np.array(train), np.array(text), vocabulary_size, order)
    np.testing.assert_allclose(got, want, rtol=1e-12)
    floor = kneser_ney_floor(np.array(train), np.array(text), vocabulary_size, order)
    assert floor == pytest.approx(-np.mean(np.log(want)), rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_probabilities_sum_to_one_for_every_context(order):
    vocabulary_size = 5  # character 4 never occurs in training
    train = np.random.default_rng(0).integers(0, 4, 40)
    for context in itertools.product(range(vocabulary_size), repeat=order - 1):
        each = [
            kneser_ney_probabilities(train, np.array([*context, c]), vocabulary_size, order).item()
            for c in range(vocabulary_size)
        ]
        assert min(each) > 0
        assert sum(each) == pytest.approx(1, rel=1e-12)


def test_order_two_by_hand():
    # Train a b a b a c: pairs ab 2, ba 2, ac 1, so D_2 = 1 / (1 + 4) = 0.2; as predecessors a 1 (b), b 1 (a), c 1 (a),
    # none twice, so D_1 = 0.5. p_1(b) = (0.5 + 0.5 * 3 / 4) / 3; p_2(b | a) = (1.8 + 0.2 * 2 * p_1(b)) / 3.
    got = kneser_ney_probabilities(np.array([0, 1, 0, 1, 0, 2]), np.array([0, 1, 3]), 4, 2)
    unseen = 0.5 * 3 / 4 / 3
    np.testing.assert_allclose(got, [(1.8 + 0.4 * (0.5 / 3 + unseen)) / 3, 0.2 * unseen / 2])


def test_errors_are_those_of_the_other_model():
    with pytest.raises(ValueError, match="train must lie between 0 and vocabulary_size - 1 = 1, got 0 to 2"):
        kneser_ney_probabilities(np.array([0, 2]), np.array([0, 1]), 2, 2)
    with pytest.raises(ValueError, match=r"below 2\*\*63"):
        kneser_ney_probabilities(np.array([0, 1]), np.array([0, 1]), 2, 63)


def test_tiny_shakespeare(data_dir):
    needs(data_dir, "tinyshakespeare")
    text = corpora.load("tinyshakespeare", data_dir=data_dir)
    vocabulary = corpora.vocabulary(text)
    train, valid = (corpora.encode(part, vocabulary) for part in (text.train, text.valid))
    assert kneser_ney_floor(train, valid, len(vocabulary), 5) == pytest.approx(1.58, abs=0.005)
