"""Captions: a picture in, a sentence out, by a convolutional encoder, attention over its grid and a decoder.

    python -m experiments.captioning

learns to spell out handwritten digits in six languages (needs no download). A thousand photographs of Flickr8k, with the pictures
and without, which says what a picture is worth in perplexity:

    python -m experiments.captioning --data flickr
    python -m experiments.captioning --data flickr --blind

`captions.png` shows what is written about images that were held out, `attention.png` where each word of one looked. What was
trained writes about pictures of yours: `python -m experiments.captioning caption --run DIR IMAGE...`, with `--language`, `--beams`
and `--attention FILE.png`. To train on them: `--files FOLDER CAPTIONS`, a file with an image's name, a tab and a caption a line, or
JSON, `{"a.jpg": ["A dog runs.", ...], ...}` (see data/captions.py).
"""

import collections
import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import jax
import tyro

import jrnn
from experiments.captions import pictures
from experiments.captions.encoder import Encoder
from experiments.captions.model import DATA, About, Example, Model, examples
from experiments.captions.writer import Writer
from experiments.common import supervised, text_scores
from experiments.common.command import command
from experiments.common.options import Count, Encoding, Limit, NewFile, Rate
from experiments.common.recurrent import Cell, RecurrentConfig
from experiments.common.run import Run, Trained, console, open_finished
from experiments.data import captions
from experiments.data.pixels import read_image
from jrnn import attention
from jrnn.data import batch_axes
from jrnn.models import Captioner, Decoder
from jrnn.train import make_evaluate, own_mesh

NAME = "captioning"
TARGET = 95.0  # % of digits, exactly right
Widths = Annotated[tuple[int, ...], Limit("one size of at least 1 or more", lambda sizes: sizes and min(sizes) >= 1)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RecurrentConfig, supervised.TrainingConfig):
    """Train a captioner."""

    data: captions.Data = "digits"
    """Digits and their names, letter by letter, or photographs and sentences about them (Flickr8k)."""
    files: tuple[Path, Path] | None = None
    """A folder of pictures and a file of captions, in place of --data."""
    encoding: Encoding = "utf-8"
    """Of your own captions: latin-1, cp1252 and so on."""
    languages: tuple[str, ...] = captions.LANGUAGES
    """Of the names of digits."""
    size: Count = 112
    """Height and width to which pictures of --files are brought: their middle is cut out and resampled."""
    blind: bool = False
    """Without the pictures: a grid of zeros takes their place."""
    cell: Cell = "gru"
    hidden: Count | None = None
    """Units of the decoder; by default 96 for digits and 256 else."""
    embedding: Count | None = None
    """Size of the vector of a token; by default 32 for digits and 128 else."""
    grid: Count | None = None
    """Size of the vectors attended to; by default 64 for digits and 128 else."""
    widths: Widths | None = None
    """Features of each convolution; by default 32 64 64 for digits and 32 64 128 else."""
    dropout: Rate | None = None
    """Share of features dropped in the decoder, around layers; by default 0.1 for digits and 0.5 else."""
    grid_dropout: Rate | None = None
    """Share of features of the picture dropped; by default 0.1 for digits and 0.5 else."""
    shift: Annotated[int, Limit("0 or more pixels", lambda value: value >= 0)] | None = None
    """Pixels by which pictures are moved in training, at most; by default 1 for digits and 12 else, where they are mirrored too."""
    rare: Count = 2
    """Words seen less often in training are unknown."""
    beams: Count = 5
    """Hypotheses that are kept while writing."""
    batch: Count | None = None
    """Captions read side by side; by default 128 for digits and 64 else."""
    epochs: Count | None = None
    """Passes over the training data; by default 12 for digits and 30 else."""
    learning_rate: float | None = None
    """Peak of AdamW's learning rate; by default 0.006 for digits and 0.002 else."""
    weight_decay: float = 0.05

    SMOKE: ClassVar[dict[str, Any]] = {"hidden": 12, "embedding": 8, "grid": 8, "widths": (8, 8), "epochs": 1}

    @property
    def spelled(self) -> bool:
        """Whether captions are digits' names, letter by letter."""
        return self.data == "digits" and self.files is None

    def resolved(self) -> Self:
        own: dict[str, Any] = (
            {"hidden": 96, "embedding": 32, "grid": 64, "widths": (32, 64, 64), "dropout": 0.1, "grid_dropout": 0.1}
            | {"shift": 1, "epochs": 12, "batch": 128, "learning_rate": 0.006}
            if self.spelled
            else {"hidden": 256, "embedding": 128, "grid": 128, "widths": (32, 64, 128), "dropout": 0.5}
            | {"grid_dropout": 0.5, "shift": 12, "epochs": 30, "batch": 64, "learning_rate": 0.002}
        )
        return self.filled(own)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Caption(Trained):
    """Write about pictures with a trained model."""

    images: tyro.conf.Positional[tuple[Path, ...]]
    """Image files, of any size and mode. Digits are light on dark."""
    language: str | None = None
    """In which language, by its code, if the model knows several; by default in each."""
    beams: Count | None = None
    """Show so many hypotheses of each, and keep as many while searching."""
    attention: NewFile | None = None
    """Write a picture of where each word about the first image looked."""


