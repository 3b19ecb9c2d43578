"""Truncated back-propagation that looks further back than the window."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..arrays import differentiable, feature_shape, select_values, vector, with_differentiable
from ..checks import check_positive
from .method import Method, Window, after


class Replay(NamedTuple):
    """The last steps, to be run again."""

    state: Any  # before them
    fresh: jax.Array  # bool []: that state is the initial one, which parameters may have made
    window: Window  # [steps, ...] each; all padded before the start


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Truncated(Method[Replay]):
    """Back-propagation through the window and `steps` steps before it, which are run again: TBPTT(k1, k2) of Williams & Peng
    (1990), with k1 the window and k2 = k1 + steps.

    The trace holds a state and the inputs of `steps` steps. Without it (a layer that is not `Online`) k2 = k1.
    """

    steps: int

    def __post_init__(self) -> None:
        check_positive("Truncated", steps=self.steps)

    def init(self, layer, params, state, key):
        features, dtype = _inputs(layer, state)
        nowhere = jnp.zeros(self.steps, bool)
        window = Window(jnp.zeros((self.steps, *features), dtype), nowhere, jnp.copy(nowhere))
        return Replay(jax.tree.map(jnp.copy, state), jnp.array(True), window)

    def push(self, layer, params, state, trace, dparams):
        def run(p: list[jax.Array]) -> jax.Array:
            params_of_p = with_differentiable(params, p)
            start = select_values(trace.fresh, layer.initial_state(params_of_p), trace.state)
            return vector(after(layer, params_of_p, start, trace.window))

        return jax.jvp(run, (differentiable(params),), (dparams,))[1]

    def advance(self, layer, params, state, trace, window):
        xs, mask, reset = window
        real = jnp.ones(xs.shape[0], bool)
        now = Window(
            xs.astype(trace.window.xs.dtype), real if mask is None else mask, ~real if reset is None else reset
        )
        both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), trace.window, now)
        gone, kept = jax.tree.map(lambda a: a[: len(real)], both), jax.tree.map(lambda a: a[len(real) :], both)
        # The steps after the last real one, where there is one.
        since = jnp.arange(len(real)) >= len(real) - jnp.argmax(gone.mask[::-1])
        fresh = jnp.where(gone.mask.any(), (gone.reset & since).any(), trace.fresh | gone.reset.any())
        return Replay(after(layer, params, trace.state, gone), fresh, kept)


def _inputs(layer: Any, state: Any) -> tuple[tuple[int, ...], Any]:
    """Feature axes and dtype of the inputs of a layer; tokens, which have none, where it has no `input_size`."""
    if layer.input_size is None:
        return (), jnp.int32
    features = feature_shape(layer.input_size)
    return features, next((a.real.dtype for a in differentiable(state)), jnp.float32)
