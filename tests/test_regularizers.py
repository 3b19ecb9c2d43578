"""Gradient-norm regularisation: its value and derivative against a plain loop, and that it cures."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import CELLS, LAYERS, cast, key, normal, random_inputs, random_params, random_state, same, step
from own_cells import Turning

import jrnn
from jrnn.regularizers import gradient_norm

TIME = 4


def flat(state):
    """A row's state as one vector."""
    return np.concatenate([np.ravel(a) for a in jax.tree.leaves(state)])


def oracle(step, states, direct):
    """Omega of one row by full Jacobians: ‖g_t J_t‖ / ‖g_t‖ with g_t = direct_t + g_{t+1} J_{t+1}, of vectors `states` s_0 .. s_T.

    `step(t, s)` is the state after step t = 1 .. T, `direct` [T, size] the derivative of the loss by each state alone.
    """
    jacobian = jax.jit(jax.jacobian(step, 1))
    jacobians = [jacobian(t, states[t - 1]) for t in range(1, len(states))]
    total, later = 0.0, np.zeros_like(states[0])
    for own, jacobian in zip(direct[::-1], jacobians[::-1], strict=True):
        gradient = own + later
        later = gradient @ np.asarray(jacobian)
        total += (np.linalg.norm(later) / np.linalg.norm(gradient) - 1) ** 2
    return total


def pick(tree, *place):
    return jax.tree.map(lambda a: a[place], tree)


def of_a_row(model, params, xs, states, direct):
    """The oracle of a model's states as vectors; `direct` [T, ...] is a tree like them."""
    structure, sizes = jax.tree.structure(states[0]), [a.size for a in jax.tree.leaves(states[0])]

    def step(t, s):
        state = jax.tree.unflatten(structure, jnp.split(s, np.cumsum(sizes)[:-1].tolist()))
        return jnp.concatenate(jax.tree.leaves(model.step(params, state, xs[t - 1])[0]))

    return oracle(step, [flat(s) for s in states], [flat(pick(direct, t)) for t in range(len(xs))])


MODELS = {name: CELLS[name] for name in ("elman-tanh", "lstm", "gru-before", "ctrnn-dt-input")}
MODELS |= {"stack": jrnn.rnn(jrnn.GRU, input_size=3, hidden_size=2, num_layers=2, dropout=0.3)}


def weights(states):
    """Coefficients of a loss that every entry of every state takes part in."""
    return jax.tree.map(lambda a: jnp.cos(jnp.arange(a.size, dtype=a.dtype)).reshape(a.shape), states)


def weighted(states):
    return sum(jnp.sum(w * jnp.tanh(s)) for w, s in zip(jax.tree.leaves(weights(states)), jax.tree.leaves(states)))


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_it_is_that_of_the_paper_by_full_jacobians(model):
    with jax.enable_x64(True):
        params, xs = cast((random_params(model), random_inputs(model, TIME, 2)), jnp.float64)
        first = cast(random_state(model, params, (2,)), jnp.float64)
        omega = jax.jit(lambda params: gradient_norm(model, params, xs, weighted, first))(params)

        states = [first]
        for x in xs:
            states.append(step(model, params, states[-1], x)[0])
        states = jax.tree.map(np.asarray, states)
        direct = jax.jit(jax.grad(weighted))(jax.tree.map(lambda *s: np.stack(s), *states[1:]))
        direct = jax.tree.map(np.asarray, direct)
        want = sum(
            of_a_row(model, params, xs[:, row], [pick(s, row) for s in states], pick(direct, slice(None), row))
            for row in (0, 1)
        )
        np.testing.assert_allclose(omega.total, want, rtol=1e-10)
        assert omega.weight == 2


