"""Cells without bias: the same numbers as with a bias of zero, from fewer parameters."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from cases import key, random_inputs, random_params, same

import jrnn
from jrnn import initializers

CELLS = {
    "elman": jrnn.Elman(3, 4),
    "jordan": jrnn.Jordan(3, 4, 2),
    "lstm": jrnn.LSTM(3, 4),
    "lstm-peephole": jrnn.PeepholeLSTM(3, 4),
    "lstm-projected": jrnn.ProjectedLSTM(3, 4, 2),
    "lstm-coupled": jrnn.CoupledLSTM(3, 4),
    "gru-after": jrnn.GRU(3, 4),
    "gru-before": jrnn.GRU(3, 4, reset_after=False),
}
BIASES = ("b", "b_n", "b_y")


def without(cell):
    return dataclasses.replace(cell, bias=False)


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_no_bias_is_a_bias_of_zero(cell):
    params = random_params(cell)
    biases = {name: a for name, a in params._asdict().items() if name in BIASES and a is not None}
    assert biases
    zero = params._replace(**jax.tree.map(jnp.zeros_like, biases))
    none = params._replace(**dict.fromkeys(biases))
    xs = random_inputs(cell, 4, 2)
    same(jrnn.unroll(without(cell), none, xs), jrnn.unroll(cell, zero, xs), tolerance=1e-6)
    assert jax.tree.structure(without(cell).init(key(0))) == jax.tree.structure(none)


def test_initialisers_leave_out_what_is_not_there():
    cell = without(CELLS["lstm"])
    params = random_params(cell)
    assert initializers.identity(cell, params).b is None
    assert initializers.uniform(key(0), cell, params).b is None
    for mistake in (
        lambda: initializers.forget_bias(cell, params),
        lambda: initializers.chrono(key(0), cell, params, longest=9),
    ):
        with pytest.raises(ValueError, match=r"LSTM.*no bias to set.*bias=True"):
            mistake()


def test_a_stack_passes_the_option_on():
    layer = jrnn.rnn(jrnn.GRU, input_size=3, hidden_size=4, num_layers=2, bidirectional=True, bias=False)
    assert {a.ndim for a in jax.tree.leaves(layer.init(key(0)))} == {2}
