"""Flax linen: any cell or layer as a module, and cells across the border in both directions."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.errors import InvalidRngError

from ..cell import Cell as JrnnCell
from ..checks import describe
from ..layers import Directions, Layer
from . import common


class RNN(nn.Module):
    """A jrnn cell or layer over a sequence: `nn.RNN(nn.LSTMCell(64))` becomes `RNN(jrnn.LSTM(32, 64))`.

    Options and arguments are those of Flax's `nn.RNN`; how the loop is run is an option of the layer, as in
    `RNN(jrnn.Recurrent(cell, engine=jrnn.Scan(unroll=4)))`. Parameters are nested dictionaries under the names of the fields:
    `params/cell/w_h` for a cell, `params/layers_0/forward/w_h` for a stack. Where it departs from `nn.RNN`: padded steps output
    zero; a row of length 0 keeps its carry; inputs have the parameters' dtype; the carry is jrnn's state, for an LSTM
    (h, c) with these names and in this order.

    Attributes:
      cell: a cell or layer of jrnn.
      time_major: inputs are [time, *batch, features] rather than [*batch, time, features].
      return_carry: return `(carry, outputs)` rather than `outputs`.
      reverse: run from the last real step to the first; outputs in that order, padding last.
      keep_order: with `reverse`, outputs in the order of the inputs.
      deterministic: no dropout and no noise; needed, here or in the call, only by layers that have some. Their key comes from
        the rng collection `dropout`.
      param_dtype: of fresh parameters; None: JAX's default float.
      params_init: draws them in place of `init`, given a key and the cell, or the layer if it is not a single cell's: an
        initialiser of `jrnn.initializers`, say, by `lambda key, cell: chrono(key, cell, cell.init(key), longest=400)`.
    """

    cell: JrnnCell | Layer
    time_major: bool = False
    return_carry: bool = False
    reverse: bool = False
    keep_order: bool = False
    deterministic: bool | None = None
    param_dtype: Any = None
    params_init: Callable[[jax.Array, Any], Any] | None = None

    @nn.compact
    def __call__(
        self,
        inputs: jax.Array,
        *,
        initial_carry: Any = None,
        init_key: jax.Array | None = None,
        seq_lengths: jax.Array | None = None,
        mask: jax.Array | None = None,
        reset: jax.Array | None = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
        deterministic: bool | None = None,
    ) -> Any:
        """inputs [*batch, time, features] -> outputs [*batch, time, output], or `(carry, outputs)`.

        Args:
          inputs: in the parameters' dtype; any batch axes, or none; time first if `time_major`.
          initial_carry: the state before the first step; None: the cell's initial state.
          init_key: key for the noise of that initial state, where a cell has some.
          seq_lengths: integers [*batch], how many steps of each row are real; 0 is allowed.
          mask: bool [*batch, time] (or as the inputs, time first), False where a step is not real: the carry stays, the
            output is zero.
          reset: bool of the same shape, True where a row starts anew: before that step, in the order of the run, its carry
            is the cell's initial state. In reinforcement learning: where an episode begins.
          return_carry, time_major, reverse, keep_order, deterministic: in place of the attributes.
        """
        layer = common.as_layer(self.cell)
        params = _params(self, layer, whole=not _several(layer))
        time_major = self.time_major if time_major is None else time_major
        deterministic = self.deterministic if deterministic is None else deterministic
        if deterministic is None and common.draws(layer):
            raise ValueError(
                f"deterministic is given neither to RNN nor in the call; {layer} has dropout or noise: expected True or False"
            )
        key = common.typed(self.make_rng("dropout")) if common.draws(layer) and not deterministic else None
        if initial_carry is None and init_key is not None:
            initial_carry = layer.initial_state(
                params, common.batch_of(layer, inputs, time_major), common.typed(init_key)
            )
        carry, outputs = common.run(
            layer,
            params,
            inputs,
            initial_carry,
            key=key,
            seq_lengths=seq_lengths,
            mask=mask,
            reset=reset,
            time_major=time_major,
            reverse=self.reverse if reverse is None else reverse,
            keep_order=self.keep_order if keep_order is None else keep_order,
        )
        return (carry, outputs) if (self.return_carry if return_carry is None else return_carry) else outputs


class Cell(nn.RNNCellBase):
    """A jrnn cell as a Flax cell, for Flax's own `nn.RNN` and whatever else takes an `nn.RNNCellBase`.

    Its carry is the cell's state. Without noise: `nn.RNN` hands every cell a key, whether or not the user gave one.
    """

    cell: JrnnCell
    param_dtype: Any = None
    params_init: Callable[[jax.Array, Any], Any] | None = None

    def __post_init__(self) -> None:
        common.check_cell(self.cell)
        super().__post_init__()

    @nn.compact
    def __call__(self, carry: Any, inputs: jax.Array) -> tuple[Any, jax.Array]:
        """(state, x [*batch, input]) -> (state, y [*batch, output])."""
        return self.cell.step(_params(self, self.cell, whole=False), carry, inputs)

    @nn.nowrap
    def initialize_carry(self, rng: jax.Array, input_shape: tuple[int, ...]) -> Any:
        """The cell's initial state for inputs of shape [*batch, input]."""
        shapes = jax.eval_shape(_init(self, self.cell), jax.random.key(0))

        def state(params: Any) -> Any:
            return self.cell.initial_state(params, input_shape[: -self.num_feature_axes])

        if common.reads_first(state, shapes):
            raise TypeError(
                f"{self.cell} starts from a state that depends on its parameters, which a linen cell has not got yet when Flax "
                "asks for it: use jrnn.flax.linen.RNN"
            )
        return state(jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes))

    @property
    def num_feature_axes(self) -> int:
        return common.feature_axes(self.cell)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class FlaxCell(common.WholeStep):
    """A linen cell as a jrnn cell, for every engine, layer and tool: `FlaxCell(nn.LSTMCell(64), input_size=32)`.

    Its parameters are the nested dictionary that `nn.RNN` keeps under `params/cell`. Only cells with one feature axis, and
    with no variables but parameters. An `nn.RNNCellBase`, or any module with its `__call__(carry, x)` and
    `initialize_carry(rng, input_shape)`.

    Dropout inside the cell, or any other `make_rng`, is drawn while there is a key (`apply(..., key=key)`, or
    `initial_state(params, batch, key)`), for each row by its own: a new mask at each step, or with `per_step=False` one for all
    steps (in `nn.RNN` that is `split_rngs={"params": False, "dropout": True}`, or `False`). A field or argument `deterministic` of
    the cell is True without a key and False with one.
    """

    module: Any
    input_size: int
    per_step: bool = dataclasses.field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.module, nn.Module):
            instead = f": make one, such as {self.module.__name__}(64)" if isinstance(self.module, type) else ""
            raise TypeError(
                f"module is {describe(self.module)}; expected a cell of linen, such as nn.LSTMCell(64){instead}"
            )
        common.check_flax_cell(self.module, "is")
        # A module made inside another's `__call__` belongs to that one, and its scope would end up in a constant.
        object.__setattr__(self, "module", self.module.clone(parent=None, name=None))
        super().__post_init__()

    def init(self, key: jax.Array) -> Any:
        x = jnp.zeros(self.input_size, getattr(self.module, "param_dtype", jnp.float32))
        module, options = self._deterministic(True)
        carry = jax.tree.map(lambda a: common.cast(a, x.dtype), self.initial_carry(None, (), key))
        variables = module.init(key, carry, x, **options)
        if set(variables) != {"params"}:
            raise ValueError(f"{self.module} has the variable collections {sorted(variables)}; expected params alone")
        return variables["params"]

    def call(self, params: Any, carry: Any, x: jax.Array, key: jax.Array | None) -> Any:
        module, options = self._deterministic(key is None)
        # `make_rng` of any other collection takes the key of `params`.
        rngs = {} if key is None else {"params": jax.random.fold_in(key, 0), "dropout": jax.random.fold_in(key, 1)}
        try:
            return module.apply({"params": params}, carry, x, **options, rngs=rngs)
        except InvalidRngError as error:
            raise common.always_draws(module, "give it a field `deterministic`, which is then True") from error

    def initial_carry(self, params: Any, batch: tuple[int, ...], key: jax.Array) -> Any:
        return self.module.initialize_carry(key, (*batch, self.input_size))

    def _deterministic(self, value: bool) -> tuple[nn.Module, dict[str, Any]]:
        """The module, and options of its call, with dropout or without, where it says how."""
        fields = {field.name for field in dataclasses.fields(self.module)}
        if "deterministic" in inspect.signature(type(self.module).__call__).parameters:
            # `nn.merge_param` takes one of the two.
            module = self.module.clone(deterministic=None) if "deterministic" in fields else self.module
            return module, {"deterministic": value}
        return self.module.clone(deterministic=value) if "deterministic" in fields else self.module, {}


