"""NNX's cells as cells of jrnn: the same numbers, the laws, mistakes."""

import functools

import jax.numpy as jnp
import laws
import pytest
from cases import run, same
from flax import nnx
from flax_cases import HIDDEN, INPUT, X
from nnx_modules import paths, rngs, shaken

import jrnn
from jrnn.flax.nnx import RNN, FlaxCell


class Separate(nnx.RNNCellBase):
    """A cell whose output does not follow from its carry: it sees the input, and another layer."""

    def __init__(self, in_features, hidden_features, *, activation=nnx.tanh, rngs):
        self.h = nnx.Linear(hidden_features, hidden_features, rngs=rngs)
        self.x = nnx.Linear(in_features, hidden_features, rngs=rngs)
        self.y = nnx.Linear(in_features, 2, rngs=rngs)
        self.features, self.activation = hidden_features, activation

    def __call__(self, carry, inputs):
        h = self.activation(self.h(carry["h"]) + self.x(inputs))
        return {"h": 0.5 * h + 0.5 * carry["h"]}, self.y(inputs) * h[..., :2]

    def initialize_carry(self, input_shape, rngs=None, carry_init=None):
        return {"h": jnp.zeros((*input_shape[:-1], self.features), jnp.float32)}

    @property
    def num_feature_axes(self):
        return 1


FLAX_CELLS = {
    "lstm": nnx.LSTMCell,
    "optimized": nnx.OptimizedLSTMCell,
    "gru": nnx.GRUCell,
    "simple": nnx.SimpleCell,
    "separate": Separate,
    "options": functools.partial(Separate, activation=nnx.relu),
}


@pytest.mark.parametrize("name", FLAX_CELLS)
def test_a_flax_cell_in_jrnn_is_the_same_in_flax(name):
    cell = FlaxCell(FLAX_CELLS[name], INPUT, HIDDEN)
    theirs = shaken(nnx.RNN(FLAX_CELLS[name](INPUT, HIDDEN, rngs=rngs()), return_carry=True))
    params = nnx.to_pure_dict(nnx.state(theirs.cell, nnx.Param))
    carry, want = theirs(X)
    state, ys = run(cell, params, jnp.swapaxes(X, 0, 1))
    same((state.carry, state.y, jnp.swapaxes(ys, 0, 1)), (carry, want[:, -1], want))
    assert cell.output_size == want.shape[-1]


def test_a_flax_cell_of_jrnn_in_the_module():
    theirs = shaken(nnx.RNN(nnx.LSTMCell(INPUT, HIDDEN, rngs=rngs())))
    ours = RNN(FlaxCell(nnx.LSTMCell, INPUT, HIDDEN), rngs=rngs())
    assert paths(ours) == paths(theirs)
    nnx.update(ours, nnx.state(theirs, nnx.Param))
    same(ours(X), theirs(X))


LAWS = [
    laws.compiled_is_eager,
    laws.equal_models_compile_once,
    laws.vmap_over_parameters,
    laws.dtypes_are_kept,
    laws.sharded_is_unsharded,
    laws.padding_is_absent,
    laws.packed_is_separate,
    laws.unroll_is_a_loop,
]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_laws(law):
    law(FlaxCell(Separate, 3, 4))


def test_derivatives_agree_in_another_engine():
    engine = jrnn.Scan(gradient=jrnn.LinearSolve(tile=2))
    laws.derivatives_agree(jrnn.Recurrent(FlaxCell(Separate, 3, 4), engine=engine))


class Counting(Separate):
    def __init__(self, *sizes, rngs):
        super().__init__(*sizes, rngs=rngs)
        self.count = nnx.BatchStat(jnp.zeros(()))


def test_mistakes_are_named():
    for attempt, words in [
        (lambda: FlaxCell(nnx.Linear, 3, 4).output_size, "module makes a Linear.*RNNCellBase"),
        (lambda: FlaxCell(nnx.LSTMCell, 0, 4), "input_size is 0"),
        (lambda: FlaxCell(Counting, 3, 4).output_size, "variables besides its parameters.*count.*expected none"),
    ]:
        with pytest.raises((ValueError, TypeError), match=words):
            attempt()
