"""Small networks worked out by hand: read it to see what a recurrent network does and what this library calls things."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jrnn
from jrnn.cells.elman import ElmanParams
from jrnn.cells.lstm import LSTMParams


def test_a_linear_network_of_ones_remembers_the_sum_and_doubles_it():
    """Every weight 1, no bias: each unit stores the sum of all inputs and stored values; so does each output."""
    cell = jrnn.Elman(input_size=2, hidden_size=2, activation="identity")
    params = ElmanParams(w_x=jnp.ones((2, 2)), w_h=jnp.ones((2, 2)), b=jnp.zeros(2))
    output_layer = jnp.ones((2, 2))

    def answers(*inputs):
        _, stored = jrnn.unroll(cell, params, jnp.array(inputs, jnp.float32))
        return stored.tolist(), (stored @ output_layer).tolist()

    stored, answered = answers((1, 1), (1, 1), (2, 2))
    assert stored == [[2, 2], [6, 6], [16, 16]]
    assert answered == [[4, 4], [12, 12], [32, 32]]
    # The same inputs in another order give other answers: a recurrent network reads a sequence, not a set.
    assert answers((2, 2), (1, 1), (1, 1))[1] == [[8, 8], [20, 20], [44, 44]]


def test_one_lstm_unit_keeps_a_running_total():
    """x1 is added to memory when x2 = 1; memory is cleared when x2 = -1 and shown when x3 = 1. Nothing else shows.

    Weights of 100 make each gate a switch: input and output gates are shut unless opened, the forget gate is open (it keeps)
    unless shut.
    """
    cell = jrnn.LSTM(input_size=3, hidden_size=1, activation="identity")
    #               i     f    g  o
    w_x = jnp.array(
        [
            [0.0, 0.0, 1.0, 0.0],  # x1 is what may be added
            [100.0, 100.0, 0.0, 0.0],  # x2 opens the input gate at 1, shuts the forget gate at -1
            [0.0, 0.0, 0.0, 100.0],  # x3 opens the output gate
        ]
    )
    b = jnp.array([-50.0, 50.0, 0.0, -50.0])
    params = LSTMParams(w_x=w_x, w_h=jnp.zeros((1, 4)), b=b)
    inputs = [(1, 0, 0), (3, 1, 0), (2, 0, 0), (4, 1, 0), (2, 0, 0), (1, 0, 1), (3, -1, 0), (6, 1, 0), (1, 0, 1)]
    state, ys = jrnn.unroll(cell, params, jnp.array(inputs, jnp.float32))
    np.testing.assert_allclose(ys[:, 0], [0, 0, 0, 0, 0, 7, 0, 0, 6], atol=1e-5)
    np.testing.assert_allclose(state.c, [6], atol=1e-5)


@pytest.mark.parametrize(
    ("cell", "sizes", "shape"), [(jrnn.Elman, (5, 10), (6, 3)), (jrnn.LSTM, (50, 100), (10, 3))], ids=["rnn", "lstm"]
)
def test_shapes_are_those_of_pytorch(cell, sizes, shape):
    """`nn.RNN(5, 10, 2)` on (6, 3, 5) gives (6, 3, 10) and states (2, 3, 10); ours are one state per layer."""
    stack = jrnn.rnn(cell, input_size=sizes[0], hidden_size=sizes[1], num_layers=2)
    params = jax.eval_shape(stack.init, jax.random.key(0))
    states, ys = jax.eval_shape(stack.apply, params, jax.ShapeDtypeStruct((*shape, sizes[0]), jnp.float32))
    assert ys.shape == (*shape, sizes[1])
    stacked = jax.eval_shape(lambda states: jax.tree.map(lambda *layers: jnp.stack(layers), *states), states)
    assert [a.shape for a in stacked] == [(2, shape[1], sizes[1])] * (2 if cell is jrnn.LSTM else 1)


def test_an_lstm_has_four_times_the_parameters_of_an_elman_network():
    def count(cell, gates):
        params = jax.eval_shape(cell(7, 11).init, jax.random.key(0))
        total = sum(a.size for a in jax.tree.leaves(params))
        assert total == gates * (7 * 11 + 11 * 11 + 11)
        return total

    assert count(jrnn.LSTM, 4) == 4 * count(jrnn.Elman, 1)


def elman(hidden=3, inputs=2, outputs=2, time=4):
    """Random U [input, hidden], W [hidden, hidden], b, V [hidden, output], c and inputs, of float32."""
    rng = np.random.default_rng(0)
    shapes = [(inputs, hidden), (hidden, hidden), (hidden,), (hidden, outputs), (outputs,), (time, inputs)]
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def test_two_steps_written_out():
    """h_2 = f(U x_2 + W h_1 + b), y_2 = f(V h_2 + c)."""
    u, w, b, v, c, x = elman()
    h_1 = np.tanh(u.T @ x[0] + w.T @ np.zeros(3, np.float32) + b)
    h_2 = np.tanh(u.T @ x[1] + w.T @ h_1 + b)
    y_2 = np.tanh(v.T @ h_2 + c)
    state, hs = jrnn.unroll(jrnn.Elman(2, 3), ElmanParams(w_x=u, w_h=w, b=b), x[:2])
    np.testing.assert_allclose(hs, [h_1, h_2], rtol=1e-5)
    np.testing.assert_allclose(state.h, h_2, rtol=1e-5)
    np.testing.assert_allclose(jnp.tanh(hs[1] @ v + c), y_2, rtol=1e-5)


def test_back_propagation_through_time_by_hand():
    """o_t = V h_t + c with cross-entropy at each step; δ_t is the derivative of the loss by h_t.

    δ_T = V' (softmax(o_T) - y_T)
    δ_t = V' (softmax(o_t) - y_t) + W' diag(1 - h_{t+1}²) δ_{t+1}
    dW = Σ_t diag(1 - h_t²) δ_t h_{t-1}',  dU = Σ_t diag(1 - h_t²) δ_t x_t',  db = Σ_t diag(1 - h_t²) δ_t
    dV = Σ_t (softmax(o_t) - y_t) h_t',  dc = Σ_t softmax(o_t) - y_t
    """
    u, w, b, v, c, x = elman()
    targets = np.eye(2, dtype=np.float32)[[0, 1, 1, 0]]

    h = [np.zeros(3)]
    for x_t in x:
        h.append(np.tanh(u.T @ x_t + w.T @ h[-1] + b))
    du, dw, db, dv, dc = (np.zeros(a.shape) for a in (u, w, b, v, c))
    carried = np.zeros(3)  # W' diag(1 - h_{t+1}²) δ_{t+1}, nothing after the last step
    for t in range(len(x), 0, -1):
        o = v.T @ h[t] + c
        error = np.exp(o) / np.exp(o).sum() - targets[t - 1]
        delta = v @ error + carried
        inside = (1 - h[t] ** 2) * delta
        du += np.outer(x[t - 1], inside)
        dw += np.outer(h[t - 1], inside)
        db += inside
        dv += np.outer(h[t], error)
        dc += error
        carried = w @ inside

    def loss(params, v, c):
        _, hs = jrnn.unroll(jrnn.Elman(2, 3), params, x)
        return -jnp.sum(targets * jax.nn.log_softmax(hs @ v + jnp.broadcast_to(c, (len(x), 2))))

    params, dv_, dc_ = jax.grad(loss, argnums=(0, 1, 2))(ElmanParams(w_x=u, w_h=w, b=b), v, c)
    for got, want in zip((*params, dv_, dc_), (du, dw, db, dv, dc)):
        np.testing.assert_allclose(got, want, atol=1e-6 * max(1, np.abs(want).max()))


def inside(equation):
    """The programs that an equation holds."""
    return [p for p in jax.tree.leaves(equation.params, is_leaf=lambda p: hasattr(p, "eqns")) if hasattr(p, "eqns")]


def scans(jaxpr):
    """Every loop in a program."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "scan":
            yield equation
        for inner in inside(equation):
            yield from scans(inner)


