"""One sigmoid unit over many steps: its loss as a function of weight and bias, and gradient descent over it."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jrnn

UNIT = jrnn.Elman(1, 1, activation="sigmoid")
FIRST, TARGET = 0.5, 0.7  # the unit starts as sigmoid(FIRST)


class Descent(NamedTuple):
    """Gradient descent; each [steps + 1], the start first."""

    w: np.ndarray
    b: np.ndarray
    loss: np.ndarray
    gradient: np.ndarray  # its length, before clipping


def end(point: jax.Array, steps: int) -> jax.Array:
    """a_T of the unit with `point` [2]: w and b."""
    w, b = point
    params = jrnn.ElmanParams(w_x=jnp.zeros((1, 1)), w_h=w.reshape(1, 1), b=b.reshape(1))
    start = jrnn.ElmanState(jax.nn.sigmoid(jnp.full(1, FIRST)))
    state, _ = jrnn.unroll(UNIT, params, jnp.zeros((steps, 1)), start)
    return state.h[0]


def loss(point: jax.Array, steps: int) -> jax.Array:
    """(a_T - 0.7)²."""
    return jnp.square(end(point, steps) - TARGET)


def descend(w: float, b: float, *, time: int, learning_rate: float, steps: int, clip: float | None) -> Descent:
    """Gradient descent from (w, b) on the loss after `time` steps of the unit."""
    clipping = optax.identity() if clip is None else optax.clip_by_global_norm(clip)
    optimizer = optax.chain(clipping, optax.sgd(learning_rate))

    def step(carry: Any, _: None) -> tuple[Any, Any]:
        point, state = carry
        value, gradient = jax.value_and_grad(loss)(point, time)
        updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(point, updates), state), (*point, value, optax.tree.norm(gradient))

    start = jnp.array([w, b])
    found = jax.jit(lambda: jax.lax.scan(step, (start, optimizer.init(start)), None, steps + 1)[1])()
    return Descent(*map(np.asarray, found))


@functools.partial(jax.jit, static_argnums=2)
def surface(w: jax.Array, b: jax.Array, steps: int) -> jax.Array:
    """The loss at every w [...] and b [...]."""
    return jnp.vectorize(lambda w, b: loss(jnp.stack([w, b]), steps))(w, b)


@functools.partial(jax.jit, static_argnums=1)
def edge(w: jax.Array, steps: int) -> jax.Array:
    """Where the cliff is, for every w [...]: the b at which the unit ends at 0.5, by bisection."""

    def halve(_: int, sides: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = sides
        middle = (low + high) / 2
        below = jnp.vectorize(lambda w, b: end(jnp.stack([w, b]), steps))(w, middle) < 0.5
        return jnp.where(below, middle, low), jnp.where(below, high, middle)

    return jax.lax.fori_loop(0, 40, halve, (-2 * jnp.abs(w) - 10, 2 * jnp.abs(w) + 10))[0]
