"""Which steps of a sequence are real, and at which of them a row starts anew."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from .checks import check_flags, check_lengths


class Segments(NamedTuple):
    """What `lengths`, `mask` and `reset` say together. The outermost call makes it once, and checks them."""

    mask: jax.Array | None  # bool [time, *batch], True where a step is real; None: everywhere
    reset: jax.Array | None  # bool [time, *batch], True where a row starts anew; None: nowhere


def make_segments(lengths: Any, mask: Any, reset: Any, time_and_batch: tuple[int, ...]) -> Segments:
    """`lengths`, `mask` and `reset` as `jrnn.unroll` takes them, checked."""
    lengths, mask, reset = (a if a is None else jnp.asarray(a) for a in (lengths, mask, reset))
    if reset is not None:
        check_flags(reset, "reset", time_and_batch)
    return Segments(step_mask(lengths, mask, time_and_batch), reset)


def step_mask(lengths: jax.Array | None, mask: jax.Array | None, time_and_batch: tuple[int, ...]) -> jax.Array | None:
    """`lengths` and `mask`, checked, as one bool [time, *batch]; None where neither is given."""
    if mask is not None:
        check_flags(mask, "mask", time_and_batch)
    if lengths is None:
        return mask
    check_lengths(lengths, time_and_batch)
    steps = lax.broadcasted_iota(jnp.int32, time_and_batch, 0)  # not lengths' dtype: 300 steps do not fit int8
    within = steps < jnp.broadcast_to(lengths.astype(jnp.int32), time_and_batch)
    return within if mask is None else within & mask
