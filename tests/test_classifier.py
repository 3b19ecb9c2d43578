"""Many to one: the last output of a layer, pooling over real steps, the classifier; many to many in step: the tagger."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CELLS, KINDS, LAYERS, key, normal, random_inputs, random_params, same

import jrnn
from jrnn import pooling
from jrnn.layers import Spelled
from jrnn.losses import cross_entropy
from jrnn.models import CRF, Classifier, Tagger

TIME, ROWS = 6, 4
LENGTHS = jnp.array([6, 3, 1, 0])
REAL = np.arange(TIME)[:, None] < np.asarray(LENGTHS)
EMBEDDED = jrnn.Layered((jrnn.Embedding(7, 3), jrnn.Dropout(0.3), *jrnn.rnn(
    jrnn.GRU, input_size=3, hidden_size=4, bidirectional=True).layers))  # fmt: skip
TOKENS = jnp.asarray(np.random.default_rng(0).integers(0, 7, (TIME, ROWS)), jnp.int32)
POOLINGS = {"last": None, "mean": pooling.Mean(), "max": pooling.Max(), "attention": pooling.Attention(5)}
ALL = LAYERS | {name: jrnn.Recurrent(CELLS[name]) for name in KINDS}
ALL |= {
    "residual-both-ways": jrnn.Residual(jrnn.Bidirectional(
        jrnn.Recurrent(jrnn.GRU(3, 2)), jrnn.Recurrent(jrnn.Elman(3, 1), reverse=True))),
    "dropout-alone": jrnn.Dropout(0.5),
}  # fmt: skip


def ends_by_hand(layer, ys, row):
    """Where each feature's run ends: at the first step for what runs in reverse."""
    match layer:
        case jrnn.Recurrent():
            return ys[0, row] if layer.reverse else ys[int(LENGTHS[row]) - 1, row]
        case jrnn.Bidirectional():
            cut = layer.forward.output_size
            parts = (layer.forward, ys[..., :cut]), (layer.backward, ys[..., cut:])
            return jnp.concatenate([ends_by_hand(part, outputs, row) for part, outputs in parts])
        case jrnn.Layered():
            return ends_by_hand([part for part in layer.layers if not isinstance(part, jrnn.Dropout)][-1], ys, row)
        case jrnn.Residual():
            return ends_by_hand(layer.layer, ys, row)
    return ys[int(LENGTHS[row]) - 1, row]


@pytest.mark.parametrize("name", ALL)
def test_the_last_output_is_where_the_run_ends(name):
    layer = ALL[name]
    params = random_params(layer)
    xs = random_inputs(layer, TIME, ROWS) if layer.input_size else normal(0, TIME, ROWS, 3)
    xs = xs.at[4, 1].set(jnp.nan)
    state, ys = jax.jit(lambda params, xs: layer.apply(params, xs, lengths=LENGTHS))(params, xs)
    found_state, found = jax.jit(lambda params, xs: layer.last(params, xs, lengths=LENGTHS))(params, xs)
    same(found_state, state)
    for row in range(ROWS):
        same(found[row], ends_by_hand(layer, ys, row) if LENGTHS[row] else jnp.zeros_like(found[row]))


@pytest.mark.parametrize("name", ["recurrent", "reverse", "rnn-gru-both-ways", "residual"])
def test_the_last_output_without_padding(name):
    layer = ALL[name]
    params, xs = random_params(layer), random_inputs(layer, TIME, ROWS)
    full = jnp.full(ROWS, TIME)
    last = jax.jit(layer.last)
    same(last(params, xs)[1], last(params, xs, lengths=full)[1])


def test_the_last_output_is_read_from_the_state():
    """Under jit nothing as long as the sequence is stacked, once that is long (8 MiB of z)."""
    layer = jrnn.rnn(jrnn.LSTM, input_size=2, hidden_size=16)
    params = layer.init(key(0))

    def memory(time):
        compiled = (
            jax.jit(lambda params, xs: layer.last(params, xs)[1]).lower(params, jnp.zeros((time, 4, 2))).compile()
        )
        return compiled.memory_analysis().temp_size_in_bytes

    assert memory(32768) == memory(16384) < 16384 * 4 * 64


