"""One recurrent operator that others wrote, read as a layer: against ONNX's own cases and onnxruntime."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import normal
from onnx import TensorProto, helper
from onnx.backend.test.case.node.gru import GRU as GRUCases
from onnx.backend.test.case.node.lstm import LSTM as LSTMCases
from onnx.backend.test.case.node.rnn import RNN as RNNCases
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
    onnx_with,
    stacked,
    tensor,
)

import jrnn
from jrnn.interop import onnx as interop


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


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_dtypes(dtype):
    """The weights stay as they are, to the bit; float64 where JAX has it."""
    values = {name: value.astype(dtype) for name, value in drawn("RNN", 1).items()}
    node = helper.make_node("RNN", ["X", "W", "R", "B"], ["Y"], hidden_size=HIDDEN)
    with jax.enable_x64(dtype == "float64"):
        layer, params = interop.load(as_model(node, values))
        assert params.w_x.dtype == params.w_h.dtype == params.b.dtype == dtype
        np.testing.assert_array_equal(params.w_x, values["W"][0].T)
        np.testing.assert_array_equal(params.w_h, values["R"][0].T)
        xs = np.asarray(normal(1, TIME, ROWS, INPUT)).astype(dtype)
        ys = layer.apply(params, jnp.asarray(xs))[1]
        assert ys.dtype == dtype
        h = np.zeros((ROWS, HIDDEN))
        for x, y in zip(xs, ys, strict=True):
            w, r, b = (values[name][0].astype(float) for name in "WRB")
            h = np.tanh(x @ w.T + h @ r.T + b[:HIDDEN] + b[HIDDEN:])
            np.testing.assert_allclose(y, h, atol=1e-12 if dtype == "float64" else 0.02)


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
