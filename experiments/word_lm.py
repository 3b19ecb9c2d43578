"""Word language model: learns which word comes next, and writes.

    python -m experiments.word_lm

reads the documentation in Python's standard library, which every machine has. The words of the Penn Treebank, by two layers of 200
and of 650 units:

    python -m experiments.word_lm --corpus ptb --size small
    python -m experiments.word_lm --corpus ptb --size medium
"""

import dataclasses
import functools
import math
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import jax
import numpy as np

import jrnn
from experiments.common import supervised
from experiments.common.command import command
from experiments.common.language import window_loss
from experiments.common.options import Count, NotNegative, Rate
from experiments.common.recurrent import RecurrentConfig
from experiments.common.run import Run, console
from experiments.data import words
from experiments.data.ngram import kneser_ney_floor
from experiments.data.windows import BATCH_AXES, Windows
from jrnn.models import LanguageModel

NAME = "word_lm"
VOCABULARY = "vocabulary.json"
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"layers": 1, "hidden": 128, "dropout": 0.2, "epochs": 5},
    "small": {"layers": 2, "hidden": 200, "dropout": 0.25, "epochs": 16},
    "medium": {"layers": 2, "hidden": 650, "dropout": 0.5, "epochs": 40},
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RecurrentConfig, supervised.TrainingConfig):
    """Train a word language model."""

    corpus: words.Corpus = "stdlib"
    """The text: the documentation of Python's own standard library, or the Penn Treebank."""
    file: Path | None = None
    """Any UTF-8 text file, in place of --corpus: a paragraph a line; the last tenth tests, the one before validates."""
    rare: Count = 3
    """Words seen less often in training are unknown; the Penn Treebank comes with its own."""
    size: Literal["tiny", "small", "medium"] = "tiny"
    """What is not given of layers, units, dropout and epochs: 1 x 128, 2 x 200 or 2 x 650 units (Zaremba et al. 2014)."""
    layers: Count | None = None
    """Recurrent layers, one on top of the other."""
    hidden: Count | None = None
    """Units in each layer."""
    tied: bool = True
    """The vectors that stand for words are also the weights of the output (Press & Wolf 2017), as many numbers as units."""
    dropout: Rate | None = None
    """Share of features dropped before, between and after the layers, the same at every step of a window."""
    epochs: Count | None = None
    """Passes over the training data."""
    batch: Count = 20
    """Rows of text read side by side."""
    window: Count = 35
    """Steps of truncated back-propagation through time; the state is carried from window to window."""
    learning_rate: float = 0.003
    weight_decay: NotNegative = 0.05

    SMOKE: ClassVar[dict[str, Any]] = {"hidden": 8, "layers": 1, "epochs": 1, "batch": 64, "window": 64}

    def resolved(self) -> Self:
        own = SIZES[self.size]
        return dataclasses.replace(self, **{name: own[name] for name in own if getattr(self, name) is None})


def build(config: Config, vocabulary: tuple[str, ...]) -> LanguageModel:
    """Embedding, recurrent layers with variational dropout around each (Gal & Ghahramani 2016), output."""
    stack = config.make_stack(config.hidden or 0, dropout_before=True, variational=True)
    return LanguageModel(len(vocabulary), jrnn.Layered(stack), tied=config.tied)


def held_out_loss(model: LanguageModel, ids: np.ndarray, end: int, *, rows: int = 1) -> Any:
    """`evaluate(params)`: nats per word of a text from its first word on, which follows an <eos>.

    One row reads it as one stream. Several are quicker: then the first words of each lack their past.
    """
    windows = Windows(np.append(np.int32(end), ids), batch=rows, time=512, drop_last=False)
    carry = functools.partial(model.initial_state, batch=(rows,))
    return supervised.mean_loss(window_loss(model), windows, batch_axes=BATCH_AXES, carry=carry)


def train(run: Run, config: Config) -> None:
    """Train, evaluate the best checkpoint, write result.json."""
    corpus = words.load(config.corpus, file=config.file, min_count=config.rare, data_dir=config.data_dir)
    vocabulary = corpus.vocabulary
    end = vocabulary.index(words.END)
    windows = Windows(corpus.train, batch=config.batch, time=config.window)
    held_out = {"valid": corpus.valid, "test": corpus.test}
    floors = {
        f"Kneser-Ney 3-gram {part}": math.exp(kneser_ney_floor(corpus.train, ids, len(vocabulary), 3))
        for part, ids in held_out.items()
    }
    model = build(config, vocabulary)
    nats = {part: held_out_loss(model, ids, end) for part, ids in held_out.items()}
    quick = held_out_loss(model, corpus.valid, end, rows=16 if len(corpus.valid) > 4096 else 1)
    params = model.init(jax.random.key(config.seed))
    run.start({VOCABULARY: vocabulary})
    unknown = float(np.mean(corpus.test == vocabulary.index(words.UNKNOWN)))
    console.print(
        f"{corpus.name}: {len(corpus.train):,} words to train on, {len(corpus.valid):,} to validate, {len(corpus.test):,} to test; "
        f"{len(vocabulary):,} different, {unknown:.1%} of the test part unknown\n"
        f"{config.cell}, {config.layers} x {config.hidden}; 3-gram model: perplexity "
        f"{floors['Kneser-Ney 3-gram valid']:.1f} (validation), {floors['Kneser-Ney 3-gram test']:.1f} (test)"
    )
    best, fitted = supervised.train(
        run,
        config,
        params=params,
        loss=window_loss(model),
        batches=windows,
        batch_axes=BATCH_AXES,
        carry=functools.partial(model.initial_state, batch=(config.batch,)),
        evaluate=lambda params: math.exp(quick(params)),
        unit="nats per word",
        valid_unit="perplexity",
        floors={"Kneser-Ney 3-gram": floors["Kneser-Ney 3-gram valid"]},
        counted=(config.batch * config.window, "words"),
    )
    perplexity = {part: math.exp(nats[part](best)) for part in held_out}
    said = [
        f"{part}: perplexity {perplexity[part]:.2f}; 3-gram model {floor:.2f}: "
        f"{'below' if perplexity[part] < floor else 'NOT below'} the floor"
        for part, floor in zip(perplexity, floors.values(), strict=True)
    ]
    metrics = {"perplexity": perplexity, "words": {part: len(ids) for part, ids in held_out.items()}}
    supervised.finish(run, fitted, "\n".join(said), metrics=metrics, floors=floors)


main = command(NAME, Config, train)

if __name__ == "__main__":
    main()