@pytest.mark.parametrize("name", POOLINGS)
def test_pooling_is_over_real_steps(name):
    """Each row as if it were alone and without padding; an empty row is zeros."""
    pool = POOLINGS[name] or pooling.Mean()
    params = pool.init(key(1), 3)
    ys = normal(2, TIME, ROWS, 3)
    dirty = jnp.where(jnp.asarray(REAL)[..., None], ys, jnp.full_like(ys, jnp.nan))
    apply = jax.jit(pool.apply)
    found = apply(params, dirty, jnp.asarray(REAL))
    for row, length in enumerate(LENGTHS[:3]):
        same(found[row], apply(params, ys[: int(length), row], None))
    assert not found[3].any()
    gradient = np.asarray(jax.jit(jax.grad(lambda ys: pool.apply(params, ys, jnp.asarray(REAL)).sum()))(dirty))
    assert np.isfinite(gradient).all()
    assert not gradient[~REAL].any()


def test_each_pooling_is_what_it_says():
    ys = normal(2, TIME, 3)
    same(pooling.Mean().apply((), ys, None), ys.mean(0))
    same(pooling.Max().apply((), ys, None), ys.max(0))
    attention = pooling.Attention(5)
    params = attention.init(key(1), 3)
    w, b, query = (np.asarray(a, np.float64) for a in params)
    scores = np.tanh(np.asarray(ys) @ w + b) @ query
    weights = np.exp(scores) / np.exp(scores).sum()
    np.testing.assert_allclose(attention.weights(params, ys, None), weights, rtol=1e-5)
    np.testing.assert_allclose(attention.apply(params, ys, None), weights @ np.asarray(ys), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", POOLINGS)
def test_a_classifier_does_not_see_padding(name):
    model = Classifier(EMBEDDED, 3, pooling=POOLINGS[name])
    params = random_params(model)
    labels = jnp.array([0, 1, 2, 1])
    apply, loss_of = jax.jit(model.apply), jax.jit(model.loss)
    logits = apply(params, TOKENS, lengths=LENGTHS)
    for row, length in enumerate(LENGTHS[:3]):
        same(logits[row], apply(params, TOKENS[: int(length), row]))
    same(logits[3], params.b)  # nothing was read
    loss = loss_of(params, TOKENS, labels, lengths=LENGTHS)
    same(loss, cross_entropy(logits[:3], labels[:3], None))
    same(loss_of(params, TOKENS, labels, mask=jnp.asarray(REAL)), loss)
    assert loss_of(params, TOKENS, labels).weight == 4
    gradient = jax.jit(jax.grad(lambda p, x: model.loss(p, x, labels, lengths=LENGTHS).total))
    same(gradient(params, TOKENS), gradient(params, TOKENS.at[3:, 1].set(6)))


def test_one_to_one():
    """A sequence of one step, with no state to speak of, is a feed-forward network."""
    model = Classifier(jrnn.Recurrent(jrnn.Elman(3, 4)), 2)
    params, x = random_params(model), normal(3, 1, 5, 3)
    hidden = jnp.tanh(x[0] @ params.layer.w_x + jnp.broadcast_to(params.layer.b, (5, 4)))
    same(model.apply(params, x), hidden @ params.w + jnp.broadcast_to(params.b, (5, 2)))


def test_dropout_needs_a_key():
    model = Classifier(EMBEDDED, 3)
    params = random_params(model)
    plain, once, again, other = (model.apply(params, TOKENS, key=k) for k in (None, key(1), key(1), key(2)))
    same(once, again)
    assert not np.allclose(once, plain)
    assert not np.allclose(once, other)


@pytest.mark.parametrize("crf", [False, True])
def test_a_tagger_does_not_see_padding(crf):
    model = Tagger(EMBEDDED, 3, crf=crf)
    params = random_params(model)
    labels = jnp.asarray(np.random.default_rng(1).integers(0, 3, (TIME, ROWS)), jnp.int32)
    loss_of, decode = jax.jit(model.loss), jax.jit(model.decode)
    loss = loss_of(params, TOKENS, labels.at[3:, 1].set(-5), lengths=LENGTHS)
    decoded = decode(params, TOKENS, lengths=LENGTHS)
    alone = [
        (loss_of(params, TOKENS[:n, row], labels[:n, row]), decode(params, TOKENS[:n, row]))
        for row, n in enumerate(map(int, LENGTHS[:3]))
    ]
    np.testing.assert_allclose(loss.total, sum(float(one.total) for one, _ in alone), rtol=1e-5)
    assert loss.weight == int(LENGTHS.sum())
    for row, (_, path) in enumerate(alone):
        assert decoded[:, row].tolist() == path.tolist() + [-1] * (TIME - len(path))
    assert (decoded[:, 3] == -1).all()


@pytest.mark.parametrize("crf", [False, True])
def test_packed_sentences_are_tagged_as_if_alone(crf):
    model = Tagger(EMBEDDED, 3, crf=crf)
    params = random_params(model)
    labels = jnp.asarray(np.random.default_rng(1).integers(0, 3, TIME), jnp.int32)
    reset = jnp.zeros(TIME, bool).at[jnp.array([0, 2, 5])].set(True)
    loss_of, decode = jax.jit(model.loss), jax.jit(model.decode)
    loss = loss_of(params, TOKENS[:, 0], labels, reset=reset)
    decoded = decode(params, TOKENS[:, 0], reset=reset)
    total = 0.0
    for part in (slice(0, 2), slice(2, 5), slice(5, 6)):
        total += float(loss_of(params, TOKENS[part, 0], labels[part]).total)
        assert decoded[part].tolist() == decode(params, TOKENS[part, 0]).tolist()
    np.testing.assert_allclose(loss.total, total, rtol=1e-5)


def test_without_a_crf_the_tagger_is_a_softmax_at_each_step():
    model = Tagger(EMBEDDED, 3)
    params = random_params(model)
    logits = model.apply(params, TOKENS)
    assert logits.shape == (TIME, ROWS, 3)
    assert params.crf == ()
    same(model.decode(params, TOKENS), logits.argmax(-1).astype(jnp.int32))
    with_crf = Tagger(EMBEDDED, 3, crf=True)
    more = params._replace(crf=CRF(3).init(key(0)))  # zeros: no label depends on another
    labels = logits.argmin(-1).astype(jnp.int32)
    same(with_crf.loss(more, TOKENS, labels), model.loss(params, TOKENS, labels))


def spelled():
    words = jrnn.Embedding(7, 3)
    letters = jrnn.Layered((jrnn.Embedding(9, 2), jrnn.Bidirectional(
        jrnn.Recurrent(jrnn.GRU(2, 3)), jrnn.Recurrent(jrnn.GRU(2, 3), reverse=True))))  # fmt: skip
    layer = jrnn.WordsAndCharacters(words, letters)
    characters = np.zeros((TIME, ROWS, 5), np.int32)
    rng = np.random.default_rng(2)
    for place in np.ndindex(TIME, ROWS):
        length = rng.integers(0, 6)
        characters[place][:length] = rng.integers(1, 9, length)
    return layer, random_params(layer), Spelled(TOKENS, jnp.asarray(characters))


def test_a_word_is_its_vector_and_its_spelling():
    layer, params, xs = spelled()
    _, ys = layer.apply(params, xs)
    assert ys.shape == (TIME, ROWS, layer.output_size)
    for t, row in ((0, 0), (3, 2), (5, 3)):
        letters = xs.characters[t, row]
        letters = letters[letters != 0]
        spelling = layer.characters.last(params.characters, letters)[1] if len(letters) else jnp.zeros(6)
        same(ys[t, row], jnp.concatenate([params.words.vectors[xs.words[t, row]], spelling]))
    same(jax.vmap(lambda x: layer.step(params, (), x)[1])(xs), ys)
    _, padded = layer.apply(params, xs, lengths=LENGTHS)
    assert not padded[3:, 1].any()
    same(padded[:3, 1], ys[:3, 1])


def test_embeddings():
    layer = jrnn.Embedding(7, 3)
    params = random_params(layer)
    same(layer.apply(params, TOKENS)[1], params.vectors[TOKENS])
    same(layer.step(params, (), TOKENS[0])[1], params.vectors[TOKENS[0]])
    padded = layer.apply(params, TOKENS.at[3:, 1].set(-1), lengths=LENGTHS)[1]
    assert not padded[3:, 1].any()
    same(jrnn.OneHot(7).apply((), TOKENS)[1] @ params.vectors, params.vectors[TOKENS])
    assert jrnn.OneHot(7, dtype=jnp.bfloat16).apply((), TOKENS)[1].dtype == jnp.bfloat16
    frozen = jrnn.Embedding(7, 3, frozen=True)
    assert not jax.grad(lambda p: frozen.apply(p, TOKENS)[1].sum())(params).vectors.any()
    counts = np.bincount(np.asarray(TOKENS).ravel(), minlength=7)
    gradient = jax.grad(lambda p: layer.apply(p, TOKENS)[1].sum())(params).vectors
    same(gradient, jnp.asarray(np.repeat(counts[:, None], 3, 1), jnp.float32))
    norms = np.linalg.norm(jrnn.Embedding(4000, 50).init(key(0)).vectors, axis=1)
    assert abs(np.square(norms).mean() - 1) < 5 * np.sqrt(2 / 50 / 4000)


def test_pretrained_vectors():
    params = jrnn.Embedding(4, 2).init(key(0))
    tokens = ["<pad>", "<unk>", "cat", "dog"]
    known = jrnn.layers.pretrained(params, tokens, {"dog": np.array([1.0, 2.0]), "cow": np.zeros(9)})
    same(known.vectors[3], jnp.array([1.0, 2.0]))
    same(known.vectors[:3], params.vectors[:3])
    for vectors, words in (
        ({"dog": np.zeros(3)}, r"vectors\['dog'\] has shape \[3\]; expected \[2\]"),
        ({"cow": np.zeros(2)}, "none of the tokens"),
    ):
        with pytest.raises(ValueError, match=words):
            jrnn.layers.pretrained(params, tokens, vectors)
    with pytest.raises(ValueError, match="tokens has 3 entries; expected 4"):
        jrnn.layers.pretrained(params, tokens[:3], {})


LAYER, PARAMS, XS = spelled()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: jrnn.Embedding(7, 3).apply(PARAMS.words, TOKENS + 4),
            ValueError,
            r"tokens holds 4..10; expected 0..6",
        ),
        (lambda: jrnn.Embedding(7, 3).apply(PARAMS.words, normal(0, 2, 2)), TypeError, "expected integers in 0..6"),
        (lambda: jrnn.OneHot(5).step((), (), TOKENS), ValueError, "expected 0..4"),
        (lambda: jrnn.Embedding(0, 3), ValueError, "vocabulary_size is 0"),
        (lambda: LAYER.apply(PARAMS, TOKENS), TypeError, r"expects Spelled\(words"),
        (lambda: LAYER.apply((), XS), TypeError, "expects SpelledParams"),
        (lambda: LAYER.apply(PARAMS, Spelled(TOKENS, TOKENS)), ValueError, "the characters of each word"),
        (lambda: Classifier(jrnn.Dropout(0.5), 2), ValueError, "expected one with an output size"),
        (lambda: Classifier(EMBEDDED, 0), ValueError, "classes is 0"),
        (lambda: Tagger(jrnn.Dropout(0.5), 2), ValueError, "expected one with an output size"),
        (lambda: pooling.Attention(0), ValueError, "hidden_size is 0"),
        (lambda: pooling.Mean().apply((), normal(0, 3, 2, 4), jnp.ones((2, 3), bool)), ValueError, "mask is bool"),
    ],
)
def test_bad_input(call, error, words):
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize("model", [Classifier(EMBEDDED, 3, pooling=p) for p in POOLINGS.values()] + [
    Tagger(EMBEDDED, 3), Tagger(EMBEDDED, 3, crf=True)], ids=[*POOLINGS, "tagger", "crf"])  # fmt: skip
def test_a_batch_of_padding_teaches_nothing(model):
    params = random_params(model)
    labels = jnp.zeros(ROWS if isinstance(model, Classifier) else (TIME, ROWS), jnp.int32)

    def loss(params):
        return model.loss(params, TOKENS, labels, lengths=jnp.zeros(ROWS, jnp.int32)).value

    value, gradient = jax.jit(jax.value_and_grad(loss))(params)
    assert value == 0
    for leaf in jax.tree.leaves(gradient):
        assert not leaf.any()
