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
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import jax
import jax.numpy as jnp
import tyro

from experiments.common import pictures, supervised, text_scores
from experiments.common.command import command
from experiments.common.options import Count, Encoding, Limit, NewFile, Share
from experiments.common.recurrent import Cell
from experiments.common.run import Run, Trained, console, open_finished
from experiments.common.translator import (
    Translator,
    TranslatorConfig,
    Vocabularies,
    batched,
    build,
    examples,
    middling,
    pair_loss,
    vocabulary,
)
from experiments.data import parallel
from experiments.translations import trees
from jrnn.data import Vocabulary, batch_axes
from jrnn.models import EncoderDecoder

NAME = "translation"
VOCABULARIES = "vocabularies.json"
TARGETS = {("numbers", True): 99.0, ("multi30k", True): 28.0, ("multi30k", False): 20.0}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(TranslatorConfig, supervised.TrainingConfig):
    """Train a translator."""

    data: parallel.Data = "numbers"
    """Numbers in words, or descriptions of pictures (Multi30k)."""
    files: tuple[Path, Path] | None = None
    """A source and a target text with a sentence a line, in place of --data; the last tenth tests, the one before validates."""
    encoding: Encoding = "utf-8"
    """Of your own text: latin-1, cp1252 and so on."""
    languages: tuple[str, str] = ("de", "en")
    """From which to which, by their codes."""
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
    batch: Count = 64
    epochs: Count | None = None
    """Passes over the training data; by default 2 for numbers and 12 else."""

    SMOKE: ClassVar[dict[str, Any]] = {"hidden": 12, "embedding": 8, "epochs": 1}

    def resolved(self) -> Self:
        numbers = self.data == "numbers" and self.files is None
        own = (
            {"hidden": 128, "embedding": 64, "dropout": 0.1, "epochs": 2}
            if numbers
            else {"hidden": 256, "embedding": 256, "dropout": 0.4, "epochs": 12}
        )
        return self.filled(own)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Translate(Trained):
    """Translate sentences with a trained model."""

    sentences: tyro.conf.Positional[tuple[str, ...]]
    """In the source language."""
    beams: Count | None = None
    """Show so many hypotheses of each, and keep as many while searching."""
    attention: NewFile | None = None
    """Write a picture of where each word looked."""
    tree: NewFile | None = None
    """Write a picture of the hypotheses of the first sentence."""


def make_loss(model: EncoderDecoder, config: Config, steps: int) -> Any:
    """Cross-entropy of each target token; the carry counts the steps, with which the share of the decoder's own tokens grows."""

    def loss(params: Any, carry: Any, batch: Any, key: jax.Array | None) -> tuple[Any, Any]:
        sampled = bool(config.sampling) and key is not None
        options = {"sampling": config.sampling * jnp.minimum(carry[0] / steps, 1)} if sampled else {}
        return pair_loss(model, params, batch, key, **options), carry + (0.0 if key is None else 1.0)

    return loss


def make_translator(config: Config, vocabularies: Vocabularies) -> Translator:
    def longest(source: int) -> int:
        return 2 * source + 10 if config.data == "multi30k" or config.files else 20

    return Translator(build(config, vocabularies), vocabularies, longest)


