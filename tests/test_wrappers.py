"""Cells around cells: recurrent dropout and zoneout, and what all of them pass on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import given, key, normal, random_inputs, random_params, run, same
from cases import step as step_
from own_cells import Attending, Turning, attended

import jrnn
from jrnn import initializers

INSIDE = jrnn.Elman(3, 4)
IMPLEMENTATIONS = ["threefry2x32", "rbg", "unsafe_rbg"]
NOISY = {
    "dropout": jrnn.RecurrentDropout(jrnn.GRU(3, 4), 0.4),
    "dropout-per-step": jrnn.RecurrentDropout(jrnn.LSTM(3, 4), 0.4, per_step=True),
    "zoneout": jrnn.Zoneout(jrnn.LSTM(3, 4), (0.2, 0.5)),
    "zoneout-per-row": jrnn.Zoneout(jrnn.GRU(3, 4), 0.5, per_step=False),
    "both": jrnn.Zoneout(jrnn.RecurrentDropout(jrnn.LSTM(3, 4), 0.3), 0.2),
    "of-noise": jrnn.RecurrentDropout(jrnn.CTRNN(3, 4, noise=0.3), 0.3),
    "learned": jrnn.LearnedState(jrnn.Zoneout(jrnn.CTRNN(3, 4, noise=0.3), 0.3)),
}


# Noise


@pytest.mark.parametrize("cell", NOISY.values(), ids=NOISY)
def test_whole_chunked_and_stepwise_runs_draw_the_same(cell):
    params, xs, state = given(cell)
    marks = {"mask": jnp.arange(18).reshape(6, 3) % 5 != 0, "reset": jnp.arange(18).reshape(6, 3) % 7 == 3}
    final, ys = run(cell, params, xs, state, **marks)
    half, first = run(cell, params, xs[:2], state, **{name: a[:2] for name, a in marks.items()})
    end, second = run(cell, params, xs[2:], half, **{name: a[2:] for name, a in marks.items()})
    same((end, jnp.concatenate([first, second])), (final, ys))

    final, ys = run(cell, params, xs, state)
    outputs = []
    for x in xs:
        state, y = step_(cell, params, state, x)
        outputs.append(y)
    same((state, jnp.stack(outputs)), (final, ys))
    assert not np.allclose(ys, run(cell, params, xs)[1])
    assert not np.allclose(ys, run(cell, params, xs, cell.initial_state(params, (3,), key(2)))[1])


@pytest.mark.parametrize("name", ["dropout", "dropout-per-step", "zoneout"])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_row_draws_the_same_alone_and_beside_padding(name, implementation):
    cell = NOISY[name]
    params, xs, _ = given(cell)
    state = cell.initial_state(params, (3,), jax.random.key(0, impl=implementation))
    want = run(cell, params, xs[:, 1], jax.tree.map(lambda a: a[1], state))
    for lengths in ([6, 6, 6], [1, 6, 0]):
        got = run(cell, params, xs, state, lengths=jnp.array(lengths))
        same((jax.tree.map(lambda a: a[1], got[0]), got[1][:, 1]), want)


@pytest.mark.parametrize("name", ["dropout", "zoneout"])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_derivatives_with_keys_of_any_implementation(name, implementation):
    cell = NOISY[name]
    params, xs, _ = given(cell)
    state = cell.initial_state(params, (3,), jax.random.key(0, impl=implementation))

    def loss(params, engine):
        return jnp.sum(run(cell, params, xs, state, engine=engine)[1] ** 2)

    same(jax.grad(loss)(params, jrnn.Scan()), jax.grad(loss)(params, jrnn.Scan(gradient=jrnn.Autodiff())))


@pytest.mark.parametrize("name", ["dropout", "dropout-per-step", "zoneout"])
def test_masks_do_not_depend_on_double_precision(name):
    cell = NOISY[name]
    params, xs, state = given(cell)
    want = run(cell, params, xs, state)
    with jax.enable_x64(True):
        same(run(cell, params, xs, state), want)


def masks_of_dropout(cell, params, state):
    """What `recur` is given, as multiples of the state: read off the cell, whose `recur` is linear."""
    seen = cell.recur(params._replace(w_h=jnp.eye(4), b=jnp.zeros(4)), state)
    return np.asarray(seen / state.cell.h)


@pytest.mark.parametrize("per_step", [False, True])
def test_recurrent_dropout_is_a_mask_on_what_the_past_says(per_step):
    """A loop in NumPy with the masks that the cell draws: 0 or 1 / (1 - rate), a row's own, the same or new at each step."""
    cell = jrnn.RecurrentDropout(INSIDE, 0.5, per_step=per_step)
    params, xs, state = given(cell)
    w_x, w_h, b = (np.asarray(a) for a in params)
    h, masks, outputs = np.zeros((3, 4)), [], []
    for x in np.asarray(xs):
        mask = masks_of_dropout(cell, params, state._replace(cell=state.cell._replace(h=jnp.ones((3, 4)))))
        h = np.tanh(x @ w_x + (mask * h) @ w_h + b)
        state = cell.step(params, state, jnp.asarray(x))[0]
        masks.append(mask)
        outputs.append(h)
    same(run(cell, params, xs, given(cell)[2])[1], np.stack(outputs))
    assert set(np.unique(masks)) == {0.0, 2.0}
    assert (np.std(masks, 0).max() > 0) == per_step
    assert np.std(masks[0], 0).max() > 0


