"""Whole layers and models of Keras as ours: what `jrnn.interop.keras.load` reads."""

import itertools
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import activations
from ..cells import GRU, LSTM, Elman
from ..checks import Activation
from ..layers import (
    BatchFirst,
    Bidirectional,
    Dense,
    DenseParams,
    Directions,
    Embedding,
    EmbeddingParams,
    Layered,
    LayerNorm,
    LayerNormParams,
    Recurrent,
)
from .arrays import is_kind

Part = tuple[Any, Any]
"""A layer, time first, and its parameters; None for what does nothing without training."""

ACTIVATIONS: dict[str, Activation] = {
    "tanh": "tanh", "sigmoid": "sigmoid", "relu": "relu", "linear": "identity", "hard_sigmoid": "hard_sigmoid",
    "softsign": "soft_sign", "softplus": "softplus", "elu": "elu", "selu": "selu", "silu": "silu", "swish": "silu",
    "leaky_relu": activations.LeakyRelu(0.2), "exponential": jnp.exp, "relu6": "relu6",
}  # fmt: skip
"""Keras's functions by their name; `from_weights` compares what they give, too."""

IGNORED = ("Dropout", "SpatialDropout1D", "GaussianNoise", "GaussianDropout", "InputLayer", "ActivityRegularization")


def read(model: Any, from_weights: Callable[[Any, Any], Any]) -> Part:
    """See `jrnn.interop.keras.load`."""
    parts = _parts(model, from_weights)
    if not parts:
        raise ValueError(f"model {model.name!r} has no layer that computes anything; expected a recurrent one at least")
    _check_returned(model)
    layers, params = zip(*parts, strict=True)
    layer, own = (layers[0], params[0]) if len(parts) == 1 else (Layered(layers), params)
    return BatchFirst(layer), jax.tree.map(jnp.asarray, own)


def _parts(layer: Any, from_weights: Callable[[Any, Any], Any]) -> list[Part]:
    if is_kind(layer, "Sequential"):
        return [part for one in layer.layers for part in _parts(one, from_weights)]
    if is_kind(layer, "Functional"):
        return [part for one in _in_a_row(layer) for part in _parts(one, from_weights)]
    if is_kind(layer, *IGNORED):
        return []
    if not getattr(layer, "built", False):
        raise ValueError(
            f"layer {layer.name!r} has no weights yet; call it, or its model, once on an input: layer.build(shape)"
        )
    if is_kind(layer, "Bidirectional"):
        return [_both_ways(layer, from_weights)]
    if is_kind(layer, "LSTM", "GRU", "SimpleRNN"):
        return [_one_way(layer, from_weights)]
    if is_kind(layer, "TimeDistributed"):
        return _parts(layer.layer, from_weights)
    if is_kind(layer, "Dense"):
        return [_dense(layer)]
    if is_kind(layer, "Embedding"):
        (vectors,) = layer.get_weights()
        if layer.mask_zero:
            warnings.warn(
                f"{layer.name!r} masks tokens of 0, which a layer here does not: pass mask=tokens != 0 where it is applied",
                stacklevel=5,
            )
        return [(Embedding(*vectors.shape), EmbeddingParams(vectors))]
    if is_kind(layer, "LayerNormalization"):
        return [_layer_norm(layer)]
    raise TypeError(
        f"layer {layer.name!r} is a {type(layer).__name__}; expected LSTM, GRU, SimpleRNN, Bidirectional, TimeDistributed, Dense, "
        "Embedding, LayerNormalization, dropout, or a Sequential of them: convert its recurrent layers one by one"
    )


def _in_a_row(model: Any) -> list[Any]:
    """The layers of a functional model without branches."""
    layers = list(model.layers)
    if len(model.inputs) != 1 or len(model.outputs) != 1 or any(len(one._inbound_nodes) != 1 for one in layers):
        raise ValueError(
            f"model {model.name!r} has branches; expected one layer after the other: convert them one by one"
        )
    for before, after in itertools.pairwise(layers):
        parents = [operation for operation, *_ in (t._keras_history for t in after._inbound_nodes[0].input_tensors)]
        if parents != [before]:
            raise ValueError(f"model {model.name!r} has branches at {after.name!r}; expected one layer after the other")
    return layers


def _check_returned(model: Any) -> None:
    """Only the last recurrent layer may give its last output alone, and is then read by `last`."""
    layers = model.layers if hasattr(model, "layers") else [model]
    flat = [one for one in layers if is_kind(one, "LSTM", "GRU", "SimpleRNN", "Bidirectional")]
    for one in flat[:-1]:
        if not one.return_sequences:
            raise ValueError(
                f"layer {one.name!r} has return_sequences False and another recurrent layer after it; expected it of the last alone"
            )
    for one in flat:
        if one.return_sequences and getattr(one, "go_backwards", False):
            raise ValueError(
                f"layer {one.name!r} goes backwards and returns the sequence in that order, from the last step to the first; here "
                "each output stands at its step: set go_backwards to False, turn the input, or use Bidirectional"
            )


def _activation(function: Any) -> Activation:
    known = ACTIVATIONS.get(getattr(function, "__name__", ""))
    return function if known is None else known


def _cell(layer: Any) -> Any:
    """Ours of the layer's options."""
    cell = layer.cell
    inputs, units = cell.kernel.shape[0], cell.units
    options: dict[str, Any] = {"activation": _activation(cell.activation), "bias": cell.use_bias}
    if is_kind(layer, "SimpleRNN"):
        return Elman(inputs, units, **options)
    options["gate_activation"] = _activation(cell.recurrent_activation)
    return (
        GRU(inputs, units, reset_after=cell.reset_after, **options)
        if is_kind(layer, "GRU")
        else LSTM(inputs, units, **options)
    )


def _one_way(layer: Any, from_weights: Callable[[Any, Any], Any]) -> Part:
    cell = _cell(layer)
    return Recurrent(cell, reverse=layer.go_backwards), from_weights(cell, layer)


def _both_ways(layer: Any, from_weights: Callable[[Any, Any], Any]) -> Part:
    if layer.merge_mode != "concat":
        raise ValueError(f"layer {layer.name!r} has merge_mode {layer.merge_mode!r}; expected 'concat'")
    pairs = [_one_way(one, from_weights) for one in (layer.forward_layer, layer.backward_layer)]
    if [one.reverse for one, _ in pairs] != [False, True]:
        raise ValueError(f"layer {layer.name!r} begins with the backward half; expected the forward one first")
    return Bidirectional(*(one for one, _ in pairs)), Directions(*(params for _, params in pairs))


def _dense(layer: Any) -> Part:
    name = getattr(layer.activation, "__name__", "linear")
    if name != "linear":
        raise ValueError(
            f"layer {layer.name!r} has activation {name!r}, which a Dense here has not; expected none: apply it to the outputs, "
            "and for a softmax or sigmoid at the end train on logits"
        )
    w, *b = layer.get_weights()
    return Dense(*w.shape, bias=bool(b)), DenseParams(w, b[0] if b else None)


def _layer_norm(layer: Any) -> Part:
    axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
    if axes not in ([-1], [2]):
        raise ValueError(f"layer {layer.name!r} normalises axes {axes}; expected the last")
    weights = layer.get_weights()
    size = int(layer.input_spec.axes[-1]) if not weights and layer.input_spec else len(weights[0]) if weights else 0
    gain: Any = weights.pop(0) if layer.scale else np.ones(size, np.float32)
    shift: Any = weights.pop(0) if layer.center else np.zeros(size, np.float32)
    return LayerNorm(size, epsilon=float(layer.epsilon)), LayerNormParams(gain, shift)
