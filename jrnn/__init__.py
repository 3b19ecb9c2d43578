"""jrnn: recurrent networks as pure functions in JAX."""

from . import initializers as initializers
from . import pooling as pooling
from .cell import Cell as Cell
from .cells import CTRNN as CTRNN
from .cells import GRU as GRU
from .cells import LSTM as LSTM
from .cells import Elman as Elman
from .cells import Jordan as Jordan
from .cells import PeepholeLSTM as PeepholeLSTM
from .cells import ProjectedLSTM as ProjectedLSTM
from .embeddings import Embedding as Embedding
from .embeddings import OneHot as OneHot
from .embeddings import WordsAndCharacters as WordsAndCharacters
from .engines import Autodiff as Autodiff
from .engines import Checkpointed as Checkpointed
from .engines import Engine as Engine
from .engines import LinearSolve as LinearSolve
from .engines import Scan as Scan
from .layers import Bidirectional as Bidirectional
from .layers import Dropout as Dropout
from .layers import Layer as Layer
from .layers import Layered as Layered
from .layers import Recurrent as Recurrent
from .layers import Residual as Residual
from .layers import rnn as rnn
from .unroll import unroll as unroll
