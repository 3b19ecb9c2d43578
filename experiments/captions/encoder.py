"""A picture as a grid of vectors: a small convolutional network, beside the colours and edges of each part."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

GROUPS = 8  # of features that are normalised together
LEVELS = 3  # of a channel
DIRECTIONS = 8  # of an edge


class Encoder(nn.Module):
    """Pictures [batch, height, width, channels] from 0 to 1 -> a grid of vectors [batch, positions, size].

    A convolution, group normalisation (Wu & He 2018) and ReLU for each of `widths`, by the stride of each. Beside their features
    stand the colours and edges around each position, which need no learning: of few pictures it is mostly these that tell what a
    caption will say. Whole features are dropped, alike at all positions (Tompson et al. 2015).
    """

    widths: tuple[int, ...]
    strides: tuple[int, ...]
    size: int
    dropout: float

    @nn.compact
    def __call__(self, pictures: jax.Array, *, train: bool = False) -> jax.Array:
        xs = 2 * pictures - 1
        for width, stride in zip(self.widths, self.strides, strict=True):
            kernel = max(3, 2 * stride - 1)
            xs = nn.Conv(width, (kernel, kernel), (stride, stride), use_bias=False)(xs)
            xs = nn.relu(nn.GroupNorm(math.gcd(GROUPS, width))(xs))
        xs = jnp.concatenate([xs, statistics(pictures, (xs.shape[1], xs.shape[2]))], -1)
        xs = xs.reshape(len(xs), -1, xs.shape[-1])
        xs = nn.Dropout(self.dropout, broadcast_dims=(1,), deterministic=not train)(xs)
        return nn.Dense(self.size)(xs)


def statistics(pictures: jax.Array, grid: tuple[int, int]) -> jax.Array:
    """What is around each position: [batch, *grid, 3^channels + 8], about as large as what a normalisation gives.

    The share of each colour, of three levels in each channel, and how strong edges are in each of eight directions (Dalal & Triggs
    2005).
    """

    def around(values: jax.Array) -> jax.Array:
        return jax.image.resize(values, (len(values), *grid, values.shape[-1]), "linear")

    channels = pictures.shape[-1]
    level = jnp.clip(jnp.floor(LEVELS * pictures), 0, LEVELS - 1).astype(jnp.int32)
    colour = (level * LEVELS ** jnp.arange(channels)).sum(-1)
    share = around(jax.nn.one_hot(colour, LEVELS**channels))
    grey = pictures.mean(-1)
    down, right = (jnp.diff(grey, axis=axis, append=lax.slice_in_dim(grey, -1, None, axis=axis)) for axis in (1, 2))
    direction = jnp.floor(jnp.mod(jnp.arctan2(down, right), jnp.pi) / jnp.pi * DIRECTIONS).astype(jnp.int32)
    strength = jnp.sqrt(down**2 + right**2)
    edges = around(strength[..., None] * jax.nn.one_hot(direction % DIRECTIONS, DIRECTIONS))
    return jnp.concatenate([4 * jnp.sqrt(jnp.maximum(share, 0)) - 0.5, jnp.log(jnp.maximum(edges, 0) + 1e-3) + 4.5], -1)


def varied(pictures: jax.Array, key: jax.Array, *, flips: bool, shift: int) -> jax.Array:
    """Each picture [batch, height, width, channels] mirrored or not, and moved by up to `shift` pixels; its edge fills up."""
    mirrored, moved = jax.random.split(key)
    if flips:
        chosen = jax.random.bernoulli(mirrored, 0.5, (len(pictures), 1, 1, 1))
        pictures = jnp.where(chosen, pictures[:, :, ::-1], pictures)
    if not shift:
        return pictures
    places = jax.random.randint(moved, (len(pictures), 2), 0, 2 * shift + 1)
    larger = jnp.pad(pictures, ((0, 0), (shift, shift), (shift, shift), (0, 0)), mode="edge")

    def crop(picture: Any, place: jax.Array) -> jax.Array:
        return lax.dynamic_slice(picture, (place[0], place[1], jnp.zeros_like(place[0])), pictures.shape[1:])

    return jax.vmap(crop)(larger, places)
