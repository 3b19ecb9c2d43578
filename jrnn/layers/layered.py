"""Layered: one layer after the other."""

import dataclasses
from typing import Any

import jax

from .base import Layer, _split


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Layered(Layer):
    """One layer after the other. Parameters and states are tuples with one entry for each layer that has any.

    Stateless layers (`Dropout`) have no entry, so a stack has the same parameters with and without them.
    """

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.layers, tuple) or not self.layers:
            raise TypeError(f"Layered: layers is {self.layers!r}; expected a tuple of at least one layer")
        size = None
        for index, layer in enumerate(self.layers):
            if not isinstance(layer, Layer):
                raise TypeError(
                    f"Layered: layers[{index}] is {layer!r}; expected a Layer: wrap a cell in Recurrent(cell)"
                )
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

    def init(self, key: jax.Array) -> tuple[Any, ...]:
        keys = jax.random.split(key, len(self.layers))
        return tuple(layer.init(k) for layer, k in zip(self.layers, keys, strict=True) if not layer.stateless)

    def initial_state(
        self, params: tuple[Any, ...], batch: tuple[int, ...] = (), key: jax.Array | None = None
    ) -> tuple[Any, ...]:
        return tuple(
            layer.initial_state(p, batch, k)
            for layer, p, k in zip(
                self.layers, self._each(params, "params"), _split(key, len(self.layers)), strict=True
            )
            if not layer.stateless
        )

    def apply(self, params, xs, state=None, *, lengths=None, mask=None, reset=None, key=None):
        def run(layer: Layer, p: Any, s: Any, k: Any, xs: jax.Array) -> tuple[Any, jax.Array]:
            return layer.apply(p, xs, s, lengths=lengths, mask=mask, reset=reset, key=k)

        return self._chain(run, params, state, xs, key)

    def ends(self, ys, real):
        return self.layers[self._final()].ends(ys, real)

    def last(self, params, xs, state=None, *, lengths=None, mask=None, reset=None, key=None):
        final, marks = self._final(), {"lengths": lengths, "mask": mask, "reset": reset}
        places = iter(range(len(self.layers)))

        def run(layer: Layer, p: Any, s: Any, k: Any, x: jax.Array) -> tuple[Any, jax.Array]:
            place = next(places)
            if place > final:
                return layer.step(p, s, x, key=k)
            return (layer.last if place == final else layer.apply)(p, x, s, **marks, key=k)

        return self._chain(run, params, state, xs, key)

    def _final(self) -> int:
        """The place of the last layer that is not stateless: after it every step is on its own."""
        return max((place for place, layer in enumerate(self.layers) if not layer.stateless), default=0)

    def step(self, params, state, x, *, key=None):
        def run(layer: Layer, p: Any, s: Any, k: Any, x: jax.Array) -> tuple[Any, jax.Array]:
            return layer.step(p, s, x, key=k)

        return self._chain(run, params, state, x, key)

    def _chain(self, run: Any, params: Any, state: Any, x: jax.Array, key: Any) -> tuple[tuple[Any, ...], jax.Array]:
        all_params = self._each(params, "params")
        all_states = [None] * len(self.layers) if state is None else self._each(state, "state")
        states = []
        for layer, p, s, k in zip(self.layers, all_params, all_states, _split(key, len(self.layers)), strict=True):
            new, x = run(layer, p, s, k, x)
            if not layer.stateless:
                states.append(new)
        return tuple(states), x

    def _each(self, entries: Any, name: str) -> list[Any]:
        """One entry per layer: () for stateless ones."""
        expected = sum(not layer.stateless for layer in self.layers)
        if not isinstance(entries, tuple) or hasattr(entries, "_fields") or len(entries) != expected:
            given = (
                f"{type(entries).__name__} of {len(entries)}" if isinstance(entries, tuple) else type(entries).__name__
            )
            raise TypeError(
                f"{name} is a {given}; Layered expects a tuple of {expected}, one for each layer that has {name}"
            )
        remaining = iter(entries)
        return [() if layer.stateless else next(remaining) for layer in self.layers]
