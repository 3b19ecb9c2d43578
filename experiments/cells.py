"""Cells by the name that --cell takes: functions of input size and hidden size."""

import jrnn

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
