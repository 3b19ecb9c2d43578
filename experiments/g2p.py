"""Grapheme to phoneme: a word's letters in, its phonemes out, by encoder, attention and decoder.

    python -m experiments.g2p

learns to pronounce English words from CMUdict and is tested on words that it never saw. `attention.png` shows at which letters it
looked for each phoneme. What was trained pronounces words of yours: `python -m experiments.g2p pronounce --run DIR WORD...`, with
`--beams` and `--attention FILE.png`. Your own dictionary: `--file FILE`, in CMUdict's format.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import jax
import tyro

from experiments.common import pictures, supervised
from experiments.common.command import command
from experiments.common.extras import need
from experiments.common.options import Count, NewFile, Rate
from experiments.common.recurrent import Cell
from experiments.common.run import Run, Trained, console, open_finished
from experiments.common.translator import (
    PADDING,
    START,
    UNKNOWN,
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
from experiments.data import pronunciations
from experiments.data.pronunciations import Entry, Pronunciations
from jrnn.data import Vocabulary, batch_axes

NAME = "g2p"
VOCABULARIES = "vocabularies.json"
TARGET = 34.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(TranslatorConfig, supervised.TrainingConfig):
    """Train a model that pronounces words."""

    dictionary: pronunciations.Dictionary = "packaged"
    """CMUdict as a package brings it, or as it is kept today."""
    file: Path | None = None
    """A pronouncing dictionary in CMUdict's format, in place of --dictionary: a line 'tomato(2) T AH0 M AA1 T OW2' for each way."""
    cell: Cell = "gru"
    hidden: Count = 256
    """Units of the decoder, and of the encoder in each direction."""
    dropout: Rate = 0.2
    batch: Count = 256
    learning_rate: float = 0.003
    epochs: Count = 10

    SMOKE: ClassVar[dict[str, Any]] = {"hidden": 12, "embedding": 8, "batch": 32, "epochs": 1}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pronounce(Trained):
    """Pronounce words with a trained model."""

    words: tyro.conf.Positional[tuple[str, ...]]
    """Of letters that were in training; upper case is read as lower."""
    beams: Count | None = None
    """Show so many pronunciations of each with their scores, and keep as many while searching."""
    attention: NewFile | None = None
    """Write a picture of the letters that each phoneme looked at."""


def make_translator(config: Config, vocabularies: Vocabularies) -> Translator:
    """Of letters to phonemes, of which it writes 7 for 'w'."""
    return Translator(
        build(config, vocabularies), vocabularies, lambda letters: 3 * letters + 10, forbidden=(PADDING, UNKNOWN, START)
    )


def pronounced(translator: Translator, params: Any, entries: Sequence[Entry], *, beams: int) -> list[list[str]]:
    """The likeliest pronunciation of each word."""
    found = translator.translate(params, [entry.word for entry in entries], beams=beams, batch=256)
    return [hypotheses[0][0] for hypotheses in found]


