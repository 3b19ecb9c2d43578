# %% imports
import collections

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jrnn
import pictures
from jrnn import losses, models
from jrnn.data import Vocabulary
from training import fit, pad

# %% words remove-cell
say = pictures.words(
    {
        "integers": "整数",
        "one-hot": "独热",
        "embedding": "嵌入",
        "bag of words": "词袋",
        "before": "训练前",
        "after": "训练后",
    }
)

# %% tokens
text = ["the dog bites the man", "the man runs"]
sentences = [line.split() for line in text]
vocabulary = Vocabulary.build(sentences)
print(vocabulary.tokens)
for sentence in sentences:
    print(sentence, "->", vocabulary.encode(sentence))
print("the cat runs ->", vocabulary.encode(["the", "cat", "runs"]))

# %% one-hot
ids = vocabulary.encode(sentences[0])
one_hot = np.eye(len(vocabulary), dtype=np.float32)[ids]
print(one_hot.shape)
print(one_hot.astype(int))

# %% bag
dog_bites = collections.Counter(["the", "dog", "bites", "the", "man"])
man_bites = collections.Counter(["the", "man", "bites", "the", "dog"])
print(man_bites)
print("the same bag:", dog_bites == man_bites)

# %% embedding
vectors = jax.random.normal(jax.random.key(0), (len(vocabulary), 3))
looked_up = vectors[ids]
multiplied = one_hot @ vectors
print(looked_up.shape, "the same:", bool(jnp.allclose(looked_up, multiplied)))

# %% forms-picture hide-input
fig, axes = plt.subplots(1, 4, figsize=(10, 2.7), width_ratios=[0.7, 3.5, 2.3, 3.5])
words_of = [vocabulary.tokens[i] for i in ids]
pictures.numbers(axes[0], ids[:, None].astype(float), limit=14, colors="Blues")
axes[0].set_yticks(range(5), words_of)
pictures.numbers(axes[1], one_hot, limit=1.5, colors="PuOr_r")
pictures.numbers(axes[2], np.asarray(looked_up), form="{:.1f}", limit=3)
pictures.numbers(axes[3], one_hot.sum(0)[None], limit=3, colors="PuOr_r")
for ax, title in zip(axes, ("integers", "one-hot", "embedding", "bag of words")):
    ax.set_title(say(title), size=10)
    ax.set_xticks([])
axes[3].set_yticks([])
for ax in (axes[1], axes[3]):
    ax.set_xticks(range(len(vocabulary)), vocabulary.tokens, rotation=60, size=7)
axes[1].set_yticks([])
axes[2].set_yticks([])
axes[3].set_box_aspect(0.18)

# %% language
animals, people = ["dog", "cat", "cow"], ["anna", "ben", "li"]
eating, reading = ["eats", "likes"], ["reads", "writes"]
foods, texts = ["bread", "rice", "corn"], ["books", "letters", "poems"]
rng = np.random.default_rng(0)


def sentence():
    """Animals eat foods; people eat foods or read texts."""
    if rng.random() < 0.5:
        return [rng.choice(animals), rng.choice(eating), rng.choice(foods), "."]
    verbs, things = (eating, foods) if rng.random() < 0.5 else (reading, texts)
    return [rng.choice(people), rng.choice(verbs), rng.choice(things), "."]


def rows(sentences):
    """The tokens [time, row] of sentences, each begun by the full stop of another."""
    return np.stack([small.encode([".", *words]) for words in sentences], 1)


corpus = [sentence() for _ in range(4096)]
small = Vocabulary.build(corpus)
tokens = jnp.asarray(rows(corpus))  # [5, 4096]
new = rows([sentence() for _ in range(1024)])  # not trained on

# A table of two numbers for each word, a GRU of 8 units, a score for each word.
model = models.LanguageModel(len(small), jrnn.Recurrent(jrnn.GRU(2, 8)))


def mean_loss(params, tokens):
    """The cross-entropy of each word, given those before it."""
    _, scores = model.apply(params, tokens[:-1])
    return losses.cross_entropy(scores, tokens[1:], None).value


def loss(params, key):
    return mean_loss(params, tokens[:, jax.random.randint(key, (128,), 0, 4096)])


fresh = model.init(jax.random.key(7))
fresh = fresh._replace(embedding=0.1 * fresh.embedding)  # all words close together
trained, _ = fit(loss, fresh, updates=500)
print(f"nats per word: {mean_loss(fresh, new):.2f} before, ", end="")
print(f"{mean_loss(trained, new):.2f} after")

# %% space-picture hide-input
colors = "#d9822b", "#3b6fb6", "#c03d3e", "#8064a2", "#3a923a", "#76b041"
groups = animals, people, eating, reading, foods, texts
fig, axes = plt.subplots(1, 2, figsize=(9, 3.8), sharex=True, sharey=True)
for ax, table, title in zip(axes, (fresh, trained), ("before", "after")):
    for color, group in zip(colors, groups):
        places = table.embedding[small.encode(group)]
        ax.plot(*places.T, "o", color=color, ms=5)
        if title == "after":
            side = -1 if group is texts else 1  # foods and texts lie close together
            style = {"ha": "right" if side < 0 else "left", "va": "center"}
            place, beside = places.mean(0), (12 * side, 0)
            ax.annotate(
                "\n".join(group),
                place,
                beside,
                textcoords="offset points",
                color=color,
                **style,
            )
    ax.set(title=say(title), xticks=[], yticks=[])
    ax.margins(0.15)

# %% padding
padded, lengths = pad([vocabulary.encode(sentence) for sentence in sentences])
print(padded.T, lengths)

# %% lengths
layer = jrnn.Layered(
    (jrnn.Embedding(len(vocabulary), 3), jrnn.Recurrent(jrnn.GRU(3, 4)))
)
params = layer.init(jax.random.key(1))
state, ys = layer.apply(params, padded, lengths=lengths)
alone, _ = layer.apply(params, padded[:3, 1])  # the short one, without padding
careless, _ = layer.apply(params, padded)
print("short row, lengths given:    ", state[1].h[1])
print("the same sentence alone:     ", alone[1].h)
print("padding read like any token: ", careless[1].h[1])

# %% check-1 hide-cell
question = vocabulary.encode(["a", "dog", "bites", "the", "cat"])
assert question.tolist() == [1, 5, 4, 2, 1]
assert " ".join(vocabulary.decode(question)) == "<unk> dog bites the <unk>"

# %% check-2 hide-cell
gradient = jax.grad(lambda v: (v[ids] ** 2).sum())(vectors)
assert np.flatnonzero(np.abs(gradient).sum(1)).tolist() == sorted(set(ids.tolist()))
the = vocabulary.encode(["the"])[0]
assert np.allclose(gradient[the], 2 * 2 * vectors[the])

# %% check-3 hide-cell
poison = padded.copy()
poison[3:, 1] = 2
changed, _ = layer.apply(params, poison, lengths=lengths)
assert np.allclose(changed[1].h, state[1].h)
