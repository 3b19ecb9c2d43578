"""Slot filling: what each word of a question to an airline means (many to many) and what is wanted (many to one), on ATIS.

By default it trains an LSTM of both directions; `--compare` trains four encoders of one direction beside it, which see three words
ahead. In half of what they are trained on words are hidden or left out (`slots.model.noisy`), so that they tell what a city is for
by the words around it, even a city that no training sentence names:

    python -m experiments.slot_filling demo "arrive Taipei on November 2nd" "leave Taipei on November 2nd"

Utterances of your own: `--data DIR`, as SNIPS comes.
"""

import collections
import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.table import Table
from rich.text import Text
from seqeval.metrics.sequence_labeling import get_entities

import jrnn
from experiments.common import supervised
from experiments.common.command import command
from experiments.common.options import Count, Limit, Rate
from experiments.common.recurrent import CELLS, recurrent
from experiments.common.run import Run, console, open_finished
from experiments.data import atis
from experiments.data.atis import Utterance
from experiments.slots import pictures
from experiments.slots.model import Labelled, SlotFiller, SlotFillerParams, noisy
from experiments.slots.scores import floor, score, without_cities
from jrnn.data import Batch, Vocabulary, batch_axes
from jrnn.losses import Mean
from jrnn.train import is_first, of_first

NAME = "slot_filling"
NAMES = "names.json"
MODELS = {  # cell, both directions
    "elman": ("elman", False),
    "jordan": ("jordan", False),
    "lstm": ("lstm", False),
    "gru": ("gru", False),
    "bi-lstm": ("lstm", True),
}
PUBLISHED = {
    "Jordan, both directions (Mesnil et al. 2013)": {"slots": 93.98},
    "RNN (Yao et al. 2013)": {"slots": 94.11},
    "RNN with Viterbi (Mesnil et al. 2015)": {"slots": 95.06},
    "LSTM with attention (Liu & Lane 2016)": {"slots": 95.87, "intent": 98.43},
}
MEANING = {"fromloc": "departure", "toloc": "destination"}
TARGET = {False: 94.0, True: 95.0}  # span F1 of one direction, of both


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(supervised.TrainingConfig):
    """Train to label slots and intent."""

    data: Path | None = None
    """A folder of your own utterances in place of ATIS: train, valid and test, each with seq.in, seq.out and label, a line for each
    utterance, as SNIPS comes. The step that is best on valid is kept."""

    model: Literal[tuple(MODELS)] = "bi-lstm"  # type: ignore[valid-type]
    """The encoder: a cell run forwards, or an LSTM in both directions."""
    compare: bool = False
    """Train every model, one after the other, each in a directory of its own."""
    seeds: Count = 1
    """With --compare: runs of each model, from --seed on."""
    held_out: bool = False
    """Train without the 500 utterances of atis-2.dev and keep the step that is best on them, as the options here were chosen.
    Otherwise they are trained on too, as in published results, and the step kept is the one that fits them best."""
    hidden: Count = 128
    """Units in each direction."""
    embedding: Count = 100
    """Size of the vector that stands for a word."""
    window: Annotated[int, Limit("0 or more words", lambda value: value >= 0)] = 3
    """Words on either side that are read with each word by a model of one direction; one of both directions reads none."""
    dropout: Rate = 0.5
    """Share of features dropped before and after the recurrent layer."""
    crf: bool = False
    """Choose the slots of an utterance together, by a conditional random field."""
    intent_weight: float = 10.0
    """How much an utterance's intent counts in the loss beside one word's slot."""
    rare: float = 1.0
    """In half of the training utterances a word seen n times is made unknown with probability rare / (rare + n)."""
    name_rate: Rate = 0.3
    """A word that fills a slot is made unknown with this probability at least."""
    omit_rate: Rate = 0.1
    """In the same utterances a word that fills no slot is left out with this probability."""
    epochs: Count = 25
    learning_rate: float = 0.004
    utterances: Count | None = None
    """Train and test on so many utterances only."""

    SMOKE: ClassVar[dict[str, Any]] = {"epochs": 1, "hidden": 8, "embedding": 8, "utterances": 64}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Demo:
    """Label sentences of yours."""

    sentences: Annotated[tuple[str, ...], tyro.conf.Positional] = (
        "arrive Taipei on November 2nd",
        "leave Taipei on November 2nd",
    )
    """Each in quotes."""
    run: Path | None = None
    """Run directory of a trained model; by default the newest in runs/slot_filling."""


class Names(NamedTuple):
    """What the integers of a model stand for."""

    words: Vocabulary
    slots: tuple[str, ...]  # O first
    intents: tuple[str, ...]

    @classmethod
    def of(cls, utterances: Sequence[Utterance]) -> "Names":
        slots = sorted({slot for utterance in utterances for slot in utterance.slots} - {"O"})
        intents = sorted({utterance.intent for utterance in utterances})
        return cls(
            Vocabulary.build(spelled(utterance.words) for utterance in utterances), ("O", *slots), tuple(intents)
        )


