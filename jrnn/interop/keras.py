"""Keras: the weights of `SimpleRNN`, `LSTM` and `GRU` (both `reset_after`), and whole layers and models of them (`load`).

Keras itself need not be installed.

A list, as `layer.get_weights()` gives and `layer.set_weights(...)` takes: kernel, recurrent kernel, and with `use_bias` the
bias. Keras calls the LSTM's g c and has the GRU's gates in the order z r n (it calls n h). Its GRU with `reset_after` has two
biases, rows of one array. The layer itself may be given in place of its weights: its options are then compared with the
cell's. Weights alone do not say which activations they go with: those of the cell are assumed.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arrays import copied
from ..cell import Cell
from ..cells import GRU, LSTM, Convolutional, Elman
from ..checks import check_params, describe
from .arrays import check_alike, checked, is_kind, regroup, require, template, unsupported

KINDS = (Elman, LSTM, GRU)
NAMES = ("kernel", "recurrent_kernel", "bias")


def from_weights(cell: Cell, weights: Any) -> Any:
    """The parameters of `cell` from `layer.get_weights()`, or from the layer, whose options are then compared with the cell's.

    Raises ValueError or TypeError, naming the array or option, where one is missing, left over, of another shape or dtype, or
    has no counterpart.
    """
    shapes = _shapes(cell)
    if hasattr(weights, "get_weights"):
        weights = _weights_of(cell, weights)
    if not isinstance(weights, list | tuple) or len(weights) != len(shapes):
        given = f"{len(weights)} arrays" if isinstance(weights, list | tuple) else describe(weights)
        raise ValueError(
            f"weights is {given}; {cell} expects a list of {len(shapes)}: "
            f"{', '.join(f'{name} {list(shape)}' for name, shape in shapes.items())}"
        )
    w = checked(dict(zip(shapes, weights, strict=True)), shapes, cell, "weights")
    order = _order(cell)
    fields = {"w_x": regroup(w["kernel"], order, cell.gates), "w_h": regroup(w["recurrent_kernel"], order, cell.gates)}
    if "bias" in w:
        bias = regroup(w["bias"], order, cell.gates)
        if bias.ndim == 2:
            kept = 2 * template(cell).w_h.shape[0]
            fields["b_n"] = bias[1, kept:]
            bias = np.concatenate([bias[0, :kept] + bias[1, :kept], bias[0, kept:]])
        fields["b"] = bias
    return copied(template(cell)._replace(**fields))


def load(model: Any) -> tuple[Any, Any]:
    """A layer or model of Keras as `(layer, params)`; a cell of Keras as `(cell, params)`.

    `layer.apply(params, xs)[1]` are its outputs at all steps, `layer.last(params, xs)[1]` the last alone, as Keras has it with
    `return_sequences=False`.

    Takes LSTM, GRU, SimpleRNN, ConvLSTM1D to 3D and RNN of their cells, one or several (`StackedRNNCells`), Bidirectional (concat),
    Dense without activation, TimeDistributed, Embedding, LayerNormalization and dropout, and a Sequential or a functional model of
    them, one after the other. The layer is a `BatchFirst`, as Keras has its axes. `dropout` and `recurrent_dropout` are drawn where
    there is a key, by one mask a row for all gates (Keras's cells with `recurrent_dropout` draw one for each); noise is left out.
    `stateful` is a state that is handed on; a mask is an argument. It computes in the dtype of the weights.

    Raises ValueError or TypeError, naming the layer, for an option or kind of layer that has no counterpart, one made from Keras's
    own included, and for a layer without weights yet.
    """
    if not (hasattr(model, "get_weights") and hasattr(model, "name")):
        raise TypeError(f"model is {describe(model)}; expected a layer or model of Keras")
    from .keras_layers import read

    return read(model)


def to_weights(cell: Cell, params: Any) -> list[np.ndarray]:
    """NumPy arrays for `layer.set_weights(...)` of the Keras layer that computes the same. Raises as `from_weights`."""
    shapes = _shapes(cell)
    check_params(cell, params)
    order = _order(cell)
    arrays = [regroup(np.asarray(w), cell.gates, order) for w in (params.w_x, params.w_h)]
    if "bias" in shapes:
        bias = np.asarray(params.b)
        if len(shapes["bias"]) == 2:
            second = np.concatenate([np.zeros_like(bias[: -params.b_n.size]), np.asarray(params.b_n)])
            bias = np.stack([bias, second])
        arrays.append(regroup(bias, cell.gates, order))
    return arrays


def _weights_of(cell: Any, layer: Any) -> Sequence[Any]:
    """Those of a layer that computes what `cell` does."""
    cell, place = (cell.cell, cell.spatial) if isinstance(cell, Convolutional) else (cell, ())
    name = "SimpleRNN" if isinstance(cell, Elman) else type(cell).__name__
    names = [f"Conv{name}{len(place)}D", f"Conv{name}Cell"] if place else [name, f"{name}Cell"]
    if not is_kind(layer, *names):
        raise TypeError(
            f"weights is a layer {type(layer).__name__}; {cell} expects keras.layers.{names[0]} or its weights"
        )
    own = getattr(layer, "cell", layer)
    options = {"activation": ("activation", own.activation), "bias": ("use_bias", own.use_bias)}
    if not isinstance(cell, Elman):
        options["gate_activation"] = "recurrent_activation", own.recurrent_activation
    if isinstance(cell, GRU):
        options["reset_after"] = "reset_after", own.reset_after
    check_alike(cell, f"keras.layers.{names[0]}", **options)
    return layer.get_weights()


def _shapes(cell: Any) -> dict[str, tuple[int, ...]]:
    inside: Any = cell.cell if isinstance(cell, Convolutional) else cell
    if type(inside) not in KINDS or (inside is not cell and not isinstance(inside, LSTM)):
        raise unsupported(cell, "Keras", KINDS)
    if isinstance(cell, LSTM):  # one activation for the candidate and the cell
        require(cell, "Keras", cell_activation=(None, cell.activation))
    blank = template(cell)
    shapes = {"kernel": blank.w_x.shape, "recurrent_kernel": blank.w_h.shape}
    if inside.bias:
        twice = isinstance(inside, GRU) and inside.reset_after
        shapes["bias"] = (2, *blank.b.shape) if twice else blank.b.shape
    return shapes


def _order(cell: Cell) -> tuple[str, ...]:
    return ("z", "r", "n") if isinstance(cell, GRU) else cell.gates
