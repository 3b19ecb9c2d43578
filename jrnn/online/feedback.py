"""Random feedback: errors that return by other weights than those they came by."""

from typing import Any

import jax


@jax.custom_jvp
def feedback_product(x: jax.Array, w: jax.Array, feedback: jax.Array) -> jax.Array:
    """`x @ w`, whose derivative with respect to `x` is that of `x @ feedback` (feedback alignment, Lillicrap et al. 2016).

    x [..., in], w and feedback [in, out], which has no gradient itself. Above an `Online` layer with `local=True`, a read-out by
    this product makes a rule without symmetric weights: RFLO (Murray 2019), or e-prop with random feedback (Bellec et al. 2020).
    """
    return x @ w


@feedback_product.defjvp
def _(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    (x, w, feedback), (dx, dw, _) = primals, tangents
    return x @ w, dx @ feedback + x @ dw
