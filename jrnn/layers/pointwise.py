"""Pointwise: what layers that take each step on its own have in common."""

import abc
from typing import Any

import jax
import jax.numpy as jnp

from .base import Layer, on_real_steps


class Pointwise(Layer):
    """A layer without state that takes each step on its own: one `map` serves a step, a batch and a whole sequence."""

    pointwise = True

    @abc.abstractmethod
    def map(self, params: Any, x: jax.Array, name: str) -> jax.Array:
        """x [..., input] -> [..., output]; `name` is what the user calls x."""

    def initial_state(self, params: Any, batch: tuple[int, ...] = (), key: jax.Array | None = None) -> tuple[()]:
        return ()

    def run(self, params, xs, state, segments, key):
        return (), on_real_steps(lambda xs: self.map(params, xs, "xs"), jnp.asarray(xs), segments.mask)

    def step(self, params, state, x, *, key=None):
        return (), self.map(params, jnp.asarray(x), "x")
