"""The one abstraction: a recurrent cell in four pure pieces."""

import abc
import dataclasses
import numbers
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from .arrays import feature_shape, halves_to_float32
from .checks import activation_function, check_input, check_params, check_positive, check_state, describe

P = TypeVar("P")
S = TypeVar("S")


class Cell(abc.ABC, Generic[P, S]):
    """What a recurrent network does in one time step, as four pure pieces.

        z_t = project(params, x_t)               what the input adds: all times at once
        r_t = recur(params, s_{t-1})             what the past adds: one step at a time
        s_t = update(params, s_{t-1}, z_t, r_t)  the gates: pointwise for most cells
        y_t = readout(params, s_t, x_t)          what the world sees: all times at once

    A cell holds hyperparameters only: it is a frozen dataclass registered with `jax.tree_util.register_static`, so it
    is hashable, crosses every transformation as a constant, and equal cells share one compilation. Each piece acts on
    the last axis and broadcasts over the rest, so the same code serves one step, a batch, and a whole sequence.

    To add a cell, write the dataclass, a Params and a State (NamedTuples of arrays) and the methods below. Weights are
    named `w_x` (from the input) and `w_h` (from the past), one block per gate along the last axis in the order of
    `gates`, biases `b`: the initialisers in `jrnn.initializers` find them by these names.
    """

    input_size: Any
    """Features of an input; a tuple where they have several axes, such as a picture's."""
    output_size: Any
    """Features of an output, likewise."""

    gates: tuple[str, ...] = ("h",)
    """The blocks along the last axis of `w_x`, `w_h` and `b`, in order."""
    forget_gate: str | None = None
    """The gate that keeps the past when it is open (1), if there is one."""
    input_gate: str | None = None
    """The gate that lets the new in when it is open, where it is not one minus the forget gate."""
    candidate: str | None = None
    """The block that is no gate but the new: its activation is the option `activation`, that of the others `gate_activation`."""

    recurrent: tuple[str, ...] = ("w_h",)
    """Names of the parameters that multiply the past: the recurrent initialisers act on these."""
    inner_params: str | None = None
    """The field of the parameters that holds those of a cell inside, if they are not the same."""
    takes_context: bool = False
    """Whether the pieces are given `Bound(params, context)` where `params` goes."""

    def __post_init__(self) -> None:
        check_cell(self)
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            name, owner = field.name, type(self).__name__
            value: Any = getattr(self, name)
            if value is None and "None" in str(field.type):
                continue
            if name.endswith("_size"):
                several = isinstance(value, tuple) and "tuple" in str(field.type)
                sizes: Any = value if several else (value,)
                for size in sizes:
                    check_positive(owner, **{name: size})
            elif name.endswith("activation"):
                activation_function(value, f"{owner}: {name}")  # type: ignore[arg-type]
            elif field.type in (bool, "bool") and not isinstance(value, bool):
                raise TypeError(f"{owner}: {name} is {value!r}; expected True or False")
            elif field.type in (float, "float") and not isinstance(value, numbers.Real):
                raise TypeError(f"{owner}: {name} is {value!r}; expected a plain number")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The feature axes of an input: one, or several where `input_size` is a tuple."""
        return feature_shape(self.input_size)

    @abc.abstractmethod
    def init(self, key: jax.Array) -> P:
        """Fresh parameters, in JAX's default float (float32, unless `jax_enable_x64` is set)."""

    @abc.abstractmethod
    def initial_state(self, params: P, batch: tuple[int, ...] = (), key: jax.Array | None = None) -> S:
        """The state before the first step, [*batch, ...], in the parameters' dtype; `key` is for noise, if any."""

    @abc.abstractmethod
    def project(self, params: P, x: jax.Array) -> Any:
        """What the input adds: [..., input_size] -> [..., features]."""

    @abc.abstractmethod
    def recur(self, params: P, state: S) -> Any:
        """What the previous state adds."""

    @abc.abstractmethod
    def update(self, params: P, state: S, z: Any, r: Any) -> S:
        """The new state, from the previous one, `z = project(...)` and `r = recur(...)`.

        Where parameters and states are 16-bit floats, all arguments come as float32, and the new state is rounded.
        """

    def update_with_gates(self, params: P, state: S, z: Any, r: Any) -> tuple[S, dict[str, jax.Array]]:
        """`update`, and by their names what its gates are in this step, activated, [..., hidden] each.

        For those who look at gates (`jrnn.diagnostics`). A cell with gates computes its new state here, and `update` gives
        that alone; of another cell there are none.
        """
        return self.update(params, state, z, r), {}

    @abc.abstractmethod
    def readout(self, params: P, state: S, x: jax.Array) -> jax.Array:
        """What the world sees of a state: [..., output_size]."""

    def bind(self, params: P, ys: Any, *, lengths: Any = None, mask: Any = None) -> Any:
        """For cells that take a context: parameters with what is attended to, `ys` [source, *batch, ...], bound to them.

        `lengths` or `mask` [source, *batch] say which positions are real.
        """
        raise TypeError(f"{self} does not attend to a sequence; expected a cell such as jrnn.AttentionBefore")

    def prepare(self, params: P) -> Any:
        """What the pieces are given in place of `params`, made once for a whole run: what is computed from parameters alone.

        They must take plain parameters too, and compute the same. By default it is these.
        """
        return params

    def step(self, params: P, state: S, x: jax.Array) -> tuple[S, jax.Array]:
        """One time step: `x` [*batch, input_size] -> the new state and y [*batch, output_size]."""
        batch = check_arguments(self, params, x, "x", time=False)
        check_state(self, params, state, batch)
        params = self.prepare(params)
        z, r = self.project(params, x), self.recur(params, state)
        state = fit_state(self, self.update(*halves_to_float32((params, state, z, r))), state, len(batch))
        return state, self.readout(params, state, x)


