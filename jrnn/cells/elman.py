"""The simple recurrent networks: Elman (feeds back its hidden layer) and Jordan (feeds back its output)."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .. import initializers
from ..arrays import affine
from ..cell import Cell
from ..checks import Activation, activation_function


class ElmanParams(NamedTuple):
    w_x: jax.Array  # [input, hidden]
    w_h: jax.Array  # [hidden, hidden]
    b: jax.Array | None  # [hidden]; None without bias


class ElmanState(NamedTuple):
    h: jax.Array  # [*batch, hidden]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Elman(Cell[ElmanParams, ElmanState]):
    """Simple recurrent network (Elman 1990, "Finding structure in time").

        h_t = φ(x_t W_x + h_{t-1} W_h + b)
        y_t = h_t

    φ is `activation`: `"tanh"`, `"relu"`, `"identity"`, any function in `jax.nn` by name, or a function. With
    `initializers.identity` and `"relu"` it is the IRNN. Without `bias` there is no b. Elman used the logistic function
    and a separate output layer. `torch.nn.RNN` has two biases, whose sum is `b`, and stores its weights transposed.
    """

    input_size: int
    hidden_size: int
    activation: Activation = dataclasses.field(default="tanh", kw_only=True)
    bias: bool = dataclasses.field(default=True, kw_only=True)

    candidate = "h"

    @property
    def output_size(self) -> int:
        return self.hidden_size

    def init(self, key: jax.Array) -> ElmanParams:
        n, h = self.input_size, self.hidden_size
        params = ElmanParams(w_x=jnp.zeros((n, h)), w_h=jnp.zeros((h, h)), b=jnp.zeros(h) if self.bias else None)
        return initializers.standard(key, self, params)

    def initial_state(
        self, params: ElmanParams, batch: tuple[int, ...] = (), key: jax.Array | None = None
    ) -> ElmanState:
        return ElmanState(h=jnp.zeros((*batch, self.hidden_size), params.w_h.dtype))

    def project(self, params: ElmanParams, x: jax.Array) -> jax.Array:
        return x @ params.w_x

    def recur(self, params: ElmanParams, state: ElmanState) -> jax.Array:
        return affine(state.h, params.w_h, params.b)

    def update(self, params: ElmanParams, state: ElmanState, z: jax.Array, r: jax.Array) -> ElmanState:
        return self.update_with_gates(params, state, z, r)[0]

    def update_with_gates(
        self, params: ElmanParams, state: ElmanState, z: jax.Array, r: jax.Array
    ) -> tuple[ElmanState, dict[str, jax.Array]]:
        h = activation_function(self.activation)(z + r)
        return ElmanState(h=h), {"h": h}

    def readout(self, params: ElmanParams, state: ElmanState, x: jax.Array) -> jax.Array:
        return state.h


class JordanParams(NamedTuple):
    w_x: jax.Array  # [input, hidden]
    w_h: jax.Array  # [output, hidden]: from the previous output
    b: jax.Array | None  # [hidden]; None without bias
    w_y: jax.Array  # [hidden, output]
    b_y: jax.Array | None  # [output]; None without bias


class JordanState(NamedTuple):
    y: jax.Array  # [*batch, output]: the previous output


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Jordan(Cell[JordanParams, JordanState]):
    """Network with feedback from its own output (Jordan 1986, "Serial order: a parallel distributed processing
    approach").

        h_t = φ(x_t W_x + y_{t-1} W_h + b)
        y_t = ψ(h_t W_y + b_y)

    φ is `activation`, ψ `output_activation`; without `bias` there is no b and no b_y. The state is the output itself, 0
    at first. Jordan's state units also keep a decaying trace of their own past (s_t = μ s_{t-1} + y_{t-1}); here μ = 0,
    as the name is used since Elman.
    """

    input_size: int
    hidden_size: int
    output_size: int
    activation: Activation = dataclasses.field(default="tanh", kw_only=True)
    output_activation: Activation = dataclasses.field(default="identity", kw_only=True)
    bias: bool = dataclasses.field(default=True, kw_only=True)

    candidate = "h"

    def init(self, key: jax.Array) -> JordanParams:
        n, h, y = self.input_size, self.hidden_size, self.output_size
        params = JordanParams(
            w_x=jnp.zeros((n, h)),
            w_h=jnp.zeros((y, h)),
            b=jnp.zeros(h) if self.bias else None,
            w_y=jnp.zeros((h, y)),
            b_y=jnp.zeros(y) if self.bias else None,
        )
        return initializers.standard(key, self, params)

    def initial_state(
        self, params: JordanParams, batch: tuple[int, ...] = (), key: jax.Array | None = None
    ) -> JordanState:
        return JordanState(y=jnp.zeros((*batch, self.output_size), params.w_h.dtype))

    def project(self, params: JordanParams, x: jax.Array) -> jax.Array:
        return x @ params.w_x

    def recur(self, params: JordanParams, state: JordanState) -> jax.Array:
        return affine(state.y, params.w_h, params.b)

    def update(self, params: JordanParams, state: JordanState, z: jax.Array, r: jax.Array) -> JordanState:
        return self.update_with_gates(params, state, z, r)[0]

    def update_with_gates(
        self, params: JordanParams, state: JordanState, z: jax.Array, r: jax.Array
    ) -> tuple[JordanState, dict[str, jax.Array]]:
        h = activation_function(self.activation)(z + r)
        return JordanState(y=activation_function(self.output_activation)(affine(h, params.w_y, params.b_y))), {"h": h}

    def readout(self, params: JordanParams, state: JordanState, x: jax.Array) -> jax.Array:
        return state.y
