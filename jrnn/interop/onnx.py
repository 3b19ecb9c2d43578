"""ONNX: recurrent layers as its standard operators RNN, LSTM and GRU, for onnxruntime and the devices it serves."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from ..checks import describe
from ..models import Classifier, Conditional, Tagger
from .onnx_graph import ACTIVATIONS as ACTIVATIONS
from .onnx_graph import Graph
from .onnx_models import build
from .onnx_reader import read
from .signature import Array, Model, Signature, signature

OPSET, IR_VERSION = (
    17,
    8,
)  # of 2022, as runtimes refuse what is newer than they are; int8 with a scale per column needs 13


def export(
    model: Model | Classifier | Tagger | Conditional, params: Any, *, step: bool = False, lengths: bool = False
) -> onnx.ModelProto:
    """A cell, layer or language model and its weights, for any size of batch and any number of time steps.

    Inputs are `xs` [time, batch, input]; with `lengths` also `lengths`, int32 [batch], each within 0..time; and the state
    before, `state.h` and `state.c` for an LSTM, `state.0.forward.h` in a stack, each [batch, hidden], zeros to begin with.
    Outputs are `ys` [time, batch, output] and the state after, `new_state.h` and so on. With `step` they are `x`
    [batch, input] and `y` [batch, output]. A language model takes tokens, int32, and gives logits. There is no dropout.

    A `Classifier` and a `Tagger` (without its transitions) give `logits` of `xs`. An `EncoderDecoder` and a `Captioner` give their
    state before the first token of `source`; with `step` they take it and `token`, int32 [batch], and give `logits` and
    `new_state...`, the part of it that changes; `lengths` is to be the same for both.

    Write it to a file by `onnx.save`.

    Args:
      params: as `init` gives them, float32; or quantised, and the file holds int8.
      step: one time step in place of a whole sequence, for streaming.

    Raises:
      ValueError, TypeError: naming the cell, layer, option or dtype that ONNX has no operator for, and the choices.
    """
    if isinstance(model, Classifier | Tagger | Conditional):
        inputs, outputs, graph = build(model, params, step=step, lengths=lengths)
        return _checked(graph, inputs, outputs, model)
    wanted = signature(model, params, step=step, lengths=lengths)
    if wanted.ys.dtype != np.float32:
        raise TypeError(
            f"params has dtype {wanted.ys.dtype}; onnxruntime runs its recurrent operators in float32: "
            "cast with jax.tree.map(lambda a: a.astype('float32'), params)"
        )
    graph = Graph("lengths" if lengths else "")
    x, y = ("x", "y") if step else ("xs", "ys")
    state = wanted.nested({name: f"state.{name}" for name in wanted.state})
    new, out = graph.model(wanted.model, params, state, graph.unsqueeze(x, 0) if step else x)
    graph.add("Identity", graph.squeeze(out, 0) if step else out, outputs=(y,))
    for name, leaf in wanted.flat(new).items():
        graph.add("Identity", leaf, outputs=(f"new_state.{name}",))
    return _proto(graph, wanted, x, y, ("batch",) if step else ("time", "batch"))


def load(source: str | os.PathLike[str] | onnx.ModelProto, *, node: str | None = None) -> tuple[Any, Any]:
    """The recurrent part of an ONNX model, whoever made it: `(layer, params)`, for `layer.apply(params, xs)`.

    RNN, LSTM and GRU are read with all of their activations, in either direction or both, with clip, peepholes, coupled gates
    and both kinds of reset gate; onnxruntime's DynamicQuantizeLSTM as the floats that its weights stand for. Weights are
    initialisers, or what folds to constants. The layer takes and gives [time, batch, features]; one of `layout` 1 is a
    `BatchFirst`. Outputs are those of Y with the directions side by side, states those of Y_h and Y_c.

    Initial states that the model holds, the same for every row, become a `LearnedState`; where they are inputs of the model pass
    them as `state`, and sequence lengths as `lengths`. Coupled gates are a `CoupledLSTM`.

    Args:
      source: a file, or a model.
      node: the name or an output of the operator, where there are several; without it operators of which each reads all outputs of
        the one before are read as one stack.

    Raises:
      ValueError: where there is no such operator, or several that are no stack; weights that depend on inputs; an activation that
        is not known; a file that is none. Each says what was found and what to do.
    """
    model = source
    if not isinstance(source, str | os.PathLike | onnx.ModelProto):
        raise TypeError(f"source is {describe(source)}; expected the path of an ONNX file, or an onnx.ModelProto")
    if not isinstance(source, onnx.ModelProto):
        path = Path(source)
        if not path.is_file():
            raise FileNotFoundError(f"source {path} is no file; expected a model, such as one that onnx.save wrote")
        try:
            model = onnx.load(path)
        except Exception as error:  # protobuf's, ONNX's and the file system's, without a class in common
            raise ValueError(f"source {path} cannot be read as an ONNX model: {error}") from error
    try:
        return tuple(read(model, node))  # type: ignore[return-value]
    except Exception as error:  # of a damaged model, any
        where = "" if isinstance(source, onnx.ModelProto) else f"{source}: "
        raise ValueError(f"{where}{error}") from error


def _proto(graph: Graph, wanted: Signature, x: str, y: str, axes: tuple[str, ...]) -> onnx.ModelProto:
    def value(name: str, axes: tuple[str, ...], array: Array) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), (*axes, *array.shape))

    def states(prefix: str) -> list[onnx.ValueInfoProto]:
        return [value(f"{prefix}.{name}", ("batch",), array) for name, array in wanted.state.items()]

    lengths = [value(graph.lengths, ("batch",), Array((), np.dtype(np.int32)))] if graph.lengths else []
    inputs = [value(x, axes, wanted.xs), *lengths, *states("state")]
    outputs = [value(y, axes, wanted.ys), *states("new_state")]
    return _checked(graph, inputs, outputs, wanted.model)


def _checked(graph: Graph, inputs: Any, outputs: Any, model: Any) -> onnx.ModelProto:
    proto = helper.make_model(
        helper.make_graph(graph.nodes, "jrnn", inputs, outputs, graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="jrnn",
        doc_string=str(model),
    )
    onnx.checker.check_model(proto, full_check=True)
    return proto
