import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jrnn
from jrnn.models import LanguageModel

MODEL = LanguageModel(13, jrnn.rnn(jrnn.LSTM, input_size=4, hidden_size=6, num_layers=2, dropout=0.5))
PARAMS = MODEL.init(jax.random.key(0))
TOKENS = jax.random.randint(jax.random.key(1), (7, 3), 0, 13)
close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)


def test_sequence_equals_stream():
    end, logits = MODEL.apply(PARAMS, TOKENS)
    assert logits.shape == (7, 3, 13)
    state = MODEL.initial_state(PARAMS, (3,))
    for t in range(7):
        state, one = MODEL.step(PARAMS, state, TOKENS[t])
        close(one, logits[t])
    jax.tree.map(close, state, end)


def test_later_tokens_do_not_change_earlier_logits():
    _, logits = MODEL.apply(PARAMS, TOKENS)
    _, changed = MODEL.apply(PARAMS, TOKENS.at[4].set(0))
    np.testing.assert_array_equal(logits[:4], changed[:4])
    assert (jnp.abs(logits[4:] - changed[4:]).max(-1) > 0).any()


def test_dropout_only_with_a_key():
    _, a = MODEL.apply(PARAMS, TOKENS)
    _, b = MODEL.apply(PARAMS, TOKENS, key=jax.random.key(2))
    assert jnp.abs(a - b).max() > 1e-3


def test_a_token_outside_the_vocabulary_raises_or_shows_as_nan():
    with pytest.raises(ValueError, match=r"tokens holds 0..13; expected 0..12"):
        MODEL.apply(PARAMS, jnp.array([[0], [13]]))
    _, logits = jax.jit(MODEL.apply)(PARAMS, jnp.array([[0], [13], [1]]))
    assert jnp.isfinite(logits[0]).all()
    assert jnp.isnan(logits[1:]).all()
    with pytest.raises(TypeError, match="tokens is float32"):
        MODEL.apply(PARAMS, jnp.zeros((7, 3)))


def test_tied_the_embedding_reads_out():
    layer = jrnn.Layered((jrnn.Recurrent(jrnn.GRU(4, 6)), jrnn.Dense(6, 4)))
    tied, apart = LanguageModel(13, layer, tied=True), LanguageModel(13, layer)
    params = tied.init(jax.random.key(0))
    assert params.w is None
    same = params._replace(w=params.embedding.T)
    _, logits = tied.apply(params, TOKENS)
    close(logits, apart.apply(same, TOKENS)[1])
    state = tied.initial_state(params, (3,))
    close(tied.step(params, state, TOKENS[0])[1], logits[0])

    def total(model, params):
        return (model.apply(params, TOKENS)[1] ** 2).sum()

    gradient, parts = jax.grad(total, argnums=1)(tied, params), jax.grad(total, argnums=1)(apart, same)
    np.testing.assert_allclose(gradient.embedding, parts.embedding + parts.w.T, rtol=1e-4, atol=1e-4)


def test_bad_model():
    with pytest.raises(ValueError, match="vocabulary_size is 0"):
        LanguageModel(0, jrnn.Recurrent(jrnn.GRU(3, 4)))
    with pytest.raises(ValueError, match="expected one with an input and an output size"):
        LanguageModel(5, jrnn.Dropout(0.5))
    with pytest.raises(ValueError, match=r"tied, but layer gives 6 features .* put Dense\(6, 4\) at the layer's end"):
        LanguageModel(5, jrnn.Recurrent(jrnn.GRU(4, 6)), tied=True)
    number: Any = 1
    with pytest.raises(TypeError, match="tied"):
        LanguageModel(5, jrnn.Recurrent(jrnn.GRU(4, 4)), tied=number)


def test_a_padded_step_may_hold_any_token():
    tokens = jnp.array([[1, 2], [3, 0], [2, -1], [-100, 99]])
    lengths = jnp.array([3, 2])
    safe = jnp.array([[1, 2], [3, 0], [2, 0], [0, 0]])
    model = LanguageModel(5, jrnn.Layered((jrnn.Recurrent(jrnn.GRU(4, 8)),)))
    params = model.init(jax.random.key(0))
    found, expected = (model.apply(params, each, lengths=lengths) for each in (tokens, safe))
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("token", [-1, -100, 5])
@pytest.mark.parametrize("dtype", ["int8", "int32", "uint8"])
def test_a_token_out_of_range_is_no_other_token(token, dtype):
    tokens = np.array([[0], [token]]).astype(dtype)
    for layer in (jrnn.Embedding(5, 3), jrnn.OneHot(5)):
        params = layer.init(jax.random.key(0))
        with pytest.raises(ValueError, match=r"expected 0\.\.4"):
            layer.apply(params, tokens)
        found = jax.jit(lambda tokens, layer=layer, params=params: layer.apply(params, tokens)[1])(tokens)
        assert np.isfinite(found[0]).all()
        assert np.isnan(found[1]).all()


@pytest.mark.parametrize(("dtype", "size"), [("uint8", 256), ("int8", 300), ("int16", 40_000)])
def test_a_vocabulary_that_the_tokens_dtype_cannot_count(dtype, size):
    tokens = np.array([[0], [44], [127]]).astype(dtype)
    for layer in (jrnn.Embedding(size, 3), jrnn.OneHot(size)):
        params = layer.init(jax.random.key(0))
        read = tokens[:, 0].astype(int)
        rows = params.vectors[read] if isinstance(layer, jrnn.Embedding) else read[:, None] == np.arange(size)
        for run in (layer.apply, jax.jit(layer.apply)):
            np.testing.assert_array_equal(run(params, tokens)[1][:, 0], rows)
