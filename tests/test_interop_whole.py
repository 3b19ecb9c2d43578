"""Whole modules of Flax, Haiku, PyTorch and Equinox, read in one call: the library's own outputs on the same arrays."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import key

import jrnn
from jrnn import interop

BATCH, TIME, INPUT = 2, 6, 3
LENGTHS = np.array([6, 4])


@pytest.fixture(autouse=True)
def as_others_compute():
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def drawn(tree, dtype=None):
    """The same structure with no entry zero."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda a: jnp.asarray(0.5 * rng.standard_normal(a.shape), dtype or a.dtype), tree)


def sequences(time_major=False, dtype=jnp.float32):
    shape = (TIME, BATCH, INPUT) if time_major else (BATCH, TIME, INPUT)
    return jnp.asarray(np.random.default_rng(1).standard_normal(shape), dtype)


def close(found, wanted, tolerance=2e-6):
    assert found.shape == wanted.shape
    assert np.abs(wanted).max() > 0.05
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance)


# Flax. Each module is made of `f`, which takes linen and nnx for the same.


class Linen:
    from flax import linen as nn

    RNN, Bidirectional = nn.RNN, nn.Bidirectional

    def __getattr__(self, name):  # a cell, by its sizes
        return lambda inputs, size, **options: getattr(self.nn, name)(size, **options)

    def dense(self, inputs, size, **options):
        return self.nn.Dense(size, **options)

    def sequential(self, *layers):
        return self.nn.Sequential(layers)

    def norm(self, size):
        return self.nn.LayerNorm()

    def dropout(self):
        return self.nn.Dropout(0.5, deterministic=True)

    def embed(self, count, size):
        return self.nn.Embed(count, size)

    def run(self, module, xs, **options):
        variables = drawn(jax.eval_shape(module.init, key(0), xs))
        bound = module.bind(variables)
        loaded = interop.flax.load(module, variables)
        for a, b in zip(jax.tree.leaves(loaded[1]), jax.tree.leaves(interop.flax.load(bound)[1]), strict=True):
            np.testing.assert_array_equal(a, b)
        return loaded, jax.jit(functools.partial(module.apply, **options))(variables, xs)


class Nnx:
    from flax import nnx

    RNN, Bidirectional = nnx.RNN, nnx.Bidirectional

    def __getattr__(self, name):
        return lambda inputs, size, **options: getattr(self.nnx, name)(inputs, size, **options, rngs=self.nnx.Rngs(0))

    def dense(self, inputs, size, **options):
        return self.nnx.Linear(inputs, size, **options, rngs=self.nnx.Rngs(0))

    def sequential(self, *layers):
        return self.nnx.Sequential(*layers)

    def norm(self, size):
        return self.nnx.LayerNorm(size, rngs=self.nnx.Rngs(0))

    def dropout(self):
        return self.nnx.Dropout(0.5, deterministic=True)

    def embed(self, count, size):
        return self.nnx.Embed(count, size, rngs=self.nnx.Rngs(0))

    def run(self, module, xs, **options):
        self.nnx.update(module, drawn(self.nnx.state(module, self.nnx.Param)))
        return interop.flax.load(module), self.nnx.jit(lambda module, xs: module(xs, **options))(module, xs)


MODULES = {
    "simple": lambda f: f.RNN(f.SimpleCell(3, 4)),
    "lstm-options": lambda f: f.RNN(f.LSTMCell(3, 4, activation_fn=jax.nn.soft_sign, gate_fn=jnp.tanh)),
    "optimized": lambda f: f.RNN(f.OptimizedLSTMCell(3, 4), return_carry=False),
    "gru-activation": lambda f: f.RNN(f.GRUCell(3, 5, activation_fn=lambda x: 0.3 * x)),
    # For a vector with one large entry the same as softmax.
    "over-features": lambda f: f.RNN(f.LSTMCell(3, 4, activation_fn=lambda x: jax.nn.softmax(3 * x))),
    "reverse": lambda f: f.RNN(f.GRUCell(3, 5), reverse=True, keep_order=True),
    "both-ways": lambda f: f.Bidirectional(f.RNN(f.LSTMCell(3, 4)), f.RNN(f.GRUCell(3, 2))),
    # Bidirectional does not ask its halves how they run.
    "both-ways-reversed": lambda f: f.Bidirectional(
        f.RNN(f.LSTMCell(3, 4), reverse=True), f.RNN(f.SimpleCell(3, 4), reverse=True, time_major=True)
    ),
    "stack": lambda f: f.sequential(
        f.RNN(f.GRUCell(3, 4), reverse=True),  # gives its last step first, to a layer that turns it again
        f.norm(4),
        f.Bidirectional(f.RNN(f.LSTMCell(4, 2)), f.RNN(f.GRUCell(4, 3))),
        f.dropout(),
        f.sequential(f.RNN(f.OptimizedLSTMCell(5, 4), reverse=True), f.dense(4, 2)),
    ),
}


