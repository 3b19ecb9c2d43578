"""Variables and keys of jrnn's modules in linen: paths, first weights, dtypes, training, dropout and noise."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import key, random_params, same
from flax import linen as nn
from flax import serialization, traverse_util
from flax.training.train_state import TrainState
from flax_cases import BATCH, DROPOUT, HIDDEN, INPUT, LENGTHS, STACK, X
from linen_modules import random_like

import jrnn
from jrnn.flax.linen import RNN, Cell


@pytest.mark.parametrize(
    ("layer", "path"),
    [
        (jrnn.LSTM(INPUT, HIDDEN), "cell/w_h"),
        (jrnn.Recurrent(jrnn.LSTM(INPUT, HIDDEN)), "cell/w_h"),
        (jrnn.Residual(jrnn.Recurrent(jrnn.GRU(INPUT, INPUT))), "cell/w_h"),
        (STACK, "layers_1/forward/w_h"),
        (jrnn.Bidirectional(jrnn.Recurrent(jrnn.GRU(INPUT, 2)), STACK), "backward/layers_0/forward/w_h"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_parameters_are_found_by_path_and_are_the_layers_own(layer, path):
    rnn = RNN(layer)
    variables = random_like(jax.eval_shape(rnn.init, key(0), X))
    flat = traverse_util.flatten_dict(variables["params"], sep="/")
    assert path in flat
    assert len(flat) == len(jax.tree.leaves(jax.eval_shape(layer.init, key(0))))
    changed = variables | {"params": traverse_util.unflatten_dict(flat | {path: 2 * flat[path]}, sep="/")}
    assert not np.allclose(rnn.apply(variables, X), rnn.apply(changed, X))


def test_outputs_are_those_of_the_layer():
    params = random_params(STACK)
    named = {
        f"layers_{index}": {"forward": pair.forward._asdict(), "backward": pair.backward._asdict()}
        for index, pair in enumerate(params)
    }
    got = RNN(STACK, return_carry=True, time_major=True).apply({"params": named}, jnp.swapaxes(X, 0, 1))
    same(got, STACK.apply(params, jnp.swapaxes(X, 0, 1)))
    without = jrnn.GRU(INPUT, HIDDEN, reset_after=False)
    cell = random_params(without)
    named = {name: value for name, value in cell._asdict().items() if value is not None}
    want = jrnn.unroll(without, cell, jnp.swapaxes(X, 0, 1))[1]
    same(RNN(without).apply({"params": {"cell": named}}, X), jnp.swapaxes(want, 0, 1))


def test_initial_parameters_are_those_of_the_cell():
    cell = jrnn.LSTM(INPUT, 64, forget_bias=3.0)
    params = RNN(cell).init(key(0), X)["params"]["cell"]
    np.testing.assert_array_equal(params["b"], np.repeat([0, 3, 0, 0], 64))
    blocks = np.split(np.asarray(params["w_h"]), 4, 1)
    for block in blocks:
        np.testing.assert_allclose(block @ block.T, np.eye(64), atol=1e-4)
    first, second = (RNN(STACK).init(key(0), X)["params"][f"layers_{i}"]["forward"]["w_h"] for i in (0, 1))
    assert not np.allclose(first, second)


def test_weights_may_be_drawn_by_another_initialiser():
    def longest(key, cell):
        return jrnn.initializers.chrono(key, cell, cell.init(key), longest=30)

    cell = jrnn.LSTM(INPUT, HIDDEN)
    drawn = RNN(cell, params_init=longest, param_dtype=jnp.bfloat16).init(key(0), X.astype(jnp.bfloat16))
    assert drawn["params"]["cell"]["w_h"].dtype == jnp.bfloat16
    forget = drawn["params"]["cell"]["b"][HIDDEN : 2 * HIDDEN]
    assert jnp.all(forget >= 0)
    assert jnp.any(forget > 1)
    half = lambda key, layer: jax.tree.map(lambda a: jnp.full_like(a, 0.5), layer.init(key))  # noqa: E731
    stack = RNN(STACK, params_init=half).init(key(0), X)
    single = Cell(cell, params_init=half).init(key(0), cell.initial_state(cell.init(key(0))), X[0, 0])
    assert all(jnp.all(a == 0.5) for a in jax.tree.leaves((stack, single)))


def test_masks_by_path_and_a_train_state():
    rnn = RNN(STACK)
    params = rnn.init(key(0), X)["params"]
    labels = traverse_util.path_aware_map(lambda path, _: "still" if "w_h" in path else "trained", params)
    decay = traverse_util.path_aware_map(lambda path, _: path[-1].startswith("w_"), params)
    optimizer = optax.chain(
        optax.masked(optax.add_decayed_weights(1e-3), decay),
        optax.multi_transform({"trained": optax.adam(1e-2), "still": optax.set_to_zero()}, labels),
    )
    state = TrainState.create(apply_fn=rnn.apply, params=params, tx=optimizer)

    @jax.jit
    @jax.numpy_dtype_promotion("standard")  # Adam raises a float to its integer count
    def step(state):
        def loss(params):
            return jnp.mean(jnp.square(state.apply_fn({"params": params}, X, seq_lengths=LENGTHS) - 0.5))

        value, gradient = jax.value_and_grad(loss)(state.params)
        return state.apply_gradients(grads=gradient), value

    losses = []
    for _ in range(30):
        state, value = step(state)
        losses.append(value)
    assert losses[-1] < 0.9 * losses[0]
    before, after = (traverse_util.flatten_dict(p) for p in (params, state.params))
    for path, value in after.items():
        assert np.array_equal(value, before[path]) == ("w_h" in path), path

    restored = serialization.from_bytes(
        TrainState.create(apply_fn=rnn.apply, params=jax.tree.map(jnp.zeros_like, params), tx=optimizer),
        serialization.to_bytes(state),
    )
    same(restored.params, state.params, tolerance=0)
    same(step(restored)[1], step(state)[1], tolerance=0)


def test_parameters_of_another_dtype():
    rnn = RNN(jrnn.LSTM(INPUT, HIDDEN), param_dtype=jnp.bfloat16, return_carry=True)
    variables = rnn.init(key(0), X.astype(jnp.bfloat16))
    result = rnn.apply(variables, X.astype(jnp.bfloat16))
    cell = nn.RNN(Cell(jrnn.LSTM(INPUT, HIDDEN), param_dtype=jnp.bfloat16), return_carry=True)
    assert {a.dtype for a in jax.tree.leaves((variables, result))} == {jnp.dtype(jnp.bfloat16)}
    same(cell.apply(variables, X.astype(jnp.bfloat16)), result, 0.05)


def test_dropout_takes_its_key_from_the_rngs():
    rnn = RNN(DROPOUT)
    variables = rnn.init(key(0), X, deterministic=True)

    def train(seed):
        return rnn.apply(variables, X, deterministic=False, rngs={"dropout": key(seed)})

    still = rnn.apply(variables, X, deterministic=True)
    same(train(1), train(1), tolerance=0)
    assert not np.allclose(train(1), train(2))
    assert not np.allclose(train(1), still)
    same(RNN(DROPOUT, deterministic=True).apply(variables, X, rngs={"dropout": key(1)}), still)
    plain = jrnn.rnn(jrnn.LSTM, input_size=INPUT, hidden_size=HIDDEN, num_layers=2)
    same(RNN(plain).apply(variables, X, rngs={"dropout": key(1)}), still)


def test_keys_may_be_plain_numbers():
    """Flax takes `jax.random.PRNGKey`; the numbers drawn are those of the typed key."""
    rnn = RNN(jrnn.Layered((jrnn.Recurrent(jrnn.CTRNN(INPUT, HIDDEN, noise=0.5)), jrnn.Dropout(0.5))))

    def drawn(key):
        variables = rnn.init({"params": key(0), "dropout": key(1)}, X, deterministic=False)
        trained = rnn.apply(variables, X, deterministic=False, rngs={"dropout": key(1)})
        return variables, trained, rnn.apply(variables, X, deterministic=True, init_key=key(2))

    same(drawn(jax.random.PRNGKey), drawn(jax.random.key), tolerance=0)


def test_dropout_is_never_left_out_unsaid():
    rnn = RNN(DROPOUT)
    variables = rnn.init(key(0), X, deterministic=True)
    with pytest.raises(ValueError, match="deterministic"):
        rnn.apply(variables, X)
    with pytest.raises(Exception, match="dropout") as error:
        rnn.apply(variables, X, deterministic=False)
    assert type(error.value).__name__ == "InvalidRngError"


def test_noise_takes_its_key_from_the_rngs_or_from_init_key():
    cell = jrnn.CTRNN(INPUT, HIDDEN, tau=3.0, noise=0.5)
    rnn = RNN(cell, deterministic=False)
    variables = rnn.init({"params": key(0), "dropout": key(1)}, X)
    first, second = (rnn.apply(variables, X, rngs={"dropout": key(seed)}) for seed in (1, 2))
    still = rnn.apply(variables, X, deterministic=True)
    assert not np.allclose(first, second)
    same(RNN(jrnn.CTRNN(INPUT, HIDDEN, tau=3.0)).apply(variables, X), still)
    params = jrnn.cells.ctrnn.CTRNNParams(**{"log_tau": None} | variables["params"]["cell"])
    state = cell.initial_state(params, (BATCH,), key(7))
    want = jrnn.unroll(cell, params, jnp.swapaxes(X, 0, 1), state)[1]
    same(rnn.apply(variables, X, deterministic=True, init_key=key(7)), jnp.swapaxes(want, 0, 1))
