# %% imports
import re

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from mpl_toolkits.mplot3d.art3d import Poly3DCollection

import jrnn
import pictures

# %% words remove-cell
say = pictures.words(
    {
        "time": "时间",
        "row": "样本",
        "feature": "特征",
        "time first: xs[t]\nis one slab": "时间在前：xs[t]\n是一整片",
        "batch first: xs[:, t]\nis the same slab": "批在前：xs[:, t]\n是同一片",
    }
)

# %% shapes
network = jrnn.Layered((jrnn.Recurrent(jrnn.Elman(5, 10)), jrnn.Dense(10, 2)))
params = network.init(jax.random.key(0))
xs = jax.random.normal(jax.random.key(1), (6, 3, 5))  # 6 steps, 3 rows, 5 features
state, ys = network.apply(params, xs)
print("outputs", ys.shape, " state of the recurrent layer", state[0].h.shape)

# %% loop
cell, cell_params = jrnn.Elman(5, 10), params[0]
turns, outputs = 0, []
now = cell.initial_state(cell_params, batch=(3,))
for x in xs:  # x is [3, 5]: step t of all rows
    now, y = cell.step(cell_params, now, x)
    outputs.append(y)
    turns += 1
outputs = np.stack(outputs)
print("turns of the loop:", turns, " outputs", outputs.shape)
assert np.allclose(outputs, jrnn.unroll(cell, cell_params, xs)[1], atol=1e-6)


# %% compiled
def loops(f, x):
    """How often each loop in JAX's program of f turns."""
    program = str(jax.make_jaxpr(f)(x))
    return [int(turns) for turns in re.findall(r"\blength=(\d+)", program)]


def outputs_of(xs):
    return jrnn.unroll(cell, cell_params, xs)[1]


for rows in (1, 3, 1000):
    many = jnp.zeros((6, rows, 5))
    print(f"{rows:4} rows: turns of each loop", loops(outputs_of, many))

# %% cube hide-input


def block(ax, low, size, color, alpha):
    """A box with its lowest corner at `low`."""
    corners = (
        np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * size
        + low
    )
    faces = [
        corners[list(f)]
        for f in (
            [0, 1, 3, 2],
            [4, 5, 7, 6],
            [0, 1, 5, 4],
            [2, 3, 7, 6],
            [0, 2, 6, 4],
            [1, 3, 7, 5],
        )
    ]
    ax.add_collection3d(
        Poly3DCollection(
            faces, facecolor=color, edgecolor="0.35", lw=0.6, alpha=alpha
        )
    )


fig = plt.figure(figsize=(9, 4.2))
for place, (order, title) in enumerate(
    (
        (("time", "row", "feature"), "time first: xs[t]\nis one slab"),
        (("row", "time", "feature"), "batch first: xs[:, t]\nis the same slab"),
    )
):
    ax = fig.add_subplot(1, 2, place + 1, projection="3d")
    size = {"time": 6, "row": 3, "feature": 5}
    axis = order.index("time")
    for t in range(6):
        low, extent = np.zeros(3), np.array([size[name] for name in order], float)
        low[axis], extent[axis] = t * 1.0, 0.82
        block(
            ax,
            low,
            extent,
            pictures.STATE if t == 2 else pictures.INPUT,
            0.95 if t == 2 else 0.12,
        )
    ax.set(
        xlim=(0, size[order[0]]),
        ylim=(0, size[order[1]]),
        zlim=(0, 5),
        box_aspect=[size[name] for name in order],
    )
    ax.set_xlabel(say(order[0]), labelpad=-8)
    ax.set_ylabel(say(order[1]), labelpad=-8)
    ax.set_zlabel(say(order[2]), labelpad=-8)
    ax.set(xticks=[], yticks=[], zticks=[])
    ax.view_init(22, -58)
    ax.set_title(say(title))

# %% turned
batch_first = jnp.swapaxes(xs, 0, 1)
print(batch_first.shape)  # [row, time, feature]
turned = jrnn.BatchFirst(network)
_, ys_turned = turned.apply(params, batch_first)
print(
    ys_turned.shape,
    "the same numbers:",
    bool(jnp.allclose(jnp.swapaxes(ys_turned, 0, 1), ys, atol=1e-6)),
)
print(
    "and the same loop:", loops(lambda xs: turned.apply(params, xs)[1], batch_first)
)

# %% reshape
small = np.array([["a1", "b1", "c1"], ["a2", "b2", "c2"]])  # steps 1, 2 of a, b, c
print("swapaxes\n", small.swapaxes(0, 1))
print("reshape\n", small.reshape(3, 2))

# %% stacked
stack = jrnn.rnn(jrnn.Elman, input_size=5, hidden_size=10, num_layers=2)
stack_params = stack.init(jax.random.key(0))
states, stack_ys = stack.apply(stack_params, xs)
print("outputs", stack_ys.shape, " states", [s.h.shape for s in states])

# %% check-1 hide-cell
assert loops(outputs_of, jnp.zeros((100, 32, 5))) == [100]
lone = [outputs_of(xs[:, row]) for row in range(3)]
assert np.allclose(np.stack(lone, 1), outputs, atol=1e-6)

# %% check-2 hide-cell
assert stack_ys.shape == (6, 3, 10)
assert [s.h.shape for s in states] == [(3, 10), (3, 10)]
assert np.array_equal(states[1].h, stack_ys[-1])

# %% check-3 hide-cell
wrong = batch_first.reshape(6, 3, 5)
assert np.array_equal(wrong[0, 1], xs[1, 0])  # "step 0 of row 1" is step 1 of row 0
assert not np.allclose(network.apply(params, wrong)[1], ys, atol=0.01)
