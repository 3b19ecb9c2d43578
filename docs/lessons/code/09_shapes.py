# %% imports
import jax
import jax.numpy as jnp
import optax

import jrnn
import pictures
from jrnn import decode, models

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
fig, ax = pictures.canvas(10, 2.9, 19.5, 4.6)


def draw(x, title, inputs, outputs, steps, fed=False):
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
        if fed and t:
            pictures.arrow(
                ax, (at - 0.6, 2.55), (at - 0.15, 1.92), pictures.OUTPUT, bend=0.0
            )
    ax.text(
        x + 0.425 * (steps - 1), 4.1, say(title), ha="center", va="center", size=9
    )


draw(0.8, "one to one", [0], [0], 1)
draw(2.9, "one to many,\nfed back", [0], [0, 1, 2], 3, fed=True)
draw(6.2, "one to many,\nrepeated", [0, 1, 2], [0, 1, 2], 3)
draw(9.5, "many to one", [0, 1, 2], [2], 3)
draw(12.8, "many to many,\nin step", [0, 1, 2], [0, 1, 2], 3)
draw(16.1, "many to many,\nnot in step", [0, 1], [2, 3], 4)


# %% fit
def fit(loss, params, updates=300, rate=2e-2):
    """Adam on `loss(params, key)`; the parameters and the loss at the end."""
    optimizer = optax.adam(rate)

    def update(carry, key):
        params, memory = carry
        value, gradient = jax.value_and_grad(loss)(params, key)
        change, memory = optimizer.update(gradient, memory)
        return (optax.apply_updates(params, change), memory), value

    @jax.jit
    def run(params):
        keys = jax.random.split(jax.random.key(7), updates)
        (params, _), values = jax.lax.scan(
            update, (params, optimizer.init(params)), keys
        )
        return params, values[-1]

    return run(params)


# %% many-to-one
pair = models.Classifier(jrnn.Recurrent(jrnn.GRU(1, 8)), classes=2)


def bits(key):
    """Eight bits, and whether two ones stand side by side somewhere."""
    xs = jax.random.bernoulli(key, 0.35, (8, 64))
    return xs[..., None].astype(jnp.float32), (xs[1:] & xs[:-1]).any(0).astype(int)


seen, _ = fit(
    lambda p, key: pair.loss(p, *bits(key)).value, pair.init(jax.random.key(1))
)
xs, label = bits(jax.random.key(2))
answers = pair.apply(seen, xs).argmax(-1)
print(
    xs[:, 0, 0].astype(int),
    "->",
    answers[0],
    "   ",
    xs[:, 1, 0].astype(int),
    "->",
    answers[1],
)
print("right in", float((answers == label).mean()))

# %% in-step
adder = models.Tagger(jrnn.Recurrent(jrnn.Elman(2, 8)), labels=2)


def sums(key, steps=6):
    """Two numbers in binary, lowest bit first, and the bits of their sum."""
    a, b = jax.random.randint(key, (2, 64), 0, 2 ** (steps - 1))
    places = jnp.arange(steps)[:, None]
    return jnp.stack([(a >> places) & 1, (b >> places) & 1], -1).astype(
        jnp.float32
    ), ((a + b) >> places) & 1


carry, loss = fit(
    lambda p, key: adder.loss(p, *sums(key)).value,
    adder.init(jax.random.key(4)),
    200,
)
xs, total = sums(
    jax.random.key(5), steps=12
)  # twice as long as any sum it was trained on
found = adder.decode(carry, xs)
print("sums of 12 bits that are right:", float((found == total).all(0).mean()))
print(
    "a    ",
    xs[:, 0, 0].astype(int),
    "\nb    ",
    xs[:, 0, 1].astype(int),
    "\na + b",
    found[:, 0],
)

# %% one-to-one
first = adder.decode(carry, xs[:1])
print(xs.shape, "->", xs[:1].shape, "->", first.shape)
print("the lowest bit alone is right in", float((first[0] == total[0]).mean()))

