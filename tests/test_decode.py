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


@given(st.integers(2, 9), st.integers(1, 9), st.floats(0.05, 1.0))
@settings(max_examples=15, deadline=None)
def test_a_draw_is_always_a_token_of_each_row(size, k, p):
    logits = jax.random.normal(jax.random.key(size), (3, size))
    tokens = draw(jax.random.key(k), logits, top_k=k, top_p=p)
    assert tokens.shape == (3,)
    assert ((tokens >= 0) & (tokens < size)).all()
    ranks = (logits > jnp.take_along_axis(logits, tokens[:, None], -1)).sum(-1)
    assert (ranks < k).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"top_k": 0}, "top_k is 0"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
    ],
)
def test_bad_options(options, words):
    with pytest.raises(ValueError, match=words):
        draw(jax.random.key(0), LOGITS, **options)


def test_generate_feeds_back_what_it_draws():
    model = LanguageModel(11, jrnn.rnn(jrnn.GRU, input_size=4, hidden_size=8))
    params = model.init(jax.random.key(0))
    state = model.initial_state(params, (2,))
    first = jnp.array([3, 5])
    step = functools.partial(model.step, params)
    end, tokens, lengths = generate(step, state, first, jax.random.key(1), length=6, temperature=0)
    seen = jnp.concatenate([first[None], tokens[:-1]])
    assert lengths.tolist() == [6, 6]
    whole, logits = model.apply(params, seen, state)
    np.testing.assert_array_equal(tokens, jnp.argmax(logits, -1))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), end, whole)


def test_options_of_each_row_and_traced_are_those_of_separate_calls():
    logits = jax.random.normal(jax.random.key(1), (4, 7))
    key = jax.random.key(2)
    rows = {
        "temperature": jnp.array([0.0, 0.5, 1.0, 2.0]),
        "top_k": jnp.array([1, 2, 7, 3]),
        "top_p": jnp.array([1.0, 0.6, 0.9, 0.3]),
    }
    together = jax.jit(lambda options: jax.vmap(lambda key: draw(key, logits, **options))(jax.random.split(key, 2000)))(
        rows
    )
    for row in range(4):
        options = {name: values[row].item() for name, values in rows.items()}
        alone = jax.vmap(lambda key, row=row, options=options: draw(key, logits[row], **options))(
            jax.random.split(key, 2000)
        )
        shares = [np.bincount(some, minlength=7) / 2000 for some in (together[:, row], alone)]
        np.testing.assert_allclose(*shares, atol=0.05)
        assert {*np.asarray(together[:, row])} <= {*np.asarray(alone)} | {*np.argsort(-logits[row])[:1].tolist()}


def test_rows_end_and_stay_ended():
    def step(count, token):
        """Ends after as many tokens as the row's first says."""
        return count - 1, jnp.where(
            (count <= 1)[:, None], jnp.array([0.0, 99.0, 0.0])[None], jnp.array([9.0, -99.0, -99.0])[None]
        )

    options = {"length": 6, "end": 1, "temperature": 0}
    written = generate(step, jnp.array([1, 3, 9]), jnp.zeros(3, int), jax.random.key(0), **options)
    assert written.lengths.tolist() == [1, 3, 6]
    assert written.tokens.T.tolist() == [[1] * 6, [0, 0, 1, 1, 1, 1], [0] * 6]
    later = generate(step, jnp.array([1, 3, 9]), jnp.zeros(3, int), jax.random.key(0), **options, min_length=4)
    assert later.lengths.tolist() == [5, 5, 6]
    without = generate(
        step, jnp.array([9]), jnp.zeros(1, int), jax.random.key(0), length=2, temperature=0, forbidden=[0]
    )
    assert without.tokens.tolist() == [[1], [1]]


def test_options_of_the_wrong_shape():
    with pytest.raises(ValueError, match=r"top_k is int32\[3\]; expected a number, or one for each row, \[2\]"):
        draw(jax.random.key(0), jnp.zeros((2, 5)), top_k=jnp.ones(3, int))
