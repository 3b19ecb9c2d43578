# %% imports
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jrnn
import pictures
from jrnn import decode, losses, models
from jrnn.data import Vocabulary
from training import fit, pad  # of lessons 8 and 12

# %% words remove-cell
say = pictures.words(
    {
        "temperature": "温度",
        "step": "时间步",
        "network": "网络",
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
feminine = {"house": "maison", "car": "voiture"}
masculine = {"cat": "chat", "dog": "chien", "boat": "bateau"}
nouns = feminine | masculine
adjectives = {"red": "rouge", "sad": "triste", "calm": "calme", "modern": "moderne"}
verbs = {"sees": "voit", "hides": "cache", "likes": "aime"}
rng = np.random.default_rng(0)


def phrase():
    noun = rng.choice(list(nouns))
    the = "la" if noun in feminine else "le"
    if rng.random() < 0.3:
        return f"the {noun}", f"{the} {nouns[noun]}"
    adjective = rng.choice(list(adjectives))
    return f"the {adjective} {noun}", f"{the} {nouns[noun]} {adjectives[adjective]}"


def pair():
    (who, qui), verb, (whom, quoi) = phrase(), rng.choice(list(verbs)), phrase()
    return f"{who} {verb} {whom}", f"{qui} {verbs[verb]} {quoi}"


pairs = [pair() for _ in range(512)]
new = [two for two in (pair() for _ in range(100)) if two not in pairs][:64]
print(" -> ".join(pairs[0]))

english = Vocabulary.build(e.split() for e, _ in pairs)
french = Vocabulary.build([*(f.split() for _, f in pairs), ["<start>", "<end>"]])
start, end = french.encode(["<start>", "<end>"])


def numbers(pairs):
    """Of the English sentences and of the French ones: integers and lengths."""
    source = pad([english.encode(e.split()) for e, _ in pairs])
    target = pad([[start, *french.encode(f.split()), end] for _, f in pairs])
    return jax.tree.map(jnp.asarray, (source, target))


# %% translator
reader = jrnn.rnn(jrnn.GRU, input_size=8, hidden_size=16, bidirectional=True)
encoder = jrnn.Layered((jrnn.Embedding(len(english), 8), reader))
general = jrnn.attention.General(24, 32)  # q W v: a query of 24, positions of 32
writer = jrnn.AttentionAfter(jrnn.GRU(8, 24), general, 24, input_feeding=False)
decoder = models.Decoder(len(french), jrnn.Recurrent(writer))
translator = models.EncoderDecoder(encoder, decoder)
data = numbers(pairs)


def loss(params, key):
    rows = jax.random.randint(key, (32,), 0, len(pairs))
    (source, n), (target, m) = jax.tree.map(lambda a: a[..., rows], data)
    found = translator.loss(params, source, target, source_lengths=n, lengths=m)
    return found.value


begun = [translator.init(jax.random.key(seed)) for seed in (1, 3)]
networks = [fit(loss, params, updates=250)[0] for params in begun]


# %% translated
def write(state, step, first, length, end=None):
    """Always the likeliest token (temperature 0), until the end token."""
    options = {"length": length, "end": end, "temperature": 0}
    return decode.generate(step, state, first, jax.random.key(0), **options)


(source, n), (target, m) = numbers(new)
for params in networks:
    state, step = translator.start(params, source, lengths=n)
    written = write(state, step, target[0], len(target), int(end))
    ends = zip(written.tokens.T, written.lengths)
    found = [" ".join(french.decode(row[: length - 1])) for row, length in ends]
    right = sum(f == wanted for f, (_, wanted) in zip(found, new))
    print(right, "of", len(new), "new sentences are right")
for (e, _), f in zip(new[:3], found):
    print(e, "->", f)

# %% alignment-picture hide-input
aligned = [  # [target, row, source]
    translator.weights(params, source, target[:-1], source_lengths=n)[0]
    for params in networks
]
row = int(np.argmax(n == 7))
across, down = new[row][0].split(), [*new[row][1].split(), "<end>"]
fig, axes = plt.subplots(1, 2, figsize=(10, 4.3), sharey=True)
for number, (ax, looks) in enumerate(zip(axes, aligned), start=1):
    looks = looks[: len(down), row, : len(across)]
    ax.imshow(looks, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    ax.set_xticks(range(len(across)), across, rotation=40)
    ax.set_yticks(range(len(down)), down)
    ax.xaxis.tick_top()
    ax.set_title(f"{say('network')} {number}")

# %% caption
colors, shapes = ["red", "green", "blue"], ["disc", "square", "cross"]
caption_words = ["<start>", *colors, *shapes, "then", "<end>"]


def scene():
    """Nine places, each with what is there (6) and where (9); and what to say."""
    what, said = np.zeros((9, 6)), []
    for place in sorted(rng.choice(9, 2, replace=False)):
        color, shape = rng.choice(colors), rng.choice(shapes)
        what[place, [colors.index(color), 3 + shapes.index(shape)]] = 1
        said += [color, shape, "then"]
    said = ["<start>", *said[:-1], "<end>"]
    return np.hstack([what, np.eye(9)]), [
        caption_words.index(word) for word in said
    ]


def scenes(rows):
    """Places [rows, 9, 15] and words [7, rows]."""
    places, words = zip(*(scene() for _ in range(rows)))
    return jnp.asarray(places, jnp.float32), jnp.asarray(words).T


general = jrnn.attention.General(24, 15)
writer = jrnn.AttentionAfter(jrnn.GRU(8, 24), general, 24, input_feeding=False)
decoder = models.Decoder(len(caption_words), jrnn.Recurrent(writer))
captioner = models.Captioner(decoder, 15)
grids, sayings = scenes(2000)


def loss(params, key):
    rows = jax.random.randint(key, (32,), 0, 2000)
    return captioner.loss(params, grids[rows], sayings[:, rows]).value


describe, _ = fit(loss, captioner.init(jax.random.key(2)), updates=350)
grid, said = scenes(64)
state, step = captioner.start(describe, grid)
written = write(state, step, said[0], length=6).tokens
print("captions that are right:", (written == said[1:]).all(0).mean())

# %% caption-picture hide-input
shown = int(np.argmax((said[1] != said[4]) & (said[2] != said[5])))
(looks,) = captioner.weights(describe, grid, said[:-1])
fig, axes = plt.subplots(1, 6, figsize=(10, 2.1))
dyes = {"red": "#d62728", "green": "#2ca02c", "blue": "#1f77b4"}
marks = {"disc": "o", "square": "s", "cross": "X"}
for ax, look, word in zip(axes, looks[:, shown], written[:, shown]):
    ax.imshow(look.reshape(3, 3), cmap="Greys", vmin=0, vmax=1.4)
    for place in np.flatnonzero(grid[shown, :, :6].any(1)):
        color, shape = np.flatnonzero(grid[shown, place, :6])
        y, x = divmod(place, 3)
        dye, mark = dyes[colors[color]], marks[shapes[shape - 3]]
        ax.plot(x, y, mark, color=dye, ms=13)
    ax.set(title=caption_words[word], xticks=[0.5, 1.5], yticks=[0.5, 1.5])
    ax.tick_params(length=0, labelbottom=False, labelleft=False)
    ax.grid(color="0.8")
    ax.spines[:].set_visible(True)

# %% tunes
tunes = {  # a note about as often as it has beats
    "Ode to Joy": "E E F G G F E D C C D E E D D .",
    "Frère Jacques": "C D E C C D E C E F G G E F G G .",
    "Ah! vous dirai-je": "C C G G A A G G F F E E D D C C .",
    "Au clair de la lune": "C C C D E E D D C E D D C C C C .",
}
notes = [".", "C", "D", "E", "F", "G", "A"]
# The full stop begins a tune and ends it.
rows = [
    [notes.index(note) for note in f". {tune}".split()] for tune in tunes.values()
]
sheet, lengths = pad(rows)

composer = models.LanguageModel(len(notes), jrnn.Recurrent(jrnn.GRU(8, 24)))


def loss(params, key):
    _, scores = composer.apply(params, sheet[:-1], lengths=lengths - 1)
    real = jnp.arange(len(sheet) - 1)[:, None] < lengths - 1
    return losses.cross_entropy(scores, jnp.asarray(sheet[1:]), real).value


compose, _ = fit(loss, composer.init(jax.random.key(4)), updates=200)
print(f"nats per note {loss(compose, None):.3f}")
print(f"known by heart it is {np.log(4) / (lengths - 1).mean():.3f}")


@jax.jit
def six(key, temperature):
    """Six melodies, each begun by a full stop and ended by one."""
    return decode.generate(
        lambda state, note: composer.step(compose, state, note),
        composer.initial_state(compose, (6,)),
        jnp.zeros(6, int),
        key,
        length=20,
        end=0,
        temperature=temperature,
    )


def melodies(key, temperature):
    written = six(key, temperature)
    ends = zip(written.tokens.T, written.lengths)
    return [" ".join(notes[i] for i in row[:length]) for row, length in ends]


composed = {t: melodies(jax.random.key(11), t) for t in (0.3, 1.0, 2.0)}
for temperature, written in composed.items():
    known = sum(melody in tunes.values() for melody in written)
    print(f"temperature {temperature}: {known} of 6 are one of the four tunes")

# %% tunes-picture hide-input
fig, axes = plt.subplots(3, 1, figsize=(9, 5.2), sharex=True)
dyes = dict(
    zip(tunes, (pictures.STATE, pictures.INPUT, pictures.OUTPUT, pictures.GRADIENT))
)
for ax, (temperature, written) in zip(axes, composed.items()):
    for row, melody in enumerate(written):
        now = ""
        for t, note in enumerate(melody.split()):
            # Of which tune are this note and the three around it? Better none new.
            four = melody[2 * max(t - 3, 0) :][:7]
            of = [name for name in tunes if four in tunes[name]]
            now = now if now in of else next(iter(of), "")
            color = dyes.get(now, pictures.GREY)
            ax.text(t, row, note, color=color, ha="center", va="center", size=9)
    ax.set(ylim=(5.6, -0.6), xlim=(-0.5, 20), yticks=[])
    ax.set_ylabel(f"{say('temperature')}\n{temperature:g}")
axes[-1].set(xlabel=say("step"), xticks=range(0, 20, 2))
for name, color in dyes.items():
    axes[0].plot([], [], color=color, lw=4, label=name)
fig.legend(loc="outside upper center", ncols=4)

# %% check-1 hide-cell
assert np.allclose(jax.nn.softmax(jnp.array([1.0, 1.0, 1.0])), 1 / 3)
assert np.allclose(jax.nn.softmax(10 * scores), [0.5, 0, 0.5], atol=1e-6)

# %% check-2 hide-cell
padded = np.arange(len(source)) >= n[:, None]  # [row, source]
for looks in aligned:
    assert np.allclose(looks.sum(-1), 1, atol=1e-5)
    assert not looks[:, padded].any()

# %% check-3 hide-cell
certain = melodies(jax.random.key(5), 0.0)
assert len(set(certain)) == 1
assert certain[0] in tunes.values()
