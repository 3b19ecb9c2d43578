"""Online gradients: against back-propagation through time, and against what each approximation leaves out."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CANNOT_STREAM, CELLS, HIDDEN, INPUT, LAYERS, key, random_params
from online import ROWS, STACK, TIME, Cut, bptt, distance, example, in_windows, online
from own_cells import Simple, Turning
from own_cells import cell as own_cell

import jrnn
from jrnn.online import RTRL, UORO, EProp, Online, SnAp, Truncated, pattern

EXACT = 1e-12
STREAMING = {name: model for name, model in (CELLS | LAYERS).items() if name not in CANNOT_STREAM}


@pytest.mark.parametrize("name", STREAMING)
def test_rtrl_is_bptt(name):
    """Over windows shorter than the sequence, where truncation is not exact; with padded steps and resets at any step."""
    with jax.enable_x64(True):
        model, run = STREAMING[name], jax.jit(in_windows, static_argnums=(0, 1))
        data = example(model)
        want = jax.jit(bptt, static_argnums=0)(model, *data)
        assert distance(run(online(model, RTRL()), 2, *data)[0], want) <= EXACT
        if name in ("lstm", "gru-before", "learned-state", "rnn-lstm"):
            assert distance(run(online(model, RTRL()), 1, *data)[0], want) <= EXACT
            assert distance(run(online(model, RTRL()).layer, 1, *data)[0], want) > 1e-3


UNITWISE = {
    name: CELLS[name]
    for name in (
        "elman-relu", "lstm", "lstm-without-bias", "lstm-peephole", "lstm-coupled", "gru-after", "ctrnn-learn-tau",
        "ctrnn-dt-input",
    )
}  # fmt: skip
"""Cells whose units are followed one by one."""


@pytest.mark.parametrize("method", [SnAp(), EProp()], ids=str)
@pytest.mark.parametrize("cell", UNITWISE.values(), ids=UNITWISE)
def test_local_rules_are_bptt_of_a_cell_whose_connections_are_cut(cell, method):
    """SnAp-1 leaves a unit's connection to itself, e-prop none."""
    with jax.enable_x64(True):
        data = example(cell)
        want = jax.jit(bptt, static_argnums=0)(Cut(cell, own=method == SnAp()), *data)
        for steps in (1, 3) if cell == CELLS["gru-after"] else (2,):
            got, _ = jax.jit(in_windows, static_argnums=(0, 1))(online(cell, method, local=True), steps, *data)
            assert distance(got, want) <= EXACT


