"""Bidirectional: both directions over the same sequence."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..checks import check_flags, check_input, check_params
from ..segments import step_mask
from ..unroll import restarts
from .base import Layer, _split
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
    faster, and on other backends always, to launch half as many kernels (not measured).
    """

    forward: Layer
    backward: Layer
    one_loop: bool | None = dataclasses.field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if self.one_loop not in (None, True, False):
            raise ValueError(f"Bidirectional: one_loop is {self.one_loop!r}; expected True, False or None")
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

    @property
    def input_size(self) -> int | None:
        return self.forward.input_size

    @property
    def output_size(self) -> int | None:
        sizes = (self.forward.output_size, self.backward.output_size)
        return None if None in sizes else sum(size for size in sizes if size is not None)

    def init(self, key: jax.Array) -> Directions:
        keys = jax.random.split(key)
        return Directions(forward=self.forward.init(keys[0]), backward=self.backward.init(keys[1]))

    def initial_state(
        self, params: Directions, batch: tuple[int, ...] = (), key: jax.Array | None = None
    ) -> Directions:
        forward, backward = _split(key, 2)
        return Directions(
            forward=self.forward.initial_state(params.forward, batch, forward),
            backward=self.backward.initial_state(params.backward, batch, backward),
        )

    def apply(self, params, xs, state=None, *, lengths=None, mask=None, reset=None, key=None):
        return self._both("apply", params, xs, state, {"lengths": lengths, "mask": mask, "reset": reset}, key)

    def _both(self, how: str, params: Any, xs: jax.Array, state: Any, marks: dict[str, Any], key: Any) -> Any:
        """`apply` or `last` of both directions."""
        _check_pair(self, params, "params", Directions)
        state = Directions(None, None) if state is None else _check_pair(self, state, "state", Directions)
        shapes = jax.tree.map(lambda a: (jnp.shape(a), jnp.result_type(a)), (params, state))
        if self._prefers_one_loop(xs) and all(pair.forward == pair.backward for pair in shapes):
            return self._at_once(how, params, xs, state, **marks, key=key)
        keys = _split(key, 2)
        forward, y = getattr(self.forward, how)(params.forward, xs, state.forward, **marks, key=keys[0])
        backward, z = getattr(self.backward, how)(params.backward, xs, state.backward, **marks, key=keys[1])
        return Directions(forward=forward, backward=backward), jnp.concatenate([y, z], -1)

    def _prefers_one_loop(self, xs: jax.Array) -> bool:
        # Of the time of two loops on two cores, one took 0.7 to 0.85 in training and 0.6 to 1.1 forward for a lone row of 16 or 32
        # units, and up to 1.2 for more rows or units.
        if self.one_loop is not None:
            return self.one_loop
        small = math.prod(jnp.shape(xs)[1:-1]) == 1 and (self.forward.output_size or 0) <= 32
        return self._are_alike() and (small or jax.default_backend() != "cpu")

    def _are_alike(self) -> bool:
        """Whether the directions differ in nothing but their direction."""
        match self.forward, self.backward:
            case Recurrent(reverse=False), Recurrent():
                return dataclasses.replace(self.forward, reverse=True) == self.backward
        return False

    def _at_once(self, how, params, xs, state, *, lengths, mask, reset, key):
        """`apply` or `last` of both directions as two rows of one loop; the backward one takes the steps from the end."""
        xs = jnp.asarray(xs)
        check_input(self.forward, xs, check_params(self.forward, params.forward), "xs", time=True)
        lengths, mask, reset = (a if a is None else jnp.asarray(a) for a in (lengths, mask, reset))
        real = step_mask(lengths, mask, xs.shape[:-1])
        restart = None
        if reset is not None:
            check_flags(reset, "reset", xs.shape[:-1])
            restart = restarts(reset, real, reverse=True)
        turned = jax.tree.map(lambda a: a[::-1], (xs, real, restart))

        def run(given: tuple[Any, ...], key: Any) -> tuple[Any, jax.Array]:
            params, state, (xs, real, reset) = given
            return getattr(self.forward, how)(params, xs, state, mask=real, reset=reset, key=key)

        each = (params.forward, state.forward, (xs, real, reset)), (params.backward, state.backward, turned)
        both = jax.tree.map(lambda *rows: jnp.stack(rows), *each)
        states, (y, z) = jax.vmap(run)(both, None if key is None else _split(key, 2))
        forward, backward = (jax.tree.map(lambda a, row=row: a[row], states) for row in (0, 1))
        return Directions(forward, backward), jnp.concatenate([y, z if how == "last" else z[::-1]], -1)

    def ends(self, ys, real):
        forward, backward = jnp.split(ys, [self.forward.output_size or 0], axis=-1)
        return jnp.concatenate([self.forward.ends(forward, real), self.backward.ends(backward, real)], -1)

    def last(self, params, xs, state=None, *, lengths=None, mask=None, reset=None, key=None):
        return self._both("last", params, xs, state, {"lengths": lengths, "mask": mask, "reset": reset}, key)

    def step(self, params, state, x, *, key=None):
        raise TypeError(
            "Bidirectional cannot be streamed: its backward direction needs the whole sequence; use apply, or "
            "rnn(..., bidirectional=False)"
        )


def _check_pair(owner: Layer, value: Any, name: str, expected: type) -> Any:
    if not isinstance(value, expected):
        raise TypeError(
            f"{name} is a {type(value).__name__}; {type(owner).__name__} expects {expected.__name__}(forward, backward)"
        )
    return value
