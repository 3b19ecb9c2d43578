# %% imports
import jax
import jax.numpy as jnp

import jrnn
import pictures
from jrnn import decode, models
from training import fit  # the loop of lesson 8

# %% words remove-cell
say = pictures.words(
    {
        "one to one": "一对一",
        "one to many,\nfed back": "一对多，\n输出反馈",
        "one to many,\nrepeated": "一对多，\n重复输入",
        "many to one": "多对一",
        "many to many,\nin step": "多对多，\n同步",
        "many to many,\nnot in step": "多对多，\n不同步",
    }
)

# %% shapes-picture hide-input
fig, ax = pictures.canvas(10, 2.6, 19.5, 4.2)


def draw(x, title, inputs, outputs, steps, fed=()):
    for t in range(steps):
        at = x + 0.85 * t
        pictures.box(ax, at, 1.6, "", pictures.STATE, 0.6, 0.6)
        if t:
            pictures.arrow(ax, (at - 0.57, 1.6), (at - 0.27, 1.6), pictures.STATE)
        if t in inputs:
            pictures.box(ax, at, 0.4, "", pictures.INPUT, 0.6, 0.6)
            pictures.arrow(ax, (at, 0.7), (at, 1.3), pictures.INPUT)
        if t in outputs:
            pictures.box(ax, at, 2.8, "", pictures.OUTPUT, 0.6, 0.6)
            pictures.arrow(ax, (at, 1.9), (at, 2.5), pictures.OUTPUT)
        if t in fed:
            start, end = (at - 0.6, 2.55), (at - 0.15, 1.92)
            pictures.arrow(ax, start, end, pictures.OUTPUT)
    middle = x + 0.425 * (steps - 1)
    ax.text(middle, 3.75, say(title), ha="center", va="center", size=9)


every = [0, 1, 2]
draw(0.8, "one to one", [0], [0], 1)
draw(2.9, "one to many,\nfed back", [0], every, 3, fed=[1, 2])
draw(6.2, "one to many,\nrepeated", every, every, 3)
draw(9.5, "many to one", every, [2], 3)
draw(12.8, "many to many,\nin step", every, every, 3)
draw(16.1, "many to many,\nnot in step", [0, 1], [2, 3], 4, fed=[3])

# %% many-to-one
# A GRU with a read-out of its last output. Its loss has a `value`, the cross-entropy.
pair = models.Classifier(jrnn.Recurrent(jrnn.GRU(1, 8)), classes=2)


def bits(key):
    """Eight bits, and whether two ones stand side by side somewhere."""
    xs = jax.random.bernoulli(key, 0.35, (8, 64))
    return xs[..., None].astype(jnp.float32), (xs[1:] & xs[:-1]).any(0).astype(int)


def loss(params, key):
    return pair.loss(params, *bits(key)).value


seen, _ = fit(loss, pair.init(jax.random.key(1)), updates=300, rate=2e-2)
xs, label = bits(jax.random.key(2))  # 64 new rows
answers = pair.apply(seen, xs).argmax(-1)  # of two scores the larger
for row in (0, 1):
    print(xs[:, row, 0].astype(int), "->", answers[row])
print(
    f"yes is right in {label.mean():.2f}, the network in", (answers == label).mean()
)

# %% in-step
# An Elman network with a read-out of every output.
adder = models.Tagger(jrnn.Recurrent(jrnn.Elman(2, 8)), labels=2)


def sums(key, steps=6):
    """Two numbers in binary, lowest bit first, and the bits of their sum."""
    a, b = jax.random.randint(key, (2, 64), 0, 2 ** (steps - 1))
    places = jnp.arange(steps)[:, None]
    xs = jnp.stack([a >> places, b >> places], -1) & 1
    return xs.astype(jnp.float32), (a + b) >> places & 1


def loss(params, key):
    return adder.loss(params, *sums(key)).value


carry, _ = fit(loss, adder.init(jax.random.key(4)), updates=200, rate=2e-2)
xs, total = sums(jax.random.key(5), steps=12)  # twice as long as in training
found = adder.decode(carry, xs)  # the likelier bit of each step
print("sums of 12 bits that are right:", (found == total).all(0).mean())
print("a    ", xs[:, 0, 0].astype(int))
print("b    ", xs[:, 0, 1].astype(int))
print("a + b", found[:, 0])