def spelled(words: Sequence[str]) -> list[str]:
    """The words as the model knows them: every digit a 0, so that a number never seen is like those that were."""
    return [re.sub(r"\d", "0", word) for word in words]


def build(config: Config, names: Names) -> SlotFiller:
    """Embedding, dropout, the recurrent layer, dropout, and both heads."""
    cell, both = MODELS[config.model]
    window = 0 if both else config.window
    layer = recurrent(CELLS[cell](config.embedding * (2 * window + 1), config.hidden), both_ways=both)
    dropout = jrnn.Dropout(config.dropout)
    return SlotFiller(
        jrnn.Embedding(len(names.words), config.embedding),
        window,
        jrnn.Layered((dropout, layer, dropout)),
        len(names.slots),
        len(names.intents),
        crf=config.crf,
    )


def make_loss(config: Config, model: SlotFiller, names: Names, utterances: Sequence[Utterance]) -> Any:
    """The loss on a batch, with its noise while there is a key."""
    counts = collections.Counter(word for utterance in utterances for word in spelled(utterance.words))
    seen = np.array([counts[word] for word in names.words.tokens], np.float32)
    rare = jnp.asarray(config.rare / np.maximum(config.rare + seen, 1e-6))

    def loss(params: SlotFillerParams, batch: Batch, key: jax.Array | None) -> Mean:
        noise, dropout = (None, None) if key is None else jax.random.split(key)
        rates = {"name_rate": config.name_rate, "omit_rate": config.omit_rate}
        data, lengths = noisy(batch, noise, rare=rare, **rates)
        return model.loss(params, data, lengths, intent_weight=config.intent_weight, key=dropout)

    return loss


def make_label(model: SlotFiller, names: Names) -> Callable[[SlotFillerParams, Sequence[Utterance]], list[Utterance]]:
    """`label(params, utterances)`: what the model makes of their words, in place of their own slots and intent."""

    @jax.jit
    def decode(params: SlotFillerParams, batch: Batch) -> jax.Array:
        slots, intent = model.decode(params, batch.data, batch.lengths)
        return jnp.stack([slots, jnp.broadcast_to(intent[None], slots.shape)], -1)

    def label(params: SlotFillerParams, utterances: Sequence[Utterance]) -> list[Utterance]:
        words = [names.words.encode(spelled(utterance.words)) for utterance in utterances]
        found = supervised.predict(decode, params, supervised.bucketed(words, batch=64, shapes=1), time=True)
        return [
            Utterance(utterance.words, tuple(names.slots[slot] for slot in ids[:, 0]), names.intents[ids[0, 1]])
            for utterance, ids in zip(utterances, found, strict=True)
        ]

    return label


def experiment(run: Run, config: Config) -> None:
    """Train one model, or all of them."""
    data = atis.load(config.data_dir) if config.data is None else atis.load_folder(config.data)
    if config.utterances is not None:
        data = atis.Atis(*(part[: config.utterances] for part in data))
    (compare if config.compare else train)(run, config, data)


def train(run: Run, config: Config, data: atis.Atis) -> None:
    """Train one model, evaluate its best checkpoint, write result.json."""
    own = config.data is not None
    selects = config.held_out or own
    if not selects:
        data = data._replace(train=[*data.train, *data.valid])
    names = Names.of(data.train)
    model = build(config, names)
    examples = [
        Labelled(
            names.words.encode(spelled(u.words)),
            np.array([names.slots.index(slot) for slot in u.slots], np.int32),
            np.int32(names.intents.index(u.intent)),
        )
        for u in data.train
    ]

    label = make_label(model, names)

    def evaluate(params: SlotFillerParams) -> float:
        found = score(data.valid, label(params, data.valid))
        return 100 - (found["slots"] + found["intent"]) / 2

    run.start({NAMES: {**names._asdict(), "words": names.words.tokens}})
    params, fitted = supervised.train(
        run,
        config,
        params=model.init(jax.random.key(config.seed)),
        loss=make_loss(config, model, names, data.train),
        batches=supervised.bucketed(examples, batch=config.batch, shapes=3, seed=config.seed),
        batch_axes=batch_axes(examples[0]),
        evaluate=evaluate,
        unit="nats per word",
        valid_unit="100 - mean of F1 and intent %" + (", held out" if selects else ", trained on"),
    )
    labelled = label(params, data.test)
    metrics = {
        "test": score(data.test, labelled),
        "held out" if selects else "of the training part": score(data.valid, label(params, data.valid)),
    }
    floors = {f"most frequent, {name}": value for name, value in floor(data.train, data.test).items()}
    pictures.sentences(run.directory / "sentences.png", data.test, labelled)
    said = (
        f"{config.model}, {len(data.train):,} utterances to train on, test part: {described(metrics['test'])} "
        f"(floor {floors['most frequent, slots']:.1f} and {floors['most frequent, intent']:.1f}"
    )
    if own:
        said += ")"
    else:
        unknown = score(data.test, label(params, without_cities(data.test)))
        metrics |= {"test, every city unknown": unknown, "published": PUBLISHED}
        said += f", target {TARGET[MODELS[config.model][1]]:.1f} and 95); with every city unknown: {described(unknown)}"
    supervised.finish(run, fitted, said, metrics=metrics, floors=floors)


