"""ONNX's operators RNN, LSTM and GRU as layers: what `jrnn.interop.onnx.load` reads."""

import functools
import itertools
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import onnx
from onnx import inliner

from .. import activations
from ..arrays import copied
from ..cells import (
    GRU,
    LSTM,
    CoupledLSTM,
    CoupledLSTMParams,
    Elman,
    ElmanParams,
    GRUParams,
    LearnedState,
    LearnedStateParams,
    LSTMParams,
    PeepholeLSTM,
)
from ..cells.lstm import PeepholeLSTMParams
from ..checks import Activation
from ..layers import BatchFirst, Bidirectional, Directions, Layered, Recurrent
from .arrays import check_dtypes
from .onnx_graph import ACTIVATIONS, WITH_NUMBERS
from .onnx_nodes import OPERATORS, Node, Scope

NAMED: dict[str, Activation] = {
    "tanh": "tanh", "sigmoid": "sigmoid", "relu": "relu", "softsign": "soft_sign", "softplus": "softplus",
}  # fmt: skip
BY_NAME = {kind.__name__.lower(): kind for kind in WITH_NUMBERS}

DEFAULTS = {"RNN": ("Tanh",), "LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh")}
GATES = {"RNN": ("h",), "LSTM": ("i", "o", "f", "g"), "GRU": ("z", "r", "n")}
"""The blocks of its weights, in ONNX's order."""


class Read(NamedTuple):
    """A layer, time first, and its parameters."""

    layer: Any
    params: Any


def read(model: onnx.ModelProto, node: str | None) -> Read:
    """See `jrnn.interop.onnx.load`."""
    if model.functions:
        model = inliner.inline_local_functions(model)
    found = list(Scope(model.graph, model).nodes())
    if not found:
        raise ValueError(f"the model has no operator of {', '.join(OPERATORS)}; expected one at least")
    if node is not None:
        chosen = [one for one in found if node in (one.proto.name, *one.proto.output)]
        if len(chosen) != 1:
            raise ValueError(f"node is {node!r}; expected the name, or an output, of one of {_titles(found)}")
        return _read(chosen[0])
    shapes = _shapes(model) if len(found) > 1 else {}
    if not all(_reads(after, before, shapes) for before, after in itertools.pairwise(found)):
        raise ValueError(f"the model has {_titles(found)}, not one after the other; choose one by node=")
    parts = [_read(one) for one in found]
    if len(parts) == 1:
        return parts[0]
    first = [isinstance(part.layer, BatchFirst) for part in parts]
    layers = tuple(part.layer.layer if turned else part.layer for part, turned in zip(parts, first))
    stack: Any = Layered(layers)
    return Read(BatchFirst(stack) if first[0] else stack, tuple(part.params for part in parts))


def _titles(nodes: Sequence[Node]) -> str:
    return ", ".join(node.title for node in nodes)


def _reads(after: Node, before: Node, shapes: dict[str, list[int]]) -> bool:
    """Whether a node reads what the one before it gives with the directions side by side and nothing else; tried with numbers."""
    y, turned = before.proto.output[0], bool(before.attribute("layout", 0))
    alike = turned == bool(after.attribute("layout", 0)) and before.input(4) == after.input(4)
    if after.scope is not before.scope or not alike or not y:
        return False
    ways, units = len(before.known(2, "R")), _units(before)
    sizes = shapes.get(y) or [0] * 4  # 0: any
    time, rows = (sizes[1] or 3, sizes[0] or 2) if turned else (sizes[0] or 3, sizes[2] or 2)
    shape = (rows, time, ways, units) if turned else (time, ways, rows, units)
    value = np.random.default_rng(0).integers(-99, 99, shape).astype(np.float32)  # whole, so that 16 bits hold them too
    wanted = value.reshape(rows, time, -1) if turned else value.transpose(0, 2, 1, 3).reshape(time, rows, -1)
    try:
        found = before.scope.between(y, value, after.input(0))
    except ValueError:  # a shape that does not fit, an operator that the reference lacks
        return False
    return found is not None and found.shape == wanted.shape and bool(np.array_equal(found, wanted))


