"""Beam search against every sequence there is, and against a plain beam in Python."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jrnn
from jrnn.decode import beam_search, generate
from jrnn.models import LanguageModel

END = 1


def chances(seed, size, rows=2):
    """Log probabilities of a token given the one before and the number of steps, [rows, 7, size, size]."""
    logits = np.random.default_rng(seed).normal(scale=2, size=(rows, 7, size, size))
    return jnp.asarray(jax.nn.log_softmax(jnp.asarray(logits, jnp.float32)))


def stepper(table):
    """A model that is a table, which belongs to a row; the state counts steps, by hypothesis."""

    def step(count, token):
        rows = jnp.broadcast_to(jnp.arange(len(table)).reshape(-1, *(1,) * (token.ndim - 1)), token.shape)
        return count + 1, table[rows, count, token]

    return step


@functools.partial(
    jax.jit, static_argnames=("length", "width", "end", "best", "length_penalty", "min_length", "forbidden")
)
def search(table, **options):
    return beam_search(stepper(table), jnp.zeros(len(table), int), jnp.zeros(len(table), int), **options)


def penalised(score, count, penalty):
    return score / (count if penalty == "mean" else ((5 + count) / 6) ** penalty)


def every(table, length, penalty, min_length, forbidden):
    """All sequences of a row with their scores, best first: those that end, then those that are cut off."""
    size = table.shape[-1]
    allowed = [token for token in range(size) if token not in forbidden]
    found = []
    for count in range(1, length + 1):
        for tokens in itertools.product(allowed, repeat=count):
            ended = tokens[-1] == END
            if END in tokens[:-1] or (ended and count <= min_length) or not (ended or count == length):
                continue
            score = sum(table[i, before, token] for i, (before, token) in enumerate(zip((0, *tokens), tokens)))
            found.append((not ended, -penalised(score, count, penalty), tokens))
    return sorted(found)


@pytest.mark.parametrize(
    ("size", "penalty", "min_length", "forbidden"),
    [(4, 0.0, 0, ()), (5, 1.0, 0, (2,)), (4, "mean", 2, ()), (6, 0.6, 1, (0, 3))],
)
def test_a_wide_beam_finds_the_best_of_all_sequences(size, penalty, min_length, forbidden):
    table, length, best = chances(size, size), 4, 6
    options = {"length_penalty": penalty, "min_length": min_length, "forbidden": forbidden}
    got = search(table, length=length, width=size**3, end=END, best=best, **options)
    for row in range(2):
        want = every(np.asarray(table[row]), length, penalty, min_length, forbidden)[:best]
        for place, (cut, score, tokens) in enumerate(want):
            count = int(got.lengths[row, place])
            assert tuple(got.tokens[:count, row, place].tolist()) == tokens
            assert bool(got.ended[row, place]) != cut
            assert set(got.tokens[count:, row, place].tolist()) <= {END}
            np.testing.assert_allclose(got.scores[row, place], -score, rtol=1e-5)


def plain(table, length, width, penalty, min_length, forbidden):
    """A beam in Python: lists, sorted."""
    live, ended = [(0.0, ())], []
    for time in range(length):
        grown = []
        for score, tokens in live:
            for token in range(table.shape[-1]):
                if token in forbidden or (token == END and time < min_length):
                    continue
                longer = (score + float(table[time, (0, *tokens)[-1], token]), (*tokens, token))
                if token == END:
                    ended.append((penalised(longer[0], time + 1, penalty), longer[1]))
                else:
                    grown.append(longer)
        ended = sorted(ended, key=lambda one: -one[0])[:width]
        live = sorted(grown, key=lambda one: -one[0])[:width]
    cut = [(penalised(score, length, penalty), tokens) for score, tokens in live]
    return [*ended, *cut]


@given(
    seed=st.integers(0, 1000),
    width=st.sampled_from([1, 3, 7]),
    penalty=st.sampled_from([0.0, 0.7, "mean"]),
    min_length=st.sampled_from([0, 2]),
)
@settings(max_examples=25, deadline=None)
def test_it_is_a_plain_beam(seed, width, penalty, min_length):
    """Of which it may stop earlier, as no live hypothesis can become better than those kept."""
    table = chances(seed, 5)
    options = {"length": 6, "width": width, "min_length": min_length, "forbidden": (3,)}
    got = search(table, end=END, best=min(width, 2), length_penalty=penalty, **options)
    for row in range(2):
        want = plain(np.asarray(table[row]), penalty=penalty, **options)
        for place in range(min(width, 2)):
            score, tokens = want[place]
            count = int(got.lengths[row, place])
            assert tuple(got.tokens[:count, row, place].tolist()) == tokens
            np.testing.assert_allclose(got.scores[row, place], score, rtol=1e-4)


def test_one_hypothesis_that_does_not_end_is_greedy():
    """Where it may end it is more: the best of what ends on the way."""
    model = LanguageModel(9, jrnn.rnn(jrnn.GRU, input_size=4, hidden_size=8))
    params = model.init(jax.random.key(3))
    step, first = functools.partial(model.step, params), jnp.array([[3, 5, 2]])
    state = model.initial_state(params, first.shape)
    options = {"length": 6, "end": END, "min_length": 6}
    beams = beam_search(step, state, first, width=1, **options)
    written = generate(step, state, first, jax.random.key(0), **options, temperature=0)
    np.testing.assert_array_equal(beams.tokens[..., 0], written.tokens)
    np.testing.assert_array_equal(beams.lengths[..., 0], written.lengths)


def test_states_follow_their_hypotheses():
    """The score of each is that of the model when it reads the tokens of that hypothesis alone."""
    model = LanguageModel(6, jrnn.rnn(jrnn.LSTM, input_size=4, hidden_size=8, num_layers=2))
    params = jax.tree.map(lambda a: 3 * a, model.init(jax.random.key(1)))
    first = jnp.array([3, 5])
    beams = beam_search(
        functools.partial(model.step, params),
        model.initial_state(params, (2,)),
        first,
        length=5,
        width=4,
        end=END,
        best=4,
    )
    read = jnp.concatenate([jnp.broadcast_to(first[:, None], (1, 2, 4)), beams.tokens[:-1]])
    logits = jax.nn.log_softmax(model.apply(params, read)[1])
    each = jnp.take_along_axis(logits, beams.tokens[..., None], -1)[..., 0]
    real = jnp.arange(5)[:, None, None] < beams.lengths[None]
    np.testing.assert_allclose(jnp.where(real, each, 0).sum(0), beams.scores, rtol=1e-4)
    assert (jnp.diff(jnp.where(beams.ended, beams.scores, -jnp.inf), axis=-1) <= 0)[beams.ended[:, 1:]].all()


def test_it_stops_when_nothing_better_can_come():
    """A model that ends at once; each call of the step is counted."""
    calls = []

    def step(state, token):
        jax.debug.callback(lambda: calls.append(1))
        return state, jnp.broadcast_to(jnp.array([0.0, 50.0, 0.0]), (*token.shape, 3))

    beams = beam_search(step, jnp.zeros(2), jnp.zeros(2, int), length=100, width=2, end=END)
    jax.effects_barrier()
    assert len(calls) == 1
    assert beams.lengths.tolist() == [[1], [1]]
    written = generate(step, jnp.zeros(2), jnp.zeros(2, int), jax.random.key(0), length=100, end=END)
    jax.effects_barrier()
    assert len(calls) == 2
    assert written.lengths.tolist() == [1, 1]


def test_a_beam_wider_than_the_vocabulary_and_all_there_is():
    """Two tokens, one of them the end: as many hypotheses as lengths, and no others."""
    table = chances(2, 2)
    beams = search(table, length=3, width=8, end=END, best=8)
    assert beams.lengths[0].tolist()[4:] == [0] * 4
    assert sorted(beams.lengths[0].tolist()[:3]) == [1, 2, 3]
    assert beams.ended[0].tolist() == [True] * 3 + [False] * 5
    assert jnp.isneginf(beams.scores[0, 4:]).all()
    np.testing.assert_allclose(jnp.exp(beams.scores[0, :4]).sum(), 1, rtol=1e-5)


def test_under_vmap():
    tables = jnp.stack([chances(1, 4), chances(2, 4)])
    options = {"length": 5, "width": 3, "end": END, "best": 2}
    got = jax.vmap(functools.partial(search, **options))(tables)
    for index in range(2):
        for a, b in zip(got, search(tables[index], **options), strict=True):
            np.testing.assert_allclose(a[index], b, rtol=1e-6)


def test_16_bit_logits_are_summed_in_float32():
    def step(state, token):
        return state, jnp.zeros((*token.shape, 3000), jnp.bfloat16)

    beams = beam_search(step, jnp.zeros(1), jnp.zeros(1, int), length=40, width=2, end=END, min_length=39)
    np.testing.assert_allclose(beams.scores, -40 * np.log(3000), rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"width": 0}, "width is 0; expected at least 1"),
        ({"best": 4}, "best is 4; expected at most width, 3"),
        ({"length": 0}, "length is 0"),
        ({"min_length": 6}, "min_length is 6; expected 0 to length, 5"),
        ({"end": 4}, r"end is 4; expected a token in 0\.\.3"),
        ({"forbidden": (9,)}, r"forbidden holds 9\.\.9; expected tokens in 0\.\.3"),
        ({"forbidden": (0, 1, 2, 3)}, "forbidden leaves no token"),
        ({"length_penalty": -1.0}, "length_penalty is -1.0; expected a number of at least 0, or 'mean'"),
        ({"length_penalty": "sum"}, "length_penalty is 'sum'"),
    ],
)
def test_options_that_do_not_fit(options, words):
    with pytest.raises(ValueError, match=words):
        search(chances(1, 4), **{"length": 5, "width": 3, "end": END} | options)


def test_a_state_without_the_rows():
    with pytest.raises(ValueError, match=r"state is int32\[\]; expected the batch axes of token, \[2\], first"):
        beam_search(stepper(chances(1, 4)), jnp.int32(0), jnp.zeros(2, int), length=3, width=2, end=END)
