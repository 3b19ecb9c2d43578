"""ONNX graphs of models that give labels or write sequences; see `jrnn.interop.onnx.export`."""

from typing import Any

import jax
import numpy as np
import onnx
from onnx import helper

from .. import pooling
from ..attention import Dot, General
from ..cells import AttentionState
from ..layers import Bidirectional, Layered, Recurrent
from ..models import Classifier, Conditional, EncoderDecoder, Tagger
from .int8 import dequantize
from .onnx_graph import Graph
from .whole import whole

LENGTHS = "lengths"


def build(
    model: Classifier | Tagger | Conditional, params: Any, *, step: bool, lengths: bool
) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto], Graph]:
    """Inputs, outputs and the graph between them."""
    params = jax.tree.map(np.asarray, dequantize(params))
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(params)}
    if dtypes != {np.dtype(np.float32)}:
        raise TypeError(
            f"params has dtypes {sorted(map(str, dtypes))}; onnxruntime runs its recurrent operators in float32: "
            "cast with jax.tree.map(lambda a: a.astype('float32'), params)"
        )
    arguments: Any = whole(model, params, step=step, lengths=lengths).arguments
    if isinstance(model, Classifier | Tagger):
        return _labels(model, params, arguments)
    return _advance(model, params, arguments) if step else _start(model, params, arguments, lengths)


def _value(name: str, like: Any) -> onnx.ValueInfoProto:
    shape = [size if isinstance(size, int) else str(size) for size in like.shape]
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(like.dtype)), shape)


def _marks(arguments: Any) -> list[onnx.ValueInfoProto]:
    return [_value(LENGTHS, like) for like in arguments[1:]]


def _labels(model: Classifier | Tagger, params: Any, arguments: Any) -> Any:
    inputs = [_value("xs", arguments[0]), *_marks(arguments)]
    graph = Graph(LENGTHS if len(arguments) > 1 else "")
    state = _zeros(graph, model.layer, params.layer, "xs", 1)
    batch = arguments[0].shape[1]
    if isinstance(model, Tagger):
        _, y = graph.model(model.layer, params.layer, state, "xs")
        shape: tuple[Any, ...] = (arguments[0].shape[0], batch, model.labels)
    else:
        y = _pooled(graph, model, params, state)
        shape = (batch, model.classes)
    graph.add("Add", graph.product(y, params.w), graph.constant(params.b), outputs=("logits",))
    return inputs, [_value("logits", jax.ShapeDtypeStruct(shape, np.float32))], graph


def _pooled(graph: Graph, model: Classifier, params: Any, state: Any) -> str:
    if model.pooling is None:
        return _last(graph, model.layer, params.layer, state, "xs")[1]
    _, ys = graph.model(model.layer, params.layer, state, "xs")
    real = _real(graph, ys)
    if isinstance(model.pooling, pooling.Max):
        if real:
            ys = graph.add("Where", graph.unsqueeze(real, 2), ys, graph.constant(np.finfo(np.float32).min))
        y = graph.add("ReduceMax", ys, axes=[0], keepdims=0)
    elif isinstance(model.pooling, pooling.Mean):
        total = graph.add("ReduceSum", ys, graph.constant(np.array([0])), keepdims=0)
        zero = graph.constant(np.array(0))
        count = graph.add("Gather", graph.add("Shape", ys), zero)
        if real:
            count = graph.unsqueeze(
                graph.add(
                    "Max", graph.add("Cast", graph.lengths, to=onnx.TensorProto.INT64), graph.constant(np.array(1))
                ),
                1,
            )
        y = graph.add("Div", total, graph.add("Cast", count, to=onnx.TensorProto.FLOAT))
    elif isinstance(model.pooling, pooling.Attention):
        own = params.pooling
        u = graph.add("Tanh", graph.add("Add", graph.product(ys, own.w), graph.constant(own.b)))
        scores = graph.squeeze(graph.add("MatMul", u, graph.constant(own.query[:, None])), 2)
        if real:
            scores = graph.add("Where", real, scores, graph.constant(np.finfo(np.float32).min))
        weights = graph.unsqueeze(graph.add("Softmax", scores, axis=0), 2)
        y = graph.add("ReduceSum", graph.add("Mul", weights, ys), graph.constant(np.array([0])), keepdims=0)
    else:
        raise TypeError(
            f"pooling is {model.pooling}; expected None, Mean, Max or Attention, or export with jrnn.interop.stablehlo"
        )
    return _where_some(graph, y)


def _real(graph: Graph, ys: str) -> str:
    """Which steps of ys [time, batch, ...] are real: bool [time, batch]; "" where all are."""
    if not graph.lengths:
        return ""
    zero, one = graph.constant(np.array(0)), graph.constant(np.array(1))
    steps = graph.add("Range", zero, graph.add("Gather", graph.add("Shape", ys), zero), one)
    lengths = graph.add("Cast", graph.lengths, to=onnx.TensorProto.INT64)
    return graph.add("Less", graph.unsqueeze(steps, 1), graph.unsqueeze(lengths, 0))