@pytest.mark.parametrize("method", [SnAp(), EProp()], ids=str)
@pytest.mark.parametrize("name", ["lstm-peephole", "gru-after", "learned-state"])
def test_the_trace_of_a_window_is_that_of_its_steps(name, method):
    """One pass over the trace for all of a window's steps; with resets and padding within it."""
    with jax.enable_x64(True):
        layer, data = online(CELLS[name], method), example(CELLS[name])
        run = jax.jit(in_windows, static_argnums=(0, 1))
        one, several = (run(layer, steps, *data)[1].trace for steps in (1, TIME // 2))
        assert distance(several, one) <= EXACT


@pytest.mark.parametrize("name", ["lstm", "gru-after", "ctrnn", "elman-tanh"])
def test_a_trace_comes_closer_to_the_gradient_than_none(name):
    """One exact step and a trace: SnAp-1 nearer than e-prop or about, both nearer than truncation."""
    with jax.enable_x64(True):
        cell, run = CELLS[name], jax.jit(in_windows, static_argnums=(0, 1))
        data = example(cell)
        want = jax.jit(bptt, static_argnums=0)(cell, *data)
        without = distance(run(jrnn.Recurrent(cell), 1, *data)[0], want)
        for method in (SnAp(), EProp()):
            assert distance(run(online(cell, method), 1, *data)[0], want) < 0.8 * without


def test_what_a_wrapper_adds_is_followed():
    """A learned initial state, and masks of noise that a state draws."""
    with jax.enable_x64(True):
        elman = jrnn.Elman(INPUT, HIDDEN)
        data = example(jrnn.LearnedState(elman))
        want = jax.jit(bptt, static_argnums=0)(jrnn.LearnedState(Cut(elman, own=True)), *data)
        learned = online(jrnn.LearnedState(elman), SnAp(), local=True)
        got, _ = jax.jit(in_windows, static_argnums=(0, 1))(learned, 1, *data)
        assert np.abs(want.state.h).min() > 0
        assert distance(got, want) <= EXACT
        masked = jrnn.Parametrized(jrnn.GRU(INPUT, HIDDEN), jrnn.parametrizations.Sparse(0.6))
        data = example(masked)
        within = data[0], masked.made(data[0])
        run = jax.jit(in_windows, static_argnums=(0, 1))
        raw, made = (run(online(cell, SnAp()), 1, p, *data[1:])[0] for cell, p in zip((masked, masked.cell), within))
        there = jnp.asarray(within[1].w_h != 0, float)
        assert distance(raw, made._replace(w_h=made.w_h * there)) <= EXACT
        for cell in (jrnn.Zoneout(jrnn.LSTM(INPUT, HIDDEN), 0.3), jrnn.RecurrentDropout(jrnn.GRU(INPUT, HIDDEN), 0.4)):
            data = example(cell)
            noisy = online(cell, RTRL())
            keyed = noisy.initial_state(data[0], (ROWS,), key(3)).state

            def whole(params, cell=cell, data=data, keyed=keyed):
                ys = jrnn.unroll(cell, params, data[1], keyed, mask=data[3], reset=data[4])[1]
                return jnp.sum(data[2] * ys + ys**2)

            got, _ = jax.jit(in_windows, static_argnums=(0, 1))(noisy, 2, *data, key(3))
            assert distance(got, jax.jit(jax.grad(whole))(data[0])) <= EXACT


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        (jrnn.GRU(INPUT, HIDDEN, reset_after=False), "its update mixes units; expected RTRL() or UORO()"),
        (jrnn.Jordan(INPUT, HIDDEN, 2), "expected RTRL() or UORO()"),
        (jrnn.ProjectedLSTM(INPUT, HIDDEN, 2), "where each should have one entry a unit; expected RTRL() or UORO()"),
        (jrnn.ConvGRU((4, 3, 2), 2, 3), "where each should have one entry a unit; expected RTRL() or UORO()"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_cells_whose_units_cannot_be_followed(cell, says):
    params = random_params(cell)
    for method in (SnAp(), EProp()):
        with pytest.raises(TypeError, match=re.escape(says)):
            online(cell, method).initial_state(params)


def test_a_recurrent_weight_of_another_name_is_not_guessed():
    @own_cell
    class Renamed(Simple):
        """Its recurrent weight is not called so: the diagonal of what is would be the wrong one."""

        def project(self, params, x):
            return x @ jnp.concatenate([params.w_h, params.w_x])[: x.shape[-1]]

        def recur(self, params, state):
            return state.h @ jnp.concatenate([params.w_x, params.w_h])[:HIDDEN]

    params = random_params(Renamed())
    with pytest.raises(TypeError, match=r"SnAp.*names its recurrent weights, or EProp\(\)"):
        online(Renamed(), SnAp()).initial_state(params)
    online(Renamed(), EProp()).initial_state(params)


def test_truncated_looks_back_as_far_as_it_says():
    """As far as the start: back-propagation; and a learned initial state has its derivative until it is out of sight."""
    with jax.enable_x64(True):
        run = jax.jit(in_windows, static_argnums=(0, 1))
        for model in (CELLS["learned-state"], CELLS["conv-gru"], STACK):
            data = example(model)
            want = jax.jit(bptt, static_argnums=0)(model, *data)
            assert distance(run(online(model, Truncated(TIME - 1)), 1, *data)[0], want) <= EXACT
            assert distance(run(online(model, Truncated(4)), 2, *data)[0], want) <= EXACT
            near, far = (distance(run(online(model, Truncated(steps)), 1, *data)[0], want) for steps in (3, 1))
            assert 0 < near < far


def test_truncated_is_the_derivative_of_the_last_steps():
    """Each window's gradient is that of a run from the state `steps` before it, through which no derivative passes."""
    with jax.enable_x64(True):
        cell, back = jrnn.LSTM(INPUT, HIDDEN), 2
        params, xs, marks, mask, reset = example(cell)

        def by_hand(params):
            total = 0.0
            for t in range(TIME):
                start = max(0, t - back)
                state = (
                    jrnn.unroll(cell, params, xs[:start], mask=mask[:start], reset=reset[:start])[0] if start else None
                )
                state = jax.lax.stop_gradient(state)
                ys = jrnn.unroll(
                    cell, params, xs[start : t + 1], state, mask=mask[start : t + 1], reset=reset[start : t + 1]
                )[1]
                total += jnp.sum(marks[t] * ys[-1] + ys[-1] ** 2)
            return total

        data = params, xs, marks, mask, reset
        got, _ = jax.jit(in_windows, static_argnums=(0, 1))(online(cell, Truncated(back)), 1, *data)
        assert distance(got, jax.jit(jax.grad(by_hand))(params)) <= EXACT


@pytest.mark.parametrize("model", [jrnn.Elman(INPUT, HIDDEN), STACK], ids=["elman", "stack"])
def test_uoro_is_right_on_average(model):
    with jax.enable_x64(True):
        data = example(model)
        want = jax.jit(bptt, static_argnums=0)(model, *data)

        def one(key):
            return in_windows(online(model, UORO()), 2, *data, key)[0]

        some = jax.jit(jax.vmap(one))
        drawn = [some(jax.random.split(key(seed), 1000)) for seed in range(16)]
        few, many = (jax.tree.map(lambda *g: np.mean(g, (0, 1)), *drawn[:count]) for count in (4, 16))
        assert distance(few, want) < 0.05
        assert distance(many, want) < 0.6 * distance(few, want) + 0.002


def test_snap_of_more_steps_comes_closer_in_a_sparse_network():
    with jax.enable_x64(True):
        rng, units = np.random.default_rng(0), 12
        cell = jrnn.Elman(INPUT, units)
        layer = jrnn.Recurrent(cell)
        params, xs, marks, mask, reset = example(cell)
        sparse = np.where(rng.random((units, units)) < 0.25, rng.standard_normal((units, units)), 0)
        params = params._replace(w_h=jnp.asarray(sparse / np.abs(np.linalg.eigvals(sparse)).max()))
        data = params, xs, marks, mask, reset & False
        there = jax.tree.map(lambda a: (a != 0).astype(a.dtype), params)
        run = jax.jit(in_windows, static_argnums=(0, 1))

        def masked(gradient):
            return jax.tree.map(jnp.multiply, gradient, there)

        want = masked(jax.jit(bptt, static_argnums=0)(cell, *data))
        patterns = [pattern(layer, params, steps) for steps in (1, 2, 3, 12)]
        errors = [distance(masked(run(Online(layer, SnAp(one)), 1, *data)[0]), want) for one in patterns]
        assert errors[0] > errors[1] > errors[2] > errors[3]
        assert errors[3] <= EXACT
        # One array of state: what a parameter moves at once is one unit, as in the traces that follow units.
        assert distance(errors[0], distance(masked(run(Online(layer, SnAp()), 1, *data)[0]), want)) <= 1e-9


def test_snap_of_two_steps_is_exact_where_weights_are_dense():
    with jax.enable_x64(True):
        cell = jrnn.GRU(INPUT, HIDDEN)
        data = example(cell)
        want = jax.jit(bptt, static_argnums=0)(cell, *data)
        method = SnAp(pattern(jrnn.Recurrent(cell), data[0], 2))
        for steps in (1, 2):
            got, _ = jax.jit(in_windows, static_argnums=(0, 1))(online(cell, method), steps, *data)
            assert distance(got, want) <= EXACT


def test_layer_by_layer_is_exact_in_the_last_layer_alone():
    with jax.enable_x64(True):
        data = example(STACK)
        want = jax.jit(bptt, static_argnums=0)(STACK, *data)
        each = jrnn.Layered(tuple(Online(layer, RTRL()) for layer in STACK.layers))
        got, _ = jax.jit(in_windows, static_argnums=(0, 1))(each, 1, *data)
        assert distance(got[1], want[1]) <= EXACT
        assert 1e-3 < distance(got[0], want[0]) < 0.9


def test_a_complex_state_has_the_influence_of_two_real_ones():
    with jax.enable_x64(True):
        cell = Turning()
        data = example(cell)
        want = jax.jit(bptt, static_argnums=0)(cell, *data)
        run = jax.jit(in_windows, static_argnums=(0, 1))
        for method in (RTRL(), Truncated(TIME)):
            assert distance(run(online(cell, method), 2, *data)[0], want) <= EXACT
        assert distance(run(jrnn.Recurrent(cell), 2, *data)[0], want) > 1e-3
        with pytest.raises(TypeError, match="its state is complex; expected"):
            online(cell, EProp()).initial_state(data[0])


def test_an_embedding_inside():
    """An embedding inside learns from what its vectors did to later steps."""
    with jax.enable_x64(True):
        layer = jrnn.Layered((jrnn.Embedding(5, INPUT), jrnn.Recurrent(jrnn.GRU(INPUT, HIDDEN))))
        params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), random_params(layer))
        tokens = jnp.asarray(np.random.default_rng(0).integers(0, 5, (TIME, ROWS)))
        marks = jnp.ones((TIME, ROWS, HIDDEN))
        data = params, tokens, marks, tokens >= 0, tokens < 0
        want = jax.jit(bptt, static_argnums=0)(layer, *data)
        for method in (RTRL(), Truncated(TIME)):
            got, _ = jax.jit(in_windows, static_argnums=(0, 1))(Online(layer, method), 2, *data)
            assert distance(got, want) <= EXACT