def test_its_derivative_is_the_immediate_one():
    """Of tanh units in closed form, J_t = W diag(1 - s_t²) with s_t a function of W and the s_{t-1} held fixed: by central
    differences of Omega as a function of W, with s_{t-1} and dE/ds_t as they are."""
    with jax.enable_x64(True):
        cell = jrnn.Elman(3, 4)
        params, xs = cast((random_params(cell), random_inputs(cell, TIME, 2)), jnp.float64)

        def last(states):
            return jnp.sum(states.h[-1] * states.h[-1])

        got = jax.jit(jax.grad(lambda params: gradient_norm(cell, params, xs, last).total))(params)

        w_x, w_h, b = (np.asarray(a) for a in params)
        x, states = np.asarray(xs), [np.zeros((2, 4))]
        for now in x:
            states.append(np.tanh(now @ w_x + states[-1] @ w_h + b))
        gradients = [2 * states[-1]]
        for s in states[:1:-1]:
            gradients.insert(0, (gradients[0] * (1 - s**2)) @ w_h.T)

        def omega(w_x, w_h, b):
            total = 0.0
            for now, before, gradient in zip(x, states[:-1], gradients, strict=True):
                new = np.tanh(now @ w_x + before @ w_h + b)
                passed = (gradient * (1 - new**2)) @ w_h.T
                total += np.sum((np.linalg.norm(passed, axis=1) / np.linalg.norm(gradient, axis=1) - 1) ** 2)
            return total

        for name, value in params._asdict().items():
            slopes = np.zeros(value.shape)
            for place in np.ndindex(value.shape):
                ends = []
                for sign in (1, -1):
                    moved = {key: np.array(a) for key, a in params._asdict().items()}
                    moved[name][place] += sign * 1e-6
                    ends.append(omega(**moved))
                slopes[place] = (ends[0] - ends[1]) / 2e-6
            np.testing.assert_allclose(getattr(got, name), slopes, atol=1e-7)
            assert np.abs(slopes).max() > 1e-3


def test_a_step_that_turns_the_gradient_alone_costs_nothing():
    """Linear units with weights r Q, Q orthogonal: each of the T steps costs (r - 1)²."""
    cell = jrnn.Elman(3, 4, activation="identity")
    for radius in (0.5, 1.0, 1.5):
        params = jrnn.initializers.orthogonal(key(1), cell, random_params(cell), radius)
        found = gradient_norm(cell, params, normal(2, 5, 3, 3), lambda states: states.h[-1].sum())
        assert found.value == pytest.approx(5 * (radius - 1) ** 2, abs=1e-5)


def test_lengths_that_float32_cannot_square():
    """A gradient that falls by ten at each step: 1e-30 after 30 of them, whose square is 0."""
    cell = jrnn.Elman(1, 2, activation="identity")
    params = jrnn.initializers.identity(cell, random_params(cell), 0.1)
    value = gradient_norm(cell, params, normal(2, 30, 1), lambda states: states.h[-1].sum()).value
    assert value == pytest.approx(30 * 0.81, rel=1e-4)
    slope = jax.grad(lambda params: gradient_norm(cell, params, normal(2, 30, 1), lambda s: s.h[-1].sum()).value)(
        params
    )
    same(slope.w_h, jnp.full((2, 2), 30 * 2 * -0.9 / 2), 1e-4)


def test_padded_steps_pass_the_gradient_on():
    cell = CELLS["lstm"]
    params, xs = random_params(cell), random_inputs(cell, TIME, 3)
    mask = jnp.array([[True, True, True], [True, True, False], [True, True, False], [True, False, False]])

    def last(states):
        return states.h[-1].sum()

    def omega(params, xs, mask):
        return gradient_norm(cell, params, xs, last, mask=mask).total

    of_value_and_slope = jax.jit(jax.value_and_grad(omega))
    got = of_value_and_slope(params, xs, mask)
    each = [of_value_and_slope(params, xs[:length, row], None) for row, length in enumerate((4, 3, 1))]
    same(got, jax.tree.map(lambda *a: sum(a), *each))
    none = of_value_and_slope(params, xs, jnp.zeros_like(mask))
    same(none, jax.tree.map(jnp.zeros_like, none), 0)


def test_what_no_gradient_reaches_costs_nothing():
    """The loss reads the state after the second step: later ones do not count; a dead unit has a derivative of 0, not NaN."""
    cell = jrnn.Elman(3, 4, activation="relu")
    params, xs = random_params(cell), random_inputs(cell, 5, 2)

    @jax.jit
    def omega(params, xs):
        return gradient_norm(cell, params, xs, lambda states: states.h[1].sum())

    same(omega(params, xs), omega(params, xs[:2]))
    dead = params._replace(b=jnp.full(4, -100.0))
    assert omega(dead, xs).value == pytest.approx(1.0)  # reaches s_2, and goes no further
    slope = jax.jit(jax.grad(lambda params: omega(params, xs).value))(dead)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))


