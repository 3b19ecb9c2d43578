# %% imports
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import jrnn
import pictures
from jrnn import decode, losses, models
from jrnn.data import Vocabulary

# %% words remove-cell
say = pictures.words(
    {
        "temperature": "温度",
        "step": "时间步",
    }
)

# %% sum
values = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])  # three positions
query = jnp.array([2.0, 0.0])
scores = values @ query
weights = jax.nn.softmax(scores)
print("scores", scores)
print("weights", np.asarray(weights).round(3))
print("mean", np.asarray(weights @ values).round(3))

# %% sentences
nouns = {
    "house": "la maison",
    "car": "la voiture",
    "cat": "le chat",
    "dog": "le chien",
    "boat": "le bateau",
}
adjectives = {"red": "rouge", "sad": "triste", "calm": "calme", "modern": "moderne"}
verbs = {"sees": "voit", "hides": "cache", "likes": "aime"}
rng = np.random.default_rng(0)


def phrase():
    noun = rng.choice(list(nouns))
    if rng.random() < 0.3:
        return f"the {noun}", nouns[noun]
    adjective = rng.choice(list(adjectives))
    return f"the {adjective} {noun}", f"{nouns[noun]} {adjectives[adjective]}"


def pair():
    (who, qui), verb, (whom, quoi) = phrase(), rng.choice(list(verbs)), phrase()
    return f"{who} {verb} {whom}".split(), f"{qui} {verbs[verb]} {quoi}".split()


pairs = [pair() for _ in range(512)]
english = Vocabulary.build(e for e, _ in pairs)
french = Vocabulary.build([*(f for _, f in pairs), ["<start>", "<end>"]])
start, end = french.encode(["<start>", "<end>"])
print(" ".join(pairs[0][0]), "->", " ".join(pairs[0][1]))


def batch(sequences):
    """Rows of integers as [time, rows], with their lengths."""
    lengths = np.array([len(s) for s in sequences])
    padded = np.zeros((lengths.max(), len(sequences)), np.int32)
    for row, s in enumerate(sequences):
        padded[: len(s), row] = s
    return padded, lengths


def encoded(pairs):
    source = batch([english.encode(e) for e, _ in pairs])
    target = batch([[start, *french.encode(f), end] for _, f in pairs])
    return *source, *target


# %% translator
encoder = jrnn.Layered(
    (
        jrnn.Embedding(len(english), 8),
        *jrnn.rnn(
            jrnn.GRU, input_size=8, hidden_size=16, bidirectional=True
        ).layers,
    )
)
attending = jrnn.AttentionAfter(
    jrnn.GRU(8, 24), jrnn.attention.General(24, 32), 24, input_feeding=False
)
translator = models.EncoderDecoder(
    encoder, models.Decoder(len(french), jrnn.Recurrent(attending))
)


def fit(loss, params, updates, rate=1e-2):
    """Adam on `loss(params, key)`."""
    optimizer = optax.adam(rate)

    def update(carry, key):
        params, memory = carry
        value, gradient = jax.value_and_grad(loss)(params, key)
        change, memory = optimizer.update(gradient, memory)
        return (optax.apply_updates(params, change), memory), value

    @jax.jit
    def run(params):
        keys = jax.random.split(jax.random.key(0), updates)
        return jax.lax.scan(update, (params, optimizer.init(params)), keys)[0][0]

    return run(params)


source, lengths, target, target_lengths = encoded(pairs)


def loss(params, key):
    rows = jax.random.randint(key, (32,), 0, len(pairs))
    shown = jnp.asarray(source)[:, rows], jnp.asarray(target)[:, rows]
    return translator.loss(
        params,
        *shown,
        source_lengths=jnp.asarray(lengths)[rows],
        lengths=jnp.asarray(target_lengths)[rows],
    ).value


translate = fit(loss, translator.init(jax.random.key(1)), 250)

