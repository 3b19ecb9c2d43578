"""Models of recurrent ONNX operators, made by hand, and what they and layers give."""

import jax.numpy as jnp
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import jrnn

onnxruntime = pytest.importorskip("onnxruntime")

INPUT, HIDDEN, TIME, ROWS = 3, 4, 5, 2
GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}


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


def as_model(node, values, opset=17):
    """The operator with its weights as initialisers, X and what is not given here as inputs."""
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in node.input if name]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]
    inputs = [one for one in inputs if one.name not in values]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in node.output if name]
    graph = helper.make_graph([node], "one", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def tensor(name, value):
    return numpy_helper.from_array(np.asarray(value), name)


def stacked(*nodes, tensors=(), opset=17):
    inputs = [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["time", "rows", INPUT])]
    outputs = [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "several", inputs, outputs, list(tensors))
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def onnx_with(model, output):
    """The same model, which gives this tensor."""
    other = onnx.ModelProto()
    other.CopyFrom(model)
    del other.graph.output[:]
    other.graph.output.append(onnx.ValueInfoProto(name=output))
    return other


def in_onnxruntime(model, feeds):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


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