def _shapes(model: onnx.ModelProto) -> dict[str, list[int]]:
    """The sizes of tensors, as far as they are known, 0 where not."""
    known = onnx.shape_inference.infer_shapes(model).graph.value_info
    return {one.name: [size.dim_value for size in one.type.tensor_type.shape.dim] for one in known}


def _units(node: Node) -> int:
    shape = np.shape(node.known(2, "R"))
    return shape[1] if node.proto.op_type.startswith("Dynamic") else shape[2]


def _read(node: Node) -> Read:
    w, r, b, p = _weights(node)
    ways = len(w)
    direction = node.attribute("direction", "forward")
    functions = _activations(node, ways)
    starts = _starts(node, ways)
    biases, peepholes = ([None] * ways if a is None else a for a in (b, p))
    cells, params = zip(*map(functools.partial(_cell, node), functions, w, r, biases, peepholes), strict=True)
    if starts is not None:
        pairs = [_started(cell, own, start) for cell, own, start in zip(cells, params, starts, strict=True)]
        cells, params = zip(*pairs)
    if (lengths := node.constant(4)) is not None:
        warnings.warn(
            f"{node.title} has constant sequence lengths, {lengths.tolist()!s:.60}, which a layer does not hold: pass them as "
            "lengths= where it is applied",
            stacklevel=4,
        )
    if direction == "bidirectional":
        layer: Any = Bidirectional(Recurrent(cells[0]), Recurrent(cells[1], reverse=True))
        own: Any = Directions(*params)
    else:
        layer, own = Recurrent(cells[0], reverse=direction == "reverse"), params[0]
    return Read(BatchFirst(layer) if node.attribute("layout", 0) else layer, copied(own))


def _weights(node: Node) -> tuple[Any, Any, Any, Any]:
    """W [ways, gates * units, inputs], R [ways, gates * units, units], B [ways, 2 * gates * units] and P, by ONNX's names."""
    w, r = node.known(1, "W"), node.known(2, "R")
    b = node.known(3, "B") if node.input(3) else None
    p = node.known(7, "P") if node.kind == "LSTM" and node.input(7) else None
    if node.proto.op_type.startswith("Dynamic"):
        w, r = _dequantised(node, w, 8, "W"), _dequantised(node, r, 10, "R")
    gates = len(GATES[node.kind])
    if w.ndim != 3 or r.ndim != 3:
        raise ValueError(
            f"{node.title}: W is {list(w.shape)}, R {list(r.shape)}; expected [directions, gates * units, in] of both"
        )
    units = r.shape[-1]
    direction = node.attribute("direction", "forward")
    if direction not in ("forward", "reverse", "bidirectional"):
        raise ValueError(f"{node.title}: direction is {direction!r:.80}; expected forward, reverse or bidirectional")
    ways = 2 if direction == "bidirectional" else 1
    if (stated := node.attribute("hidden_size", units)) != units:
        raise ValueError(f"{node.title}: hidden_size is {stated}; expected {units}, as R {list(r.shape)} has it")
    wanted = {"W": (ways, gates * units, w.shape[-1]), "R": (ways, gates * units, units)}
    wanted |= {} if b is None else {"B": (ways, 2 * gates * units)}
    wanted |= {} if p is None else {"P": (ways, 3 * units)}
    for name, value in {"W": w, "R": r, "B": b, "P": p}.items():
        if value is not None and value.shape != wanted[name]:
            raise ValueError(f"{node.title}: {name} is {list(value.shape)}; expected {list(wanted[name])}")
    given = {name: value.dtype for name, value in {"W": w, "R": r, "B": b, "P": p}.items() if value is not None}
    check_dtypes(given, node.title)
    return w, r, b, p


