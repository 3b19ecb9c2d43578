"""Dense: one linear map for every step."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ..arrays import add_bias, at_least_float32, match_varying_axes
from ..checks import check_input, check_key_or_legacy, check_params, check_positive, check_switches
from .pointwise import Pointwise


class DenseParams(NamedTuple):
    w: jax.Array  # [input, output]
    b: jax.Array | None  # [output]; None without bias


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Dense(Pointwise):
    """y_t = x_t W + b, the same for every step: what reads out a recurrent layer, or changes its size.

    Weights start as in Glorot & Bengio 2010 (uniform), b at 0. Without `bias` there is no b. Products of 16-bit floats, and the
    gradients of W and b, are summed in float32 and then rounded.
    """

    input_size: int
    output_size: int
    bias: bool = dataclasses.field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        check_positive("Dense", input_size=self.input_size, output_size=self.output_size)
        check_switches("Dense", bias=self.bias)

    def init(self, key: jax.Array) -> DenseParams:
        check_key_or_legacy(key)
        w = jax.nn.initializers.glorot_uniform()(key, (self.input_size, self.output_size))
        return DenseParams(w=w, b=jnp.zeros(self.output_size) if self.bias else None)

    def map(self, params, x, name):
        check_input(self, x, check_params(self, params), name, time=False)
        return dense(x, params.w, params.b)


def dense(x: jax.Array, w: jax.Array, b: jax.Array | None) -> jax.Array:
    """`x @ w + b`, in float32 where they are 16-bit floats, and rounded once."""
    x, w, b = match_varying_axes(x, w, b)
    wide = at_least_float32(x.dtype)
    y = jnp.matmul(x, w, preferred_element_type=wide)
    # The gradient of b is a sum over all steps and rows: in bfloat16, which counts to 256, it would stop growing.
    return add_bias(y, None if b is None else b.astype(wide)).astype(x.dtype)
