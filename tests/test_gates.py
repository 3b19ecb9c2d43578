"""What gates do and how long units remember: against the equations of the cells; norms, radii, and the loss on a grid."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CELLS, LAYERS, cast, key, normal, random_inputs, random_params, random_state, same
from own_cells import Simple, Turning

import jrnn
from jrnn.cells.wrapper import Wrapper
from jrnn.diagnostics import gate_values, jacobians, memory, saturation, spectra, surface, weight_spectra

TIME, ROWS = 5, 2


def given(name):
    """A model, its parameters, inputs and state in float64, and the states before and after every step."""
    model = (CELLS | LAYERS)[name]
    params, xs = cast((random_params(model), random_inputs(model, TIME, ROWS)), jnp.float64)
    state = cast(random_state(model, params, (ROWS,), noise=False), jnp.float64)
    before, after = [state], []
    for x in xs:
        after.append(model.step(params, before[-1], x)[0])
        before.append(after[-1])
    stack = lambda states: jax.tree.map(lambda *a: jnp.stack(a), *states)  # noqa: E731
    return model, params, xs, state, stack(before[:-1]), stack(after)


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x)))


def of_lstm(gates, before):
    c = gates["f"] * before.c + gates["i"] * gates["g"]
    return jrnn.LSTMState(gates["o"] * np.tanh(c), c)


NEW_STATES = {
    "elman-tanh": lambda g, s: jrnn.ElmanState(g["h"]),
    "lstm": of_lstm,
    "lstm-peephole": of_lstm,
    "lstm-coupled": lambda g, s: of_lstm({**g, "f": 1 - g["i"]}, s),
    "gru-after": lambda g, s: jrnn.GRUState((1 - g["z"]) * g["n"] + g["z"] * s.h),
    "gru-before": lambda g, s: jrnn.GRUState((1 - g["z"]) * g["n"] + g["z"] * s.h),
}
"""A new state from the gates and the state before, by the equations of each cell."""


@pytest.mark.parametrize("name", NEW_STATES)
def test_of_the_gates_the_new_state_is_made(name):
    with jax.enable_x64(True):
        cell, params, xs, state, before, after = given(name)
        gates = gate_values(cell, params, xs, state)
        assert tuple(gates) == cell.gates
        same(NEW_STATES[name](gates, before), after, 1e-14)


def test_the_gates_of_lstms_by_hand():
    with jax.enable_x64(True):
        for name in ("lstm", "lstm-peephole", "lstm-projected"):
            cell, params, xs, state, before, after = given(name)
            gates = gate_values(cell, params, xs, state)
            i, f, g, o = np.split(np.asarray(xs @ params.w_x + before.h @ params.w_h) + np.asarray(params.b), 4, -1)
            p_i, p_f, p_o = (np.asarray(getattr(params, p, 0.0)) for p in ("p_i", "p_f", "p_o"))
            c_before, c = np.asarray(before.c), np.asarray(after.c)
            same(gates["i"], jnp.asarray(sigmoid(i + p_i * c_before)), 1e-14)
            same(gates["f"], jnp.asarray(sigmoid(f + p_f * c_before)), 1e-14)
            same(gates["g"], jnp.tanh(g), 1e-14)
            same(gates["o"], jnp.asarray(sigmoid(o + p_o * c)), 1e-14)


def test_cells_in_layers_and_wrappers_have_their_places():
    with jax.enable_x64(True):
        layer, params, xs, state, *_ = given("rnn-lstm")
        gates = gate_values(layer, params, xs, state)
        assert list(gates) == ["0.i", "0.f", "0.g", "0.o", "1.i", "1.f", "1.g", "1.o"]
        below = jrnn.unroll(layer.layers[0].cell, params[0], xs, state[0])[1]
        above = gate_values(layer.layers[-1].cell, params[1], below, state[1])
        same({name: gates[f"1.{name}"] for name in above}, above, 1e-14)
        cell, params, xs, state, *_ = given("zoneout")
        f = gate_values(cell, params, xs, state)["f"]
        found = memory(cell, params, xs, state)
        assert set(found) == {"cell.h", "cell.c"}
        same(found["cell.c"].kept, 0.5 + 0.5 * f, 1e-14)
        same(found["cell.h"].kept, jnp.full_like(f, 0.2), 1e-14)


@pytest.mark.parametrize("name", [name for name, cell in CELLS.items() if isinstance(cell, Wrapper)])
def test_every_wrapper_names_the_gates_of_the_cell_inside(name):
    cell, plain = CELLS[name], CELLS[name].cell
    found, inside = (gate_values(one, random_params(one), random_inputs(one, 2, ROWS)) for one in (cell, plain))
    assert list(found) == list(inside) != []


def test_what_a_unit_keeps_of_itself():
    with jax.enable_x64(True):
        for name, leaf, gate in (("lstm", "c", "f"), ("lstm-projected", "c", "f"), ("gru-after", "h", "z")):
            cell, params, xs, state, *_ = given(name)
            kept = memory(cell, params, xs, state)[leaf].kept
            same(kept, gate_values(cell, params, xs, state)[gate], 1e-14)
        cell, params, xs, state, *_ = given("ctrnn-dt-input")
        found = memory(cell, params, xs, state)["h"]
        want = 1 - np.broadcast_to(xs[..., -1:] / 2, found.kept.shape)
        same(found.kept, jnp.asarray(want), 1e-14)
        same(found.time_constants, jnp.asarray(-1 / np.log(want).mean((0, 1))), 1e-12)
        same(gate_values(cell, params, xs, state)["dt/tau"], jnp.asarray(1 - want), 1e-14)


def test_what_a_unit_keeps_where_others_reach_it_within_the_update():
    """r h W_hn is inside the update of a GRU with reset_after=False: the diagonal alone is what a unit keeps."""
    with jax.enable_x64(True):
        cell, params, xs, state, *_ = given("gru-before")
        kept = memory(cell, params, xs, state)["h"].kept
        gates = jax.tree.map(np.asarray, gate_values(cell, params, xs, state))
        w = np.diag(params.w_h[:, -cell.hidden_size :])
        want = gates["z"] + (1 - gates["z"]) * (1 - gates["n"] ** 2) * gates["r"] * w
        same(kept, jnp.asarray(want), 1e-14)


def test_how_often_gates_are_open_and_closed():
    cell = jrnn.LSTM(1, 3)
    b = jnp.repeat(jnp.array([9.0, -9.0, 9.0, 0.0]), 3)
    params = jrnn.LSTMParams(jnp.zeros((1, 12)).at[0, 9:].set(jnp.array([1.0, -1.0, 0.0])), jnp.zeros((3, 12)), b)
    xs = jnp.array([9.0, 9.0, -9.0, 0.0]).reshape(4, 1, 1)
    found = jax.jit(lambda params, xs, mask: saturation(cell, params, xs, mask=mask))
    for name, ends in {"i": (0, 1), "f": (1, 0), "g": (0, 1)}.items():
        for share, want in zip((found(params, xs, None)[name].low, found(params, xs, None)[name].high), ends):
            np.testing.assert_array_equal(share, [want] * 3)
    o = found(params, xs, None)["o"]
    np.testing.assert_allclose(o.high, [0.5, 0.25, 0])
    np.testing.assert_allclose(o.low, [0.25, 0.5, 0])
    np.testing.assert_allclose(o.mean, [(2 + 0.5) / 4, (1 + 0.5) / 4, 0.5], atol=1e-3)
    real = jnp.array([True, True, True, False])[:, None]
    np.testing.assert_allclose(found(params, xs.at[3].set(jnp.nan), real)["o"].high, [2 / 3, 1 / 3, 0], rtol=1e-6)


def test_the_ends_are_those_of_the_activation():
    dead = jrnn.ElmanParams(jnp.ones((1, 3)), jnp.zeros((3, 3)), jnp.array([-5.0, 0.5, 5.0]))
    xs = jnp.array([-1.0, 1.0])[:, None]
    found = saturation(jrnn.Elman(1, 3, activation="relu"), dead, xs)["h"]
    np.testing.assert_array_equal(found.low, [1, 0.5, 0])
    np.testing.assert_array_equal(found.high, [0, 0, 0])
    found = saturation(jrnn.Elman(1, 3), dead, xs, margin=0.2)["h"]  # beyond ±0.6
    np.testing.assert_array_equal(found.low, [1, 0, 0])
    np.testing.assert_array_equal(found.high, [0, 0.5, 1])
    clipped = CELLS["lstm-coupled-clipped"]
    found = saturation(clipped, random_params(clipped), normal(0, 4, 3, scale=100))
    assert np.all(found["i"].low + found["i"].high > 0.2)  # its gates end at sigmoid(±0.8)


def test_norms_and_radii():
    turn = np.array([[0.0, -2.0], [2.0, 0.0]])
    shift = np.array([[0.0, 5.0], [0.0, 0.0]])
    found = spectra(np.stack([turn, shift]))
    np.testing.assert_allclose(found.norms, [2, 5])
    np.testing.assert_allclose(found.radii, [2, 0], atol=1e-12)
    assert np.isnan(spectra(np.ones((2, 3))).radii)
    cell = jrnn.LearnedState(jrnn.Zoneout(jrnn.LSTM(3, 4), 0.1))
    params = cell.init(key(0))
    params = params._replace(cell=jrnn.initializers.orthogonal(key(1), jrnn.LSTM(3, 4), params.cell, 0.7))
    weights = weight_spectra(cell, params)
    assert list(weights) == ["w_h.i", "w_h.f", "w_h.g", "w_h.o"]
    for one in weights.values():
        np.testing.assert_allclose([one.norms, one.radii], [0.7, 0.7], rtol=1e-5)
    sparse = jrnn.Parametrized(jrnn.GRU(3, 4), jrnn.parametrizations.Sparse(0.5))
    raw = random_params(sparse)
    for made, one in zip(np.split(np.asarray(sparse.made(raw).w_h), 3, -1), weight_spectra(sparse, raw).values()):
        np.testing.assert_allclose(one.norms, np.linalg.norm(made, 2), rtol=1e-5)
    linear = jrnn.Elman(3, 4, activation="identity")
    own = random_params(linear)
    steps = spectra(jacobians(linear, own, normal(0, 2, 3)))
    np.testing.assert_allclose(steps.norms, [weight_spectra(linear, own)["w_h.h"].norms] * 2, rtol=1e-5)


def test_the_loss_on_a_grid():
    params = {"a": jnp.array(1.0), "b": jnp.array([2.0, 3.0])}
    along_a, along_b = {"a": 1.0, "b": np.zeros(2)}, {"a": 0.0, "b": np.array([1.0, -1.0])}
    first, second = np.linspace(-1, 1, 3), np.linspace(0, 2, 5)
    a, b = 1 + first[:, None], second[None]
    want = a**2 + (2 + b) * (3 - b)
    loss = lambda p: p["a"] ** 2 + p["b"].prod()  # noqa: E731
    np.testing.assert_allclose(surface(loss, params, (along_a, along_b), first, second, at_once=4), want, rtol=1e-6)
    values, slopes = surface(jax.value_and_grad(loss), params, (along_a, along_b), first, second)
    np.testing.assert_allclose(values, want, rtol=1e-6)
    np.testing.assert_allclose(slopes["a"], np.broadcast_to(2 * a, want.shape), rtol=1e-6)
    assert slopes["b"].shape == (3, 5, 2)
    assert surface(loss, params, (along_a,), first).shape == (3,)


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda c, p, xs: gate_values(Simple(), Simple().init(None), xs), "names no gates"),
        (lambda c, p, xs: saturation(Simple(), Simple().init(None), xs), "names no gates"),
        (lambda c, p, xs: saturation(c, p, xs, margin=0.5), "margin is 0.5"),
        (lambda c, p, xs: saturation(c, p, xs, mask=jnp.ones((4, 2), bool)), r"mask is bool\[4, 2\]; expected bool\[5, 2\]"),
        (lambda c, p, xs: memory(jrnn.Dense(3, 4), jrnn.Dense(3, 4).init(key(0)), xs), "no state with a derivative"),
        (lambda c, p, xs: spectra(np.ones(3)), r"matrices is float64\[3\]"),
        (lambda c, p, xs: weight_spectra(Turning(), {"w": normal(0, 3, 4), "a": normal(0, 2, 4)}), "no recurrent weights"),
        (lambda c, p, xs: weight_spectra(CELLS["conv-gru"], random_params(CELLS["conv-gru"])), "no matrix"),
        (lambda c, p, xs: surface(lambda p: p, 1.0, (1.0,), [0.0], [1.0]), "directions is 1 trees and grids are"),
        (lambda c, p, xs: surface(lambda p: p, 1.0, (np.ones(2),), [0.0]), r"directions\[0\] is float64\[2\]"),
    ],
)  # fmt: skip
def test_a_mistake_is_named(f, message):
    cell = jrnn.GRU(3, 4)
    with pytest.raises((ValueError, TypeError), match=message):
        f(cell, random_params(cell), normal(0, TIME, 2, 3))
