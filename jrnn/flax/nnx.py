"""Flax NNX: any cell or layer as a module, and cells across the border in both directions."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from ..arrays import is_key
from ..cell import Cell as JrnnCell
from ..checks import describe
from ..layers import Directions, Layer
from . import common


class RNN(nnx.Module):
    """A jrnn cell or layer over a sequence: `nnx.RNN(nnx.LSTMCell(32, 64, rngs=rngs))` becomes `RNN(jrnn.LSTM(32, 64), rngs=rngs)`.

    Options and arguments are those of Flax's `nnx.RNN`; how the loop is run is an option of the layer, as in
    `RNN(jrnn.Recurrent(cell, engine=jrnn.Scan(unroll=4)), rngs=rngs)`. Each parameter is an `nnx.Param` under the name of its
    field: `rnn.cell.w_h` for a cell, `rnn.layers[0].forward.w_h` for a stack; assign any other variable, or a module with
    `__jax_array__`, in its place. Where it departs from `nnx.RNN`: padded steps output zero; a row of length 0 keeps its
    carry; inputs have the parameters' dtype; the carry is jrnn's state, for an LSTM (h, c) with these names and in this order.

    Args:
      cell: a cell or layer of jrnn.
      time_major: inputs are [time, *batch, features] rather than [*batch, time, features].
      return_carry: return `(carry, outputs)` rather than `outputs`.
      reverse: run from the last real step to the first; outputs in that order, padding last.
      keep_order: with `reverse`, outputs in the order of the inputs.
      deterministic: no dropout and no noise; `train()` and `eval()` set it.
      param_dtype: of the parameters; None: JAX's default float.
      params_init: draws them in place of `init`, given a key and the cell, or the layer if it is not a single cell's: an
        initialiser of `jrnn.initializers`, say, by `lambda key, cell: chrono(key, cell, cell.init(key), longest=400)`.
      rngs: `params` draws the parameters; a fork of `dropout` is kept by layers with dropout or noise, and by no others.
    """

    def __init__(
        self,
        cell: JrnnCell | Layer,
        *,
        time_major: bool = False,
        return_carry: bool = False,
        reverse: bool = False,
        keep_order: bool = False,
        deterministic: bool = False,
        param_dtype: Any = None,
        params_init: Callable[[jax.Array, Any], Any] | None = None,
        rngs: nnx.Rngs,
    ):
        self.layer = nnx.static(common.as_layer(cell))
        self.time_major = time_major
        self.return_carry = return_carry
        self.reverse = reverse
        self.keep_order = keep_order
        self.deterministic = deterministic
        self.rngs = rngs.dropout.fork() if common.draws(self.layer) else nnx.data(None)
        for name, value in _top(_init(self.layer, rngs, params_init, param_dtype)).items():
            setattr(self, name, _variables(value))

    def __call__(
        self,
        inputs: jax.Array,
        *,
        initial_carry: Any = None,
        seq_lengths: jax.Array | None = None,
        mask: jax.Array | None = None,
        reset: jax.Array | None = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | nnx.RngStream | None = None,
    ) -> Any:
        """inputs [*batch, time, features] -> outputs [*batch, time, output], or `(carry, outputs)`.

        Args:
          inputs: in the parameters' dtype; any batch axes, or none; time first if `time_major`.
          initial_carry: the state before the first step; None: the cell's initial state.
          seq_lengths: integers [*batch], how many steps of each row are real; 0 is allowed.
          mask: bool [*batch, time] (or as the inputs, time first), False where a step is not real: the carry stays, the
            output is zero.
          reset: bool of the same shape, True where a row starts anew: before that step, in the order of the run, its carry
            is the cell's initial state. In reinforcement learning: where an episode begins.
          return_carry, time_major, reverse, keep_order, deterministic: in place of the constructor's.
          rngs: its `dropout` stream in place of the constructor's. A single stream, such as `nnx.Bidirectional` hands down to
            draw carries from, is not used.
        """
        key = None
        if self.rngs is not None and not (self.deterministic if deterministic is None else deterministic):
            key = common.typed(rngs.dropout() if isinstance(rngs, nnx.Rngs) else self.rngs())
        carry, outputs = common.run(
            self.layer,
            self.params(),
            inputs,
            initial_carry,
            key=key,
            seq_lengths=seq_lengths,
            mask=mask,
            reset=reset,
            time_major=self.time_major if time_major is None else time_major,
            reverse=self.reverse if reverse is None else reverse,
            keep_order=self.keep_order if keep_order is None else keep_order,
        )
        return (carry, outputs) if (self.return_carry if return_carry is None else return_carry) else outputs

    def set_view(self, deterministic: bool | None = None) -> None:
        """What `nnx.view(model, deterministic=...)` calls."""
        self.deterministic = self.deterministic if deterministic is None else deterministic

    def params(self) -> Any:
        """The parameters as the layer takes them: `layer.apply(rnn.params(), xs)`."""
        shapes = _shapes(self.layer)
        top = _top(shapes)
        values = {name: _values(value, getattr(self, name)) for name, value in top.items()}
        return type(shapes)(**values) if isinstance(shapes, Directions) else next(iter(values.values()))


class Cell(nnx.RNNCellBase):
    """A jrnn cell as a Flax cell, for Flax's own `nnx.RNN` and whatever else takes an `nnx.RNNCellBase`.

    Its carry is the cell's state, and its parameters are attributes under the names of their fields. Without noise: `nnx.RNN`
    hands every cell a key, whether or not the user gave one.
    """

    def __init__(
        self,
        cell: JrnnCell,
        *,
        param_dtype: Any = None,
        params_init: Callable[[jax.Array, Any], Any] | None = None,
        rngs: nnx.Rngs,
    ):
        common.check_cell(cell)
        self.cell = nnx.static(cell)
        for name, value in _items(_init(cell, rngs, params_init, param_dtype)):
            setattr(self, name, _variables(value))

    def __call__(self, carry: Any, inputs: jax.Array) -> tuple[Any, jax.Array]:
        """(state, x [*batch, input]) -> (state, y [*batch, output])."""
        return self.cell.step(self.params(), carry, inputs)

    def initialize_carry(
        self,
        input_shape: tuple[int, ...],
        rngs: nnx.Rngs | nnx.RngStream | None = None,
        carry_init: Any = None,
    ) -> Any:
        """The cell's initial state for inputs of shape [*batch, input]."""
        if carry_init is not None:
            raise TypeError(
                f"carry_init is {describe(carry_init)}; {self.cell} has an initial state of its own: expected None"
            )
        return self.cell.initial_state(self.params(), input_shape[: -self.num_feature_axes])

    @property
    def num_feature_axes(self) -> int:
        return common.feature_axes(self.cell)

    def params(self) -> Any:
        """The parameters as the cell takes them."""
        return _values(_shapes(self.cell), self)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class FlaxCell(common.WholeStep):
    """An NNX cell as a jrnn cell, for every engine, layer and tool: `FlaxCell(nnx.LSTMCell, 32, 64)`.

    `module` is the class, or any function of `(input_size, hidden_size, rngs=...)` that makes a cell; options go in by
    `functools.partial`. Parameters are a nested dictionary: those of a cell that exists already are
    `nnx.to_pure_dict(nnx.state(cell, nnx.Param))`. Only cells with one feature axis, and with no variables but parameters and
    streams of random numbers. An `nnx.RNNCellBase`, or any module with its `__call__(carry, x)` and
    `initialize_carry(input_shape, rngs)`.

    Dropout inside the cell is drawn while there is a key (`apply(..., key=key)`, or `initial_state(params, batch, key)`), for each
    row by its own: a new mask at each step, or with `per_step=False` one for all steps (in `nnx.RNN` that is
    `broadcast_rngs="dropout"`). Without a key the cell is as after `eval()`, with one as after `train()`.
    """

    module: Callable[..., Any]
    input_size: int
    hidden_size: int
    per_step: bool = dataclasses.field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        if isinstance(self.module, nnx.Module) or not callable(self.module):
            raise TypeError(
                f"module is a {type(self.module).__name__}; expected a class, or a function that makes a cell, such as "
                "nnx.LSTMCell: the parameters of a cell that exists already are nnx.to_pure_dict(nnx.state(cell, nnx.Param))"
            )
        super().__post_init__()

    def init(self, key: jax.Array) -> Any:
        return nnx.to_pure_dict(nnx.state(self._make(key), nnx.Param))

    def call(self, params: Any, carry: Any, x: jax.Array, key: jax.Array | None) -> Any:
        if key is None and _draws_always(self):
            module = self._with(params, jax.random.key(0), deterministic=True)
            raise common.always_draws(module, "let it draw by nnx.Dropout, or where its own `deterministic` is False")
        return self._step(params, carry, x, jax.random.key(0) if key is None else key, deterministic=key is None)

    def initial_carry(self, params: Any, batch: tuple[int, ...], key: jax.Array) -> Any:
        start = self._with(params, key, deterministic=True).initialize_carry
        second = [*inspect.signature(start).parameters.values()][1:2]
        takes = any(one.name == "rngs" or one.default is one.empty for one in second)
        return start((*batch, self.input_size), *[nnx.Rngs(key)] * takes)

    def _make(self, key: jax.Array) -> Any:
        module = self.module(self.input_size, self.hidden_size, rngs=nnx.Rngs(key))
        if not isinstance(module, nnx.Module):
            raise TypeError(f"module makes a {type(module).__name__}; expected a cell of nnx, such as nnx.LSTMCell")
        common.check_flax_cell(module, "makes")
        return module

    def _step(self, params: Any, carry: Any, x: jax.Array, key: jax.Array, *, deterministic: bool) -> Any:
        return self._with(params, key, deterministic=deterministic)(carry, x)

    def _with(self, params: Any, key: jax.Array, *, deterministic: bool) -> Any:
        """The Flax cell, with these parameters, its streams at the beginning of this key."""
        graph, streams = _graph(self, deterministic)
        leaves, structure = jax.tree.flatten(streams)
        begun = [
            _folded(key, index, leaf.shape) if is_key(leaf) else jnp.zeros(leaf.shape, leaf.dtype)
            for index, leaf in enumerate(leaves)
        ]
        return nnx.merge(graph, nnx.State(params), jax.tree.unflatten(structure, begun))


