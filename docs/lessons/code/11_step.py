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
        "evidence": "证据",
        "step": "时间步",
        "say yes": "答“是”",
        "say no": "答“否”",
        "how clear the signal is": "信号有多清楚",
        "steps until the answer": "作答前的步数",
        "signal": "信号",
        "share of right answers": "答对的比例",
    }
)

# %% both
cell = jrnn.LSTM(input_size=3, hidden_size=5)
params = cell.init(jax.random.key(0))
xs = jax.random.normal(jax.random.key(1), (10, 2, 3))

end, ys = jrnn.unroll(cell, params, xs)  # the sequence at once

state = cell.initial_state(params, batch=(2,))  # one step at a time
step = jax.jit(lambda state, x: cell.step(params, state, x))
for x, y in zip(xs, ys):
    state, now = step(state, x)
    assert np.allclose(now, y, atol=1e-6)
assert np.allclose(state.c, end.c, atol=1e-6)

# %% decide
evidence_cell = jrnn.Elman(input_size=1, hidden_size=1, activation="identity")
adding = jrnn.ElmanParams(
    w_x=jnp.ones((1, 1)), w_h=jnp.ones((1, 1)), b=jnp.zeros(1)
)


def decide(key, signal, limit=6.0):
    """Add up noisy evidence to the limit; the answer, and after how many steps."""

    def undecided(carry):
        state, _, steps = carry
        return (jnp.abs(state.h[0]) < limit) & (steps < 500)

    def look_again(carry):
        state, key, steps = carry
        key, use = jax.random.split(key)
        x = signal + jax.random.normal(use, (1,))
        state, _ = evidence_cell.step(adding, state, x)
        return state, key, steps + 1

    state, _, steps = jax.lax.while_loop(
        undecided, look_again, (evidence_cell.initial_state(adding), key, 0)
    )
    return state.h[0] > 0, steps


for seed in range(3):
    answer, steps = decide(jax.random.key(seed), 0.3)
    print("yes" if answer else "no", "after", steps, "steps")

# %% rows
signals = jnp.array([0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6])
keys = jax.random.split(jax.random.key(9), 400)


@jax.jit
def decide_all(limit):
    """Of 7 signals, 400 rows each: the answers, and how many steps each took."""
    rows = jax.vmap(decide, in_axes=(0, None, None))  # many keys
    return jax.vmap(rows, in_axes=(None, 0, None))(keys, signals, limit)


answers, waited = decide_all(6.0)
print("signal          ", signals)
print("mean steps      ", np.asarray(waited.mean(1)).round(1))
print("share of 'yes'  ", np.asarray(answers.mean(1)).round(2))

# %% picture hide-input
fig, axes = plt.subplots(1, 2, figsize=(9.5, 3.5))
limit = 6
for seed, color in zip(range(8), plt.cm.viridis(np.linspace(0, 0.9, 8))):
    noise = jax.random.normal(jax.random.key(seed), (80, 1)) + 0.1
    _, sums = jrnn.unroll(evidence_cell, adding, noise)
    path = np.concatenate([[0], sums[:, 0]])
    over = np.flatnonzero(np.abs(path) >= limit)
    stop = over[0] if len(over) else 80
    axes[0].plot(path[: stop + 1], color=color, lw=1.2)
    axes[0].plot(stop, path[stop], "o", color=color)
axes[0].axhline(limit, color=pictures.OUTPUT)
axes[0].axhline(-limit, color=pictures.GRADIENT)
axes[0].text(78, limit + 0.5, say("say yes"), color=pictures.OUTPUT, ha="right")
axes[0].text(78, -limit - 1.4, say("say no"), color=pictures.GRADIENT, ha="right")
axes[0].set(xlabel=say("step"), ylabel=say("evidence"), ylim=(-9, 9), xlim=(0, 80))
axes[0].set_title(f"{say('signal')} 0.1")
axes[1].semilogx(signals, waited.mean(1), "o-", color=pictures.STATE)
axes[1].set(ylim=(0, 50), xlabel=say("how clear the signal is"))
axes[1].set_ylabel(say("steps until the answer"), color=pictures.STATE)
right = axes[1].twinx()
right.plot(signals, answers.mean(1), "s--", color=pictures.INPUT)
right.set_ylabel(say("share of right answers"), color=pictures.INPUT)
right.set(ylim=(0.5, 1.02))


# %% skip
def listen(state, x):
    """A step that a quiet input does not reach."""
    loud = jnp.abs(x).max(-1, keepdims=True) > 1.5
    new, _y = cell.step(params, state, x)
    return jax.tree.map(
        lambda new, old: jnp.where(loud, new, old), new, state
    ), loud


state, loud = jax.lax.scan(listen, cell.initial_state(params, batch=(2,)), xs)
print(loud[:, :, 0].T.astype(int))
masked, _ = jrnn.unroll(cell, params, xs, mask=loud[:, :, 0])
print("the same as a mask:", bool(jnp.allclose(state.h, masked.h, atol=1e-6)))

# %% check-1 hide-cell
halfway, first = jrnn.unroll(cell, params, xs[:4])
for x in xs[4:7]:
    halfway, _ = cell.step(params, halfway, x)
last, rest = jrnn.unroll(cell, params, xs[7:], halfway)
assert np.allclose(last.h, end.h, atol=1e-6)

# %% check-2 hide-cell
_, longer = decide_all(12.0)
assert 25 < waited[3].mean() < 35  # about 6 / 0.2
assert 50 < longer[3].mean() < 70  # about 12 / 0.2

# %% check-3 hide-cell
assert waited[0].max() > 3 * waited[0].mean()