def test_the_share_that_is_dropped_is_the_rate():
    cell = jrnn.RecurrentDropout(jrnn.Elman(3, 4), 0.3, per_step=True)
    params = random_params(cell)
    state = cell.initial_state(params, (4000,), key(0))
    state = state._replace(cell=state.cell._replace(h=jnp.ones((4000, 4))))
    assert np.mean(masks_of_dropout(cell, params, state) == 0) == pytest.approx(0.3, abs=0.02)


def test_zoneout_keeps_units_or_mixes_without_a_key():
    cell = jrnn.Zoneout(jrnn.LSTM(3, 4), (0.25, 0.5))
    params, xs, state = given(cell, rows=500)
    before = state._replace(cell=state.cell._replace(h=normal(1, 500, 4), c=normal(2, 500, 4)))
    new = cell.cell.step(params, before.cell, xs[0])[0]
    after = cell.step(params, before, xs[0])[0].cell
    for old, fresh, made, rate in zip(before.cell, new, after, (0.25, 0.5), strict=True):
        kept = np.isclose(made, old, atol=1e-6)
        np.testing.assert_array_equal(kept | np.isclose(made, fresh, atol=1e-6), True)
        assert kept.mean() == pytest.approx(rate, abs=0.04)
    mixed = cell.step(params, before._replace(key=None), xs[0])[0].cell
    want = [rate * old + (1 - rate) * fresh for rate, old, fresh in zip((0.25, 0.5), before.cell, new, strict=True)]
    same(list(mixed), want)


def test_zoneout_of_an_lstm_is_the_papers():
    """The equations of Krueger et al. 2017 as a loop in NumPy, with masks from the same keys."""
    rates, lstm = (0.3, 0.5), jrnn.LSTM(3, 4)
    cell = jrnn.Zoneout(lstm, rates)
    params, xs, state = given(cell)
    w_x, w_h, b = (np.asarray(a, np.float64) for a in params)
    outputs = np.zeros((6, 3, 4))
    for row in range(3):
        h, c, row_key = np.zeros(4), np.zeros(4), state.key[row]
        for t, x in enumerate(np.asarray(xs[:, row], np.float64)):
            row_key, use = jax.random.split(row_key)
            z_h, z_c = (
                np.asarray(jax.random.bernoulli(jax.random.fold_in(use, index), rate, (4,)))
                for index, rate in enumerate(rates)
            )
            i, f, g, o = np.split(x @ w_x + h @ w_h + b, 4)
            new = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
            h = np.where(z_h, h, np.tanh(new) / (1 + np.exp(-o)))
            c = np.where(z_c, c, new)
            outputs[t, row] = h
    same(run(cell, params, xs, state)[1], outputs)


def test_recurrent_dropout_without_memory_loss():
    """What `update` does with the state is left alone: a unit whose mask is 0 leaks as without dropout."""
    cell = jrnn.RecurrentDropout(jrnn.CTRNN(3, 4, activation="identity", tau=5.0), 0.5)
    params = jax.tree.map(jnp.zeros_like, random_params(cell))
    state = cell.initial_state(params, (3,), key(0))
    state = state._replace(cell=state.cell._replace(h=jnp.ones((3, 4))))
    same(run(cell, params, jnp.zeros((6, 3, 3)), state)[0].cell.h, jnp.full((3, 4), 0.8**6))


def test_padding_leaves_the_keys_alone():
    cell = NOISY["dropout-per-step"]
    params, xs, state = given(cell)
    final, _ = run(cell, params, xs, state, lengths=jnp.array([6, 2, 0]))
    short, _ = run(cell, params, xs[:2, 1], jax.tree.map(lambda a: a[1], state))
    same(jax.tree.map(lambda a: a[1], final), short)
    same(jax.tree.map(lambda a: a[2], final), jax.tree.map(lambda a: a[2], state), 0)


# States of other kinds


@pytest.mark.parametrize("wrap", [lambda c: jrnn.RecurrentDropout(c, 0.5), lambda c: jrnn.Zoneout(c, 0.5)])
def test_noise_leaves_counters_alone(wrap):
    cell = wrap(Turning())
    params, xs, state = given(cell)
    final, ys = run(cell, params, xs, state)
    np.testing.assert_array_equal(final.cell.steps, 11)
    assert not np.allclose(ys, run(cell, params, xs)[1])


