"""rnn: stacks as PyTorch builds them."""

import dataclasses
from typing import Any

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
    cell: type[Cell],
    *,
    input_size: int,
    hidden_size: int,
    num_layers: int = 1,
    bidirectional: bool = False,
    dropout: float = 0.0,
    batch_first: bool = False,
    engine: Engine = Scan(),  # noqa: B008, frozen
    **options: Any,
) -> Layer:
    """A stack as PyTorch's `nn.RNN`, `nn.LSTM`, `nn.GRU` build it: each layer feeds the next, dropout between layers.

    `cell` is a class such as `jrnn.LSTM`; `options` go to each of its cells. With `bidirectional`, each layer after the first
    reads both directions of the layer before it. The stack is a `Layered`; with `batch_first`, which is of arrays
    [batch, time, features], a `BatchFirst` of one.
    """
    _check_class(cell, options)
    check_positive("rnn", input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
    check_switches("rnn", bidirectional=bidirectional, batch_first=batch_first)
    between = Dropout(dropout)
    layers: list[Layer] = []
    for index in range(num_layers):
        if index and dropout:
            layers.append(between)
        one = cell(input_size, hidden_size, **options)  # type: ignore[call-arg]
        layer: Layer = Recurrent(one, engine=engine)
        if bidirectional:
            layer = Bidirectional(forward=layer, backward=Recurrent(one, reverse=True, engine=engine))
        layers.append(layer)
        input_size = layer.output_size or input_size
    stack = Layered(tuple(layers))
    return BatchFirst(stack) if batch_first else stack


def _check_class(cell: Any, options: dict[str, Any]) -> None:
    """`cell` is a class of cells that has these options."""
    if not isinstance(cell, type) or not issubclass(cell, Cell):
        instead = (
            f": rnn({type(cell).__name__}, ...), or Recurrent(cell) for one layer of it"
            if isinstance(cell, Cell)
            else ""
        )
        raise TypeError(f"rnn: cell is {cell!r}; expected a class of cells such as jrnn.LSTM{instead}")
    known = [field.name for field in dataclasses.fields(cell)][2:]  # type: ignore[arg-type]
    for name in options:
        if name not in known:
            raise TypeError(f"rnn: {cell.__name__} has no option {name}; expected any of {', '.join(known)}")
