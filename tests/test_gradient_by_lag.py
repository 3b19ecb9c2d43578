"""How far back a loss reaches, and whether small differences grow: against NumPy, known networks, and theory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CELLS, LAYERS, cast, key, normal, random_inputs, random_params, random_state, same
from own_cells import Attending, Turning, attended

import jrnn
from jrnn.diagnostics import gradient_bound, gradient_by_lag, jacobians, kaplan_yorke, lyapunov, state_gradients, vector

TIME = 6


def elman(w, *, activation="identity", w_x=None):
    """A cell of NumPy's matrix `w`, and its parameters."""
    n = len(w)
    w_x = np.zeros((1, n)) if w_x is None else w_x
    cell = jrnn.Elman(len(w_x), n, activation=activation)
    return cell, jrnn.ElmanParams(jnp.asarray(w_x), jnp.asarray(w), jnp.zeros(n))


def square(n, seed=0):
    return np.random.default_rng(seed).standard_normal((n, n)) / np.sqrt(n)


def last(ys):
    return ys[-1].sum()


# --- gradients ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("r", [0.9, 1.1])
def test_a_scaled_rotation_without_squashing_scales_by_its_factor(r):
    with jax.enable_x64(True):
        rotation = np.linalg.qr(square(5))[0]
        cell, params = elman(r * rotation)
        found = gradient_by_lag(lambda ys: ys[-1, :, 0].sum(), cell, params, jnp.ones((40, 3, 1)))
        want = np.broadcast_to((r ** np.arange(1, 41))[:, None], (40, 3))
        np.testing.assert_array_equal(found.lags, np.arange(1, 41))
        np.testing.assert_allclose(found.norms, want, rtol=1e-12)
        np.testing.assert_allclose(found.factor, [r] * 3, rtol=1e-12)
        np.testing.assert_allclose(gradient_bound(cell, params, jnp.ones((40, 1))), want[:, 0], rtol=1e-12)


def test_a_tanh_network_has_the_gradients_of_numpy():
    with jax.enable_x64(True):
        w, w_x, xs = square(4), square(4, 1)[:2], np.random.default_rng(2).standard_normal((TIME, 2))
        cell, params = elman(w, activation="tanh", w_x=w_x)
        h, slopes = np.zeros(4), []
        for x in xs:
            h = np.tanh(x @ w_x + h @ w)
            slopes.append(1 - h**2)
        g, norms = np.cos(np.arange(4)), []
        for slope in reversed(slopes):
            g = w @ (slope * g)
            norms.append(np.linalg.norm(g))
        loss = lambda ys: ys[-1] @ jnp.cos(jnp.arange(4.0))  # noqa: E731
        found = gradient_by_lag(loss, cell, params, jnp.asarray(xs))
        np.testing.assert_allclose(found.norms, norms, rtol=1e-12)
        want = [w.T[None] * slopes[t][:, None] for t in range(TIME)]
        np.testing.assert_allclose(jacobians(cell, params, jnp.asarray(xs)), np.concatenate(want), rtol=1e-12)


@pytest.mark.parametrize("name", ["ctrnn-everything", "conv-gru", "zoneout", "layered", "residual"])
def test_gradients_are_products_of_jacobians(name):
    """Reverse mode over the whole run, against forward mode step by step; any state, keys among it, from wherever it starts."""
    with jax.enable_x64(True):
        model = (CELLS | LAYERS)[name]
        params, xs = cast((random_params(model), random_inputs(model, TIME, 2)), jnp.float64)
        state = cast(random_state(model, params, (2,)), jnp.float64)

        def loss(ys):
            return jnp.sum(ys[-1] ** 2)

        found, push, by_lag = jax.jit(
            lambda *run: (
                state_gradients(loss, model, *run),
                jacobians(model, *run),
                gradient_by_lag(loss, model, *run),
            )
        )(params, xs, state)
        flat = np.concatenate([np.reshape(g, (TIME, 2, -1)) for g in found], -1)
        want = [flat[-1]]
        for t in reversed(range(TIME - 1)):
            want.append(np.einsum("bij,bi->bj", push[t], want[-1]))
        same(flat, np.stack(want[::-1]), 1e-12)
        norms = np.asarray(by_lag.norms)
        same(norms, np.linalg.norm(flat, axis=-1)[::-1], 1e-12)
        before = jax.jit(gradient_bound)(model, params, xs[:-1], state)
        assert np.all(norms[1:] <= norms[0] * np.asarray(before) * (1 + 1e-9))


@pytest.mark.parametrize(("activation", "slope"), [("tanh", 1.0), ("sigmoid", 0.25), ("relu", 1.0)])
def test_the_bound_of_pascanu_and_others(activation, slope):
    with jax.enable_x64(True):
        w = square(6)
        cell, params = elman(w, activation=activation, w_x=square(6, 1))
        xs = cast(normal(3, 20, 2, 6), jnp.float64)
        norms = gradient_by_lag(last, cell, params, xs).norms
        bound = gradient_bound(cell, params, xs)
        theirs = (np.linalg.norm(w, 2) * slope) ** np.arange(1, 21)
        assert np.all(norms <= np.sqrt(6) * bound * (1 + 1e-12))
        assert np.all(bound <= theirs[:, None] * (1 + 1e-12))
        assert np.any(norms[-1] > 0)


