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
        "forwards": "前向",
        "backwards": "反向",
        "sum": "总和",
    }
)

# %% forwards
w, v = 0.8, 1.0  # the state's weight on itself; the input's
x = [1.0, 0.5, -0.5]
target = 1.0

h = [0.0]  # h[0] is the state before the first step
for t in range(3):
    h.append(np.tanh(v * x[t] + w * h[t]))
loss = 0.5 * (h[3] - target) ** 2
print("states", np.round(h, 4), " loss", round(loss, 4))

# %% backwards
dh = h[3] - target  # d loss / d h_3
dw, parts = 0.0, []
for t in (3, 2, 1):
    da = dh * (1 - h[t] ** 2)  # through tanh
    parts.append(da * h[t - 1])  # this step's share in the gradient of w
    print(f"t={t}  dh = {dh:.4f}  da = {da:.4f}  da h_{t - 1} = {parts[-1]:.4f}")
    dw += parts[-1]
    dh = w * da  # through w, to the state before
print("gradient of w:", round(dw, 4))


# %% grad
def unit(w):
    h = 0.0
    for t in range(3):
        h = jnp.tanh(v * x[t] + w * h)
    return 0.5 * (h - target) ** 2


print("jax.grad:     ", round(float(jax.grad(unit)(w)), 4))
print("a difference: ", round(float(unit(w + 1e-2) - unit(w - 1e-2)) / 2e-2, 4))

# %% picture hide-input
fig, (ax, bars) = plt.subplots(1, 2, figsize=(9, 3.3), width_ratios=[3, 1])
ax.set(xlim=(-0.3, 11.3), ylim=(-0.2, 4.2))
ax.axis("off")
dhs, das = {3: h[3] - target}, {}
for t in (3, 2, 1):
    das[t] = dhs[t] * (1 - h[t] ** 2)
    dhs[t - 1] = w * das[t]
for t in range(4):
    at = 1 + 2.6 * t
    pictures.box(
        ax, at, 2.0, f"{h[t]:.4f}", pictures.STATE if t else pictures.GREY, 1.3
    )
    if t:
        pictures.box(ax, at, 0.4, f"{x[t - 1]:g}", pictures.INPUT, 1.1)
        pictures.arrow(ax, (at, 0.75), (at, 1.65), pictures.INPUT)
        pictures.arrow(
            ax,
            (at - 1.92, 1.9),
            (at - 0.68, 1.9),
            pictures.STATE,
            "× w",
            (0, -0.25),
        )
        pictures.arrow(ax, (at - 0.68, 2.15), (at - 1.92, 2.15), pictures.GRADIENT)
        ax.text(at, 2.62, f"{dhs[t]:.4f}", color=pictures.GRADIENT, ha="center")
        ax.text(
            at - 1.3,
            2.62,
            f"× {w * (1 - h[t] ** 2):.2f}",
            color=pictures.GRADIENT,
            ha="center",
            size=9,
        )
ax.text(10.4, 2.0, f"½({h[3]:.2f} − 1)²", ha="center", va="center", size=9)
ax.text(
    0.2,
    3.75,
    say("backwards") + ": $\\partial L / \\partial h_t$",
    color=pictures.GRADIENT,
    weight="bold",
)
ax.text(0.2, -0.1, say("forwards") + ": $h_t$", color=pictures.STATE, weight="bold")
bars.barh([1, 2, 3], parts[::-1], color=pictures.GRADIENT, alpha=0.8)
bars.barh([4], [dw], color="0.3")
bars.set_yticks([1, 2, 3, 4], ["$t=1$", "$t=2$", "$t=3$", say("sum")])
bars.axvline(0, color="k", lw=0.8)
bars.set_title("$\\partial L / \\partial a_t \\; h_{t-1}$")
for at, part in zip((1, 2, 3, 4), (*parts[::-1], dw)):
    bars.text(0.02, at, f"{part + 0.0:.4f}", va="center", size=9)
bars.set(xlim=(-0.9, 0.25), xticks=[-0.8, -0.4, 0])

# %% matrices
cell = jrnn.Elman(3, 4)
params = cell.init(jax.random.key(0))
xs = jax.random.normal(jax.random.key(1), (7, 2, 3))  # 7 steps, 2 rows, 3 features
targets = jax.random.normal(jax.random.key(2), (7, 2, 4))


def backward(params, xs, targets):
    """Of the loss ½ Σ (h_t - target_t)² over all steps, rows and units."""
    w_x, w_h, b = (np.asarray(a, np.float64) for a in params)
    hs = [np.zeros((2, 4))]
    for x in xs:
        hs.append(np.tanh(x @ w_x + hs[-1] @ w_h + b))
    d_x, d_h, d_b = np.zeros_like(w_x), np.zeros_like(w_h), np.zeros_like(b)
    dh = np.zeros((2, 4))  # what comes from the future: nothing, at the end
    for t in range(len(xs), 0, -1):
        dh = dh + hs[t] - targets[t - 1]  # and from this step's own error
        da = dh * (1 - hs[t] ** 2)
        d_x += xs[t - 1].T @ da
        d_h += hs[t - 1].T @ da
        d_b += da.sum(0)
        dh = da @ w_h.T
    return d_x, d_h, d_b


by_hand = backward(params, np.asarray(xs), np.asarray(targets))


# %% equal
def loss_of(params):
    return 0.5 * jnp.sum((jrnn.unroll(cell, params, xs)[1] - targets) ** 2)


for name, ours, found in zip(params._fields, by_hand, jax.grad(loss_of)(params)):
    difference, largest = np.abs(ours - found).max(), np.abs(ours).max()
    print(
        f"{name:4} largest entry {largest:.2f}, largest difference {difference:.0e}"
    )
    assert difference < 1e-4

# %% check-1 hide-cell
by_hand_v = sum(da * now for da, now in zip((-0.0800, -0.2380, -0.8406), x))


def of_v(v):
    h = 0.0
    for t in range(3):
        h = jnp.tanh(v * x[t] + w * h)
    return 0.5 * (h - target) ** 2


assert round(by_hand_v, 4) == 0.2213
assert np.isclose(by_hand_v, jax.grad(of_v)(v), atol=1e-4)

# %% check-2 hide-cell


def cut(w):
    h = 0.0
    for t in range(3):
        h = jax.lax.stop_gradient(h) if t == 2 else h
        h = jnp.tanh(v * x[t] + w * h)
    return 0.5 * (h - target) ** 2


assert np.isclose(jax.grad(cut)(w), -0.6757, atol=1e-4)

# %% check-3 hide-cell
assert np.isclose(
    w**2 * (1 - h[3] ** 2) * (1 - h[2] ** 2) * (h[3] - target), dhs[1]
)