def _dequantised(node: Node, values: np.ndarray, at: int, name: str) -> np.ndarray:
    """Weights of onnxruntime's DynamicQuantizeLSTM, [ways, in, gates * units] in 8 bits, as floats the other way round."""
    if values.ndim != 3:
        raise ValueError(f"{node.title}: {name} is {list(values.shape)}; expected [directions, in, gates * units]")
    scale, zero = node.known(at, f"{name}_scale"), node.known(at + 1, f"{name}_zero_point")
    scale, zero = (a.reshape(len(values), 1, -1) for a in (scale, zero))
    return ((values.astype(np.float32) - zero.astype(np.float32)) * scale).swapaxes(1, 2)


def _activations(node: Node, ways: int) -> list[list[Activation]]:
    """Those of each direction, in ONNX's order."""
    names = [one.decode() if isinstance(one, bytes) else one for one in node.attribute("activations", [])]
    names = names or list(DEFAULTS[node.kind]) * ways
    if len(names) != ways * len(DEFAULTS[node.kind]):
        raise ValueError(f"{node.title}: activations is {names}; expected {ways * len(DEFAULTS[node.kind])} of them")
    alphas, betas = (iter(node.attribute(f"activation_{name}", [])) for name in ("alpha", "beta"))
    clip = _decimal(node.attribute("clip", 0.0))
    if clip < 0:
        raise ValueError(f"{node.title}: clip is {clip}; expected a positive number, or none")

    def one(name: str) -> Activation:
        if name.lower() in NAMED:
            return NAMED[name.lower()]
        kind = BY_NAME.get(name.lower())
        if kind is None:
            choices = ", ".join([*NAMED, *BY_NAME])
            raise ValueError(f"{node.title}: activation {name!r} is none that is known; expected some of {choices}")
        fields = kind.__dataclass_fields__  # type: ignore[attr-defined]
        given = {field: next(source, None) for field, source in (("alpha", alphas), ("beta", betas)) if field in fields}
        try:
            made = kind(**{field: _decimal(value) for field, value in given.items() if value is not None})
        except TypeError:
            raise ValueError(f"{node.title}: {name} has no alpha and beta; expected both") from None
        return next((ours for ours, (theirs, own) in ACTIVATIONS.items() if _is(made, theirs, own)), made)

    chosen: list[Any] = [one(name) for name in names]
    per = len(DEFAULTS[node.kind])
    if clip > 0:  # of what activates a sum of the input and the past, so not of an LSTM's cell
        chosen = [f if per == 3 and n % 3 == 2 else activations.Clipped(f, clip) for n, f in enumerate(chosen)]
    return [chosen[start : start + per] for start in range(0, len(chosen), per)]


def _decimal(value: float) -> float:
    """The shortest decimal that is this number in float32, in which ONNX keeps it: 0.2 and not 0.20000000298."""
    return float(str(np.float32(value)))


def _is(made: Activation, name: str, numbers: dict[str, float]) -> bool:
    """Whether it is what a name of ours stands for: `"hard_sigmoid"` for HardSigmoid of 1/6 and 0.5."""
    return type(made).__name__ == name and all(
        np.float32(getattr(made, n)) == np.float32(v) for n, v in numbers.items()
    )


