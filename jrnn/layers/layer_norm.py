"""LayerNorm: features normalised at each step."""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ..arrays import broadcast_like, cast_like, halves_to_float32, match_varying_axes
from ..checks import check_input, check_key_or_legacy, check_params, check_positive
from .pointwise import Pointwise


class LayerNormParams(NamedTuple):
    g: jax.Array  # [size]: gain
    b: jax.Array  # [size]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class LayerNorm(Pointwise):
    """Layer normalisation (Ba, Kiros & Hinton 2016): the features of each step and row with mean 0 and variance 1.

        μ, σ² = mean and variance of the features of x_t
        y_t = g (x_t - μ) / sqrt(σ² + ε) + b

    ε is `epsilon`, which the paper does not have. g starts at 1, b at 0. 16-bit floats are normalised in float32 and then rounded.
    It stands between layers; inside a cell it belongs to the cell.
    """

    size: int
    epsilon: float = dataclasses.field(default=1e-5, kw_only=True)

    def __post_init__(self) -> None:
        check_positive("LayerNorm", size=self.size)
        if isinstance(self.epsilon, bool) or not isinstance(self.epsilon, int | float):
            raise TypeError(f"LayerNorm: epsilon is {self.epsilon!r}; expected a number")
        if not 0 < self.epsilon < math.inf:
            raise ValueError(f"LayerNorm: epsilon is {self.epsilon}; expected a positive number")

    @property
    def input_size(self) -> int:
        return self.size

    @property
    def output_size(self) -> int:
        return self.size

    def init(self, key: jax.Array) -> LayerNormParams:
        check_key_or_legacy(key)
        return LayerNormParams(g=jnp.ones(self.size), b=jnp.zeros(self.size))

    def map(self, params, x, name):
        check_input(self, x, check_params(self, params), name, time=False)
        wide, params = halves_to_float32(match_varying_axes(x, params))
        centred = wide - wide.mean(-1, keepdims=True)
        scaled = centred * jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + self.epsilon)
        return cast_like(broadcast_like(params.g, wide) * scaled + broadcast_like(params.b, wide), x)
