"""What the ways to differentiate a loop keep: bytes of the compiled program, which are exact, unlike its time."""

import jax
import jax.numpy as jnp
import pytest

import jrnn
from jrnn import Autodiff, Checkpointed, LinearSolve, Scan


def bytes_of(function, cell, time, batch):
    """Bytes that the compiled function takes besides its arguments and results: exact, unlike time."""
    params = jax.eval_shape(cell.init, jax.random.key(0))
    xs = jax.ShapeDtypeStruct((time, batch, cell.input_size), jnp.float32)
    return jax.jit(function).lower(params, xs).compile().memory_analysis().temp_size_in_bytes


def temporary(cell, time, gradient, batch=8, read=lambda state, ys: ys):
    """Of the gradient of what is read."""

    def loss(params, xs):
        return jnp.sum(jnp.square(read(*jrnn.unroll(cell, params, xs, engine=Scan(gradient=gradient)))))

    return bytes_of(jax.grad(loss), cell, time, batch)


@pytest.mark.parametrize("cell", [jrnn.LSTM(32, 32), jrnn.GRU(32, 32)], ids=["lstm", "gru"])
def test_keeping_the_states_takes_a_quarter_of_the_memory(cell):
    assert temporary(cell, 512, LinearSolve(save="states")) < temporary(cell, 512, Autodiff()) / 4


@pytest.mark.parametrize("cell", [jrnn.LSTM(32, 32), jrnn.GRU(32, 32), jrnn.Elman(32, 32)], ids=repr)
def test_outputs_that_nobody_reads_are_not_stacked(cell):
    def last(params, xs):
        return jrnn.unroll(cell, params, xs)[0]

    longest = bytes_of(last, cell, 16384, 8)
    assert longest == bytes_of(last, cell, 32768, 8)
    assert longest < 16384 * 8 * 32 * 4


@pytest.mark.parametrize("cell", [jrnn.LSTM(32, 32), jrnn.GRU(32, 32), jrnn.Elman(32, 32)], ids=repr)
def test_checkpointed_memory_for_the_last_state_grows_with_the_root_of_time(cell):
    def checkpointed(time):
        return temporary(cell, time, Checkpointed(), 4, lambda state, ys: state[0])

    assert checkpointed(16384) < 2.5 * checkpointed(4096)
    assert checkpointed(16384) < 0.05 * temporary(cell, 16384, Autodiff(), 4, lambda state, ys: state[0])


@pytest.mark.parametrize("cell", [jrnn.LSTM(32, 32), jrnn.GRU(32, 32), jrnn.Elman(32, 32)], ids=repr)
def test_checkpointed_takes_a_fiftieth_of_the_memory_beyond_the_outputs(cell):
    """And their cotangents, which both have."""
    outputs = 2 * 512 * 8 * 32 * 4
    checkpointed, whole = (temporary(cell, 512, gradient) - outputs for gradient in (Checkpointed(), Autodiff()))
    assert checkpointed < whole / 50


def test_checkpointed_keeps_little_beyond_the_outputs():
    """The outputs, which the caller asked for, and their cotangents grow with time; what is kept on top of them does not."""
    cell = jrnn.LSTM(32, 32)

    def beyond(time):
        return temporary(cell, time, Checkpointed()) - 2 * time * 8 * 32 * 4

    assert beyond(4096) < 5 * beyond(256)


def test_gates_are_read_from_where_the_projection_put_them():
    """Not split beforehand, which would write each once more; the candidate's, to which a bias is added, is."""
    cell = jrnn.GRU(32, 32)
    projections = 256 * 8 * 3 * 32 * 4
    assert bytes_of(lambda params, xs: jrnn.unroll(cell, params, xs)[1], cell, 256, 8) < 1.5 * projections


@pytest.mark.parametrize("order", ["before", "after"])
def test_the_memory_is_not_kept_per_step(order):
    size, rows, source = 32, 4, 400
    cell = jrnn.GRU(2 * size, size)
    model = (
        jrnn.AttentionBefore(cell, jrnn.attention.Dot(size))
        if order == "before"
        else jrnn.AttentionAfter(cell, jrnn.attention.Dot(size), size)
    )
    params = model.init(jax.random.key(0))

    def bytes_of(time):
        def loss(params, ys, xs):
            return jnp.sum(jrnn.unroll(model, jrnn.Bound(params, model.attention.memory(params.attention, ys)), xs)[1])

        shapes = params, jnp.zeros((source, rows, size)), jnp.zeros((time, rows, size))
        return jax.jit(jax.grad(loss, (0, 1, 2))).lower(*shapes).compile().memory_analysis().temp_size_in_bytes

    assert (bytes_of(32) - bytes_of(16)) / 16 < rows * source * size * 4 / 4