def _where_some(graph: Graph, y: str) -> str:
    """y [batch, features], zeros in rows without real steps."""
    if not graph.lengths:
        return y
    some = graph.unsqueeze(graph.add("Greater", graph.lengths, graph.constant(np.int32(0))), 1)
    return graph.add("Where", some, y, graph.constant(np.float32(0)))


def _zeros(graph: Graph, layer: Any, params: Any, xs: str, axis: int) -> Any:
    """The initial state, of zeros, for as many rows as axis `axis` of xs has."""
    state = jax.eval_shape(layer.initial_state, params)
    batch = graph.add("Gather", graph.add("Shape", xs), graph.constant(np.array([axis])))

    def one(leaf: Any) -> str:
        shape = graph.add("Concat", batch, graph.constant(np.array(leaf.shape, np.int64)), axis=0)
        return graph.add("Expand", graph.constant(np.zeros(leaf.shape, np.float32)), shape)

    return jax.tree.map(one, state)


def _last(graph: Graph, layer: Any, params: Any, state: Any, x: str) -> tuple[str, str]:
    """All outputs, and the output at the end of the run, [batch, features]."""
    match layer:
        case Recurrent() | Bidirectional():
            new, ys = graph.model(layer, params, state, x)
            parts = (new,) if isinstance(layer, Recurrent) else new
            # Of a row without real steps the state is still zeros, as its output is.
            ends = [part.h for part in parts]
            return ys, ends[0] if len(ends) == 1 else graph.add("Concat", *ends, axis=-1)
        case Layered():
            ending = layer._ending()
            remaining = iter(zip(params, state, strict=True))
            y = ""
            for place, inner in enumerate(layer.layers):
                own, start = ((), ()) if inner.parameterless else next(remaining)
                if place < ending:
                    x = graph.model(inner, own, start, x)[1]
                elif place == ending:
                    x, y = _last(graph, inner, own, start, x)
                else:
                    x, y = graph.model(inner, own, start, x)[1], _one_step(graph, inner, own, start, y)[1]
            return x, _where_some(graph, y) if ending < len(layer.layers) - 1 else y
    raise TypeError(
        f"the last output of {layer} has no ONNX operators; expected one that ends in Recurrent or Bidirectional, or export with "
        "jrnn.interop.stablehlo"
    )


def _one_step(graph: Graph, layer: Any, params: Any, state: Any, x: str) -> tuple[Any, str]:
    """A layer for one step of which every row is real: x [batch, features]."""
    lengths, graph.lengths = graph.lengths, ""
    new, y = graph.model(layer, params, state, graph.unsqueeze(x, 0))
    graph.lengths = lengths
    return new, graph.squeeze(y, 0)


def _attentions(layer: Any, params: Any) -> list[tuple[Any, Any]]:
    """Each attention in a layer with its parameters, in the order in which they are run."""
    if isinstance(layer, Recurrent) and layer.takes_context:
        return [(layer.cell.attention, params.attention)]  # type: ignore[attr-defined]
    if isinstance(layer, Layered):
        entries = iter(params)
        pairs = [(inner, () if inner.parameterless else next(entries)) for inner in layer.layers]
        return [found for pair in pairs for found in _attentions(*pair)]
    inside = getattr(layer, "layer", None)
    return [] if inside is None else _attentions(inside, params)


