"""Shapes in a cell: pieces without rows, rows of several feature axes, states and dtypes that do not fit."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import normal, same
from jax import lax
from laws import weighted
from own_cells import INPUT, ROWS, TIME, WAYS, Hidden, Simple, by_hand, cell
from test_any_cell import CELLS

import jrnn
from jrnn import Autodiff, LinearSolve, Scan


@cell
class Summing(Simple):
    """Asks for sums in float32 itself: products of 16-bit floats whose result is float32."""

    def project(self, params, x):
        return jnp.matmul(x, params.w_x, preferred_element_type=jnp.float32)

    def recur(self, params, state):
        return jnp.matmul(state.h, params.w_h, preferred_element_type=jnp.float32)


def test_products_of_16_bit_floats_that_are_float32():
    model = Summing()
    params, xs = jax.tree.map(lambda a: a.astype(jnp.bfloat16), (model.init(None), normal(3, TIME, ROWS, INPUT)))

    def gradient(engine):
        return jax.grad(lambda *a: jnp.sum(jrnn.unroll(model, *a, engine=engine)[1].astype(jnp.float32)), (0, 1))(
            params, xs
        )

    found, want = gradient(Scan()), gradient(Scan(gradient=Autodiff()))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(want), strict=True):
        a, b = a.astype(jnp.float32), b.astype(jnp.float32)
        np.testing.assert_allclose(a, b, atol=0.02 * max(1, float(jnp.abs(b).max())))


def test_a_counter_without_rows_is_refused_where_rows_differ():
    model = CELLS["counting"]
    params, xs = model.init(None), normal(3, TIME, ROWS, INPUT)
    for marks in ({"lengths": jnp.array([1, 2, 3])}, {"reset": jnp.zeros((TIME, ROWS), bool)}):
        with pytest.raises(ValueError, match=r"state\.count of Counting.* is int32\[\], without the batch axes \[3\]"):
            jrnn.unroll(model, params, xs, **marks)
    same(jrnn.unroll(model, params, xs[:, 0], lengths=jnp.array(TIME)), by_hand(model, params, xs[:, 0]))


@pytest.mark.parametrize("gradient", [LinearSolve(), Autodiff()], ids=repr)
def test_a_state_of_another_shape_is_refused_by_name(gradient):
    @cell
    class Growing(Simple):
        def update(self, params, state, z, r):
            return Hidden(jnp.concatenate([z, r], -1))

    model = Growing()
    with pytest.raises(
        ValueError, match=r"update of .*Growing.* returns float32\[3, 8\] for state\.h; expected float32\[3, 4\]"
    ):
        jrnn.unroll(model, model.init(None), normal(3, TIME, ROWS, INPUT), engine=Scan(gradient=gradient))

    @cell
    class Renamed(Simple):
        def update(self, params, state, z, r):
            return (z,)

    with pytest.raises(TypeError, match=r"update of .*Renamed.* returns a state of structure"):
        jrnn.unroll(Renamed(), model.init(None), normal(3, TIME, ROWS, INPUT), engine=Scan(gradient=gradient))


def test_rows_and_units_of_the_same_number_are_not_mixed_up():
    """A decay of four units, for four steps and four rows."""
    model = CELLS["leaking"]
    params = model.init(None)
    for shape in ((4, INPUT), (4, 4, INPUT), (2, 4, 4, INPUT), (4, 4, 4, INPUT)):
        xs = normal(3, *shape)
        same(jrnn.unroll(model, params, xs), by_hand(model, params, xs))


class Kernels(NamedTuple):
    w_x: Any  # [3, 3, channels, hidden]
    w_h: Any  # [3, 3, hidden, hidden]


@cell
class Convolutional(jrnn.Cell):
    """Elman with convolutions in place of products: inputs [*batch, height, width, channels]."""

    input_size: tuple[int, ...] = (6, 5, 2)
    output_size: tuple[int, ...] = (6, 5, 4)

    def init(self, key):
        return Kernels(normal(1, 3, 3, 2, 4, scale=0.3), normal(2, 3, 3, 4, 4, scale=0.3))

    def initial_state(self, params, batch=(), key=None):
        return Hidden(jnp.zeros((*batch, *self.output_size), params.w_h.dtype))

    def project(self, params, x):
        return self.convolve(x, params.w_x)

    def recur(self, params, state):
        return self.convolve(state.h, params.w_h)

    def update(self, params, state, z, r):
        return Hidden(jnp.tanh(z + r))

    def readout(self, params, state, x):
        return state.h

    def convolve(self, x, w):
        assert x.ndim < 6, "time and batch are no axes of a picture"
        rows = x.reshape(-1, *x.shape[-3:])
        made = lax.conv_general_dilated(rows, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return made.reshape(*x.shape[:-1], w.shape[-1])


@pytest.mark.parametrize("way", WAYS)
def test_feature_axes_of_a_picture(way):
    model = Convolutional()
    params = model.init(None)
    marks = {"lengths": jnp.array([4, 2]), "reset": jnp.zeros((4, 2), bool).at[1, 0].set(True)}

    def loss(params, xs, way):
        return weighted(jrnn.unroll(model, params, xs, engine=Scan(gradient=way), **marks))

    xs = normal(3, 4, 2, 6, 5, 2)
    gradient = jax.jit(jax.grad(loss, (0, 1)), static_argnums=2)
    same(gradient(params, xs, WAYS[way]), gradient(params, xs, Autodiff()), 1e-4)
    state, y = model.initial_state(params, (2,)), None
    for x in xs:
        state, y = model.step(params, state, x)
    same(jrnn.unroll(model, params, xs)[1][-1], y)
    with pytest.raises(ValueError, match=r"xs has \[6, 5, 3\] features .*expects \[6, 5, 2\] in the last 3 axes"):
        jrnn.unroll(model, params, jnp.ones((4, 2, 6, 5, 3)))
