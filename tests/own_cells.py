"""A cell of one's own and ways to run it, for the tests of what a cell may be."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from cases import normal
from laws import weighted

import jrnn
from jrnn import Checkpointed, LinearSolve

TIME, ROWS, INPUT, HIDDEN = 5, 3, 3, 4

WAYS = {
    "default": LinearSolve(),
    "states-in-tiles": LinearSolve(tile=2, save="states"),
    "gates-in-tiles": LinearSolve(tile=2, save="gates"),
    "checkpointed": Checkpointed(every=2),
}


def cell(kind: type) -> type:
    return jax.tree_util.register_static(dataclasses.dataclass(frozen=True)(kind))


class Weights(NamedTuple):
    w_x: Any
    w_h: Any


class Hidden(NamedTuple):
    h: Any


@cell
class Simple(jrnn.Cell):
    """h_t = f(x_t W_x + h_{t-1} W_h): the cells below change one piece of it."""

    input_size: int = INPUT
    output_size: int = HIDDEN

    def init(self, key):
        return Weights(normal(1, INPUT, HIDDEN), normal(2, HIDDEN, HIDDEN))

    def initial_state(self, params, batch=(), key=None):
        return Hidden(jnp.zeros((*batch, HIDDEN), params.w_h.dtype))

    def project(self, params, x):
        return x @ params.w_x

    def recur(self, params, state):
        return state.h @ params.w_h

    def update(self, params, state, z, r):
        return state._replace(h=self.squash(z + r))

    def readout(self, params, state, x):
        return state.h

    def squash(self, v):
        return jnp.tanh(v)


def by_hand(model, params, xs, state=None):
    """A Python loop over `step`."""
    state = model.initial_state(params, xs.shape[1:-1]) if state is None else state
    ys = []
    for x in xs:
        state, y = model.step(params, state, x)
        ys.append(jax.tree.map(lambda a: jnp.broadcast_to(a, (*xs.shape[1:-1], *a.shape[a.ndim - 1 :])), y))
    return state, jax.tree.map(lambda *a: jnp.stack(a), *ys)


def differentiated(run, params, xs):
    def loss(params, xs):
        final, ys = run(params, xs)
        return weighted(
            jax.tree.leaves((final, ys))
            and [a for a in jax.tree.leaves((final, ys)) if jnp.issubdtype(a.dtype, jnp.inexact)]
        )

    return jax.jit(jax.value_and_grad(loss, (0, 1)))(params, xs)