def _params(module: Any, owner: JrnnCell | Layer, *, whole: bool) -> Any:
    """The parameters of `owner`, kept by a linen module: under `cell` as a whole, or each entry under its own name."""
    init = _init(module, owner)
    shapes = jax.eval_shape(init, jax.random.key(0))
    if whole:
        return _unnamed(shapes, module.param("cell", lambda key: _named(init(key))))
    entries = {name: module.param(name, lambda key, name=name: _named(init(key))[name]) for name in _named(shapes)}
    return _unnamed(shapes, entries)


def _init(module: Any, owner: JrnnCell | Layer) -> Callable[[jax.Array], Any]:
    return lambda key: common.fresh(owner, key, module.params_init, module.param_dtype)


def _several(layer: Layer) -> bool:
    """Whether the layer's parameters are those of several layers: a stack's, or a pair's."""
    shapes = jax.eval_shape(layer.init, jax.random.key(0))
    return isinstance(shapes, Directions) or (isinstance(shapes, tuple) and not hasattr(shapes, "_fields"))


def _named(params: Any) -> Any:
    """NamedTuples and tuples as dictionaries: fields by their names, entries as layers_0, layers_1, ..."""
    names = _names(params)
    return params if names is None else {name: _named(value) for name, value in names.items() if value is not None}


def _unnamed(shapes: Any, tree: Any) -> Any:
    """The inverse of `_named`, in the structure of `shapes`."""
    names = _names(shapes)
    if names is None:
        return tree
    missing = [name for name, value in names.items() if value is not None and name not in tree]
    if missing:
        raise ValueError(f"params lacks {missing}; it has {sorted(tree)}, expected {sorted(names)}")
    values = {name: None if value is None else _unnamed(value, tree[name]) for name, value in names.items()}
    if isinstance(shapes, dict):
        return values
    return type(shapes)(**values) if hasattr(shapes, "_fields") else tuple(values.values())


def _names(params: Any) -> dict[str, Any] | None:
    """The parts of a container by name; None for an array."""
    if isinstance(params, tuple):
        fields = getattr(params, "_fields", [f"layers_{index}" for index in range(len(params))])
        return dict(zip(fields, params, strict=True))
    return params if isinstance(params, dict) else None
