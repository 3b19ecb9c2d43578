"""Activations with numbers in them, as values: equal where their numbers are, so that cells that hold them stay plain values.

Each takes the place of a name (`jrnn.GRU(3, 4, gate_activation=jrnn.activations.HardSigmoid(0.2))`). What ONNX has under these
names, with its defaults: https://onnx.ai/onnx/operators/onnx__RNN.html
"""

import dataclasses

import jax
import jax.numpy as jnp

from .checks import Activation, activation_function


@dataclasses.dataclass(frozen=True)
class Affine:
    """alpha x + beta."""

    alpha: float = 1.0
    beta: float = 0.0

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.alpha * x + self.beta


@dataclasses.dataclass(frozen=True)
class HardSigmoid:
    """alpha x + beta, kept within 0 and 1. (`"hard_sigmoid"`, as PyTorch and Keras 3 have it, has alpha 1/6; Keras 2 had 0.2.)"""

    alpha: float = 0.2
    beta: float = 0.5

    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.clip(self.alpha * x + self.beta, 0, 1)


@dataclasses.dataclass(frozen=True)
class LeakyRelu:
    """x, and alpha x below 0."""

    alpha: float = 0.01

    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.where(x >= 0, x, self.alpha * x)


@dataclasses.dataclass(frozen=True)
class ThresholdedRelu:
    """x above alpha, else 0."""

    alpha: float = 1.0

    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.where(x > self.alpha, x, 0)


@dataclasses.dataclass(frozen=True)
class ScaledTanh:
    """alpha tanh(beta x)."""

    alpha: float
    beta: float

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.alpha * jnp.tanh(self.beta * x)


@dataclasses.dataclass(frozen=True)
class Elu:
    """x, and alpha (e^x - 1) below 0."""

    alpha: float = 1.0

    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.where(x > 0, x, self.alpha * jnp.expm1(jnp.minimum(x, 0)))


@dataclasses.dataclass(frozen=True)
class Clipped:
    """`activation` of x kept within -limit and limit."""

    activation: Activation
    limit: float

    def __post_init__(self) -> None:
        activation_function(self.activation, "activation of Clipped")
        if not self.limit > 0:
            raise ValueError(f"Clipped: limit is {self.limit}; expected a positive number")

    def __call__(self, x: jax.Array) -> jax.Array:
        return activation_function(self.activation)(jnp.clip(x, -self.limit, self.limit))