@pytest.mark.parametrize("name", ["ctrnn-noise", "recurrent-dropout"])
def test_noise_is_that_of_the_state_given(name):
    cell = CELLS[name]
    params, xs = random_params(cell), random_inputs(cell, TIME, 2)
    first, second = (cell.initial_state(params, (2,), key(seed)) for seed in (0, 1))

    @jax.jit
    def omega(state):
        return gradient_norm(
            cell, params, xs, lambda states: jnp.tanh(jax.tree.leaves(states)[0][-1]).sum(), state
        ).value

    same(omega(first), omega.__wrapped__(first))
    assert abs(omega(first) - omega(second)) > 0.01


def test_halves_keep_their_dtype_and_devices_agree():
    layer = LAYERS["recurrent"]
    params, xs = random_params(layer), random_inputs(layer, TIME, 4)

    @jax.jit
    def value(params, xs):
        return gradient_norm(layer, params, xs, lambda states: states.h[-1].astype(jnp.float32).sum())

    want = value(params, xs)
    half = value(*cast((params, xs), jnp.bfloat16))
    assert half.total.dtype == jnp.float32
    same(half.total, want.total, 0.1)
    mesh = jax.make_mesh((2,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.sharding.PartitionSpec(None, "rows")
    none = jax.sharding.PartitionSpec()

    def shard(params, xs):
        return jax.lax.psum(value(params, xs).total, "rows")

    sharded = jax.jit(jax.value_and_grad(jax.shard_map(shard, mesh=mesh, in_specs=(none, rows), out_specs=none)))
    same(sharded(params, xs), jax.jit(jax.value_and_grad(lambda params: value(params, xs).total))(params))


@pytest.mark.parametrize("start", [0.3, 2.5])
def test_it_cures(start):
    """Gradients that vanish on their way to the first step, or explode, come through within a factor of e by Omega alone."""
    cell = jrnn.Elman(2, 8, activation="tanh")
    params = jrnn.initializers.orthogonal(key(0), cell, cell.init(key(0)), start)
    xs = normal(1, 12, 4, 2, scale=0.1)

    def last(states):
        return states.h[-1].sum()

    def log_ratio(params):
        """log of ‖dE/ds_1‖ / ‖dE/ds_T‖, the former by back-propagation through the other steps."""
        first, _ = cell.step(params, cell.initial_state(params, (4,)), xs[0])
        slope = jax.grad(lambda state: jrnn.unroll(cell, params, xs[1:], state)[0].h.sum())(first)
        return np.log(np.linalg.norm(slope.h) / np.sqrt(slope.h.size))

    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.03))
    slope = jax.jit(jax.grad(lambda params: gradient_norm(cell, params, xs, last).value))
    before, state = log_ratio(params), optimizer.init(params)
    for _ in range(200):
        updates, state = optimizer.update(slope(params), state)
        params = optax.apply_updates(params, updates)
    assert abs(before) > 4
    assert abs(log_ratio(params)) < 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask": jnp.ones((4, 3), bool)}, r"mask is bool\[4, 3\]; expected bool\[4, 2\], or None"),
        ({"loss": lambda states: states.h[-1]}, r"loss\(states\) is float32\[2, 4\]; expected a scalar"),
    ],
)
def test_mistakes(options, message):
    cell = CELLS["gru-after"]
    options = {"loss": lambda states: states.h[-1].sum()} | options
    with pytest.raises(ValueError, match=message):
        gradient_norm(cell, random_params(cell), random_inputs(cell, 4, 2), **options)


def test_a_complex_state_counts_by_modulus():
    """Of h_t = a h_{t-1} + ... the gradient of Re h_T with respect to h_{T-k} is as long as a to the power of k."""
    cell = Turning()
    params = random_params(cell)
    found = gradient_norm(cell, params, normal(1, 5, 3), lambda states: states.h[-1].real.sum())
    modulus = np.linalg.norm(np.asarray(params["a"]), axis=0)
    lengths = np.linalg.norm(modulus ** np.arange(6)[:, None], axis=1)
    np.testing.assert_allclose(found.total, np.sum((lengths[1:] / lengths[:-1] - 1) ** 2), rtol=1e-5)
