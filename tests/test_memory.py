"""What the ways to differentiate a loop keep: bytes of the compiled program, which are exact, unlike its time."""

import jax
import jax.numpy as jnp
import pytest

import jrnn
from jrnn import Autodiff, Checkpointed, LinearSolve, Scan


def temporary(cell, time, gradient, batch=8):
    """Bytes that the compiled gradient takes besides its arguments and results: exact, unlike time."""
    params = jax.eval_shape(cell.init, jax.random.key(0))
    xs = jax.ShapeDtypeStruct((time, batch, cell.input_size), jnp.float32)

    def loss(params, xs):
        return jnp.sum(jnp.square(jrnn.unroll(cell, params, xs, engine=Scan(gradient=gradient))[1][-1]))

    return jax.jit(jax.grad(loss)).lower(params, xs).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("cell", [jrnn.LSTM(32, 32), jrnn.GRU(32, 32)], ids=["lstm", "gru"])
def test_keeping_the_states_takes_a_quarter_of_the_memory(cell):
    assert temporary(cell, 512, LinearSolve(save="states")) < temporary(cell, 512, Autodiff()) / 4


def test_checkpointed_memory_beyond_the_states_grows_with_the_root_of_time():
    """The outputs, which the caller asked for, grow with time; what is kept on top of them does not."""
    cell = jrnn.LSTM(32, 32)

    def beyond(time):
        return temporary(cell, time, Checkpointed()) - 2 * time * 8 * 32 * 4

    assert beyond(4096) < 5 * beyond(256)
    assert temporary(cell, 4096, Checkpointed()) < temporary(cell, 4096, Autodiff()) / 6
