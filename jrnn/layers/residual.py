"""Residual: a layer and its input, added."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ..arrays import select
from ..segments import step_mask
from .base import Layer


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Residual(Layer):
    """`ys = xs + layer(xs)`; padded steps output zero, as `layer` does."""

    layer: Layer

    def __post_init__(self) -> None:
        if self.layer.input_size != self.layer.output_size:
            raise ValueError(
                f"Residual: layer takes {self.layer.input_size} features and gives {self.layer.output_size}; expected the same"
            )

    @property
    def input_size(self) -> int | None:
        return self.layer.input_size

    @property
    def output_size(self) -> int | None:
        return self.layer.output_size

    @property
    def stateless(self) -> bool:
        return self.layer.stateless

    def init(self, key: jax.Array) -> Any:
        return self.layer.init(key)

    def initial_state(self, params: Any, batch: tuple[int, ...] = (), key: jax.Array | None = None) -> Any:
        return self.layer.initial_state(params, batch, key)

    def apply(self, params, xs, state=None, *, lengths=None, mask=None, reset=None, key=None):
        state, ys = self.layer.apply(params, xs, state, lengths=lengths, mask=mask, reset=reset, key=key)
        real = step_mask(lengths, mask, ys.shape[:-1])
        return state, ys + (xs if real is None else select(real, xs, jnp.zeros_like(xs)))

    def ends(self, ys, real):
        return self.layer.ends(ys, real)

    def step(self, params, state, x, *, key=None):
        state, y = self.layer.step(params, state, x, key=key)
        return state, x + y
