"""Translation: a sentence in, another in another language out, by encoder, attention and decoder.

    python -m experiments.translation

learns to read German numbers letter by letter and to say them in English words (needs no download). `attention.png` shows where
each word looked: German puts units before tens. Multi30k, German to English, with attention and without:

    python -m experiments.translation --data multi30k
    python -m experiments.translation --data multi30k --attention none

What was trained translates: `python -m experiments.translation translate --run DIR "Ein Mann ..."`, with `--beams` and
`--attention FILE.png`. Your own sentences: `--files SOURCE TARGET`, a sentence a line.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import jrnn
from experiments.common import supervised
from experiments.common.command import command
from experiments.common.options import Count, Limit, Share
from experiments.common.recurrent import Cell, RecurrentConfig, recurrent
from experiments.common.run import Run, Trained, console, open_finished
from experiments.data import parallel
from experiments.translations import pictures, scores
from jrnn import attention
from jrnn.data import Vocabulary, batch_axes, bucketed
from jrnn.decode import Beams, beam_search
from jrnn.models import Decoder, EncoderDecoder

NAME = "translation"
VOCABULARIES = "vocabularies.json"
START, END = 2, 3
UNKNOWN = 1
TARGETS = {("numbers", True): 99.0, ("multi30k", True): 28.0, ("multi30k", False): 20.0}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RecurrentConfig, supervised.TrainingConfig):
    """Train a translator."""

    data: parallel.Data = "numbers"
    """Numbers in words, or descriptions of pictures (Multi30k)."""
    files: tuple[Path, Path] | None = None
    """A source and a target text with a sentence a line, in place of --data; the last tenth tests, the one before validates."""
    languages: tuple[str, str] = ("de", "en")
    """From which to which, by their codes."""
    attention: Literal["additive", "general", "dot", "none"] = "additive"
    """How the decoder looks back at the source; none: it is told the encoder's end alone, at every step."""
    cell: Cell = "gru"
    hidden: Count | None = None
    """Units of the decoder, and of the encoder in each direction; by default 128 for numbers and 256 else."""
    embedding: Count | None = None
    """Size of the vector of a token; by default 64 for numbers and 256 else."""
    dropout: Share | None = None
    """Share of features dropped around layers; by default 0.1 for numbers and 0.4 else."""
    sampling: Share = 0.0
    """Share of tokens that the decoder is given of its own in training, at the end; it grows from 0 (Bengio et al. 2015)."""
    rare: Annotated[int, Limit("at least 1", lambda value: value >= 1)] = 2
    """Words seen less often in training are unknown."""
    beams: Count = 5
    """Hypotheses that are kept while translating."""
    batch: Count = 64
    epochs: Count | None = None
    """Passes over the training data; by default 3 for numbers and 12 else."""

    SMOKE: ClassVar[dict[str, Any]] = {"hidden": 12, "embedding": 8, "epochs": 1}

    def resolved(self) -> Self:
        numbers = self.data == "numbers" and self.files is None
        own = (
            {"hidden": 128, "embedding": 64, "dropout": 0.1, "epochs": 3}
            if numbers
            else {"hidden": 256, "embedding": 256, "dropout": 0.4, "epochs": 12}
        )
        missing = {name: value for name, value in own.items() if getattr(self, name) is None}
        return dataclasses.replace(self, **missing)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Translate(Trained):
    """Translate sentences with a trained model."""

    sentences: tyro.conf.Positional[tuple[str, ...]]
    """In the source language."""
    beams: Count | None = None
    """Show so many hypotheses of each, and keep as many while searching."""
    attention: Path | None = None
    """Write a picture of where each word looked."""
    tree: Path | None = None
    """Write a picture of the hypotheses of the first sentence."""


class Pair(NamedTuple):
    """A sentence and its translation."""

    source: np.ndarray  # int32 [source]
    target: np.ndarray  # int32 [target], from the start token to the end token
    length: np.ndarray  # int32 []: of the target


