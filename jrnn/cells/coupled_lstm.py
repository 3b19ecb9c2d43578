"""Long short-term memory with one gate for what comes in and what is forgotten. Gate order i g o."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .. import initializers
from ..arrays import affine, broadcast_like
from ..cell import Cell
from ..checks import Activation, activation_function
from .lstm import LSTMState, activated_gates, output_activation, zero_state


class CoupledLSTMParams(NamedTuple):
    w_x: jax.Array  # [input, 3 hidden], gates i g o
    w_h: jax.Array  # [hidden, 3 hidden], gates i g o
    b: jax.Array | None  # [3 hidden], gates i g o; None without bias
    p_i: jax.Array | None  # [hidden]; None without peepholes
    p_o: jax.Array | None  # [hidden]; None without peepholes


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class CoupledLSTM(Cell[CoupledLSTMParams, LSTMState]):
    """LSTM with coupled input and forget gates, CIFG (Greff et al. 2017, "LSTM: a search space odyssey").

        i, g, o = split(x_t W_x + h_{t-1} W_h + b)
        c_t = (1 - σ(i + p_i c_{t-1})) c_{t-1} + σ(i + p_i c_{t-1}) φ(g)
        h_t = σ(o + p_o c_t) ψ(c_t)
        y_t = h_t

    It forgets what it has as far as it takes something new in: ONNX's LSTM with `input_forget=1`, a quarter smaller than
    `LSTM`. The peepholes p, one weight per unit, 0 at first, are there with `peepholes`, as in the paper. The input gate's bias
    starts at -`forget_bias`; the other options are those of `LSTM`.
    """

    input_size: int
    hidden_size: int
    peepholes: bool = dataclasses.field(default=False, kw_only=True)
    activation: Activation = dataclasses.field(default="tanh", kw_only=True)
    cell_activation: Activation | None = dataclasses.field(default=None, kw_only=True)
    gate_activation: Activation = dataclasses.field(default="sigmoid", kw_only=True)
    forget_bias: float = dataclasses.field(default=1.0, kw_only=True)
    bias: bool = dataclasses.field(default=True, kw_only=True)

    gates = ("i", "g", "o")
    input_gate = "i"
    candidate = "g"

    @property
    def output_size(self) -> int:
        return self.hidden_size

    def init(self, key: jax.Array) -> CoupledLSTMParams:
        n, h = self.input_size, self.hidden_size
        peephole = jnp.zeros(h) if self.peepholes else None
        params = CoupledLSTMParams(
            w_x=jnp.zeros((n, 3 * h)),
            w_h=jnp.zeros((h, 3 * h)),
            b=jnp.zeros(3 * h) if self.bias else None,
            p_i=peephole,
            p_o=peephole,
        )
        params = initializers.standard(key, self, params)
        return initializers.forget_bias(self, params, self.forget_bias) if self.bias else params

    def initial_state(
        self, params: CoupledLSTMParams, batch: tuple[int, ...] = (), key: jax.Array | None = None
    ) -> LSTMState:
        return zero_state((*batch, self.hidden_size), params.w_h.dtype)

    def project(self, params: CoupledLSTMParams, x: jax.Array) -> jax.Array:
        return x @ params.w_x

    def recur(self, params: CoupledLSTMParams, state: LSTMState) -> jax.Array:
        return affine(state.h, params.w_h, params.b)

    def update(self, params: CoupledLSTMParams, state: LSTMState, z: jax.Array, r: jax.Array) -> LSTMState:
        return self.update_with_gates(params, state, z, r)[0]

    def update_with_gates(
        self, params: CoupledLSTMParams, state: LSTMState, z: jax.Array, r: jax.Array
    ) -> tuple[LSTMState, dict[str, jax.Array]]:
        if params.p_i is None or params.p_o is None:
            i, g, o = activated_gates(z + r, self.gate_activation, self.activation, self.gates)
            c = state.c + i * (g - state.c)
        else:
            gate, squash = activation_function(self.gate_activation), activation_function(self.activation)
            i, g, o = jnp.split(z + r, 3, -1)
            i = gate(i + broadcast_like(params.p_i, i) * state.c)
            g = squash(g)
            c = state.c + i * (g - state.c)
            o = gate(o + broadcast_like(params.p_o, o) * c)
        return LSTMState(h=o * output_activation(self)(c), c=c), {"i": i, "g": g, "o": o}

    def readout(self, params: CoupledLSTMParams, state: LSTMState, x: jax.Array) -> jax.Array:
        return state.h
