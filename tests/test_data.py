"""Vocabularies; batches of few shapes; packed rows; resuming in the middle of a pass."""

import itertools
import json
import string
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jrnn
from jrnn.losses import Mean

pytest.importorskip("grain", reason="the data extra is not installed")

from jrnn.checkpoint import Checkpoints
from jrnn.data import Vocabulary, batch_axes, bucketed, packed
from jrnn.train import Observer, fit, init_state, make_step

WORDS = st.lists(st.lists(st.text(string.ascii_lowercase, min_size=1, max_size=2), max_size=6), max_size=6)


class Example(NamedTuple):
    words: Any  # [time]
    characters: Any  # [time, 2]
    label: Any  # []


def examples(lengths):
    """Each holds its own number, plus one."""
    return [
        Example(np.full(n, i + 1, np.int32), np.full((n, 2), i + 1, np.int32), np.int32(i + 1))
        for i, n in enumerate(lengths)
    ]


LENGTHS = np.random.default_rng(0).integers(1, 30, 50).tolist()


@given(WORDS, st.integers(1, 3))
def test_what_a_vocabulary_knows_comes_back(sequences, min_count):
    vocabulary = Vocabulary.build(sequences, min_count=min_count)
    tokens = [token for sequence in sequences for token in sequence]
    for token in set(tokens):
        assert (token in vocabulary) == (tokens.count(token) >= min_count)
    ids = vocabulary.encode(tokens)
    assert ids.dtype == np.int32
    assert vocabulary.decode(ids) == [token if token in vocabulary else "<unk>" for token in tokens]
    assert 0 not in ids
    counts = [tokens.count(token) for token in vocabulary.tokens[2:]]
    assert counts == sorted(counts, reverse=True)
    assert Vocabulary.build(reversed(sequences), min_count=min_count) == vocabulary


