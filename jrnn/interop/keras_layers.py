"""Whole layers and models of Keras as ours: what `jrnn.interop.keras.load` reads."""

import functools
import warnings
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import activations
from ..cells import GRU, LSTM, ConvLSTM, Elman, RecurrentDropout
from ..checks import Activation
from ..layers import (
    BatchFirst,
    Dense,
    DenseParams,
    Dropout,
    Embedding,
    EmbeddingParams,
    LayerNorm,
    LayerNormParams,
)
from . import keras
from .arrays import agree, is_own
from .parts import Flow, Part, both_ways, finished, named, recurrent, stack

ACTIVATIONS: tuple[Activation, ...] = (
    activations.LeakyRelu(0.2),
    jnp.exp,
    jax.nn.log_softmax,
    functools.partial(jax.nn.gelu, approximate=False),
)
"""Keras's functions that no name in `jax.nn` stands for."""

CELLS = ("SimpleRNNCell", "LSTMCell", "GRUCell")
CONVOLUTIONAL = ("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")
RECURRENT = ("LSTM", "GRU", "SimpleRNN", "RNN", *CONVOLUTIONAL)
POINTWISE = ("Dense", "Embedding", "LayerNormalization", "Dropout", "SpatialDropout1D")
IGNORED = ("GaussianNoise", "GaussianDropout", "InputLayer", "ActivityRegularization")


def read(model: Any) -> tuple[Any, Any]:
    """See `jrnn.interop.keras.load`."""
    if is_own(model, "keras", *CELLS):
        return _cell_alone(model)
    parts: list[Part] = []
    reverse, ended = False, None
    for layer in _leaves(model):
        over_time = is_own(layer, "keras", *RECURRENT, "Bidirectional")
        if over_time and ended is not None:
            raise ValueError(
                f"layer {ended.name!r} has return_sequences False and another recurrent layer after it; expected it of "
                "the last alone"
            )
        made, reverse = _flow(layer, reverse)
        parts += made
        ended = layer if over_time and not layer.return_sequences else ended
    if not any(part.params for part in parts):
        raise ValueError(f"model {model.name!r} has no layer that computes anything; expected a recurrent one at least")
    if reverse:
        raise ValueError(
            f"{model.name!r} goes backwards and returns the sequence in that order, from the last step to the first; here each "
            "output stands at its step: set go_backwards to False there and turn the inputs, jnp.flip(xs, 1): the same outputs"
        )
    layer, params = finished(stack(parts))
    return BatchFirst(layer), params


def _leaves(model: Any) -> Iterator[Any]:
    """The layers of models and of the models in them, in the order of the run, without those that do nothing to be kept."""
    if is_own(model, "keras", "Sequential", "Functional"):
        for one in _in_a_row(model) if hasattr(model, "operations") else model.layers:
            yield from _leaves(one)
    elif not is_own(model, "keras", *IGNORED):
        yield model


def _in_a_row(model: Any) -> list[Any]:
    """What a functional model without branches does, one after the other."""
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            f"model {model.name!r} has branches: {len(model.inputs)} inputs and {len(model.outputs)} outputs; expected one of "
            "each, and one layer after the other: load its layers one by one"
        )
    operations = [one for one in model.operations if not is_own(one, "keras", "InputLayer")]
    before = model.inputs[0]
    for one in operations:
        inputs = [(node, node.input_tensors) for node in one._inbound_nodes]
        node = next((node for node, given in inputs if len(given) == 1 and given[0] is before), None)
        if node is None:
            raise ValueError(
                f"model {model.name!r} has branches at {one.name!r}, whose input is not the output of the layer before it alone; "
                "expected one layer after the other: load its layers one by one"
            )
        before = node.output_tensors[0]
    if model.outputs[0] is not before:
        raise ValueError(
            f"the output of model {model.name!r} is not what its last layer {operations[-1].name!r} gives first; expected that, "
            "and no layer used twice: of a layer with return_state load the layer, whose state layer.apply and layer.last give, too"
        )
    return operations


