# %% imports
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import jrnn
import pictures
from jrnn.online import RTRL, UORO, EProp, Online, SnAp

# %% words remove-cell
say = pictures.words(
    {
        "RTRL: all": "RTRL：全部",
        "SnAp-1: same unit": "SnAp-1：同一单元",
        "no trace: this step": "无迹：只看这一步",
        "unit": "单元",
        "weight": "权重",
        "no trace": "无迹",
        "training step": "训练步数",
        "squared error": "平方误差",
        "knows nothing": "一无所知",
    }
)

# %% by-hand
w, x, target = 0.8, [1.0, 0.5, -0.5], 1.0
h, influence = 0.0, 0.0  # influence: d h / d w, so far
for t in range(3):
    new = np.tanh(x[t] + w * h)
    influence = (1 - new**2) * (h + w * influence)
    h = new
    gradient = (h - target) * influence  # of ½ (h - target)² at this step
    print(f"t={t + 1}  h = {h:.4f}   dh/dw = {influence:.4f}   {gradient = :.4f}")


# %% equal
def loss_at_the_end(w):
    h = 0.0
    for t in range(3):
        h = jnp.tanh(x[t] + w * h)
    return 0.5 * (h - target) ** 2


print(f"jax.grad, backwards: {jax.grad(loss_at_the_end)(w):.4f}")

# %% influence
units = 6
cell = jrnn.Elman(2, units)
params = cell.init(jax.random.key(0))
xs = jax.random.normal(jax.random.key(1), (12, 2))


@jax.jit
def influences(params, keep):
    """d h_12 / d W_h [unit, from, to]; `keep`: which entries go on."""

    def step(carry, x):
        h, before = carry

        def after(h, w_h):
            return cell.step(params._replace(w_h=w_h), jrnn.ElmanState(h), x)[1]

        through, direct = jax.jacobian(after, (0, 1))(h, params.w_h)
        now = jnp.einsum("ij,jkl->ikl", through, before * keep) + direct
        return (after(h, params.w_h), now), None

    (_, found), _ = jax.lax.scan(
        step, (jnp.zeros(units), jnp.zeros((units, units, units))), xs
    )
    return found


same_unit = jnp.broadcast_to(jnp.eye(units)[:, None, :], (units, units, units))
kinds = {
    "RTRL: all": influences(params, jnp.ones_like(same_unit)),
    "SnAp-1: same unit": influences(params, same_unit) * same_unit,
    "no trace: this step": influences(params, jnp.zeros_like(same_unit)),
}
exact = jax.jacobian(
    lambda w_h: jrnn.unroll(cell, params._replace(w_h=w_h), xs)[0].h
)(params.w_h)
print("RTRL is exact:", bool(jnp.allclose(kinds["RTRL: all"], exact, atol=1e-5)))

# %% influence-picture hide-input
fig, axes = plt.subplots(3, 1, figsize=(9, 4.2), sharex=True)
for ax, (name, found) in zip(axes, kinds.items()):
    # The weights into unit 0 first, then those into unit 1, ...
    table = np.asarray(jnp.swapaxes(found, 1, 2).reshape(units, -1))
    ax.imshow(table, cmap="RdBu_r", vmin=-0.8, vmax=0.8, aspect="auto")
    ax.set_title(say(name), loc="left", size=10)
    ax.set(yticks=range(units), ylabel=say("unit"))
    for edge in range(1, units):
        ax.axvline(units * edge - 0.5, color="0.7", lw=0.8)
axes[-1].set(xticks=np.arange(units) * units + 2.5, xlabel=say("weight"))
axes[-1].set_xticklabels([f"→ {say('unit')} {k}" for k in range(units)])

# %% methods
gru = jrnn.GRU(2, 8)
gru_params = gru.init(jax.random.key(2))
inputs = jax.random.normal(jax.random.key(3), (20, 4, 2))
wanted = jax.random.normal(jax.random.key(4), (20, 4, 8))


def online_gradient(layer, key):
    """The sum of the gradients that a learner finds at each of 20 steps."""

    def one(params, state, now):
        x, target = now
        state, y = layer.step(params, state, x)
        return 0.5 * jnp.sum((y - target) ** 2), state

    def step(carry, now):
        state, total = carry
        gradient, state = jax.grad(one, has_aux=True)(gru_params, state, now)
        return (state, jax.tree.map(jnp.add, total, gradient)), None

    start = layer.initial_state(gru_params, (4,), key)
    zeros = jax.tree.map(jnp.zeros_like, gru_params)
    (_, total), _ = jax.lax.scan(step, (start, zeros), (inputs, wanted))
    return jnp.concatenate([a.ravel() for a in total])


