"""Residual: a layer and its input, added."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ..arrays import select
from .base import Layer, check_layer, is_pointwise


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Residual(Layer):
    """`ys = xs + layer(xs)`; padded steps output zero, as `layer` does.

    Where `layer` ends in two directions (`last`), each half of xs is taken where its direction ends; where a `Dense` or the like
    has mixed them, xs is taken at the last real step.
    """

    layer: Layer

    def __post_init__(self) -> None:
        check_layer("Residual", "layer", self.layer)
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
    def parameterless(self) -> bool:
        return self.layer.parameterless

    @property
    def pointwise(self) -> bool:
        return is_pointwise(self.layer)

    @property
    def takes_context(self) -> bool:  # type: ignore[override]
        return self.layer.takes_context

    def bind(self, params: Any, ys: Any, *, lengths: Any = None, mask: Any = None) -> Any:
        return self.layer.bind(params, ys, lengths=lengths, mask=mask)

    def spread(self, params: Any, batch: tuple[int, ...]) -> Any:
        return self.layer.spread(params, batch)

    def attention_weights(self, params: Any, before: Any, after: Any) -> tuple[jax.Array, ...]:
        return self.layer.attention_weights(params, before, after)

    def init(self, key: jax.Array) -> Any:
        return self.layer.init(key)

    def initial_state(self, params: Any, batch: tuple[int, ...] = (), key: jax.Array | None = None) -> Any:
        return self.layer.initial_state(params, batch, key)

    def time_and_batch(self, xs):
        return self.layer.time_and_batch(xs)

    def run(self, params, xs, state, segments, key):
        xs, mask = jnp.asarray(xs), segments.mask
        state, ys = self.layer.run(params, xs, state, segments, key)
        return state, ys + (xs if mask is None else select(mask, xs, jnp.zeros_like(xs)))

    def run_last(self, params, xs, state, segments, key):
        xs = jnp.asarray(xs)
        state, y = self.layer.run_last(params, xs, state, segments, key)
        return state, y + self._at_end(xs, segments.mask)

    def _at_end(self, ys, mask):
        return self.layer._at_end(ys, mask)

    def step(self, params, state, x, *, key=None):
        state, y = self.layer.step(params, state, x, key=key)
        return state, x + y
