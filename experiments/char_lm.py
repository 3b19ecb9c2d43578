"""Character language model: learns to write by predicting the next character of a text.

By default it trains on the source of Python's standard library, which every machine has. It shows what it writes as it
learns; `python -m experiments.char_lm sample --run DIR` lets a finished run write more.
"""

import dataclasses
import functools
import json
import sys
from pathlib import Path
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

import jrnn
from experiments.cells import CELLS
from experiments.data import text
from experiments.data.ngram import ngram_floor
from experiments.data.windows import BATCH_AXES, Window, Windows
from experiments.run import (
    Bar,
    Curves,
    Run,
    RunConfig,
    console,
    explained,
    open_run,
    read_config,
    use_all_cores,
    write_json,
)
from experiments.supervised import adamw
from jrnn import losses
from jrnn.checkpoint import Checkpoints
from jrnn.decode import draw, generate
from jrnn.models import LanguageModel
from jrnn.train import Fitted, Observer, Record, TrainState, fit, init_state, make_evaluate, make_step

NAME = "char_lm"
VOCABULARY = "vocabulary.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """Train a character language model."""

    corpus: Literal["stdlib", "tinyshakespeare", "ptb"] = "stdlib"
    """The text: Python's own standard library, Shakespeare, or the Penn Treebank."""
    data: Path | None = None
    """Any UTF-8 text file, in place of --corpus; its last tenth is held out."""
    cell: Literal[tuple(CELLS)] = "lstm"  # type: ignore[valid-type]
    """The recurrent cell."""
    layers: int = 1
    """Recurrent layers, one on top of the other."""
    hidden: int = 256
    """Units in each layer."""
    embedding: int = 64
    """Size of the vector that stands for a character."""
    dropout: float = 0.0
    """Share of features dropped before, between and after the layers, the same at every step of a window."""
    batch: int = 32
    """Rows of text read side by side."""
    window: int = 64
    """Steps of truncated back-propagation through time; the state is carried from window to window."""
    steps: int = 2000
    """Training steps, one window each."""
    learning_rate: float = 0.004
    """Peak of AdamW's learning rate: it rises over the first 2 % of the steps and falls to 0 along a cosine."""
    weight_decay: float = 0.01
    """AdamW's decay of every matrix."""
    clip: float = 1.0
    """Largest global norm of a gradient."""
    every: int = 250
    """Evaluate, show a sample and save a checkpoint every so many steps."""
    patience: int | None = None
    """Stop after so many evaluations without a new best."""

    SMOKE: ClassVar[dict[str, Any]] = {"hidden": 16, "embedding": 8, "steps": 20, "every": 10}

    def __post_init__(self) -> None:
        for name in ("layers", "hidden", "embedding", "batch", "window", "steps", "every", "keep"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} is {getattr(self, name)}; expected at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """Continue a text with a trained model, one character at a time."""

    run: Path
    """Run directory of a trained model; its best checkpoint is used."""
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
    dropout = jrnn.Dropout(config.dropout, variational=True)
    layers: list[jrnn.Layer] = [dropout]
    size = config.embedding
    for _ in range(config.layers):
        cell = CELLS[config.cell](size, config.hidden)
        layers += [jrnn.Recurrent(cell), dropout]
        size = cell.output_size
    return LanguageModel(len(vocabulary), jrnn.Layered(tuple(layers)))


def make_loss(model: LanguageModel) -> Any:
    """Cross-entropy of a window, the state carried in from the window before."""

    def loss(params: Any, carry: Any, window: Window, key: jax.Array | None) -> tuple[losses.Mean, Any]:
        fresh = model.initial_state(params, window.inputs.shape[1:])
        carry = jax.tree.map(lambda new, old: jnp.where(window.first, new, old), fresh, carry)
        state, logits = model.apply(params, window.inputs, carry, key=key)
        return losses.cross_entropy(logits, window.targets, None), state

    return loss


class Writer(Observer):
    """Shows what the model writes after each evaluation, and keeps it in samples.txt."""

    def __init__(self, model: LanguageModel, vocabulary: str, path: Path):
        self._model, self._vocabulary, self._path = model, vocabulary, path
        self._start = vocabulary.index("\n") if "\n" in vocabulary else 0
        self._generate = jax.jit(self._write)

    def _write(self, params: Any, key: jax.Array) -> jax.Array:
        step = functools.partial(self._model.step, params)
        first = jnp.int32(self._start)
        return generate(step, self._model.initial_state(params), first, key, length=200, temperature=0.8)[1]

    def on_record(self, records: list[Record], state: TrainState) -> None:
        params = jax.device_put(state.params, jax.devices()[0])
        key = jax.random.fold_in(jax.random.key(0), records[-1].step)
        sample = text.decode(np.asarray(self._generate(params, key)), self._vocabulary)
        console.print(sample, style="dim", markup=False)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"--- step {records[-1].step}, validation {records[-1].valid:.4f}\n{sample}\n")


