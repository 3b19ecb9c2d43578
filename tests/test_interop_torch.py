"""PyTorch's weights in and out: the same outputs as its own modules, and back bit for bit."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import cast, key, random_params
from hypothesis import given
from hypothesis import strategies as st

import jrnn
from jrnn.interop import torch as interop

TIME, BATCH, INPUT, HIDDEN, PROJ = 5, 2, 3, 4, 2

NETS = {
    "rnn": (jrnn.Elman, {}, "RNN", {}),
    "rnn-relu": (jrnn.Elman, {"activation": "relu"}, "RNN", {"nonlinearity": "relu"}),
    "rnn-without-bias": (jrnn.Elman, {"bias": False}, "RNN", {"bias": False}),
    "lstm": (jrnn.LSTM, {}, "LSTM", {}),
    "lstm-without-bias": (jrnn.LSTM, {"bias": False}, "LSTM", {"bias": False}),
    "lstm-projected": (jrnn.ProjectedLSTM, {"proj_size": PROJ}, "LSTM", {"proj_size": PROJ}),
    "gru": (jrnn.GRU, {}, "GRU", {}),
    "gru-without-bias": (jrnn.GRU, {"bias": False}, "GRU", {"bias": False}),
}


def build(name, layers=1, bidirectional=False):
    ours, options, _, _ = NETS[name]
    return jrnn.rnn(
        ours,
        input_size=INPUT,
        hidden_size=HIDDEN,
        num_layers=layers,
        bidirectional=bidirectional,
        dropout=0.5,
        **options,
    )


def build_torch(torch, name, layers=1, bidirectional=False):
    _, _, theirs, options = NETS[name]
    net = getattr(torch.nn, theirs)(INPUT, HIDDEN, layers, bidirectional=bidirectional, **options)
    with torch.no_grad():
        for i, parameter in enumerate(net.parameters()):
            drawn = np.random.default_rng(i).standard_normal(tuple(parameter.shape))
            parameter.copy_(torch.tensor(0.5 * drawn))
    return net


def inputs():
    return np.random.default_rng(0).standard_normal((TIME, BATCH, INPUT)).astype(np.float32)


def outputs_agree(torch, net, layer, params):
    x = inputs()
    with torch.no_grad():
        want = net(torch.tensor(x))[0].numpy()
    got = jax.jit(layer.apply)(params, jnp.asarray(x))[1]
    assert np.abs(want).max() > 0.01
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)


def bits(tree):
    """Every bit, so that -0.0 is not 0.0."""
    return [(a.dtype, a.shape, np.asarray(a).tobytes()) for a in jax.tree.leaves(tree)]


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed: pip install jrnn[oracle]")


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize(("layers", "bidirectional"), [(1, False), (1, True), (2, True)], ids=str)
@pytest.mark.parametrize("name", NETS)
def test_both_ways_compute_what_pytorch_computes(torch, name, layers, bidirectional):
    net, layer = build_torch(torch, name, layers, bidirectional), build(name, layers, bidirectional)
    params = interop.from_state_dict(layer, net.state_dict())
    outputs_agree(torch, net, layer, params)

    other = random_params(layer)
    state_dict = interop.to_state_dict(layer, other)
    assert [*state_dict] == [*net.state_dict()]
    net.load_state_dict({name: torch.as_tensor(a) for name, a in state_dict.items()})
    outputs_agree(torch, net, layer, other)
    assert bits(interop.from_state_dict(layer, net.state_dict())) == bits(other)


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32, jnp.float16, jnp.bfloat16], ids=lambda d: d.__name__)
@pytest.mark.parametrize("name", NETS)
def test_out_and_in_again_through_pytorch_keeps_every_bit(torch, name, dtype):
    with jax.enable_x64(dtype == jnp.float64):
        layer = build(name, 2, True)
        params = cast(random_params(layer), dtype)
        params = jax.tree.map(lambda a: a.at[..., 0].set(-0.0), params)
        net = build_torch(torch, name, 2, True).to(getattr(torch, dtype.__name__))
        net.load_state_dict({n: torch.as_tensor(a) for n, a in interop.to_state_dict(layer, params).items()})
        back = interop.from_state_dict(layer, net.state_dict())
        assert bits(back) == bits(params)
        assert jax.tree.structure(back) == jax.tree.structure(params)


@pytest.mark.parametrize("name", ["rnn-relu", "lstm", "gru-without-bias"])
def test_a_cell_of_pytorch_alone(torch, name):
    """`nn.LSTMCell` and its like, whose names have no `_l0`: the module, its tensors, and these inside a larger model."""
    _, _, theirs, options = NETS[name]
    net, layer = getattr(torch.nn, f"{theirs}Cell")(INPUT, HIDDEN, **options), build(name)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(2)
    params = interop.from_state_dict(layer, net)
    assert bits(interop.from_state_dict(layer, net.state_dict())) == bits(params)
    inside = {f"core.{key}": tensor for key, tensor in net.state_dict().items()} | {"head.weight": torch.zeros(2)}
    assert bits(interop.from_state_dict(layer, inside, prefix="core.")) == bits(params)
    state, want = None, []
    with torch.no_grad():
        for x in torch.tensor(inputs()):
            state = net(x, state)
            want.append((state[0] if isinstance(state, tuple) else state).numpy())
    np.testing.assert_allclose(layer.apply(params, jnp.asarray(inputs()))[1], np.stack(want), rtol=0, atol=1e-6)


def test_the_module_itself_is_compared_with_the_layer(torch):
    net = build_torch(torch, "rnn", 2, True)
    assert bits(interop.from_state_dict(build("rnn", 2, True), net)) == bits(
        interop.from_state_dict(build("rnn", 2, True), net.state_dict())
    )
    with pytest.raises(ValueError, match=r"Elman: activation is 'relu', and nn.RNN has nonlinearity 'tanh'"):
        interop.from_state_dict(build("rnn-relu", 2, True), net)
    with pytest.raises(TypeError, match=r"state_dict is a module GRU; LSTM.* expects nn.LSTM or its state dict"):
        interop.from_state_dict(build("lstm"), build_torch(torch, "gru"))


def test_pytorch_is_not_needed():
    """NumPy arrays in and out, from what a state dict holds."""
    layer = build("gru", 2)
    params = random_params(layer)
    state_dict = interop.to_state_dict(layer, params)
    assert {type(a) for a in state_dict.values()} == {np.ndarray}
    assert bits(interop.from_state_dict(layer, state_dict)) == bits(params)


def test_the_second_bias_of_n_is_kept_and_the_others_are_added_up(torch):
    net = build_torch(torch, "gru")
    (params,) = interop.from_state_dict(build("gru"), net.state_dict())
    first, second = (net.state_dict()[f"bias_{way}_l0"].numpy() for way in ("ih", "hh"))
    np.testing.assert_array_equal(params.b[: 2 * HIDDEN], (first + second)[: 2 * HIDDEN])
    np.testing.assert_array_equal(params.b[2 * HIDDEN :], first[2 * HIDDEN :])
    np.testing.assert_array_equal(params.b_n, second[2 * HIDDEN :])


@pytest.mark.parametrize(
    "wrap", [lambda cell: cell, jrnn.Recurrent, lambda cell: jrnn.Layered((jrnn.Recurrent(cell),))]
)
def test_a_cell_is_a_network_of_one_layer(wrap):
    layer = wrap(jrnn.LSTM(INPUT, HIDDEN))
    params = random_params(layer)
    state_dict = interop.to_state_dict(layer, params)
    assert [*state_dict] == ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]
    assert bits(interop.from_state_dict(layer, state_dict)) == bits(params)


def test_a_part_of_a_larger_model(torch):
    model = torch.nn.ModuleDict({"encoder": build_torch(torch, "lstm"), "head": torch.nn.Linear(HIDDEN, 2)})
    layer = build("lstm")
    params = interop.from_state_dict(layer, model.state_dict(), prefix="encoder.")
    outputs_agree(torch, model["encoder"], layer, params)
    out = interop.to_state_dict(layer, params, prefix="encoder.")
    assert {*out} == {name for name in model.state_dict() if name.startswith("encoder.")}


def test_what_is_returned_is_a_copy():
    cell = jrnn.Elman(INPUT, HIDDEN)
    state_dict = interop.to_state_dict(cell, random_params(cell))
    params = interop.from_state_dict(cell, state_dict)
    before = bits(params)
    for array in state_dict.values():
        array[...] = 0
    assert bits(params) == before


# Mistakes

LSTM = jrnn.LSTM(INPUT, HIDDEN)
GOOD = interop.to_state_dict(LSTM, random_params(LSTM))


def changed(**tensors):
    return {name: a for name, a in (GOOD | tensors).items() if a is not None}


STATE_DICTS = {
    "missing": (changed(bias_hh_l0=None), ValueError, ["state_dict lacks 'bias_hh_l0'", r"bias_hh_l0 \[16\]", "LSTM"]),
    "surplus": (changed(weight_hr_l0=np.ones(2)), ValueError, ["has 'weight_hr_l0' besides", "LSTM"]),
    "misnamed": (changed(bias_ih_l0=None, bias_ih=GOOD["bias_ih_l0"]), ValueError, ["lacks 'bias_ih_l0'", "'bias_ih'"]),
    "shape": (changed(weight_hh_l0=np.ones((16, 3), "f4")), ValueError, ["weight_hh_l0", r"\[16, 3\]", r"\[16, 4\]"]),
    "transposed": (
        changed(weight_ih_l0=GOOD["weight_ih_l0"].T),
        ValueError,
        ["weight_ih_l0", r"\[3, 16\]", r"\[16, 3\]"],
    ),
    "integers": (changed(weight_ih_l0=np.ones((16, 3), int)), TypeError, ["weight_ih_l0", "int64", "floating"]),
    "mixed": (changed(bias_ih_l0=np.ones(16, "f2")), TypeError, ["bias_ih_l0", "float16", "weight_ih_l0", "float32"]),
    "double": ({n: a.astype("f8") for n, a in GOOD.items()}, TypeError, ["weight_ih_l0", "float64", "jax_enable_x64"]),
    "no-array": (changed(weight_ih_l0=[[1.0], [1.0, 2.0]]), TypeError, ["weight_ih_l0", "expected an array"]),
    "a-word": (changed(weight_ih_l0="weights.bin"), ValueError, ["weight_ih_l0", r"shape \[\]"]),
    "no-dictionary": (list(GOOD), TypeError, ["state_dict is list", "expected a dictionary"]),
    "empty": ({}, ValueError, ["lacks 'weight_ih_l0'", "has nothing besides"]),
    "gru": (
        interop.to_state_dict(jrnn.GRU(INPUT, HIDDEN), random_params(jrnn.GRU(INPUT, HIDDEN))),
        ValueError,
        ["weight_ih_l0", r"\[12, 3\]", r"\[16, 3\]", "LSTM"],
    ),
    "two-layers": (
        interop.to_state_dict(build("lstm", 2), random_params(build("lstm", 2))),
        ValueError,
        ["lacks nothing", "weight_ih_l1"],
    ),
    "both-ways": (
        interop.to_state_dict(build("lstm", 1, True), random_params(build("lstm", 1, True))),
        ValueError,
        ["lacks nothing", "weight_ih_l0_reverse"],
    ),
}


@pytest.mark.parametrize(("state_dict", "error", "words"), STATE_DICTS.values(), ids=STATE_DICTS)
def test_a_state_dict_that_does_not_fit(state_dict, error, words):
    with pytest.raises(error, match=".*".join(words)):
        interop.from_state_dict(LSTM, state_dict)


LAYERS = {
    "gate-activation": (dataclasses.replace(LSTM, gate_activation="hard_sigmoid"), ["gate_activation", "hard_sigmoid"]),
    "activation": (jrnn.Recurrent(jrnn.Elman(INPUT, HIDDEN, activation="gelu")), ["Elman: activation", "gelu", "relu"]),
    "function": (jrnn.Elman(INPUT, HIDDEN, activation=jnp.sin), ["Elman: activation", "sin", "'tanh' or 'relu'"]),
    "reset-before": (jrnn.GRU(INPUT, HIDDEN, reset_after=False), ["GRU: reset_after is False", "PyTorch"]),
    "cell-activation": (
        jrnn.LSTM(INPUT, HIDDEN, cell_activation="relu"),
        ["LSTM: cell_activation is 'relu'", "PyTorch"],
    ),
    "peepholes": (jrnn.PeepholeLSTM(INPUT, HIDDEN), ["PeepholeLSTM", "no counterpart in PyTorch", "ProjectedLSTM"]),
    "reverse": (jrnn.Recurrent(LSTM, reverse=True), ["reverse=True", "no counterpart", "jrnn.rnn"]),
    "residual": (jrnn.Residual(jrnn.Recurrent(jrnn.LSTM(3, 3))), ["Residual", "no counterpart", "jrnn.rnn"]),
    "two-kinds": (
        jrnn.Layered((jrnn.Recurrent(LSTM), jrnn.Recurrent(jrnn.GRU(HIDDEN, HIDDEN)))),
        ["different kinds", "GRU", "LSTM"],
    ),
    "one-and-both": (
        jrnn.Layered(
            (*build("lstm").layers, jrnn.rnn(jrnn.LSTM, input_size=4, hidden_size=4, bidirectional=True).layers[0])
        ),
        ["different kinds", "one direction and both"],
    ),
}


@pytest.mark.parametrize(("layer", "words"), LAYERS.values(), ids=LAYERS)
def test_a_layer_that_pytorch_does_not_have(layer, words):
    for convert in (interop.to_state_dict, interop.from_state_dict):
        with pytest.raises((ValueError, TypeError), match=".*".join(words)):
            convert(layer, layer.init(key(0)) if convert is interop.to_state_dict else GOOD)


def test_activations_given_as_functions_are_known():
    cell = jrnn.LSTM(INPUT, HIDDEN, activation=jnp.tanh, gate_activation=jax.nn.sigmoid)
    assert bits(interop.to_state_dict(cell, random_params(cell))) == bits(GOOD)


def test_params_of_another_cell_are_refused():
    with pytest.raises(TypeError, match=r"GRUParams.*LSTM"):
        interop.to_state_dict(LSTM, random_params(jrnn.GRU(INPUT, HIDDEN)))


names = st.sampled_from([*GOOD, "weight_hr_l0", "weight_ih_l1", "bias", ""])
arrays = st.one_of(
    st.sampled_from(list(GOOD.values())),
    st.tuples(
        st.sampled_from([(16, 3), (16, 4), (16,), (4,), (), (0, 3)]), st.sampled_from(["f2", "f4", "i4", "c8", "O"])
    ).map(lambda drawn: np.zeros(*drawn)),
    st.none() | st.text(max_size=3) | st.floats() | st.lists(st.floats(), max_size=3),
)


@given(st.dictionaries(names, arrays), st.booleans())
def test_any_other_dictionary_is_refused_or_read(drawn, amended):
    """Nothing but ValueError and TypeError that name the argument; what is read is what was given."""
    state_dict = GOOD | drawn if amended else drawn
    try:
        params = interop.from_state_dict(LSTM, state_dict)
    except (ValueError, TypeError) as error:
        if "state_dict" not in str(error):
            raise
        return
    assert {*state_dict} == {*GOOD}
    np.testing.assert_array_equal(params.w_x, np.asarray(state_dict["weight_ih_l0"]).T)
    np.testing.assert_array_equal(params.b, np.asarray(state_dict["bias_ih_l0"]) + np.asarray(state_dict["bias_hh_l0"]))
