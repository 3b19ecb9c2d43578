"""Options of recurrent layers and the layers they stand for; cells and poolings by name."""

import dataclasses
from typing import TYPE_CHECKING, Literal, TypeAlias

import jrnn
from experiments.common.options import Count, Rate
from jrnn import pooling

# Functions of input size and hidden size.
CELLS = {
    "elman": jrnn.Elman,
    "irnn": lambda inputs, hidden: jrnn.Elman(inputs, hidden, activation="relu"),
    "jordan": lambda inputs, hidden: jrnn.Jordan(inputs, hidden, hidden, output_activation="tanh"),
    "lstm": jrnn.LSTM,
    "peephole-lstm": jrnn.PeepholeLSTM,
    "projected-lstm": lambda inputs, hidden: jrnn.ProjectedLSTM(inputs, hidden, max(hidden // 2, 1)),
    "gru": jrnn.GRU,
    "gru-reset-before": lambda inputs, hidden: jrnn.GRU(inputs, hidden, reset_after=False),
    "ctrnn": lambda inputs, hidden: jrnn.CTRNN(inputs, hidden, tau=4.0, learn_tau=True),
}

# Functions of the hidden size, for `Classifier`; None is the output at the end of the run.
POOLINGS = {
    "last": lambda hidden: None,
    "mean": lambda hidden: pooling.Mean(),
    "max": lambda hidden: pooling.Max(),
    "attention": pooling.Attention,
}

# Types of options.
if TYPE_CHECKING:
    Cell: TypeAlias = str
    Pooling: TypeAlias = str
else:
    Cell, Pooling = Literal[tuple(CELLS)], Literal[tuple(POOLINGS)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellConfig:
    """Options of one recurrent layer, to mix into a config."""

    cell: Cell = "lstm"
    """The recurrent cell."""
    hidden: Count = 128
    """Units in each layer and direction."""
    dropout: Rate = 0.0
    """Share of features dropped."""

    def make_cell(self, inputs: int, hidden: int | None = None) -> jrnn.Cell:
        """The cell, of `hidden` units where that is given."""
        return CELLS[self.cell](inputs, hidden or self.hidden)

    def make_layer(self, inputs: int, hidden: int | None = None, *, both_ways: bool = False) -> jrnn.Layer:
        """A layer of such cells, or one in each direction."""
        return recurrent(self.make_cell(inputs, hidden), both_ways=both_ways)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecurrentConfig(CellConfig):
    """Options of a stack of recurrent layers, to mix into a config."""

    layers: Count = 1
    """Recurrent layers, one on top of the other."""

    def make_stack(
        self, inputs: int, *, both_ways: bool = False, dropout_before: bool = False, variational: bool = False
    ) -> tuple[jrnn.Layer, ...]:
        """The layers with dropout after each and, with `dropout_before`, before the first: `jrnn.Layered(stack)`.

        `variational`: what is dropped is the same at every step (Gal & Ghahramani 2016).
        """
        dropout = jrnn.Dropout(self.dropout, variational=variational)
        stack: list[jrnn.Layer] = [dropout] if dropout_before else []
        for _ in range(self.layers):
            layer = self.make_layer(inputs, both_ways=both_ways)
            stack += [layer, dropout]
            inputs = layer.output_size or 0
        return tuple(stack)

    def make_decoder_stack(self, first: jrnn.Cell, size: int) -> jrnn.Layered:
        """Layers with dropout around each and vectors of `size`, as those of the tokens, at the end; `first`, a cell that may
        attend, is that of the first."""
        dropout = jrnn.Dropout(self.dropout)
        layers: list[jrnn.Layer] = [dropout, recurrent(first), dropout]
        for _ in range(self.layers - 1):
            layers += [self.make_layer(layers[-2].output_size or 0), dropout]
        return jrnn.Layered((*layers, jrnn.Dense(layers[-2].output_size or 0, size), dropout))


def recurrent(cell: jrnn.Cell, *, both_ways: bool = False) -> jrnn.Layer:
    """A layer of `cell`, or one in each direction."""
    layer = jrnn.Recurrent(cell)
    return jrnn.Bidirectional(layer, jrnn.Recurrent(cell, reverse=True)) if both_ways else layer
