"""Cells whose states are complex and whose parameters are real: the derivatives of a plain loop, in every engine."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pytest
from cases import cast, normal, same
from jax import lax
from laws import weighted
from own_cells import HIDDEN, INPUT, ROWS, TIME, WAYS, Hidden, cell

import jrnn
from jrnn import Autodiff, Scan


class RotorParams(NamedTuple):
    nu: Any
    theta: Any
    w_x: Any


@cell
class Rotor(jrnn.Cell):
    """h_t = exp(-exp(nu) + i theta) h_{t-1} + x_t W, y = Re h: real parameters, a complex state (Orvieto et al. 2023)."""

    input_size: int = INPUT
    output_size: int = HIDDEN

    def init(self, key):
        return RotorParams(normal(1, HIDDEN), normal(2, HIDDEN), normal(3, INPUT, HIDDEN))

    def initial_state(self, params, batch=(), key=None):
        dtype = jnp.complex64 if params.nu.dtype == jnp.float32 else jnp.complex128
        return Hidden(jnp.zeros((*batch, HIDDEN), dtype))

    def project(self, params, x):
        return lax.complex(x @ params.w_x, jnp.zeros_like(x @ params.w_x))

    def recur(self, params, state):
        turn = jnp.exp(lax.complex(-jnp.exp(params.nu), params.theta))
        return state.h * jnp.broadcast_to(turn, state.h.shape)

    def update(self, params, state, z, r):
        return Hidden(z + r)

    def readout(self, params, state, x):
        return state.h.real


@cell
class Unitary(Rotor):
    """A complex matrix that is unitary, exp(i A) with A = A', and a modulus-rectified state: products of complex matrices."""

    def init(self, key):
        return RotorParams(normal(1, HIDDEN), normal(2, HIDDEN, HIDDEN), normal(3, INPUT, HIDDEN))

    def recur(self, params, state):
        a = params.theta + params.theta.T
        return state.h @ jax.scipy.linalg.expm(lax.complex(jnp.zeros_like(a), a))

    def update(self, params, state, z, r):
        h = z + r
        size = jnp.sqrt(h.real**2 + h.imag**2 + 0.1)
        scale = jnp.maximum(size + jnp.broadcast_to(params.nu, size.shape), 0) / size
        return Hidden(h * lax.complex(scale, jnp.zeros_like(scale)))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("model", [Rotor(), Unitary()], ids=repr)
def test_complex_states(model, way):
    with jax.enable_x64(True):
        params, xs = cast((model.init(None), normal(4, TIME, ROWS, INPUT)), jnp.float64)
        start = cast((normal(5, ROWS, HIDDEN), normal(6, ROWS, HIDDEN)), jnp.float64)
        marks = {"lengths": jnp.array([5, 2, 0]), "reset": jnp.zeros((TIME, ROWS), bool).at[3, 0].set(True)}

        def loss(leaves, gradient):
            params, xs, (re, im) = leaves
            final, ys = jrnn.unroll(
                model, params, xs, Hidden(lax.complex(re, im)), engine=Scan(gradient=gradient), **marks
            )
            return weighted((final.h.real, final.h.imag, ys))

        given = params, xs, start
        gradient = jax.jit(jax.grad(loss), static_argnums=1)
        slopes = gradient(given, Autodiff())
        assert all(jnp.any(a != 0) for a in jax.tree.leaves(slopes))
        same(gradient(given, WAYS[way]), slopes, 1e-12)

        @functools.partial(jax.jit, static_argnums=0)
        def directional(way, given):
            return jax.jvp(lambda g: jax.grad(loss)(g, way), (given,), (given,))

        if way in ("default", "states-in-tiles"):
            same(directional(WAYS[way], given), directional(Autodiff(), given), 1e-11)


def test_complex64_states_in_float32():
    model = Rotor()
    params, xs = model.init(None), normal(4, TIME, ROWS, INPUT)

    def slope(way):
        return jax.grad(lambda p: jnp.sum(jrnn.unroll(model, p, xs, engine=Scan(gradient=way))[1] ** 2))(params)

    for way in WAYS.values():
        same(slope(way), slope(Autodiff()))
