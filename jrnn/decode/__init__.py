"""Decoding, over any step function and state: draw tokens, write by feeding each back, search for the likeliest sequences.

A step is `step(state, token) -> (state, logits)`, as `LanguageModel.step` or what `EncoderDecoder.start` gives, with tokens
[*batch] and logits [*batch, vocabulary]. States may be any pytree of arrays [*batch, ...], typed keys included.

- `draw` takes one token from logits.
- `generate` writes by drawing; greedily with `temperature=0`.
- `beam_search` keeps several hypotheses of each row, and returns the best.
"""

from .beams import Beams as Beams
from .beams import beam_search as beam_search
from .sampling import Written as Written
from .sampling import draw as draw
from .sampling import generate as generate
