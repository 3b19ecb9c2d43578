"""Character language model: learns to write by predicting the next character of a text.

    python -m experiments.char_lm

comes to 1.30 nats per character on the last tenth of the source of Python's standard library (3.11.7), which every machine has,
in about three minutes on two cores (a 5-gram model: 1.453). It shows what it writes as it learns, and a finished run writes more:

    python -m experiments.char_lm sample --run DIR --prompt 'def '
"""

import dataclasses
import functools
import sys
from pathlib import Path
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

import jrnn
from experiments.common import supervised
from experiments.common.command import command
from experiments.common.language import Writer, window_loss
from experiments.common.options import Count, Encoding, Rate
from experiments.common.recurrent import RecurrentConfig
from experiments.common.run import Run, Trained, console, open_finished
from experiments.common.supervised import StepsConfig
from experiments.data import text
from experiments.data.ngram import ngram_floor
from experiments.data.windows import BATCH_AXES, Windows
from jrnn import losses
from jrnn.decode import draw
from jrnn.models import LanguageModel

NAME = "char_lm"
VOCABULARY = "vocabulary.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RecurrentConfig, StepsConfig):
    """Train a character language model."""

    corpus: Literal["stdlib", "tinyshakespeare", "ptb"] = "stdlib"
    """The text: Python's own standard library, Shakespeare, or the Penn Treebank."""
    data: Path | None = None
    """Any text file, in place of --corpus; its last tenth is held out."""
    encoding: Encoding = "utf-8"
    """Of your own text: latin-1, cp1252 and so on."""
    hidden: Count = 256
    """Units in each layer."""
    embedding: Count = 64
    """Size of the vector that stands for a character."""
    dropout: Rate = 0.0
    """Share of features dropped before, between and after the layers, the same at every step of a window."""
    batch: Count = 32
    """Rows of text read side by side."""
    window: Count = 64
    """Steps of truncated back-propagation through time; the state is carried from window to window."""
    learning_rate: float = 0.004
    every: Count | None = 250
    """Evaluate, show a sample and save a checkpoint every so many steps."""

    SMOKE: ClassVar[dict[str, Any]] = {"hidden": 16, "embedding": 8, "steps": 20, "every": 10}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample(Trained):
    """Continue a text with a trained model, one character at a time."""

    prompt: str = "\n"
    """The text to continue."""
    length: int = 1000
    """How many characters to write."""
    temperature: float = 1.0
    """Below 1 the likely becomes likelier; 0 always writes the most likely character."""
    top_k: int | None = None
    """Write only one of the k most likely characters."""
    top_p: float | None = None
    """Write only from the smallest set of most likely characters whose probability reaches p."""
    seed: int = 0
    """Of the draw."""


def build(config: Config, vocabulary: str) -> LanguageModel:
    """Embedding, recurrent layers with variational dropout around each (Gal & Ghahramani 2016), output."""
    stack = config.make_stack(config.embedding, dropout_before=True, variational=True)
    return LanguageModel(len(vocabulary), jrnn.Layered(stack))


def held_out_loss(model: LanguageModel, tokens: np.ndarray) -> Any:
    """`evaluate(params)`: nats per character of a text. Few rows, so that nearly every character has its whole past; fewer
    characters than rows are left out."""
    rows = Windows(tokens, batch=16 if len(tokens) > 4096 else 1, time=128, drop_last=False)
    carry = functools.partial(model.initial_state, batch=rows[0].inputs.shape[1:])
    return supervised.mean_loss(window_loss(model), rows, batch_axes=BATCH_AXES, carry=carry)


