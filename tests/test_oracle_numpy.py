"""The equations of the papers as plain NumPy loops, in float64, for the cells that PyTorch does not have."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import random_inputs, random_params

import jrnn
from jrnn.activations import Clipped

TIME, BATCH, HIDDEN = 7, 2, 4


def sigma(x):
    return 1 / (1 + np.exp(-x))


def jordan(cell, p, xs):
    """Jordan 1986: the hidden layer sees the input and the previous output."""
    y, ys = np.zeros((BATCH, 2)), []
    for x in xs:
        hidden = np.tanh(x @ p.w_x + y @ p.w_h + p.b)
        y = sigma(hidden @ p.w_y + p.b_y)
        ys.append(y)
    return ys


def lstm_gates(p, x, h):
    """The four blocks, in the order i f g o."""
    return np.split(x @ p.w_x + h @ p.w_h + p.b, 4, axis=-1)


def peephole(cell, p, xs):
    """Gers, Schraudolph & Schmidhuber 2002: input and forget gates see the old cell, the output gate the new one."""
    h, c, ys = np.zeros((BATCH, HIDDEN)), np.zeros((BATCH, HIDDEN)), []
    for x in xs:
        i, f, g, o = lstm_gates(p, x, h)
        c = sigma(f + p.p_f * c) * c + sigma(i + p.p_i * c) * np.tanh(g)
        h = sigma(o + p.p_o * c) * np.tanh(c)
        ys.append(h)
    return ys


def split_options(cell, p, xs):
    """`LSTM` with every option: what goes into the gates is clipped, the cell has an activation of its own."""
    h, c, ys = np.zeros((BATCH, HIDDEN)), np.zeros((BATCH, HIDDEN)), []
    for x in xs:
        i, f, g, o = (np.clip(a, -0.5, 0.5) for a in lstm_gates(p, x, h))
        c = sigma(f) * c + sigma(i) * np.tanh(g)
        h = sigma(o) * np.maximum(c, 0)
        ys.append(h)
    return ys


def coupled(cell, p, xs):
    """Greff et al. 2017: the forget gate is one minus the input gate."""
    p_i, p_o = (0, 0) if p.p_i is None else (p.p_i, p.p_o)
    h, c, ys = np.zeros((BATCH, HIDDEN)), np.zeros((BATCH, HIDDEN)), []
    for x in xs:
        i, g, o = np.split(x @ p.w_x + h @ p.w_h + p.b, 3, axis=-1)
        i = sigma(i + p_i * c)
        c = i * np.tanh(g) + (1 - i) * c
        h = sigma(o + p_o * c) * np.tanh(c)
        ys.append(h)
    return ys


def projected(cell, p, xs):
    """Sak, Senior & Beaufays 2014, without peepholes: the gates see the projection of the output."""
    r, c, ys = np.zeros((BATCH, 2)), np.zeros((BATCH, HIDDEN)), []
    for x in xs:
        i, f, g, o = lstm_gates(p, x, r)
        c = sigma(f) * c + sigma(i) * np.tanh(g)
        r = (sigma(o) * np.tanh(c)) @ p.w_r
        ys.append(r)
    return ys


def gru_before(cell, p, xs):
    """Cho et al. 2014, equations 5 to 8: the reset gate acts on h before the product."""
    w_r, w_z, w_n = np.split(p.w_x, 3, axis=-1)
    u_r, u_z, u_n = np.split(p.w_h, 3, axis=-1)
    b_r, b_z, b_n = np.split(p.b, 3)
    h, ys = np.zeros((BATCH, HIDDEN)), []
    for x in xs:
        r = sigma(x @ w_r + h @ u_r + b_r)
        z = sigma(x @ w_z + h @ u_z + b_z)
        h = z * h + (1 - z) * np.tanh(x @ w_n + (r * h) @ u_n + b_n)
        ys.append(h)
    return ys


def ctrnn(cell, p, xs):
    """Beer 1995: τ dh/dt = -h + W φ(h + θ) + I, by Euler's method. The time step is the last feature where dt is None."""
    tau = np.array(cell.tau) if p.log_tau is None else np.exp(p.log_tau)
    h, ys = np.zeros((BATCH, HIDDEN)), []
    for x in xs:
        current, dt = (x, cell.dt) if cell.dt else (x[:, :-1], x[:, -1:])
        h = h + dt * (-h + np.tanh(h + p.b) @ p.w_h + current @ p.w_x) / tau
        ys.append(np.tanh(h + p.b))
    return ys


ORACLES = {
    "jordan": (jrnn.Jordan(3, HIDDEN, 2, output_activation="sigmoid"), jordan),
    "peephole": (jrnn.PeepholeLSTM(3, HIDDEN), peephole),
    "lstm-split-options": (
        jrnn.LSTM(
            3,
            HIDDEN,
            activation=Clipped("tanh", 0.5),
            gate_activation=Clipped("sigmoid", 0.5),
            cell_activation="relu",
        ),
        split_options,
    ),
    "coupled": (jrnn.CoupledLSTM(3, HIDDEN), coupled),
    "coupled-peepholes": (jrnn.CoupledLSTM(3, HIDDEN, peepholes=True), coupled),
    "projected": (jrnn.ProjectedLSTM(3, HIDDEN, 2), projected),
    "gru-before": (jrnn.GRU(3, HIDDEN, reset_after=False), gru_before),
    "ctrnn": (jrnn.CTRNN(3, HIDDEN, tau=3.0, dt=0.5), ctrnn),
    "ctrnn-tau-per-unit": (jrnn.CTRNN(3, HIDDEN, tau=(2.0, 3.0, 4.0, 5.0)), ctrnn),
    "ctrnn-learn-tau": (jrnn.CTRNN(3, HIDDEN, learn_tau=True), ctrnn),
    "ctrnn-dt-input": (jrnn.CTRNN(3, HIDDEN, tau=2.0, dt=None), ctrnn),
}


@pytest.mark.parametrize(("cell", "oracle"), ORACLES.values(), ids=ORACLES)
def test_outputs_are_those_of_the_paper(cell, oracle):
    with jax.enable_x64(True):
        params, xs = jax.tree.map(
            lambda a: a.astype(jnp.float64), (random_params(cell), random_inputs(cell, TIME, BATCH))
        )
        _, ys = jrnn.unroll(cell, params, xs)
        want = oracle(cell, jax.tree.map(np.asarray, params), np.asarray(xs))
        assert ys.dtype == np.float64
        np.testing.assert_allclose(ys, want, rtol=0, atol=1e-10)
