"""The noise of a CTRNN: keys are used once, and no key means no noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import key, normal, random_inputs, random_params, random_state, run, same

import jrnn

CELL = jrnn.CTRNN(3, 4, tau=3.0, noise=0.5)
PARAMS = random_params(CELL)
XS = random_inputs(CELL, 6, 2)


def outputs(cell=CELL, seed=None, **marks):
    state = cell.initial_state(PARAMS, (2,), None if seed is None else key(seed))
    return run(cell, PARAMS, XS, state, **marks)[1]


def test_one_key_one_set_of_numbers():
    same(outputs(seed=1), outputs(seed=1), tolerance=0)
    assert not np.allclose(outputs(seed=1), outputs(seed=2))
    assert not np.allclose(outputs(seed=1), outputs())


def test_no_key_no_noise():
    same(outputs(), outputs(jrnn.CTRNN(3, 4, tau=3.0)))
    same(outputs(jrnn.CTRNN(3, 4, tau=3.0), seed=1), outputs(), tolerance=0)


def test_a_layer_takes_the_key_and_gives_it_to_the_cell():
    layer = jrnn.Recurrent(CELL)
    same(layer.apply(PARAMS, XS, key=key(1))[1], outputs(seed=1))
    same(layer.apply(PARAMS, XS)[1], outputs())


@pytest.mark.parametrize("batch", [(), (2,)])
def test_a_state_without_keys_takes_its_noise_from_the_key(batch):
    """Its numbers stay; the keys are those of a fresh state."""
    layer, xs = jrnn.Recurrent(CELL), random_inputs(CELL, 6, *batch)
    plain = CELL.initial_state(PARAMS, batch)._replace(h=normal(5, *batch, 4))
    keyed = plain._replace(key=CELL.initial_state(PARAMS, batch, key(1)).key)
    same(layer.apply(PARAMS, xs, plain, key=key(1)), run(CELL, PARAMS, xs, keyed))
    assert not np.allclose(layer.apply(PARAMS, xs, plain, key=key(1))[1], layer.apply(PARAMS, xs, plain)[1])


def test_a_state_with_keys_keeps_them():
    layer, state = jrnn.Recurrent(CELL), CELL.initial_state(PARAMS, (2,), key(1))
    same(layer.apply(PARAMS, XS, state, key=key(2)), layer.apply(PARAMS, XS, state), tolerance=0)


def test_a_stack_gives_each_state_its_key():
    stack = jrnn.Layered((jrnn.Recurrent(CELL), jrnn.Recurrent(jrnn.CTRNN(4, 4, noise=0.5))))
    params = random_params(stack)
    state = stack.initial_state(params, (2,))
    same(stack.apply(params, XS, state, key=key(1)), stack.apply(params, XS, key=key(1)))
    final, _ = stack.apply(params, XS, state)
    assert [entry.key for entry in final] == [None, None]


def test_a_key_changes_nothing_for_a_cell_without_noise():
    layer = jrnn.Recurrent(jrnn.LSTM(3, 4))
    params = random_params(layer)
    state = random_state(layer, params, (2,))
    same(layer.apply(params, XS, state, key=key(1)), layer.apply(params, XS, state), tolerance=0)


@pytest.mark.parametrize("implementation", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_a_row_draws_the_same_alone_and_beside_padding(implementation):
    state = CELL.initial_state(PARAMS, (2,), jax.random.key(1, impl=implementation))
    want = run(CELL, PARAMS, XS[:, 1], jax.tree.map(lambda a: a[1], state))
    for lengths in ([6, 6], [1, 6]):
        got = run(CELL, PARAMS, XS, state, lengths=jnp.array(lengths))
        same((jax.tree.map(lambda a: a[1], got[0]), got[1][:, 1]), want)


def still(dt=1.0):
    """Noise alone: no input, no recurrence. Many units, read out as they are."""
    cell = jrnn.CTRNN(2, 500, activation="identity", tau=10.0, noise=0.7, dt=dt)
    return cell, jax.tree.map(jnp.zeros_like, random_params(cell))


def test_every_row_step_and_unit_has_its_own_noise():
    cell, params = still()
    h = run(cell, params, jnp.zeros((3, 2, 2)), cell.initial_state(params, (2,), key(0)))[1]
    fresh = jnp.concatenate([h[:1], h[1:] - 0.9 * h[:-1]]).reshape(6, 500)
    correlation = np.corrcoef(fresh)
    assert np.abs(correlation - np.eye(6)).max() < 0.2


def test_noise_does_not_repeat_after_a_reset():
    cell, params = still()
    state = cell.initial_state(params, (1,), key(0))
    reset = jnp.zeros((6, 1), bool).at[3].set(True)
    h = run(cell, params, jnp.zeros((6, 1, 2)), state, reset=reset)[1]
    assert abs(np.corrcoef(h[0, 0], h[3, 0])[0, 1]) < 0.2
    assert np.std(h[3]) == pytest.approx(float(np.std(h[0])), rel=0.2)


@pytest.mark.parametrize("dt", [1.0, None], ids=["fixed", "input"])
def test_noise_alone_has_the_standard_deviation_sigma(dt):
    """Euler's step makes it σ / sqrt(1 - dt / 2τ), and the 150 steps are ten time constants and more."""
    cell, params = still(dt)
    xs = jnp.ones((150, 4, 2))
    h = run(cell, params, xs, cell.initial_state(params, (4,), key(0)))[0].h
    assert np.std(h) == pytest.approx(0.7 / np.sqrt(1 - 0.05), rel=0.06)
    assert abs(np.mean(h)) < 0.06
