"""Variables and streams of keys of jrnn's modules in NNX: names, replacing, training, checkpoints, dropout and noise."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from cases import key, normal, same
from flax import nnx
from flax_cases import DROPOUT, HIDDEN, INPUT, LENGTHS, STACK, X
from nnx_modules import Tagger, paths, rngs, shaken

import jrnn
from jrnn.flax.nnx import RNN, Cell


def test_parameters_are_variables_by_the_names_of_their_fields():
    assert paths(RNN(jrnn.LSTM(INPUT, HIDDEN), rngs=rngs())) == {"cell.w_x", "cell.w_h", "cell.b"}
    assert paths(RNN(jrnn.Recurrent(jrnn.Elman(INPUT, HIDDEN)), rngs=rngs())) == {"cell.w_x", "cell.w_h", "cell.b"}
    before = jrnn.GRU(INPUT, HIDDEN, reset_after=False)
    assert paths(RNN(before, rngs=rngs())) == {"cell.w_x", "cell.w_h", "cell.b"}
    assert paths(RNN(STACK, rngs=rngs())) == {
        f"layers.{i}.{direction}.{name}"
        for i in (0, 1)
        for direction in ("forward", "backward")
        for name in ("w_x", "w_h", "b", "b_n")
    }
    pair = jrnn.Bidirectional(jrnn.Recurrent(before), jrnn.Recurrent(before, reverse=True))
    assert {"forward.w_x", "backward.w_h"} < paths(RNN(pair, rngs=rngs()))
    assert paths(Cell(jrnn.LSTM(INPUT, HIDDEN), rngs=rngs())) == {"w_x", "w_h", "b"}


@pytest.mark.parametrize("name", ["stack", "pair", "before"])
def test_outputs_are_those_of_the_layer(name):
    before = jrnn.Recurrent(jrnn.GRU(INPUT, HIDDEN, reset_after=False))
    layer = {"stack": STACK, "pair": jrnn.Bidirectional(before, STACK), "before": before}[name]
    rnn = shaken(RNN(layer, rngs=rngs(), return_carry=True, time_major=True))
    x = jnp.swapaxes(X, 0, 1)
    assert jax.tree.structure(rnn.params()) == jax.tree.structure(layer.init(key(0)))
    same(rnn(x), layer.apply(rnn.params(), x))


def test_initial_parameters_are_those_of_the_cell():
    cell = jrnn.LSTM(INPUT, 64, forget_bias=3.0)
    rnn = RNN(cell, rngs=nnx.Rngs(params=7))
    np.testing.assert_array_equal(rnn.cell.b[...], np.repeat([0, 3, 0, 0], 64))
    for block in np.split(np.asarray(rnn.cell.w_h[...]), 4, 1):
        np.testing.assert_allclose(block @ block.T, np.eye(64), atol=1e-4)
    same(RNN(cell, rngs=nnx.Rngs(params=7)).params(), rnn.params(), tolerance=0)
    assert not np.allclose(RNN(cell, rngs=nnx.Rngs(params=8)).cell.w_h[...], rnn.cell.w_h[...])


def test_weights_may_be_drawn_by_another_initialiser():
    def half(key, owner):
        return jax.tree.map(lambda a: jnp.full_like(a, 0.5), owner.init(key))

    cell = jrnn.LSTM(INPUT, HIDDEN)
    for make, owner in ((RNN, cell), (RNN, STACK), (Cell, cell)):
        module = make(owner, params_init=half, param_dtype=jnp.bfloat16, rngs=rngs())
        leaves = jax.tree.leaves(nnx.state(module, nnx.Param))
        assert len(leaves) == len(jax.tree.leaves(owner.init(key(0))))
        assert all(leaf.dtype == jnp.bfloat16 and jnp.all(leaf == 0.5) for leaf in leaves)


class LowRank(nnx.Module):
    """A weight and a learned correction of rank one, in place of the weight."""

    def __init__(self, weight):
        self.weight = weight
        self.a = nnx.LoRAParam(normal(1, weight.shape[0], 1))
        self.b = nnx.LoRAParam(normal(2, 1, weight.shape[1]))

    def __jax_array__(self):
        return self.weight[...] + self.a[...] @ self.b[...]


def test_a_parameter_replaced_takes_effect():
    rnn = shaken(RNN(jrnn.LSTM(INPUT, HIDDEN), rngs=rngs()))
    params, before = rnn.params(), rnn(X)

    def expected(w_h):
        return jnp.swapaxes(
            jrnn.unroll(jrnn.LSTM(INPUT, HIDDEN), params._replace(w_h=w_h), jnp.swapaxes(X, 0, 1))[1], 0, 1
        )

    rnn.cell.w_h[...] = params.w_h / 2
    same(rnn(X), expected(params.w_h / 2))
    rnn.cell.w_h = nnx.Param(params.w_h)
    same(rnn(X), before)
    rnn.cell.w_h = LowRank(rnn.cell.w_h)
    same(rnn(X), expected(params.w_h + normal(1, HIDDEN, 1) @ normal(2, 1, 4 * HIDDEN)))

    of_lora = nnx.DiffState(0, nnx.LoRAParam)
    gradient = nnx.grad(lambda rnn: jnp.sum(jnp.square(rnn(X))), argnums=of_lora)(rnn)
    assert {path[-1] for path, _ in nnx.to_flat_state(gradient)} == {"a", "b"}
    optimizer = nnx.Optimizer(rnn, optax.sgd(0.1), wrt=nnx.LoRAParam)
    optimizer.update(rnn, gradient)
    same(rnn.cell.w_h.weight[...], params.w_h, tolerance=0)
    assert not np.allclose(rnn.cell.w_h.a[...], normal(1, HIDDEN, 1))


def test_split_merge_and_filters():
    rnn = shaken(RNN(STACK, rngs=rngs()))
    graph, weights, biases = nnx.split(rnn, lambda path, _: path[-1].startswith("w_"), ...)
    assert {path[-1] for path, _ in nnx.to_flat_state(weights)} == {"w_x", "w_h"}
    assert {path[-1] for path, _ in nnx.to_flat_state(biases)} == {"b", "b_n"}
    same(nnx.merge(graph, weights, biases)(X), rnn(X))
    zero = nnx.merge(graph, weights, jax.tree.map(jnp.zeros_like, biases))
    assert not np.allclose(zero(X), rnn(X))
    assert graph == nnx.split(RNN(STACK, rngs=rngs(1)))[0]
    # Nothing but parameters, so no filter need say what becomes of the rest.
    assert len(nnx.split(RNN(jrnn.LSTM(INPUT, HIDDEN), rngs=rngs()), nnx.Param)) == 2


def test_equal_modules_compile_once():
    traces = 0

    @nnx.jit
    def forward(rnn):
        nonlocal traces
        traces += 1
        return rnn(X)

    for seed in (0, 1):
        forward(RNN(jrnn.LSTM(INPUT, HIDDEN), rngs=rngs(seed)))
    assert traces == 1
    forward(RNN(jrnn.LSTM(INPUT, HIDDEN), reverse=True, rngs=rngs()))
    assert traces == 2


def test_training_through_the_optimizer():
    rnn = RNN(STACK, rngs=rngs())
    optimizer = nnx.Optimizer(rnn, optax.sgd(0.5), wrt=nnx.Param)

    @nnx.jit
    def step(rnn, optimizer):
        def loss(rnn):
            return jnp.mean(jnp.square(rnn(X, seq_lengths=LENGTHS) - 0.5))

        value, gradient = nnx.value_and_grad(loss)(rnn)
        optimizer.update(rnn, gradient)
        return value

    before = rnn.params()
    losses = [step(rnn, optimizer) for _ in range(20)]
    assert losses[-1] < 0.9 * losses[0]
    assert all(not np.array_equal(a, b) for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(rnn.params())))


def test_gradients_are_those_of_unroll():
    rnn = shaken(RNN(jrnn.LSTM(INPUT, HIDDEN), rngs=rngs()))
    gradient = nnx.grad(lambda rnn: jnp.sum(jnp.square(rnn(X))))(rnn)
    want = jax.grad(
        lambda params: jnp.sum(jnp.square(jrnn.unroll(jrnn.LSTM(INPUT, HIDDEN), params, jnp.swapaxes(X, 0, 1))[1]))
    )(rnn.params())
    same({name: a[...] for name, a in gradient["cell"].items()}, want._asdict())


def test_a_checkpoint_and_back(tmp_path):
    rnn = shaken(RNN(DROPOUT, rngs=rngs()))
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", nnx.state(rnn, nnx.Param))
        checkpointer.wait_until_finished()
        abstract = nnx.eval_shape(lambda: RNN(DROPOUT, rngs=rngs()))
        like = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(
                a.shape, a.dtype, sharding=jax.sharding.SingleDeviceSharding(jax.devices()[0])
            ),
            nnx.state(abstract, nnx.Param),
        )
        restored = checkpointer.restore(tmp_path / "state", like)
    other = RNN(DROPOUT, rngs=rngs(1))
    nnx.update(other, restored)
    same(other.params(), rnn.params(), tolerance=0)


def test_parameters_of_another_dtype():
    x = X.astype(jnp.bfloat16)
    rnn = RNN(jrnn.LSTM(INPUT, HIDDEN), param_dtype=jnp.bfloat16, return_carry=True, rngs=rngs())
    result = rnn(x)
    cell = nnx.RNN(Cell(jrnn.LSTM(INPUT, HIDDEN), param_dtype=jnp.bfloat16, rngs=rngs()), return_carry=True)
    assert {a.dtype for a in jax.tree.leaves((rnn.params(), result))} == {jnp.dtype(jnp.bfloat16)}
    same(cell(x), result, 0.05)


def test_dropout_takes_its_keys_from_the_rngs():
    def outputs(seed, calls=1, **options):
        rnn = shaken(RNN(DROPOUT, rngs=nnx.Rngs(params=0, dropout=seed)))
        return [rnn(X, **options) for _ in range(calls)]

    (first, second), (again,), (other,) = outputs(1, calls=2), outputs(1), outputs(2)
    same(again, first, tolerance=0)
    assert not np.allclose(first, second)
    assert not np.allclose(first, other)
    (given,), (given_again,) = (outputs(seed, rngs=nnx.Rngs(dropout=5)) for seed in (1, 2))
    same(given, given_again, tolerance=0)
    assert not np.allclose(given, first)
    (still,) = outputs(1, deterministic=True)
    assert not np.allclose(first, still)


def test_train_and_eval():
    model = Tagger(shaken(RNN(DROPOUT, rngs=rngs())), rngs())
    plain = Tagger(RNN(jrnn.Layered(DROPOUT.layers[::2]), rngs=rngs()), rngs())
    nnx.update(plain, nnx.state(model, nnx.Param))
    forward = nnx.jit(lambda model: model(X))
    model.eval()
    same(forward(model), forward(plain))
    same(forward(model), model(X))
    model.train()
    first, second = forward(model), forward(model)
    assert not np.allclose(first, second)
    same(nnx.view(model, deterministic=True)(X), forward(plain))


def test_only_layers_that_draw_keep_a_stream():
    noisy = jrnn.CTRNN(INPUT, HIDDEN, tau=3.0, noise=0.5)
    for layer, draws in [
        (DROPOUT, True),
        (noisy, True),
        (jrnn.Bidirectional(jrnn.Recurrent(noisy), jrnn.Recurrent(noisy, reverse=True)), True),
        (jrnn.Residual(jrnn.Layered((jrnn.Dropout(0.1), jrnn.Recurrent(jrnn.GRU(INPUT, INPUT))))), True),
        (jrnn.Layered((jrnn.Dropout(0.0), jrnn.Recurrent(jrnn.GRU(INPUT, INPUT)))), False),
        (jrnn.CTRNN(INPUT, HIDDEN, tau=3.0), False),
        (STACK, False),
    ]:
        assert bool(nnx.state(RNN(layer, rngs=rngs()), nnx.RngState)) == draws, layer
    rnn = RNN(noisy, rngs=rngs())
    assert not np.allclose(rnn(X), rnn(X))
    rnn.eval()
    same(rnn(X), rnn(X), tolerance=0)