def train(run: Run, config: Config) -> None:
    """Train, translate the test part with the best checkpoint, write result.json and the picture."""
    corpus = parallel.load(
        config.data, config.languages, files=config.files, encoding=config.encoding, data_dir=config.data_dir
    )
    if config.smoke:
        corpus = parallel.first(corpus, 100)
    vocabularies = (
        vocabulary(corpus.train.sources, min_count=config.rare),
        vocabulary(corpus.train.targets, min_count=config.rare),
    )
    translator = make_translator(config, vocabularies)
    model = translator.model
    parts = {
        name: examples(part.sources, part.targets, vocabularies)
        for name, part in (("train", corpus.train), ("valid", corpus.valid))
    }
    run.start({VOCABULARIES: [one.tokens for one in vocabularies]})
    console.print(
        f"{corpus.name}: {len(parts['train']):,} pairs to train on, {len(parts['valid']):,} held out, {len(corpus.test.sources):,} "
        f"to test; {len(vocabularies[0]):,} and {len(vocabularies[1]):,} tokens"
    )
    shapes = 1 if config.smoke else 4
    batches = batched(parts["train"], batch=config.batch, shapes=shapes, seed=config.seed)
    loss = make_loss(model, config, (config.epochs or 0) * len(batches))
    axes = batch_axes(parts["train"][0])
    carry: Any = lambda params: jnp.zeros(config.batch)  # noqa: E731
    valid = list(batched(parts["valid"], batch=config.batch, shapes=min(shapes, 2)))
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
    words = config.data != "numbers" or config.files is not None
    found = [one[0][0] if one else [] for one in translator.translate(best, corpus.test.sources, beams=config.beams)]
    join = parallel.tokenisers(config.data, config.languages, files=config.files is not None)[1].join
    # Numbers are scored as they are read: in words, without the hyphens and commas of their spelling.
    references = corpus.test.texts[1] if words else [join(one) for one in corpus.test.targets]
    result = text_scores.bleu(found, corpus.test.targets, [join(one) for one in found], references)
    result["exact"] = 100 * text_scores.exact(found, corpus.test.targets)
    number = result["tokenised"] if words else result["exact"]
    target = None if config.files or config.smoke else TARGETS.get((config.data, config.attention != "none"))
    beside = "" if target is None else f"; target {target} {'reached' if number >= target else 'NOT reached'}"
    text = (
        f"test: {result['exact']:.2f} % exactly right, BLEU {result['tokenised']:.2f} tokenised in lower case, "
        f"{result['default']:.2f} as sacrebleu has it{beside}"
    )
    shown = middling(corpus.test.sources)
    drawn = list(translator.looked(best, [corpus.test.sources[i] for i in shown], [found[i] for i in shown]))
    if drawn:
        pictures.attention(run.directory / "attention.png", drawn)
    supervised.finish(run, fitted, text, metrics={"test": result}, floors={})


def translate(options: Translate) -> None:
    """Print translations, with their hypotheses if wanted."""
    run, config = open_finished(options.run, NAME, Config)
    source, target = (Vocabulary(tuple(tokens)) for tokens in run.read(VOCABULARIES))
    translator = make_translator(config, (source, target))
    carry: Any = lambda params: jnp.zeros(config.batch)  # noqa: E731
    params = supervised.restore(run, translator.model.init(jax.random.key(0)), carry=carry)
    cut, glue = parallel.tokenisers(config.data, config.languages, files=config.files is not None)
    sources = [cut.split(sentence.lower().strip()) for sentence in options.sentences]
    if empty := [place for place, sentence in enumerate(sources) if not sentence]:
        raise ValueError(f"sentence {empty[0] + 1} is empty; expected at least one word")
    width = max(options.beams or 0, config.beams)
    translations = translator.translate(params, sources, beams=width, best=options.beams or 1)
    for sentence, found in zip(sources, translations, strict=True):
        unknown = [word for word in sentence if word not in source]
        if unknown:
            console.print(f"never seen in training: {' '.join(dict.fromkeys(unknown))}", style="dim", markup=False)
        for words, score in found:
            console.print(f"{score:7.3f}  {glue.join(words)}" if options.beams else glue.join(words), markup=False)
        if options.tree and sentence is sources[0]:
            trees.draw(options.tree, found)
    if options.attention:
        drawn = list(translator.looked(params, sources, [one[0][0] if one else [] for one in translations]))
        if not drawn:
            raise ValueError(f"--attention {options.attention}: {options.run} was trained with --attention none")
        pictures.attention(options.attention, drawn)


main = command(NAME, Config, train, also={"translate": (Translate, translate)})

if __name__ == "__main__":
    main()
