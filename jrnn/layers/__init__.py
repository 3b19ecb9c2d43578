"""Layers: from sequence to sequence, one a file; a stack of causal ones also runs one `step` at a time."""

from .base import Layer as Layer
from .batch_first import BatchFirst as BatchFirst
from .bidirectional import Bidirectional as Bidirectional
from .bidirectional import Directions as Directions
from .dense import Dense as Dense
from .dense import DenseParams as DenseParams
from .dropout import Dropout as Dropout
from .embedding import Embedding as Embedding
from .embedding import EmbeddingParams as EmbeddingParams
from .embedding import OneHot as OneHot
from .embedding import Spelled as Spelled
from .embedding import SpelledParams as SpelledParams
from .embedding import WordsAndCharacters as WordsAndCharacters
from .embedding import pretrained as pretrained
from .layer_norm import LayerNorm as LayerNorm
from .layer_norm import LayerNormParams as LayerNormParams
from .layered import Layered as Layered
from .recurrent import Recurrent as Recurrent
from .residual import Residual as Residual
from .rnn import rnn as rnn
