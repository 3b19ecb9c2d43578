"""States that stay where they are: where they must be, how the network moves around them, and which are looked for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import cast, key, normal, random_params, same
from own_cells import Turned, Turning

import jrnn
from jrnn.diagnostics import fixed_points, mixtures, vector, with_vector


def one_unit(w, b=0.0):
    return jrnn.ElmanParams(jnp.zeros((1, 1)), jnp.full((1, 1), w), jnp.full(1, b))


def spread(*shape, by=1.0, seed=0):
    return jnp.asarray(np.random.default_rng(seed).uniform(-by, by, shape))


def test_one_unit_that_is_bistable():
    """h = tanh(2 h): 0, where it leaves at twice the distance a step, and ±.957504, where 2 (1 - h^2) = .166372 of it is left."""
    with jax.enable_x64(True):
        found = fixed_points(jrnn.Elman(1, 1), one_unit(2.0), jnp.zeros(1), jrnn.ElmanState(spread(40, 1)))
        at = np.asarray(found.states.h)[:, 0]
        assert sorted(np.round(at, 6)) == [-0.957504, 0, 0.957504]
        assert found.kind.tolist() == ["stable", "stable", "unstable"]
        assert found.unstable.tolist() == [0, 0, 1]
        slope = 2 * (1 - at**2)
        np.testing.assert_allclose(found.eigenvalues[:, 0], slope, rtol=1e-9)
        np.testing.assert_allclose(found.jacobians[:, 0, 0], slope, rtol=1e-9)
        np.testing.assert_allclose(found.time_constants[:, 0], -1 / np.log(slope), rtol=1e-9)
        assert found.counts.sum() == 40
        assert found.speeds.max() < 1e-14


def test_two_units_that_inhibit_each_other():
    """τ dh/dt = -h + tanh(h) W with eigenvalues 2, (1, 1), and 1/2, (1, -1): h = ±1.915008 (1, -1) of 2 tanh(h) = h, and 0."""
    with jax.enable_x64(True):
        cell = jrnn.CTRNN(1, 2, tau=5.0)
        params = jrnn.CTRNNParams(jnp.zeros((1, 2)), jnp.array([[1.25, -0.75], [-0.75, 1.25]]), jnp.zeros(2), None)
        found = fixed_points(cell, params, jnp.zeros(1), jrnn.CTRNNState(spread(60, 2, by=3), None))
        h = np.asarray(found.states.h)
        np.testing.assert_allclose(np.sort(h[:2, 0]), [-1.915008, 1.915008], atol=1e-6)
        np.testing.assert_allclose(h[:, 1], -h[:, 0], atol=1e-9)
        assert found.kind.tolist() == ["stable", "stable", "saddle"]
        np.testing.assert_allclose(found.eigenvalues[2], [1 + (2 - 1) / 5, 1 + (0.5 - 1) / 5], rtol=1e-9)
        np.testing.assert_allclose(np.abs(found.directions[2]), np.full((2, 2), np.sqrt(0.5)), rtol=1e-9)
        np.testing.assert_allclose(found.directions[2, 0, 0] / found.directions[2, 1, 0], -1, rtol=1e-9)


def test_bits_held_by_hand():
    """Three units that do not see each other, each with three points: a cube's vertices, edges, faces and its centre."""
    with jax.enable_x64(True):
        cell = jrnn.Elman(1, 3)
        params = jrnn.ElmanParams(jnp.zeros((1, 3)), 2 * jnp.eye(3), jnp.zeros(3))
        found = fixed_points(cell, params, jnp.zeros(1), jrnn.ElmanState(spread(600, 3)))
        assert np.bincount(found.unstable).tolist() == [8, 12, 6, 1]
        assert np.all(np.diff(found.unstable) >= 0)
        np.testing.assert_allclose(np.abs(found.states.h).max(-1)[:26], 0.957504, atol=1e-6)


def test_what_is_left_of_two_points_that_met():
    """h = tanh(2 h + b): below b = artanh(h) - 2 h at 2 (1 - h^2) = 1 there is no upper point any more, and it is slow there."""
    with jax.enable_x64(True):
        fold = np.sqrt(0.5)
        params = one_unit(2.0, np.arctanh(fold) - 2 * fold + 0.01 * -1)
        given = jrnn.Elman(1, 1), params, jnp.zeros(1), jrnn.ElmanState(spread(40, 1))
        assert np.asarray(fixed_points(*given).states.h).shape == (1, 1)
        found = fixed_points(*given, slow=0.1)
        assert found.states.h.shape == (2, 1)
        ghost = int(np.argmax(found.speeds))
        assert 1e-3 < found.speeds[ghost] < 0.01
        assert abs(found.states.h[ghost, 0] - fold) < 0.02


def test_a_stack_and_its_input():
    """A stack's state is that of its layers; the input decides where it rests."""
    with jax.enable_x64(True):
        layer = jrnn.rnn(jrnn.GRU, input_size=3, hidden_size=2, num_layers=2)
        params = cast(random_params(layer), jnp.float64)
        x = jnp.array([0.3, -1.0, 2.0])
        starts = cast(jax.tree.map(lambda a: normal(1, 12, *a.shape), layer.initial_state(params)), jnp.float64)
        found = fixed_points(layer, params, x, starts)
        assert len(found.speeds) >= 1
        states = jax.vmap(lambda s: layer.step(params, s, x)[0])(found.states)
        same(states, found.states, 1e-9)
        rest = layer.apply(params, jnp.tile(x, (500, 1)))[0]
        stable = jax.tree.map(lambda a: a[0], found.states)
        assert found.kind[0] == "stable"
        same(rest, stable, 1e-6)