recurrent = jrnn.Recurrent(gru)
learners = {
    "no trace": recurrent,
    "EProp": Online(recurrent, EProp()),
    "SnAp": Online(recurrent, SnAp()),
    "UORO": Online(recurrent, UORO()),
    "RTRL": Online(recurrent, RTRL()),
}
found_by = jax.jit(online_gradient, static_argnums=0)
found = {
    name: found_by(layer, jax.random.key(5)) for name, layer in learners.items()
}
draws = jax.random.split(jax.random.key(6), 1000)
each = jax.jit(jax.vmap(lambda key: online_gradient(learners["UORO"], key)))
found["1000 UORO"] = each(draws).mean(0)

full = jax.grad(
    lambda p: 0.5 * jnp.sum((jrnn.unroll(gru, p, inputs)[1] - wanted) ** 2)
)(gru_params)
full = jnp.concatenate([a.ravel() for a in full])
for name, gradient in found.items():
    cosine = gradient @ full / jnp.linalg.norm(gradient) / jnp.linalg.norm(full)
    error = jnp.linalg.norm(gradient - full) / jnp.linalg.norm(full)
    print(f"{name:9} cosine {cosine:.3f}   error {error:.3f}")

# %% learn
lag, rows = 5, 8


def recall(layer, updates=3000, rate=3e-3):
    """The losses of a network that says what it heard five steps before."""
    model = jrnn.Layered((layer, jrnn.Dense(16, 1)))
    optimizer = optax.adam(rate)
    sounds = jax.random.rademacher(
        jax.random.key(6), (updates + lag, rows, 1)
    ).astype(jnp.float32)

    def one(params, state, now):
        x, target = now
        state, y = model.step(params, state, x)
        return jnp.mean((y - target) ** 2), state

    def step(carry, now):
        params, memory, state = carry
        (value, state), gradient = jax.value_and_grad(one, has_aux=True)(
            params, state, now
        )
        change, memory = optimizer.update(gradient, memory)
        return (optax.apply_updates(params, change), memory, state), value

    @jax.jit
    def run():
        params = model.init(jax.random.key(7))
        state = model.initial_state(params, (rows,), jax.random.key(8))
        return jax.lax.scan(
            step,
            (params, optimizer.init(params), state),
            (sounds[lag:], sounds[:-lag]),
        )[1]

    return np.asarray(run())


heard = jrnn.Recurrent(jrnn.GRU(1, 16))
curves = {
    "no trace": recall(heard),
    "SnAp": recall(Online(heard, SnAp())),
    "RTRL": recall(Online(heard, RTRL())),
}
for name, curve in curves.items():
    print(f"{name:8} mean of the last 200 losses: {curve[-200:].mean():.4f}")

# %% learn-picture hide-input
fig, ax = plt.subplots(figsize=(8, 3.6))
for (name, curve), color in zip(
    curves.items(), (pictures.GREY, pictures.STATE, pictures.INPUT)
):
    smooth = np.convolve(curve, np.ones(50) / 50, "valid")
    label = say(name) if name == "no trace" else name
    ax.semilogy(smooth, color=color, lw=2, label=label)
ax.axhline(1, color="k", lw=0.8, ls=":")
ax.text(30, 1.06, say("knows nothing"), size=9)
ax.set(xlabel=say("training step"), ylabel=say("squared error"))
ax.legend(loc="lower left")

# %% check-1 hide-cell
assert np.isclose(jax.grad(loss_at_the_end)(0.5), -1.0062, atol=1e-4)

# %% check-2 hide-cell
for n, entries in ((10, 2_100), (100, 2_010_000)):
    parameters = jax.tree.leaves(jrnn.Elman(n, n).init(jax.random.key(0)))
    assert n * sum(a.size for a in parameters) == entries

# %% check-3 hide-cell
alone = params._replace(w_h=jnp.diag(jnp.diag(params.w_h)))
exact = jax.jacobian(
    lambda w_h: jrnn.unroll(cell, alone._replace(w_h=w_h), xs)[0].h
)(alone.w_h)
assert np.allclose(influences(alone, same_unit), exact, atol=1e-5)
