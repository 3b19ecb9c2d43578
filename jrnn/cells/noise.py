"""Noise that lasts over time: a key for each row, kept in the state."""

import jax
import jax.numpy as jnp
import numpy as np

from ..checks import check_key


def keys_of_rows(key: jax.Array, batch: tuple[int, ...]) -> jax.Array:
    """A threefry key for each row, whatever the implementation of `key`.

    A batch of other keys draws from the first of them alone (`jax.lax.rng_bit_generator` under `vmap`): a row would
    depend on what stands beside it, and the noise of all rows would repeat once the first one is padded.
    """
    check_key(key)
    if jax.random.key_impl(key) != "threefry2x32":
        key = jax.random.wrap_key_data(jax.random.bits(key, (2,), jnp.uint32), impl="threefry2x32")
    return jax.random.split(key, batch) if batch else key


def split_each(keys: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Each key of an array of keys split in two."""
    pairs = jax.vmap(jax.random.split)(keys.reshape(-1)).reshape((*keys.shape, 2))
    return pairs[..., 0], pairs[..., 1]


def normal_each(keys: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
    """A standard normal array for each key of an array of keys."""
    drawn = jax.vmap(lambda key: jax.random.normal(key, shape, dtype))(keys.reshape(-1))
    return drawn.reshape((*keys.shape, *shape))


def chosen_each(keys: jax.Array, share: float, index: int, shape: tuple[int, ...]) -> jax.Array:
    """A mask of `shape`, drawn from each row's key and `index`: True for a share of the entries.

    It is the same with `jax_enable_x64` and without.
    """
    features = shape[keys.ndim :]
    draw = jax.vmap(lambda key: jax.random.bernoulli(jax.random.fold_in(key, index), np.float32(share), features))
    return draw(keys.reshape(-1)).reshape((*keys.shape, *features))