def test_complex_numbers_are_two_and_a_count_stays():
    model = Turning()
    params = {"w": normal(1, 3, 4), "a": 0.5 * jnp.ones((2, 4))}
    x = normal(2, 3)
    starts = Turned(jnp.zeros((5, 4), jnp.complex64), jnp.arange(5))
    found = fixed_points(model, params, x, starts)
    np.testing.assert_allclose(found.states.h[0], np.asarray(x @ params["w"]) / (0.5 - 0.5j), rtol=1e-5)
    assert found.states.steps.tolist() == [0]
    np.testing.assert_allclose(np.sort(found.eigenvalues[0].imag), [-0.5] * 4 + [0.5] * 4, atol=1e-6)
    np.testing.assert_allclose(found.time_constants, np.full((1, 8), -1 / np.log(np.sqrt(0.5))), rtol=1e-5)


def test_where_nothing_is_fixed_nothing_is_found():
    cell = jrnn.Elman(1, 2, activation=lambda h: h + 1)
    params = jrnn.ElmanParams(jnp.zeros((1, 2)), jnp.eye(2), jnp.zeros(2))
    found = fixed_points(cell, params, jnp.zeros(1), jrnn.ElmanState(jnp.zeros((3, 2))))
    assert found.states.h.shape == (0, 2)
    assert {name: len(a) for name, a in found._asdict().items() if name != "states"} == dict.fromkeys(
        found._fields[1:], 0
    )


def test_keys_that_last_stay_and_those_that_do_not_are_refused():
    cell = jrnn.GRU(3, 4)
    params = random_params(cell)
    x = normal(0, 3)
    lasting = jrnn.RecurrentDropout(cell, 0.5)
    state = jax.tree.map(lambda a: a[None], lasting.initial_state(params, key=key(3)))
    found = fixed_points(lasting, params, x, state)
    assert len(found.speeds) == 1
    assert jax.random.key_data(found.states.key).tolist() == jax.random.key_data(state.key).tolist()
    noisy = jrnn.CTRNN(3, 4, noise=0.1)
    starts = noisy.initial_state(random_params(noisy), (5,), key(0))
    with pytest.raises(ValueError, match=r"starts\.key holds keys from which every step draws anew"):
        fixed_points(noisy, random_params(noisy), x, starts)
    fixed_points(noisy, random_params(noisy), x, starts._replace(key=None))


@pytest.mark.parametrize(
    ("x", "starts", "message"),
    [
        (jnp.zeros((2, 3)), jnp.zeros((5, 4)), r"x is float32\[2, 3\], with batch axes \[2\]"),
        (jnp.zeros(2), jnp.zeros((5, 4)), "xs has 2 features"),
        (jnp.zeros(3), jnp.zeros((0, 4)), "expected states with one axis of starts first in every leaf, at least one"),
        (jnp.zeros(3), jnp.zeros(()), "expected states with one axis of starts first"),
        (jnp.zeros(3), jnp.zeros((5, 6)), r"starts without their first axis\.h is float32\[6\]"),
    ],
)
def test_a_mistake_is_named(x, starts, message):
    cell = jrnn.GRU(3, 4)
    with pytest.raises(ValueError, match=message):
        fixed_points(cell, random_params(cell), x, jrnn.GRUState(starts))


def test_mixtures_lie_on_lines_between_states_of_a_run():
    with jax.enable_x64(True):
        model = Turning()
        params = {"w": cast(normal(1, 3, 4), jnp.float64), "a": 0.5 * jnp.ones((2, 4))}
        xs = cast(normal(3, 2, 2, 3), jnp.float64)
        drawn = mixtures(key(0), model, params, xs, count=200, mixed=0.5)
        state = model.initial_state(params, (2,))
        pool = [*state.h, *model.step(params, state, xs[0])[0].h]
        assert set(drawn.steps.tolist()) == {5, 6}
        exact, between = 0, 0
        for h in np.asarray(drawn.h):
            if any(np.allclose(h, p, atol=1e-12) for p in pool):
                exact += 1
                continue
            pairs = [(a, b) for a in pool for b in pool if not np.allclose(a, b)]
            shares = [(np.vdot(b - a, h - a) / np.vdot(b - a, b - a), a, b) for a, b in pairs]
            between += any(np.allclose(h, a + t * (b - a), atol=1e-9) and 0 <= t.real <= 1 for t, a, b in shares)
        assert exact + between == 200
        assert 80 < exact < 170  # half, and pairs of the same state
    with pytest.raises(ValueError, match="mixed is 2; expected a share"):
        mixtures(key(0), model, params, xs, mixed=2)


def test_a_vector_holds_what_has_a_derivative():
    state = {"c": jnp.array([1 + 2j, 3 + 4j]), "k": key(0), "n": jnp.array(7), "w": jnp.ones((2, 2), jnp.bfloat16)}
    v = vector(state)
    assert (v.dtype, v.tolist()) == (jnp.float32, [1, 3, 2, 4, 1, 1, 1, 1])
    back = with_vector(state, 2 * v)
    assert jax.tree.map(jnp.shape, back) == jax.tree.map(jnp.shape, state)
    assert (back["c"].tolist(), back["n"], back["w"].dtype) == ([2 + 4j, 6 + 8j], 7, jnp.bfloat16)
    assert back["k"] is state["k"]
