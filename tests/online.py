"""Online learners on random sequences, and what they are compared with."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from cases import HIDDEN, INPUT, apply, random_inputs, random_params
from jax import lax

import jrnn
from jrnn.online import Online

TIME, ROWS = 6, 3
STACK = jrnn.rnn(jrnn.GRU, input_size=INPUT, hidden_size=HIDDEN, num_layers=2)


def example(model: Any, seed: int = 0) -> tuple[Any, ...]:
    """Float64 parameters, inputs, weights of the loss, masks and resets."""
    rng = np.random.default_rng(seed)
    params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), random_params(model))
    xs = jnp.asarray(random_inputs(model, TIME, ROWS), jnp.float64)
    ys = jax.eval_shape(lambda p, xs: apply(model, p, xs)[1], params, xs)
    marks = jnp.asarray(rng.standard_normal(ys.shape))
    mask = jnp.asarray(rng.random((TIME, ROWS)) < 0.8).at[:, 0].set(jnp.arange(TIME) < 4)
    return params, xs, marks, mask, jnp.asarray(rng.random((TIME, ROWS)) < 0.15)


def loss(ys: jax.Array, marks: jax.Array) -> jax.Array:
    """Not linear in the outputs, so that their values matter too."""
    return jnp.sum(marks * ys + ys**2)


def bptt(model: Any, params: Any, xs: Any, marks: Any, mask: Any, reset: Any) -> Any:
    return jax.grad(lambda p: loss(apply(model, p, xs, mask=mask, reset=reset)[1], marks))(params)


def in_windows(layer: Any, steps: int, params: Any, xs: Any, marks: Any, mask: Any, reset: Any, key: Any = None) -> Any:
    """The sum of the gradients of windows of so many steps, a state passed from one to the next; and the final state."""

    def one(state: Any, window: Any) -> tuple[Any, Any]:
        xs, marks, mask, reset = window

        def of_window(params: Any) -> tuple[jax.Array, Any]:
            new, ys = layer.apply(params, xs, state, mask=mask, reset=reset)
            return loss(ys, marks), new

        gradient, new = jax.grad(of_window, has_aux=True)(params)
        return new, gradient

    windows = jax.tree.map(lambda a: a.reshape(-1, steps, *a.shape[1:]), (xs, marks, mask, reset))
    state, gradients = lax.scan(one, layer.initial_state(params, xs.shape[1:2], key), windows)
    return jax.tree.map(lambda g: g.sum(0), gradients), state


def distance(a: Any, b: Any) -> float:
    """Of two trees of arrays, relative to the second."""
    a, b = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (a, b))
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Cut(jrnn.Cell):
    """`cell`, whose `recur` passes no derivative of the state; with `own`, that of each unit to itself alone."""

    cell: Any
    own: bool

    input_size = property(lambda self: self.cell.input_size)
    output_size = property(lambda self: self.cell.output_size)

    def init(self, key):
        return self.cell.init(key)

    def initial_state(self, params, batch=(), key=None):
        return self.cell.initial_state(params, batch, key)

    def project(self, params, x):
        return self.cell.project(params, x)

    def recur(self, params, state):
        r = self.cell.recur(params, lax.stop_gradient(state))
        if not self.own:
            return r
        diagonal = jnp.tile(jnp.eye(params.w_h.shape[0]), (1, params.w_h.shape[1] // params.w_h.shape[0]))
        alone = self.cell.recur(lax.stop_gradient(params._replace(w_h=params.w_h * diagonal)), state)
        return jax.tree.map(lambda r, a: r + a - lax.stop_gradient(a), r, alone)

    def update(self, params, state, z, r):
        return self.cell.update(params, state, z, r)

    def readout(self, params, state, x):
        return self.cell.readout(params, state, x)


def online(model: Any, method: Any, **options: Any) -> Online:
    return Online(jrnn.Recurrent(model) if isinstance(model, jrnn.Cell) else model, method, **options)