def test_complex_numbers_count_by_modulus_and_integers_not_at_all():
    model = Turning()
    angle = np.array([0.3, 1.0, 2.0, 3.0])
    params = {"w": normal(1, 3, 4), "a": jnp.asarray(0.9 * np.stack([np.cos(angle), np.sin(angle)]), jnp.float32)}
    found = gradient_by_lag(lambda ys: ys[-1, :, 1].sum(), model, params, normal(2, 30, 2, 3))
    np.testing.assert_allclose(found.norms, np.repeat(0.9 ** np.arange(1, 31), 2).reshape(30, 2), rtol=1e-5)
    np.testing.assert_allclose(lyapunov(model, params, normal(2, 30, 3)).exponents, np.full(8, np.log(0.9)), atol=1e-6)


def test_what_a_row_attends_to_is_its_own():
    model, context = Attending(), attended()
    params = jrnn.Bound(model.init(key(0)), context)
    xs = normal(3, 4, 3, 3)
    jacobian, by_lag = (jax.jit(functools.partial(*f)) for f in ((jacobians, model), (gradient_by_lag, last, model)))
    together = jacobian(params, xs)
    own = jrnn.Bound(params.params, jax.tree.map(lambda a: a[1], context))
    same(together[:, 1], jacobian(own, xs[:, 1]))
    same(by_lag(params, xs).norms[:, 1], by_lag(own, xs[:, 1]).norms)


def test_far_back_small_numbers_are_not_lost_to_their_squares():
    cell, params = elman(0.5 * np.eye(3, dtype=np.float32))
    found = gradient_by_lag(last, cell, cast(params, jnp.float32), jnp.ones((100, 1)))
    assert found.norms.dtype == jnp.float32
    np.testing.assert_allclose(found.norms, np.sqrt(3) * 0.5 ** np.arange(1, 101.0), rtol=1e-5)
    lost = gradient_by_lag(last, cell, cast(params, jnp.float32), jnp.ones((400, 1)))
    assert (float(lost.norms[-1]), round(float(lost.factor), 4)) == (0, 0.5)  # the steps that are left say so
    none = gradient_by_lag(last, cell, cast(params, jnp.float32)._replace(w_h=jnp.zeros((3, 3))), jnp.ones((4, 1)))
    assert np.isnan(none.factor)


def test_half_precision_is_measured_in_single():
    cell = jrnn.GRU(3, 4)
    params, xs = random_params(cell), normal(1, TIME, 2, 3)
    whole, half = (gradient_by_lag(last, cell, *cast((params, xs), dtype)).norms for dtype in ("float32", "bfloat16"))
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, whole, rtol=0.1)


# --- Lyapunov exponents -------------------------------------------------------------------------------------------------


def test_a_linear_network_has_the_logarithms_of_its_eigenvalues():
    with jax.enable_x64(True):
        w = square(6)
        w = (w + w.T) / 2
        want = np.sort(np.log(np.abs(np.linalg.eigvalsh(w))))[::-1]
        cell, params = elman(w)
        run = jax.jit(lyapunov, static_argnames=("skip", "every", "exponents"))
        for options in ({}, {"every": 4}, {"exponents": 2}):
            found = run(cell, params, jnp.ones((600, 1)), skip=300, **options)
            np.testing.assert_allclose(found.exponents, want[: options.get("exponents")], rtol=0, atol=1e-12)
            assert found.running.shape[0] == 300 // options.get("every", 1)
            np.testing.assert_allclose(found.running[-1], found.exponents, atol=1e-12)


def test_every_row_has_its_own_exponents():
    """The slopes of tanh depend on the inputs of a row."""
    cell = jrnn.LSTM(3, 4)
    params, xs = random_params(cell), normal(4, 30, 2, 3).at[:, 1].multiply(5.0)
    together = lyapunov(cell, params, xs, skip=5, exponents=3)
    assert (together.exponents.shape, together.running.shape) == ((2, 3), (25, 2, 3))
    alone = lyapunov(cell, params, xs[:, 1], skip=5, exponents=3)
    np.testing.assert_allclose(together.exponents[1], alone.exponents, atol=1e-4)
    assert np.all(np.abs(together.exponents[0] - together.exponents[1]) > 0.01)


def test_noise_alike_for_both_does_not_separate_them():
    with jax.enable_x64(True):
        w = square(4)
        cell = jrnn.CTRNN(1, 4, tau=2.0, noise=0.5, activation="identity")
        params = jrnn.CTRNNParams(jnp.zeros((1, 4)), jnp.asarray(w + w.T), jnp.zeros(4), None)
        state = cell.initial_state(params, key=key(3))
        found = lyapunov(cell, params, jnp.zeros((400, 1)), state, skip=200).exponents
        want = np.sort(np.log(np.abs(1 + 0.5 * (np.linalg.eigvalsh(w + w.T) - 1))))[::-1]
        np.testing.assert_allclose(found, want, atol=1e-9)


