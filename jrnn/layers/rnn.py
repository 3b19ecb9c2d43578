"""rnn: stacks as PyTorch builds them."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

from ..arrays import feature_shape
from ..cell import Cell
from ..checks import check_positive, check_switches
from ..engines import Engine, Scan
from .base import Layer
from .batch_first import BatchFirst
from .bidirectional import Bidirectional
from .dropout import Dropout
from .layered import Layered
from .recurrent import Recurrent


def rnn(
    cell: type[Cell] | Callable[..., Cell],
    *,
    input_size: int | tuple[int, ...],
    hidden_size: int,
    num_layers: int = 1,
    bidirectional: bool = False,
    dropout: float = 0.0,
    batch_first: bool = False,
    engine: Engine = Scan(),  # noqa: B008, frozen
    **options: Any,
) -> Layer:
    """A stack as PyTorch's `nn.RNN`, `nn.LSTM`, `nn.GRU` build it: each layer feeds the next, dropout between layers.

    `cell` is a class such as `jrnn.LSTM`, or a function that makes a cell, such as `jrnn.ConvLSTM`, of `input_size` and
    `hidden_size`; `options` go to each. With `bidirectional`, each layer after the first
    reads both directions of the layer before it. The stack is a `Layered`; with `batch_first`, which is of arrays
    [batch, time, features], a `BatchFirst` of one.
    """
    _check_class(cell, options)
    for size in feature_shape(input_size):
        check_positive("rnn", input_size=size)
    check_positive("rnn", hidden_size=hidden_size, num_layers=num_layers)
    check_switches("rnn", bidirectional=bidirectional, batch_first=batch_first)
    between = Dropout(dropout)
    layers: list[Layer] = []
    for index in range(num_layers):
        if index and dropout:
            layers.append(between)
        one: Any = cell(input_size, hidden_size, **options)  # type: ignore[call-arg]
        layer: Layer = Recurrent(one, engine=engine)
        if bidirectional:
            layer = Bidirectional(forward=layer, backward=Recurrent(one, reverse=True, engine=engine))
        layers.append(layer)
        input_size = layer.output_size or input_size
    stack = Layered(tuple(layers))
    return BatchFirst(stack) if batch_first else stack


def _check_class(cell: Any, options: dict[str, Any]) -> None:
    """`cell` is a class of cells, or a function that makes some, that has these options."""
    known = list(inspect.signature(cell).parameters) if inspect.isfunction(cell) else []
    if isinstance(cell, type) and issubclass(cell, Cell):
        known = [field.name for field in dataclasses.fields(cell)]  # type: ignore[arg-type]
    if len(known) < 2 or (inspect.isfunction(cell) and known[:2] != ["input_size", "hidden_size"]):
        instead = (
            f": rnn({type(cell).__name__}, ...), or Recurrent(cell) for one layer of it"
            if isinstance(cell, Cell)
            else ""
        )
        raise TypeError(f"rnn: cell is {cell!r}; expected a class of cells such as jrnn.LSTM{instead}")
    for name in options:
        if name not in known[2:]:
            raise TypeError(f"rnn: {cell.__name__} has no option {name}; expected any of {', '.join(known[2:])}")
