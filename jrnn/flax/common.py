"""What the two wrappers share: Flax's conventions for a sequence, and a Flax cell's whole step as a jrnn cell."""

import abc
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.interpreters.partial_eval import dce_jaxpr

from ..arrays import feature_shape, is_key
from ..cell import Cell
from ..cells.noise import split_each
from ..cells.wrapper import divide_key
from ..checks import check_flags, check_params, describe
from ..layers import BatchFirst, Layer, Recurrent


def as_layer(cell: Any) -> Layer:
    """A cell as the layer that unrolls it; a layer as it is."""
    if isinstance(cell, Cell):
        return Recurrent(cell)
    if not isinstance(cell, Layer):
        raise TypeError(
            f"cell is a {type(cell).__name__}; expected a cell or layer of jrnn, such as jrnn.LSTM(input_size, hidden_size): "
            "wrap a cell of Flax's own in FlaxCell"
        )
    if isinstance(cell, BatchFirst):
        raise TypeError(
            f"cell is {cell}; expected a layer that is time first, {cell.layer}: RNN has time_major for that"
        )
    return cell


def check_cell(cell: Any) -> None:
    if not isinstance(cell, Cell):
        raise TypeError(f"cell is a {type(cell).__name__}; expected a cell of jrnn: a layer goes into jrnn's own RNN")


def run(
    layer: Layer,
    params: Any,
    inputs: Any,
    carry: Any,
    *,
    key: jax.Array | None,
    seq_lengths: Any,
    mask: Any,
    reset: Any,
    time_major: bool,
    reverse: bool,
    keep_order: bool,
) -> tuple[Any, jax.Array]:
    """`layer.apply` with the arguments of Flax's `RNN`: outputs in the order of `inputs` only if `keep_order`."""
    inputs = jnp.asarray(inputs)
    features = feature_axes(layer)
    sizes = feature_shape(layer.input_size)
    given = inputs.shape[inputs.ndim - features :]
    if inputs.ndim < 1 + features or any(size not in (None, there) for size, there in zip(sizes, given, strict=True)):
        named = ", ".join(str(size or "features") for size in sizes)
        axes = f"[time, *batch, {named}]" if time_major else f"[*batch, time, {named}]"
        raise ValueError(f"inputs has shape {list(inputs.shape)}; {layer} with time_major={time_major} expects {axes}")
    xs = inputs if time_major else jnp.moveaxis(inputs, -1 - features, 0)
    batch = xs.shape[1 : xs.ndim - features]
    lengths = None if seq_lengths is None else _checked(jnp.asarray(seq_lengths), batch)
    steps = inputs.shape[: inputs.ndim - features]
    marks = {name: jnp.asarray(flags) for name, flags in (("mask", mask), ("reset", reset)) if flags is not None}
    for name, flags in marks.items():
        check_flags(flags, name, steps)
    if not time_major:
        marks = {name: jnp.moveaxis(flags, -1, 0) for name, flags in marks.items()}
    if reverse:
        xs, marks = jax.tree.map(lambda a: flip(a, lengths), (xs, marks))
    carry, ys = layer.apply(params, xs, carry, lengths=lengths, **marks, key=key)
    ys = flip(ys, lengths) if reverse and keep_order else ys
    return carry, ys if time_major else jnp.moveaxis(ys, 0, len(batch))


def fresh(owner: Cell | Layer, key: Any, params_init: Any, dtype: Any) -> Any:
    """Parameters of `owner` in `dtype`, drawn by `params_init`, else by itself."""
    key = typed(key)
    if params_init is None:
        params = owner.init(key)
    else:
        params = params_init(key, owner.cell if isinstance(owner, Recurrent) else owner)
        check_params(owner, params, "what params_init returned")
    return jax.tree.map(lambda a: a if dtype is None else a.astype(dtype), params)


def typed(key: jax.Array) -> jax.Array:
    """A typed key, also of the plain numbers that Flax still takes."""
    return key if is_key(key) else jax.random.wrap_key_data(key)


def feature_axes(owner: Cell | Layer) -> int:
    """How many axes an input's features have."""
    return len(feature_shape(owner.input_size))


def batch_of(layer: Layer, inputs: Any, time_major: bool) -> tuple[int, ...]:
    """The batch axes of `inputs`."""
    shape = jnp.shape(inputs)[: -feature_axes(layer)]
    return shape[1:] if time_major else shape[:-1]


def flip(xs: jax.Array, lengths: jax.Array | None) -> jax.Array:
    """The real steps of xs [time, *batch, ...] in reverse; padding stays at the end."""
    if lengths is None:
        return jnp.flip(xs, 0)
    steps = lax.broadcasted_iota(jnp.int32, xs.shape[: 1 + lengths.ndim], 0)
    last = jnp.broadcast_to(jnp.clip(lengths.astype(jnp.int32), 0, xs.shape[0]) - 1, steps.shape)
    places = jnp.where(steps <= last, last - steps, steps)
    return jnp.take_along_axis(xs, places.reshape(*places.shape, *(1,) * (xs.ndim - places.ndim)), 0)


def _checked(lengths: jax.Array, batch: tuple[int, ...]) -> jax.Array:
    if lengths.shape != batch or not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise ValueError(
            f"seq_lengths is {describe(lengths)}; expected integers of shape {list(batch)}, one per row of the batch"
        )
    return lengths