def products(jaxpr):
    """The sizes of every product in a program, those in its loops left out."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield equation.outvars[0].aval.size
        elif equation.primitive.name != "scan":
            for inner in inside(equation):
                yield from products(inner)


def test_time_is_the_first_axis_unless_vmap_says_otherwise():
    """Batch-first data (3, 500, 10) under vmap loops 500 times. Passed as it is, it would be 3 steps of 500 rows."""
    cell = jrnn.GRU(10, 4)
    params = cell.init(jax.random.key(0))
    batch_first = jnp.zeros((3, 500, 10))

    def loops(function):
        return [equation.params["length"] for equation in scans(jax.make_jaxpr(function)(batch_first).jaxpr)]

    assert loops(jax.vmap(lambda xs: jrnn.unroll(cell, params, xs))) == [500]
    assert loops(lambda xs: jrnn.unroll(cell, params, xs)) == [3]


def test_the_product_with_the_input_is_outside_the_loop():
    """One [time * batch] product before the loop, one [batch] product per step inside it."""
    cell = jrnn.LSTM(input_size=10, hidden_size=4)
    params = cell.init(jax.random.key(0))
    program = jax.make_jaxpr(lambda xs: jrnn.unroll(cell, params, xs))(jnp.zeros((7, 3, 10))).jaxpr
    (loop,) = scans(program)
    assert list(products(program)) == [7 * 3 * 16]
    assert list(products(loop.params["jaxpr"].jaxpr)) == [3 * 16]
