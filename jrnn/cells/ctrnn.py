"""Continuous-time recurrent network, integrated by Euler's method."""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .. import initializers
from ..arrays import broadcast_like
from ..cell import Cell
from ..checks import Activation, activation_function
from .noise import keys_of_rows, normal_each, split_each


class CTRNNParams(NamedTuple):
    w_x: jax.Array  # [input, hidden]; without the column of dt where dt is part of the input
    w_h: jax.Array  # [hidden, hidden]
    b: jax.Array  # [hidden]: θ, inside the activation
    log_tau: jax.Array | None  # [hidden]: log of the time constants; None where they are fixed


class CTRNNState(NamedTuple):
    h: jax.Array  # [*batch, hidden]
    key: jax.Array | None  # [*batch] typed keys of the noise; None: no noise


class Drive(NamedTuple):
    x: jax.Array  # [..., hidden]
    dt: jax.Array | None  # [..., 1]; None where it is fixed


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class CTRNN(Cell[CTRNNParams, CTRNNState]):
    """Continuous-time recurrent network (Funahashi & Nakamura 1993; Beer 1995), one Euler step of dt per time step.

        τ dh/dt = -h + φ(h + θ) W_h + x_t W_x
        h_t = h_{t-1} + dt/τ (-h_{t-1} + φ(h_{t-1} + θ) W_h + x_t W_x) + σ sqrt(2 dt/τ) ξ_t
        y_t = φ(h_t + θ)

    h is a membrane potential and y the firing rate; θ is `b`, φ `activation`.

    - `tau`: time constant, one for all or one per unit, in the same unit of time as `dt`; fixed, or with `learn_tau`
      where learning starts (its logarithm is the parameter, so it stays positive). Euler's method wants dt well below
      τ.
    - `dt`: the length of a step; None: the last of the `input_size` features of x is the dt of that step and row, at
      least 0.
    - `noise`: σ, the standard deviation that the noise alone would give h (Song, Yang & Wang 2016). ξ_t is standard
      normal, drawn from the key of each row in the state: `initial_state(params, batch, key)`. Without a key there is
      no noise. A reset restores h but lets the key run on, so that no two episodes see the same noise.
    """

    input_size: int
    hidden_size: int
    activation: Activation = dataclasses.field(default="tanh", kw_only=True)
    tau: float | tuple[float, ...] = dataclasses.field(default=10.0, kw_only=True)
    learn_tau: bool = dataclasses.field(default=False, kw_only=True)
    dt: float | None = dataclasses.field(default=1.0, kw_only=True)
    noise: float = dataclasses.field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        taus = self.tau if isinstance(self.tau, tuple) else (self.tau,)
        if not all(isinstance(tau, int | float) for tau in taus):
            raise TypeError(f"CTRNN: tau is {self.tau!r}; expected a number, or a tuple of one number per unit")
        if len(taus) not in (1, self.hidden_size):
            raise ValueError(f"CTRNN: tau has {len(taus)} values; expected one, or one per unit ({self.hidden_size})")
        if not all(math.isfinite(tau) and tau > 0 for tau in taus):
            raise ValueError(f"CTRNN: tau is {self.tau}; expected positive times, in the unit of dt")
        for name, value in {"noise": self.noise, "dt": 1.0 if self.dt is None else self.dt}.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"CTRNN: {name} is {value!r}; expected a plain number")
        if self.dt is not None and not 0 < self.dt < math.inf:
            raise ValueError(f"CTRNN: dt is {self.dt}; expected a positive time, or None to read it from the input")
        if self.dt is None and self.input_size < 2:
            raise ValueError("CTRNN: input_size is 1 and dt is None; expected at least 2, the last feature being dt")
        if not 0 <= self.noise < math.inf:
            raise ValueError(f"CTRNN: noise is {self.noise}; expected a standard deviation of at least 0")

    @property
    def output_size(self) -> int:
        return self.hidden_size

    def init(self, key: jax.Array) -> CTRNNParams:
        n, h = self.input_size - (self.dt is None), self.hidden_size
        log_tau = jnp.log(jnp.broadcast_to(jnp.asarray(self.tau, float), (h,))) if self.learn_tau else None
        params = CTRNNParams(w_x=jnp.zeros((n, h)), w_h=jnp.zeros((h, h)), b=jnp.zeros(h), log_tau=log_tau)
        return initializers.standard(key, self, params)

    def initial_state(
        self, params: CTRNNParams, batch: tuple[int, ...] = (), key: jax.Array | None = None
    ) -> CTRNNState:
        h = jnp.zeros((*batch, self.hidden_size), params.b.dtype)
        if key is None or self.noise == 0:
            return CTRNNState(h=h, key=None)
        return CTRNNState(h=h, key=keys_of_rows(key, batch))

    def project(self, params: CTRNNParams, x: jax.Array) -> Drive:
        if self.dt is not None:
            return Drive(x=x @ params.w_x, dt=None)
        return Drive(x=x[..., :-1] @ params.w_x, dt=x[..., -1:])

    def recur(self, params: CTRNNParams, state: CTRNNState) -> jax.Array:
        return self._rate(params, state.h) @ params.w_h

    def update(self, params: CTRNNParams, state: CTRNNState, z: Drive, r: jax.Array) -> CTRNNState:
        return self.update_with_gates(params, state, z, r)[0]

    def update_with_gates(
        self, params: CTRNNParams, state: CTRNNState, z: Drive, r: jax.Array
    ) -> tuple[CTRNNState, dict[str, jax.Array]]:
        h = state.h
        tau = jnp.asarray(self.tau, h.dtype) if params.log_tau is None else jnp.exp(params.log_tau)
        part = (jnp.asarray(self.dt, h.dtype) if z.dt is None else jnp.broadcast_to(z.dt, h.shape)) / broadcast_like(
            tau, h
        )
        new = h + part * (r + z.x - h)
        if state.key is None:
            return CTRNNState(h=new, key=None), {"dt/tau": part}
        keys, use = split_each(state.key)
        xi = normal_each(use, (self.hidden_size,), h.dtype)
        # A step of length 0 (padding has dt = 0) adds no noise, and sqrt has no derivative there.
        spread = jnp.where(part > 0, jnp.sqrt(2 * jnp.where(part > 0, part, 1)), 0)
        return CTRNNState(h=new + self.noise * spread * xi, key=keys), {"dt/tau": part}

    def readout(self, params: CTRNNParams, state: CTRNNState, x: jax.Array) -> jax.Array:
        return self._rate(params, state.h)

    def _rate(self, params: CTRNNParams, h: jax.Array) -> jax.Array:
        return activation_function(self.activation)(h + broadcast_like(params.b, h))
