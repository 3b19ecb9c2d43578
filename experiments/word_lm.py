"""Word language model: learns which word comes next, and writes.

    python -m experiments.word_lm

reads the documentation in Python's standard library, which every machine has. The words of the Penn Treebank, by two layers of 200
and of 650 units:

    python -m experiments.word_lm --corpus ptb --size small
    python -m experiments.word_lm --corpus ptb --size medium --batch 64

`surprise.png` shows how much each word of the test part's beginning took the model by surprise. What was trained writes, and shows
its surprise at a text of yours:

    python -m experiments.word_lm sample --run DIR --prompt "the company said" --temperature 0.8
    python -m experiments.word_lm surprise --run DIR "the old man the boats"
"""

import dataclasses
import functools
import math
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import jrnn
from experiments.common import supervised
from experiments.common.command import command
from experiments.common.language import Writer, window_loss
from experiments.common.options import Count, Encoding, NewFile, NotNegative, Rate
from experiments.common.recurrent import RecurrentConfig
from experiments.common.run import Run, Trained, console, open_finished
from experiments.data import words
from experiments.data.ngram import kneser_ney_floor
from experiments.data.windows import BATCH_AXES, Windows
from experiments.language import pictures
from jrnn.decode import generate
from jrnn.models import LanguageModel

NAME = "word_lm"
VOCABULARY = "vocabulary.json"
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"layers": 1, "hidden": 128, "dropout": 0.2, "epochs": 5},
    "small": {"layers": 2, "hidden": 200, "dropout": 0.25, "epochs": 16},
    "medium": {"layers": 2, "hidden": 650, "dropout": 0.5, "epochs": 40},
}
PUBLISHED = {("ptb", "small", 2, 200): 114.5, ("ptb", "medium", 2, 650): 82.7}  # Zaremba et al. 2014, tables 1 and 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RecurrentConfig, supervised.TrainingConfig):
    """Train a word language model."""

    corpus: words.Corpus = "stdlib"
    """The text: the documentation of Python's own standard library, or the Penn Treebank."""
    file: Path | None = None
    """Any text file, in place of --corpus: a paragraph a line; the last tenth tests, the one before validates."""
    encoding: Encoding = "utf-8"
    """Of your own text: latin-1, cp1252 and so on."""
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

    SMOKE: ClassVar[dict[str, Any]] = {"hidden": 8, "layers": 1, "epochs": 1}

    def resolved(self) -> Self:
        return self.filled(SIZES[self.size])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample(Trained):
    """Continue a text with a trained model, word by word; <eos> is a new line, and <unk> is never written."""

    prompt: str = words.END
    """The text to continue; by default it begins a line."""
    length: Count = 100
    """How many words to write."""
    temperature: float = 1.0
    """Below 1 the likely becomes likelier; 0 always writes the most likely word."""
    top_p: float | None = None
    """Write only from the smallest set of most likely words whose probability reaches p."""
    seed: int = 0
    """Of the draw."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Surprise(Trained):
    """Print how surprised a trained model is at each word of a text."""

    text: tyro.conf.Positional[str]
    """As one line, which begins after an <eos> and is ended by one."""
    picture: NewFile | None = None
    """Write it as a picture, too."""


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
    corpus = words.load(
        config.corpus, file=config.file, encoding=config.encoding, min_count=config.rare, data_dir=config.data_dir
    )
    if config.smoke:
        corpus = corpus._replace(train=corpus.train[:20_000], valid=corpus.valid[:2_000], test=corpus.test[:2_000])
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
    decode = functools.partial(written, vocabulary=vocabulary)
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
        observers=[Writer(model, decode, run.directory / "samples.txt", start=end, length=60)],
    )
    perplexity = {part: math.exp(nats[part](best)) for part in held_out}
    said = [
        f"{part}: perplexity {perplexity[part]:.2f}; 3-gram model {floor:.2f}: "
        f"{'below' if perplexity[part] < floor else 'NOT below'} the floor"
        for part, floor in zip(perplexity, floors.values(), strict=True)
    ]
    kind = (config.corpus, config.size, config.layers or 0, config.hidden or 0)
    published = None if config.file or config.smoke else PUBLISHED.get(kind)
    if published is not None:
        said[-1] += f"; published {published} {'reached' if perplexity['test'] <= published else 'NOT reached'}"
    passage = corpus.test[: beginning(corpus.test, end)]
    draw(run.directory / "surprise.png", surprise_bits(model, best, passage, end), passage, vocabulary)
    metrics = {"perplexity": perplexity, "words": {part: len(ids) for part, ids in held_out.items()}}
    supervised.finish(run, fitted, "\n".join(said), metrics=metrics, floors=floors)


def beginning(ids: np.ndarray, end: int, most: int = 180) -> int:
    """How many words the whole lines at the beginning of a text have, `most` at most; `most` where the first is longer."""
    ends = np.flatnonzero(ids[:most] == end)
    return int(ends[-1]) + 1 if len(ends) else min(most, len(ids))


def surprise_bits(model: LanguageModel, params: Any, ids: np.ndarray, end: int) -> np.ndarray:
    """-log2 p of each word of `ids` [length] given all before it and an <eos> before the first, float [length]."""
    inputs = np.append(np.int32(end), ids[:-1])
    _, logits = jax.jit(model.apply)(params, inputs)
    nats = -jax.nn.log_softmax(logits)[np.arange(len(ids)), ids]
    return np.asarray(nats) / math.log(2)


def draw(path: Path, bits: np.ndarray, ids: np.ndarray, vocabulary: tuple[str, ...]) -> None:
    """surprise.png."""
    title = f"{len(ids)} words, perplexity {2 ** float(bits.mean()):.1f}"
    pictures.surprise(path, words.decode(ids, vocabulary), bits, end=words.END, title=title)


def written(ids: np.ndarray, vocabulary: tuple[str, ...]) -> str:
    """Words with spaces between, a new line for <eos>."""
    return " ".join(words.decode(ids, vocabulary)).replace(f" {words.END}", "\n").replace("\n ", "\n")


def read(text: str, vocabulary: tuple[str, ...], name: str) -> np.ndarray:
    """A user's text as integers; says which of its words are unknown. ValueError where it has no words."""
    found = words.tokenize(text)
    if not found:
        raise ValueError(f"{name} is {text!r}; expected at least one word")
    known = set(vocabulary)
    if unknown := [word for word in dict.fromkeys(found) if word not in known]:
        console.print(f"not in the vocabulary, read as {words.UNKNOWN}: {' '.join(unknown)}", style="dim", markup=False)
    return words.encode(found, vocabulary)