def build(config: Config, about: About) -> Model:
    """A decoder that attends in its first layer and begins at the mean of the grid."""
    embedding, hidden, size = config.embedding or 0, config.hidden or 0, config.grid or 0
    widths = config.widths or ()
    strides = ((1, 2) if config.spelled else (4, 2, 2)) + (1,) * len(widths)
    encoder = Encoder(widths, strides[: len(widths)], size, config.grid_dropout or 0.0)
    first = config.make_cell(embedding + size, hidden)
    cell = jrnn.AttentionBefore(first, attention.Additive(first.output_size or 0, size, size))
    stack = config.make_decoder_stack(cell, embedding)
    decoder = Decoder(len(about.vocabulary), stack, summary_size=size, tied=True)
    flips = not config.spelled
    return Model(encoder, Captioner(decoder, size), about.shape, config.blind, flips, config.shift or 0)


def train(run: Run, config: Config) -> None:
    """Train, write about the test part with the best checkpoint, write result.json and the pictures."""
    folder, file = config.files or (None, None)
    size = (config.size, config.size)
    data = captions.load(
        config.data,
        folder=folder,
        captions=file,
        encoding=config.encoding,
        size=size,
        languages=config.languages,
        data_dir=config.data_dir,
    )
    if config.smoke:
        data = captions.first(data, 40)
    about = About.of(data, spelled=config.spelled, rare=config.rare)
    model = build(config, about)
    parts = {part: examples(getattr(data, part), about) for part in ("train", "valid", "test")}
    run.start({DATA: about.plain()})
    console.print(
        f"{data.name}: {len(data.train.names):,} pictures with {len(parts['train']):,} captions to train on, "
        f"{len(data.valid.names):,} held out, {len(data.test.names):,} to test; {len(about.vocabulary):,} tokens"
    )
    by: Any = lambda example: len(example.tokens)  # noqa: E731
    shapes = 1 if config.smoke or config.spelled else 3
    axes = batch_axes(parts["train"][0])
    valid = list(supervised.bucketed(parts["valid"], batch=config.batch or 1, shapes=1, by=by))
    measure = make_evaluate(
        lambda params, _, batch, key: (model.loss(params, batch, key), ()), batch_axes=axes, mesh=own_mesh()
    )
    best, fitted = supervised.train(
        run,
        config,
        params=jax.jit(model.init)(jax.random.key(config.seed)),
        loss=model.loss,
        batches=supervised.bucketed(parts["train"], batch=config.batch or 1, shapes=shapes, seed=config.seed, by=by),
        batch_axes=axes,
        evaluate=lambda params: measure(params, (), valid),
        unit="nats per token",
    )
    apart = exchanged(parts["test"], data.test)
    result = {
        name: math.exp(measure(best, (), list(supervised.bucketed(part, batch=config.batch or 1, shapes=1, by=by))))
        for name, part in {"perplexity": parts["test"], "perplexity of other pictures": apart}.items()
    }
    writer = Writer(model, best, about)
    wanted: dict[tuple[int, int], list[list[str]]] = collections.defaultdict(list)
    for one in data.test.captions:
        wanted[one.image, one.language].append(one.tokens)
    images = [data.test.images[image] for image, _ in wanted]
    found = [one[0][0] for one in writer.write(images, [language for _, language in wanted], beams=config.beams)]
    floors = {}
    if config.spelled:
        result["exact"] = 100 * text_scores.exact(found, [each[0] for each in wanted.values()])
        floors["most frequent"] = 100 * most_frequent(data)
        beside = (
            "" if config.smoke else f"; target {TARGET} {'reached' if result['exact'] >= TARGET else 'NOT reached'}"
        )
        text = f"test: {result['exact']:.2f} % of pictures and languages exactly right{beside}"
    else:
        result |= text_scores.bleu_of_several(found, list(wanted.values()))
        text = (
            f"test: perplexity {result['perplexity']:.2f} ({result['perplexity of other pictures']:.2f} beside pictures of "
            f"others), BLEU {result['tokenised']:.2f}"
        )
    show(run.directory, writer, data.test, dict(zip(wanted, found, strict=True)))
    supervised.finish(run, fitted, text, metrics={"test": result}, floors=floors)


