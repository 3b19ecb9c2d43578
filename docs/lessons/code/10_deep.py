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
        "one direction": "单向",
        "backwards": "反向",
        "both directions": "双向",
        "input step": "输入的时间步",
        "output step": "输出的时间步",
        "forward": "前向",
        "backward": "反向",
        "read-out at the end": "结尾的读出",
    }
)

# %% stack
stack = jrnn.rnn(jrnn.GRU, input_size=3, hidden_size=4, num_layers=2)
params = stack.init(jax.random.key(0))
xs = jax.random.normal(jax.random.key(1), (8, 3))  # 8 steps of one row
states, ys = stack.apply(params, xs)
print("outputs", ys.shape, " states", [state.h.shape for state in states])

first, second = stack.layers
_, between = first.apply(params[0], xs)
_, by_hand = second.apply(params[1], between)
assert np.allclose(by_hand, ys, atol=1e-6)

# %% both
both = jrnn.rnn(jrnn.GRU, input_size=3, hidden_size=4, bidirectional=True)
both_params = both.init(jax.random.key(2))
states, ys = both.apply(both_params, xs)
print("outputs", ys.shape)

forward, backward = both_params[0]
cell = jrnn.GRU(3, 4)
_, there = jrnn.unroll(cell, forward, xs)
_, back = jrnn.unroll(cell, backward, xs, reverse=True)
assert np.allclose(ys, jnp.concatenate([there, back], -1), atol=1e-6)


# %% sees
def sees(layer, params):
    """|d y_t / d x_s|: how much the output at step t [rows] depends on the input at step s [columns]."""
    slopes = jax.jacobian(lambda xs: layer.apply(params, xs)[1])(
        xs
    )  # [t, output, s, input]
    return np.asarray(jnp.sqrt((slopes**2).sum((1, 3))))


reverse = jrnn.Recurrent(cell, reverse=True)
maps = {
    "one direction": sees(jrnn.Recurrent(cell), forward),
    "backwards": sees(reverse, backward),
    "both directions": sees(both, both_params),
}
for name, seen in maps.items():
    print(f"{name:16} step 3 depends on steps {np.flatnonzero(seen[3])}")

# %% sees-picture hide-input
fig, axes = plt.subplots(1, 3, figsize=(9.5, 3.3), sharey=True)
for ax, (name, seen) in zip(axes, maps.items()):
    ax.imshow(
        np.where(seen > 0, np.log10(np.maximum(seen, 1e-6)), np.nan),
        cmap="Blues",
        vmin=-3,
        vmax=0.3,
    )
    ax.set(
        title=say(name), xlabel=say("input step"), xticks=range(8), yticks=range(8)
    )
    ax.plot(
        [-0.5, 7.5, 7.5, -0.5, -0.5],
        [2.5, 2.5, 3.5, 3.5, 2.5],
        color=pictures.GRADIENT,
        lw=1.5,
    )
axes[0].set_ylabel(say("output step"))

# %% ends
_, end = both.last(both_params, xs)
print(
    "forward half is that of the last step: ",
    bool(jnp.allclose(end[:4], ys[-1, :4])),
)
print(
    "backward half is that of the first step:",
    bool(jnp.allclose(end[4:], ys[0, 4:])),
)
print(
    "backward half of the last step has seen", np.flatnonzero(maps["backwards"][7])
)

# %% ends-picture hide-input
fig, ax = pictures.canvas(9, 3.6, 13.2, 5.2)
for t in range(5):
    x = 1.8 + 2 * t
    pictures.box(ax, x, 0.5, f"$x_{t + 1}$", pictures.INPUT)
    pictures.box(ax, x - 0.3, 1.9, "", pictures.STATE, 0.9, 0.6)
    pictures.box(ax, x + 0.3, 3.0, "", pictures.OUTPUT, 0.9, 0.6)
    pictures.arrow(ax, (x - 0.3, 0.82), (x - 0.3, 1.58), "0.5")
    pictures.arrow(ax, (x + 0.3, 0.82), (x + 0.3, 2.68), "0.5")
    if t:
        pictures.arrow(ax, (x - 1.82, 1.9), (x - 0.78, 1.9), pictures.STATE)
        pictures.arrow(ax, (x - 0.18, 3.0), (x - 1.22, 3.0), pictures.OUTPUT)
ax.text(0.0, 1.9, say("forward"), color=pictures.STATE, va="center")
ax.text(0.0, 3.0, say("backward"), color=pictures.OUTPUT, va="center")
pictures.box(ax, 11.3, 4.6, say("read-out at the end"), pictures.GREY, 3.2)
pictures.arrow(ax, (9.95, 2.0), (11.5, 4.25), pictures.STATE, bend=0.1)
pictures.arrow(ax, (2.1, 3.35), (9.65, 4.6), pictures.OUTPUT, bend=-0.1)

# %% check-1 hide-cell
deep = jrnn.rnn(
    jrnn.GRU, input_size=3, hidden_size=4, num_layers=2, bidirectional=True
)
shapes = jax.eval_shape(deep.init, jax.random.key(0))
assert shapes[1].forward.w_x.shape == (8, 12)

# %% check-2 hide-cell
try:
    both.step(both_params, states, xs[0])
    refused = ""
except TypeError as error:
    refused = str(error)
assert "cannot be streamed" in refused

# %% check-3 hide-cell
wide, deep = (
    jrnn.LSTM(32, 90),
    jrnn.rnn(jrnn.LSTM, input_size=32, hidden_size=64, num_layers=2),
)
sizes = [
    sum(a.size for a in jax.tree.leaves(jax.eval_shape(m.init, jax.random.key(0))))
    for m in (wide, deep)
]
assert (
    sizes
    == [4 * 90 * (32 + 90 + 1), 4 * 64 * (32 + 64 + 1) + 4 * 64 * (64 + 64 + 1)]
    == [44280, 57856]
)
