"""BatchFirst: a layer for arrays whose batch axis comes before time."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ..checks import check_flags, describe
from .base import Layer, check_layer, is_pointwise


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class BatchFirst(Layer):
    """A layer for arrays [batch, time, ...]: xs [batch, time, *more batch axes, input] -> ys [batch, time, ..., output].

    The first two axes of xs, `mask`, `reset` and ys change places. Parameters, states, `lengths` [batch, ...], what `last` gives,
    [batch, ..., output], and `step` are the layer's own, which have no time axis. It goes around the outermost layer.
    """

    layer: Layer

    batch_first = True

    def __post_init__(self) -> None:
        check_layer("BatchFirst", "layer", self.layer)

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

    def init(self, key: jax.Array) -> Any:
        return self.layer.init(key)

    def initial_state(self, params: Any, batch: tuple[int, ...] = (), key: jax.Array | None = None) -> Any:
        return self.layer.initial_state(params, batch, key)

    def apply(self, params, xs, state=None, *, lengths=None, mask=None, reset=None, key=None):
        """xs [batch, time, ..., input] -> (final state, ys [batch, time, ..., output])."""
        xs, mask, reset = self._time_first(xs, mask, reset)
        state, ys = self.layer.apply(params, xs, state, lengths=lengths, mask=mask, reset=reset, key=key)
        return state, jnp.swapaxes(ys, 0, 1)

    def last(self, params, xs, state=None, *, lengths=None, mask=None, reset=None, key=None):
        """xs [batch, time, ..., input] -> (final state, the output at the end of the run [batch, ..., output])."""
        xs, mask, reset = self._time_first(xs, mask, reset)
        return self.layer.last(params, xs, state, lengths=lengths, mask=mask, reset=reset, key=key)

    def step(self, params, state, x, *, key=None):
        return self.layer.step(params, state, x, key=key)

    def time_and_batch(self, xs):
        return self.layer.time_and_batch(_swapped(xs))

    def _time_first(self, xs: Any, mask: Any, reset: Any) -> tuple[Any, Any, Any]:
        """The same with time first; checked here, where axes can be named as they were given."""
        xs = jax.tree.map(jnp.asarray, xs)
        if any(leaf.ndim < 2 for leaf in jax.tree.leaves(xs)) or len(self.time_and_batch(xs)) < 2:
            raise ValueError(
                f"xs is {describe(xs)}; {self} expects [batch, time, ...] and features: a sequence without a batch goes to "
                "its layer"
            )
        time, batch, *more = self.time_and_batch(xs)
        for name, flags in (("mask", mask), ("reset", reset)):
            if flags is not None:
                check_flags(flags, name, (batch, time, *more))
        return _swapped((xs, mask, reset))


def _swapped(tree: Any) -> Any:
    """With the first two axes of each array in each other's place."""
    return jax.tree.map(lambda a: jnp.swapaxes(jnp.asarray(a), 0, 1), tree)
