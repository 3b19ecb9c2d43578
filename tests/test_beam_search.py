"""Beam search against every sequence there is, and against a plain beam in Python."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import jrnn
from jrnn import attention
from jrnn.decode import Beams, beam_search, generate
from jrnn.models import Decoder, EncoderDecoder

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


@functools.partial(jax.jit, static_argnames=("length", "width", "end", "best", "mean", "min_length", "checked"))
def search(table, mean=False, length_penalty=0.0, checked=(), **options):
    """`length_penalty` and `forbidden` are traced, `checked` are forbidden tokens that are not."""
    first = jnp.zeros(len(table), int)
    penalty = "mean" if mean else length_penalty
    return beam_search(stepper(table), first, first, length_penalty=penalty, **{"forbidden": checked} | options)


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
    options = {"mean": True} if penalty == "mean" else {"length_penalty": penalty}
    options |= {"min_length": min_length, "checked": forbidden}
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
    """A beam in Python: lists, sorted. `forbidden` [length, size]."""
    live, ended = [(0.0, ())], []
    for time in range(length):
        grown = []
        for score, tokens in live:
            for token in np.flatnonzero(~forbidden[time]).tolist():
                if token == END and time < min_length:
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


@pytest.mark.parametrize(
    ("width", "length", "min_length", "mean"),
    [(1, 6, 0, False), (3, 6, 2, False), (7, 4, 0, True), (2, 5, 1, True), (7, 6, 5, False)],
)
@given(seed=st.integers(0, 1000), alpha=st.floats(0, 3), density=st.sampled_from([0.0, 0.2, 0.8]))
@settings(max_examples=15)
def test_it_is_a_plain_beam(width, length, min_length, mean, seed, alpha, density):
    """Of which it may stop earlier, as no live hypothesis can become better than those kept. The mask may leave nothing."""
    table, best = chances(seed, 5), min(width, 3)
    forbidden = np.random.default_rng(seed).random((length, 2, 5)) < density
    options = {"length": length, "width": width, "min_length": min_length}
    got = search(table, end=END, best=best, mean=mean, length_penalty=alpha, forbidden=forbidden, **options)
    for row in range(2):
        want = plain(np.asarray(table[row]), penalty="mean" if mean else alpha, forbidden=forbidden[:, row], **options)
        for place in range(best):
            count = int(got.lengths[row, place])
            if place >= len(want):
                assert count == 0
                assert jnp.isneginf(got.scores[row, place])
                continue
            score, tokens = want[place]
            assert tuple(got.tokens[:count, row, place].tolist()) == tokens
            np.testing.assert_allclose(got.scores[row, place], score, rtol=1e-4)


def test_a_finished_hypothesis_is_not_displaced_by_worse_ones_that_live():
    """A beam of one: "end" scores log 0.4, and what lives is likelier, log 0.6, until it has a choice of three."""
    first, later = jnp.log(jnp.array([1e-9, 0.4, 0.6])), jnp.log(jnp.array([0.3, 0.35, 0.35]))

    def step(time, token):
        return time + 1, jnp.where((time == 0)[..., None], first[None, None], later[None, None])

    found = beam_search(step, jnp.zeros(1, int), jnp.zeros(1, int), length=5, width=1, end=END)
    assert found.tokens[:, 0, 0].tolist() == [END] * 5
    np.testing.assert_allclose(jnp.exp(found.scores), [[0.4]], rtol=1e-5)


def test_rows_do_not_see_each_other_and_eager_is_jitted():
    table = chances(11, 4, rows=3)
    options = {"length": 5, "width": 3, "end": END, "best": 3, "length_penalty": 0.6}
    together = search(table, **options)
    broken = search(table.at[1].set(jnp.nan), **options)
    with jax.disable_jit():
        eager = search(table, **options)
    for name, a, b, c in zip(together._fields, together, broken, eager, strict=True):
        np.testing.assert_allclose(a, c, rtol=1e-6)
        axis = 1 if name == "tokens" else 0
        np.testing.assert_array_equal(*(np.delete(x, 1, axis) for x in (a, b)))
    alone = search(table[2:], **options)
    np.testing.assert_array_equal(alone.tokens[:, 0], together.tokens[:, 2])
    np.testing.assert_array_equal(alone.scores[0], together.scores[2])


def test_without_an_end_all_are_cut_off():
    found = search(chances(4, 3), length=3, width=27, end=None, best=27)
    assert (found.lengths == 3).all()
    assert not found.ended.any()
    assert len({tuple(tokens.tolist()) for tokens in found.tokens[:, 0].T}) == 27
    np.testing.assert_allclose(jnp.exp(found.scores).sum(-1), 1, rtol=1e-5)


@pytest.mark.parametrize("batch", [(), (2, 1)])
def test_keys_of_the_state_follow_their_hypotheses(batch):
    """The logits are noise, drawn from a key that depends on every token before."""

    def step(keys, token):
        each = jax.vmap(lambda key, token: jax.random.fold_in(key, token))(keys.reshape(-1), token.reshape(-1))
        logits = 2 * jax.vmap(lambda key: jax.random.normal(key, (5,)))(each)
        return each.reshape(token.shape), logits.reshape(*token.shape, 5)

    keys, first = jax.random.split(jax.random.key(0), batch), jnp.full(batch, 2)
    found = beam_search(step, keys, first, length=4, width=3, end=END, best=3)
    assert found.tokens.shape == (4, *batch, 3)
    scores, seen = jnp.zeros((*batch, 3)), jnp.broadcast_to(first[..., None], (*batch, 3))
    state = jnp.broadcast_to(keys[..., None], seen.shape)
    for time in range(4):
        state, logits = step(state, seen)
        seen = found.tokens[time]
        chance = jnp.take_along_axis(jax.nn.log_softmax(logits), seen[..., None], -1)[..., 0]
        scores += jnp.where(time < found.lengths, chance, 0)
    np.testing.assert_allclose(found.scores, scores, rtol=1e-5)


def test_rows_over_devices():
    """What the step closes over is divided, what the search starts from is not."""
    table = chances(6, 4)
    options = {"length": 5, "width": 3, "end": END, "best": 2}
    mesh = jax.make_mesh((2,), ("rows",), axis_types=(AxisType.Auto,))

    def one(table):
        found = search(table, **options)
        first = jnp.zeros(1, int)
        return found, generate(
            stepper(table), first, first, jax.random.key(0), length=5, end=END, temperature=0
        ).lengths

    specs = Beams(tokens=P(None, "rows"), lengths=P("rows"), scores=P("rows"), ended=P("rows")), P("rows")
    found, lengths = jax.jit(jax.shard_map(one, mesh=mesh, in_specs=P("rows"), out_specs=specs))(table)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), found, search(table, **options))
    first = jnp.zeros(2, int)
    whole = generate(stepper(table), first, first, jax.random.key(0), length=5, end=END, temperature=0)
    np.testing.assert_array_equal(lengths, whole.lengths)


def test_the_hypotheses_of_a_row_share_its_memory():
    """A translator's, which knows the memory of a row once: their scores are what it gives to each read on its own."""
    cell = jrnn.AttentionBefore(jrnn.GRU(4 + 6, 8), attention.General(8, 6))
    encoder = jrnn.Layered((jrnn.Embedding(7, 4), jrnn.rnn(jrnn.GRU, input_size=4, hidden_size=6)))
    model = EncoderDecoder(encoder, Decoder(6, jrnn.Recurrent(cell), summary_size=6))
    params = jax.tree.map(lambda a: 3 * a, jax.jit(model.init)(jax.random.key(0)))
    source, lengths = jax.random.randint(jax.random.key(1), (5, 3), 0, 7), jnp.array([5, 2, 4])

    @jax.jit
    def translate(params):
        state, step = model.start(params, source, lengths=lengths)
        return beam_search(step, state, jnp.zeros(3, int), length=6, width=4, end=END, best=3)

    found = translate(params)
    assert (jnp.diff(jnp.where(found.ended, found.scores, -1000), axis=-1) <= 0).all()
    read = jax.jit(functools.partial(model.apply, params))
    for place in range(3):
        tokens = found.tokens[:, :, place]
        given = jnp.concatenate([jnp.zeros((1, 3), int), tokens[:-1]])
        logits = jax.nn.log_softmax(read(source, given, source_lengths=lengths))
        each = jnp.take_along_axis(logits, tokens[..., None], -1)[..., 0]
        real = jnp.arange(6)[:, None] < found.lengths[None, :, place]
        np.testing.assert_allclose(found.scores[:, place], jnp.where(real, each, 0).sum(0), rtol=1e-4)


