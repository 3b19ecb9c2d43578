"""Gated recurrent unit, with the reset gate after or before the recurrent product.

Gate order r z n, as PyTorch has it.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import initializers
from ..arrays import add_bias
from ..cell import Cell
from ..checks import Activation, activation_function
from ..xla.gates import sigmoid


class GRUParams(NamedTuple):
    w_x: jax.Array  # [input, 3 hidden], gates r z n
    w_h: jax.Array  # [hidden, 3 hidden], gates r z n
    b: jax.Array | None  # [3 hidden], gates r z n; None without bias
    b_n: jax.Array | None  # [hidden], inside the reset; None without bias, or where reset_after is False


class GRUState(NamedTuple):
    h: jax.Array  # [*batch, hidden]


class Blocks(NamedTuple):
    """An array per gate rather than one: XLA's CPU backend does not vectorise slices of what a loop reads step by step.

    Where `project` splits last of all, a loop without a derivative reads each gate from the whole.
    """

    r: Any  # [..., hidden]
    z: Any  # [..., hidden]
    n: Any  # [..., hidden]; None from `recur` where reset_after is False: its product waits for r


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class GRU(Cell[GRUParams, GRUState]):
    """Gated recurrent unit (Cho et al. 2014).

        r = σ(x_t W_xr + h_{t-1} W_hr + b_r)
        z = σ(x_t W_xz + h_{t-1} W_hz + b_z)
        n = φ(x_t W_xn + b + r (h_{t-1} W_hn + b_n))        reset_after=True: PyTorch, cuDNN, Keras
        n = φ(x_t W_xn + b + (r h_{t-1}) W_hn)              reset_after=False: Cho et al. 2014
        h_t = (1 - z) n + z h_{t-1}
        y_t = h_t

    σ is `gate_activation`, φ `activation`. z keeps the past when it is open, as in Cho et al. (their equation 7), PyTorch
    and Keras; in Chung et al. 2014 and Haiku it is the other way round: negate the z block of `w_x`, `w_h` and `b` to
    convert. Of PyTorch's two biases the sum is `b`, except for n, where `b` holds the first and `b_n` the second. Without
    `bias` there is neither.
    """

    input_size: int
    hidden_size: int
    reset_after: bool = dataclasses.field(default=True, kw_only=True)
    activation: Activation = dataclasses.field(default="tanh", kw_only=True)
    gate_activation: Activation = dataclasses.field(default="sigmoid", kw_only=True)
    bias: bool = dataclasses.field(default=True, kw_only=True)

    gates = ("r", "z", "n")
    forget_gate = "z"
    candidate = "n"

    @property
    def output_size(self) -> int:
        return self.hidden_size

    def init(self, key: jax.Array) -> GRUParams:
        n, h = self.input_size, self.hidden_size
        params = GRUParams(
            w_x=jnp.zeros((n, 3 * h)),
            w_h=jnp.zeros((h, 3 * h)),
            b=jnp.zeros(3 * h) if self.bias else None,
            b_n=jnp.zeros(h) if self.bias and self.reset_after else None,
        )
        return initializers.standard(key, self, params)

    def initial_state(self, params: GRUParams, batch: tuple[int, ...] = (), key: jax.Array | None = None) -> GRUState:
        return GRUState(h=jnp.zeros((*batch, self.hidden_size), params.w_h.dtype))

    def project(self, params: GRUParams, x: jax.Array) -> Blocks:
        r, z, n = jnp.split(x @ params.w_x, 3, -1)
        return Blocks(r, z, add_bias(n, self._biases(params).n))

    def recur(self, params: GRUParams, state: GRUState) -> Blocks:
        b = self._biases(params)
        if not self.reset_after:
            r, z = jnp.split(state.h @ params.w_h[:, : 2 * self.hidden_size], 2, -1)
            return Blocks(add_bias(r, b.r), add_bias(z, b.z), None)
        r, z, n = jnp.split(state.h @ params.w_h, 3, -1)
        return Blocks(add_bias(r, b.r), add_bias(z, b.z), add_bias(n, params.b_n))

    def update(self, params: GRUParams, state: GRUState, z: Blocks, r: Blocks) -> GRUState:
        return self.update_with_gates(params, state, z, r)[0]

    def update_with_gates(
        self, params: GRUParams, state: GRUState, z: Blocks, r: Blocks
    ) -> tuple[GRUState, dict[str, jax.Array]]:
        gate = sigmoid if self.gate_activation == "sigmoid" else activation_function(self.gate_activation)
        reset, keep = gate(z.r + r.r), gate(z.z + r.z)
        late = params.w_h[:, 2 * self.hidden_size :]
        past = (reset * state.h) @ late if r.n is None else reset * r.n
        n = activation_function(self.activation)(z.n + past)
        return GRUState(h=n + keep * (state.h - n)), {"r": reset, "z": keep, "n": n}

    def _biases(self, params: GRUParams) -> Blocks:
        return Blocks(None, None, None) if params.b is None else Blocks(*jnp.split(params.b, 3, -1))

    def readout(self, params: GRUParams, state: GRUState, x: jax.Array) -> jax.Array:
        return state.h