def build(config: Config, sizes: tuple[int, int]) -> EncoderDecoder:
    """Layers in both directions; a decoder that attends in its first layer, over tied embeddings."""
    size, hidden = config.embedding or 0, config.hidden or 0
    stack = config.make_stack(size, both_ways=True, dropout_before=True)
    encoder = jrnn.Layered((jrnn.Embedding(sizes[0], size), *stack))
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
    dropout = jrnn.Dropout(config.dropout or 0.0)
    layers: list[jrnn.Layer] = [dropout, recurrent(first), dropout]
    for _ in range(config.layers - 1):
        layers += [config.make_layer(layers[-2].output_size or 0), dropout]
    layers += [jrnn.Dense(layers[-2].output_size or 0, size), dropout]
    ways: Any = ("state", "input") if config.attention == "none" else ("state",)
    decoder = Decoder(sizes[1], jrnn.Layered(tuple(layers)), summary_size=summary, ways=ways, tied=True)
    return EncoderDecoder(encoder, decoder)


def vocabularies(config: Config, train: parallel.Pairs) -> tuple[Vocabulary, Vocabulary]:
    """Of both sides, with start and end."""

    def one(sentences: Sequence[Sequence[str]]) -> Vocabulary:
        known = Vocabulary.build(sentences, min_count=config.rare).tokens
        return Vocabulary((*known[:2], "<start>", "<end>", *known[2:]))

    return one(train.sources), one(train.targets)


def examples(pairs: parallel.Pairs, vocabulary: tuple[Vocabulary, Vocabulary]) -> list[Pair]:
    """As integers."""
    sides = zip(pairs.sources, pairs.targets, strict=True)
    targets = [(vocabulary[0].encode(source), vocabulary[1].encode(target)) for source, target in sides]
    return [Pair(a, np.array([START, *b, END], np.int32), np.array(len(b) + 2, np.int32)) for a, b in targets]


def make_loss(model: EncoderDecoder, config: Config, steps: int) -> Any:
    """Cross-entropy of each target token; rows that fill up a batch do not count."""

    def loss(params: Any, carry: Any, batch: Any, key: jax.Array | None) -> tuple[Any, Any]:
        lengths = jnp.where(batch.lengths > 0, batch.data.length, 0)
        options: Any = {"source_lengths": batch.lengths, "lengths": lengths, "key": key}
        if config.sampling and key is not None:
            options["sampling"] = config.sampling * jnp.minimum(carry[0] / steps, 1)
        return model.loss(params, batch.data.source, batch.data.target, **options), carry + (
            0.0 if key is None else 1.0
        )

    return loss