def most_frequent(data: captions.Captioned) -> float:
    """The share of the test part that is right where the most frequent caption of each language is all that is ever written."""
    counts = [collections.Counter[str]() for _ in data.languages]
    for one in data.train.captions:
        counts[one.language][" ".join(one.tokens)] += 1
    written = [count.most_common(1)[0][0] for count in counts]
    right = [" ".join(one.tokens) == written[one.language] for one in data.test.captions]
    return sum(right) / len(right)


def show(directory: Path, writer: Writer, part: captions.Part, written: dict[tuple[int, int], list[str]]) -> None:
    """The pictures: twelve images with what was written about them, and where the words about the first looked."""
    texts = [
        ", ".join(writer.text(words) for (image, _), words in written.items() if image == place)
        for place in range(min(12, len(part.names)))
    ]
    pictures.captioned(directory / "captions.png", list(part.images[: len(texts)]), texts)
    if not writer.model.blind:
        image, language = next(iter(written))
        words = written[image, language]
        looked = writer.weights(part.images[image], language, words)
        pictures.attention(directory / "attention.png", part.images[image], [*words, "<end>"], looked)


def exchanged(test: list[Example], part: captions.Part) -> list[Example]:
    """Each caption beside the picture after its own."""
    return [
        one._replace(picture=part.images[(about.image + 1) % len(part.images)])
        for one, about in zip(test, part.captions, strict=True)
    ]


def caption(options: Caption) -> None:
    """Print captions, with their hypotheses if wanted."""
    run, config = open_finished(options.run, NAME, Config)
    about = About.read(run)
    chosen = chosen_languages(options.language, about.languages)
    if options.attention and config.blind:
        raise ValueError(
            f"--attention {options.attention}: {options.run} was trained with --blind and looks at nothing"
        )
    if not options.images:
        raise ValueError("no image is given; expected the path of one at least")
    images = [read_image(path, about.shape[:2], about.shape[2]) for path in options.images]
    model = build(config, about)
    writer = Writer(model, supervised.restore(run, jax.jit(model.init)(jax.random.key(0))), about)
    rows = [(image, language) for image in range(len(images)) for language in chosen]
    width = max(options.beams or 0, config.beams)
    found = writer.write(
        [images[image] for image, _ in rows], [place for _, place in rows], beams=width, best=options.beams or 1
    )
    for (image, language), hypotheses in zip(rows, found, strict=True):
        start = [str(options.images[image])] * (len(images) > 1) + [about.languages[language]] * (len(chosen) > 1)
        for words, score in hypotheses:
            line = [*start, f"{score:7.3f}"] if options.beams else start
            console.print("  ".join([*line, writer.text(words)]), markup=False)
    if options.attention:
        words = found[0][0][0]
        looked = writer.weights(images[0], chosen[0], words)
        pictures.attention(options.attention, images[0], [*words, "<end>"], looked)


def chosen_languages(language: str | None, known: Sequence[str]) -> list[int]:
    """Their places."""
    if language is None:
        return list(range(len(known)))
    if language not in known:
        expected = f"one of {', '.join(known)}" if any(known) else "none: the model knows the one of its captions"
        raise ValueError(f"--language is {language!r}; expected {expected}")
    return [known.index(language)]


main = command(NAME, Config, train, also={"caption": (Caption, caption)})

if __name__ == "__main__":
    main()
