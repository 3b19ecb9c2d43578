"""`LearnedState`: the initial state is a parameter."""

import jax
import jax.numpy as jnp
import numpy as np
from cases import CELLS, cast, given, key, random_params, run, same
from jax.sharding import PartitionSpec as P
from laws import in_loops, weighted
from own_cells import Turned, Turning

import jrnn

INSIDE = jrnn.Elman(3, 4)


def test_a_learned_state_starts_every_row_and_document():
    cell = jrnn.LearnedState(INSIDE)
    params, xs, _ = given(cell)
    reset = jnp.zeros((6, 3), bool).at[2, 1].set(True)
    want = jnp.broadcast_to(params.state.h, (3, 4))
    same(cell.initial_state(params, (3,)).h, want)
    got = run(cell, params, xs, reset=reset)[1]
    begun = run(INSIDE, params.cell, xs[2:, 1], jrnn.cells.elman.ElmanState(params.state.h))[1]
    same(got[2:, 1], begun)
    same(got[:, 0], run(INSIDE, params.cell, xs[:, 0], jrnn.cells.elman.ElmanState(params.state.h))[1])


def test_a_learned_state_has_the_gradient_of_all_that_starts_from_it():
    cell = jrnn.LearnedState(INSIDE)
    params, xs, _ = given(cell)
    reset = jnp.zeros((6, 3), bool).at[2, 1].set(True)
    lengths = jnp.array([6, 6, 0])

    def loss(h, engine):
        filled = params._replace(state=params.state._replace(h=h))
        return weighted(run(cell, filled, xs, reset=reset, lengths=lengths, engine=engine))

    for gradient in (jrnn.LinearSolve(), jrnn.LinearSolve(tile=2, save="states"), jrnn.Autodiff()):
        slope = jax.grad(loss)(params.state.h, jrnn.Scan(gradient=gradient))
        for unit in range(4):
            move = 1e-2 * jnp.eye(4)[unit]
            ahead, behind = (loss(params.state.h + sign * move, jrnn.Scan()) for sign in (1, -1))
            np.testing.assert_allclose(slope[unit], (ahead - behind) / 2e-2, rtol=2e-2, atol=2e-2)


def test_a_learned_state_starts_as_the_cells_own_and_leaves_the_rest():
    cell = jrnn.LearnedState(CELLS["ctrnn-noise"])
    params = cell.init(key(0))
    assert params.state.key is None
    same(cell.initial_state(params, (2,)), cell.cell.initial_state(params.cell, (2,)), 0)
    noisy = cell.initial_state(params, (2,), key(3))
    same(noisy, cell.cell.initial_state(params.cell, (2,), key(3)), 0)


def test_the_gradient_of_a_learned_state_over_devices():
    """Rows on two devices, some of them starting anew; no sum over devices in a loop."""
    cell = jrnn.LearnedState(jrnn.LSTM(3, 4))
    params, xs, _ = given(cell, rows=4)
    reset = jnp.zeros((6, 4), bool).at[2, 1].set(True).at[4, 3].set(True)
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))

    def gradient(params, xs, reset):
        return jax.grad(lambda p: jnp.sum(run(cell, p, xs, reset=reset)[1] ** 2))(params)

    sharded = jax.shard_map(gradient, mesh=mesh, in_specs=(P(), P(None, "data"), P(None, "data")), out_specs=P())
    compiled = jax.jit(sharded).lower(params, xs, reset).compile()
    same(compiled(params, xs, reset), gradient(params, xs, reset))
    assert not [line for line in in_loops(compiled.as_text()) if "all-reduce" in line]


def test_a_learned_state_may_be_donated():
    cell = jrnn.LearnedState(INSIDE)
    params = cell.init(key(0))
    cell.initial_state(params).h.delete()
    np.testing.assert_array_equal(params.state.h, 0)


def test_complex_numbers_are_learned_and_counters_are_not():
    cell = jrnn.LearnedState(Turning())
    fresh = cell.init(key(0))
    same(fresh.state, Turned(jnp.stack([jnp.full(4, 1.0), jnp.full(4, 2.0)]), None), 0)
    for dtype in (jnp.float32, jnp.bfloat16):
        start = cell.initial_state(cast(random_params(cell), dtype), (2,))
        assert start.h.dtype == jnp.complex64
        np.testing.assert_array_equal(start.steps, [5, 5])

    params, xs, _ = given(cell)
    reset = jnp.zeros((6, 3), bool).at[4, 1].set(True)
    final, ys = run(cell, params, xs, reset=reset)
    np.testing.assert_array_equal(final.steps, [11, 7, 11])
    (real, imaginary), (a, b) = np.asarray(params.state.h), np.asarray(params.cell["a"])
    same(ys[4, 1], a * real - b * imaginary + xs[4, 1] @ params.cell["w"])

    def loss(params, gradient):
        return weighted(run(cell, params, xs, reset=reset, engine=jrnn.Scan(gradient=gradient))[1])

    slope = jax.grad(loss)(params, jrnn.LinearSolve())
    same(slope, jax.grad(loss)(params, jrnn.Autodiff()))
    assert np.all(np.asarray(slope.state.h) != 0)
