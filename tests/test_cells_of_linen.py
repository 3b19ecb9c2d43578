"""Linen's cells as cells of jrnn: the same numbers, the laws, carries of any kind, mistakes."""

import jax
import jax.numpy as jnp
import laws
import numpy as np
import pytest
from cases import key, random_inputs, random_params, run, same
from flax import linen as nn
from flax_cases import HIDDEN, INPUT, X
from linen_modules import random_like, shapes

import jrnn
from jrnn.flax.linen import RNN, FlaxCell


class Separate(nn.RNNCellBase):
    """A cell whose output does not follow from its carry: it sees the input, and another layer."""

    features: int

    @nn.compact
    def __call__(self, carry, inputs):
        h = nn.tanh(nn.Dense(self.features, name="h")(carry["h"]) + nn.Dense(self.features, name="x")(inputs))
        y = nn.Dense(2, name="y")(inputs) * h[..., :2]
        return {"h": 0.5 * h + 0.5 * carry["h"]}, y

    @nn.nowrap
    def initialize_carry(self, rng, input_shape):
        return {"h": jnp.zeros((*input_shape[:-1], self.features), jnp.float32)}

    @property
    def num_feature_axes(self):
        return 1


FLAX_CELLS = {
    "lstm": nn.LSTMCell(HIDDEN),
    "optimized": nn.OptimizedLSTMCell(HIDDEN),
    "gru": nn.GRUCell(HIDDEN),
    "mgu": nn.MGUCell(HIDDEN),
    "separate": Separate(HIDDEN),
}


@pytest.mark.parametrize("name", FLAX_CELLS)
def test_a_flax_cell_in_jrnn_is_the_same_in_flax(name):
    cell = FlaxCell(FLAX_CELLS[name], INPUT)
    theirs, ours = nn.RNN(FLAX_CELLS[name], return_carry=True), RNN(cell, return_carry=True)
    variables = random_like(jax.eval_shape(theirs.init, key(0), X))
    assert shapes(ours, X) == jax.tree.map(jnp.shape, variables)
    carry, want = theirs.apply(variables, X)
    state, ys = ours.apply(variables, X)
    same((state.carry, state.y, ys), (carry, want[:, -1], want))
    assert cell.output_size == want.shape[-1]


LAWS = [
    laws.compiled_is_eager,
    laws.no_state_is_the_initial_state,
    laws.equal_models_compile_once,
    laws.vmap_is_a_batch_axis,
    laws.batch_axes_do_not_matter,
    laws.dtypes_are_kept,
    laws.sharded_is_unsharded,
    laws.padding_is_absent,
    laws.holes_are_absent,
    laws.packed_is_separate,
    laws.unroll_is_a_loop,
    laws.derivatives_agree,
]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_laws(law):
    law(FlaxCell(Separate(4), 3))


@pytest.mark.parametrize("law", [laws.padding_is_absent, laws.dtypes_are_kept], ids=lambda law: law.__name__)
def test_laws_of_flax_own_cells(law):
    law(FlaxCell(nn.OptimizedLSTMCell(4), 3))


def test_another_engine_inside_shard_map():
    engine = jrnn.Scan(gradient=jrnn.LinearSolve(tile=2))
    laws.sharded_is_unsharded(jrnn.Recurrent(FlaxCell(Separate(4), 3), engine=engine))


def test_flax_cells_are_plain_values():
    cell = FlaxCell(nn.LSTMCell(4), 3)
    assert cell == FlaxCell(nn.LSTMCell(4), 3)
    assert hash(cell) == hash(FlaxCell(nn.LSTMCell(4), 3))
    assert cell != FlaxCell(nn.LSTMCell(5), 3)
    assert jax.tree.leaves(cell) == []


def test_a_flax_cell_that_computes_in_another_dtype():
    cell = FlaxCell(nn.LSTMCell(4, dtype=jnp.bfloat16), 3)
    xs = random_inputs(cell, 5, 2)
    with jax.numpy_dtype_promotion("standard"):  # Flax's cell multiplies its bfloat16 gates by the float32 carry
        params = random_params(cell)
        state, ys = run(cell, params, xs)
    assert {a.dtype for a in jax.tree.leaves((state, ys))} == {jnp.dtype(jnp.float32)}
    same(ys, run(FlaxCell(nn.LSTMCell(4), 3), params, xs)[1], 0.05)


class Clocked(Separate):
    """Its carry counts the steps."""

    @nn.compact
    def __call__(self, carry, inputs):
        y = nn.Dense(2)(inputs) * carry["count"].astype(inputs.dtype)[..., None]
        return {"count": carry["count"] + 1}, y

    @nn.nowrap
    def initialize_carry(self, rng, input_shape):
        return {"count": jnp.zeros(input_shape[:-1], jnp.int32)}


@pytest.mark.parametrize("gradient", [jrnn.Autodiff(), jrnn.LinearSolve()], ids=repr)
def test_a_carry_that_counts(gradient):
    cell = FlaxCell(Clocked(4), 3)
    layer = jrnn.Recurrent(cell, engine=jrnn.Scan(gradient=gradient))
    params, xs = random_params(cell), random_inputs(cell, 5, 2)
    state, ys = run(layer, params, xs, lengths=jnp.array([5, 2]))
    np.testing.assert_array_equal(state.carry["count"], [5, 2])
    assert state.carry["count"].dtype == jnp.int32
    want = xs @ params["Dense_0"]["kernel"] + jnp.broadcast_to(params["Dense_0"]["bias"], (5, 2, 2))
    same(ys[:, 0], want[:, 0] * np.arange(5, dtype=np.float32)[:, None])
    slope = jax.jit(jax.grad(lambda params: jnp.sum(layer.apply(params, xs)[1])))(params)
    same(slope["Dense_0"]["bias"], jnp.full(2, 2 * 10.0))


class Counting(Separate):
    @nn.compact
    def __call__(self, carry, inputs):
        self.variable("statistics", "count", lambda: jnp.zeros(()))
        return carry, nn.Dense(2)(inputs)


def test_mistakes_are_named():
    for attempt, words in [
        (lambda: FlaxCell(nn.ConvLSTMCell(4, (3, 3)), 3), "module is a ConvLSTMCell.*one feature axis"),
        (lambda: FlaxCell(nn.Dense(4), 3), "module is a Dense.*RNNCellBase"),
        (lambda: FlaxCell(nn.LSTMCell(4), 0), "input_size is 0"),
        (lambda: FlaxCell(Counting(4), 3).init(key(0)), "statistics.*expected params alone"),
    ]:
        with pytest.raises((ValueError, TypeError), match=words):
            attempt()
