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


class Context(NamedTuple):
    memory: Any  # [*batch, positions, hidden]
    there: Any  # bool [*batch, positions]


@cell
class Attending(Simple):
    """The state before a step looks at a memory, which is added to what the past says."""

    takes_context = True

    def initial_state(self, params, batch=(), key=None):
        return Hidden(jnp.zeros((*batch, HIDDEN), params.params.w_h.dtype))

    def project(self, params, x):
        return x @ params.params.w_x

    def recur(self, params, state):
        (weights, (memory, there)) = params
        scores = jnp.einsum("...h,...sh->...s", state.h @ weights.w_h, memory)
        shares = jax.nn.softmax(jnp.where(there, scores, -1e9), -1)
        return jnp.einsum("...s,...sh->...h", shares, memory)


def attended(rows=ROWS, positions=6):
    lengths = jnp.arange(rows) % positions + 1
    there = jnp.arange(positions)[None] < lengths[:, None]
    return Context(normal(7, rows, positions, HIDDEN), there)


class Turned(NamedTuple):
    h: jax.Array
    steps: jax.Array


@cell
class Turning(jrnn.Cell):
    """h_t = a h_{t-1} + x_t W with complex h, and a count of steps; y = Re h."""

    input_size: int = 3
    output_size: int = 4

    recurrent = ()

    def init(self, key):
        return {"w": jnp.zeros((3, 4)), "a": jnp.zeros((2, 4))}

    def initial_state(self, params, batch=(), key=None):
        dtype = jnp.complex128 if params["w"].dtype == jnp.float64 else jnp.complex64
        return Turned(jnp.full((*batch, 4), 1 + 2j, dtype), jnp.full(batch, 5))

    def project(self, params, x):
        return x @ params["w"]

    def recur(self, params, state):
        a = jax.lax.complex(*params["a"].astype(state.h.real.dtype))
        return jnp.broadcast_to(a, state.h.shape) * state.h

    def update(self, params, state, z, r):
        return Turned(r + z.astype(r.dtype), state.steps + 1)

    def readout(self, params, state, x):
        return state.h.real.astype(x.dtype)


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
