import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jrnn
from jrnn.decode import draw, generate
from jrnn.models import LanguageModel

LOGITS = jnp.log(jnp.array([0.1, 0.4, 0.05, 0.3, 0.15]))


def drawn(**options):
    return jax.vmap(lambda key: draw(key, LOGITS, **options))(jax.random.split(jax.random.key(0), 4000))


def test_draws_follow_the_distribution_and_temperature_sharpens_it():
    frequencies = np.bincount(drawn(), minlength=5) / 4000
    np.testing.assert_allclose(frequencies, np.exp(LOGITS), atol=0.03)
    sharp = np.exp(2 * np.asarray(LOGITS))
    frequencies = np.bincount(drawn(temperature=0.5), minlength=5) / 4000
    np.testing.assert_allclose(frequencies, sharp / sharp.sum(), atol=0.03)


def test_zero_temperature_is_greedy():
    assert set(np.asarray(drawn(temperature=0))) == {1}


def test_top_k_keeps_the_k_most_likely():
    assert set(np.asarray(drawn(top_k=2))) == {1, 3}
    assert set(np.asarray(drawn(top_k=99))) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(
    ("p", "kept"), [(0.01, {1}), (0.41, {1, 3}), (0.69, {1, 3}), (0.71, {1, 3, 4}), (1.0, {0, 1, 2, 3, 4})]
)
def test_top_p_keeps_the_smallest_set_that_reaches_p(p, kept):
    assert set(np.asarray(drawn(top_p=p))) == kept


@functools.partial(jax.jit, static_argnames="k")
def several(key, logits, k, options):
    """100 draws from each row."""
    return jax.vmap(lambda key: draw(key, logits, top_k=k, **options))(jax.random.split(key, 100))


@given(st.integers(0, 999), st.sampled_from([None, 2, 99]), st.integers(1, 9), st.floats(0.01, 1), st.floats(0, 9))
@settings(max_examples=25)
def test_a_draw_is_one_of_the_kept_tokens_of_its_row(seed, static, k, p, temperature):
    """Against sets made by sorting; k of the row where none is given for all."""
    logits = np.random.default_rng(seed).normal(size=(3, 7)).astype(np.float32)
    options = {"temperature": jnp.array([0, 1, temperature]), "top_p": jnp.array([1, p, 0.5])}
    if static is None:
        got = several_by_row(jax.random.key(seed), logits, {"top_k": jnp.array([k, 1, k])} | options)
    else:
        got = several(jax.random.key(seed), logits, static, options)
    for row in range(3):
        count = static or (k, 1, k)[row]
        order = np.argsort(-logits[row])[:count]
        heat = float(options["temperature"][row])
        weights = np.exp((logits[row][order] - logits[row].max()) / heat) if heat else np.eye(7)[0, : len(order)]
        before = np.cumsum(weights / weights.sum()) - weights / weights.sum()
        kept = order[(before < float(options["top_p"][row]) + 1e-6) & (weights > 0)]
        assert {*np.asarray(got[:, row]).tolist()} <= {*kept.tolist()}


@jax.jit
def several_by_row(key, logits, options):
    return jax.vmap(lambda key: draw(key, logits, **options))(jax.random.split(key, 100))


