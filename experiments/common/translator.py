"""A sequence in, another out: pairs as integers, encoder and decoder by their options, the search for the likeliest outputs."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jrnn
from experiments.common.options import Count
from experiments.common.recurrent import RecurrentConfig
from experiments.common.supervised import bucketed
from jrnn import attention
from jrnn.data import Vocabulary
from jrnn.decode import Beams, beam_search
from jrnn.losses import Mean
from jrnn.models import Decoder, EncoderDecoder

PADDING, UNKNOWN, START, END = range(4)
Vocabularies = tuple[Vocabulary, Vocabulary]
"""Of the source and of the target."""
Hypothesis = tuple[list[str], float]
"""Tokens without the end token, and their score."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TranslatorConfig(RecurrentConfig):
    """Options of encoder, attention and decoder, to mix into a config."""

    attention: Literal["additive", "general", "dot", "none"] = "additive"
    """How the decoder looks back at the source; none: it is told the encoder's end alone, at every step."""
    embedding: Count = 64
    """Size of the vector of a token."""
    beams: Count = 5
    """Hypotheses that are kept while searching."""


class Pair(NamedTuple):
    """A sequence and its translation."""

    source: np.ndarray  # int32 [source]
    target: np.ndarray  # int32 [target], from the start token to the end token
    length: np.ndarray  # int32 []: of the target


def build(config: TranslatorConfig, vocabularies: Vocabularies) -> EncoderDecoder:
    """Layers in both directions; a decoder that attends in its first layer, over tied embeddings."""
    size, hidden = config.embedding, config.hidden
    layers = config.make_stack(size, both_ways=True, dropout_before=True)
    encoder = jrnn.Layered((jrnn.Embedding(len(vocabularies[0]), size), *layers))
    summary: Any = encoder.output_size
    attentions = {
        "additive": lambda: attention.Additive(hidden, summary, hidden),
        "general": lambda: attention.General(hidden, summary),
        "dot": lambda: attention.Dot(summary),
    }
    inputs = size + summary
    first: jrnn.Cell = config.make_cell(inputs, summary if config.attention == "dot" else hidden)
    if config.attention != "none":
        first = jrnn.AttentionBefore(first, attentions[config.attention]())
    ways: Any = ("state", "input") if config.attention == "none" else ("state",)
    stack = config.make_decoder_stack(first, size)
    decoder = Decoder(len(vocabularies[1]), stack, summary_size=summary, ways=ways, tied=True)
    return EncoderDecoder(encoder, decoder)


def vocabulary(sequences: Sequence[Sequence[str]], *, min_count: int = 1) -> Vocabulary:
    """Of the tokens seen at least `min_count` times, with start and end."""
    known = Vocabulary.build(sequences, min_count=min_count).tokens
    return Vocabulary((*known[:2], "<start>", "<end>", *known[2:]))


def examples(
    sources: Sequence[Sequence[str]], targets: Sequence[Sequence[str]], vocabularies: Vocabularies
) -> list[Pair]:
    """As integers."""
    sides = zip(sources, targets, strict=True)
    encoded = [(vocabularies[0].encode(source), vocabularies[1].encode(target)) for source, target in sides]
    return [Pair(a, np.array([START, *b, END], np.int32), np.array(len(b) + 2, np.int32)) for a, b in encoded]


def batched(pairs: Sequence[Pair], *, batch: int, shapes: int, seed: int | None = None) -> Any:
    """`bucketed`, by the length of the source."""
    return bucketed(pairs, batch=batch, shapes=shapes, seed=seed, by=lambda pair: len(pair.source))


def pair_loss(model: EncoderDecoder, params: Any, batch: Any, key: jax.Array | None, **options: Any) -> Mean:
    """Cross-entropy of each target token; rows that fill up a batch do not count."""
    lengths = jnp.where(batch.lengths > 0, batch.data.length, 0)
    about: Any = {"source_lengths": batch.lengths, "lengths": lengths, "key": key}
    return model.loss(params, batch.data.source, batch.data.target, **about, **options)


