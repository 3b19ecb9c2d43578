"""The one abstraction: a recurrent cell in four pure pieces."""

import abc
import dataclasses
from typing import Any, Generic, TypeVar

import jax

from .arrays import cast_like, halves_to_float32
from .checks import activation_function, check_input, check_params, check_positive, check_state

P = TypeVar("P")
S = TypeVar("S")


class Cell(abc.ABC, Generic[P, S]):
    """What a recurrent network does in one time step, as four pure pieces.

        z_t = project(params, x_t)               what the input adds: all times at once
        r_t = recur(params, s_{t-1})             what the past adds: one step at a time
        s_t = update(params, s_{t-1}, z_t, r_t)  the gates: pointwise for most cells
        y_t = readout(params, s_t, x_t)          what the world sees: all times at once

    A cell holds hyperparameters only: it is a frozen dataclass registered with `jax.tree_util.register_static`, so it is
    hashable, crosses every transformation as a constant, and equal cells share one compilation. Each piece acts on the
    last axis and broadcasts over the rest, so the same code serves one step, a batch, and a whole sequence.

    To add a cell, write the dataclass, a Params and a State (NamedTuples of arrays) and the methods below. Weights are
    named `w_x` (from the input) and `w_h` (from the past), one block per gate along the last axis in the order of `gates`,
    biases `b`: the initialisers in `jrnn.initializers` find them by these names.
    """

    input_size: int
    output_size: int

    gates: tuple[str, ...] = ("h",)
    """The blocks along the last axis of `w_x`, `w_h` and `b`, in order."""
    forget_gate: str | None = None
    """The gate that keeps the past when it is open (1), if there is one."""
    input_gate: str | None = None
    """The gate that lets the new in when it is open, where it is not one minus the forget gate."""

    def __post_init__(self) -> None:
        options = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]
        check_positive(type(self).__name__, **{name: size for name, size in options.items() if name.endswith("_size")})
        for name, choice in options.items():
            if name.endswith("activation"):
                activation_function(choice, f"{type(self).__name__}: {name}")

    @abc.abstractmethod
    def init(self, key: jax.Array) -> P:
        """Fresh parameters, in JAX's default float (float32, unless `jax_enable_x64` is set)."""

    @abc.abstractmethod
    def initial_state(self, params: P, batch: tuple[int, ...] = (), key: jax.Array | None = None) -> S:
        """The state before the first step, [*batch, ...] in the parameters' dtype; `key` drives noise, where a cell has it."""

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

    @abc.abstractmethod
    def readout(self, params: P, state: S, x: jax.Array) -> jax.Array:
        """What the world sees of a state: [..., output_size]."""

    def step(self, params: P, state: S, x: jax.Array) -> tuple[S, jax.Array]:
        """One time step: `x` [*batch, input_size] -> the new state and y [*batch, output_size]."""
        check_input(self, x, check_params(self, params), "x", time=False)
        check_state(self, params, state, x.shape[:-1])
        state = updated(self, params, state, self.project(params, x), self.recur(params, state))
        return state, self.readout(params, state, x)


def updated(cell: Cell, params: Any, state: Any, z: Any, r: Any) -> Any:
    """`cell.update`, in float32 where what it is given are 16-bit floats, and the new state rounded to the old one's dtype."""
    return cast_like(cell.update(*halves_to_float32((params, state, z, r))), state)
