"""Slot filling: what its scores, its model, its noise and its picture promise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import random_params
from data_sets import needs
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("tyro", reason="the experiments extra is not installed")
pytest.importorskip("seqeval", reason="the experiments extra is not installed")

import jrnn
from experiments import slot_filling
from experiments.data import atis
from experiments.data.atis import Utterance
from experiments.slots import pictures
from experiments.slots.model import OUTSIDE, Labelled, SlotFiller, hide, in_context, noisy, omit
from experiments.slots.scores import floor, score, without_cities
from jrnn.data import Batch
from jrnn.data.vocabulary import PADDING, UNKNOWN

pytestmark = pytest.mark.usefixtures("as_a_user")


# --- scores -----------------------------------------------------------------------------------------------------------


def utterance(slots, intent="a"):
    slots = tuple(slots.split())
    return Utterance(tuple(f"w{place}" for place in range(len(slots))), slots, intent)


def test_a_slot_counts_where_all_its_words_and_its_name_are_right():
    truth = [utterance("O B-x I-x O B-y"), utterance("B-x O B-unseen", "a#b"), utterance("O", "c")]
    found = [utterance("O B-x I-x O B-x"), utterance("B-x I-x O", "b"), utterance("O", "c")]
    # Of 4 true and 3 found spans one is right: 2 * 1 / (4 + 3).
    assert score(truth, found) == {
        "slots": pytest.approx(200 / 7),
        "intent": pytest.approx(200 / 3),
        "intent, any": 100.0,
    }


def test_a_slot_may_begin_with_i_as_conlleval_has_it():
    assert score([utterance("O B-x I-x B-x")], [utterance("O I-x I-x B-x")])["slots"] == 100


def test_nothing_found_is_zero():
    assert score([utterance("O B-x")], [utterance("O O")])["slots"] == 0


def test_the_floor_is_the_most_frequent():
    train = [
        Utterance(("a", "b"), ("O", "B-x"), "i"),
        Utterance(("a", "b"), ("B-y", "B-x"), "i"),
        Utterance(("a",), ("B-y",), "j"),
    ]
    part = [Utterance(("b", "a", "new"), ("B-x", "O", "B-z"), "i"), Utterance(("b",), ("B-x",), "j")]
    # found B-x B-y O, B-x: 2 of 3 found, 2 of 3 true.
    assert floor(train, part) == {
        "slots": pytest.approx(200 / 3),
        "intent": 50.0,
        "intent, any": 50.0,
    }


def test_published_floor(data_dir):
    needs(data_dir, "atis")
    data = atis.load(data_dir)
    found = floor([*data.train, *data.valid], data.test)
    assert found["intent"] == pytest.approx(70.8, abs=0.05)
    assert found["slots"] == pytest.approx(59.9, abs=1.0)


def test_cities_are_hidden_and_nothing_else():
    given = Utterance(
        ("from", "san", "francisco", "on", "delta"), ("O", "B-c.city_name", "I-c.city_name", "O", "B-a"), "a"
    )
    (found,) = without_cities([given])
    assert found == given._replace(words=("from", "<unk>", "<unk>", "on", "delta"))


# --- the model --------------------------------------------------------------------------------------------------------


def model(window=2, *, both=False, crf=False):
    one = jrnn.LSTM(3 * (2 * window + 1), 5)
    layer = jrnn.Recurrent(one)
    if both:
        layer = jrnn.Bidirectional(layer, jrnn.Recurrent(one, reverse=True))
    return SlotFiller(jrnn.Embedding(9, 3), window, layer, slots=4, intents=3, crf=crf)


def test_context_is_what_stands_around_each_step():
    xs = np.random.default_rng(0).normal(size=(5, 2, 3))
    found = np.asarray(in_context(jnp.asarray(xs), 2)).reshape(5, 2, 5, 3)
    for step in range(5):
        for place in range(5):
            at = step + place - 2
            np.testing.assert_allclose(found[step, :, place], xs[at] if 0 <= at < 5 else 0 * xs[0], rtol=1e-6)
    np.testing.assert_array_equal(in_context(jnp.asarray(xs), 0), jnp.asarray(xs))


def test_one_direction_sees_the_window_ahead_and_no_further():
    net = model(window=2)
    params = net.init(jax.random.key(0))
    words = jnp.array([2, 3, 4, 5, 6, 7])[:, None]
    lengths = jnp.array([6])
    slots, _ = net.apply(params, words, lengths)
    changed, _ = net.apply(params, words.at[4].set(8), lengths)
    same = np.isclose(slots, changed, atol=1e-7).all((1, 2))
    assert same.tolist() == [True, True, False, False, False, False]


@pytest.mark.parametrize("crf", [False, True])
def test_padding_changes_nothing(crf):
    net = model(both=True, crf=crf)
    params = random_params(net)
    of_words = jax.jit(functools.partial(net.loss, intent_weight=10.0))
    decode = jax.jit(net.decode)
    short = Labelled(jnp.array([[2], [3], [4]]), jnp.array([[1], [0], [2]]), jnp.array([1]))
    padded = jax.tree.map(lambda a: jnp.pad(a, ((0, 4), (0, 1))) if a.ndim > 1 else jnp.pad(a, (0, 1)), short)
    loss = of_words(params, short, jnp.array([3]))
    other = of_words(params, padded, jnp.array([3, 0]))
    np.testing.assert_allclose(other, loss, rtol=1e-5)
    slots, intent = decode(params, short.words, jnp.array([3]))
    more_slots, more_intent = decode(params, padded.words, jnp.array([3, 0]))
    np.testing.assert_array_equal(more_slots[:3, :1], slots)
    assert more_intent[0] == intent[0]


def test_the_loss_is_of_words_and_utterances():
    net = model()
    params = net.init(jax.random.key(0))
    lengths = jnp.array([3, 2])
    data = Labelled(jnp.array([[2, 3], [4, 5], [6, 0]]), jnp.array([[1, 0], [0, 3], [2, 0]]), jnp.array([2, 0]))
    slots, intent = (np.asarray(jax.nn.log_softmax(a)) for a in net.apply(params, data.words, lengths))
    nats = -sum(slots[t, row, data.slots[t, row]] for row in range(2) for t in range(lengths[row]))
    nats -= 10 * sum(intent[row, data.intent[row]] for row in range(2))
    loss = net.loss(params, data, lengths, intent_weight=10.0)
    assert float(loss.total) == pytest.approx(nats, rel=1e-5)
    assert loss.weight == 5


# --- the noise --------------------------------------------------------------------------------------------------------

ROWS = st.lists(st.lists(st.tuples(st.integers(UNKNOWN, 8), st.integers(0, 3)), max_size=6), min_size=1, max_size=4)


def batch(rows):
    words, slots = np.zeros((2, 6, len(rows)), np.int32)
    for place, row in enumerate(rows):
        for step, (word, slot) in enumerate(row):
            words[step, place], slots[step, place] = word, slot
    return Labelled(jnp.asarray(words), jnp.asarray(slots), jnp.zeros(len(rows), jnp.int32)), jnp.array(
        [len(row) for row in rows]
    )


@given(rows=ROWS, seed=st.integers(0, 99))
def test_omitting_leaves_slots_and_order_alone(rows, seed):
    data, _ = batch(rows)
    chosen = jnp.arange(len(rows))[None] % 2 == 0
    found, left = jax.jit(omit)(jax.random.key(seed), data, chosen, 0.5)
    for place, row in enumerate(rows):
        kept = [*zip(found.words[:, place].tolist(), found.slots[:, place].tolist())]
        real, padding = kept[: int(left[place])], kept[int(left[place]) :]
        assert padding == [(PADDING, OUTSIDE)] * len(padding)
        if place % 2:
            assert real == row
        assert [pair for pair in real if pair[1]] == [pair for pair in row if pair[1]]
        assert bool(real) == bool(row)
        rest = iter(row)
        assert all(pair in rest for pair in real)  # a subsequence


def test_all_that_can_be_omitted_is_at_rate_one():
    data, _ = batch([[(2, 0), (3, 1), (4, 0), (5, 2)], [(2, 0), (3, 0)]])
    found, left = omit(jax.random.key(0), data, jnp.array([[True, True]]), 1.0)
    assert left.tolist() == [2, 2]  # nothing but words without a slot: they stay
    assert found.words[:2].T.tolist() == [[3, 5], [2, 3]]


@given(rows=ROWS, seed=st.integers(0, 99))
def test_hiding_makes_words_unknown(rows, seed):
    data, _ = batch(rows)
    rare = jnp.where(jnp.arange(9) == 7, 1.0, 0.0)
    chosen = jnp.arange(len(rows))[None] % 2 == 0
    words = jax.jit(hide)(jax.random.key(seed), data, chosen, rare, 0.5)
    hidden = words != data.words
    assert not np.asarray(hidden & (words != UNKNOWN)).any()
    assert not np.asarray(hidden & ~chosen).any()
    assert not np.asarray(hidden & (data.slots == OUTSIDE) & (data.words != 7)).any()
    assert np.asarray((words == UNKNOWN) | (data.words != 7) | ~chosen).all()
    assert (np.asarray(words == PADDING) == np.asarray(data.words == PADDING)).all()


def test_names_are_hidden_at_their_rate_in_about_half_of_the_utterances():
    data, lengths = batch([[(2, 1)] * 6])
    data = jax.tree.map(lambda a: jnp.repeat(a, 4000, axis=-1), data)
    lengths = jnp.repeat(lengths, 4000)
    rates = {"rare": jnp.zeros(9), "name_rate": 0.25, "omit_rate": 0.5}
    found, left = noisy(Batch(data, lengths, lengths), jax.random.key(0), **rates)
    hidden = np.asarray(found.words == UNKNOWN)
    assert (left == 6).all()
    assert hidden.mean() == pytest.approx(0.125, abs=0.02)
    assert (~hidden).all(0).mean() == pytest.approx(0.5 + 0.5 * 0.75**6, abs=0.04)
    same, _ = noisy(Batch(data, lengths, lengths), None, **rates)
    assert same is data


# --- the picture ------------------------------------------------------------------------------------------------------


def test_cells_join_the_words_of_a_slot_and_mark_mistakes():
    truth = Utterance(
        ("from", "san", "jose", "to", "salt", "lake", "city"), ("O", "B-f", "I-f", "O", "B-t", "I-t", "I-t"), "a"
    )
    found = truth._replace(slots=("O", "B-f", "I-f", "O", "B-t", "I-t", "O"))
    cells = pictures._cells(truth, found)
    assert [tuple(cell) for cell in cells] == [
        ("from", "", ""),
        ("san jose", "f", "f"),
        ("to", "", ""),
        ("salt lake", "t", "t"),
        ("city", "", "t"),
    ]


def test_a_slot_has_one_colour():
    assert pictures.colour("B-meal") == pictures.colour("I-meal") == pictures.colour("meal")
    assert pictures.colour("fromloc.city_name") != pictures.colour("toloc.city_name")
    assert slot_filling.Names.of([utterance("B-x O")]).slots.index("O") == OUTSIDE