def test_a_vocabulary_of_the_most_frequent():
    vocabulary = Vocabulary.build(["b a b", "c a b", "<pad> <unk>"][i].split() for i in range(3))
    assert vocabulary.tokens == ("<pad>", "<unk>", "b", "a", "c")
    assert Vocabulary.build([["b", "a", "b"]], max_size=1).tokens == ("<pad>", "<unk>", "b")
    assert "<unk>" not in vocabulary
    assert len(vocabulary) == 5


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Vocabulary(("a",)), "tokens has 1 entries"),
        (lambda: Vocabulary(("a", "b", "a")), "tokens holds 'a' more than once"),
        (lambda: Vocabulary(("a", "b")).decode([2]), "ids holds 2; expected 0..1"),
        (lambda: bucketed([], batch=2), "examples is empty"),
        (lambda: bucketed(examples([3]), batch=0), "batch is 0"),
        (lambda: bucketed(examples([3]), batch=3, shard=(0, 2)), r"shard is \(0, 2\) and batch 3"),
        (lambda: bucketed(examples([3]), batch=4, shard=(2, 2)), r"shard is \(2, 2\)"),
        (lambda: bucketed([np.int32(3)], batch=2), r"examples\[0\] has no array"),
        (
            lambda: bucketed([*examples([3]), (np.zeros(3), np.zeros(4))], batch=2),
            r"examples\[1\] has arrays of \[3, 4\]",
        ),
        (lambda: packed([np.zeros(3), np.zeros(9)], time=8, batch=2), r"examples has 3..9 steps; expected .* of 1..8"),
        (lambda: packed([np.zeros(0)], time=8, batch=2), "examples has 0..0 steps"),
        (lambda: packed([], time=8, batch=2), "examples has none"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@given(
    st.lists(st.integers(0, 20), min_size=1, max_size=40), st.integers(1, 5), st.integers(1, 5), st.none() | st.just(7)
)
def test_every_example_once_in_few_shapes(lengths, batch, shapes, seed):
    source = examples(lengths)
    batches = bucketed(source, batch=batch, shapes=shapes, seed=seed)
    found = [batches[i] for i in range(len(batches))]
    places = np.concatenate([b.places for b in found])
    assert sorted(places[places >= 0]) == list(range(len(source)))
    assert len({b.data.words.shape for b in found}) <= shapes
    for b in found:
        time, rows = b.data.words.shape
        assert (rows, b.data.characters.shape) == (batch, (time, batch, 2))
        real = np.arange(time)[:, None] < b.lengths
        np.testing.assert_array_equal(b.data.words, np.where(real, b.places + 1, 0))
        np.testing.assert_array_equal(b.data.characters[..., 1], b.data.words)
        np.testing.assert_array_equal(b.data.label, np.where(b.places < 0, 0, b.places + 1))
        np.testing.assert_array_equal(b.lengths, [0 if place < 0 else lengths[place] for place in b.places])
    assert sum((b.places < 0).any() for b in found) <= len({b.data.words.shape for b in found})


@given(st.lists(st.integers(1, 12), min_size=1, max_size=20), st.integers(1, 4))
def test_the_times_pad_least(lengths, shapes):
    """No choice of as many times pads fewer steps."""

    def steps(times):
        return sum(min(time for time in times if time >= length) for length in lengths)

    distinct = sorted(set(lengths))
    choices = (choice for n in range(shapes) for choice in itertools.combinations(distinct[:-1], n))
    batches = bucketed(examples(lengths), batch=1, shapes=shapes)
    found = sum(len(batches[i].data.words) for i in range(len(batches)))
    assert found == min(steps([*choice, distinct[-1]]) for choice in choices)


def test_little_is_padding():
    batches = bucketed(examples(LENGTHS * 20), batch=8, shapes=4, seed=0)
    real, steps = (
        sum(f(batches[i]) for i in range(len(batches)))
        for f in (lambda b: b.lengths.sum(), lambda b: b.data.words.size)
    )
    assert real / steps > 0.8  # one shape alone: about 0.5


def test_each_pass_is_shuffled_anew_and_the_same_again():
    def order(seed, turn):
        batches = bucketed(examples(LENGTHS), batch=4, seed=seed)
        return [batches.repeat()[turn * len(batches) + i].places.tolist() for i in range(len(batches))]

    for turn in range(3):
        places = np.concatenate(order(0, turn))
        assert sorted(places[places >= 0]) == list(range(50))
        assert order(0, turn) == order(0, turn)
    assert order(0, 0) != order(0, 1) != order(0, 2)
    assert order(0, 0) != order(1, 0)
    assert sorted(map(sorted, order(0, 0))) != sorted(map(sorted, order(0, 1)))  # not the same batches in another order


def test_processes_share_the_rows():
    whole = bucketed(examples(LENGTHS), batch=6, seed=1)
    parts = [bucketed(examples(LENGTHS), batch=6, seed=1, shard=(which, 3)) for which in range(3)]
    assert {len(part) for part in parts} == {len(whole)}
    for i in range(len(whole)):
        axes = batch_axes(examples([1])[0])
        joined = jax.tree.map(lambda axis, *leaves: np.concatenate(leaves, axis), axes, *[part[i] for part in parts])
        jax.tree.map(np.testing.assert_array_equal, joined, whole[i])


PAIRS = [(words, np.stack([words, -words], 1)) for words in (example.words for example in examples(LENGTHS))]


def rows_of(batch):
    """The sequences in a batch of packed rows."""
    for row in range(batch.mask.shape[1]):
        real = int(batch.mask[:, row].sum())
        assert batch.mask[:real, row].all()
        starts = [*np.flatnonzero(batch.reset[:, row]), real]
        assert starts[0] == 0 or not real
        for a, b in itertools.pairwise(starts):
            yield batch.data[0][a:b, row], batch.data[1][a:b, row]


def test_packed_rows_hold_every_sequence_whole():
    stream = iter(packed(PAIRS, time=40, batch=4, seed=0))
    found = []
    filled = []
    while len(found) < 150:
        batch = next(stream)
        assert batch.data[0].shape == (40, 4)
        assert batch.data[1].shape == (40, 4, 2)
        assert not batch.data[0][~batch.mask].any()
        filled.append(batch.mask.mean())
        for words, both in rows_of(batch):
            assert len(set(words.tolist())) == 1
            assert len(words) == LENGTHS[words[0] - 1]
            np.testing.assert_array_equal(both, np.stack([words, -words], 1))
            found.append(int(words[0]))
    assert set(np.bincount(found)[1:]) <= {2, 3, 4}  # whole passes one after the other, but for what is packed early
    assert np.mean(filled) > 0.8


def test_packing_resumes_in_the_middle_of_a_pass():
    stream = iter(packed(PAIRS, time=40, batch=4, seed=0))
    for _ in range(7):
        next(stream)
    state = json.loads(json.dumps(stream.get_state()))
    expected = [next(stream) for _ in range(20)]
    again = iter(packed(PAIRS, time=40, batch=4, seed=0))
    again.set_state(state)
    for one in expected:
        jax.tree.map(np.testing.assert_array_equal, next(again), one)


def test_processes_pack_their_own_share():
    streams = [iter(packed(PAIRS, time=40, batch=4, seed=0, shard=(which, 2))) for which in range(2)]
    seen = [{int(words[0]) for _ in range(3) for words, _ in rows_of(next(stream))} for stream in streams]
    assert not seen[0] & seen[1]
    assert next(streams[0]).mask.shape == (40, 2)


def loss(params, carry, batch, key):
    """Of the mean of what was seen, so that every batch and their order matter."""
    values = jnp.where(jnp.asarray(batch.mask), batch.data[0].astype(jnp.float32) - params, 0.0)
    return Mean(jnp.square(values).sum(), batch.mask.sum().astype(jnp.float32)), carry


def test_a_run_on_a_stream_resumes_bit_for_bit(tmp_path):
    optimizer = optax.adam(0.1)
    with jax.numpy_dtype_promotion("standard"):
        step = make_step(loss, optimizer)

        def run(directory, observer=None):
            checkpoints = Checkpoints(directory)
            state = init_state(jnp.zeros(()), optimizer, jax.random.key(0))
            stream = iter(packed(PAIRS, time=40, batch=4, seed=0))
            observers = () if observer is None else (observer,)
            try:
                return fit(
                    step, state, stream, steps=24, every=5, evaluate=float, checkpoints=checkpoints, observers=observers
                )
            finally:
                checkpoints.close()

        class Crash(Observer):
            def on_step(self, step, loss):
                if step == 12:
                    raise RuntimeError("crash")

        whole = run(tmp_path / "whole")
        with pytest.raises(RuntimeError, match="crash"):
            run(tmp_path / "crashed", Crash())
        resumed = run(tmp_path / "crashed")
    assert whole.state.params == resumed.state.params
    assert whole.records == resumed.records


def test_shapes_bound_compilations():
    """As many traces as shapes, whatever the lengths."""
    traces = []
    layer = jrnn.Layered((jrnn.Embedding(60, 2), jrnn.Recurrent(jrnn.Elman(2, 2))))
    params = layer.init(jax.random.key(0))

    @jax.jit
    def run(words, lengths):
        traces.append(words.shape)
        return layer.last(params, words, lengths=lengths)[1]

    batches = bucketed(examples(LENGTHS), batch=4, shapes=3, seed=0).repeat()
    for i in range(40):
        run(batches[i].data.words, batches[i].lengths)
    assert len(traces) == len(set(traces)) == 3


class Pair(NamedTuple):
    source: Any
    target: Any
    length: Any


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 30)), min_size=1, max_size=20), st.integers(1, 3))
def test_pairs_of_unequal_lengths(sizes, shapes):
    """Each array is padded to the longest of its own in a shape; `by` decides which shape."""
    pairs = [
        Pair(np.full(a, place + 1, np.int32), np.full(b, place + 1, np.int32), np.array(b, np.int32))
        for place, (a, b) in enumerate(sizes)
    ]
    found = list(bucketed(pairs, batch=3, shapes=shapes, by=lambda pair: len(pair.source)))
    assert len({(b.data.source.shape, b.data.target.shape) for b in found}) <= shapes
    seen = []
    for batch in found:
        for row, place in enumerate(batch.places):
            if place >= 0:
                seen.append(int(place))
                assert (batch.lengths[row], batch.data.length[row]) == sizes[place]
                for array, length in ((batch.data.source, sizes[place][0]), (batch.data.target, sizes[place][1])):
                    assert (array[:length, row] == place + 1).all()
                    assert not array[length:, row].any()
    assert sorted(seen) == list(range(len(sizes)))


