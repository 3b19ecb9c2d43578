"""Layers: from sequence to sequence, `init` and `apply`; a stack of causal ones also runs one `step` at a time."""

import abc
import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .arrays import select
from .cell import Cell
from .checks import check_flags, check_input, check_key, check_params, check_positive
from .engines import Engine, Scan
from .segments import step_mask
from .unroll import unroll


class Layer(abc.ABC):
    """Sequence to sequence. A frozen dataclass of hyperparameters, registered with `jax.tree_util.register_static`."""

    input_size: int | None
    """Features of xs; None: any, or tokens (an embedding)."""
    output_size: int | None
    """Features of ys; None: as many as xs has."""
    stateless: bool = False
    """True: no parameters and no state (dropout)."""

    @abc.abstractmethod
    def init(self, key: jax.Array) -> Any:
        """Fresh parameters, in JAX's default float (float32, unless `jax_enable_x64` is set)."""

    @abc.abstractmethod
    def initial_state(self, params: Any, batch: tuple[int, ...] = (), key: jax.Array | None = None) -> Any:
        """The state before the first step; `key` drives the noise of cells that have some."""

    @abc.abstractmethod
    def apply(
        self,
        params: Any,
        xs: jax.Array,
        state: Any = None,
        *,
        lengths: jax.Array | None = None,
        mask: jax.Array | None = None,
        reset: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> tuple[Any, jax.Array]:
        """xs [time, *batch, input] -> (final state, ys [time, *batch, output]).

        `lengths`, `mask` and `reset` as in `unroll`. `key` is for dropout and noise; without one there is neither.
        """

    @abc.abstractmethod
    def step(self, params: Any, state: Any, x: jax.Array, *, key: jax.Array | None = None) -> tuple[Any, jax.Array]:
        """One time step: x [*batch, input] -> (new state, y [*batch, output]); the same numbers as `apply`."""

    def ends(self, ys: jax.Array, real: jax.Array | None) -> jax.Array:
        """Of the outputs ys [time, *batch, output] those at the end of the run, [*batch, output]: at the last real step.

        A reversed layer ends at the first real step, and each half of a `Bidirectional` where its direction does. A row without
        real steps ends in zeros. `real` is bool [time, *batch], or None where every step is.
        """
        return _at(_last_step, ys, real)

    def last(
        self,
        params: Any,
        xs: jax.Array,
        state: Any = None,
        *,
        lengths: jax.Array | None = None,
        mask: jax.Array | None = None,
        reset: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> tuple[Any, jax.Array]:
        """As `apply`, with the output at the end of the run alone: [*batch, output], as `ends` picks it.

        A `Recurrent` layer reads it from its state, so under `jit` its outputs over time are never stacked.
        """
        state, ys = self.apply(params, xs, state, lengths=lengths, mask=mask, reset=reset, key=key)
        return state, self.ends(ys, step_mask(lengths, mask, ys.shape[:-1]))


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Recurrent(Layer):
    """A cell unrolled over time; its parameters and state are the cell's own."""

    cell: Cell
    reverse: bool = dataclasses.field(default=False, kw_only=True)
    engine: Engine = dataclasses.field(default=Scan(), kw_only=True)

    @property
    def input_size(self) -> int:
        return self.cell.input_size

    @property
    def output_size(self) -> int:
        return self.cell.output_size

    def init(self, key: jax.Array) -> Any:
        return self.cell.init(key)

    def initial_state(self, params: Any, batch: tuple[int, ...] = (), key: jax.Array | None = None) -> Any:
        return self.cell.initial_state(params, batch, key)

    def apply(self, params, xs, state=None, *, lengths=None, mask=None, reset=None, key=None):
        if state is None and key is not None:
            check_input(self.cell, xs, check_params(self.cell, params), "xs", time=True)
            state = self.cell.initial_state(params, xs.shape[1:-1], key)
        return unroll(
            self.cell,
            params,
            xs,
            state,
            lengths=lengths,
            mask=mask,
            reset=reset,
            reverse=self.reverse,
            engine=self.engine,
        )

    def ends(self, ys, real):
        return _at(_first_step if self.reverse else _last_step, ys, real)

    def last(self, params, xs, state=None, *, lengths=None, mask=None, reset=None, key=None):
        state, _ = self.apply(params, xs, state, lengths=lengths, mask=mask, reset=reset, key=key)
        real = step_mask(lengths, mask, xs.shape[:-1])
        y = self.cell.readout(params, state, self.ends(xs, real))
        return state, y if real is None else select(real.any(0), y, jnp.zeros_like(y))

    def step(self, params, state, x, *, key=None):
        if self.reverse:
            raise TypeError(f"{self} runs from the last step to the first and cannot be streamed; use apply")
        return self.cell.step(params, state, x)


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
            restart = jnp.concatenate([reset[1:], jnp.zeros_like(reset[:1])])
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


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Dropout(Layer):
    """Zeroes a share `rate` of the features and scales the rest by 1 / (1 - rate), while there is a key (Srivastava et al. 2014).

    Per step by default; `variational`: the same features at every step of a row (Gal & Ghahramani 2016). In `step` the mask
    follows the key: pass the same key at every step for variational dropout, a new one for each step otherwise.
    """

    rate: float
    variational: bool = dataclasses.field(default=False, kw_only=True)

    input_size = None
    output_size = None
    stateless = True

    def __post_init__(self) -> None:
        if not 0 <= self.rate < 1:
            raise ValueError(f"Dropout: rate is {self.rate}; expected a share in [0, 1)")

    def init(self, key: jax.Array) -> tuple[()]:
        return ()

    def initial_state(self, params: Any, batch: tuple[int, ...] = (), key: jax.Array | None = None) -> tuple[()]:
        return ()

    def apply(self, params, xs, state=None, *, lengths=None, mask=None, reset=None, key=None):
        if key is None or self.rate == 0:
            return (), xs
        keep = self._keep(key, xs.shape[1:] if self.variational else xs.shape)
        return (), jnp.where(jnp.broadcast_to(keep, xs.shape), xs / (1 - self.rate), jnp.zeros_like(xs))

    def step(self, params, state, x, *, key=None):
        if key is None or self.rate == 0:
            return (), x
        return (), jnp.where(self._keep(key, x.shape), x / (1 - self.rate), jnp.zeros_like(x))

    def _keep(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        check_key(key)
        return jax.random.bernoulli(key, 1 - self.rate, shape)


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


def rnn(
    cell: type[Cell],
    *,
    input_size: int,
    hidden_size: int,
    num_layers: int = 1,
    bidirectional: bool = False,
    dropout: float = 0.0,
    engine: Engine = Scan(),  # noqa: B008, frozen
    **options: Any,
) -> Layered:
    """A stack as PyTorch's `nn.RNN`, `nn.LSTM`, `nn.GRU` build it: each layer feeds the next, dropout between layers.

    `cell` is a class such as `jrnn.LSTM`; `options` go to each of its cells. With `bidirectional`, each layer after the first
    reads both directions of the layer before it.
    """
    check_positive("rnn", input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
    layers: list[Layer] = []
    for index in range(num_layers):
        if index and dropout:
            layers.append(Dropout(dropout))
        one = cell(input_size, hidden_size, **options)  # type: ignore[call-arg]
        layer: Layer = Recurrent(one, engine=engine)
        if bidirectional:
            layer = Bidirectional(forward=layer, backward=Recurrent(one, reverse=True, engine=engine))
        layers.append(layer)
        input_size = layer.output_size or input_size
    return Layered(tuple(layers))


def _last_step(real: jax.Array) -> jax.Array:
    """The last real step of each row: int32 [*batch]."""
    return len(real) - 1 - jnp.argmax(real[::-1], axis=0).astype(jnp.int32)


def _first_step(real: jax.Array) -> jax.Array:
    return jnp.argmax(real, axis=0).astype(jnp.int32)


def _at(step: Any, ys: jax.Array, real: jax.Array | None) -> jax.Array:
    """ys [time, *batch, features] at one real step of each row; zeros where there is none."""
    if real is None:
        return ys[0] if step is _first_step else ys[-1]
    ys = select(real, ys, jnp.zeros_like(ys))
    return jnp.take_along_axis(ys, step(real)[None, ..., None], axis=0)[0]


def _split(key: jax.Array | None, parts: int) -> Any:
    if key is None:
        return [None] * parts
    check_key(key)
    return jax.random.split(key, parts)


def _check_pair(owner: Layer, value: Any, name: str, expected: type) -> Any:
    if not isinstance(value, expected):
        raise TypeError(
            f"{name} is a {type(value).__name__}; {type(owner).__name__} expects {expected.__name__}(forward, backward)"
        )
    return value