def _flow(layer: Any, reverse: bool) -> Flow:
    """What a layer does to a sequence, which is given to it in reverse where `reverse` says so."""
    if is_own(layer, "keras", *RECURRENT, *POINTWISE, "Bidirectional", "TimeDistributed"):
        _check_built(layer)
    if is_own(layer, "keras", "TimeDistributed") and is_own(layer.layer, "keras", *POINTWISE):
        return Flow([_pointwise(layer.layer)], reverse)
    if is_own(layer, "keras", *POINTWISE):
        return Flow([_pointwise(layer)], reverse)
    if is_own(layer, "keras", "Bidirectional"):
        return _both_ways(layer, reverse)
    if is_own(layer, "keras", *RECURRENT):
        turned = reverse ^ layer.go_backwards
        return Flow(_one_way(layer, turned), turned and layer.return_sequences)
    raise TypeError(
        f"{layer.name!r} is a {type(layer).__name__}; expected one of Keras's own {', '.join(RECURRENT)}, Bidirectional, "
        f"{', '.join(POINTWISE)}, TimeDistributed of one of these last, or a Sequential of them: load its recurrent layers one by "
        "one, and pool what layer.apply gives by jrnn.pooling"
    )


def _check_built(layer: Any) -> None:
    if not layer.built:
        raise ValueError(
            f"layer {layer.name!r} has no weights yet; call it, or its model, once on an input: layer.build(shape)"
        )


def _one_way(layer: Any, reverse: bool) -> list[Part]:
    """A cell, or several stacked as one, over time."""
    cells = layer.cell.cells if is_own(layer.cell, "keras", "StackedRNNCells") else [layer.cell]
    return [_recurrent(layer, cell, reverse) for cell in cells]


def _recurrent(layer: Any, theirs: Any, reverse: bool) -> Part:
    place = f"layer {layer.name!r}"
    if is_own(layer, "keras", *CONVOLUTIONAL):
        cell: Any = _convolutional(layer, theirs, place)
    elif is_own(theirs, "keras", *CELLS):
        cell = _cell(theirs)
    else:
        raise TypeError(f"{place} has a cell {type(theirs).__name__}; expected Keras's own {', '.join(CELLS)}")
    return recurrent(*_with_params(cell, theirs, place), reverse=reverse, dropout=float(theirs.dropout))


def _cell_alone(theirs: Any) -> tuple[Any, Any]:
    _check_built(theirs)
    place = f"cell {theirs.name!r}"
    if theirs.dropout:
        raise ValueError(
            f"{place} has dropout {theirs.dropout}; expected 0 of a cell alone: load keras.layers.RNN(cell)"
        )
    return _with_params(_cell(theirs), theirs, place)


def _with_params(cell: Any, theirs: Any, place: str) -> tuple[Any, Any]:
    """The cell, with dropout where theirs has it, and its parameters."""
    params = keras.from_weights(cell, theirs)
    if not theirs.recurrent_dropout:
        return cell, params
    if isinstance(cell, GRU) and not cell.reset_after:
        raise ValueError(
            f"{place} has recurrent_dropout and reset_after False: the state that it resets is not dropped by "
            "RecurrentDropout here; set recurrent_dropout to 0 to load it without"
        )
    return RecurrentDropout(cell, float(theirs.recurrent_dropout)), params


def _activations(cell: Any, *, gates: bool) -> dict[str, Any]:
    functions = {"activation": cell.activation} | ({"gate_activation": cell.recurrent_activation} if gates else {})
    return {name: named(function, *ACTIVATIONS) for name, function in functions.items()}


def _cell(theirs: Any) -> Any:
    """Ours of the options of a cell of Keras."""
    inputs, units, bias = theirs.kernel.shape[0], theirs.units, theirs.use_bias
    if is_own(theirs, "keras", "SimpleRNNCell"):
        return Elman(inputs, units, bias=bias, **_activations(theirs, gates=False))
    options = _activations(theirs, gates=True)
    if is_own(theirs, "keras", "GRUCell"):
        return GRU(inputs, units, bias=bias, reset_after=theirs.reset_after, **options)
    return LSTM(inputs, units, bias=bias, forget_bias=float(theirs.unit_forget_bias), **options)