def test_cells_with_a_context():
    context = attended()
    xs, params = random_inputs(INSIDE, 5, 3), Attending().init(None)
    for cell in (jrnn.RecurrentDropout(Attending(), 0.5), jrnn.Zoneout(jrnn.RecurrentDropout(Attending(), 0.5), 0.0)):
        bound = jrnn.Bound(params, context)
        same(run(cell, bound, xs)[1], run(Attending(), bound, xs)[1])
        noisy = run(cell, bound, xs, cell.initial_state(bound, (3,), key(0)))[1]
        assert not np.allclose(noisy, run(Attending(), bound, xs)[1])
    with pytest.raises(TypeError, match=r"LearnedState: Attending.* takes a context; expected a cell without one"):
        jrnn.LearnedState(Attending())


def test_a_wrapper_tells_what_the_cell_inside_tells():
    for cell in (jrnn.LSTM(3, 4), jrnn.GRU(3, 4), jrnn.ProjectedLSTM(3, 4, 2), Turning()):
        for wrapped in (jrnn.LearnedState(cell), jrnn.Zoneout(jrnn.RecurrentDropout(cell, 0.1), 0.1)):
            for name in (
                "input_size",
                "output_size",
                "gates",
                "forget_gate",
                "input_gate",
                "recurrent",
                "takes_context",
            ):
                assert getattr(wrapped, name) == getattr(cell, name)


# Initialisers, mistakes


def test_initialisers_reach_the_cell_inside():
    plain = jrnn.LSTM(3, 4)
    for cell in (
        jrnn.LearnedState(plain),
        jrnn.LearnedState(jrnn.Zoneout(plain, 0.1)),
        jrnn.RecurrentDropout(jrnn.LearnedState(plain), 0.1),
        jrnn.Zoneout(jrnn.LearnedState(jrnn.RecurrentDropout(plain, 0.1)), 0.1),
    ):
        params = cell.init(key(0))
        for change in (
            lambda c, p: initializers.chrono(key(1), c, p, longest=40),
            lambda c, p: initializers.forget_bias(c, p, 2.0),
            lambda c, p: initializers.orthogonal(key(1), c, p, 0.5),
            lambda c, p: initializers.identity(c, p),
            lambda c, p: initializers.uniform(key(1), c, p),
            lambda c, p: initializers.spectral_radius(c, p, 0.9),
        ):
            changed = change(cell, params)
            same(changed.cell, change(plain, params.cell), 0)
            same(changed.state, params.state, 0)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: jrnn.LearnedState("lstm"), TypeError, "LearnedState: cell is str 'lstm'; expected a Cell"),
        (lambda: jrnn.Zoneout(INSIDE, 1.0), ValueError, r"Zoneout: rate is 1.0; expected a share in \[0, 1\)"),
        (lambda: jrnn.RecurrentDropout(jrnn.LSTM, 0.1), TypeError, "RecurrentDropout: cell is .*LSTM.*expected a Cell"),
        (lambda: jrnn.Zoneout(jrnn.Recurrent(INSIDE), 0.1), TypeError, "Zoneout: cell is Recurrent.*expected a Cell"),
        (lambda: jrnn.Zoneout(INSIDE, -0.1), ValueError, "Zoneout: rate is -0.1"),
        (lambda: jrnn.Zoneout(INSIDE, float("nan")), ValueError, "Zoneout: rate is nan"),
        (lambda: jrnn.Zoneout(INSIDE, (0.1, 2)), ValueError, "Zoneout: rate is 2"),
        (
            lambda: jrnn.Zoneout(INSIDE, [0.1]),
            TypeError,
            "Zoneout: rate is list.*such as a number, a string or a tuple",
        ),
        (lambda: jrnn.Zoneout(INSIDE, True), TypeError, "Zoneout: rate is True; expected a plain number"),
        (lambda: jrnn.RecurrentDropout(INSIDE, "0.5"), TypeError, "RecurrentDropout: rate is '0.5'"),
        (lambda: NOISY["dropout"].initial_state((), (3,), 0), TypeError, r"key is int 0; expected one typed key"),
        (
            lambda: NOISY["zoneout"].initial_state((), (3,), jax.random.PRNGKey(0)),
            TypeError,
            r"key is uint32\[2\]; expected one typed key",
        ),
        (lambda: jrnn.RecurrentDropout(INSIDE, 0.5, per_step=1), TypeError, "per_step is 1; expected True or False"),
        (
            lambda: run(jrnn.Zoneout(INSIDE, (0.1, 0.2)), *given(INSIDE)[:2]),
            ValueError,
            "rate has 2 values.*the 1 arrays in the state of Elman",
        ),
    ],
)
def test_mistakes(make, error, words):
    with pytest.raises(error, match=words):
        make()