@pytest.mark.parametrize("flax", [Linen, Nnx], ids=["linen", "nnx"])
@pytest.mark.parametrize("name", MODULES)
def test_a_module_of_flax(name, flax):
    (layer, params), wanted = flax().run(MODULES[name](flax()), xs := sequences())
    assert isinstance(layer, jrnn.BatchFirst)
    close(jax.jit(layer.apply)(params, xs)[1], wanted)


@pytest.mark.parametrize("flax", [Linen, Nnx], ids=["linen", "nnx"])
def test_a_module_of_flax_with_time_first_and_lengths(flax):
    f = flax()
    for module in (
        f.RNN(f.GRUCell(3, 4), time_major=True, reverse=True, keep_order=True),
        f.Bidirectional(f.RNN(f.LSTMCell(3, 4)), f.RNN(f.GRUCell(3, 2)), time_major=True),
    ):
        xs = sequences(time_major=True)
        (layer, params), wanted = f.run(module, xs, seq_lengths=jnp.asarray(LENGTHS))
        assert not layer.batch_first
        real = np.arange(TIME)[:, None, None] < LENGTHS[:, None]
        close(layer.apply(params, xs, lengths=jnp.asarray(LENGTHS))[1], wanted * real)


@pytest.mark.parametrize("flax", [Linen, Nnx], ids=["linen", "nnx"])
def test_tokens_and_doubles_in_flax(flax):
    f = flax()
    tokens = jnp.arange(BATCH * TIME).reshape(BATCH, TIME) % 7
    (layer, params), wanted = f.run(f.sequential(f.embed(7, 3), f.RNN(f.LSTMCell(3, 4))), tokens)
    close(layer.apply(params, tokens)[1], wanted)
    with jax.enable_x64(True):
        module = f.RNN(f.GRUCell(3, 4, param_dtype=jnp.float64))
        (layer, params), wanted = f.run(module, xs := sequences(dtype=jnp.float64))
        close(layer.apply(params, xs)[1], wanted, 1e-14)


@pytest.mark.filterwarnings("ignore:carry_init is provided:UserWarning")
@pytest.mark.parametrize("flax", [Linen, Nnx], ids=["linen", "nnx"])
def test_what_flax_alone_has(flax):
    f = flax()

    def refused(module, error, words):
        with pytest.raises(error, match=words):
            f.run(module, sequences())

    cell = f.LSTMCell(3, 4)
    ones = f.GRUCell(3, 4, carry_init=jax.nn.initializers.ones)
    way = f.RNN(cell)
    refused(f.RNN(cell, reverse=True), ValueError, "reverse=True and keep_order=False.*set keep_order to True")
    refused(f.Bidirectional(way, f.RNN(f.GRUCell(3, 4)), merge_fn=lambda a, b: a + b), ValueError, "merge_fn <lambda>")
    refused(f.RNN(ones), ValueError, "carry_init that is not zeros.*LearnedState")
    refused(f.sequential(way, jax.nn.relu), TypeError, r"layers\[1\] is a relu; expected one of Flax's own RNN")
    mixed = f.sequential(way, f.RNN(f.GRUCell(4, 2), time_major=True))
    refused(mixed, ValueError, "time_major True and False")
    inside = f.sequential(way, f.sequential(f.RNN(f.GRUCell(4, 2), time_major=True)))
    refused(inside, ValueError, "time_major True and False")
    refused(f.Bidirectional(way, way), ValueError, "expected 'forward_rnn', 'backward_rnn'.*shares with none")
    dense = f.dense(3, 3)
    refused(f.sequential(dense, f.RNN(f.GRUCell(3, 3)), dense), ValueError, "layers_2 has nothing.*shares with none")
    narrow = f.sequential(way, f.dense(4, 2, param_dtype=jnp.bfloat16))
    refused(narrow, TypeError, r"what is loaded of .* has dtypes .*bfloat16.*expected one floating dtype")