# %% translated
new = [pair() for _ in range(64)]
source, lengths, target, target_lengths = encoded(new)
state, step = translator.start(translate, source, lengths=lengths)
written = decode.generate(
    step,
    state,
    jnp.full(64, start),
    jax.random.key(0),
    length=len(target),
    end=int(end),
    temperature=0,
)
found = [
    french.decode(row[: n - 1]) for row, n in zip(written.tokens.T, written.lengths)
]
right = [f == wanted for f, (_, wanted) in zip(found, new)]
print("right:", np.mean(right))
for row in range(3):
    print(" ".join(new[row][0]), "->", " ".join(found[row]))

# %% alignment-picture hide-input
(aligned,) = translator.weights(
    translate, source, target, source_lengths=lengths
)  # [target, row, source]
longest = [row for row in range(64) if len(new[row][0]) == 7][:2]
fig, axes = plt.subplots(1, 2, figsize=(10, 4.3))
for ax, row in zip(axes, longest):
    words, written_words = new[row][0], [*new[row][1], "<end>"]
    ax.imshow(
        aligned[: len(written_words), row, : len(words)],
        cmap="Blues",
        vmin=0,
        vmax=1,
        aspect="auto",
    )
    ax.set_xticks(range(len(words)), words, rotation=40)
    ax.set_yticks(range(len(written_words)), written_words)
    ax.xaxis.tick_top()

# %% caption
colors, shapes = ["red", "green", "blue"], ["disc", "square", "cross"]
caption_words = ["<start>", *colors, *shapes, "then", "<end>"]


def scenes(key, rows=32):
    """Grids of 3 x 3 places with two things, [rows, 9, 15], and what to say about them [7, rows]."""
    order, kind = jax.random.split(key)
    places = jnp.sort(
        jax.random.permutation(
            order, jnp.tile(jnp.arange(9), (rows, 1)), axis=1, independent=True
        )[:, :2]
    )
    color, shape = jax.random.randint(kind, (2, rows, 2), 0, 3)
    thing = jnp.concatenate(
        [jax.nn.one_hot(color, 3), jax.nn.one_hot(shape, 3)], -1
    )  # [rows, 2, 6]
    grid = jnp.einsum("rtp,rtf->rpf", jax.nn.one_hot(places, 9), thing)
    where = jnp.broadcast_to(jnp.eye(9), (rows, 9, 9))
    fixed = [
        jnp.full(rows, caption_words.index(word))
        for word in ("<start>", "then", "<end>")
    ]
    said = [
        fixed[0],
        1 + color[:, 0],
        4 + shape[:, 0],
        fixed[1],
        1 + color[:, 1],
        4 + shape[:, 1],
        fixed[2],
    ]
    return jnp.concatenate([grid, where], -1), jnp.stack(said)


looking = jrnn.AttentionAfter(
    jrnn.GRU(8, 24), jrnn.attention.General(24, 15), 24, input_feeding=False
)
captioner = models.Captioner(
    models.Decoder(len(caption_words), jrnn.Recurrent(looking)), 15
)
describe = fit(
    lambda p, key: captioner.loss(p, *scenes(key)).value,
    captioner.init(jax.random.key(2)),
    350,
)
grid, said = scenes(jax.random.key(3))
state, step = captioner.start(describe, grid)
written = decode.generate(
    step, state, said[0], jax.random.key(0), length=6, temperature=0
).tokens
print("captions that are right:", float((written == said[1:]).all(0).mean()))

# %% caption-picture hide-input
differ = (said[1] != said[4]) & (said[2] != said[5])
shown = int(np.argmax(differ))
(looks,) = captioner.weights(describe, grid, said[:-1])
fig, axes = plt.subplots(1, 6, figsize=(10, 2.1))
marks = {"disc": "o", "square": "s", "cross": "X"}
for ax, look, word in zip(axes, looks[:, shown], written[:, shown]):
    ax.imshow(look.reshape(3, 3), cmap="Greys", vmin=0, vmax=1.4)
    for place in range(9):
        thing = np.asarray(grid[shown, place, :6])
        if thing.any():
            color, shape = colors[thing[:3].argmax()], shapes[thing[3:].argmax()]
            ax.plot(
                place % 3,
                place // 3,
                marks[shape],
                color={"red": "#d62728", "green": "#2ca02c", "blue": "#1f77b4"}[
                    color
                ],
                ms=13,
            )
    ax.set(
        title=caption_words[word],
        xticks=[0.5, 1.5],
        yticks=[0.5, 1.5],
        xticklabels=[],
        yticklabels=[],
    )
    ax.grid(color="0.8")
    ax.spines[:].set_visible(True)

