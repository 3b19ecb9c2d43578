"""Layered: one layer after the other."""

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp

from ..arrays import select
from ..checks import check_key_or_legacy
from .base import Layer, at_step, check_layer, is_pointwise, last_step, split_key


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Layered(Layer):
    """One layer after the other. Parameters and states are tuples with one entry for each layer that has any.

    Parameterless layers (`Dropout`) have no entry, so a stack has the same parameters with and without them.
    """

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.layers, tuple) or not self.layers:
            raise TypeError(f"Layered: layers is {self.layers!r}; expected a tuple of at least one layer")
        size = None
        for index, layer in enumerate(self.layers):
            check_layer("Layered", f"layers[{index}]", layer)
            if None not in (size, layer.input_size) and size != layer.input_size:
                raise ValueError(
                    f"Layered: layers[{index}] takes {layer.input_size} features but is given {size} by the layer before it"
                )
            size = layer.output_size or size

    @property
    def input_size(self) -> int | None:
        decides = (layer for layer in self.layers if (layer.input_size, layer.output_size) != (None, None))
        return next((layer.input_size for layer in decides), None)

    @property
    def output_size(self) -> int | None:
        return next((layer.output_size for layer in reversed(self.layers) if layer.output_size is not None), None)

    @property
    def pointwise(self) -> bool:
        return all(is_pointwise(layer) for layer in self.layers)

    @property
    def takes_context(self) -> bool:  # type: ignore[override]
        return any(layer.takes_context for layer in self.layers)

    def bind(self, params: Any, ys: Any, *, lengths: Any = None, mask: Any = None) -> Any:
        return self._each(lambda layer, p: layer.bind(p, ys, lengths=lengths, mask=mask), params)

    def spread(self, params: Any, batch: tuple[int, ...]) -> Any:
        return self._each(lambda layer, p: layer.spread(p, batch), params)

    def attention_weights(self, params: Any, before: Any, after: Any) -> tuple[jax.Array, ...]:
        each = zip(self._entries(params, "params"), self._entries(before, "state"), self._entries(after, "state"))
        found = [layer.attention_weights(*one) for layer, one in zip(self.layers, each, strict=True)]
        return tuple(itertools.chain(*found))

    def _each(self, f: Any, params: Any) -> tuple[Any, ...]:
        """`f(layer, params)` for each layer that has any."""
        pairs = zip(self.layers, self._entries(params, "params"), strict=True)
        return tuple(f(layer, p) for layer, p in pairs if not layer.parameterless)

    def init(self, key: jax.Array) -> tuple[Any, ...]:
        check_key_or_legacy(key)
        keys = jax.random.split(key, len(self.layers))
        return tuple(layer.init(k) for layer, k in zip(self.layers, keys, strict=True) if not layer.parameterless)

    def initial_state(
        self, params: tuple[Any, ...], batch: tuple[int, ...] = (), key: jax.Array | None = None
    ) -> tuple[Any, ...]:
        each = zip(self.layers, self._entries(params, "params"), split_key(key, len(self.layers)), strict=True)
        return tuple(layer.initial_state(p, batch, k) for layer, p, k in each if not layer.parameterless)

    def time_and_batch(self, xs):
        return self.layers[0].time_and_batch(xs)

    def run(self, params, xs, state, segments, key):
        def one(layer: Layer, p: Any, s: Any, k: Any, xs: Any) -> tuple[Any, jax.Array]:
            return layer.run(p, xs, s, segments, k)

        return self._through(one, params, state, xs, key)

    def run_last(self, params, xs, state, segments, key):
        ending, places = self._ending(), iter(range(len(self.layers)))

        def one(layer: Layer, p: Any, s: Any, k: Any, x: Any) -> tuple[Any, jax.Array]:
            place = next(places)
            if place > ending:
                return layer.step(p, layer.initial_state(p) if s is None else s, x, key=k)
            return (layer.run_last if place == ending else layer.run)(p, x, s, segments, k)

        state, y = self._through(one, params, state, xs, key)
        if segments.mask is not None and ending < len(self.layers) - 1:
            y = select(segments.mask.any(0), y, jnp.zeros_like(y))
        return state, y

    def _at_end(self, ys, mask):
        # Where a pointwise layer with parameters comes last, a feature no longer belongs to one direction.
        ending = self._ending()
        as_the_layer = all(layer.parameterless for layer in self.layers[ending + 1 :])
        return self.layers[ending]._at_end(ys, mask) if as_the_layer else at_step(last_step, ys, mask)

    def _ending(self) -> int:
        """The place of the last layer that is not pointwise: the run ends where that one ends."""
        return max((place for place, layer in enumerate(self.layers) if not is_pointwise(layer)), default=0)

    def step(self, params, state, x, *, key=None):
        def one(layer: Layer, p: Any, s: Any, k: Any, x: Any) -> tuple[Any, jax.Array]:
            return layer.step(p, s, x, key=k)

        return self._through(one, params, state, x, key)

    def _through(self, one: Any, params: Any, state: Any, x: Any, key: Any) -> tuple[tuple[Any, ...], jax.Array]:
        """`one(layer, params, state, key, x) -> (state, x)` for each layer in turn."""
        all_params = self._entries(params, "params")
        all_states = [None] * len(self.layers) if state is None else self._entries(state, "state")
        states = []
        for layer, p, s, k in zip(self.layers, all_params, all_states, split_key(key, len(self.layers)), strict=True):
            new, x = one(layer, p, s, k, x)
            if not layer.parameterless:
                states.append(new)
        return tuple(states), x

    def _entries(self, entries: Any, name: str) -> list[Any]:
        """One entry per layer: () for parameterless ones."""
        expected = sum(not layer.parameterless for layer in self.layers)
        if not isinstance(entries, tuple) or hasattr(entries, "_fields") or len(entries) != expected:
            given = (
                f"{type(entries).__name__} of {len(entries)}" if isinstance(entries, tuple) else type(entries).__name__
            )
            raise TypeError(
                f"{name} is a {given}; Layered expects a tuple of {expected}, one for each layer that has {name}"
            )
        remaining = iter(entries)
        return [() if layer.parameterless else next(remaining) for layer in self.layers]
