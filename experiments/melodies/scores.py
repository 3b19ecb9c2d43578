"""Whether tunes in ABC notation can be read, whether their bars are full, and whether they are copied."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.common.extras import need
from experiments.common.processes import by_first
from experiments.data import abc_notation


class Scores(NamedTuple):
    """Of some tunes."""

    tunes: int
    parsed: float  # share that `parse` reads
    bars: float  # of the inner bars of those, the share that is as long as the metre says; 0 where there are none
    inner_bars: int
    copied: float  # share of those that are `copied`
    ended: float  # share that came to an end by itself, before the greatest length


def parse(document: str) -> Any:
    """A tune as a music21 score; None where music21, or `abc_notation`, cannot read it or finds no notes."""
    converter = need("music21.converter", "music")
    try:
        abc_notation.parse_document(document)
        score = converter.parse(abc_notation.as_file(document), format="abc")
        return score if len(score.flatten().notes) else None
    except Exception:  # music21 raises what it comes across: KeyError, ABCTokenException, MeterException ...
        return None


def score(documents: Sequence[str], ended: Sequence[bool], train: Sequence[str]) -> Scores:
    """Of written tunes, given the training tunes."""
    read = [document for document in documents if parse(document) is not None]
    tunes = [abc_notation.parse_document(document) for document in read]
    inner = [bar for tune in tunes for bar in abc_notation.bars(tune) if bar.inner]
    everything = "\0".join(music_of(document) for document in train)
    return Scores(
        tunes=len(documents),
        parsed=len(read) / len(documents),
        bars=sum(bar.length == bar.expected for bar in inner) / len(inner) if inner else 0.0,
        inner_bars=len(inner),
        copied=sum(copied(music_of(document), everything) for document in read) / len(read) if read else 0.0,
        ended=sum(ended) / len(ended),
    )


def copied(melody: str, train: str) -> bool:
    """Whether a run of more than half of a melody's characters, lines joined, stands in `train`."""
    run = len(melody) // 2 + 1
    return any(melody[start : start + run] in train for start in range(len(melody) - run + 1))


def music_of(document: str) -> str:
    """The melody alone, its lines joined, without spaces: how its notes are beamed and broken into lines is not counted."""
    lines = [line for line in document.split("\n") if line[:2] not in ("M:", "K:", "L:")]
    return "".join(lines).replace(" ", "")


@by_first
def write_midi(path: Path, score: Any) -> None:
    """A file with the repeats played; where music21 cannot play them, all as it is written, once."""
    exceptions = need("music21.exceptions21", "music")
    try:
        score.write("midi", fp=str(path))
    except (
        exceptions.Music21Exception
    ):  # repeats that do not fit together, or an object that they put in its place twice
        score.parts[0].flatten().notesAndRests.stream().write("midi", fp=str(path))