# %% one-to-many
end = 10


def countdowns(key):
    """A number n, one-hot, and the tokens n, n - 1, ..., 0, end; after a start token, which is `end` too."""
    n = jax.random.randint(key, (32,), 0, 8)
    steps = n - jnp.arange(9)[:, None]
    tokens = jnp.where(steps >= 0, steps, end)
    return jax.nn.one_hot(n, 8), jnp.concatenate([jnp.full((1, 32), end), tokens])


fed_back = models.Captioner(
    models.Decoder(
        11, jrnn.Recurrent(jrnn.GRU(8, 16)), summary_size=8, ways=("state",)
    ),
    8,
)
told, _ = fit(
    lambda p, key: fed_back.loss(p, *countdowns(key)).value,
    fed_back.init(jax.random.key(6)),
)


def write(model, params, n):
    """Begin with the start token, feed each token back, stop at the end token."""
    state, step = model.start(params, jax.nn.one_hot(jnp.array([n]), 8))
    written = decode.generate(
        step,
        state,
        jnp.array([end]),
        jax.random.key(0),
        length=12,
        end=end,
        temperature=0,
    )
    return written.tokens[: written.lengths[0] - 1, 0]


for n in (5, 2):
    print(n, "->", write(fed_back, told, n))

# %% repeated
repeated = models.Tagger(jrnn.Recurrent(jrnn.GRU(8, 16)), labels=11)


def same_input(key):
    n, tokens = countdowns(key)
    return jnp.broadcast_to(n, (9, *n.shape)), tokens[1:]


shown, _ = fit(
    lambda p, key: repeated.loss(p, *same_input(key)).value,
    repeated.init(jax.random.key(6)),
    200,
)
for n in (5, 2):
    print(
        n,
        "->",
        repeated.decode(shown, jnp.broadcast_to(jax.nn.one_hot(n, 8), (9, 8))),
    )

# %% not-in-step
start, symbols = 8, 8
encoder = jrnn.Layered((jrnn.Embedding(9, 8), jrnn.Recurrent(jrnn.GRU(8, 32))))
backwards = models.EncoderDecoder(
    encoder, models.Decoder(9, jrnn.Recurrent(jrnn.GRU(8, 32)))
)


def reversals(key):
    source = jax.random.randint(key, (4, 128), 0, symbols)
    return source, jnp.concatenate([jnp.full((1, 128), start), source[::-1]])


turned, loss = fit(
    lambda p, key: backwards.loss(p, *reversals(key)).value,
    backwards.init(jax.random.key(8)),
    400,
)
source, target = reversals(jax.random.key(9))
state, step = backwards.start(turned, source)
written = decode.generate(
    step, state, target[0], jax.random.key(0), length=4, temperature=0
).tokens
print("reversed without a mistake:", float((written == target[1:]).all(0).mean()))
print(source[:, 0], "->", written[:, 0])

# %% check-1 hide-cell
for row, answer in (
    ([0, 1, 1], 1),
    ([1, 0, 1, 0, 1, 0], 0),
    ([0] * 13 + [1, 1], 1),
):
    assert pair.apply(seen, jnp.array(row, jnp.float32)[:, None]).argmax() == answer

# %% check-2 hide-cell
a, b = 11, 6
column = jnp.array([[(a >> k) & 1, (b >> k) & 1] for k in range(6)], jnp.float32)
assert (
    adder.decode(carry, column).tolist()
    == [(17 >> k) & 1 for k in range(6)]
    == [1, 0, 0, 0, 1, 0]
)

# %% check-3 hide-cell
halfway, _ = adder.layer.apply(
    carry.layer, column[:4]
)  # the carry is in the state: 11 + 6 in the lowest four bits
_, rest = adder.layer.apply(carry.layer, column[4:], halfway)
assert (rest @ carry.w + carry.b).argmax(-1).tolist() == [1, 0]
assert adder.decode(carry, column[4:]).tolist() == [0, 0]