@functools.lru_cache(maxsize=256)
def _graph(cell: FlaxCell, deterministic: bool) -> tuple[Any, Any]:
    """The cell without its parameters, and the shapes of its streams of random numbers."""
    module = nnx.eval_shape(lambda: cell._make(jax.random.key(0)))
    (module.eval if deterministic else module.train)()
    graph, _, streams, rest = nnx.split(module, nnx.Param, nnx.RngState, ...)
    if rest:
        raise ValueError(
            f"module makes a cell with variables besides its parameters: {nnx.to_pure_dict(rest)}; expected none"
        )
    return graph, streams


def _folded(key: jax.Array, index: int, shape: tuple[int, ...]) -> jax.Array:
    """The key of a stream, or several, by its number."""
    own = jax.random.fold_in(key, index)
    return jax.random.split(own, shape) if shape else own


@functools.lru_cache(maxsize=256)
def _draws_always(cell: FlaxCell) -> bool:
    return common.draws_always(cell, functools.partial(cell._step, deterministic=True))


def _init(owner: JrnnCell | Layer, rngs: nnx.Rngs, params_init: Any, dtype: Any) -> Any:
    return common.fresh(owner, rngs.params(), params_init, dtype)


@functools.lru_cache(maxsize=256)
def _shapes(owner: JrnnCell | Layer) -> Any:
    return jax.eval_shape(owner.init, jax.random.key(0))