class Translator:
    """Finds the likeliest translations, and where each token of one looked."""

    def __init__(self, model: EncoderDecoder, params: Any, config: Config, vocabulary: tuple[Vocabulary, Vocabulary]):
        self.model, self.params, self.config, self.vocabulary = model, params, config, vocabulary
        self._search = jax.jit(self._searched, static_argnames=("width", "best"))
        self._look = jax.jit(
            lambda params, source, lengths, tokens: model.weights(params, source, tokens, source_lengths=lengths)
        )

    def _searched(self, params: Any, source: jax.Array, lengths: jax.Array, width: int, best: int) -> Beams:
        state, step = self.model.start(params, source, lengths=lengths)
        first = jnp.full(lengths.shape, START)
        options: Any = {"end": END, "min_length": 1, "forbidden": (0, START), "length_penalty": 1.0}
        return beam_search(step, state, first, length=self._longest(len(source)), width=width, best=best, **options)

    def _longest(self, source: int) -> int:
        """Tokens of a translation at most."""
        return 2 * source + 10 if self.config.data == "multi30k" or self.config.files else 20

    def translate(
        self, sources: Sequence[Sequence[str]], *, beams: int, best: int = 1
    ) -> list[list[tuple[list[str], float]]]:
        """The `best` translations of each, as tokens with their scores; a word that is unknown is the source's it looked at."""
        found: dict[int, list[tuple[list[str], float]]] = {}
        encoded = [self.vocabulary[0].encode(source) for source in sources]
        for batch in bucketed(encoded, batch=min(100, len(encoded)), shapes=2):
            result = jax.tree.map(np.asarray, self._search(self.params, batch.data, batch.lengths, beams, best))
            for row, place in enumerate(batch.places):
                if place >= 0:
                    kept = [n for n in range(best) if result.lengths[row, n]]
                    tokens = [result.tokens[: result.lengths[row, n], row, n] for n in kept]
                    said = [self._words(sources[int(place)], encoded[int(place)], one) for one in tokens]
                    found[int(place)] = list(zip(said, result.scores[row, kept].tolist(), strict=True))
        return [found[place] for place in range(len(sources))]

    def weights(self, source: np.ndarray, target: np.ndarray) -> np.ndarray | None:
        """[target, source]; None without attention."""
        if not self.model.decoder.layer.takes_context:
            return None
        time, most = -(-len(source) // 16) * 16, -(-len(target) // 16) * 16  # few shapes to compile
        tokens = np.concatenate([[START], target[:-1]]).astype(np.int32)
        padded = np.pad(source, (0, time - len(source)))[:, None], np.pad(tokens, (0, most - len(target)))[:, None]
        (found,) = self._look(self.params, padded[0], np.array([len(source)], np.int32), padded[1])
        return np.asarray(found)[: len(target), 0, : len(source)]

    def _words(self, source: Sequence[str], encoded: np.ndarray, tokens: np.ndarray) -> list[str]:
        words = self.vocabulary[1].decode(tokens)
        looked = self.weights(encoded, tokens) if UNKNOWN in tokens else None
        if looked is not None:
            words = [str(source[looked[i].argmax()]) if tokens[i] == UNKNOWN else word for i, word in enumerate(words)]
        return words[: -1 if tokens[-1] == END else None]


def train(run: Run, config: Config) -> None:
    """Train, translate the test part with the best checkpoint, write result.json and the picture."""
    corpus = parallel.load(config.data, config.languages, files=config.files, data_dir=config.data_dir)
    if config.smoke:
        corpus = parallel.first(corpus, 100)
    vocabulary = vocabularies(config, corpus.train)
    model = build(config, (len(vocabulary[0]), len(vocabulary[1])))
    parts = {part: examples(getattr(corpus, part), vocabulary) for part in ("train", "valid")}
    run.start({VOCABULARIES: [one.tokens for one in vocabulary]})
    console.print(
        f"{corpus.name}: {len(parts['train']):,} pairs to train on, {len(parts['valid']):,} held out, {len(corpus.test.sources):,} "
        f"to test; {len(vocabulary[0]):,} and {len(vocabulary[1]):,} tokens"
    )
    by: Any = lambda pair: len(pair.source)  # noqa: E731
    shapes = 1 if config.smoke else 4
    batches = bucketed(parts["train"], batch=config.batch, shapes=shapes, seed=config.seed, by=by)
    loss = make_loss(model, config, (config.epochs or 0) * len(batches))
    axes = batch_axes(parts["train"][0])
    carry: Any = lambda params: jnp.zeros(config.batch)  # noqa: E731
    valid = list(bucketed(parts["valid"], batch=config.batch, shapes=min(shapes, 2), by=by))
    best, fitted = supervised.train(
        run,
        config,
        params=model.init(jax.random.key(config.seed)),
        loss=loss,
        carry=carry,
        batches=batches,
        batch_axes=axes,
        evaluate=supervised.mean_loss(loss, valid, batch_axes=axes, carry=carry),
        unit="nats per token",
    )
    translator = Translator(model, best, config, vocabulary)
    words = config.data != "numbers" or config.files is not None
    found = [one[0][0] if one else [] for one in translator.translate(corpus.test.sources, beams=config.beams)]
    join = parallel.tokenisers(config.data, config.languages, files=config.files is not None)[1].join
    # Numbers are scored as they are read: in words, without the hyphens and commas of their spelling.
    references = corpus.test.texts[1] if words else [join(one) for one in corpus.test.targets]
    result = scores.bleu(found, corpus.test.targets, [join(one) for one in found], references)
    result["exact"] = 100 * scores.exact(found, corpus.test.targets)
    number = result["tokenised"] if words else result["exact"]
    target = None if config.files or config.smoke else TARGETS.get((config.data, config.attention != "none"))
    beside = "" if target is None else f"; target {target} {'reached' if number >= target else 'NOT reached'}"
    text = (
        f"test: {result['exact']:.2f} % exactly right, BLEU {result['tokenised']:.2f} tokenised in lower case, "
        f"{result['default']:.2f} as sacrebleu has it{beside}"
    )
    show(run.directory / "attention.png", translator, corpus.test.sources)
    supervised.finish(run, fitted, text, metrics={"test": result}, floors={})


def show(path: Path, translator: Translator, sources: Sequence[Sequence[str]]) -> None:
    """The picture: four sentences of middling length, and where each of their words looked."""
    lengths = sorted(range(len(sources)), key=lambda place: len(sources[place]))
    chosen = [sources[place] for place in lengths[len(lengths) // 2 :: max(len(lengths) // 10, 1)][:4]]
    drawn = list(looked(translator, chosen))
    if drawn:
        pictures.attention(path, drawn)


def looked(translator: Translator, sources: Sequence[Sequence[str]]) -> Any:
    """(source, target, weights) of each, where the model attends."""
    for source, one in zip(sources, translator.translate(sources, beams=translator.config.beams), strict=True):
        words = [*(one[0][0] if one else []), "<end>"]
        tokens = translator.vocabulary[1].encode(words)
        weights = translator.weights(translator.vocabulary[0].encode(source), tokens)
        if weights is not None:
            yield list(source), words, weights


def translate(options: Translate) -> None:
    """Print translations, with their hypotheses if wanted."""
    run, config = open_finished(options.run, NAME, Config)
    vocabulary: Any = tuple(Vocabulary(tuple(tokens)) for tokens in run.read(VOCABULARIES))
    model = build(config, (len(vocabulary[0]), len(vocabulary[1])))
    carry: Any = lambda params: jnp.zeros(config.batch)  # noqa: E731
    params = supervised.restore(run, model.init(jax.random.key(0)), carry=carry)
    cut, glue = parallel.tokenisers(config.data, config.languages, files=config.files is not None)
    sources = [cut.split(sentence.lower().strip()) for sentence in options.sentences]
    if empty := [place for place, source in enumerate(sources) if not source]:
        raise ValueError(f"sentence {empty[0] + 1} is empty; expected at least one word")
    translator = Translator(model, params, config, vocabulary)
    width = max(options.beams or 0, config.beams)
    for source, found in zip(sources, translator.translate(sources, beams=width, best=options.beams or 1), strict=True):
        unknown = [word for word in source if word not in vocabulary[0]]
        if unknown:
            console.print(f"never seen in training: {' '.join(dict.fromkeys(unknown))}", style="dim", markup=False)
        for words, score in found:
            console.print(f"{score:7.3f}  {glue.join(words)}" if options.beams else glue.join(words), markup=False)
        if options.tree and source is sources[0]:
            pictures.beams(options.tree, found)
    if options.attention:
        drawn = list(looked(translator, sources))
        if not drawn:
            raise ValueError(f"--attention {options.attention}: {options.run} was trained with --attention none")
        pictures.attention(options.attention, drawn)


main = command(NAME, Config, train, also={"translate": (Translate, translate)})

if __name__ == "__main__":
    main()