def described(scores: Mapping[str, float]) -> str:
    return f"span F1 {scores['slots']:.2f}, intent {scores['intent']:.2f} %"


def compare(run: Run, config: Config, data: atis.Atis) -> None:
    """Train every model, `seeds` times each, those that are done already left as they are; a table and a picture."""
    run.start()
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in MODELS}
    for seed in range(config.seed, config.seed + config.seeds):
        for name in MODELS:
            directory = run.directory / f"{name}-{seed}"
            done = directory / "result.json"
            if not of_first(done.exists()):
                resume = of_first((directory / "config.json").exists())
                one = dataclasses.replace(
                    config, model=name, seed=seed, compare=False, seeds=1, out=directory, resume=resume
                )
                train(Run(NAME, one, directory), one, data)
            results[name].append(of_first(json.loads(done.read_text()) if is_first() else None))
    published = PUBLISHED if config.data is None else {}
    scores = {name: [result["metrics"]["test"] for result in found] for name, found in results.items()}
    minutes = {name: sum(result["seconds"] for result in found) / 60 for name, found in results.items()}
    table = Table("model", "directions", "span F1", *(["target"] if published else []), "intent %", "minutes")
    for name, found in scores.items():
        both = MODELS[name][1]
        cells = [spread([score[metric] for score in found]) for metric in ("slots", "intent")]
        target = [f"{TARGET[both]:.1f}"] if published else []
        table.add_row(name, "both" if both else "one", cells[0], *target, cells[1], f"{minutes[name]:.1f}")
    console.print(table)
    floors = next(iter(results.values()))[0]["floors"]
    pictures.bars(
        run.directory / "models.png",
        {name: [score["slots"] for score in found] for name, found in scores.items()},
        {name: numbers["slots"] for name, numbers in published.items()},
    )
    path = run.write_result(
        metrics={"test": scores, "published": published}, floors=floors, seconds=60 * sum(minutes.values())
    )
    console.print(f"floor {floors['most frequent, slots']:.1f}; {sum(minutes.values()):.1f} minutes; {path}")


def spread(values: Sequence[float]) -> str:
    """The mean and, of several, the smallest and the largest."""
    mean = f"{np.mean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.2f}..{max(values):.2f})"


def demo(options: Demo) -> None:
    """Label sentences with a trained model."""
    run, config = open_finished(newest() if options.run is None else options.run, NAME, Config)
    stored = run.read(NAMES)
    names = Names(Vocabulary(tuple(stored["words"])), tuple(stored["slots"]), tuple(stored["intents"]))
    model = build(config, names)
    params = supervised.restore(run, model.init(jax.random.key(0)))
    sentences = [atis.words_of(sentence) for sentence in options.sentences]
    if not all(sentences) or not sentences:
        empty = next((sentence for sentence, words in zip(options.sentences, sentences) if not words), "")
        raise ValueError(f"sentence {empty!r} has no word; expected one such as 'arrive Taipei on November 2nd'")
    console.print(f"{config.model} in {run.directory}", style="dim")
    for utterance in make_label(model, names)(params, [Utterance(words, (), "") for words in sentences]):
        show(utterance, names)


def show(utterance: Utterance, names: Names) -> None:
    """The words, coloured by slot; what each slot holds, and whether its words were ever seen in training."""
    line = Text()
    for word, slot in zip(utterance.words, utterance.slots, strict=True):
        line.append(word, style="" if slot == "O" else f"bold {pictures.colour(slot)}").append(" ")
    console.print()
    console.print(line)
    table = Table(box=None, show_header=False, padding=(0, 2))
    for kind, first, last in get_entities(list(utterance.slots)):
        words = utterance.words[first : last + 1]
        unseen = [word for word, known in zip(words, spelled(words)) if known not in names.words]
        note = f"{', '.join(map(repr, unseen))} never seen in training" if unseen else ""
        meaning = MEANING.get(kind.split(".")[0], "")
        table.add_row(Text(kind, style=pictures.colour(kind)), " ".join(words), meaning, Text(note, style="dim"))
    table.add_row("intent", utterance.intent)
    console.print(table)


def newest() -> Path:
    """The newest finished run of one model, or of the default one in a comparison."""
    folder = Path("runs", NAME)
    found = [*folder.glob(f"*/{NAMES}"), *folder.glob(f"*/{Config.model}-*/{NAMES}")]
    runs = sorted(path.parent for path in found if (path.parent / "result.json").exists())
    if not runs:
        raise ValueError(
            f"no trained model in {Path('runs', NAME)}: train one by python -m experiments.{NAME}, or name one by --run"
        )
    return runs[-1]


main = command(NAME, Config, experiment, also={"demo": (Demo, demo)})

if __name__ == "__main__":
    main()
