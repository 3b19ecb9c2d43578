"""Terms that are added to a loss: what keeps a gradient from vanishing on its way back through time."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from .arrays import differentiable, length, length_and_unit, match_varying_axes, select_values, with_differentiable
from .checks import describe
from .losses import Mean


def gradient_norm(
    model: Any,
    params: Any,
    xs: jax.Array,
    loss: Callable[[Any], jax.Array],
    state: Any = None,
    *,
    mask: jax.Array | None = None,
) -> Mean:
    """How far each step is from passing the gradient on at its length (Pascanu, Mikolov & Bengio 2013, equations 9 and 10).

        Ω = Σ_t (‖∂E/∂s_t · ∂s_t/∂s_{t-1}‖ / ‖∂E/∂s_t‖ - 1)²

    s_t is the state after step t, E the loss, and ∂E/∂s_t its whole derivative, through all later steps. Where a gradient
    vanishes or explodes on its way back, Ω is large; it is 0 where every step keeps its length. Add it to the loss, times a
    factor, and clip: the two together are the paper's SGD-CR.

    Its derivative with respect to `params` is the paper's immediate one: s_{t-1} and ∂E/∂s_t are held constant, and only the
    Jacobian between them, ∂s_t/∂s_{t-1}, is moved. There is none with respect to `xs`, `state` and what `loss` closes over.

    Args:
      model: a cell, or a layer that can be run step by step (causal, time first); dropout is left out.
      params: its parameters.
      xs: inputs [time, *batch, ...].
      loss: `loss(states)`, the scalar E of the states after every step, [time, *batch, ...]. Of a cell, outputs are
        `cell.readout(params, states, xs)`, the last state is `jax.tree.map(lambda s: s[-1], states)`.
      state: the state before the first step; None: the model's initial one. Its noise keys, if any, draw as in the run.
      mask: bool [time, *batch], which steps are real; None: all. A padded step passes the gradient on as it is.

    Returns:
      The sum over steps and rows, and the number of rows. The length is that of a row's whole state (of an LSTM, h and c
      together). A step that no gradient reaches (exactly 0) adds nothing. Lengths are computed in float32 at least.
    """
    xs = jnp.asarray(xs)
    features = len(model.input_size) if isinstance(model.input_size, tuple) else int(model.input_size is not None)
    batch = xs.shape[1 : xs.ndim - features]
    if mask is not None and (mask.shape != (len(xs), *batch) or mask.dtype != jnp.bool_):
        raise ValueError(
            f"mask is {describe(mask)}; expected bool{[len(xs), *batch]}, or None where every step is real"
        )
    fixed, xs = lax.stop_gradient(match_varying_axes(params, xs))
    state = model.initial_state(fixed, batch) if state is None else state
    _, state, xs = lax.stop_gradient(match_varying_axes(params, state, xs))

    def step(params: Any, before: Any, x: jax.Array, real: jax.Array | None) -> Any:
        new = model.step(params, before, x)[0]
        return new if real is None else select_values(real, new, before)

    def run(moves: list[jax.Array]) -> Any:
        """The states after every step, to each of which `moves` [time, ...] are added."""

        def body(before: Any, now: Any) -> tuple[Any, Any]:
            *given, move = now
            new = step(fixed, before, *given)
            new = with_differentiable(new, [a + b for a, b in zip(differentiable(new), move, strict=True)])
            return new, new

        return lax.scan(body, state, (xs, mask, moves))[1]

    def whole(moves: list[jax.Array]) -> tuple[jax.Array, Any]:
        states = run(moves)
        value = loss(states)
        if jnp.shape(value) != ():
            raise ValueError(f"loss(states) is {describe(value)}; expected a scalar, such as a mean over rows")
        return value, states

    still = [jnp.zeros_like(jnp.broadcast_to(a, (len(xs), *a.shape))) for a in differentiable(state)]
    gradients, states = lax.stop_gradient(jax.grad(whole, has_aux=True)(still))
    lengths, units = jax.vmap(lambda gradient: length_and_unit(gradient, len(batch)))(gradients)

    def passed_on(before: Any, x: jax.Array, real: jax.Array | None, unit: list[jax.Array]) -> jax.Array:
        """The length [*batch] of a gradient of length 1 on the other side of a step."""

        def of(values: list[jax.Array]) -> list[jax.Array]:
            return differentiable(step(params, with_differentiable(before, values), x, real))

        return length(jax.vjp(of, differentiable(before))[1](unit)[0], len(batch))

    befores = jax.tree.map(lambda first, all_: jnp.concatenate([first[None], all_[:-1]]), state, states)
    ratios = jax.vmap(passed_on)(befores, xs, mask, units)
    terms = jnp.where(lengths > 0, jnp.square(ratios - 1), jnp.zeros_like(ratios))
    return Mean(total=terms.sum(), weight=jnp.asarray(math.prod(batch), terms.dtype))
