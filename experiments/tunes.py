"""Folk tunes: a character language model that writes tunes in ABC notation, which music21 turns into MIDI.

    python -m experiments.tunes

learns from tunes that the package music21 ships (needs no download), writes a hundred of its own, and counts how many can be read,
how many of their bars are as long as the metre says, and how many are copied. `tunes.abc`, `tune-1.mid` and so on and `roll.png`
in the run directory are of these. The Nottingham Music Database, and tunes of yours:

    python -m experiments.tunes --data nottingham
    python -m experiments.tunes --files jigs.abc FOLDER

What was trained writes a tune in the metre and key that are asked for:

    python -m experiments.tunes write --run DIR --seed 3 --metre 6/8 --key D --out tune.abc
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np

import jrnn
from experiments.common import supervised
from experiments.common.command import command
from experiments.common.extras import need
from experiments.common.options import Count, Limit, NewFile, NotNegative, Rate, check_value
from experiments.common.processes import by_first
from experiments.common.recurrent import RecurrentConfig
from experiments.common.run import Run, Trained, console, open_finished
from experiments.data import abc_notation, tunes
from experiments.data.abc_notation import Tune
from experiments.melodies import pictures, scores
from experiments.melodies.composer import Composer, asked
from experiments.melodies.floors import ORDER, ngram_floors
from jrnn import losses
from jrnn.data import Batch, batch_axes
from jrnn.models import LanguageModel

NAME = "tunes"
VOCABULARY = "vocabulary.json"
PARSED = 0.9  # the share of written tunes that should parse
Nucleus = Annotated[float, Limit("a probability in (0, 1]", lambda value: 0 < value <= 1)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RecurrentConfig, supervised.TrainingConfig):
    """Train a model that writes tunes."""

    data: tunes.Data = "music21"
    """O'Neill's, Ryan's and Aird's books, which music21 ships, or the Nottingham Music Database."""
    files: tuple[Path, ...] = ()
    """ABC files, and folders of them, in place of --data."""
    longest: Count = 600
    """Tunes of more characters are left out; what is written is cut there."""
    hidden: Count = 256
    embedding: Count = 64
    """Size of the vector that stands for a character."""
    dropout: Rate = 0.2
    """Share of features dropped before, between and after the layers, the same at every step of a tune."""
    temperature: NotNegative = 0.8
    """Of the tunes that are written: below 1 the likely becomes likelier; 0 always writes the most likely character."""
    top_p: Nucleus = 0.95
    """They are written only from the smallest set of most likely characters whose probability reaches p."""
    written: Count = 100
    """How many to write after training."""
    epochs: Count | None = None
    """Passes over the training data; by default 8, for nottingham and files 20."""
    learning_rate: float = 0.004

    SMOKE: ClassVar[dict[str, Any]] = {
        "hidden": 8, "embedding": 8, "epochs": 1, "written": 4, "longest": 200,
    }  # fmt: skip

    def resolved(self) -> Self:
        return self.filled({"epochs": 8 if self.data == "music21" and not self.files else 20})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Write(Trained):
    """Write tunes with a trained model."""

    metre: str | None = None
    """Such as 6/8; by default the model chooses."""
    key: str | None = None
    """Such as D, Em or Amix; by default the model chooses."""
    seed: int = 0
    """Of the draw: another seed is another tune."""
    count: Count = 1
    """How many to write."""
    length: Count | None = None
    """Write at most so many characters; by default as many as the longest tune in training may have."""
    temperature: NotNegative = 0.8
    """Below 1 the likely becomes likelier; 0 always writes the most likely character."""
    top_p: Nucleus = 0.95
    """Write only from the smallest set of most likely characters whose probability reaches p."""
    out: NewFile | None = None
    """Write the tunes here, and each as a MIDI file beside it: tune.mid, of several tune-1.mid and so on. None may exist. By
    default they are printed only."""


class Example(NamedTuple):
    """A tune as integers: after each token the next."""

    inputs: np.ndarray  # int32 [time], from the start token on
    targets: np.ndarray  # int32 [time], to the end token


def build(config: Config, characters: str) -> LanguageModel:
    """Embedding, recurrent layers with variational dropout around each (Gal & Ghahramani 2016), output."""
    stack = config.make_stack(config.embedding, dropout_before=True, variational=True)
    return LanguageModel(len(characters) + tunes.END + 1, jrnn.Layered(stack))


def make_example(tune: Tune, characters: str) -> Example:
    tokens = tunes.encode(tune.document, characters)
    return Example(tokens[:-1], tokens[1:])


def make_loss(model: LanguageModel) -> Any:
    """Nats per character; the end token counts as one."""

    def loss(params: Any, batch: Batch, key: jax.Array | None) -> losses.Mean:
        real = jnp.arange(len(batch.data.inputs))[:, None] < batch.lengths
        _, logits = model.apply(params, batch.data.inputs, lengths=batch.lengths, key=key)
        return losses.cross_entropy(logits, batch.data.targets, real)

    return loss


def train(run: Run, config: Config) -> None:
    """Train, write tunes with the best checkpoint, write result.json, the tunes and the picture."""
    need("music21", "music")
    corpus = tunes.load(config.data, files=config.files, longest=config.longest, data_dir=config.data_dir)
    if config.smoke:
        corpus = tunes.first(corpus, 64)
    characters = corpus.characters
    model = build(config, characters)
    parts = {"train": corpus.train, "valid": corpus.valid, "test": corpus.test}
    examples = {part: [make_example(tune, characters) for tune in found] for part, found in parts.items()}
    floors = {
        f"{name}, {part}": nats
        for part in ("valid", "test")
        for name, nats in ngram_floors(corpus.train, parts[part], characters).items()
    }
    best_floor = {part: min(nats for name, nats in floors.items() if name.endswith(part)) for part in ("valid", "test")}
    loss, axes = make_loss(model), batch_axes(examples["train"][0])
    shapes = 1 if config.smoke else 4
    evaluate = {
        part: supervised.mean_loss(
            loss, list(supervised.bucketed(examples[part], batch=64, shapes=shapes)), batch_axes=axes
        )
        for part in ("valid", "test")
    }
    run.start({VOCABULARY: {"characters": characters, "headers": headers(corpus.train)}})
    sizes = " / ".join(f"{len(found):,}" for found in parts.values())
    console.print(
        f"{corpus.name}: {sizes} tunes (train / valid / test), {corpus.unread} that cannot be read left out; "
        f"{sum(len(one.inputs) for one in examples['train']):,} characters to train on, {len(characters)} different\n"
        f"{config.cell}, {config.layers} x {config.hidden}; {ORDER}-gram model: {best_floor['valid']:.4f} nats per character"
    )
    best, fitted = supervised.train(
        run,
        config,
        params=model.init(jax.random.key(config.seed)),
        loss=loss,
        batches=supervised.bucketed(examples["train"], batch=config.batch, shapes=shapes, seed=config.seed),
        batch_axes=axes,
        evaluate=evaluate["valid"],
        unit="nats per character",
        floors={f"{ORDER}-gram": best_floor["valid"]},
        counted=(config.batch, "tunes"),
    )
    nats = {part: evaluate[part](best) for part in evaluate}
    bits = {part: losses.bits(value) for part, value in nats.items()}
    written = Composer(model, best, characters).write(
        "",
        count=config.written,
        length=config.longest,
        key=jax.random.key(config.seed),
        temperature=config.temperature,
        top_p=config.top_p,
    )
    known = [tune.document for tune in corpus.train]
    own = scores.score([one.document for one in written], [one.ended for one in written], known)
    real = [tune.document for tune in corpus.test[: config.written]]
    theirs = scores.score(real, [True] * len(real), known)
    keep(run.directory, [one.document for one in written])
    said = [
        f"{part}: {nats[part]:.4f} nats ({bits[part]:.4f} bits) per character; {ORDER}-gram model {best_floor[part]:.4f}: "
        f"{'below' if nats[part] < best_floor[part] else 'NOT below'} the floor"
        for part in nats
    ]
    goal = "" if config.smoke else f"; target {PARSED:.0%} {'reached' if own.parsed >= PARSED else 'NOT reached'}"
    said += [described(f"{own.tunes} written", own) + goal, described(f"{theirs.tunes} of the test part", theirs)]
    metrics = {
        "nats_per_character": nats,
        "bits_per_character": bits,
        "written": own._asdict(),
        "test_tunes": theirs._asdict(),
    }
    supervised.finish(run, fitted, "\n".join(said), metrics=metrics, floors=floors)


def headers(train: Sequence[Tune]) -> list[tuple[str, str, int]]:
    """Metres and keys that come together, and how often, the most frequent first."""
    counts: dict[tuple[str, str], int] = {}
    for tune in train:
        counts[tune.metre, tune.key] = counts.get((tune.metre, tune.key), 0) + 1
    return [(*pair, counts[pair]) for pair in sorted(counts, key=lambda pair: (-counts[pair], pair))]


def described(name: str, found: scores.Scores) -> str:
    return (
        f"{name}: {found.parsed:.0%} parse, {found.bars:.1%} of {found.inner_bars:,} inner bars are of the right length, "
        f"{found.copied:.0%} are copied, {found.ended:.0%} end by themselves"
    )


@by_first
def keep(directory: Path, documents: Sequence[str], most: int = 5) -> None:
    """tunes.abc, of the first that can be read MIDI files, and the picture of one."""
    named = [abc_notation.as_file(one, number=n, title=f"Tune {n}") for n, one in enumerate(documents, 1)]
    (directory / "tunes.abc").write_text("\n".join(named), encoding="utf-8")
    kept = 0
    for number, document in enumerate(documents, 1):
        score = scores.parse(document) if kept < most else None
        if score is None:
            continue
        scores.write_midi(directory / f"tune-{number}.mid", score)
        if not kept:
            pictures.roll(directory / "roll.png", score, title=f"tune {number} of tunes.abc")
        kept += 1
    if not kept:
        console.print("no tune that was written can be read: no MIDI file and no roll.png", style="dim")


def write(options: Write) -> None:
    """Print tunes, and write them with their MIDI files."""
    need("music21", "music")
    run, config = open_finished(options.run, NAME, Config)
    stored = run.read(VOCABULARY)
    midi = [] if options.out is None else midi_files(options.out, options.count)
    beginning = asked(stored["headers"], options.metre, options.key, options.seed)
    model = build(config, stored["characters"])
    params = supervised.restore(run, model.init(jax.random.key(0)))
    length = options.length or config.longest
    written = Composer(model, params, stored["characters"]).write(
        beginning,
        count=options.count,
        length=length,
        key=jax.random.key(options.seed),
        temperature=options.temperature,
        top_p=options.top_p,
    )
    title = f"Tune of seed {options.seed}"
    text = "\n".join(
        abc_notation.as_file(one.document, number=n, title=title if options.count == 1 else f"{title}, number {n}")
        for n, one in enumerate(written, 1)
    )
    print(text, end="")
    for number, one in enumerate(written, 1):
        if not one.ended:
            console.print(f"tune {number} did not end within {length} characters: cut", style="dim")
    if options.out is None:
        return
    store(options.out, text)
    for number, (path, one) in enumerate(zip(midi, written, strict=True), 1):
        score = scores.parse(one.document)
        if score is None:
            console.print(
                f"tune {number} cannot be read, so {path} is not written: try another --seed, or a lower --temperature",
                style="dim",
            )
        else:
            scores.write_midi(path, score)


@by_first
def store(path: Path, text: str) -> None:
    with path.open("x", encoding="utf-8") as file:
        file.write(text)


def midi_files(out: Path, count: int) -> list[Path]:
    """Beside `out`, one for each tune; ValueError where one cannot be new."""
    if out.suffix == ".mid":
        raise ValueError(f"--out is {out}; expected an ABC file, such as tune.abc: MIDI files are written beside it")
    names = [f"{out.stem}.mid"] if count == 1 else [f"{out.stem}-{number}.mid" for number in range(1, count + 1)]
    found = [out.with_name(name) for name in names]
    for path in found:
        check_value("out", path, NewFile)
    return found


main = command(NAME, Config, train, also={"write": (Write, write)})

if __name__ == "__main__":
    main()
