"""Long short-term memory: plain, with peepholes, with a recurrent projection. Gate order i f g o, as PyTorch has it."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import initializers
from ..arrays import affine, broadcast_like
from ..cell import Cell
from ..checks import Activation, activation_function
from ..xla.gates import lstm_gates


class LSTMParams(NamedTuple):
    w_x: jax.Array  # [input, 4 hidden], gates i f g o
    w_h: jax.Array  # [hidden, 4 hidden], gates i f g o
    b: jax.Array | None  # [4 hidden], gates i f g o; None without bias


class LSTMState(NamedTuple):
    h: jax.Array  # [*batch, hidden]
    c: jax.Array  # [*batch, hidden]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class LSTM(Cell[LSTMParams, LSTMState]):
    """Long short-term memory with forget gate (Hochreiter & Schmidhuber 1997; Gers, Schmidhuber & Cummins 2000).

        i, f, g, o = split(x_t W_x + h_{t-1} W_h + b)
        c_t = σ(f) c_{t-1} + σ(i) φ(g)
        h_t = σ(o) φ(c_t)
        y_t = h_t

    σ is `gate_activation`, φ `activation`, once on the candidate and once on the cell, unless there `cell_activation` says
    otherwise. The forget gate's bias starts at `forget_bias` (PyTorch: 0 in the mean); without `bias` there is no b.
    `torch.nn.LSTM` has two biases, whose sum is `b`, and transposed weights.
    """

    input_size: int
    hidden_size: int
    activation: Activation = dataclasses.field(default="tanh", kw_only=True)
    gate_activation: Activation = dataclasses.field(default="sigmoid", kw_only=True)
    cell_activation: Activation | None = dataclasses.field(default=None, kw_only=True)
    forget_bias: float = dataclasses.field(default=1.0, kw_only=True)
    bias: bool = dataclasses.field(default=True, kw_only=True)

    gates = ("i", "f", "g", "o")
    forget_gate = "f"
    input_gate = "i"
    candidate = "g"

    @property
    def output_size(self) -> int:
        return self.hidden_size

    def init(self, key: jax.Array) -> LSTMParams:
        n, h = self.input_size, self.hidden_size
        b = jnp.zeros(4 * h) if self.bias else None
        params = LSTMParams(w_x=jnp.zeros((n, 4 * h)), w_h=jnp.zeros((h, 4 * h)), b=b)
        params = initializers.standard(key, self, params)
        return initializers.forget_bias(self, params, self.forget_bias) if self.bias else params

    def initial_state(self, params: LSTMParams, batch: tuple[int, ...] = (), key: jax.Array | None = None) -> LSTMState:
        return zero_state((*batch, self.hidden_size), params.w_h.dtype)

    def project(self, params: LSTMParams, x: jax.Array) -> jax.Array:
        return x @ params.w_x

    def recur(self, params: LSTMParams, state: LSTMState) -> jax.Array:
        return affine(state.h, params.w_h, params.b)

    def update(self, params: LSTMParams, state: LSTMState, z: jax.Array, r: jax.Array) -> LSTMState:
        return self.update_with_gates(params, state, z, r)[0]

    def update_with_gates(
        self, params: LSTMParams, state: LSTMState, z: jax.Array, r: jax.Array
    ) -> tuple[LSTMState, dict[str, jax.Array]]:
        i, f, g, o = activated_gates(z + r, self.gate_activation, self.activation)
        c = f * state.c + i * g
        return LSTMState(h=o * output_activation(self)(c), c=c), {"i": i, "f": f, "g": g, "o": o}

    def readout(self, params: LSTMParams, state: LSTMState, x: jax.Array) -> jax.Array:
        return state.h


class PeepholeLSTMParams(NamedTuple):
    w_x: jax.Array  # [input, 4 hidden], gates i f g o
    w_h: jax.Array  # [hidden, 4 hidden], gates i f g o
    b: jax.Array | None  # [4 hidden], gates i f g o; None without bias
    p_i: jax.Array  # [hidden]
    p_f: jax.Array  # [hidden]
    p_o: jax.Array  # [hidden]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class PeepholeLSTM(Cell[PeepholeLSTMParams, LSTMState]):
    """LSTM whose gates see the cell (Gers, Schraudolph & Schmidhuber 2002, "Learning precise timing").

        i, f, g, o = split(x_t W_x + h_{t-1} W_h + b)
        c_t = σ(f + p_f c_{t-1}) c_{t-1} + σ(i + p_i c_{t-1}) φ(g)
        h_t = σ(o + p_o c_t) φ(c_t)
        y_t = h_t

    The output gate sees the new cell. Peepholes are one weight per unit, 0 at first; the paper's blocks of several
    cells have size 1 here. Options as in `LSTM`.
    """

    input_size: int
    hidden_size: int
    activation: Activation = dataclasses.field(default="tanh", kw_only=True)
    gate_activation: Activation = dataclasses.field(default="sigmoid", kw_only=True)
    cell_activation: Activation | None = dataclasses.field(default=None, kw_only=True)
    forget_bias: float = dataclasses.field(default=1.0, kw_only=True)
    bias: bool = dataclasses.field(default=True, kw_only=True)

    gates = ("i", "f", "g", "o")
    forget_gate = "f"
    input_gate = "i"
    candidate = "g"

    @property
    def output_size(self) -> int:
        return self.hidden_size

    def init(self, key: jax.Array) -> PeepholeLSTMParams:
        n, h = self.input_size, self.hidden_size
        peephole = jnp.zeros(h)
        params = PeepholeLSTMParams(
            w_x=jnp.zeros((n, 4 * h)),
            w_h=jnp.zeros((h, 4 * h)),
            b=jnp.zeros(4 * h) if self.bias else None,
            p_i=peephole,
            p_f=peephole,
            p_o=peephole,
        )
        params = initializers.standard(key, self, params)
        return initializers.forget_bias(self, params, self.forget_bias) if self.bias else params

    def initial_state(
        self, params: PeepholeLSTMParams, batch: tuple[int, ...] = (), key: jax.Array | None = None
    ) -> LSTMState:
        return zero_state((*batch, self.hidden_size), params.w_h.dtype)

    def project(self, params: PeepholeLSTMParams, x: jax.Array) -> jax.Array:
        return x @ params.w_x

    def recur(self, params: PeepholeLSTMParams, state: LSTMState) -> jax.Array:
        return affine(state.h, params.w_h, params.b)

    def update(self, params: PeepholeLSTMParams, state: LSTMState, z: jax.Array, r: jax.Array) -> LSTMState:
        return self.update_with_gates(params, state, z, r)[0]

    def update_with_gates(
        self, params: PeepholeLSTMParams, state: LSTMState, z: jax.Array, r: jax.Array
    ) -> tuple[LSTMState, dict[str, jax.Array]]:
        gate, squash = activation_function(self.gate_activation), activation_function(self.activation)
        i, f, g, o = jnp.split(z + r, 4, -1)
        i = gate(i + broadcast_like(params.p_i, i) * state.c)
        f = gate(f + broadcast_like(params.p_f, f) * state.c)
        c = f * state.c + i * (g := squash(g))
        o = gate(o + broadcast_like(params.p_o, o) * c)
        return LSTMState(h=o * output_activation(self)(c), c=c), {"i": i, "f": f, "g": g, "o": o}

    def readout(self, params: PeepholeLSTMParams, state: LSTMState, x: jax.Array) -> jax.Array:
        return state.h


class ProjectedLSTMParams(NamedTuple):
    w_x: jax.Array  # [input, 4 hidden], gates i f g o
    w_h: jax.Array  # [proj, 4 hidden], gates i f g o
    b: jax.Array | None  # [4 hidden], gates i f g o; None without bias
    w_r: jax.Array  # [hidden, proj]


class ProjectedLSTMState(NamedTuple):
    h: jax.Array  # [*batch, proj]
    c: jax.Array  # [*batch, hidden]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class ProjectedLSTM(Cell[ProjectedLSTMParams, ProjectedLSTMState]):
    """LSTM with a recurrent projection (Sak, Senior & Beaufays 2014), `torch.nn.LSTM(..., proj_size=)`.

        i, f, g, o = split(x_t W_x + h_{t-1} W_h + b)
        c_t = σ(f) c_{t-1} + σ(i) φ(g)
        h_t = (σ(o) φ(c_t)) W_r
        y_t = h_t

    Without the peepholes and the second, non-recurrent projection of the paper, as PyTorch has it. Options as in
    `LSTM`.
    """

    input_size: int
    hidden_size: int
    proj_size: int
    activation: Activation = dataclasses.field(default="tanh", kw_only=True)
    gate_activation: Activation = dataclasses.field(default="sigmoid", kw_only=True)
    cell_activation: Activation | None = dataclasses.field(default=None, kw_only=True)
    forget_bias: float = dataclasses.field(default=1.0, kw_only=True)
    bias: bool = dataclasses.field(default=True, kw_only=True)

    gates = ("i", "f", "g", "o")
    forget_gate = "f"
    input_gate = "i"
    candidate = "g"

    @property
    def output_size(self) -> int:
        return self.proj_size

    def init(self, key: jax.Array) -> ProjectedLSTMParams:
        n, h, p = self.input_size, self.hidden_size, self.proj_size
        params = ProjectedLSTMParams(
            w_x=jnp.zeros((n, 4 * h)),
            w_h=jnp.zeros((p, 4 * h)),
            b=jnp.zeros(4 * h) if self.bias else None,
            w_r=jnp.zeros((h, p)),
        )
        params = initializers.standard(key, self, params)
        return initializers.forget_bias(self, params, self.forget_bias) if self.bias else params

    def initial_state(
        self, params: ProjectedLSTMParams, batch: tuple[int, ...] = (), key: jax.Array | None = None
    ) -> ProjectedLSTMState:
        dtype = params.w_h.dtype
        return ProjectedLSTMState(
            h=jnp.zeros((*batch, self.proj_size), dtype), c=jnp.zeros((*batch, self.hidden_size), dtype)
        )

    def project(self, params: ProjectedLSTMParams, x: jax.Array) -> jax.Array:
        return x @ params.w_x

    def recur(self, params: ProjectedLSTMParams, state: ProjectedLSTMState) -> jax.Array:
        return affine(state.h, params.w_h, params.b)

    def update(
        self, params: ProjectedLSTMParams, state: ProjectedLSTMState, z: jax.Array, r: jax.Array
    ) -> ProjectedLSTMState:
        return self.update_with_gates(params, state, z, r)[0]

    def update_with_gates(
        self, params: ProjectedLSTMParams, state: ProjectedLSTMState, z: jax.Array, r: jax.Array
    ) -> tuple[ProjectedLSTMState, dict[str, jax.Array]]:
        i, f, g, o = activated_gates(z + r, self.gate_activation, self.activation)
        c = f * state.c + i * g
        new = ProjectedLSTMState(h=(o * output_activation(self)(c)) @ params.w_r, c=c)
        return new, {"i": i, "f": f, "g": g, "o": o}

    def readout(self, params: ProjectedLSTMParams, state: ProjectedLSTMState, x: jax.Array) -> jax.Array:
        return state.h


def zero_state(shape: tuple[int, ...], dtype: jnp.dtype) -> LSTMState:
    """Two arrays, not one twice: a state may be donated."""
    return LSTMState(h=jnp.zeros(shape, dtype), c=jnp.zeros(shape, dtype))


def output_activation(cell: Any) -> Callable[[jax.Array], jax.Array]:
    """What the output gate opens on."""
    return activation_function(cell.activation if cell.cell_activation is None else cell.cell_activation)


def activated_gates(
    gates: jax.Array, gate: Activation, squash: Activation, order: Sequence[str] = LSTM.gates
) -> list[jax.Array]:
    """`gates` [..., gates * hidden] in that order, activated: `squash` on g and `gate` on the others."""
    if (gate, squash) == ("sigmoid", "tanh"):
        return lstm_gates(gates, order)
    sigma, phi = activation_function(gate), activation_function(squash)
    return [(phi if name == "g" else sigma)(a) for name, a in zip(order, jnp.split(gates, len(order), -1), strict=True)]
