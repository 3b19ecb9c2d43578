"""The recurrent operators of an ONNX model, where they stand, and the values of what is constant around them."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

OPERATORS = ("RNN", "LSTM", "GRU", "DynamicQuantizeLSTM")


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
    """The tensors that a node of a graph sees: those of the graph and of the graphs around it."""

    def __init__(self, graph: onnx.GraphProto, model: onnx.ModelProto, outer: "Scope | None" = None):
        self.graph, self.model, self.outer = graph, model, outer
        self.initializers = {tensor.name: tensor for tensor in graph.initializer}
        self.makers = {output: node for node in graph.node for output in node.output if output}
        self.known: dict[str, Any] = {}

    def nodes(self) -> Iterator[Node]:
        """The recurrent ones, those inside of branches and loops too."""
        for node in self.graph.node:
            if node.op_type in OPERATORS:
                yield Node(node, self)
            for attribute in node.attribute:
                for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                    yield from Scope(inner, self.model, self).nodes()

    def find(self, name: str) -> "Scope | None":
        if name in self.initializers or name in self.makers:
            return self
        return None if self.outer is None else self.outer.find(name)

    def constant(self, name: str) -> Any:
        """The value of a tensor that depends on no input; None of another."""
        home = self.find(name)
        if home is None:
            return None
        if name not in home.known:
            home.known[name] = None  # of a graph with a ring in it, which is none
            home.known[name] = home._constant(name)
        return home.known[name]

    def _constant(self, name: str) -> Any:
        if name in self.initializers:
            return numpy_helper.to_array(self.initializers[name])
        node = self.makers[name]
        inputs = {}
        for one in filter(None, node.input):
            inputs[one] = self.constant(one)
            if inputs[one] is None:
                return None
        random = node.op_type.startswith(("Random", "Multinomial", "Bernoulli"))
        if random or any(a.HasField("g") for a in node.attribute):
            return None
        return evaluated([node], inputs, name, self.model)

    def made_by(self, name: str, kinds: Sequence[str]) -> list[onnx.NodeProto] | None:
        """The nodes between a tensor and one of these kinds, in order, it first, where the others' inputs are constant."""
        path: list[onnx.NodeProto] = []
        while name in self.makers:
            path.insert(0, node := self.makers[name])
            if node.op_type in kinds:
                return path
            varying = [one for one in node.input if one and self.constant(one) is None]
            if len(varying) != 1:
                return None
            name = varying[0]
        return None


def evaluated(nodes: Sequence[onnx.NodeProto], inputs: dict[str, Any], output: str, model: onnx.ModelProto) -> Any:
    """What ONNX's own reference makes of the inputs; an operator that it lacks in the model's opset is taken from its own."""
    named = [onnx.ValueInfoProto(name=name) for name in inputs]
    graph = helper.make_graph(nodes, "part", named, [onnx.ValueInfoProto(name=output)])
    newest = [helper.make_opsetid("", onnx.defs.onnx_opset_version())]
    for opsets in list(model.opset_import), newest:
        part = helper.make_model(graph, opset_imports=opsets, functions=model.functions)
        try:
            return np.asarray(next(iter(ReferenceEvaluator(part).run([output], inputs))))
        except Exception as error:  # whatever an operator raises
            reason = error
    raise ValueError(
        f"{output!r} is constant but cannot be computed ({reason!s:.200}): save the model with its value as initialiser"
    )
