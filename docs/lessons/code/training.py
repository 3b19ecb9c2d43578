"""What the lessons share of training: the loop, and rows of unequal length."""

import jax
import numpy as np
import optax


@jax.jit(static_argnames=("loss", "updates", "rate", "seed"))
def fit(loss, params, updates, rate=1e-2, seed=0):
    """Adam on `loss(params, key)`; the parameters at the end, and all losses.

    Each update has a key of its own, by which the loss draws its examples.
    """
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))

    def update(carry, key):
        params, memory = carry
        value, gradient = jax.value_and_grad(loss)(params, key)
        change, memory = optimizer.update(gradient, memory)
        return (optax.apply_updates(params, change), memory), value

    keys = jax.random.split(jax.random.key(seed), updates)
    (params, _), losses = jax.lax.scan(
        update, (params, optimizer.init(params)), keys
    )
    return params, losses


def pad(rows):
    """Rows of integers as a batch [time, row], filled up with 0; their lengths."""
    lengths = np.array([len(row) for row in rows])
    batch = np.zeros((lengths.max(), len(rows)), np.int32)
    for i, row in enumerate(rows):
        batch[: len(row), i] = row
    return batch, lengths
