# %% imports
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jrnn
import pictures
from training import fit  # the loop, shown below

# %% words remove-cell
say = pictures.words(
    {
        "training step": "训练步数",
        "squared error": "平方误差",
        "always answer 1": "总是回答 1",
        "number": "数",
        "mark": "标记",
        "sum": "和",
    }
)

# %% sizes
units = 16
cells = {
    "Elman": jrnn.Elman(2, units),
    "Jordan": jrnn.Jordan(2, units, output_size=1),
    "CTRNN": jrnn.CTRNN(2, units, tau=3.0, learn_tau=True),
    "GRU": jrnn.GRU(2, units),
    "LSTM": jrnn.LSTM(2, units),
    "PeepholeLSTM": jrnn.PeepholeLSTM(2, units),
}


def count(cell):
    """How many parameters a cell has; nothing is computed but shapes."""
    shapes = jax.eval_shape(cell.init, jax.random.key(0))
    return sum(a.size for a in jax.tree.leaves(shapes))


for name, cell in cells.items():
    state = cell.initial_state(cell.init(jax.random.key(0)))
    kept = {k: v.shape for k, v in state._asdict().items() if v is not None}
    print(f"{name:13} parameters {count(cell):5}   state {kept}")

# %% task
steps, rows = 20, 16


def examples(key):
    """Numbers and marks [20, 16, 2], and the sum of the two marked numbers [16]."""
    numbers, first, second = jax.random.split(key, 3)
    x = jax.random.uniform(numbers, (steps, rows))
    places = jnp.stack(
        [
            jax.random.randint(first, (rows,), 0, steps // 2),
            jax.random.randint(second, (rows,), steps // 2, steps),
        ]
    )
    marks = jax.nn.one_hot(places, steps).sum(0).T
    return jnp.stack([x, marks], -1), (x * marks).sum(0)


# %% example-picture hide-input
xs, target = examples(jax.random.key(0))
fig, ax = plt.subplots(figsize=(8, 1.6))
pictures.numbers(ax, np.asarray(xs[:, 0]).T, form="{:.1f}", limit=1.5, size=8)
ax.set_yticks([0, 1], [say("number"), say("mark")])
ax.set_xticks([])
ax.set_title(f"{say('sum')}: {target[0]:.2f}", loc="right")


# %% train
def learn(cell):
    """The losses of a cell with a linear read-out of its last output."""
    model = jrnn.Layered((jrnn.Recurrent(cell), jrnn.Dense(cell.output_size, 1)))

    def loss(params, key):
        xs, target = examples(key)
        _, y = model.last(params, xs)  # [16, 1]: the output after the last step
        return jnp.mean((y[:, 0] - target) ** 2)

    return fit(loss, model.init(jax.random.key(0)), updates=400)[1]


curves = {name: learn(cell) for name, cell in cells.items()}
for name, curve in curves.items():
    print(f"{name:13} mean of the last 50 losses: {curve[-50:].mean():.4f}")

# %% curves-picture hide-input
fig, ax = plt.subplots(figsize=(8, 4.2))
colors = dict(
    zip(cells, ("#8a8a8a", "#b07aa1", "#59a14f", "#f28e2b", "#3b6fb6", "#76b7d6"))
)
for name, curve in curves.items():
    smooth = np.exp(np.convolve(np.log(curve), np.ones(25) / 25, "valid"))
    ax.semilogy(
        np.arange(len(smooth)) + 12, smooth, color=colors[name], lw=2, label=name
    )
ax.axhline(1 / 6, color="k", lw=0.8, ls=":")
ax.text(60, 0.21, say("always answer 1"), size=9)
ax.set(xlabel=say("training step"), ylabel=say("squared error"), xlim=(0, 400))
ax.legend(loc="lower left")

# %% check-1 hide-cell
assert count(jrnn.GRU(5, 10)) == 3 * 160 + 10
assert count(jrnn.GRU(5, 10, reset_after=False)) == 3 * 160

# %% check-2 hide-cell
euler, elman = jrnn.CTRNN(2, 4, tau=1.0, dt=1.0), jrnn.Elman(2, 4)
own = euler.init(jax.random.key(3))
_, one = jrnn.unroll(euler, own, xs)
_, other = jrnn.unroll(elman, jrnn.ElmanParams(own.w_x, own.w_h, own.b), xs)
assert np.allclose(one, other, atol=1e-5)

# %% check-3 hide-cell
gru = jrnn.GRU(2, 4)
own = gru.init(jax.random.key(4))
own = own._replace(b=own.b.at[:4].set(100.0).at[4:8].set(-100.0))  # r = 1, u = 0
_, one = jrnn.unroll(gru, own, xs)
_, other = jrnn.unroll(
    elman, jrnn.ElmanParams(own.w_x[:, 8:], own.w_h[:, 8:], own.b[8:]), xs
)
assert np.allclose(one, other, atol=1e-5)