def test_parameters_of_linen_in_boxes():
    from flax import linen as nn

    options = {"kernel_init": nn.with_partitioning(nn.initializers.normal(1.0), (None, "model"))}
    module = nn.Sequential([nn.RNN(nn.GRUCell(4, **options)), nn.Dense(2, **options)])
    variables = module.init(key(0), xs := sequences())
    layer, params = interop.flax.load(module, variables)
    close(layer.apply(params, xs)[1], module.apply(variables, xs))


def test_mistakes_with_flax_are_named():
    from flax import linen as nn
    from flax import nnx

    module, xs = nn.RNN(nn.LSTMCell(4)), sequences()
    variables = module.init(key(0), xs)
    other = nn.Bidirectional(nn.RNN(nn.GRUCell(4)), nn.RNN(nn.GRUCell(4))).init(key(0), xs)

    class Mine(nn.LSTMCell):
        pass

    mine = nn.RNN(Mine(4))
    stack = nn.Sequential([nn.RNN(nn.GRUCell(4)), nn.RNN(nn.GRUCell(4)), nn.RNN(nn.GRUCell(4))])
    for attempt, words in [
        (lambda: interop.flax.load(module), r"without its parameters; expected load\(module, variables\)"),
        (lambda: interop.flax.load(variables, module), r"the module first, load\(module, variables\)"),
        (lambda: interop.flax.load(module, variables["params"]), "variables is a dictionary with 'cell'; expected"),
        (lambda: interop.flax.load(module, 3), "variables is int 3; expected"),
        (
            lambda: interop.flax.load(module, jax.eval_shape(module.init, key(0), xs)),
            r"ii/kernel is float32\[3, 4\]; expected an array",
        ),
        (lambda: interop.flax.load(module, other), "params has '.*_rnn', '.*_rnn'; expected 'cell'"),
        (lambda: interop.flax.load(nn.RNN(nn.GRUCell(4)), variables), "params lacks 'ir/kernel'"),
        (lambda: interop.flax.load(nn.RNN(nn.LSTMCell(5)), variables), r"ii/kernel has shape \[3, 4\]; expected \[3, 5\]"),
        (lambda: interop.flax.load(mine, mine.init(key(0), xs)), r"params.cell is a Mine.*linen.FlaxCell"),
        (
            lambda: interop.flax.load(nn.Sequential(stack.layers[:2]), stack.init(key(0), xs)),
            "has 'layers_2' besides",
        ),
        (lambda: interop.flax.load(nnx.RNN(nnx.LSTMCell(3, 4, rngs=nnx.Rngs(0))), variables), "nnx module holds its own"),
        (lambda: interop.flax.load(jrnn.LSTM(3, 4)), "module is LSTM.*expected a module of Flax"),
    ]:  # fmt: skip
        with pytest.raises((ValueError, TypeError), match=words):
            attempt()


def test_a_cell_alone():
    from flax import nnx

    cell, params = interop.flax.load(nnx.GRUCell(3, 4, rngs=nnx.Rngs(0)))
    assert cell == jrnn.GRU(3, 4)
    assert jax.tree.structure(params) == jax.tree.structure(cell.init(key(0)))
    eqx = pytest.importorskip("equinox")
    module = eqx.nn.LSTMCell(3, 4, use_bias=False, key=key(0))
    cell, params = interop.equinox.load(module)
    assert cell == jrnn.LSTM(3, 4, bias=False)
    x = sequences()[0, 0]
    close(cell.step(params, cell.initial_state(params), x)[1], module(x, (jnp.zeros(4), jnp.zeros(4)))[0])
    with pytest.raises(TypeError, match=r"expected an eqx\.nn.LSTMCell"):
        interop.equinox.load(eqx.nn.Linear(3, 4, key=key(0)))


# Haiku


