"""Layers: from sequence to sequence, one a file; a stack of causal ones also runs one `step` at a time."""

from .base import Layer as Layer
from .bidirectional import Bidirectional as Bidirectional
from .bidirectional import Directions as Directions
from .dropout import Dropout as Dropout
from .embedding import Embedding as Embedding
from .embedding import EmbeddingParams as EmbeddingParams
from .embedding import OneHot as OneHot
from .embedding import Spelled as Spelled
from .embedding import SpelledParams as SpelledParams
from .embedding import WordsAndCharacters as WordsAndCharacters
from .embedding import pretrained as pretrained
from .layered import Layered as Layered
from .recurrent import Recurrent as Recurrent
from .residual import Residual as Residual
from .rnn import rnn as rnn