def _cell(node: Node, functions: list[Activation], w: Any, r: Any, b: Any, p: Any) -> tuple[Any, Any]:
    """One direction's cell and parameters."""
    gates = GATES[node.kind]
    inputs, units = w.shape[1], r.shape[1]
    two = None if b is None else b.reshape(2, len(gates), units)

    def blocks(a: Any) -> dict[str, Any]:
        return dict(zip(gates, a.reshape(len(gates), units, -1), strict=True))

    def joined(parts: dict[str, Any], order: Sequence[str]) -> Any:
        return np.concatenate([parts[gate] for gate in order], 0).T

    weights: list[Any] = [blocks(w), blocks(r)]
    if node.kind == "RNN":
        cell: Any = Elman(inputs, units, activation=functions[0], bias=b is not None)
        return cell, ElmanParams(w.T, r.T, None if two is None else two.sum(0)[0])
    if node.kind == "GRU":
        after = bool(node.attribute("linear_before_reset", 0))
        gate, squash = functions
        cell = GRU(inputs, units, reset_after=after, activation=squash, gate_activation=gate, bias=b is not None)
        w_x, w_h = (joined(part, cell.gates) for part in weights)
        if two is None:
            return cell, GRUParams(w_x, w_h, None, None)
        summed: Any = dict(zip(gates, two.sum(0), strict=True)) | ({"n": two[0, 2]} if after else {})
        b_all: Any = np.concatenate([summed[gate] for gate in cell.gates])
        return cell, GRUParams(w_x, w_h, b_all, two[1, 2] if after else None)
    gate, squash, opened = functions
    options: Any = {"activation": squash, "gate_activation": gate, "bias": b is not None}
    options |= {} if opened == squash else {"cell_activation": opened}
    biases: Any = None if two is None else dict(zip(gates, two.sum(0)[..., None], strict=True))
    peepholes: Any = None if p is None else dict(zip(("i", "o", "f"), np.split(p, 3), strict=True))
    kind: Any = LSTM if p is None else PeepholeLSTM
    if node.attribute("input_forget", 0):  # f = 1 - i, whatever the blocks of f hold
        kind, options = CoupledLSTM, options | {"peepholes": p is not None}
    cell = kind(inputs, units, **options)
    w_x, w_h = (joined(part, cell.gates) for part in weights)
    b = None if biases is None else joined(biases, cell.gates)[0]
    if kind is CoupledLSTM:
        return cell, CoupledLSTMParams(
            w_x, w_h, b, *((None, None) if peepholes is None else (peepholes["i"], peepholes["o"]))
        )
    if peepholes is None:
        return cell, LSTMParams(w_x, w_h, b)
    return cell, PeepholeLSTMParams(w_x, w_h, b, peepholes["i"], peepholes["f"], peepholes["o"])


def _starts(node: Node, ways: int) -> list[list[np.ndarray]] | None:
    """The states before the first step that the model holds, h and c of each direction without rows; None where they are 0."""
    names = ("initial_h", "initial_c")[: 2 if node.kind == "LSTM" else 1]
    found = [_start(node, 5 + n) for n in range(len(names))]
    if all(value is None or not np.any(value) for value in found):
        return None
    r = node.known(2, "R")
    units, dtype = (
        _units(node),
        node.known(10, "R_scale").dtype if node.proto.op_type.startswith("Dynamic") else r.dtype,
    )
    by_way = []
    for name, value in zip(names, found, strict=True):
        rows = np.zeros(units, dtype) if value is None else value
        rows = rows.swapaxes(0, 1) if node.attribute("layout", 0) and rows.ndim == 3 else rows
        wanted = (ways, (1, 1, *rows.shape)[-2], units)
        try:
            rows = np.broadcast_to(rows, wanted)
        except ValueError:
            raise ValueError(f"{node.title}: {name} is {list(rows.shape)}; expected {list(wanted)}") from None
        if (rows != rows[:, :1]).any():
            raise ValueError(
                f"{node.title}: {name} holds another state for each row, {list(rows.shape)}; expected the same, which a layer "
                "can hold: make it an input of the model, and pass it as state where the layer is applied"
            )
        by_way.append(rows[:, 0].astype(dtype))
    return [[part[way] for part in by_way] for way in range(ways)]


def _start(node: Node, index: int) -> Any:
    """A state that is constant, or is expanded from a constant to as many rows as there are."""
    value, maker = node.constant(index), node.scope.makers.get(node.input(index))
    return node.scope.constant(maker.input[0]) if value is None and maker and maker.op_type == "Expand" else value


def _started(cell: Any, params: Any, start: list[np.ndarray]) -> tuple[Any, Any]:
    state = type(cell.initial_state(jax.tree.map(jnp.asarray, params)))(*start)
    return LearnedState(cell), LearnedStateParams(params, state)
