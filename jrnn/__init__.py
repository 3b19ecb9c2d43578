"""jrnn: recurrent networks as pure functions in JAX.

A cell is a small pure function of one time step, in four pieces (`Cell`); `unroll` runs it over a sequence; layers (`Recurrent`,
`Bidirectional`, `Layered`, `rnn`) go from sequence to sequence. Parameters and states are named tuples of arrays, so `jax.grad`,
`jax.vmap`, `jax.jit` and `jax.shard_map` do the rest.

An engine says how the states of an unroll are found and how they are differentiated. All give the same numbers:

- `Scan()`, the default, runs a loop over time. Most of a step does not depend on the state: `project` and `readout` run for
  all times at once, outside the loop. Its derivative is `LinearSolve()`: the tangents of the states obey a linear recurrence.
  Solved step by step from the end, that is back-propagation through time; the gradients of the weights follow by one large
  product for each.
- `Scan(gradient=LinearSolve(save="states"))` keeps the states alone between the passes, and makes the rest again.
- `Scan(gradient=Checkpointed())` keeps a state now and then, for the longest sequences.
- `Scan(gradient=Autodiff())` is a plain `jax.lax.scan`: slower, and what the others are checked against.

`jrnn.engines` says how they are built, and how another is.
"""

from . import activations as activations
from . import attention as attention
from . import initializers as initializers
from . import online as online
from . import parametrizations as parametrizations
from . import pooling as pooling
from .cell import Bound as Bound
from .cell import Cell as Cell
from .cells import CTRNN as CTRNN
from .cells import GRU as GRU
from .cells import LSTM as LSTM
from .cells import AttentionAfter as AttentionAfter
from .cells import AttentionAfterParams as AttentionAfterParams
from .cells import AttentionBefore as AttentionBefore
from .cells import AttentionBeforeParams as AttentionBeforeParams
from .cells import AttentionState as AttentionState
from .cells import ConvGRU as ConvGRU
from .cells import ConvLSTM as ConvLSTM
from .cells import Convolutional as Convolutional
from .cells import CoupledLSTM as CoupledLSTM
from .cells import CoupledLSTMParams as CoupledLSTMParams
from .cells import CTRNNParams as CTRNNParams
from .cells import CTRNNState as CTRNNState
from .cells import Elman as Elman
from .cells import ElmanParams as ElmanParams
from .cells import ElmanState as ElmanState
from .cells import GRUParams as GRUParams
from .cells import GRUState as GRUState
from .cells import Jordan as Jordan
from .cells import JordanParams as JordanParams
from .cells import JordanState as JordanState
from .cells import LearnedState as LearnedState
from .cells import LearnedStateParams as LearnedStateParams
from .cells import LSTMParams as LSTMParams
from .cells import LSTMState as LSTMState
from .cells import Parametrized as Parametrized
from .cells import PeepholeLSTM as PeepholeLSTM
from .cells import PeepholeLSTMParams as PeepholeLSTMParams
from .cells import ProjectedLSTM as ProjectedLSTM
from .cells import ProjectedLSTMParams as ProjectedLSTMParams
from .cells import ProjectedLSTMState as ProjectedLSTMState
from .cells import RecurrentDropout as RecurrentDropout
from .cells import RecurrentDropoutState as RecurrentDropoutState
from .cells import Zoneout as Zoneout
from .cells import ZoneoutState as ZoneoutState
from .engines import Autodiff as Autodiff
from .engines import Checkpointed as Checkpointed
from .engines import Engine as Engine
from .engines import LinearSolve as LinearSolve
from .engines import Scan as Scan
from .layers import BatchFirst as BatchFirst
from .layers import Bidirectional as Bidirectional
from .layers import Dense as Dense
from .layers import DenseParams as DenseParams
from .layers import Directions as Directions
from .layers import Dropout as Dropout
from .layers import Embedding as Embedding
from .layers import EmbeddingParams as EmbeddingParams
from .layers import Layer as Layer
from .layers import Layered as Layered
from .layers import LayerNorm as LayerNorm
from .layers import LayerNormParams as LayerNormParams
from .layers import OneHot as OneHot
from .layers import Recurrent as Recurrent
from .layers import Residual as Residual
from .layers import Spelled as Spelled
from .layers import SpelledParams as SpelledParams
from .layers import WordsAndCharacters as WordsAndCharacters
from .layers import rnn as rnn
from .unroll import unroll as unroll

__version__ = "0.1.0"