def _top(params: Any) -> dict[str, Any]:
    """A stack's entries under `layers`, a pair's by name, the parameters of anything else under `cell`."""
    if isinstance(params, Directions):
        return params._asdict()
    return {"layers" if isinstance(params, tuple) and not hasattr(params, "_fields") else "cell": params}


def _items(params: Any) -> list[tuple[str, Any]]:
    """The named parts of a NamedTuple or a dictionary; None, for a parameter that an option leaves out, is none."""
    named = params._asdict() if hasattr(params, "_asdict") else params
    return [(name, value) for name, value in named.items() if value is not None]


def _variables(params: Any) -> Any:
    """Every array an `nnx.Param`; NamedTuples and dictionaries as `nnx.Dict`, tuples as `nnx.List`."""
    if hasattr(params, "_asdict") or isinstance(params, dict):
        return nnx.Dict({name: _variables(value) for name, value in _items(params)})
    if isinstance(params, tuple):
        return nnx.List([_variables(value) for value in params])
    return nnx.Param(params)


def _values(shapes: Any, node: Any) -> Any:
    """The arrays that `node` holds now, in the structure of `shapes`."""
    if hasattr(shapes, "_fields"):
        return shapes._replace(**{name: _values(value, getattr(node, name)) for name, value in _items(shapes)})
    if isinstance(shapes, dict):
        return {name: _values(value, getattr(node, name)) for name, value in shapes.items()}
    if isinstance(shapes, tuple):
        return tuple(_values(value, child) for value, child in zip(shapes, node, strict=True))
    return jnp.asarray(node)
