# %% imports
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jrnn
import pictures  # colours, boxes and arrows of these pages

# %% words remove-cell
say = pictures.words(
    {
        "input": "输入",
        "state": "状态",
        "output": "输出",
        "in this order": "按这个顺序",
        "the same inputs, another order": "同样的输入，换个顺序",
        "destination": "目的地",
        "origin": "出发地",
        "heard “to”": "听到 to",
        "heard “from”": "听到 from",
    }
)

# %% feedforward
places = {"Oslo": 0, "Lima": 1}


def without_memory(word):
    """Whatever this function is, it sees the word and nothing else."""
    return "destination" if places[word] == 0 else "origin"


for sentence in (["to", "Oslo"], ["from", "Oslo"]):
    print(sentence, "->", without_memory(sentence[1]))

# %% ones
cell = jrnn.Elman(input_size=2, hidden_size=2, activation="identity", bias=False)
params = jrnn.ElmanParams(w_x=jnp.ones((2, 2)), w_h=jnp.ones((2, 2)), b=None)
w_y = jnp.ones(2)

xs = jnp.array([[1.0, 1.0], [1.0, 1.0], [2.0, 2.0]])  # three steps of two numbers
_, states = jrnn.unroll(cell, params, xs)
print("states [step, unit]\n", states)
print("outputs", states @ w_y)

# %% swapped
swapped = jnp.array([[2.0, 2.0], [1.0, 1.0], [1.0, 1.0]])
_, swapped_states = jrnn.unroll(cell, params, swapped)
print("outputs", swapped_states @ w_y)

# %% picture hide-input
fig, ax = pictures.canvas(9, 4.3, 12.2, 5.9)
rows = [
    (3.1, xs, states, "in this order"),
    (0.0, swapped, swapped_states, "the same inputs, another order"),
]
for low, inputs, hidden, title in rows:
    ax.text(0.1, low + 2.55, say(title), weight="bold")
    for name, height, color in (
        ("input", 0.3, pictures.INPUT),
        ("state", 1.2, pictures.STATE),
        ("output", 2.1, pictures.OUTPUT),
    ):
        ax.text(0.1, low + height, say(name), color=color, va="center")
    pictures.box(ax, 2.2, low + 1.2, "0   0", pictures.GREY, 1.5)
    for t in range(3):
        x, h = 5 + 2.8 * t, hidden[t]
        pictures.box(
            ax, x, low + 0.3, "{:g}   {:g}".format(*inputs[t]), pictures.INPUT, 1.5
        )
        pictures.box(
            ax, x, low + 1.2, "{:g}   {:g}".format(*h), pictures.STATE, 1.5
        )
        pictures.box(ax, x, low + 2.1, f"{h @ w_y:g}", pictures.OUTPUT, 1.5)
        pictures.arrow(ax, (x, low + 0.62), (x, low + 0.88))
        pictures.arrow(ax, (x, low + 1.52), (x, low + 1.78))
        pictures.arrow(ax, (x - 2, low + 1.2), (x - 0.8, low + 1.2), pictures.STATE)

# %% arrival
vocabulary = ["to", "from", "Oslo", "Lima"]
w_x = np.zeros((4, 4))
w_h = np.zeros((4, 4))
w_x[0, 0] = 1  # unit 0 notes the word "to"
w_x[1, 1] = 1  # unit 1 notes the word "from"
w_x[2:, 2:] = 1  # units 2 and 3 are told of any place ...
w_h[0, 2] = 1  # ... and unit 2 that the word before was "to"
w_h[1, 3] = 1  # ... and unit 3 that it was "from"
b = np.array([0.0, 0.0, -1.0, -1.0])  # both must come together
reader = jrnn.Elman(input_size=4, hidden_size=4, activation="relu")
reader_params = jrnn.ElmanParams(
    *(jnp.asarray(a, jnp.float32) for a in (w_x, w_h, b))
)


def read(sentence):
    tokens = jnp.array([vocabulary.index(word) for word in sentence])
    return jrnn.unroll(reader, reader_params, jnp.eye(4)[tokens])[1]


sentences = [["from", "Oslo", "to", "Lima"], ["to", "Oslo", "from", "Lima"]]
for sentence in sentences:
    for word, h in zip(sentence, read(sentence)):
        print(f"{word:5} destination {h[2]:g}  origin {h[3]:g}")
    print()

# %% reading hide-input
fig, axes = plt.subplots(1, 2, figsize=(9, 2.5), sharey=True)
for ax, sentence in zip(axes, sentences):
    pictures.numbers(ax, np.asarray(read(sentence)).T, limit=1.3, colors="PuOr_r")
    ax.set_xticks(range(4), sentence)
    ax.xaxis.tick_top()
    ax.set_yticks(
        range(4),
        [
            say(name)
            for name in ("heard “to”", "heard “from”", "destination", "origin")
        ],
    )

# %% check-1 hide-cell
_, three = jrnn.unroll(
    cell, params, jnp.array([[1.0, 1.0], [2.0, 2.0], [1.0, 1.0]])
)
assert (three @ w_y).tolist() == [4.0, 16.0, 36.0]

# %% check-2 hide-cell
forgets = params._replace(w_h=jnp.zeros((2, 2)))
for inputs, expected in ((xs, [4, 4, 8]), (swapped, [8, 4, 4])):
    _, alone = jrnn.unroll(cell, forgets, inputs)
    assert (alone @ w_y).tolist() == (2 * inputs.sum(-1)).tolist() == expected

# %% check-3 hide-cell
assert not read(["to", "from", "Oslo"])[-1, 2]
w_stay = w_h.copy()
w_stay[0, 0] = 1
reader_params = reader_params._replace(w_h=jnp.asarray(w_stay, jnp.float32))
assert read(["to", "from", "Oslo"])[-1, 2] == 1
_, _, _, lima = read(["to", "Oslo", "from", "Lima"])
assert lima[2] == 1  # and now Lima is a destination too
