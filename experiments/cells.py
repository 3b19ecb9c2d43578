"""Cells and poolings by the names that --cell and --pooling take."""

import jrnn
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
