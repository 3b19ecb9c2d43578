"""Models of several operators: one of them, a stack, branches and functions."""

import jax.numpy as jnp
import numpy as np
import pytest
from cases import normal, same
from onnx import TensorProto, helper
from onnx_models import HIDDEN, INPUT, ROWS, TIME, applied, close, drawn, in_onnxruntime, stacked, tensor

import jrnn
from jrnn.interop import onnx as interop


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
