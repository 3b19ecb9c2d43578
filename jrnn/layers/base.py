"""Layer: from sequence to sequence, `init` and `apply`; a causal one also runs one `step` at a time."""

import abc
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ..arrays import feature_shape, select
from ..checks import check_key, describe
from ..segments import Segments, make_segments


class Layer(abc.ABC):
    """Sequence to sequence. A frozen dataclass of hyperparameters, registered with `jax.tree_util.register_static`.

    A new layer writes `init`, `initial_state`, `run` and `step`; `apply` and `last` follow. Or it writes `apply` itself in place
    of `run`: inside other layers it is then given `mask` and `reset`, and no `lengths`, which `mask` includes.
    """

    input_size: int | None
    """Features of xs; None: any, or tokens (an embedding)."""
    output_size: int | None
    """Features of ys; None: as many as xs has."""
    parameterless: bool = False
    """True: no parameters and no state (dropout); a stack has no entry for it."""
    batch_first: bool = False
    """True: arrays are [batch, time, ...] (`BatchFirst`)."""
    pointwise: bool | None = None
    """True: each output follows from the input at its own step alone (an embedding, `Dense`). None: so if the layer has no state
    and its `step` runs, which raises TypeError where other steps are needed. The run of a stack ends (`last`) where its last layer
    that is not pointwise ends."""

    takes_context: bool = False
    """True: something in it attends to a sequence, which `bind` gives it."""

    @abc.abstractmethod
    def init(self, key: jax.Array) -> Any:
        """Fresh parameters, in JAX's default float (float32, unless `jax_enable_x64` is set)."""

    @abc.abstractmethod
    def initial_state(self, params: Any, batch: tuple[int, ...] = (), key: jax.Array | None = None) -> Any:
        """The state before the first step; `key` drives the noise of cells that have some."""

    def apply(
        self,
        params: Any,
        xs: Any,
        state: Any = None,
        *,
        lengths: jax.Array | None = None,
        mask: jax.Array | None = None,
        reset: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> tuple[Any, jax.Array]:
        """xs [time, *batch, input] -> (final state, ys [time, *batch, output]).

        `lengths`, `mask` and `reset` as in `unroll`. `key` is for dropout and noise; without one there is neither. A `state` that
        holds keys of its own draws its noise from these.
        """
        return self.run(params, xs, state, self._segments(xs, lengths, mask, reset, key), key)

    def last(
        self,
        params: Any,
        xs: Any,
        state: Any = None,
        *,
        lengths: jax.Array | None = None,
        mask: jax.Array | None = None,
        reset: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> tuple[Any, jax.Array]:
        """As `apply`, with the output at the end of the run alone: [*batch, output].

        The run ends at the last real step, that of a reversed layer at the first, and each half of a `Bidirectional` where its
        direction does. A row without real steps ends in zeros. A `Recurrent` layer reads the output from its state, so under
        `jit` its outputs over time are never stacked.
        """
        return self.run_last(params, xs, state, self._segments(xs, lengths, mask, reset, key), key)

    @abc.abstractmethod
    def step(self, params: Any, state: Any, x: jax.Array, *, key: jax.Array | None = None) -> tuple[Any, jax.Array]:
        """One time step: x [*batch, input] -> (new state, y [*batch, output]); the same numbers as `apply`.

        `key` is for dropout. The noise of a cell comes from the keys in its state: `initial_state(params, batch, key)`.
        """

    def run(self, params: Any, xs: Any, state: Any, segments: Segments, key: jax.Array | None) -> tuple[Any, jax.Array]:
        """What `apply` does, inside another layer: `lengths`, `mask` and `reset` are checked and are one argument."""
        if type(self).apply is Layer.apply:
            raise NotImplementedError(f"{type(self).__name__} has neither run nor apply; expected one of the two")
        return self.apply(params, xs, state, **segments._asdict(), key=key)

    def run_last(
        self, params: Any, xs: Any, state: Any, segments: Segments, key: jax.Array | None
    ) -> tuple[Any, jax.Array]:
        """What `last` does, inside another layer. A layer whose run ends elsewhere than at the last real step writes its own."""
        if type(self).last is not Layer.last:
            return self.last(params, xs, state, **segments._asdict(), key=key)
        state, ys = self.run(params, xs, state, segments, key)
        return state, self._at_end(ys, segments.mask)

    def bind(self, params: Any, ys: Any, *, lengths: Any = None, mask: Any = None) -> Any:
        """Parameters with outputs `ys` [source, *batch, ...] bound to them, for what in this layer attends.

        They go where the parameters go, in `apply` and `step`. `lengths` or `mask` [source, *batch] say which positions are real.
        """
        return params

    def spread(self, params: Any, batch: tuple[int, ...]) -> Any:
        """Bound parameters for more batch axes in `step`: hypotheses of each row, which share what it attends to."""
        return params

    def attention_weights(self, params: Any, before: Any, after: Any) -> tuple[jax.Array, ...]:
        """Where a step attended to, [*batch, source] for each cell that attends, from the states before and after it."""
        return ()

    def time_and_batch(self, xs: Any) -> tuple[int, ...]:
        """The axes (time, *batch) of `xs`: all but those of its features. Tokens, which are integers, have no features."""
        xs = jnp.asarray(xs)
        if self.input_size is None and jnp.issubdtype(xs.dtype, jnp.integer):
            return xs.shape
        features = len(feature_shape(self.input_size))
        return xs.shape[: xs.ndim - features]

    def _at_end(self, ys: jax.Array, mask: jax.Array | None) -> jax.Array:
        """Of the outputs ys [time, *batch, output] those at the end of the run, [*batch, output]."""
        return at_step(last_step, ys, mask)

    def _segments(self, xs: Any, lengths: Any, mask: Any, reset: Any, key: Any) -> Segments:
        if key is not None:
            check_key(key)
        time_and_batch = self.time_and_batch(xs)
        if not time_and_batch or time_and_batch[0] == 0:
            lacks = "time steps" if time_and_batch else "time axis"
            raise ValueError(
                f"xs is {describe(xs)}, with no {lacks}; {self} expects [time, *batch, ...] with at least one step: leave out the "
                "call, or mark padded steps with lengths or mask"
            )
        return make_segments(lengths, mask, reset, time_and_batch)


def is_pointwise(layer: Layer) -> bool:
    """What the layer says of itself; of one that says nothing, whether it has no state and a `step` that runs."""
    return _steps_alone(layer) if layer.pointwise is None else layer.pointwise


@functools.lru_cache(maxsize=1024)
def _steps_alone(layer: Layer) -> bool:
    params = jax.eval_shape(layer.init, jax.random.key(0))
    if jax.tree.leaves(jax.eval_shape(layer.initial_state, params)):
        return False
    dtype = next((leaf.dtype for leaf in jax.tree.leaves(params)), jnp.float32)
    features = feature_shape(layer.input_size or 1)
    x = jax.ShapeDtypeStruct(features, dtype)
    try:
        jax.eval_shape(lambda params, x: layer.step(params, layer.initial_state(params), x), params, x)
    except (NotImplementedError, TypeError, ValueError):
        return False
    return True


def check_layer(owner: str, name: str, layer: Any) -> None:
    """`layer` is a time-first layer."""
    if not isinstance(layer, Layer):
        raise TypeError(f"{owner}: {name} is {layer!r}; expected a Layer: wrap a cell in Recurrent(cell)")
    if layer.batch_first:
        raise TypeError(
            f"{owner}: {name} is {layer}; expected a layer that is time first: BatchFirst goes around the outermost layer, or "
            "turn the arrays with jnp.swapaxes(xs, 0, 1)"
        )


def split_key(key: jax.Array | None, parts: int) -> Any:
    """As many keys; None each where there is none."""
    if key is None:
        return [None] * parts
    check_key(key)
    return jax.random.split(key, parts)


def last_step(mask: jax.Array) -> jax.Array:
    """The last real step of each row: int32 [*batch]."""
    return mask.shape[0] - 1 - jnp.argmax(mask[::-1], axis=0).astype(jnp.int32)


def first_step(mask: jax.Array) -> jax.Array:
    """The first real step of each row: int32 [*batch]."""
    return jnp.argmax(mask, axis=0).astype(jnp.int32)


def at_step(step: Callable[[jax.Array], jax.Array], ys: jax.Array, mask: jax.Array | None) -> jax.Array:
    """ys [time, *batch, ...] at the first or last real step of each row: [*batch, ...]; zeros where there is none."""
    if mask is None:
        return ys[0] if step is first_step else ys[-1]
    ys = select(mask, ys, jnp.zeros_like(ys))
    index = step(mask).reshape(1, *mask.shape[1:], *(1,) * (ys.ndim - mask.ndim))
    return jnp.take_along_axis(ys, index, axis=0)[0]


def on_real_steps(f: Callable[[jax.Array], jax.Array], xs: jax.Array, mask: jax.Array | None) -> jax.Array:
    """`f(xs)` with zeros at padded steps; what `xs` holds there, NaN too, reaches nothing."""
    if mask is None:
        return f(xs)
    ys = f(select(mask, xs, jnp.zeros_like(xs)))
    return select(mask, ys, jnp.zeros_like(ys))
