"""Inputs and layers for modules of Flax, linen's and NNX's."""

import jax.numpy as jnp
import numpy as np
from cases import normal

import jrnn

BATCH, TIME, INPUT, HIDDEN = 3, 6, 4, 5
X = normal(0, BATCH, TIME, INPUT)
LENGTHS = jnp.array([6, 2, 4])
REAL = np.arange(TIME) < np.asarray(LENGTHS)[:, None]
STACK = jrnn.rnn(jrnn.GRU, input_size=INPUT, hidden_size=HIDDEN, num_layers=2, bidirectional=True)
DROPOUT = jrnn.rnn(jrnn.LSTM, input_size=INPUT, hidden_size=HIDDEN, num_layers=2, dropout=0.5)
DONE = jnp.array([[1, 0, 0, 1, 0, 0], [0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 1]], bool)
HELD = jnp.array([[1, 1, 0, 1, 1, 0], [0, 1, 1, 1, 1, 1], [1, 0, 0, 1, 0, 1]], bool)  # not a step where False


def hidden_first(carry):
    """Flax's carry of an LSTM is (c, h)."""
    return jrnn.cells.lstm.LSTMState(h=carry[1], c=carry[0])