@pytest.mark.parametrize(
    ("first", "second"),
    [(np.array([1, 2]), np.array([1.5, 2.5, 3.5])), (np.array([1, 2], np.int8), np.array([300, 400]))],
)
def test_no_number_is_cut_to_the_first_examples_dtype(first, second):
    examples = [(first, first[0]), (second, second[0])]
    batch = bucketed(examples, batch=2, shapes=1)[0]
    row = list(batch.places).index(1)
    np.testing.assert_array_equal(batch.data[0][: len(second), row], second)
    assert batch.data[1][row] == second[0]
    found = next(iter(packed([(first,), (second,)], time=5, batch=1)))
    np.testing.assert_array_equal(found.data[0][:, 0], np.pad([*first, *second], (0, 5 - len(first) - len(second))))


@pytest.mark.parametrize(
    ("examples", "words"),
    [
        ([(np.zeros((2, 3)),), (np.zeros((2, 1)),)], r"array 0 of examples\[1\] is \[time, 1\]; expected \[time, 3\]"),
        ([(np.zeros(2), 1), (np.zeros(2), np.zeros(2))], r"array 1 of examples\[1\] is \[time\]; expected a scalar"),
        ([(np.zeros(2),), {"a": np.zeros(2)}], r"examples\[1\] is built as"),
    ],
)
def test_examples_are_of_one_kind(examples, words):
    for make in (
        lambda: bucketed(examples, batch=2),
        lambda: packed(examples, time=4, batch=1),
    ):
        with pytest.raises(ValueError, match=words):
            make()