@functools.lru_cache(maxsize=256)
def draws(layer: Layer) -> bool:
    """Whether a key makes a difference to `layer.apply`: dropout, or a cell's noise."""
    key = jax.random.key(0)
    params = jax.eval_shape(layer.init, key)
    dtype = next((leaf.dtype for leaf in jax.tree.leaves(params)), jnp.float32)
    features = feature_shape(layer.input_size or 1)
    xs = jax.ShapeDtypeStruct((1, *features), dtype)
    return reads_first(lambda key, params, xs: layer.apply(params, xs, key=key), key, params, xs)


def reads_first(function: Any, *arguments: Any) -> bool:
    """Whether the outputs of `function` depend on its first argument."""
    jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
    _, used = dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return any(used[: len(jax.tree.leaves(arguments[0]))])


class FlaxState(NamedTuple):
    carry: Any  # the Flax cell's own carry
    y: jax.Array  # [*batch, output]: its output, which need not follow from the carry
    key: jax.Array | None = None  # [*batch] typed keys of its dropout; None: none


class WholeStep(Cell[Any, FlaxState]):
    """A cell known only by its whole step, `(carry, x) -> (carry, y)`: nothing leaves the loop, and y is part of the state.

    Where the cell has dropout, and there is a key, each row draws from its own, so that runs in chunks or step by step draw the
    same: row by row, as one call of the cell has one key.
    """

    per_step: bool
    """A new mask at each step; or one for all of a run."""

    @abc.abstractmethod
    def call(self, params: Any, carry: Any, x: jax.Array, key: jax.Array | None) -> Any:
        """One step of the Flax cell: (carry, y). Without a key, no dropout; TypeError where the cell draws all the same."""

    @abc.abstractmethod
    def initial_carry(self, params: Any, batch: tuple[int, ...], key: jax.Array) -> Any:
        """The Flax cell's initial carry."""

    @property
    def output_size(self) -> int:
        return _output_size(self)

    def initial_state(self, params: Any, batch: tuple[int, ...] = (), key: jax.Array | None = None) -> FlaxState:
        inside, keys = divide_key(key, batch) if _draws(self) else (key, None)
        carry = self._start(params, batch, jax.random.key(0) if inside is None else inside)
        return FlaxState(carry, jnp.zeros((*batch, self.output_size), _dtype(params)), keys)

    def _start(self, params: Any, batch: tuple[int, ...], key: jax.Array) -> Any:
        """The initial carry in the parameters' dtype."""
        return jax.tree.map(lambda a: cast(a, _dtype(params)), self.initial_carry(params, batch, key))

    def project(self, params: Any, x: jax.Array) -> jax.Array:
        return x

    def recur(self, params: Any, state: FlaxState) -> tuple[()]:
        return ()

    def update(self, params: Any, state: FlaxState, z: jax.Array, r: tuple[()]) -> FlaxState:
        key = state.key
        if key is None:
            carry, y = self.call(params, state.carry, z, None)
        else:
            key, used = split_each(key) if self.per_step else (key, key)
            step: Any = functools.partial(self.call, params)
            for _ in range(used.ndim):
                step = jax.vmap(step)
            carry, y = step(state.carry, z, used)
        new = FlaxState(carry, y, key)
        # A Flax cell may compute in another dtype than that of its parameters (its option `dtype`).
        return jax.tree.map(lambda a, old: cast(a, old.dtype), new, state)

    def readout(self, params: Any, state: FlaxState, x: jax.Array) -> jax.Array:
        return state.y


def _dtype(params: Any) -> Any:
    return jax.tree.leaves(params)[0].dtype


def cast(a: jax.Array, dtype: Any) -> jax.Array:
    """Numbers in `dtype`; counts and keys as they are."""
    return a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a


@functools.lru_cache(maxsize=256)
def _output_size(cell: WholeStep) -> int:
    return jax.eval_shape(*_first_step(cell, cell.call))[1].shape[-1]


@functools.lru_cache(maxsize=256)
def _draws(cell: WholeStep) -> bool:
    """Whether a key makes a difference to a step."""
    return reads_first(*_first_step(cell, cell.call))


def draws_always(cell: WholeStep, call: Callable[..., Any]) -> bool:
    """Whether a key makes a difference to `call(params, carry, x, key)`, a step without dropout."""
    return reads_first(*_first_step(cell, call))


def _first_step(cell: WholeStep, call: Callable[..., Any]) -> tuple[Any, ...]:
    """`call` from the initial carry, which its key has no part in, and the shapes of (key, params, x)."""

    def step(key: jax.Array, params: Any, x: jax.Array) -> Any:
        return call(params, cell._start(params, (), jax.random.key(0)), x, key)

    key = jax.eval_shape(lambda: jax.random.key(0))
    params = jax.eval_shape(cell.init, key)
    return step, key, params, jax.ShapeDtypeStruct((cell.input_size,), _dtype(params))


def always_draws(module: Any, remedy: str) -> TypeError:
    """The error for a cell that draws where it should not."""
    return TypeError(
        f"{type(module).__name__} draws random numbers also without dropout, and there is no key: give one to apply or to "
        f"initial_state(params, batch, key), or {remedy}"
    )


def check_flax_cell(module: Any, kind: str) -> None:
    """`module` steps as Flax's cells do, whether or not it is made from `RNNCellBase`, and on one feature axis."""
    if not (callable(module) and hasattr(module, "initialize_carry") and getattr(module, "num_feature_axes", 1) == 1):
        raise TypeError(
            f"module {kind} a {type(module).__name__}; expected a cell of Flax with one feature axis, an RNNCellBase or any module "
            "that has __call__(carry, x) -> (carry, y) and initialize_carry"
        )
