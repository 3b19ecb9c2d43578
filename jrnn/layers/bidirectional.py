"""Bidirectional: both directions over the same sequence."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..arrays import feature_shape
from ..checks import check_key_or_legacy
from ..segments import Segments
from .base import Layer, check_layer, split_key
from .recurrent import Recurrent


class Directions(NamedTuple):
    """Parameters, or states, of both directions."""

    forward: Any
    backward: Any


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Bidirectional(Layer):
    """Both directions over the same sequence, outputs side by side: [time, *batch, forward + backward] (Schuster & Paliwal 1997).

    `backward` is a layer that runs in reverse: `Recurrent(cell, reverse=True)`. `one_loop`: a step of each direction in every
    turn of one loop, which equal cells and engines allow; None: on a CPU for a lone row of at most 32 units, for which it is
    faster, and on other backends always, to launch half as many kernels (not measured); not for features of several axes.
    """

    forward: Layer
    backward: Layer
    one_loop: bool | None = dataclasses.field(default=None, kw_only=True)

    pointwise = False

    def __post_init__(self) -> None:
        check_layer("Bidirectional", "forward", self.forward)
        check_layer("Bidirectional", "backward", self.backward)
        if not isinstance(self.one_loop, bool | None):
            raise TypeError(f"Bidirectional: one_loop is {self.one_loop!r}; expected True, False or None")
        if self.one_loop and not self._are_alike():
            raise ValueError(
                f"Bidirectional: one_loop is True, forward {self.forward}, backward {self.backward}; expected "
                "Recurrent(cell) and Recurrent(cell, reverse=True) of equal cells and engines, or one_loop=None"
            )
        if self.forward.input_size != self.backward.input_size:
            raise ValueError(
                f"Bidirectional: forward takes {self.forward.input_size} features, backward {self.backward.input_size}; "
                "expected the same"
            )
        sizes = _axes(self.forward), _axes(self.backward)
        if None not in sizes and sizes[0][:-1] != sizes[1][:-1]:  # type: ignore[index]
            raise ValueError(
                f"Bidirectional: forward gives {list(sizes[0])} features, backward {list(sizes[1])}; "  # type: ignore[arg-type]
                "expected the same but for the last axis"
            )

    @property
    def input_size(self) -> int | None:
        return self.forward.input_size

    @property
    def output_size(self) -> Any:
        sizes = _axes(self.forward), _axes(self.backward)
        if None in sizes:
            return None
        (*axes, forward), (*_, backward) = sizes  # type: ignore[misc]
        return (*axes, forward + backward) if axes else forward + backward

    def init(self, key: jax.Array) -> Directions:
        check_key_or_legacy(key)
        keys = jax.random.split(key)
        return Directions(forward=self.forward.init(keys[0]), backward=self.backward.init(keys[1]))

    def initial_state(
        self, params: Directions, batch: tuple[int, ...] = (), key: jax.Array | None = None
    ) -> Directions:
        forward, backward = split_key(key, 2)
        return Directions(
            forward=self.forward.initial_state(params.forward, batch, forward),
            backward=self.backward.initial_state(params.backward, batch, backward),
        )

    def time_and_batch(self, xs):
        return self.forward.time_and_batch(xs)

    def run(self, params, xs, state, segments, key):
        return self._each_direction("run", params, xs, state, segments, key)

    def run_last(self, params, xs, state, segments, key):
        return self._each_direction("run_last", params, xs, state, segments, key)

    def _each_direction(self, how: str, params: Any, xs: Any, state: Any, segments: Segments, key: Any) -> Any:
        """`run` or `run_last` of both directions."""
        xs = jax.tree.map(jnp.asarray, xs)
        _check_directions("params", params)
        state = Directions(None, None) if state is None else _check_directions("state", state)
        shapes = jax.tree.map(lambda a: (jnp.shape(a), jnp.result_type(a)), (params, state))
        if self._prefers_one_loop(xs) and all(pair.forward == pair.backward for pair in shapes):
            return self._one_loop(how, params, xs, state, segments, key)
        keys = split_key(key, 2)
        forward, y = getattr(self.forward, how)(params.forward, xs, state.forward, segments, keys[0])
        backward, z = getattr(self.backward, how)(params.backward, xs, state.backward, segments, keys[1])
        return Directions(forward=forward, backward=backward), jnp.concatenate([y, z], -1)

    def _prefers_one_loop(self, xs: jax.Array) -> bool:
        # Of the time of two loops on two cores, one took 0.7 to 0.85 in training and 0.6 to 1.1 forward for a lone row of 16 or 32
        # units, and up to 1.2 for more rows or units.
        if self.one_loop is not None:
            return self.one_loop
        axes: Any = _axes(self.forward) or (0,)
        # Convolutions of both would be one in groups, which is another program.
        if not self._are_alike() or len(axes) > 1:
            return False
        small = math.prod(self.time_and_batch(xs)[1:]) == 1 and axes[0] <= 32
        return small or jax.default_backend() != "cpu"

    def _are_alike(self) -> bool:
        """Whether the directions differ in nothing but their direction."""
        match self.forward, self.backward:
            case Recurrent(reverse=False), Recurrent():
                return dataclasses.replace(self.forward, reverse=True) == self.backward
        return False

    def _one_loop(self, how: str, params: Any, xs: jax.Array, state: Any, segments: Segments, key: Any) -> Any:
        """`run` or `run_last` of both directions as two rows of one loop; the backward one takes the steps from the end."""
        each = (
            (params.forward, xs, state.forward, segments),
            (params.backward, xs[::-1], state.backward, _turned(segments)),
        )
        both = jax.tree.map(lambda *rows: jnp.stack(rows), *each)
        run = getattr(self.forward, how)
        states, (y, z) = jax.vmap(lambda given, key: run(*given, key))(both, None if key is None else split_key(key, 2))
        forward, backward = (jax.tree.map(lambda a, row=row: a[row], states) for row in (0, 1))
        return Directions(forward, backward), jnp.concatenate([y, z if how == "run_last" else z[::-1]], -1)

    def _at_end(self, ys, mask):
        forward, backward = jnp.split(ys, [(_axes(self.forward) or (0,))[-1]], axis=-1)
        return jnp.concatenate([self.forward._at_end(forward, mask), self.backward._at_end(backward, mask)], -1)

    def step(self, params, state, x, *, key=None):
        raise TypeError(
            "Bidirectional cannot be streamed: its backward direction needs the whole sequence; use apply, or "
            "rnn(..., bidirectional=False)"
        )


def _axes(layer: Layer) -> tuple[int, ...] | None:
    """The feature axes of a layer's outputs; None where they are those of its inputs."""
    size: Any = layer.output_size
    return None if size is None else feature_shape(size)


def _turned(segments: Segments) -> Segments:
    """The segments of the same sequence from its last step to its first: a document then starts at its last step."""
    mask, reset = segments
    if reset is not None:
        reset = jnp.concatenate([reset[1:], jnp.zeros_like(reset[:1])])[::-1]
    return Segments(None if mask is None else mask[::-1], reset)


def _check_directions(name: str, value: Any) -> Any:
    if not isinstance(value, Directions):
        raise TypeError(f"{name} is a {type(value).__name__}; Bidirectional expects Directions(forward, backward)")
    return value