def test_the_smallest_temperature_is_greedy_and_infinite_logits_are_what_they_say():
    logits = jnp.array([80.0, 90.0, 89.0])
    for temperature in (1e-30, jnp.float32(1e-44), jnp.float32(0)):
        assert {*several(jax.random.key(0), logits, None, {"temperature": temperature}).tolist()} == {1}
    forced = jnp.array([0.0, -jnp.inf, jnp.inf, jnp.inf])
    assert {*several(jax.random.key(0), forced, None, {"temperature": 0.5}).tolist()} == {2, 3}
    assert several(jax.random.key(0), jnp.zeros((2, 3), jnp.bfloat16), 2, {"top_p": 0.9}).shape == (100, 2)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"temperature": -1.0}, ValueError, "temperature is -1.0; expected a finite number of at least 0"),
        ({"temperature": jnp.array([1.0, -2.0])}, ValueError, "temperature holds -2.0"),
        ({"temperature": float("nan")}, ValueError, "temperature is nan"),
        ({"temperature": "hot"}, TypeError, "temperature is str 'hot'"),
        ({"top_k": 0}, ValueError, "top_k is 0; expected at least 1 token"),
        ({"top_k": 2.0}, TypeError, "top_k is 2.0; expected at least 1 token"),
        ({"top_p": 0.0}, ValueError, "top_p is 0.0; expected a probability"),
        ({"top_p": 1.5}, ValueError, "top_p is 1.5"),
        (
            {"top_k": jnp.ones(3, int)},
            ValueError,
            r"top_k is int32\[3\]; expected a number, or one for each row, \[2\]",
        ),
        ({"logits": jnp.zeros((2, 5), int)}, TypeError, r"logits is int32\[2, 5\]; expected floats"),
        ({"key": 3}, TypeError, "key is int 3"),
    ],
)
def test_bad_options(options, error, words):
    given = {"key": jax.random.key(0), "logits": jnp.zeros((2, 5))} | options
    with pytest.raises(error, match=words):
        draw(**given)


def test_generate_feeds_back_what_it_draws():
    model = LanguageModel(11, jrnn.rnn(jrnn.GRU, input_size=4, hidden_size=8))
    params = model.init(jax.random.key(0))
    state = model.initial_state(params, (2,))
    first = jnp.array([3, 5])
    step = functools.partial(model.step, params)
    end, tokens, lengths, ended = generate(step, state, first, jax.random.key(1), length=6, temperature=0)
    seen = jnp.concatenate([first[None], tokens[:-1]])
    assert lengths.tolist() == [6, 6]
    assert ended.tolist() == [False, False]
    whole, logits = model.apply(params, seen, state)
    np.testing.assert_array_equal(tokens, jnp.argmax(logits, -1))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), end, whole)


def test_options_of_each_row_and_traced_give_the_distribution_of_each():
    """The probabilities are worked out by hand."""
    logits = jnp.log(jnp.array([[0.1, 0.4, 0.05, 0.3, 0.15]] * 4))
    options = {
        "temperature": jnp.array([0.0, 0.5, 1.0, 1.0]),
        "top_k": jnp.array([5, 2, 5, 3]),
        "top_p": jnp.array([1.0, 1.0, 0.6, 0.9]),
    }
    got = jax.vmap(lambda key: several_by_row(key, logits, options))(jax.random.split(jax.random.key(2), 40))
    shares = [np.bincount(some, minlength=5) / 4000 for some in got.reshape(-1, 4).T]
    # 0.4 and 0.3 are squared and divided by their sum; 0.4 and 0.3 reach 0.6; of three, 0.4 and 0.3 of 0.85 are less than 0.9.
    want = [
        [0, 1, 0, 0, 0],
        [0, 0.64, 0, 0.36, 0],
        [0, 4 / 7, 0, 3 / 7, 0],
        [0, 0.4 / 0.85, 0, 0.3 / 0.85, 0.15 / 0.85],
    ]
    np.testing.assert_allclose(shares, want, atol=0.03)


TABLE = jnp.asarray(np.random.default_rng(0).normal(scale=2, size=(3, 5, 5)), jnp.float32)


def reader(table):
    """A model that is a table [*batch, before, next] of each row. Its state: what the row has read, and all calls together."""

    def step(state, token):
        read, calls = state
        logits = jnp.take_along_axis(table, token[..., None, None], -2)[..., 0, :]
        return ((10 * read + token) % 9973, calls + 1), logits

    return step


@functools.partial(jax.jit, static_argnames=("length", "end", "min_length"))
def write(table, key, **options):
    rows = table.shape[:-2]
    return generate(reader(table), (jnp.zeros(rows, int), 0), jnp.zeros(rows, int), key, **options)


