"""rnn: stacks as PyTorch builds them."""

from typing import Any

from ..cell import Cell
from ..checks import check_positive
from ..engines import Engine, Scan
from .base import Layer
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
    engine: Engine = Scan(),  # noqa: B008, frozen
    **options: Any,
) -> Layered:
    """A stack as PyTorch's `nn.RNN`, `nn.LSTM`, `nn.GRU` build it: each layer feeds the next, dropout between layers.

    `cell` is a class such as `jrnn.LSTM`; `options` go to each of its cells. With `bidirectional`, each layer after the first
    reads both directions of the layer before it.
    """
    check_positive("rnn", input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
    layers: list[Layer] = []
    for index in range(num_layers):
        if index and dropout:
            layers.append(Dropout(dropout))
        one = cell(input_size, hidden_size, **options)  # type: ignore[call-arg]
        layer: Layer = Recurrent(one, engine=engine)
        if bidirectional:
            layer = Bidirectional(forward=layer, backward=Recurrent(one, reverse=True, engine=engine))
        layers.append(layer)
        input_size = layer.output_size or input_size
    return Layered(tuple(layers))