def test_one_hypothesis_that_does_not_end_is_greedy():
    """Where it may end it is more: the best of what ends on the way."""
    table = chances(3, 5)
    first = jnp.zeros(2, int)
    options = {"length": 6, "end": END, "min_length": 6}
    found = search(table, width=1, **options)
    written = generate(stepper(table), first, first, jax.random.key(0), **options, temperature=0)
    np.testing.assert_array_equal(found.tokens[..., 0], written.tokens)
    np.testing.assert_array_equal(found.lengths[..., 0], written.lengths)


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
    ("options", "error", "words"),
    [
        ({"width": 0}, ValueError, "width is 0; expected at least 1"),
        ({"width": 1.5}, TypeError, "width is 1.5; expected an integer"),
        ({"best": 0}, ValueError, "best is 0; expected at least 1"),
        ({"best": 4}, ValueError, "best is 4; expected at most width, 3"),
        ({"length": 0}, ValueError, "length is 0"),
        ({"min_length": 6}, ValueError, "min_length is 6; expected 0 to length, 5"),
        ({"end": 4}, ValueError, r"end is 4; expected a token in 0\.\.3"),
        ({"forbidden": (9,)}, ValueError, r"forbidden holds 9\.\.9; expected tokens in 0\.\.3"),
        ({"forbidden": (0, 1, 2, 3)}, ValueError, "forbidden leaves no token"),
        ({"length_penalty": -1.0}, ValueError, "length_penalty is -1.0; expected a number of at least 0, or 'mean'"),
        ({"length_penalty": "sum"}, ValueError, "length_penalty is 'sum'"),
        ({"length_penalty": None}, TypeError, "length_penalty is NoneType None"),
        ({"length_penalty": np.ones(2)}, ValueError, r"length_penalty is float64\[2\]; expected one number"),
        ({"token": jnp.zeros(2)}, TypeError, r"token is float32\[2\]; expected integers"),
        ({"state": jnp.int32(0)}, ValueError, r"state is int32\[\]; expected the batch axes of token, \[2\], first"),
        ({"state": {"key": jax.random.key(0)}}, ValueError, r"state\['key'\] is key<fry>\[\]; expected the batch axes"),
    ],
)
def test_what_does_not_fit(options, error, words):
    first = jnp.zeros(2, int)
    given = {"step": stepper(chances(1, 4)), "state": first, "token": first, "length": 5, "width": 3, "end": END}
    with pytest.raises(error, match=words):
        beam_search(**given | options)
