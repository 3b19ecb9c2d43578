# %% imports
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jrnn
import pictures
from jrnn.diagnostics import gradient_by_lag

# %% words remove-cell
say = pictures.words(
    {
        "lag: steps before the loss": "滞后：离损失多少步",
        "length of the gradient": "梯度的长度",
        "rounded away beside 1 in float32": "在 float32 中与 1 相加时被舍去",
        "radius {:g}: × {:.2f} a step": "谱半径 {:g}：每步 × {:.2f}",
        "factor per step": "每步的因子",
        "spectral radius of $W_h$": "$W_h$ 的谱半径",
        "tanh, weak inputs": "tanh，弱输入",
        "tanh, strong inputs": "tanh，强输入",
        "no tanh: the radius itself": "没有 tanh：就是谱半径",
        "explodes": "爆炸",
        "vanishes": "消失",
    }
)

# %% powers
for w in (0.9, 1.0, 1.1):
    print(f"{w} ** 50 = {w**50:10.4g}     {w} ** 200 = {w**200:10.4g}")

# %% networks
units, steps = 64, 100
cell = jrnn.Elman(input_size=4, hidden_size=units)
xs = jax.random.normal(jax.random.key(0), (steps, 8, 4))  # 8 rows of 4 features
w_h = jax.random.normal(jax.random.key(1), (units, units))
w_x = jax.random.normal(jax.random.key(2), (4, units))
radius_now = np.abs(np.linalg.eigvals(np.asarray(w_h))).max()


def network(radius, strength=0.02):
    """W_h with this spectral radius, and W_x times a strength."""
    scale = radius / radius_now
    return jrnn.ElmanParams(w_x * strength, w_h * scale, b=jnp.zeros(units))


r = jax.random.normal(jax.random.key(3), (units,))
r = r / jnp.linalg.norm(r)

# %% by-hand
params = network(radius=0.5)
_, hs = jrnn.unroll(cell, params, xs[:, 0])  # the states of row 0: [steps, units]
gradient, lengths = r, []
for h in hs[::-1]:
    gradient = (gradient * (1 - h**2)) @ params.w_h.T  # through tanh, through W_h
    lengths.append(jnp.linalg.norm(gradient))
for lag in (1, 10, 25):
    print(f"{lag:3} steps before the loss: {lengths[lag - 1]:.1e}")


# %% by-lag
def loss(ys):
    return (ys[-1] @ r).sum()


found = gradient_by_lag(loss, cell, params, xs)
print("lags", found.lags.shape, " lengths [lag, row]", found.norms.shape)
assert np.allclose(found.norms[:, 0], np.stack(lengths), rtol=1e-3)


@jax.jit
def reach(params):
    state, _ = jrnn.unroll(cell, params, xs)  # the network has run for a while
    return gradient_by_lag(loss, cell, params, xs, state)


curves = {radius: reach(network(radius)) for radius in (0.5, 1.0, 3.0)}

# %% lag-picture hide-input
fig, ax = plt.subplots(figsize=(8, 4))
for (radius, curve), color in zip(
    curves.items(), (pictures.INPUT, pictures.STATE, pictures.GRADIENT)
):
    mean = np.exp(np.log(curve.norms).mean(1))
    ax.semilogy(curve.lags, mean, color=color, lw=2.5)
    at, side = {0.5: (24, "left"), 1.0: (60, "left"), 3.0: (60, "right")}[radius]
    label = say("radius {:g}: × {:.2f} a step").format(radius, curve.factor.mean())
    ax.text(at, mean[at] * 30, label, color=color, ha=side)
ax.axhline(1, color="k", lw=0.8, ls=":")
ax.axhspan(1e-14, 2.0**-24, color="0.92", zorder=0)
ax.text(
    98, 2e-13, say("rounded away beside 1 in float32"), color="0.35", ha="right"
)
ax.set(
    ylim=(1e-14, 1e12),
    xlim=(0, 100),
    xlabel=say("lag: steps before the loss"),
    ylabel=say("length of the gradient"),
)

# %% threshold
radii = np.linspace(0.5, 4, 15)
weak, strong = (
    [reach(network(radius, strength)).factor.mean() for radius in radii]
    for strength in (0.02, 1.0)
)

# %% threshold-picture hide-input
fig, ax = plt.subplots(figsize=(8, 3.6))
ax.axhspan(1, 1.8, color=pictures.GRADIENT, alpha=0.07)
ax.axhspan(0, 1, color=pictures.INPUT, alpha=0.07)
ax.plot(
    [0, 1.8], [0, 1.8], "--", color="0.4", label=say("no tanh: the radius itself")
)
ax.plot(radii, weak, "o-", color=pictures.STATE, label=say("tanh, weak inputs"))
ax.plot(
    radii, strong, "s-", color=pictures.OUTPUT, label=say("tanh, strong inputs")
)
ax.axvline(1, color="k", lw=0.8, ls=":")
ax.text(0.1, 1.6, say("explodes"), color=pictures.GRADIENT)
ax.text(3.6, 0.1, say("vanishes"), color=pictures.INPUT)
ax.set(
    xlim=(0, 4.1),
    ylim=(0, 1.8),
    xlabel=say("spectral radius of $W_h$"),
    ylabel=say("factor per step"),
)
ax.legend(loc="lower center")

# %% singular
w = np.array([[2.0, 2.0], [-2.0, -2.0]])
print(f"spectral radius {np.abs(np.linalg.eigvals(w)).max():.1f}", end=", ")
print(f"largest singular value {np.linalg.norm(w, 2):.1f}")
gradient, slopes = np.array([1.0, 0.0]), np.array([1.0, 0.0])  # steep, and flat
for lag in (1, 2, 3):
    gradient = (gradient * slopes) @ w.T
    print(f"{lag} steps before the loss: {gradient}")

# %% check-1 hide-cell
assert np.isclose(np.log(2.0**-24) / np.log(0.9), 158, atol=0.5)
assert np.float32(1) + np.float32(0.9**170) == np.float32(1)
assert np.float32(1) + np.float32(0.9**150) != np.float32(1)

# %% check-2 hide-cell
lone = jrnn.ElmanParams(jnp.ones((1, 1)), jnp.full((1, 1), 2.0), jnp.zeros(1))
small = jnp.full((60, 1), 1e-3)  # 60 steps of one small input
state, _ = jrnn.unroll(jrnn.Elman(1, 1), lone, small)
assert np.allclose(state.h, 0.9575, atol=1e-3)
found = gradient_by_lag(lambda ys: ys[-1].sum(), jrnn.Elman(1, 1), lone, small)
assert np.allclose(found.norms[:20], 0.166 ** found.lags[:20], rtol=0.2)
assert round(2 * (1 - 0.9575**2), 3) == 0.166

# %% check-3 hide-cell
rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(units, units)))[0]
turned = jrnn.ElmanParams(w_x, jnp.asarray(rotation, jnp.float32), jnp.zeros(units))
linear = jrnn.Elman(4, units, activation="identity")
assert np.allclose(gradient_by_lag(loss, linear, turned, xs).norms, 1, rtol=1e-4)