def test_directions_that_are_lost_have_no_finite_exponent():
    with jax.enable_x64(True):
        u = np.random.default_rng(0).standard_normal((5, 1))
        cell, params = elman(u @ u.T / 10)
        found = lyapunov(cell, params, jnp.ones((100, 1)), skip=20).exponents
        np.testing.assert_allclose(found[0], np.log((u.T @ u)[0, 0] / 10), rtol=1e-9)
        assert np.all(found[1:] == -np.inf)
        none = lyapunov(cell, params._replace(w_h=jnp.zeros((5, 5))), jnp.ones((10, 1)))
        assert np.all(none.exponents == -np.inf)


UNITS, NETWORKS = 400, 6
MEAN_FIELD = {1.5: 0.0652, 2.0: 0.1547, 2.5: 0.2372, 3.0: 0.3103, 4.0: 0.4344}
"""The largest exponent of h = tanh(W h) with weights N(0, g^2 / n) and n without bound (Sompolinsky, Crisanti & Sommers 1988):
1/2 log g^2 <(1 - tanh(x)^2)^2>, x normal with the variance that is that of the network, found by quadrature."""

largest = jax.jit(
    jax.vmap(
        lambda params, state: lyapunov(
            jrnn.Elman(1, UNITS), params, jnp.zeros((1000, 1)), state, exponents=1, skip=300
        ).exponents[0]
    )
)


@functools.cache
def networks():
    draw = np.random.default_rng(0)
    weights = draw.standard_normal((NETWORKS, UNITS, UNITS)) / np.sqrt(UNITS)
    return weights, draw.standard_normal((NETWORKS, UNITS))


@pytest.mark.parametrize("g", MEAN_FIELD)
def test_random_networks_are_as_chaotic_as_mean_field_theory_has_it(g):
    weights, states = networks()
    zeros = jnp.zeros((NETWORKS, UNITS))
    params = jrnn.ElmanParams(zeros[:, None], jnp.asarray(g * weights, jnp.float32), zeros)
    found = largest(params, jrnn.ElmanState(jnp.asarray(states, jnp.float32)))
    assert abs(np.mean(found) - MEAN_FIELD[g]) < 0.02


def test_the_dimension_of_an_attractor():
    assert kaplan_yorke([0.9, 0.0, -14.6]) == pytest.approx(2 + 0.9 / 14.6)  # Lorenz's: 2.06
    assert kaplan_yorke(jnp.array([-14.6, 0.9, 0.0])) == pytest.approx(2 + 0.9 / 14.6)
    assert kaplan_yorke([-0.1, -0.2]) == 0
    assert kaplan_yorke([0.1, -jnp.inf, -jnp.inf]) == 1
    assert kaplan_yorke([0.3, 0.1]) == 2
    with pytest.raises(ValueError, match="the numbers \\[k\\] of one run"):
        kaplan_yorke(np.zeros((2, 3)))


# --- what cannot be -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda c, p, xs: gradient_by_lag(lambda ys: ys[-1], c, p, xs), r"loss returns float32\[2, 4\]; expected one number"),
        (lambda c, p, xs: gradient_by_lag(last, "gru", p, xs), "model is str 'gru'; expected a cell"),
        (lambda c, p, xs: gradient_by_lag(last, c, p, xs[..., :2]), "xs has 2 features"),
        (lambda c, p, xs: gradient_by_lag(last, c, p, xs, jrnn.GRUState(jnp.zeros((5, 4)))), r"state\.h is float32\[5, 4\]"),
        (lambda c, p, xs: lyapunov(jrnn.Recurrent(c, reverse=True), p, xs), "cannot be streamed"),
        (lambda c, p, xs: lyapunov(jrnn.BatchFirst(jrnn.Recurrent(c)), p, xs), "expected a layer that is time first"),
        (lambda c, p, xs: lyapunov(jrnn.Recurrent(c), p, xs[:0]), "at least one step"),
        (lambda c, p, xs: lyapunov(c, p, xs, skip=6), "skip is 6 of 6 steps"),
        (lambda c, p, xs: lyapunov(c, p, xs, skip=-1), "skip is -1"),
        (lambda c, p, xs: lyapunov(c, p, xs, every=0), "every is 0; expected at least 1"),
        (lambda c, p, xs: lyapunov(c, p, xs, exponents=5), "exponents is 5; expected at most 4"),
        (lambda c, p, xs: lyapunov(c, p, xs, key=0), "key is int 0; expected one typed key"),
        (lambda c, p, xs: vector({"n": jnp.zeros(3, int)}), "nothing has a derivative"),
        (lambda c, p, xs: state_gradients(last, jrnn.Dropout(0.5), (), xs), "no state with a derivative"),
    ],
)  # fmt: skip
def test_a_mistake_is_named(f, message):
    cell = jrnn.GRU(3, 4)
    with pytest.raises((ValueError, TypeError), match=message):
        f(cell, random_params(cell), normal(0, TIME, 2, 3))
