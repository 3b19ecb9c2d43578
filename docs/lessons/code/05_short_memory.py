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
        "lag: steps before the loss": "滞后：离损失多少步",
        "length of the gradient": "梯度的长度",
        "lost in float32": "在 float32 中已丢失",
        "radius": "谱半径",
        "a step": "每步",
        "no tanh": "没有 tanh",
        "tanh": "tanh",
        "factor per step": "每步的倍数",
        "spectral radius of $W_h$": "$W_h$ 的谱半径",
        "weak inputs": "弱输入",
        "strong inputs": "强输入",
        "no tanh: the radius itself": "没有 tanh：就是谱半径",
        "explodes": "爆炸",
        "vanishes": "消失",
    }
)

# %% powers
for w in (0.9, 1.0, 1.1):
    print(f"{w} ** 50 = {w**50:10.4g}     {w} ** 200 = {w**200:10.4g}")


# %% by-lag
def gradient_by_lag(cell, params, xs, read):
    """|d loss / d h_t| for every step of xs [time, row, feature]; the loss is h_T · read."""

    def loss(nudges):
        def step(state, now):
            x, nudge = now
            state, _ = cell.step(params, state, x)
            return state._replace(h=state.h + nudge), None

        state, _ = jax.lax.scan(
            step, cell.initial_state(params, xs.shape[1:-1]), (xs, nudges)
        )
        return (state.h @ read).sum()

    gradient = jax.grad(loss)(jnp.zeros((*xs.shape[:-1], cell.hidden_size)))
    return jnp.linalg.norm(gradient, axis=-1)


# %% networks
units, steps = 64, 100
xs = jax.random.normal(jax.random.key(0), (steps, 8, 4))
w_h = jax.random.normal(jax.random.key(1), (units, units))
w_x = jax.random.normal(jax.random.key(2), (4, units))
read = jax.random.normal(jax.random.key(3), (units,)) / np.sqrt(units)
radius_now = np.abs(np.linalg.eigvals(np.asarray(w_h))).max()


@jax.jit
def curve(radius, strength):
    """Mean over rows of log |d loss / d h_t|, at lag 0 first, relative to lag 0."""
    cell = jrnn.Elman(4, units)
    params = jrnn.ElmanParams(
        w_x * strength, w_h * radius / radius_now, jnp.zeros(units)
    )
    logs = jnp.log(gradient_by_lag(cell, params, xs, read)).mean(1)[::-1]
    return logs - logs[0]


curves = {radius: curve(radius, 0.02) for radius in (0.5, 1.0, 3.0)}

# %% lag-picture hide-input
fig, ax = plt.subplots(figsize=(8, 4))
for (radius, logs), color in zip(
    curves.items(), (pictures.INPUT, pictures.STATE, pictures.GRADIENT)
):
    factor = np.exp((logs[30] - logs[10]) / 20)
    ax.semilogy(np.exp(logs), color=color, lw=2.5)
    at, side = {0.5: (24, "left"), 1.0: (60, "left"), 3.0: (60, "right")}[radius]
    label = f"{say('radius')} {radius:g}: × {factor:.2f} {say('a step')}"
    ax.text(at, np.exp(logs[at]) * 30, label, color=color, ha=side)
ax.axhline(1, color="k", lw=0.8, ls=":")
ax.axhspan(1e-14, 2.0**-24, color="0.92", zorder=0)
ax.text(98, 2e-13, say("lost in float32"), color="0.35", ha="right")
ax.set(
    ylim=(1e-14, 1e12),
    xlim=(0, 100),
    xlabel=say("lag: steps before the loss"),
    ylabel=say("length of the gradient"),
)

# %% threshold
radii = np.linspace(0.5, 4, 15)


@jax.jit
def factors(strength):
    logs = jax.lax.map(
        lambda radius: curve(radius, strength), jnp.asarray(radii, jnp.float32)
    )
    return jnp.exp((logs[:, 25] - logs[:, 10]) / 15)


weak, strong = factors(0.02), factors(1.0)

# %% threshold-picture hide-input
fig, ax = plt.subplots(figsize=(8, 3.6))
ax.axhspan(1, 1.8, color=pictures.GRADIENT, alpha=0.07)
ax.axhspan(0, 1, color=pictures.INPUT, alpha=0.07)
ax.plot(
    [0, 1.8], [0, 1.8], "--", color="0.4", label=say("no tanh: the radius itself")
)
ax.plot(
    radii, weak, "o-", color=pictures.STATE, label=f"tanh, {say('weak inputs')}"
)
ax.plot(
    radii,
    strong,
    "s-",
    color=pictures.OUTPUT,
    label=f"tanh, {say('strong inputs')}",
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

# %% check-1 hide-cell
assert np.isclose(np.log(2.0**-24) / np.log(0.9), 158, atol=0.5)
assert np.float32(1) + np.float32(0.9**170) == np.float32(1)
assert np.float32(1) + np.float32(0.9**150) != np.float32(1)

# %% check-2 hide-cell
cell = jrnn.Elman(1, 1)
small = jrnn.ElmanParams(jnp.ones((1, 1)), jnp.full((1, 1), 2.0), jnp.zeros(1))
found = gradient_by_lag(cell, small, jnp.full((60, 1, 1), 1e-3), jnp.ones(1))[
    ::-1, 0
]
assert np.allclose(found[1:20] / found[:19], 2 * (1 - 0.957504**2), atol=0.01)

# %% check-3 hide-cell
rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(units, units)))[0]
linear = jrnn.Elman(4, units, activation="identity")
turned = jrnn.ElmanParams(w_x, jnp.asarray(rotation, jnp.float32), jnp.zeros(units))
lengths = gradient_by_lag(linear, turned, xs[:, :1], read)
assert np.allclose(lengths, jnp.linalg.norm(read), rtol=1e-4)