def _convolutional(layer: Any, theirs: Any, place: str) -> Any:
    size: Any = tuple(layer.get_build_config()["input_shape"][2:])
    if theirs.data_format != "channels_last":
        raise ValueError(f"{place} has data_format {theirs.data_format!r}; expected 'channels_last'")
    return ConvLSTM(
        size,
        theirs.filters,
        tuple(theirs.kernel_size),
        strides=tuple(theirs.strides),
        padding=theirs.padding,
        dilation=tuple(theirs.dilation_rate),
        bias=theirs.use_bias,
        forget_bias=float(theirs.unit_forget_bias),
        **_activations(theirs, gates=True),
    )


def _both_ways(layer: Any, reverse: bool) -> Flow:
    if layer.merge_mode != "concat":
        raise ValueError(
            f"layer {layer.name!r} has merge_mode {layer.merge_mode!r}; expected 'concat': load its forward_layer and "
            "backward_layer on their own and merge their outputs"
        )
    halves = layer.forward_layer, layer.backward_layer
    for half in halves:
        if not is_own(half, "keras", *RECURRENT):
            raise TypeError(
                f"layer {layer.name!r} has a half {type(half).__name__}; expected one of {', '.join(RECURRENT)}"
            )
    ways = [stack(_one_way(half, reverse ^ half.go_backwards)) for half in halves]
    # What its second half gives is turned, so that both are in the order of the first.
    return Flow([both_ways(*ways)], (reverse ^ halves[0].go_backwards) and layer.return_sequences)


def _pointwise(layer: Any) -> Part:
    kind, weights = type(layer).__name__, layer.get_weights()
    expected = {"Embedding": 1, "Dense": 1 + getattr(layer, "use_bias", False)}.get(kind, len(weights))
    if len(weights) != expected:
        raise ValueError(
            f"layer {layer.name!r} has {len(weights)} arrays; expected {expected} of {kind}, without quantization and LoRA"
        )
    if kind == "Embedding":
        if layer.mask_zero:
            warnings.warn(
                f"{layer.name!r} masks tokens of 0, which a layer here does not: pass mask=tokens != 0 where it is applied",
                stacklevel=5,
            )
        return Part(Embedding(*weights[0].shape, frozen=not layer.trainable), EmbeddingParams(weights[0]))
    if kind == "SpatialDropout1D":
        return Part(Dropout(float(layer.rate), variational=True), ())
    if kind == "Dropout":
        noise = getattr(layer, "noise_shape", None)
        if noise is not None and tuple(noise)[1:] != (1, None):
            raise ValueError(
                f"layer {layer.name!r} has noise_shape {noise}; expected None, a mask for each step, or (None, 1, None), one a row"
            )
        return Part(Dropout(float(layer.rate), variational=noise is not None), ())
    if kind == "LayerNormalization":
        return _layer_norm(layer, weights)
    if not agree("identity", layer.activation):
        activation = getattr(layer.activation, "__name__", layer.activation)
        raise ValueError(
            f"layer {layer.name!r} has activation {activation!r}, which a Dense here has not; expected none: at the end of a model "
            "set layer.activation = keras.activations.linear, load it, and apply the activation to the outputs; inside, load what "
            "is before and after it on its own"
        )
    w, *b = weights
    return Part(Dense(*w.shape, bias=bool(b)), DenseParams(w, b[0] if b else None))


def _layer_norm(layer: Any, weights: list[Any]) -> Part:
    axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
    last = len(layer.get_build_config()["input_shape"]) - 1
    if axes not in ([-1], [last]) or not weights or getattr(layer, "rms_scaling", False):
        raise ValueError(
            f"layer {layer.name!r} normalises axes {axes}, scale {layer.scale}, center {layer.center}; expected the last axis, "
            "scale or center, and no rms_scaling"
        )
    gain = weights.pop(0) if layer.scale else np.ones_like(weights[0])
    shift = weights.pop(0) if layer.center else np.zeros_like(gain)
    return Part(LayerNorm(len(gain), epsilon=float(layer.epsilon)), LayerNormParams(gain, shift))