def open_trained(directory: Path) -> tuple[tuple[str, ...], LanguageModel, Any]:
    """Of a finished run its vocabulary, model and best parameters."""
    run, config = open_finished(directory, NAME, Config)
    vocabulary = tuple(run.read(VOCABULARY))
    model = build(config, vocabulary)
    carry = functools.partial(model.initial_state, batch=(config.batch,))
    return vocabulary, model, supervised.restore(run, model.init(jax.random.key(0)), carry)


def sample(options: Sample) -> None:
    """Read the prompt, write on."""
    vocabulary, model, params = open_trained(options.run)
    prompt = read(options.prompt, vocabulary, "--prompt")
    end, unknown = vocabulary.index(words.END), vocabulary.index(words.UNKNOWN)
    before = np.append(np.int32(end), prompt)
    state, _ = model.apply(params, jnp.asarray(before[:-1]))
    found = generate(
        functools.partial(model.step, params),
        state,
        jnp.int32(before[-1]),
        jax.random.key(options.seed),
        length=options.length,
        forbidden=[unknown],
        temperature=options.temperature,
        top_p=options.top_p,
    )
    print(written(np.append(prompt, np.asarray(found.tokens)), vocabulary).lstrip("\n"))


def surprise(options: Surprise) -> None:
    """Print a line for each word: bits, a bar, the word."""
    vocabulary, model, params = open_trained(options.run)
    end = vocabulary.index(words.END)
    ids = np.append(read(options.text, vocabulary, "the text"), np.int32(end))
    bits = surprise_bits(model, params, ids, end)
    for word, amount in zip(words.decode(ids, vocabulary), bits, strict=True):
        print(f"{amount:6.2f}  {'█' * round(float(amount))} {word}")
    print(f"perplexity {2 ** float(bits.mean()):.1f}")
    if options.picture:
        draw(options.picture, bits, ids, vocabulary)


main = command(NAME, Config, train, also={"sample": (Sample, sample), "surprise": (Surprise, surprise)})

if __name__ == "__main__":
    main()