def train(run: Run, config: Config) -> Fitted:
    """Train, evaluate the best checkpoint, write result.json."""
    corpus = text.load(config.corpus, file=config.data, data_dir=config.data_dir)
    vocabulary = text.vocabulary(corpus)
    tokens = text.encode(corpus.train, vocabulary)
    windows = Windows(tokens, batch=config.batch, time=config.window)
    held_out = {"valid": text.encode(corpus.valid, vocabulary)}
    if corpus.test is not None:
        held_out["test"] = text.encode(corpus.test, vocabulary)
    floors = {f"5-gram {part}": ngram_floor(tokens, ids, len(vocabulary), 5) for part, ids in held_out.items()}
    rows = {part: Windows(ids, **evaluation_shape(len(ids))) for part, ids in held_out.items()}

    model = build(config, vocabulary)
    loss = make_loss(model)
    evaluate = make_evaluate(loss, batch_axes=BATCH_AXES)

    def held_out_loss(params: Any, part: str = "valid") -> float:
        first = rows[part][0]
        carry = model.initial_state(params, first.inputs.shape[1:])
        return evaluate(params, carry, (rows[part][i] for i in range(len(rows[part]))))

    state, optimizer = start(model, config)
    weights = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    run.start()
    write_json(run.directory / VOCABULARY, vocabulary)
    checkpoints = run.open_checkpoints()
    done = max(checkpoints.steps(), default=0)
    console.print(
        f"{corpus.name}: {len(tokens):,} characters to train on, {len(held_out['valid']):,} held out, "
        f"{len(vocabulary)} different\n{config.cell}, {config.layers} x {config.hidden}: {weights:,} weights, "
        f"{len(jax.devices())} devices; {config.steps} steps are {config.steps / len(windows):.1f} passes\n"
        f"5-gram model: {floors['5-gram valid']:.4f} nats per character\n"
        f"{'going on at step ' + str(done) + ' in' if done else 'run directory:'} {run.directory}"
    )
    bar = Bar(config.steps, done=done, tokens=config.batch * config.window, unit="characters")
    curves = Curves(run.directory, unit="nats per character", floors={"5-gram": floors["5-gram valid"]}, done=done)
    writer = Writer(model, vocabulary, run.directory / "samples.txt")
    with bar.progress:
        fitted = fit(
            make_step(loss, optimizer, batch_axes=BATCH_AXES),
            state,
            windows,
            steps=config.steps,
            every=config.every,
            evaluate=held_out_loss,
            checkpoints=checkpoints,
            patience=config.patience,
            observers=(bar, curves, writer),
        )
    if fitted.stopped == "interrupted":
        console.print(f"stopped and saved at step {int(fitted.state.step)}; go on by --resume --out {run.directory}")
        return fitted
    best = checkpoints.restore(fitted.state, checkpoints.best()).state.params
    nats = {part: held_out_loss(best, part) for part in rows}
    metrics = {
        "nats_per_character": nats,
        "bits_per_character": {part: losses.bits(value) for part, value in nats.items()},
        "steps": int(fitted.state.step),
        "stopped": fitted.stopped,
        "records": [record._asdict() for record in fitted.records],
    }
    path = run.write_result(metrics=metrics, floors=floors, seconds=fitted.seconds)
    for part, value in nats.items():
        floor = floors[f"5-gram {part}"]
        console.print(
            f"{part}: {value:.4f} nats ({losses.bits(value):.4f} bits) per character; 5-gram model {floor:.4f}: "
            f"{'below' if value < floor else 'NOT below'} the floor"
        )
    console.print(f"{fitted.seconds / 60:.1f} minutes; {path}")
    return fitted


def start(model: LanguageModel, config: Config) -> tuple[TrainState, optax.GradientTransformation]:
    """The state before the first step, and AdamW with clipping by global norm, warm-up and cosine."""
    optimizer = adamw(config.steps, config.learning_rate, weight_decay=config.weight_decay, clip=config.clip)
    params = model.init(jax.random.key(config.seed))
    carry = model.initial_state(params, (config.batch,))
    return init_state(params, optimizer, jax.random.key(config.seed + 1), carry), optimizer


def evaluation_shape(length: int) -> dict[str, Any]:
    """Few rows, so that nearly every character has its whole past; fewer characters than rows are left out."""
    return {"batch": 16 if length > 4096 else 1, "time": 128, "drop_last": False}


def sample(config: Sample) -> None:
    """Continue a prompt, streaming characters through `step`."""
    trained = read_config(config.run, NAME, Config)
    vocabulary = json.loads((config.run / VOCABULARY).read_text())
    model = build(trained, vocabulary)
    if config.length < 1:
        raise ValueError(f"--length is {config.length}; expected at least 1 character to write")
    if not config.prompt:
        raise ValueError("--prompt is empty; expected at least one character to continue")
    prompt = text.encode(config.prompt, vocabulary)
    checkpoints = Checkpoints(config.run / "checkpoints")
    params = checkpoints.restore(start(model, trained)[0], checkpoints.best()).state.params

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state: Any, token: jax.Array, key: jax.Array) -> tuple[Any, jax.Array]:
        state, logits = model.step(params, state, token)
        options = {"temperature": config.temperature, "top_k": config.top_k, "top_p": config.top_p}
        return state, draw(key, logits, **options)

    state = model.initial_state(params)
    keys = jax.random.split(jax.random.key(config.seed), len(prompt) + config.length)
    sys.stdout.write(config.prompt)
    token = jnp.int32(0)
    for index in range(len(prompt) + config.length - 1):
        given = jnp.int32(prompt[index]) if index < len(prompt) else token
        state, token = step(state, given, keys[index])
        if index >= len(prompt) - 1:
            sys.stdout.write(vocabulary[int(token)])
            sys.stdout.flush()
    sys.stdout.write("\n")


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["sample"]:
        with explained():
            sample(tyro.cli(Sample, args=arguments[1:], prog=f"python -m experiments.{NAME} sample"))
        return
    use_all_cores()
    with explained():
        fitted = train(*open_run(NAME, Config, arguments))
    if fitted.stopped == "interrupted":
        raise SystemExit(130)


if __name__ == "__main__":
    main()