def test_rows_end_and_stay_ended():
    def step(count, token):
        """Ends after as many tokens as the row's first says."""
        ending, going = jnp.array([[0.0, 99.0, 0.0]]), jnp.array([[9.0, -99.0, -99.0]])
        return count - 1, jnp.where((count <= 1)[:, None], ending, going)

    options = {"length": 6, "end": 1, "temperature": 0}
    written = generate(step, jnp.array([1, 3, 9]), jnp.zeros(3, int), jax.random.key(0), **options)
    assert written.lengths.tolist() == [1, 3, 6]
    assert written.ended.tolist() == [True, True, False]
    assert written.tokens.T.tolist() == [[1] * 6, [0, 0, 1, 1, 1, 1], [0] * 6]
    later = generate(step, jnp.array([1, 3, 9]), jnp.zeros(3, int), jax.random.key(0), **options, min_length=4)
    assert later.lengths.tolist() == [5, 5, 6]


def test_it_stops_when_all_have_ended_and_a_state_is_that_of_its_row():
    """The state holds what a row was fed, but for its last token, as digits of a number, modulo 9973."""
    end = 4
    written = write(TABLE, jax.random.key(1), length=40, end=end, temperature=3.0)
    assert written.ended.all()
    assert len(set(written.lengths.tolist())) > 1  # or the test shows nothing
    read, calls = written.state
    assert calls == written.lengths.max() < 40
    for row, count in enumerate(written.lengths.tolist()):
        tokens = written.tokens[:, row].tolist()
        assert tokens[count - 1 :] == [end] * (41 - count)
        assert end not in tokens[: count - 1]
        assert read[row] == int("".join(map(str, [0, *tokens[: count - 1]]))) % 9973


def test_vmap_and_eager_and_typed_keys():
    keys = jax.random.split(jax.random.key(2), 3)
    options = {"length": 5, "end": 4, "top_p": 0.9}
    together = jax.vmap(functools.partial(write, **options))(TABLE, keys)
    for row in range(3):
        alone = write(TABLE[row], keys[row], **options)
        jax.tree.map(np.testing.assert_array_equal, jax.tree.map(lambda a, row=row: a[row], together), alone)
        with jax.disable_jit():
            jax.tree.map(np.testing.assert_array_equal, write(TABLE[row], keys[row], **options), alone)

    def step(keys, token):
        """A model whose state is a key for each row."""
        keys = jax.vmap(jax.random.fold_in)(keys, token)
        return keys, jax.vmap(lambda key: jax.random.normal(key, (5,)))(keys)

    written = generate(step, keys, jnp.zeros(3, int), keys[0], length=9, end=4, temperature=0)
    for row in range(3):
        alone = generate(step, keys[row : row + 1], jnp.zeros(1, int), keys[1], length=9, end=4, temperature=0)
        np.testing.assert_array_equal(written.tokens[:, row], alone.tokens[:, 0])
        np.testing.assert_array_equal(*(jax.random.key_data(a) for a in (written.state[row], alone.state[0])))


def test_options_of_each_row_are_those_of_separate_calls():
    def tokens(**options):
        return write(TABLE, jax.random.key(5), length=8, **options).tokens

    mixed = tokens(temperature=jnp.array([0.0, 0.7, 3.0]), top_k=jnp.array([5, 2, 4]), top_p=jnp.array([0.5, 1.0, 0.8]))
    for row, (temperature, k, p) in enumerate(((0.0, 5, 0.5), (0.7, 2, 1.0), (3.0, 4, 0.8))):
        alone = tokens(temperature=jnp.full(3, temperature), top_k=jnp.full(3, k), top_p=jnp.full(3, p))
        np.testing.assert_array_equal(mixed[:, row], alone[:, row])
    np.testing.assert_array_equal(mixed[:, 0], tokens(temperature=jnp.float32(0))[:, 0])


