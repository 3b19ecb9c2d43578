"""The recurrent operators of an ONNX model, where they stand, and the values of what is constant around them."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper, version_converter
from onnx.reference import ReferenceEvaluator

OPERATORS = {**dict.fromkeys(("RNN", "LSTM", "GRU"), ("", "ai.onnx")), "DynamicQuantizeLSTM": ("com.microsoft",)}
"""By name, the domains in which they are these."""
LATER = 19  # the first opset of which onnx's reference has DequantizeLinear


class Node(NamedTuple):
    proto: onnx.NodeProto
    scope: "Scope"

    @property
    def kind(self) -> str:
        return self.proto.op_type.removeprefix("DynamicQuantize")

    @property
    def title(self) -> str:
        name = self.proto.name or next(filter(None, self.proto.output), "")
        return f"{self.proto.op_type} {name!r}"

    def attribute(self, name: str, default: Any) -> Any:
        found = {a.name: helper.get_attribute_value(a) for a in self.proto.attribute}.get(name, default)
        return found.decode() if isinstance(found, bytes) else found

    def constant(self, index: int) -> Any:
        """The value of an input; None where there is none, and where it depends on the model's inputs."""
        return self.scope.constant(self.input(index)) if self.input(index) else None

    def known(self, index: int, name: str) -> Any:
        """The value of an input that is needed."""
        value = self.constant(index)
        if value is None:
            given = self.input(index)
            what = f"{given!r}, which depends on the model's inputs" if given else "missing"
            raise ValueError(
                f"{self.title}: its input {name} is {what}; expected an initialiser or what folds to constants"
            )
        return value

    def input(self, index: int) -> str:
        return self.proto.input[index] if index < len(self.proto.input) else ""


class Scope:
    """The tensors that a node of a graph sees: those of the graph and of the graphs around it.

    Constants are initialisers, and what follows from constants alone by nodes that draw nothing and hold no graph.
    """

    def __init__(self, graph: onnx.GraphProto, model: onnx.ModelProto, outer: "Scope | None" = None):
        self.graph, self.model = graph, model
        self.tensors: dict[str, onnx.TensorProto] = dict(outer.tensors) if outer else {}
        self.tensors |= {tensor.name: tensor for tensor in graph.initializer}
        self.makers: dict[str, onnx.NodeProto] = dict(outer.makers) if outer else {}
        self.makers |= {output: node for node in graph.node for output in node.output if output}
        self.outside = list(outer.folded) if outer else []
        self.folded: list[onnx.NodeProto] = list(self.outside)  # the nodes that make constants, in order
        known = {*self.tensors, "", *(output for node in self.folded for output in node.output)}
        for node in graph.node:  # in order, and no recursion: a graph may be thousands of nodes deep
            random = node.op_type.startswith(("Random", "Multinomial", "Bernoulli"))
            if not random and known.issuperset(node.input) and not any(map(_graphs, node.attribute)):
                self.folded.append(node)
                known.update(node.output)
        self.constants = known - {""}

    def nodes(self) -> Iterator[Node]:
        """The recurrent ones, those inside of branches and loops too."""
        for node in self.graph.node:
            if node.domain in OPERATORS.get(node.op_type, ()):
                yield Node(node, self)
            for graph in (graph for attribute in node.attribute for graph in _graphs(attribute)):
                yield from Scope(graph, self.model, self).nodes()

    def constant(self, name: str) -> Any:
        """The value of a tensor that depends on no input; None of another."""
        if name in self.tensors:
            return numpy_helper.to_array(self.tensors[name])
        return self._evaluated(self.folded, {}, name) if name in self.constants else None

    def between(self, start: str, value: Any, end: str) -> Any:
        """`end` where `start` is `value`; None where it depends on more than that."""
        nodes = [*self.outside, *(node for node in self.graph.node if start not in node.output)]
        return self._evaluated(nodes, {start: value}, end)

    def _evaluated(self, nodes: Sequence[onnx.NodeProto], inputs: dict[str, Any], output: str) -> Any:
        needed, made, chosen = {output}, {"", *inputs}, []
        for node in reversed(nodes):
            if not needed.isdisjoint(node.output):
                chosen.append(node)
                needed.update(node.input)
                made.update(node.output)
        if needed - made - self.tensors.keys():
            return None
        tensors = [self.tensors[name] for name in sorted(needed - made)]
        return evaluated(chosen[::-1], inputs, output, self.model, tensors)


def _graphs(attribute: onnx.AttributeProto) -> list[onnx.GraphProto]:
    return ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs)


def evaluated(
    nodes: Sequence[onnx.NodeProto], inputs: dict[str, Any], output: str, model: onnx.ModelProto, tensors: Sequence[Any]
) -> Any:
    """What ONNX's own reference makes of the inputs and tensors; an operator that it lacks in the model's opset is taken from a
    later one, to which the nodes are converted."""
    named = [onnx.ValueInfoProto(name=name) for name in inputs]
    graph = helper.make_graph(nodes, "part", named, [onnx.ValueInfoProto(name=output)], tensors)
    part = helper.make_model(graph, opset_imports=list(model.opset_import))
    reason: Exception | None = None
    for convert in (lambda part: part, lambda part: version_converter.convert_version(part, LATER)):
        try:
            return np.asarray(next(iter(ReferenceEvaluator(convert(part)).run([output], inputs))))
        except Exception as error:  # whatever an operator raises
            reason = reason or error
    raise ValueError(
        f"{output!r} is constant but cannot be computed ({reason!s:.200}): save the model with its value as initialiser"
    )