# %% tunes
tunes = {
    "Ode to Joy": "E E F G G F E D C C D E E D D .",
    "Frère Jacques": "C D E C C D E C E F G G E F G G .",
    "Ah! vous dirai-je": "C C G G A A G G F F E E D D C C .",
    "Au clair de la lune": "C C C D E E D D C E D D C C C C .",
}
notes = [".", "C", "D", "E", "F", "G", "A"]
score = [[notes.index(note) for note in tune.split()] for tune in tunes.values()]
written_down, tune_lengths = batch(
    [[0, *tune] for tune in score]
)  # the full stop begins and ends a tune

composer = models.LanguageModel(len(notes), jrnn.Recurrent(jrnn.GRU(8, 24)))


def next_note(params, key):
    _, logits = composer.apply(params, written_down[:-1], lengths=tune_lengths - 1)
    real = np.arange(len(written_down) - 1)[:, None] < tune_lengths - 1
    return losses.cross_entropy(
        logits, jnp.asarray(written_down[1:]), jnp.asarray(real)
    ).value


compose = fit(next_note, composer.init(jax.random.key(4)), 200)
print(
    f"nats per note {next_note(compose, None):.3f}; known by heart it is {np.log(4) / np.mean(tune_lengths - 1):.3f}"
)


@jax.jit
def write(key, temperature):
    """Six melodies, each begun by a full stop and ended by one."""
    first = jnp.zeros(6, int)
    state = composer.initial_state(compose, first.shape)
    return decode.generate(
        lambda state, note: composer.step(compose, state, note),
        state,
        first,
        key,
        length=20,
        end=0,
        temperature=temperature,
    )


for temperature in (0.3, 1.0, 2.0):
    composed = write(jax.random.key(11), temperature)
    for row in range(2):
        print(
            temperature,
            " ".join(
                notes[i] for i in composed.tokens[: composed.lengths[row], row]
            ),
        )

# %% tunes-picture hide-input
fig, axes = plt.subplots(1, 3, figsize=(10, 2.8), sharey=True)
for ax, temperature in zip(axes, (0.3, 1.0, 2.0)):
    composed = write(jax.random.key(11), temperature)
    for row, color in enumerate(plt.cm.tab10(range(6))):
        melody = np.asarray(
            composed.tokens[: composed.lengths[row] - 1, row]
        ).astype(float)
        ax.step(
            range(len(melody)),
            melody + 0.09 * (row - 2.5),
            where="post",
            color=color,
            lw=1.6,
        )
    ax.set(
        title=f"{say('temperature')} {temperature:g}",
        xlabel=say("step"),
        xlim=(0, 19),
    )
axes[0].set_yticks(range(1, 7), notes[1:])

# %% check-1 hide-cell
assert np.allclose(jax.nn.softmax(jnp.array([1.0, 1.0, 1.0])), 1 / 3)
assert np.allclose(jax.nn.softmax(10 * scores)[1], 0, atol=1e-6)

# %% check-2 hide-cell
assert np.allclose(aligned.sum(-1), 1, atol=1e-5)
for row in range(64):
    assert not aligned[:, row, lengths[row] :].any()

# %% check-3 hide-cell
certain = write(jax.random.key(5), 0.0)
assert all(
    np.array_equal(certain.tokens[:, row], certain.tokens[:, 0]) for row in range(6)
)
assert (
    " ".join(notes[i] for i in certain.tokens[: certain.lengths[0], 0])
    in tunes.values()
)
