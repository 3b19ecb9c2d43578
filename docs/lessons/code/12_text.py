# %% imports
import collections

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import jrnn
import pictures
from jrnn import losses, models
from jrnn.data import Vocabulary

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
def bag(words):
    return collections.Counter(words)


print(
    bag(["the", "dog", "bites", "the", "man"])
    == bag(["the", "man", "bites", "the", "dog"])
)

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


corpus = [sentence() for _ in range(256)]
small = Vocabulary.build(corpus)
tokens = np.stack(
    [small.encode(words) for words in corpus], 1
)  # [4 steps, 256 rows]
start = np.full((1, 256), small.encode(["."])[0])
inputs, targets = np.concatenate([start, tokens[:-1]]), tokens

model = models.LanguageModel(
    len(small), jrnn.Layered((jrnn.Recurrent(jrnn.GRU(2, 16)),))
)
optimizer = optax.adam(2e-2)


@jax.jit
def learn(params):
    def loss(params):
        _, logits = model.apply(params, inputs)
        return losses.cross_entropy(logits, targets, None).value

    def update(carry, _):
        params, memory = carry
        value, gradient = jax.value_and_grad(loss)(params)
        change, memory = optimizer.update(gradient, memory)
        return (optax.apply_updates(params, change), memory), value

    (params, _), values = jax.lax.scan(
        update, (params, optimizer.init(params)), length=300
    )
    return params, values


fresh = model.init(jax.random.key(4))
fresh = fresh._replace(
    embedding=0.1 * fresh.embedding
)  # all words begin close together
trained, values = learn(fresh)
print(f"nats per word: {values[0]:.2f} at first, {values[-1]:.2f} at the end")

# %% space-picture hide-input
groups = dict(
    zip(
        ("#d9822b", "#3b6fb6", "#c03d3e", "#8064a2", "#3a923a", "#76b041"),
        (animals, people, eating, reading, foods, texts),
    )
)
fig, axes = plt.subplots(1, 2, figsize=(9, 3.8))
for ax, table, title in zip(
    axes, (fresh.embedding, trained.embedding), ("before", "after")
):
    for color, group in groups.items():
        for place, word in enumerate(group):
            at = table[small.encode([word])[0]]
            ax.plot(*at, "o", color=color)
            ax.annotate(
                word,
                at,
                xytext=(6, 10 * place - 12),
                textcoords="offset points",
                color=color,
            )
    ax.set(title=say(title), xticks=[], yticks=[])
    ax.margins(0.15)

# %% padding
lengths = np.array([len(sentence) for sentence in sentences])
padded = np.zeros((lengths.max(), 2), np.int32)  # [time, row], 0 is padding
for row, sentence in enumerate(sentences):
    padded[: len(sentence), row] = vocabulary.encode(sentence)
print(padded.T)

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
assert vocabulary.encode(["bites"])[0] != 1
assert vocabulary.encode(["cat"])[0] == 1

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