def _start(model: Any, params: Any, arguments: Any, lengths: bool) -> Any:
    """From the source to the state before the first token."""
    graph = Graph(LENGTHS if lengths else "")
    decoder, own = model.decoder, params.decoder
    function: Any = whole(model, params, step=True, lengths=lengths)
    flat = function.arguments[0]
    summary = ys = values = mask = ""
    state: Any = None
    if isinstance(model, EncoderDecoder):
        weights = own.layer if model.shared == "all" else params.encoder
        xs = graph.embedding(own.embedding, "source") if model.shared else "source"
        begin = _zeros(graph, model.encoder, weights, "source", 1)
        if model._copies:
            final, _ = graph.model(model.encoder, weights, begin, xs)
            like = jax.eval_shape(decoder.layer.initial_state, own.layer)
            state = jax.tree.unflatten(jax.tree.structure(like), jax.tree.leaves(final))
        elif decoder.summary_size is not None:
            ys, summary = _last(graph, model.encoder, weights, begin, xs)
        else:
            _, ys = graph.model(model.encoder, weights, begin, xs)
        if decoder.layer.takes_context:
            values = graph.add("Transpose", ys, perm=[1, 0, 2])
            mask = graph.add("Transpose", _real(graph, ys), perm=[1, 0]) if lengths else ""
    elif decoder.layer.takes_context:
        values = "source"
        if lengths:
            turned = graph.add("Transpose", values, perm=[1, 0, 2])
            mask = graph.add("Transpose", _real(graph, turned), perm=[1, 0])
            values = graph.add("Where", graph.unsqueeze(mask, 2), values, graph.constant(np.float32(0)))
        if decoder.summary_size is not None:
            total = graph.add("ReduceSum", values, graph.constant(np.array([1])), keepdims=0)
            count = graph.add("Gather", graph.add("Shape", values), graph.constant(np.array(1)))
            if lengths:
                whole_numbers = graph.add("Cast", LENGTHS, to=onnx.TensorProto.INT64)
                count = graph.unsqueeze(graph.add("Max", whole_numbers, graph.constant(np.array(1))), 1)
            summary = graph.add("Div", total, graph.add("Cast", count, to=onnx.TensorProto.FLOAT))
    else:
        summary = graph.add("Identity", "source")
    memory = [_memory(graph, one, weights, values, mask) for one, weights in _attentions(decoder.layer, own.layer)]
    if state is None:
        axis = 1 if isinstance(model, EncoderDecoder) else 0
        state = _bridged(graph, _zeros(graph, decoder.layer, own.layer, "source", axis), own.bridge, summary)
    if own.first is not None:
        x = graph.add("Add", graph.product(summary, own.first.w), graph.constant(own.first.b))
        state = _decoded(graph, model, params, state, summary, memory, x)[0]
    rows = {"state": state, "summary": summary or None, "memory": memory}
    for name, leaf in _named(rows).items():
        graph.add("Identity", leaf, outputs=(name,))
    outputs = [_value(name, like) for name, like in flat.items()]
    return [_value("source", arguments[0]), *_marks(arguments)], outputs, graph


def _memory(graph: Graph, attention: Any, params: Any, values: str, mask: str) -> dict[str, str]:
    if isinstance(attention, Dot):
        scale = graph.constant(np.float32(attention.size**-0.5)) if attention.scaled else ""
        keys = graph.add("Mul", values, scale) if scale else values
    else:
        keys = graph.product(values, params.w if isinstance(attention, General) else params.w_memory)
    return {"keys": keys, "values": values} | ({"mask": mask} if mask else {})


def _bridged(graph: Graph, state: Any, bridges: Any, summary: str) -> Any:
    """The initial state, where bridges lead from the summary to what is not fed back."""
    remaining = iter(bridges)

    def one(part: Any) -> Any:
        if isinstance(part, AttentionState):
            return part._replace(cell=jax.tree.map(one, part.cell, is_leaf=is_attending))
        bridge = next(remaining)
        return graph.add("Tanh", graph.add("Add", graph.product(summary, bridge.w), graph.constant(bridge.b)))

    def is_attending(part: Any) -> bool:
        return isinstance(part, AttentionState)

    return jax.tree.map(one, state, is_leaf=is_attending) if bridges else state


def _decoded(graph: Graph, model: Any, params: Any, state: Any, summary: str, memory: Any, x: str) -> tuple[Any, str]:
    """One step of the decoder's layer: x [batch, embedding]."""
    if model.decoder._goes("input"):
        x = graph.add("Concat", x, summary, axis=-1)
    graph.memory = list(memory)
    return _one_step(graph, model.decoder.layer, params.decoder.layer, state, x)


def _advance(model: Any, params: Any, arguments: Any) -> Any:
    """From the state and a token to the new state and logits."""
    flat, token = arguments
    graph = Graph("")
    decoder, own = model.decoder, params.decoder
    names = iter(name for name in flat if name.startswith("state"))
    state = jax.tree.map(lambda _: next(names), jax.eval_shape(decoder.layer.initial_state, own.layer))
    memory = [
        {field: name for field in ("keys", "values", "mask") if (name := f"memory.{index}.{field}") in flat}
        for index in range(len(_attentions(decoder.layer, own.layer)))
    ]
    x = graph.embedding(own.embedding, "token")
    new, y = _decoded(graph, model, params, state, "summary", memory, x)
    graph.add("Add", graph.read_out(y, own), graph.constant(own.b), outputs=("logits",))
    changed = _named({"state": new})
    for name, leaf in changed.items():
        graph.add("Identity", leaf, outputs=(f"new_{name}",))
    logits = jax.ShapeDtypeStruct((*token.shape, decoder.vocabulary_size), np.float32)
    outputs = [_value("logits", logits), *(_value(f"new_{name}", flat[name]) for name in changed)]
    return [*(_value(name, like) for name, like in flat.items()), _value("token", token)], outputs, graph


def _named(tree: Any) -> dict[str, str]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}