@dataclasses.dataclass(frozen=True)
class Translator:
    """Finds the likeliest outputs, and where each token of one looked.

    `longest(source)`: tokens of the output at most, of that many of the source. `forbidden` ones are never written.
    """

    model: EncoderDecoder
    vocabularies: Vocabularies
    longest: Callable[[int], int]
    forbidden: tuple[int, ...] = (PADDING, START)

    def translate(
        self, params: Any, sources: Sequence[Sequence[str]], *, beams: int, best: int = 1, batch: int = 100
    ) -> list[list[Hypothesis]]:
        """The `best` outputs of each, the best first; a token that is unknown is the source's it looked at."""
        found: dict[int, list[Hypothesis]] = {}
        encoded = [self.vocabularies[0].encode(source) for source in sources]
        few = len(encoded) <= batch  # one shape to compile
        for rows in bucketed(encoded, batch=len(encoded) if few else batch, shapes=1 if few else 2):
            result = jax.tree.map(np.asarray, self._search(params, rows.data, rows.lengths, beams, best))
            for row, place in enumerate(rows.places):
                if place >= 0:
                    kept = [n for n in range(best) if result.lengths[row, n]]
                    tokens = [result.tokens[: result.lengths[row, n], row, n] for n in kept]
                    written = [self._written(params, sources[int(place)], encoded[int(place)], one) for one in tokens]
                    found[int(place)] = list(zip(written, result.scores[row, kept].tolist(), strict=True))
        return [found[place] for place in range(len(sources))]

    def looked(
        self, params: Any, sources: Sequence[Sequence[str]], targets: Sequence[Sequence[str]]
    ) -> Iterator[tuple[list[str], list[str], np.ndarray]]:
        """(source, target with its end, weights [target, source]) of each, where the model attends."""
        for source, written in zip(sources, targets, strict=True):
            target = [*written, "<end>"]
            encoded = self.vocabularies[0].encode(source), self.vocabularies[1].encode(target)
            weights = self.weights(params, *encoded)
            if weights is not None:
                yield list(source), target, weights

    def weights(self, params: Any, source: np.ndarray, target: np.ndarray) -> np.ndarray | None:
        """[target, source]; None without attention."""
        if not self.model.decoder.layer.takes_context:
            return None
        time, most = -(-len(source) // 16) * 16, -(-len(target) // 16) * 16  # few shapes to compile
        tokens = np.concatenate([[START], target[:-1]]).astype(np.int32)
        padded = np.pad(source, (0, time - len(source)))[:, None], np.pad(tokens, (0, most - len(target)))[:, None]
        found = self._look(params, padded[0], np.array([len(source)], np.int32), padded[1])
        return np.asarray(found)[: len(target), 0, : len(source)]

    @functools.partial(jax.jit, static_argnames=("self", "beams", "best"))
    def _search(self, params: Any, source: jax.Array, lengths: jax.Array, beams: int, best: int) -> Beams:
        state, step = self.model.start(params, source, lengths=lengths)
        first = jnp.full(lengths.shape, START)
        options: Any = {"end": END, "min_length": 1, "forbidden": self.forbidden, "length_penalty": 1.0}
        return beam_search(step, state, first, length=self.longest(len(source)), width=beams, best=best, **options)

    @functools.partial(jax.jit, static_argnames=("self",))
    def _look(self, params: Any, source: jax.Array, lengths: jax.Array, tokens: jax.Array) -> jax.Array:
        (found,) = self.model.weights(params, source, tokens, source_lengths=lengths)
        return found

    def _written(self, params: Any, source: Sequence[str], encoded: np.ndarray, tokens: np.ndarray) -> list[str]:
        words = self.vocabularies[1].decode(tokens)
        looked = self.weights(params, encoded, tokens) if UNKNOWN in tokens else None
        if looked is not None:
            words = [str(source[looked[i].argmax()]) if tokens[i] == UNKNOWN else word for i, word in enumerate(words)]
        return words[: -1 if tokens[-1] == END else None]


def middling(sources: Sequence[Sequence[str]], count: int = 4) -> list[int]:
    """The places of some of middling length and more, for a picture."""
    lengths = sorted(range(len(sources)), key=lambda place: len(sources[place]))
    return lengths[len(lengths) // 2 :: max(len(lengths) // 10, 1)][:count]
