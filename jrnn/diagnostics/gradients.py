"""How far back a loss reaches: its gradient with respect to the states on the way."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..arrays import differentiable, is_differentiable, length_and_unit, with_differentiable
from ..checks import check_rows, describe
from .states import begin, jacobian, over_rows, run


class GradientByLag(NamedTuple):
    """The gradient of a loss with respect to the state, by the number of steps between the two."""

    lags: jax.Array  # int [time]: 1, 2, ..., time; the last is that of the state before the first step
    norms: jax.Array  # [time, *batch]: |d loss / d state|, Euclidean, over all of the state's arrays
    factor: (
        jax.Array
    )  # [*batch]: what a step back multiplies the norm by, the slope of log norms over lags; NaN of zeros


def state_gradients(
    loss: Callable[[Any], jax.Array], model: Any, params: Any, xs: Any, state: Any = None
) -> list[jax.Array]:
    """d loss(ys) / d state before every step: for each array of the state that has a derivative one [time, *batch, ...].

    `loss` is a number, made of the outputs ys [time, *batch, output] that the model's `step` gives: `lambda ys: ys[-1].sum()` asks
    what reaches back from the last step. Of a loss of several steps, at each state those that come after it count. Of a complex
    array it is the gradient that `jax.grad` gives. An array of the state without batch axes has one gradient for all rows.
    """
    _, state = begin(model, params, xs, state)
    time = jax.tree.leaves(xs)[0].shape[0]
    zeros = [jnp.zeros((time, *leaf.shape), leaf.dtype) for leaf in differentiable(state)]
    if not zeros:
        raise ValueError(f"{model} has no state with a derivative; expected a recurrent model")

    def moved_loss(moves: list[jax.Array]) -> jax.Array:
        def body(state: Any, now: Any) -> tuple[Any, Any]:
            x, moves = now
            moved = with_differentiable(state, [a + move for a, move in zip(differentiable(state), moves)])
            return model.step(params, moved, x)

        value = loss(jax.lax.scan(body, state, (xs, moves))[1])
        if jnp.shape(value) != ():
            raise ValueError(f"loss returns {describe(value)}; expected one number, such as ys[-1].sum()")
        return value

    return jax.grad(moved_loss)(zeros)


def gradient_by_lag(
    loss: Callable[[Any], jax.Array], model: Any, params: Any, xs: Any, state: Any = None
) -> GradientByLag:
    """How much of a loss reaches the state so many steps before, row by row (Hochreiter 1991; Bengio, Simard & Frasconi 1994).

    `model` is a cell or a causal layer, `xs` [time, *batch, ...], `loss(ys)` a number made of the outputs, in general of the last
    one: `lambda ys: (ys[-1] @ w).sum()`. Where that loss mixes rows, what reaches a row is that of all. Norms below the smallest
    number of the dtype are 0, and have no part in `factor`; in float64 fewer are.

    The norm of lag k is at most that of d loss / d s_T times `gradient_bound` of k steps.
    """
    batch, state = begin(model, params, xs, state)
    floats = jax.tree.map(lambda a: a if is_differentiable(a) else None, state)
    needs = (
        "its gradient is not one of a row; expected xs of one row, [time, ...], or a state that each row has its own of"
    )
    check_rows(model, floats, batch, needs)
    gradients = state_gradients(loss, model, params, xs, state)

    norms = length_and_unit(gradients, 1 + len(batch))[0][::-1]
    lags = jnp.arange(1, norms.shape[0] + 1)
    return GradientByLag(lags, norms, _factor(lags.astype(norms.dtype), norms))


def _factor(lags: jax.Array, norms: jax.Array) -> jax.Array:
    """exp of the slope of log norms over lags, by least squares where they are not 0."""
    x = jnp.broadcast_to(lags.reshape(-1, *(1,) * (norms.ndim - 1)), norms.shape)
    some = norms > 0
    y = jnp.where(some, jnp.log(jnp.where(some, norms, jnp.ones_like(norms))), jnp.zeros_like(norms))
    count = jnp.sum(some, axis=0).astype(norms.dtype)

    def centred(a: jax.Array) -> jax.Array:
        mean = jnp.sum(jnp.where(some, a, jnp.zeros_like(a)), axis=0) / count
        return jnp.where(some, a - jnp.broadcast_to(mean, a.shape), jnp.zeros_like(a))

    x = centred(x)
    return jnp.exp(jnp.sum(x * centred(y), axis=0) / jnp.sum(x * x, axis=0))


def jacobians(model: Any, params: Any, xs: Any, state: Any = None) -> jax.Array:
    """d s_t / d s_{t-1} of every step along a run: [time, *batch, n, n], with the n numbers of a state in the order of `vector`.

    Rows are those of the new state. They are all there at once: n^2 numbers for each step and row.
    """
    batch, state = begin(model, params, xs, state)

    def of_row(params: Any, xs: Any, state: Any) -> jax.Array:
        before, _ = run(model, params, xs, state)

        return jax.vmap(functools.partial(jacobian, model, params))(before, xs)

    return over_rows(of_row, batch, params, xs, state, out_axes=1)


def gradient_bound(model: Any, params: Any, xs: Any, state: Any = None) -> jax.Array:
    """By how much a gradient can grow on its way back over so many steps: [time, *batch], index k - 1 for k steps from the last.

    |d s_T / d s_{T-k}| is at most the product of the largest singular values of the last k Jacobians. For a network
    h_t = φ(x_t W_x + h_{t-1} W_h + b) that is at most (σ_max(W_h) max φ')^k, the bound of Pascanu, Mikolov & Bengio 2013; max φ'
    is 1 for tanh and ReLU, 1/4 for the logistic function. A norm of `gradient_by_lag` over that of lag 1 is bounded by what
    comes before the last step, `gradient_bound(model, params, xs[:-1], state)`.
    """
    largest = jnp.linalg.norm(jacobians(model, params, xs, state), ord=2, axis=(-2, -1))
    return jnp.cumprod(largest[::-1], axis=0)