def test_forbidden_as_tokens_and_as_masks():
    """Greedy, against a loop in Python; only one token of each row may come where a mask says so."""
    rng = np.random.default_rng(3)
    each = rng.random((6, 3, 5)) < 0.5
    each[np.arange(6)[:, None], np.arange(3), rng.integers(0, 5, (6, 3))] = False
    masks = {"tokens": [1, 3], "row": np.arange(5) % 2 == 1, "step": each[:, 0], "each": each, "once": each[:1]}
    for name, mask in masks.items():
        whole = np.zeros((6, 3, 5), bool)
        if name == "tokens":
            whole[..., mask] = True
        else:
            whole |= mask[:, None] if name == "step" else mask
        written = write(TABLE, jax.random.key(0), length=6, temperature=0.0, forbidden=jnp.asarray(mask))
        for row in range(3):
            token = 0
            for time in range(6):
                token = np.where(whole[time, row], -np.inf, TABLE[row, token]).argmax()
                assert written.tokens[time, row] == token
    only = rng.integers(0, 5, (6, 3))
    written = write(TABLE, jax.random.key(0), length=6, forbidden=np.arange(5) != only[..., None])
    np.testing.assert_array_equal(written.tokens, only)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"length": 0}, ValueError, "length is 0; expected at least 1"),
        ({"length": 2.0}, TypeError, "length is 2.0; expected an integer"),
        ({"min_length": 6}, ValueError, "min_length is 6; expected 0 to length, 5"),
        ({"min_length": 1.5}, TypeError, "min_length is float 1.5"),
        ({"end": 5}, ValueError, r"end is 5; expected a token in 0\.\.4"),
        ({"end": -1}, ValueError, "end is -1"),
        ({"end": True}, TypeError, "end is bool True; expected a token"),
        ({"forbidden": [9]}, ValueError, r"forbidden holds 9\.\.9; expected tokens in 0\.\.4"),
        ({"forbidden": [0, 1, 2, 3, 4]}, ValueError, "forbidden leaves no token"),
        (
            {"forbidden": [0, 1, 2, 3], "end": 4, "min_length": 1},
            ValueError,
            "besides the end for the first min_length, 1",
        ),
        ({"forbidden": np.eye(5, dtype=bool)[:, :1] | np.zeros(5, bool)}, ValueError, "forbidden leaves no token"),
        ({"forbidden": np.zeros(4, bool)}, ValueError, r"forbidden is bool\[4\]; expected tokens.* bool\[5, 3, 5\]"),
        ({"forbidden": 0.5}, ValueError, r"forbidden is float64\[\]"),
        ({"token": jnp.zeros(3)}, TypeError, r"token is float32\[3\]; expected integers"),
        (
            {"temperature": jnp.ones(2)},
            ValueError,
            r"temperature is float32\[2\]; expected a number, or one for each row",
        ),
        ({"step": lambda state, token: state}, TypeError, r"step returns .*; expected \(state, logits\)"),
        (
            {"step": lambda s, t: (s, jnp.zeros(5))},
            ValueError,
            r"logits float32\[5\] .*; expected floats \[3, vocabulary\]",
        ),
        ({"step": lambda s, t: ((s,), jnp.zeros((3, 5)))}, TypeError, "step returns a state of structure"),
        ({"step": lambda s, t: (s[:1], jnp.zeros((3, 5)))}, ValueError, r"int32\[1\] for state; expected int32\[3\]"),
        ({"step": lambda s, t: (s, jnp.zeros((3, 300))), "token": jnp.zeros(3, jnp.int8)}, ValueError, "dtype int8"),
    ],
)
def test_what_does_not_fit(options, error, words):
    def step(state, token):
        return state, jnp.zeros((*token.shape, 5))

    given = {
        "step": step,
        "state": jnp.zeros(3, int),
        "token": jnp.zeros(3, int),
        "key": jax.random.key(0),
        "length": 5,
    }
    with pytest.raises(error, match=words):
        generate(**given | options)
