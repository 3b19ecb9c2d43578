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
    return value, jnp.abs(gradient[1])


line, slope = at(b_line)
fig, axes = plt.subplots(1, 2, figsize=(9, 2.8), sharex=True)
axes[0].plot(b_line, line, color="0.2")
axes[0].set(xlabel=say("bias b") + "   (w = 4.4)", ylabel=say("loss"))
axes[1].semilogy(b_line, np.maximum(slope, 1e-2), color=pictures.GRADIENT)
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
    """120 steps of gradient descent: where it was, the loss and the gradient's length at each."""

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
print(
    f"step {jump}: gradient {free[2][jump]:.1f}, from w, b = {free[0][jump].round(2)} to {free[0][jump + 1].round(2)}"
)
print(
    f"loss at the end: {free[1][-1]:.4f} without clipping, {held[1][-1]:.6f} with"
)

# %% surface-picture hide-input
w_axis, b_axis = jnp.linspace(3.4, 7.4, 240), jnp.linspace(-3.2, 2.6, 340)
surface = jax.jit(
    jax.vmap(jax.vmap(lambda w, b: loss(jnp.stack([w, b])), (0, None)), (None, 0))
)(w_axis, b_axis)

fig, axes = plt.subplots(1, 2, figsize=(10, 4.2), width_ratios=[1.35, 1])
ax = axes[0]
mesh = ax.pcolormesh(
    w_axis, b_axis, surface, cmap="viridis", vmax=0.45, rasterized=True
)
fig.colorbar(mesh, ax=ax, label=say("loss"))
ax.plot(*held[0].T, "o-", color="white", ms=2.5, lw=0.8)
ax.plot(*free[0][: jump + 1].T, "o-", color="#ff5a4f", ms=2.5, lw=1.2)
ax.annotate(
    "",
    free[0][jump + 1],
    free[0][jump],
    arrowprops={"arrowstyle": "-|>", "color": "#ff5a4f", "lw": 2},
)
ax.text(5.6, 0.5, say("not clipped"), color="#ff8a80", weight="bold", ha="right")
trail = {"arrowstyle": "-", "color": "white"}
ax.annotate(
    say("clipped"),
    held[0][-1],
    (3.6, -1.0),
    color="white",
    weight="bold",
    arrowprops=trail,
)
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
assert smaller[1][-1] > 0.005  # 120 steps are not enough
