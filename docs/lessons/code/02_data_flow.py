# %% imports
import jax
import jax.numpy as jnp
import numpy as np

import jrnn
import pictures

# %% words remove-cell
say = pictures.words(
    {
        "folded": "折叠",
        "unfolded": "展开",
        "input": "输入",
        "state before": "先前的状态",
        "state": "状态",
        "output": "输出",
        "sum": "求和",
    }
)

# %% table
table = np.array(
    [  # temperature, wind, rain
        [1.0, 0.0, 2.0],
        [0.0, 1.0, 1.0],
        [2.0, 1.0, 0.0],
        [1.0, 1.0, 1.0],
    ]
)
print(table.shape)  # [time, features]

# %% weights
w_x = np.array([[0.5, 0.0], [0.0, 0.5], [0.25, -0.5]])  # [3 inputs, 2 units]
w_h = np.array([[0.0, 0.5], [-0.5, 0.5]])  # [2 units, 2 units]
b = np.array([0.0, 0.1])
w_y = np.array([[1.0], [2.0]])  # [2 units, 1 output]

# %% by-hand
h = np.zeros(2)  # h_0
for t, x in enumerate(table, start=1):
    from_input, from_past = x @ w_x, h @ w_h
    h = np.tanh(from_input + from_past + b)
    y = h @ w_y
    print(f"t={t}  x W_x = {from_input}  h W_h = {from_past.round(4)}")
    print(f"     h_{t} = {h.round(4)}  y_{t} = {y.round(4)}")

# %% library
cell = jrnn.Elman(input_size=3, hidden_size=2)
params = jrnn.ElmanParams(*(jnp.asarray(a, jnp.float32) for a in (w_x, w_h, b)))
state, hs = jrnn.unroll(cell, params, jnp.asarray(table, jnp.float32))
ys = hs @ w_y
print("states [time, units]\n", hs)
print("outputs", ys[:, 0])
print("the state at the end is the last row:", state.h)

# %% step-picture hide-input
fig, ax = pictures.canvas(9, 2.9, 12.9, 4.1)
x2, h1 = table[1], hs[0]
pictures.box(ax, 1.7, 0.6, "0   1   1", pictures.INPUT, 2.6)
pictures.box(ax, 1.7, 3.0, "{:.4f}   {:.4f}".format(*h1), pictures.STATE, 2.6)
pictures.box(
    ax, 5.3, 0.6, "{:.2f}   {:.2f}".format(*(x2 @ w_x)), pictures.INPUT, 2.6
)
pictures.box(
    ax, 5.3, 3.0, "{:.4f}   {:.4f}".format(*(h1 @ w_h)), pictures.STATE, 2.6
)
pictures.box(ax, 5.3, 1.8, "{:g}   {:g}".format(*b), pictures.GREY, 1.6)
pictures.box(
    ax,
    8.3,
    1.8,
    "{:.4f}\n{:.4f}".format(*(x2 @ w_x + h1 @ w_h + b)),
    pictures.GREY,
    1.4,
    1.0,
)
pictures.box(
    ax, 10.3, 1.8, "{:.4f}\n{:.4f}".format(*hs[1]), pictures.STATE, 1.4, 1.0
)
pictures.box(ax, 12.1, 1.8, f"{ys[1, 0]:.4f}", pictures.OUTPUT, 1.3)
for y, color, matrix in (
    (0.6, pictures.INPUT, "$W_x$"),
    (3.0, pictures.STATE, "$W_h$"),
):
    pictures.arrow(ax, (3.05, y), (3.95, y), color, matrix, (0, 0.28))
    pictures.arrow(ax, (6.6, y), (7.55, 1.8 + (y - 1.8) * 0.3), color)
pictures.arrow(ax, (6.15, 1.8), (7.55, 1.8), pictures.GREY)
pictures.arrow(ax, (9.0, 1.8), (9.6, 1.8), "0.3", "tanh", (0, 0.28))
pictures.arrow(ax, (11.0, 1.8), (11.45, 1.8), "0.3", "$W_y$", (0.0, 0.3))
for x, y, text, color in (
    (1.7, 1.15, say("input") + " $x_2$", pictures.INPUT),
    (1.7, 3.55, say("state before") + " $h_1$", pictures.STATE),
    (5.3, 2.32, "$b$", pictures.GREY),
    (8.3, 2.6, say("sum"), pictures.GREY),
    (10.3, 2.6, say("state") + " $h_2$", pictures.STATE),
    (12.1, 2.6, say("output") + "\n$y_2$", pictures.OUTPUT),
):
    ax.text(x, y, text, ha="center", va="center", color=color)

# %% unfolded-picture hide-input
fig, ax = pictures.canvas(9, 3.2, 13.4, 4.4)


def column(x, t):
    pictures.box(ax, x, 0.5, f"$x_{t}$", pictures.INPUT)
    pictures.box(ax, x, 2.0, f"$h_{t}$", pictures.STATE)
    pictures.box(ax, x, 3.5, f"$y_{t}$", pictures.OUTPUT)
    pictures.arrow(ax, (x, 0.82), (x, 1.68), pictures.INPUT, "$W_x$", (0.42, 0))
    pictures.arrow(ax, (x, 2.32), (x, 3.18), pictures.OUTPUT, "$W_y$", (0.42, 0))


ax.text(0.2, 4.2, say("folded"), weight="bold")
ax.text(4.2, 4.2, say("unfolded"), weight="bold")
column(1.2, "t")
pictures.arrow(
    ax, (1.72, 2.15), (1.72, 1.85), pictures.STATE, "$W_h$", (0.95, 0), bend=-4.2
)
pictures.box(ax, 4.6, 2.0, "$h_0$", pictures.GREY)
for t in range(1, 4):
    x = 4.6 + 2.2 * t
    column(x, t)
    pictures.arrow(
        ax, (x - 1.68, 2.0), (x - 0.52, 2.0), pictures.STATE, "$W_h$", (0, 0.28)
    )
pictures.arrow(ax, (11.72, 2.0), (12.6, 2.0), pictures.STATE, "$W_h$", (0, 0.28))
ax.text(13.0, 2.0, "...", ha="center", va="center", size=14)

# %% count
print(sum(a.size for a in jax.tree.leaves((params, w_y))))

# %% check-1 hide-cell
h3 = np.tanh(np.array([1.0, 0.5]) + np.array([-0.0610, 0.3324]) + b)
assert np.allclose(h3, hs[2], atol=1e-3)
assert np.isclose(h3 @ w_y[:, 0], ys[2, 0], atol=1e-3)

# %% check-2 hide-cell
larger = jrnn.Layered((jrnn.Recurrent(jrnn.Elman(5, 10)), jrnn.Dense(10, 2)))
sizes = [a.size for a in jax.tree.leaves(larger.init(jax.random.key(0)))]
assert sum(sizes) == 5 * 10 + 10 * 10 + 10 + 10 * 2 + 2 == 182

# %% check-3 hide-cell
xs = jnp.asarray(table, jnp.float32)
halfway, first = jrnn.unroll(cell, params, xs[:2])
end, second = jrnn.unroll(cell, params, xs[2:], halfway)
assert np.allclose(np.concatenate([first, second]), hs, atol=1e-6)
_, anew = jrnn.unroll(cell, params, xs[2:])
assert not np.allclose(anew, hs[2:], atol=0.01)
