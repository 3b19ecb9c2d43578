"""Data: tokens as integers, and sequences of unequal lengths as batches of few shapes (needs grain: `pip install 'jrnn[data]'`)."""

from .batches import Batch as Batch
from .batches import batch_axes as batch_axes
from .batches import bucketed as bucketed
from .packing import Packed as Packed
from .packing import packed as packed
from .vocabulary import Vocabulary as Vocabulary
