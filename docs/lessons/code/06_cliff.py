# %% imports
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jrnn
import pictures

# %% words remove-cell
say = pictures.words(
    {
        "weight w": "权重 w",
        "bias b": "偏置 b",
        "loss": "损失",
        "length of the gradient": "梯度的长度",
        "step of gradient descent": "梯度下降的步数",
        "not clipped": "不裁剪",
        "clipped": "裁剪",
        "start": "起点",
        "above the cliff": "悬崖上面",
        "below the cliff": "悬崖下面",
    }
)

# %% loss
cell = jrnn.Elman(input_size=1, hidden_size=1, activation="sigmoid")
nothing = jnp.zeros((50, 1))  # 50 steps without an input
begin, target = jrnn.ElmanState(h=jnp.array([0.6])), 0.7


def loss(theta):
    """(h_50 - 0.7)² of h_t = sigmoid(w h_{t-1} + b), for theta = (w, b)."""
    w, b = theta
    params = jrnn.ElmanParams(
        w_x=jnp.zeros((1, 1)), w_h=w.reshape(1, 1), b=b.reshape(1)
    )
    state, _ = jrnn.unroll(cell, params, nothing, begin)
    return (state.h[0] - target) ** 2


# %% slice-picture hide-input
b_line = jnp.linspace(-2.5, -1.8, 20001)


@jax.jit
@jax.vmap
def at(b):
    value, gradient = jax.value_and_grad(loss)(jnp.stack([4.4, b]))
    return value, jnp.linalg.norm(gradient)


line, slope = at(b_line)
fig, axes = plt.subplots(1, 2, figsize=(9, 2.8), sharex=True)
axes[0].plot(b_line, line, color="0.2")
axes[0].set(xlabel=say("bias b") + "   (w = 4.4)", ylabel=say("loss"))
axes[1].semilogy(b_line, slope, color=pictures.GRADIENT)
top = int(np.argmax(slope))
axes[1].text(
    b_line[top] + 0.02,
    slope[top] * 0.5,
    f"{slope[top]:.0f}",
    color=pictures.GRADIENT,
)
axes[1].set(
    xlabel=say("bias b") + "   (w = 4.4)", ylabel=say("length of the gradient")
)


# %% descend
@jax.jit
def descend(theta, rate, clip):
    """Of 120 steps of gradient descent: the place, the loss, the gradient's length."""

    def step(theta, _):
        value, gradient = jax.value_and_grad(loss)(theta)
        length = jnp.linalg.norm(gradient)
        move = gradient * jnp.minimum(1, clip / length)
        return theta - rate * move, (theta, value, length)

    return jax.lax.scan(step, theta, length=120)[1]


start = jnp.array([5.0, -1.5])
free = descend(start, 0.3, jnp.inf)
held = descend(start, 0.3, 0.2)
jump = int(np.argmax(free[2]))
print(f"step {jump}: a gradient of length {free[2][jump]:.1f}")
for place in free[0][jump : jump + 2]:
    print(f"w = {place[0]:.2f}, b = {place[1]:.2f}")
print(f"loss at the end: {free[1][-1]:.4f}, clipped {held[1][-1]:.4f}")

# %% surface-picture hide-input
w_axis, b_axis = jnp.linspace(3.4, 7.4, 240), jnp.linspace(-3.2, 2.6, 340)
near_w, near_b = jnp.linspace(4.2, 4.5, 160), jnp.linspace(-2.28, -1.98, 300)
of_w = jax.vmap(lambda w, b: loss(jnp.stack([w, b])), (0, None))
surface = jax.jit(jax.vmap(of_w, (None, 0)))

fig, axes = plt.subplots(1, 2, figsize=(10, 4.2), width_ratios=[1.35, 1])
ax = axes[0]
near = ax.inset_axes([0.05, 0.5, 0.4, 0.46])
for to, w_s, b_s, size in ((ax, w_axis, b_axis, 2.5), (near, near_w, near_b, 3)):
    colours = {"cmap": "viridis", "vmin": 0, "vmax": 0.45}
    mesh = to.pcolormesh(w_s, b_s, surface(w_s, b_s), rasterized=True, **colours)
    to.plot(*held[0].T, "o-", color="white", ms=size, lw=0.8)
    to.plot(*free[0][: jump + 2].T, "o-", color="#ff5a4f", ms=size, lw=1.2)
ax.annotate(
    "",
    free[0][jump + 1],
    free[0][jump],
    arrowprops={"arrowstyle": "-|>", "color": "#ff5a4f", "lw": 2},
)
fig.colorbar(mesh, ax=ax, label=say("loss"))
near.set(xticks=[], yticks=[], xlim=near_w[jnp.array([0, -1])])
near.set_ylim(near_b[0], near_b[-1])
near.spines[:].set(visible=True, color="white")
ax.indicate_inset_zoom(near, edgecolor="white", alpha=1)
near.text(4.215, -2.02, say("clipped"), color="white", weight="bold")
ax.text(6.1, 0.3, say("not clipped"), color="#ff8a80", weight="bold")
ax.plot(*start, "o", color="white", ms=7, mec="k")
ax.text(5.08, -1.2, say("start"), color="white")
ax.text(3.5, -3.0, say("above the cliff"), color="black")
ax.text(5.6, -2.2, say("below the cliff"), color="white", size=9)
ax.set(xlabel=say("weight w"), ylabel=say("bias b"))

ax = axes[1]
ax.semilogy(free[2], color=pictures.GRADIENT, label=say("not clipped"))
ax.semilogy(held[2], color=pictures.INPUT, label=say("clipped"))
ax.axhline(0.2, color="k", lw=0.8, ls=":")
ax.text(
    jump + 3, free[2][jump] * 0.8, f"{free[2][jump]:.0f}", color=pictures.GRADIENT
)
ax.set(xlabel=say("step of gradient descent"), ylabel=say("length of the gradient"))
ax.legend(loc="lower left")

# %% check-1 hide-cell
gradient = jnp.array([3.0, 4.0])
clipped = gradient * jnp.minimum(1, 1.0 / jnp.linalg.norm(gradient))
assert np.allclose(clipped, [0.6, 0.8])
assert np.allclose(jnp.clip(gradient, -1, 1), [1, 1])  # by value: another direction

# %% check-2 hide-cell
assert np.isclose(0.3 * 0.2, 0.06)
assert np.linalg.norm(np.diff(held[0], axis=0), axis=1).max() <= 0.06 + 1e-5
assert np.linalg.norm(free[0][jump + 1] - free[0][jump]) > 4.5

# %% check-3 hide-cell
smaller = descend(start, 0.3 / 100, jnp.inf)
assert smaller[2].max() < 0.2  # it never comes to the wall ...
losses = np.asarray(smaller[1])
assert np.allclose(losses[[0, -1]], [0.0704, 0.0701], atol=1e-4)  # ... nor far