# %% one-to-one
first = adder.decode(carry, xs[:1])
print("inputs", xs[:1].shape, " outputs", first.shape)
print("the lowest bit alone is right in", (first[0] == total[0]).mean())

# %% one-to-many
end = 10  # also the start token: it begins and ends a sequence


def countdowns(key):
    """n one-hot [32, 8], and tokens [10, 32]: start, n, n - 1, ..., 0, end, end."""
    n = jax.random.randint(key, (32,), 0, 8)
    steps = n - jnp.arange(9)[:, None]
    tokens = jnp.where(steps >= 0, steps, end)
    return jax.nn.one_hot(n, 8), jnp.concatenate([jnp.full((1, 32), end), tokens])


# 11 tokens; what is written about has 8 numbers, which make the state to begin with.
gru = jrnn.Recurrent(jrnn.GRU(8, 16))
decoder = models.Decoder(11, gru, summary_size=8, ways=("state",))
fed_back = models.Captioner(decoder, 8)


def loss(params, key):
    return fed_back.loss(params, *countdowns(key)).value


told, _ = fit(loss, fed_back.init(jax.random.key(6)), updates=300, rate=2e-2)


def write(n):
    """Begin with the start token, feed each token back, stop at the end token."""
    state, step = fed_back.start(told, jax.nn.one_hot(jnp.array([n]), 8))
    start, key = jnp.array([end]), jax.random.key(0)
    # temperature=0: always the likeliest token, nothing is left to chance
    written = decode.generate(
        step, state, start, key, length=12, end=end, temperature=0
    )
    return written.tokens[: written.lengths[0] - 1, 0]


for n in (5, 2):
    print(n, "->", write(n))

# %% repeated
repeated = models.Tagger(jrnn.Recurrent(jrnn.GRU(8, 16)), labels=11)


def loss(params, key):
    n, tokens = countdowns(key)
    same = jnp.broadcast_to(n, (9, *n.shape))  # the one input at all nine steps
    return repeated.loss(params, same, tokens[1:]).value


shown, _ = fit(loss, repeated.init(jax.random.key(6)), updates=200, rate=2e-2)
for n in (5, 2):
    same = jnp.broadcast_to(jax.nn.one_hot(n, 8), (9, 8))
    print(n, "->", repeated.decode(shown, same))

# %% not-in-step
start = 8  # the symbols are 0 to 7
encoder = jrnn.Layered((jrnn.Embedding(9, 8), jrnn.Recurrent(jrnn.GRU(8, 32))))
decoder = models.Decoder(9, jrnn.Recurrent(jrnn.GRU(8, 32)))
backwards = models.EncoderDecoder(encoder, decoder)


def reversals(key):
    source = jax.random.randint(key, (4, 128), 0, start)
    return source, jnp.concatenate([jnp.full((1, 128), start), source[::-1]])


def loss(params, key):
    return backwards.loss(params, *reversals(key)).value


turned, _ = fit(loss, backwards.init(jax.random.key(8)), updates=400, rate=2e-2)
source, target = reversals(jax.random.key(9))
state, step = backwards.start(turned, source)
written = decode.generate(
    step, state, target[0], jax.random.key(0), length=4, temperature=0
).tokens
print("reversed without a mistake:", (written == target[1:]).all(0).mean())
print(source[:, 0], "->", written[:, 0])

# %% check-1 hide-cell
questions = [0, 1, 1], [1, 0, 1, 0, 1, 0], [0] * 13 + [1, 1]
for row, answer in zip(questions, (1, 0, 1)):
    assert pair.apply(seen, jnp.array(row, jnp.float32)[:, None]).argmax() == answer

# %% check-2 hide-cell
columns = jnp.array([[1, 0], [1, 1], [0, 1], [1, 0], [0, 0], [0, 0]], jnp.float32)
assert [sum(2**k * columns[k, i] for k in range(6)) for i in (0, 1)] == [11, 6]
answer = adder.decode(carry, columns).tolist()
assert answer == [1, 0, 0, 0, 1, 0]
assert sum(2**k * bit for k, bit in enumerate(answer)) == 17

# %% check-3 hide-cell
halfway, _ = adder.layer.apply(carry.layer, columns[:4])
_, rest = adder.layer.apply(carry.layer, columns[4:], halfway)
assert (rest @ carry.w + carry.b).argmax(-1).tolist() == [
    1,
    0,
]  # the carry was there
assert adder.decode(carry, columns[4:]).tolist() == [0, 0]
