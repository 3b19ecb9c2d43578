"""The graph of an ONNX model as it is built: cells and layers as its operators."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ..activations import Affine, Clipped, Elu, HardSigmoid, LeakyRelu, ScaledTanh, ThresholdedRelu
from ..attention import Attention, Dot, General
from ..cell import Cell
from ..cells import GRU, LSTM, AttentionAfter, AttentionBefore, AttentionState, CoupledLSTM, Elman, PeepholeLSTM
from ..checks import Activation
from ..layers import Bidirectional, Dense, Directions, Dropout, Embedding, Layered, LayerNorm, Recurrent, Residual
from ..models import LanguageModel
from .int8 import Int8

ACTIVATIONS: dict[str, tuple[str, dict[str, float]]] = {
    "tanh": ("Tanh", {}),
    "sigmoid": ("Sigmoid", {}),
    "relu": ("Relu", {}),
    "identity": ("Affine", {"alpha": 1.0, "beta": 0.0}),
    "hard_sigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    "soft_sign": ("Softsign", {}),
    "softplus": ("Softplus", {}),
    "elu": ("Elu", {"alpha": 1.0}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.01}),
}
WITH_NUMBERS = (Affine, HardSigmoid, LeakyRelu, ThresholdedRelu, ScaledTanh, Elu)
"""Of `jrnn.activations`, those that ONNX has under their names."""


class _Operator(NamedTuple):
    """What ONNX calls a cell."""

    name: str
    gates: tuple[str, ...]  # the cell's blocks in ONNX's order; "-i": minus that of i
    activations: tuple[tuple[str, Activation], ...]  # in ONNX's order: the cell's option and its choice
    attributes: dict[str, int]


def _operator(cell: Cell) -> _Operator:
    match cell:
        case Elman():
            return _Operator("RNN", ("h",), (("activation", cell.activation),), {})
        case LSTM() | PeepholeLSTM() | CoupledLSTM():
            squash = ("activation", cell.activation)
            opened = squash if cell.cell_activation is None else ("cell_activation", cell.cell_activation)
            chosen = (("gate_activation", cell.gate_activation), squash, opened)
            if isinstance(cell, CoupledLSTM):
                # The forget gate's own block is not read; a runtime that did not couple would find 1 - σ(i) = σ(-i) there.
                return _Operator("LSTM", ("i", "o", "-i", "g"), chosen, {"input_forget": 1})
            return _Operator("LSTM", ("i", "o", "f", "g"), chosen, {})
        case GRU():
            chosen = ("gate_activation", cell.gate_activation), ("activation", cell.activation)
            return _Operator("GRU", ("z", "r", "n"), chosen, {"linear_before_reset": int(cell.reset_after)})
    raise TypeError(
        f"{cell} has no ONNX operator; ONNX has Elman, LSTM, PeepholeLSTM, CoupledLSTM and GRU: choose one of them, or export with "
        "jrnn.interop.stablehlo, which takes every cell"
    )


def _activations(cell: Cell, operator: _Operator, directions: int) -> dict[str, Any]:
    """The attributes that name them; alpha and beta are listed only for those that have any, as onnxruntime reads them."""
    chosen = []
    limits = []
    for place, (option, choice) in enumerate(operator.activations):
        if place < 2:  # ONNX clips what activates a sum of the input and the past, so not an LSTM's cell
            limits.append(choice.limit if isinstance(choice, Clipped) else 0.0)
            choice = choice.activation if isinstance(choice, Clipped) else choice
        elif isinstance(choice, Clipped):
            raise ValueError(
                f"the cell of {cell} is activated by {choice!r}; ONNX clips what goes into the gates alone: expected "
                "cell_activation='tanh', or another that is not Clipped"
            )
        if isinstance(choice, WITH_NUMBERS):
            chosen.append((type(choice).__name__, dataclasses.asdict(choice)))
        elif isinstance(choice, str) and choice in ACTIVATIONS:
            chosen.append(ACTIVATIONS[choice])
        else:
            names = ", ".join([*map(repr, ACTIVATIONS), *(kind.__name__ for kind in WITH_NUMBERS)])
            raise ValueError(f"{option} of {cell} is {choice!r}; ONNX has {names}")
    if len(set(limits)) > 1:
        raise ValueError(f"{cell} is clipped at {limits}; ONNX has one limit for the gates and the candidate (0: none)")
    chosen *= directions
    numbers = {f"activation_{name}": [n[name] for _, n in chosen if name in n] for name in ("alpha", "beta")}
    clip = {"clip": limits[0]} if limits[0] else {}
    return {"activations": [name for name, _ in chosen], **{name: n for name, n in numbers.items() if n}, **clip}


class Graph:
    """Nodes and constants as they are added. Tensors are strings, their names."""

    def __init__(self, lengths: str):
        self.lengths = lengths  # "": every step is real
        self.memory: list[dict[str, str]] = []  # what each cell that attends is given, in their order
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, operator: str, *inputs: str, outputs: tuple[str, ...] = (), **attributes: Any) -> str:
        """A node, and the name of its first output."""
        name = f"{operator}_{len(self.nodes)}"
        outputs = outputs or (name,)
        self.nodes.append(helper.make_node(operator, inputs, outputs, name=name, **attributes))
        return outputs[0]

    def constant(self, value: Any) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def unsqueeze(self, x: str, axis: int) -> str:
        return self.add("Unsqueeze", x, self.constant(np.array([axis])))

    def squeeze(self, x: str, axis: int) -> str:
        return self.add("Squeeze", x, self.constant(np.array([axis])))

    def model(self, model: Any, params: Any, state: Any, x: str) -> tuple[Any, str]:
        """The state after and the outputs, [time, batch, ...]; of a layer or a language model, as its `apply`."""
        match model:
            case LanguageModel():
                new, y = self.model(model.layer, params.layer, state, self.embedding(params.embedding, x))
                return new, self.add("Add", self.read_out(y, params), self.constant(params.b))
            case Dropout():
                return (), x
            case Embedding():
                return (), self.cleared(self.embedding(params.vectors, x))
            case Dense():
                y = self.product(x, params.w)
                return (), self.cleared(y if params.b is None else self.add("Add", y, self.constant(params.b)))
            case LayerNorm():
                inputs = x, self.constant(params.g), self.constant(params.b)
                return (), self.cleared(self.add("LayerNormalization", *inputs, axis=-1, epsilon=float(model.epsilon)))
            case Layered():
                return self.layered(model, params, state, x)
            case Residual():
                new, y = self.model(model.layer, params, state, x)
                return new, self.add("Add", y, self.cleared(x))
            case Recurrent(AttentionBefore() | AttentionAfter() as cell):
                return self.attending(cell, params, state, x)
            case Recurrent():
                (new,), y = self.recurrent(model.cell, [params], [state], x, "reverse" if model.reverse else "forward")
                return new, y
            case Bidirectional():
                return self.bidirectional(model, params, state, x)
        raise TypeError(
            f"{model} has no ONNX operator; expected Recurrent, Bidirectional, Layered, Residual, Dropout, Dense or LayerNorm, or "
            "export with jrnn.interop.stablehlo, which takes every layer"
        )

    def layered(self, model: Layered, params: Any, state: Any, x: str) -> tuple[Any, str]:
        new, remaining = [], iter(zip(params, state, strict=True))
        for layer in model.layers:
            part, x = self.model(layer, *(((), ()) if layer.parameterless else next(remaining)), x)
            if not layer.parameterless:
                new.append(part)
        return tuple(new), x

    def bidirectional(self, model: Bidirectional, params: Directions, state: Directions, x: str) -> tuple[Any, str]:
        """One operator for both directions where their cells are alike, one for each where not."""
        match model:
            case Bidirectional(Recurrent(a, reverse=False), Recurrent(b, reverse=True)) if a == b:
                new, y = self.recurrent(a, params, state, x, "bidirectional")
                return Directions(*new), y
        forward, y = self.model(model.forward, params.forward, state.forward, x)
        backward, z = self.model(model.backward, params.backward, state.backward, x)
        return Directions(forward, backward), self.add("Concat", y, z, axis=-1)

    def recurrent(
        self, cell: Any, params: Sequence[Any], state: Sequence[Any], x: str, direction: str
    ) -> tuple[list[Any], str]:
        """The operator; params and state have an entry for each direction."""
        operator = _operator(cell)
        fields = type(state[0])._fields  # h, and c of an LSTM
        before = [[getattr(s, field) for s in state] for field in fields]
        w = self.stacked([_blocks(p.w_x, cell.gates, operator.gates) for p in params])
        r = self.stacked([_blocks(p.w_h, cell.gates, operator.gates) for p in params])
        b = self.constant(np.stack([_bias(cell, p, operator.gates) for p in params])) if cell.bias else ""
        starts = [self.joined([self.unsqueeze(s, 0) for s in names]) for names in before]
        inputs = [x, w, r, b, self.lengths, *starts]
        if getattr(params[0], "p_i", None) is not None:
            inputs.append(self.constant(np.stack([_peepholes(p) for p in params])))
        index = len(self.nodes)
        y, *ends = outputs = (f"{operator.name}_{index}", *(f"{operator.name}_{index}.{field}" for field in fields))
        attributes = {"hidden_size": cell.hidden_size, "direction": direction, **operator.attributes}
        self.add(operator.name, *inputs, outputs=outputs, **attributes, **_activations(cell, operator, len(params)))
        after = [self.ends(end, names) for end, names in zip(ends, before, strict=True)]
        return [type(state[0])(*parts) for parts in zip(*after, strict=True)], self.side_by_side(y, cell, len(params))

    def attending(self, cell: Any, params: Any, state: Any, x: str) -> tuple[Any, str]:
        """A cell that attends, for one step: x [1, batch, features]."""
        memory = self.memory.pop(0)
        before = isinstance(cell, AttentionBefore)
        feeds = before or cell.input_feeding
        inner = state.cell if feeds else state
        fed: Any = None
        if before:
            fed = self.attend(cell.attention, params.attention, memory, inner.h)
        elif feeds:
            fed = state.fed
        if feeds:
            x = self.add("Concat", self.unsqueeze(fed, 0), x, axis=-1)
        (new,), y = self.recurrent(cell.cell, [params.cell], [inner], x, "forward")
        if before:
            return AttentionState(new, fed), self.add("Concat", y, self.unsqueeze(fed, 0), axis=-1)
        query = self.squeeze(y, 0)
        context = self.attend(cell.attention, params.attention, memory, query)
        out: Any = self.add("Tanh", self.product(self.add("Concat", context, query, axis=-1), params.w))
        return AttentionState(new, out) if feeds else new, self.unsqueeze(out, 0)

    def attend(self, attention: Attention, params: Any, memory: dict[str, str], query: str) -> str:
        """The context [batch, memory] of a query [batch, features]."""
        if isinstance(attention, Dot | General):
            scores = self.squeeze(self.add("MatMul", memory["keys"], self.unsqueeze(query, 2)), 2)
        else:
            hidden = self.add("Add", self.unsqueeze(self.product(query, params.w_query), 1), memory["keys"])
            column = self.constant(np.asarray(params.v)[:, None])
            scores = self.squeeze(self.add("MatMul", self.add("Tanh", hidden), column), 2)
        mask = memory.get("mask")
        if mask is None:
            weights = self.add("Softmax", scores, axis=-1)
        else:
            least = self.constant(np.finfo(np.float32).min)
            weights = self.add("Softmax", self.add("Where", mask, scores, least), axis=-1)
            weights = self.add("Where", mask, weights, self.constant(np.float32(0)))
        return self.squeeze(self.add("MatMul", self.unsqueeze(weights, 1), memory["values"]), 1)

    def side_by_side(self, y: str, cell: Any, directions: int) -> str:
        """[time, directions, batch, hidden] -> [time, batch, directions * hidden]."""
        if directions == 1:
            return self.squeeze(y, 1)
        last = self.add("Transpose", y, perm=[0, 2, 1, 3])
        return self.add("Reshape", last, self.constant(np.array([0, 0, directions * cell.hidden_size])))

    def ends(self, end: str, before: list[str]) -> list[str]:
        """The final state of each direction; that of a row of length 0, which onnxruntime clears, is the one before."""
        parts = [self.add("Gather", end, self.constant(np.array(i)), axis=0) for i in range(len(before))]
        if not self.lengths:
            return parts
        some = self.unsqueeze(self.add("Greater", self.lengths, self.constant(np.int32(0))), 1)
        return [self.add("Where", some, part, start) for part, start in zip(parts, before, strict=True)]

    def cleared(self, x: str) -> str:
        """`x` [time, batch, features] with padded steps set to 0."""
        if not self.lengths:
            return x
        zero, one = self.constant(np.array(0)), self.constant(np.array(1))
        time = self.add("Gather", self.add("Shape", x), zero)
        steps = self.unsqueeze(self.add("Range", zero, time, one), 1)
        lengths = self.add("Cast", self.lengths, to=onnx.TensorProto.INT64)
        real = self.unsqueeze(self.add("Less", steps, lengths), 2)
        return self.add("Where", real, x, self.constant(np.float32(0)))

    def embedding(self, table: Any, tokens: str) -> str:
        if not isinstance(table, Int8):
            return self.add("Gather", self.constant(table), tokens)
        rows = self.add("Gather", self.constant(table.values), tokens)  # the rows alone become float
        return self.add("DequantizeLinear", rows, self.constant(table.scale), axis=2)

    def product(self, x: str, w: Any) -> str:
        """`x @ w`, scaled after the product: onnxruntime would round x to int8 too where a DequantizeLinear leads to a MatMul."""
        if not isinstance(w, Int8):
            return self.add("MatMul", x, self.constant(w))
        values = self.add("Cast", self.constant(w.values), to=onnx.TensorProto.FLOAT)
        return self.add("Mul", self.add("MatMul", x, values), self.constant(w.scale))

    def read_out(self, y: str, params: Any) -> str:
        """`y` times the weights of the output of a language model or decoder, which may be its embedding."""
        if params.w is not None:
            return self.product(y, params.w)
        if not isinstance(params.embedding, Int8):
            return self.product(y, params.embedding.T)
        values = self.add("Cast", self.constant(params.embedding.values.T), to=onnx.TensorProto.FLOAT)
        return self.add("MatMul", self.add("Mul", y, self.constant(params.embedding.scale)), values)

    def stacked(self, weights: list[Any]) -> str:
        """[directions, gates * hidden, in] from [in, gates * hidden] each."""
        if not isinstance(weights[0], Int8):
            return self.constant(np.stack([w.T for w in weights]))
        pairs = [(self.constant(w.values.T), self.constant(w.scale)) for w in weights]
        return self.joined([self.unsqueeze(self.add("DequantizeLinear", *pair, axis=0), 0) for pair in pairs])

    def joined(self, parts: list[str]) -> str:
        return parts[0] if len(parts) == 1 else self.add("Concat", *parts, axis=0)


def _blocks(a: Any, gates: Sequence[str], wanted: Sequence[str]) -> Any:
    """The blocks along the last axis of `a`, an array or Int8, as an operator's `gates` has them."""
    if isinstance(a, Int8):
        positive = [gate.removeprefix("-") for gate in wanted]
        return Int8(_blocks(a.values, gates, wanted), _blocks(a.scale, gates, positive))
    blocks = dict(zip(gates, np.split(np.asarray(a), len(gates), -1), strict=True))
    return np.concatenate([-blocks[gate[1:]] if gate[0] == "-" else blocks[gate] for gate in wanted], -1)


def _peepholes(params: Any) -> np.ndarray:
    """In ONNX's order, i o f."""
    p_f = getattr(params, "p_f", None)
    return np.concatenate([params.p_i, params.p_o, -params.p_i if p_f is None else p_f])


def _bias(cell: Any, params: Any, gates: Sequence[str]) -> np.ndarray:
    """ONNX's two biases, of the input and of the past, one after the other; the second is 0 but for `b_n` of a GRU."""
    zeros = np.zeros(len(gates) * cell.hidden_size, np.float32)
    b = zeros if params.b is None else _blocks(params.b, cell.gates, gates)
    b_n = getattr(params, "b_n", None)
    past = zeros if b_n is None else np.concatenate([zeros[: -cell.hidden_size], b_n])
    return np.concatenate([b, past])
