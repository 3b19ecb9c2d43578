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
        "forward": "前向",
        "backward": "反向",
        "both": "双向",
        "input step": "输入的时间步",
        "output step": "输出的时间步",
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
    """|d y_t / d x_s| [t, s]: how output t depends on input s."""
    slopes = jax.jacobian(lambda xs: layer.apply(params, xs)[1])(xs)
    return np.sqrt((slopes**2).sum((1, 3)))  # of [t, output, s, input]


maps = {
    "forward": sees(jrnn.Recurrent(cell), forward),
    "backward": sees(jrnn.Recurrent(cell, reverse=True), backward),
    "both": sees(both, both_params),
}
for name, seen in maps.items():
    print(f"{name:8} step 3 depends on steps {np.flatnonzero(seen[3])}")

# %% sees-picture hide-input
fig, axes = plt.subplots(1, 3, figsize=(9.5, 3.3), sharey=True)
for ax, (name, seen) in zip(axes, maps.items()):
    logs = np.log10(seen, out=np.full_like(seen, np.nan), where=seen > 0)
    ax.imshow(logs, cmap="Blues", vmin=-3, vmax=0.3)
    ax.set(title=say(name), xlabel=say("input step"))
    ax.set(xticks=range(8), yticks=range(8))
    frame = plt.Rectangle((-0.5, 2.5), 8, 1, fill=False, lw=1.5, clip_on=False)
    frame.set_edgecolor(pictures.GRADIENT)
    ax.add_patch(frame)
axes[0].set_ylabel(say("output step"))

# %% ends
_, end = both.last(both_params, xs)
print("forward half: that of the last step ", np.allclose(end[:4], ys[-1, :4]))
print("backward half: that of the first step", np.allclose(end[4:], ys[0, 4:]))
seen = np.flatnonzero(maps["backward"][7])
print("backward half of the last step has seen the inputs", seen)

# %% ends-picture hide-input
fig, ax = pictures.canvas(9, 3.3, 14.0, 4.7)
for t in range(5):
    x = 1.8 + 2 * t
    pictures.box(ax, x, 0.5, f"$x_{t}$", pictures.INPUT)
    pictures.box(ax, x - 0.3, 1.7, "", pictures.STATE, 0.9, 0.6)
    pictures.box(ax, x + 0.3, 2.8, "", pictures.OUTPUT, 0.9, 0.6)
    pictures.arrow(ax, (x - 0.3, 0.82), (x - 0.3, 1.38), "0.5")
    pictures.arrow(ax, (x + 0.3, 0.82), (x + 0.3, 2.48), "0.5")
    if t:
        pictures.arrow(ax, (x - 1.82, 1.7), (x - 0.78, 1.7), pictures.STATE)
        pictures.arrow(ax, (x - 0.18, 2.8), (x - 1.22, 2.8), pictures.OUTPUT)
ax.text(0.0, 1.7, say("forward"), color=pictures.STATE, va="center")
ax.text(0.0, 2.8, say("backward"), color=pictures.OUTPUT, va="center")
pictures.box(ax, 12.3, 3.6, say("read-out at the end"), pictures.GREY, 3.0)
pictures.arrow(ax, (9.97, 1.7), (12.3, 3.28), pictures.STATE, bend=0.3)
pictures.arrow(ax, (2.1, 3.12), (10.8, 3.7), pictures.OUTPUT, bend=-0.12)

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
wide = jrnn.LSTM(32, 90)
deep = jrnn.rnn(jrnn.LSTM, input_size=32, hidden_size=64, num_layers=2)
shapes = [jax.eval_shape(m.init, jax.random.key(0)) for m in (wide, deep)]
sizes = [sum(a.size for a in jax.tree.leaves(shape)) for shape in shapes]
assert sizes[0] == 4 * 90 * (32 + 90 + 1) == 44280
assert sizes[1] == 4 * 64 * (32 + 64 + 1) + 4 * 64 * (64 + 64 + 1) == 57856