def train(run: Run, config: Config) -> None:
    """Train, evaluate the best checkpoint, write result.json."""
    corpus = text.load(config.corpus, file=config.data, encoding=config.encoding, data_dir=config.data_dir)
    vocabulary = text.vocabulary(corpus)
    tokens = text.encode(corpus.train, vocabulary)
    windows = Windows(tokens, batch=config.batch, time=config.window)
    parts = {"valid": corpus.valid} if corpus.test is None else {"valid": corpus.valid, "test": corpus.test}
    held_out = {part: text.encode(found, vocabulary) for part, found in parts.items()}
    floors = {f"5-gram {part}": ngram_floor(tokens, ids, len(vocabulary), 5) for part, ids in held_out.items()}
    model = build(config, vocabulary)
    evaluate = {part: held_out_loss(model, ids) for part, ids in held_out.items()}
    params = model.init(jax.random.key(config.seed))
    decode = functools.partial(text.decode, vocabulary=vocabulary)
    start = vocabulary.index("\n") if "\n" in vocabulary else 0
    run.start({VOCABULARY: vocabulary})
    console.print(
        f"{corpus.name}: {len(tokens):,} characters to train on, {len(held_out['valid']):,} held out, "
        f"{len(vocabulary)} different\n{config.cell}, {config.layers} x {config.hidden}; "
        f"5-gram model: {floors['5-gram valid']:.4f} nats per character"
    )
    best, fitted = supervised.train(
        run,
        config,
        params=params,
        loss=window_loss(model),
        batches=windows,
        batch_axes=BATCH_AXES,
        carry=functools.partial(model.initial_state, batch=(config.batch,)),
        evaluate=evaluate["valid"],
        unit="nats per character",
        floors={"5-gram": floors["5-gram valid"]},
        counted=(config.batch * config.window, "characters"),
        observers=[Writer(model, decode, run.directory / "samples.txt", start=start, length=200)],
    )
    nats = {part: evaluate[part](best) for part in held_out}
    bits = {part: losses.bits(value) for part, value in nats.items()}
    said = [
        f"{part}: {nats[part]:.4f} nats ({bits[part]:.4f} bits) per character; 5-gram model {floor:.4f}: "
        f"{'below' if nats[part] < floor else 'NOT below'} the floor"
        for part, floor in zip(nats, floors.values(), strict=True)
    ]
    metrics = {"nats_per_character": nats, "bits_per_character": bits}
    supervised.finish(run, fitted, "\n".join(said), metrics=metrics, floors=floors)


def open_trained(directory: Path) -> tuple[Config, str, LanguageModel, Any]:
    """Of a finished run its config, vocabulary, model and best parameters."""
    run, config = open_finished(directory, NAME, Config)
    vocabulary = run.read(VOCABULARY)
    model = build(config, vocabulary)
    carry = functools.partial(model.initial_state, batch=(config.batch,))
    return config, vocabulary, model, supervised.restore(run, model.init(jax.random.key(0)), carry)


def sample(options: Sample) -> None:
    """Continue a prompt, streaming characters through `step`."""
    _, vocabulary, model, params = open_trained(options.run)
    if options.length < 1:
        raise ValueError(f"--length is {options.length}; expected at least 1 character to write")
    if not options.prompt:
        raise ValueError("--prompt is empty; expected at least one character to continue")
    prompt = text.encode(options.prompt, vocabulary)

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state: Any, token: jax.Array, key: jax.Array) -> tuple[Any, jax.Array]:
        state, logits = model.step(params, state, token)
        given = {"temperature": options.temperature, "top_k": options.top_k, "top_p": options.top_p}
        return state, draw(key, logits, **given)

    state = model.initial_state(params)
    keys = jax.random.split(jax.random.key(options.seed), len(prompt) + options.length)
    sys.stdout.write(options.prompt)
    token = jnp.int32(0)
    for index in range(len(prompt) + options.length - 1):
        given = jnp.int32(prompt[index]) if index < len(prompt) else token
        state, token = step(state, given, keys[index])
        if index >= len(prompt) - 1:
            sys.stdout.write(vocabulary[int(token)])
            sys.stdout.flush()
    sys.stdout.write("\n")


main = command(NAME, Config, train, also={"sample": (Sample, sample)})

if __name__ == "__main__":
    main()