class Bound(NamedTuple):
    """Parameters with a context bound to them: what a row sees at every step and does not change over time, such as
    what a decoder
    attends to. It goes where a cell's parameters go, if the cell says `takes_context`.

    A context has batch axes and no time axis: no engine copies it or keeps it per step, and its gradient flows.
    """

    params: Any  # of the cell
    context: Any  # leaves [*batch, ...]


def fit_state(cell: Any, new: Any, before: Any, batch_axes: int) -> Any:
    """A new state in the dtypes and shapes of the one before; what has no batch axes is the same for every row."""
    if jax.tree.structure(new) != jax.tree.structure(before):
        raise TypeError(
            f"update of {cell} returns a state of structure {jax.tree.structure(new)}; expected that of initial_state: "
            f"{jax.tree.structure(before)}"
        )

    def fit(path: Any, a: jax.Array, b: jax.Array) -> jax.Array:
        if a.shape != b.shape and a.shape == b.shape[batch_axes:]:
            a = jnp.broadcast_to(a, b.shape)
        if a.shape != b.shape:
            raise ValueError(
                f"update of {cell} returns {describe(a)} for state{jax.tree_util.keystr(path)}; expected {describe(b)}, as in "
                "the state before"
            )
        return a if a.dtype == b.dtype else a.astype(b.dtype)

    return jax.tree_util.tree_map_with_path(fit, new, before)


def check_cell(cell: Any) -> None:
    """A cell is a frozen dataclass of plain values, registered as static; TypeError where it is not."""
    if isinstance(cell, type) and issubclass(cell, Cell):
        raise TypeError(f"cell is the class {cell.__name__}; expected a cell: make one, such as {cell.__name__}(3, 4)")
    if not isinstance(cell, Cell):
        has = "; a layer is run by its own apply(params, xs)" if hasattr(cell, "apply") else ""
        raise TypeError(f"cell is {describe(cell)}; expected a Cell such as jrnn.LSTM(3, 4){has}")
    kind = type(cell)
    remedy = "decorate it with @jax.tree_util.register_static and @dataclasses.dataclass(frozen=True)"
    if not dataclasses.is_dataclass(cell) or not kind.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise TypeError(f"{kind.__name__} is not a frozen dataclass; expected one: {remedy}")
    if jax.tree.leaves(cell):
        raise TypeError(f"{kind.__name__} is not registered as static, so that JAX takes it for an array: {remedy}")
    for field in dataclasses.fields(cell):
        value = getattr(cell, field.name)
        try:
            hash(value)
        except TypeError:
            raise TypeError(
                f"{kind.__name__}: {field.name} is {describe(value)}; expected a plain value that can be hashed, such as a "
                "number, a string or a tuple: what is an array belongs into the parameters"
            ) from None


def check_arguments(cell: Cell, params: Any, x: Any, name: str, *, time: bool) -> tuple[int, ...]:
    """Parameters (bound to a context, where the cell takes one) and inputs fit the cell; returns the batch axes."""
    if isinstance(params, Bound) != cell.takes_context:
        expected = "Bound(params, context)" if cell.takes_context else "its own parameters, without a context"
        raise TypeError(f"params is a {type(params).__name__}; {cell} expects {expected}")
    dtype = check_params(cell, params.params if cell.takes_context else params)
    batch = check_input(cell, x, dtype, name, time)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params.context if cell.takes_context else ()):
        given = jnp.shape(leaf)[: len(batch)]
        if len(given) < len(batch) or any(size not in (1, rows) for size, rows in zip(given, batch)):
            raise ValueError(
                f"params.context{jax.tree_util.keystr(path)} is {describe(leaf)}; expected the batch axes {list(batch)} of "
                f"{name} first (1 where rows share it), and no time axis"
            )
    return batch