def haiku(make):
    hk = pytest.importorskip("haiku")

    def network(xs):
        core = make(hk)
        return hk.dynamic_unroll(core, xs, core.initial_state(BATCH))[0]

    transformed = hk.without_apply_rng(hk.transform(network))
    xs = sequences(time_major=True)
    params = drawn(jax.eval_shape(transformed.init, key(0), xs))
    return params, xs, transformed.apply(params, xs)


@pytest.mark.parametrize(
    ("make", "modules"),
    [
        (lambda hk: hk.GRU(4), None),
        (lambda hk: hk.VanillaRNN(4, double_bias=False), None),
        (lambda hk: hk.DeepRNN([hk.LSTM(4 + index % 3) for index in range(11)]), None),  # lstm_10 after lstm_9
        (
            lambda hk: hk.DeepRNN(
                [hk.VanillaRNN(5), hk.Linear(3), hk.GRU(4, name="top"), hk.Linear(2, with_bias=False)]
            ),
            ["vanilla_rnn", "linear", "top", "linear_1"],
        ),
    ],
)
def test_cores_of_haiku(make, modules):
    params, xs, wanted = haiku(make)
    layer, own = interop.haiku.load(params, modules)
    close(layer.apply(own, xs)[1], wanted)


def test_what_is_not_in_haikus_parameters_is_named():
    params, *_ = haiku(lambda hk: hk.deep_rnn_with_skip_connections([hk.LSTM(4), hk.LSTM(4)]))
    mixed, *_ = haiku(lambda hk: hk.DeepRNN([hk.LSTM(4), hk.GRU(4)]))
    for attempt, words in [
        (lambda: interop.haiku.load(params), "'lstm_1' reads 7 features.*gives 4.*skip connections"),
        (lambda: interop.haiku.load(mixed), "order of one kind is known.*modules"),
        (lambda: interop.haiku.load(mixed, ["gru", "lstm"]), "'lstm' reads 3 features"),
        (lambda: interop.haiku.load(mixed, "lstm"), "modules is str.*list of names"),
        (lambda: interop.haiku.load(mixed, {"lstm", "gru"}), "modules is set.*in the order of the run"),
        (lambda: interop.haiku.load(mixed, ["lstm/linear"]), "is a hk.Linear alone; expected a core"),
        (lambda: interop.haiku.load(mixed, ["lstm", "core"]), "'core' has nothing.*params has"),
        (lambda: interop.haiku.load({"agent": {"w": 1}}), "'agent', which is no core"),
        (lambda: interop.haiku.load(["lstm"]), "params is list.*dictionary of modules"),
    ]:
        with pytest.raises((ValueError, TypeError), match=words):
            attempt()


# PyTorch


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("RNN", {"nonlinearity": "relu"}),
        ("LSTM", {"num_layers": 2, "bidirectional": True, "batch_first": True, "dropout": 0.3, "proj_size": 2}),
        ("GRU", {"num_layers": 3, "bias": False}),
    ],
)
@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
def test_a_module_of_pytorch(name, options):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    with jax.enable_x64(True):
        module = getattr(torch.nn, name)(3, 4, **options).double().eval()
        layer, params = interop.torch.load(module)
        xs = sequences(time_major=not module.batch_first, dtype=jnp.float64)
        close(layer.apply(params, xs)[1], module(torch.as_tensor(np.array(xs)))[0].detach().numpy(), 1e-14)
    assert layer.batch_first is options.get("batch_first", False)
    cell, _ = interop.torch.load(getattr(torch.nn, f"{name}Cell")(3, 4, bias=False))
    assert (cell.input_size, cell.hidden_size, cell.bias) == (3, 4, False)
    theirs, x = getattr(torch.nn, f"{name}Cell")(3, 4), np.array(sequences()[:, 0])
    cell, params = interop.torch.load(theirs)
    wanted = theirs(torch.as_tensor(x))
    wanted = (wanted[0] if name == "LSTM" else wanted).detach().numpy()
    close(cell.step(params, cell.initial_state(params, (BATCH,)), jnp.asarray(x))[1], wanted)

    class Mine(getattr(torch.nn, name)):
        pass

    for other in (Mine(3, 4), module.state_dict(), torch.nn.Sequential(module)):
        with pytest.raises(TypeError, match=r"expected an nn\.RNN, nn\.LSTM or nn\.GRU.*from_state_dict"):
            interop.torch.load(other)