def train(run: Run, config: Config) -> None:
    """Train on every pronunciation, pronounce the test part with the best checkpoint, write result.json and the picture."""
    need("rapidfuzz.distance", "pronunciation")  # for the scores, which come only after the first pass
    found = pronunciations.load(config.dictionary, file=config.file, data_dir=config.data_dir)
    if config.smoke:
        found = thinned(found, 100)
    ways = [(entry.word, spoken) for entry in found.train for spoken in entry.pronunciations]
    words, targets = zip(*ways, strict=True)
    vocabularies = vocabulary(words), vocabulary(targets)
    translator = make_translator(config, vocabularies)
    parts = examples(words, targets, vocabularies)
    shapes = 1 if config.smoke else 4
    axes = batch_axes(parts[0])

    def loss(params: Any, batch: Any, key: jax.Array | None) -> Any:
        return pair_loss(translator.model, params, batch, key)

    def wrong(params: Any) -> float:
        params = jax.device_put(params, jax.local_devices()[0])
        said = pronounced(translator, params, found.valid, beams=1)
        return 100 * pronunciations.score(said, found.valid).word_error_rate

    run.start({VOCABULARIES: [one.tokens for one in vocabularies]})
    console.print(
        f"{found.name}: {len(found.train):,} words to train on ({len(parts):,} pronunciations), {len(found.valid):,} held out, "
        f"{len(found.test):,} to test; {len(vocabularies[0]) - 4} letters, {len(vocabularies[1]) - 4} phonemes"
    )
    best, fitted = supervised.train(
        run,
        config,
        params=translator.model.init(jax.random.key(config.seed)),
        loss=loss,
        batches=batched(parts, batch=config.batch, shapes=shapes, seed=config.seed),
        batch_axes=axes,
        evaluate=wrong,
        unit="nats per phoneme",
        valid_unit="% of words wrong, the likeliest phoneme at each step",
    )
    said = pronounced(translator, best, found.test, beams=config.beams)
    scores = pronunciations.score(said, found.test)
    rates = {name: 100 * rate for name, rate in scores._asdict().items()}
    shown = middling([entry.word for entry in found.test])
    drawn = list(translator.looked(best, [found.test[i].word for i in shown], [said[i] for i in shown]))
    if drawn:
        pictures.attention(run.directory / "attention.png", drawn)
    reached = "reached" if rates["word_error_rate"] <= TARGET else "NOT reached"
    beside = "" if config.file or config.smoke else f"; target {TARGET:.0f} % of words {reached}"
    text = f"test: {rates['word_error_rate']:.2f} % of words wrong, {rates['phoneme_error_rate']:.2f} % of phonemes{beside}"
    supervised.finish(run, fitted, text, metrics={"test": rates}, floors={})


def thinned(found: Pronunciations, most: int) -> Pronunciations:
    """At most so many words of each part, from all over it."""
    return Pronunciations(found.name, *(part[:: -(-len(part) // most)] for part in found[1:]))


def pronounce(options: Pronounce) -> None:
    """Print pronunciations, with their scores if wanted."""
    run, config = open_finished(options.run, NAME, Config)
    letters, phonemes = (Vocabulary(tuple(tokens)) for tokens in run.read(VOCABULARIES))
    words = [word.strip().lower() for word in options.words]
    for place, word in enumerate(words, 1):
        check_word(f"word {place}", word, letters)
    translator = make_translator(config, (letters, phonemes))
    params = supervised.restore(run, translator.model.init(jax.random.key(0)))
    width = max(options.beams or 0, config.beams)
    found = translator.translate(params, words, beams=width, best=options.beams or 1)
    for word, hypotheses in zip(words, found, strict=True):
        for spoken, score in hypotheses:
            said = " ".join(spoken)
            console.print(f"{word}  {score:7.3f}  {said}" if options.beams else f"{word}  {said}", markup=False)
    if options.attention:
        drawn = list(translator.looked(params, words, [hypotheses[0][0] for hypotheses in found]))
        if not drawn:
            raise ValueError(f"--attention {options.attention}: {options.run} was trained with --attention none")
        pictures.attention(options.attention, drawn)


def check_word(place: str, word: str, letters: Vocabulary) -> None:
    """ValueError for a word that cannot be pronounced."""
    if not word:
        raise ValueError(f"{place} is empty; expected at least one letter")
    if unknown := dict.fromkeys(letter for letter in word if letter not in letters):
        known = "".join(sorted(letter for letter in letters.tokens if letter in letters and len(letter) == 1))
        raise ValueError(
            f"{place} is {word!r} with {', '.join(map(repr, unknown))}, never seen in training; expected letters of {known}: "
            "write numbers as words, leave accents and marks out"
        )


main = command(NAME, Config, train, also={"pronounce": (Pronounce, pronounce)})

if __name__ == "__main__":
    main()
