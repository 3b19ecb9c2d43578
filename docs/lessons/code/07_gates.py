# %% imports
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jrnn
import pictures
from jrnn.diagnostics import gradient_by_lag

np.set_printoptions(precision=5, suppress=True)

# %% words remove-cell
say = pictures.words(
    {
        "input gate": "输入门",
        "forget gate": "遗忘门",
        "output gate": "输出门",
        "candidate": "候选值",
        "cell state c": "细胞状态 c",
        "output h": "输出 h",
        "lag: steps before the loss": "滞后：离损失多少步",
        "length of the gradient": "梯度的长度",
        "simple network: × {:.2f} a step": "简单循环网络：每步 × {:.2f}",
        "LSTM, forget bias {}: × {:.2f} a step": "LSTM，遗忘门偏置 {}：每步 × {:.2f}",
        "keep": "保留",
        "write": "写入",
        "show": "输出",
    }
)

# %% sequence
x1 = [1, 3, 2, 4, 2, 1, 3, 6, 1]  # the number
x2 = [0, 1, 0, 1, 0, 0, -1, 1, 0]  # 1: store it; -1: forget
x3 = [0, 0, 0, 0, 0, 1, 0, 0, 1]  # 1: show what is stored
xs = jnp.array([x1, x2, x3], jnp.float32).T  # [9 steps, 3 features]

# %% unit
cell = jrnn.LSTM(input_size=3, hidden_size=1, activation="identity")
w_x = jnp.array(
    [  #  i    f    g    o
        [0.0, 0.0, 1.0, 0.0],  # from x1
        [100.0, 100.0, 0.0, 0.0],  # from x2
        [0.0, 0.0, 0.0, 100.0],  # from x3
    ]
)
b = jnp.array([-10.0, 10.0, 0.0, -10.0])
params = jrnn.LSTMParams(w_x=w_x, w_h=jnp.zeros((1, 4)), b=b)

_, ys = jrnn.unroll(cell, params, xs)
print("outputs", np.asarray(ys[:, 0]).round().astype(int))
print("before rounding", np.asarray(ys[:, 0]))

# %% inside
state = cell.initial_state(params)
inside = []
for x in xs:
    i, f, g, o = jnp.split(x @ params.w_x + params.b, 4)  # w_h is 0 here
    state, y = cell.step(params, state, x)
    inside.append(
        [jax.nn.sigmoid(i), jax.nn.sigmoid(f), jax.nn.sigmoid(o), g, state.c, y]
    )
inside = np.asarray(inside)[:, :, 0].T  # [6, 9]

# %% inside-picture hide-input
fig, axes = plt.subplots(3, 1, figsize=(9, 4.4), height_ratios=[3, 3, 3])
pictures.numbers(axes[0], np.array([x1, x2, x3]), limit=8)
axes[0].set_yticks(range(3), ["$x_1$", "$x_2$", "$x_3$"])
axes[0].set_xticks(range(9), [f"$t={t}$" for t in range(1, 10)])
axes[0].xaxis.tick_top()
pictures.numbers(axes[1], inside[:3].round(), limit=1.6, colors="PuOr_r")
axes[1].set_yticks(
    range(3),
    [
        f"{say(a)} ({say(b)})"
        for a, b in (
            ("input gate", "write"),
            ("forget gate", "keep"),
            ("output gate", "show"),
        )
    ],
)
axes[1].set_xticks([])
pictures.numbers(axes[2], inside[3:].round() + 0.0, limit=8)
axes[2].set_yticks(
    range(3), [say("candidate"), say("cell state c"), say("output h")]
)
axes[2].set_xticks([])

# %% leak
print("c after steps 1 to 3:", inside[4, :3])

# %% compare
units, noise = 64, jax.random.normal(jax.random.key(0), (100, 8, 8))
r = jax.random.normal(jax.random.key(1), (units,)) / np.sqrt(units)
simple, lstm = jrnn.Elman(8, units), jrnn.LSTM(8, units)
lstm_params = lstm.init(jax.random.key(2))


def loss(ys):
    return (ys[-1] @ r).sum()


@jax.jit
def reach(cell, params):
    return gradient_by_lag(loss, cell, params, noise)


curves = {"simple": reach(simple, simple.init(jax.random.key(2)))}
for bias in (0.0, 1.0, 3.0):
    start = jrnn.initializers.forget_bias(lstm, lstm_params, bias)
    curves[f"LSTM {bias:g}"] = reach(lstm, start)

# %% lag-picture hide-input
fig, ax = plt.subplots(figsize=(8, 3.8))
colors = {
    "simple": "0.45",
    "LSTM 0": "#bcbddc",
    "LSTM 1": "#807dba",
    "LSTM 3": "#54278f",
}
for name, curve in curves.items():
    mean, factor = np.exp(np.log(curve.norms).mean(1)), curve.factor.mean()
    if name == "simple":
        label = say("simple network: × {:.2f} a step").format(factor)
    else:
        label = say("LSTM, forget bias {}: × {:.2f} a step")
        label = label.format(name[-1], factor)
    ax.semilogy(curve.lags, mean, color=colors[name], lw=2.5, label=label)
ax.axhline(1, color="k", lw=0.8, ls=":")
ax.set(
    xlim=(0, 100),
    ylim=(1e-12, 1e3),
    xlabel=say("lag: steps before the loss"),
    ylabel=say("length of the gradient"),
)
ax.legend(loc="lower left")

# %% sizes
for name, one in {"simple": jrnn.Elman(5, 10), "LSTM": jrnn.LSTM(5, 10)}.items():
    shapes = jax.eval_shape(one.init, jax.random.key(0))
    print(
        f"{name:6}",
        {k: v.shape for k, v in shapes._asdict().items()},
        sum(v.size for v in jax.tree.leaves(shapes)),
    )
state, ys = jrnn.unroll(
    jrnn.LSTM(5, 10), jrnn.LSTM(5, 10).init(jax.random.key(0)), jnp.ones((6, 3, 5))
)
print(
    "state", {k: v.shape for k, v in state._asdict().items()}, " outputs", ys.shape
)

# %% check-1 hide-cell
more = jnp.array(
    [[5, 1, 0], [2, 1, 0], [9, 0, 0], [0, 0, 1], [0, -1, 0], [0, 0, 1]], jnp.float32
)
_, shown = jrnn.unroll(cell, params, more)
assert np.asarray(shown[:, 0]).round().tolist() == [0, 0, 0, 7, 0, 0]

# %% check-2 hide-cell
overwrite = params._replace(w_x=w_x.at[1, 1].set(-100))  # x2 = 1 closes f
_, last = jrnn.unroll(cell, overwrite, xs)
assert np.asarray(last[:, 0]).round().tolist() == [0, 0, 0, 0, 0, 4, 0, 0, 6]

# %% check-3 hide-cell
assert np.isclose(jax.nn.sigmoid(1.0), 0.731, atol=1e-3)
assert np.isclose(jax.nn.sigmoid(3.0), 0.953, atol=1e-3)
assert np.isclose(jax.nn.sigmoid(3.0) ** 100, 0.008, atol=5e-4)
assert np.isclose(jax.nn.sigmoid(1.0) ** 100, 2.5e-14, rtol=0.05)
