"""Encoder and decoder, and captioner: by loops over the cells' own steps, streamed, sampled, shared, told in every way."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import cast, key, normal, random_params, same

import jrnn
from jrnn import attention
from jrnn.layers.embedding import lookup
from jrnn.models import Captioner, Decoder, EncoderDecoder

SOURCES, TARGETS, ROWS = 7, 6, 3
SOURCE = jnp.array([[1, 2, 3], [4, 5, 6], [3, 1, 0], [2, 2, 5]])
SOURCE_LENGTHS = jnp.array([4, 2, 1])
TOKENS = jnp.array([[0, 0, 0], [3, 1, 5], [2, 5, 4], [4, 3, 5], [5, 2, 1]])
LENGTHS = jnp.array([5, 3, 2])

read = jrnn.Embedding(SOURCES, 4)
both = jrnn.Bidirectional(jrnn.Recurrent(jrnn.GRU(4, 3)), jrnn.Recurrent(jrnn.GRU(4, 3), reverse=True))
attending = jrnn.AttentionBefore(jrnn.GRU(5 + 6, 4), attention.Additive(4, 6, 3))
MODELS = {
    "state as it is": EncoderDecoder(
        jrnn.Layered((read, jrnn.Recurrent(jrnn.LSTM(4, 5)))), Decoder(TARGETS, jrnn.Layered((jrnn.Recurrent(jrnn.LSTM(5, 5)),)))
    ),
    "bridge": EncoderDecoder(
        jrnn.Layered((read, both)), Decoder(TARGETS, jrnn.Recurrent(jrnn.LSTM(5, 4)), summary_size=6)
    ),
    "input": EncoderDecoder(
        jrnn.Layered((read, both)), Decoder(TARGETS, jrnn.Recurrent(jrnn.GRU(5 + 6, 4)), summary_size=6, ways=("input",))
    ),
    "both, and first": EncoderDecoder(
        jrnn.Layered((read, both)),
        Decoder(TARGETS, jrnn.Recurrent(jrnn.GRU(5 + 6, 4)), summary_size=6, ways=("state", "input", "first")),
    ),
    "attention": EncoderDecoder(
        jrnn.Layered((read, both)), Decoder(TARGETS, jrnn.Recurrent(attending), summary_size=6)
    ),
    "attention in a stack, tied": EncoderDecoder(
        jrnn.Layered((read, both)),
        Decoder(
            TARGETS,
            jrnn.Layered(
                (
                    jrnn.Recurrent(jrnn.GRU(5, 4)),
                    jrnn.Recurrent(jrnn.AttentionAfter(jrnn.LSTM(4 + 5, 4), attention.General(4, 6), 5)),
                )
            ),
            tied=True,
        ),
    ),
    "embedding shared": EncoderDecoder(
        both, Decoder(TARGETS + 1, jrnn.Recurrent(jrnn.GRU(4, 3)), summary_size=6), shared="embedding"
    ),
    "all shared": EncoderDecoder(
        jrnn.Recurrent(jrnn.GRU(4, 3)), Decoder(TARGETS + 1, jrnn.Recurrent(jrnn.GRU(4, 3))), shared="all"
    ),
}  # fmt: skip


@functools.partial(jax.jit, static_argnums=0)
def logits_of(model, params, source, source_lengths, tokens):
    return model.apply(params, source, tokens, source_lengths=source_lengths)


@functools.partial(jax.jit, static_argnums=0)
def loss_of(model, params, source, tokens):
    return model.loss(params, source, tokens, source_lengths=SOURCE_LENGTHS, lengths=LENGTHS)


def by_hand(name, model, params, row):
    """The logits of one row, token by token, from the docstrings' equations and the cells' own steps, without padding."""
    source, tokens = SOURCE[: (4, 2, 1)[row], row], TOKENS[:, row]
    decoder, told = params.decoder, model.decoder
    encoder = decoder.layer if name == "all shared" else params.encoder
    if model.shared:
        xs = decoder.embedding[source]
    else:
        xs, encoder = encoder[0].vectors[source], encoder[1]
    if name in ("state as it is", "all shared"):
        cell = jrnn.LSTM(4, 5) if name == "state as it is" else jrnn.GRU(4, 3)
        state, _ = jrnn.unroll(cell, encoder, xs)
        summary = ys = None
    else:
        cells = jrnn.GRU(4, 3)
        ahead, forth = jrnn.unroll(cells, encoder.forward, xs)
        behind, back = jrnn.unroll(cells, encoder.backward, xs, reverse=True)
        summary, ys = jnp.concatenate([ahead.h, behind.h]), jnp.concatenate([forth, back], -1)
    layer = told.layer
    bound = layer.bind(decoder.layer, ys) if layer.takes_context else decoder.layer
    if summary is not None:
        state = layer.initial_state(bound)
        if "state" in told.ways and told.summary_size:
            made = [jnp.tanh(summary @ bridge.w + bridge.b) for bridge in decoder.bridge]
            inside = state.cell if layer.takes_context else state
            inside = jax.tree.unflatten(jax.tree.structure(inside), made)
            state = state._replace(cell=inside) if layer.takes_context else inside
    elif name == "state as it is":
        state = (state,)

    def step(state, x):
        return layer.step(bound, state, jnp.concatenate([x, summary]) if "input" in told.ways else x)

    if "first" in told.ways:
        state, _ = step(state, summary @ decoder.first.w + decoder.first.b)
    found = []
    for token in tokens:
        state, y = step(state, decoder.embedding[token])
        found.append(y @ (decoder.embedding.T if told.tied else decoder.w) + decoder.b)
    return jnp.stack(found)


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_those_of_a_loop_without_padding(name):
    model = MODELS[name]
    params = random_params(model)
    got = logits_of(model, params, SOURCE, SOURCE_LENGTHS, TOKENS)
    rows = [jax.jit(functools.partial(by_hand, name, model, row=row))(params) for row in range(ROWS)]
    same(got, jnp.stack(rows, 1))


@pytest.mark.parametrize("name", MODELS)
def test_the_loss_is_the_mean_over_real_tokens(name):
    model = MODELS[name]
    params = random_params(model)
    chances = jax.nn.log_softmax(logits_of(model, params, SOURCE, SOURCE_LENGTHS, TOKENS[:-1]))
    real = [(time, row) for row in range(ROWS) for time in range(int(LENGTHS[row]) - 1)]
    total = -sum(chances[time, row, TOKENS[time + 1, row]] for time, row in real)
    loss = loss_of(model, params, SOURCE, TOKENS)
    np.testing.assert_allclose([loss.total, loss.weight], [total, len(real)], rtol=1e-5)
    padding = jnp.arange(len(TOKENS))[:, None] >= LENGTHS[None]
    same(loss_of(model, params, SOURCE, jnp.where(padding, 0, TOKENS)), loss)


@pytest.mark.parametrize("name", MODELS)
def test_steps_give_the_logits_of_the_whole_for_several_hypotheses_too(name):
    model = MODELS[name]
    params = random_params(model)
    want = logits_of(model, params, SOURCE, SOURCE_LENGTHS, TOKENS)

    @jax.jit
    def streamed(params, tokens):
        state, step = model.start(params, SOURCE, lengths=SOURCE_LENGTHS)
        if tokens.ndim == 3:
            state = jax.tree.map(lambda a: jnp.stack([a, a], 1), state)
        return jax.lax.scan(step, state, tokens)[1]

    same(streamed(params, TOKENS), want)
    twice = streamed(params, jnp.stack([TOKENS, TOKENS], -1))
    same(twice, jnp.stack([want, want], 2))


@pytest.mark.parametrize("name", ["bridge", "attention in a stack, tied"])
def test_scheduled_sampling_lies_between_teacher_forcing_and_writing_alone(name):
    model = MODELS[name]
    params = random_params(model)

    @jax.jit
    def sampled(share, tokens, seed):
        return model.apply(
            params, SOURCE, tokens, source_lengths=SOURCE_LENGTHS, sampling=share, key=jax.random.key(seed)
        )

    same(sampled(0.0, TOKENS, 0), logits_of(model, params, SOURCE, SOURCE_LENGTHS, TOKENS))
    other = TOKENS.at[1:].set((TOKENS[1:] + 1) % TARGETS)
    same(sampled(1.0, TOKENS, 0), sampled(1.0, other, 0))
    first = jax.nn.softmax(sampled(1.0, TOKENS, 0)[0])
    second = jnp.stack([sampled(1.0, TOKENS, seed)[1, 0] for seed in range(300)])
    forced = jnp.stack(
        [logits_of(model, params, SOURCE, SOURCE_LENGTHS, TOKENS.at[1].set(t))[1, 0] for t in range(TARGETS)]
    )
    drawn = jnp.abs(second[:, None] - forced[None]).sum(-1).argmin(-1)
    np.testing.assert_allclose(jnp.bincount(drawn, length=TARGETS) / 300, first[0], atol=4 * (0.25 / 300) ** 0.5)


def test_sampling_has_a_gradient_and_needs_a_key():
    model = MODELS["attention"]
    params = random_params(model)

    def loss(params, share):
        marks = {"source_lengths": SOURCE_LENGTHS, "lengths": LENGTHS}
        return model.loss(params, SOURCE, TOKENS, **marks, sampling=share, key=key(0)).value

    gradients = jax.jit(jax.grad(loss))(params, 0.5)
    assert all(jnp.isfinite(leaf).all() and jnp.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradients))
    with pytest.raises(ValueError, match="sampling is given without a key"):
        model.apply(params, SOURCE, TOKENS, sampling=0.5)


def test_where_it_attends_is_returned():
    model = MODELS["attention"]
    params = random_params(model)
    (weights,) = jax.jit(lambda p: model.weights(p, SOURCE, TOKENS, source_lengths=SOURCE_LENGTHS))(params)
    assert weights.shape == (*TOKENS.shape, len(SOURCE))
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
    for row, length in enumerate(SOURCE_LENGTHS.tolist()):
        assert not weights[:, row, length:].any()
    assert model.weights(params, SOURCE[:, :0], TOKENS[:, :0])[0].shape == (len(TOKENS), 0, len(SOURCE))


@pytest.mark.parametrize("name", ["attention", "all shared"])
def test_16_bit_training(name):
    model = MODELS[name]
    params = random_params(model)
    half = cast(params, jnp.bfloat16)

    @jax.jit
    def gradient(params):
        return jax.value_and_grad(
            lambda p: model.loss(p, SOURCE, TOKENS, source_lengths=SOURCE_LENGTHS, lengths=LENGTHS).value
        )(params)

    (loss, found), (want, exact) = gradient(half), gradient(cast(half, jnp.float32))
    assert loss.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype(jnp.bfloat16)}
    np.testing.assert_allclose(loss, want, rtol=0.03)
    same(cast(found, jnp.float32), exact, 0.05)


def test_the_gradient_of_a_frequent_token_is_summed_in_float32():
    def summed(vectors):
        return lookup(vectors, jnp.zeros(1000, int)).astype(jnp.float32).sum()

    gradient = jax.grad(summed)(jnp.zeros((2, 3), jnp.bfloat16))
    np.testing.assert_allclose(gradient[0].astype(jnp.float32), 1000, rtol=0.01)  # in bfloat16 it stops at 256


plain = jrnn.Recurrent(jrnn.LSTM(5, 4))
CAPTIONERS = {
    "state": Captioner(Decoder(TARGETS, plain, summary_size=3), 3),
    "first": Captioner(Decoder(TARGETS, plain, summary_size=3, ways=("first",)), 3),
    "input": Captioner(Decoder(TARGETS, jrnn.Recurrent(jrnn.LSTM(5 + 3, 4)), summary_size=3, ways=("input",)), 3),
    "grid": Captioner(
        Decoder(TARGETS, jrnn.Recurrent(jrnn.AttentionBefore(jrnn.GRU(5 + 3, 4), attention.General(4, 3))), summary_size=3), 3
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CAPTIONERS)
def test_a_captioner_is_a_decoder_that_is_told_features(name):
    model = CAPTIONERS[name]
    params = random_params(model)
    vectors = normal(8, ROWS, 2, 3) if name == "grid" else normal(8, ROWS, 3)
    told = (
        {"summary": vectors.mean(1), "memory": jnp.swapaxes(vectors, 0, 1)} if name == "grid" else {"summary": vectors}
    )

    @jax.jit
    def decoded(params):
        condition = model.decoder.condition(params.decoder, **told)
        return model.decoder.apply(params.decoder, condition, TOKENS)[1]

    @jax.jit
    def first(params):
        state, step = model.start(params, vectors)
        return step(state, TOKENS[0])[1]

    want = decoded(params)
    same(jax.jit(model.apply)(params, vectors, TOKENS), want)
    same(first(params), want[0])
    assert float(jax.jit(model.loss)(params, vectors, TOKENS, lengths=LENGTHS).weight) == int((LENGTHS - 1).sum())


def test_positions_that_are_not_real_are_not_seen():
    model = CAPTIONERS["grid"]
    params = random_params(model)
    grid = normal(8, ROWS, 2, 3)
    real = jnp.array([[True, True], [True, False], [False, True]])
    spoilt = jnp.where(real[..., None], grid, jnp.nan)
    got = model.apply(params, spoilt, TOKENS, source_mask=real)
    same(got[:, 1], model.apply(params, grid[1:2, :1], TOKENS[:, 1:2])[:, 0])
    same(got[:, 2], model.apply(params, grid[2:3, 1:], TOKENS[:, 2:3])[:, 0])


def replaced(model, **options):
    return dataclasses.replace(model, **options)


encoder = MODELS["bridge"].encoder


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Decoder(0, plain), "vocabulary_size is 0; expected at least 1"),
        (lambda: Decoder(6, plain, ways=("state", "last")), "expected a tuple of some of state, first, input"),
        (lambda: Decoder(6, plain, summary_size=3, ways=()), r"ways is \(\) although there is a summary_size"),
        (lambda: Decoder(6, plain, summary_size=5, ways=("input",)), "layer takes 5 features; expected more than summary_size"),
        (lambda: Decoder(6, plain, tied=True), r"gives 4 features and the embedding has 5; .* Dense\(4, 5\)"),
        (lambda: Decoder(6, jrnn.LSTM(5, 4)), "layer is LSTM.*; expected a Layer"),
        (lambda: EncoderDecoder(encoder, plain), "decoder is Recurrent .*; expected a jrnn.models.Decoder"),
        (lambda: EncoderDecoder(encoder, Decoder(6, plain, summary_size=4)), "summary_size is 4; expected 6"),
        (lambda: EncoderDecoder(encoder, Decoder(6, plain)), "or a learned bridge: give the decoder summary_size=6"),
        (lambda: replaced(MODELS["bridge"], shared="embedding"), "the encoder takes None features; expected 5"),
        (lambda: replaced(MODELS["embedding shared"], shared="all"), "expected the same layer"),
        (lambda: replaced(MODELS["bridge"], shared="some"), "shared is 'some'; expected 'embedding', 'all' or None"),
        (lambda: Captioner(Decoder(6, plain, summary_size=4), 3), "summary_size is 4; expected 3"),
        (lambda: Captioner(Decoder(6, plain), 3), "would see nothing of the features; give it summary_size=3"),
    ],
)  # fmt: skip
def test_models_that_do_not_fit(make, words):
    with pytest.raises((TypeError, ValueError), match=words):
        make()


def test_arguments_that_do_not_fit():
    model, params = MODELS["bridge"], random_params(MODELS["bridge"])
    with pytest.raises(ValueError, match="expected a start token and at least one more"):
        model.loss(params, SOURCE, TOKENS[:1])
    with pytest.raises(ValueError, match=r"xs is .* with no time steps"):
        model.apply(params, SOURCE[:0], TOKENS)
    with pytest.raises(ValueError, match=r"no summary is given; .* expects one of"):
        model.decoder.condition(params.decoder)
    with pytest.raises(ValueError, match=r"memory float32.* is given; .* expects none"):
        model.decoder.condition(params.decoder, summary=normal(1, ROWS, 6), memory=normal(2, 4, ROWS, 6))
    captioner = CAPTIONERS["state"]
    with pytest.raises(ValueError, match=r"source is float32\[3, 4\]; expected \[\*batch, 3\]"):
        captioner.apply(random_params(captioner), normal(1, ROWS, 4), TOKENS)
