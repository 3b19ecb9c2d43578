"""Sentences with each word in the colour of its part of speech: on the terminal, and as a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.cells import cell_len
from rich.columns import Columns
from rich.text import Text

from experiments.common import pictures


class Look(NamedTuple):
    """Of a tag."""

    name: str
    colour: str


LOOKS = {
    "NOUN": Look("noun", "#9ccbff"),
    "PROPN": Look("name", "#5fa5ee"),
    "PRON": Look("pronoun", "#c9b6f2"),
    "VERB": Look("verb", "#ff9a8d"),
    "AUX": Look("auxiliary", "#ffc9bd"),
    "ADJ": Look("adjective", "#8fdc92"),
    "ADV": Look("adverb", "#c6ecb0"),
    "ADP": Look("preposition", "#ffd27f"),
    "DET": Look("determiner", "#e8c9f0"),
    "CCONJ": Look("and, or", "#f2e394"),
    "SCONJ": Look("if, that", "#dccf6b"),
    "PART": Look("particle", "#f5b880"),
    "NUM": Look("number", "#86e0dc"),
    "INTJ": Look("interjection", "#ffadd6"),
    "PUNCT": Look("punctuation", "#e6e6e6"),
    "SYM": Look("symbol", "#c9d3d9"),
    "X": Look("other", "#b8b8b8"),
}
_WIDTH = 128  # characters in a line of the picture
_CHARACTER = 0.602 * 9 / 72  # inches: of DejaVu Sans Mono at 9 points
_LINE = 0.62  # inches


class Line(NamedTuple):
    """A sentence, or what fits into a line of it."""

    words: Sequence[str]
    tags: Sequence[str]  # as predicted
    gold: Sequence[str]


def shown(words: Sequence[str], tags: Sequence[str]) -> Columns:
    """Words with their tags beneath, for the terminal."""
    cells = [
        Text.assemble((f" {word} ", f"black on {LOOKS[tag].colour}"), "\n", (f" {tag}", "dim"))
        for word, tag in zip(words, tags)
    ]
    return Columns(cells, padding=(1, 1))


def draw(path: Path, sentences: Sequence[Line], title: str) -> None:
    """Words in the colour of the tag predicted, which stands beneath; where it is wrong, the right one beneath that, in red."""
    lines = [line for sentence in sentences for line in _wrapped(sentence)]
    figure = Figure(figsize=(_WIDTH * _CHARACTER, _LINE * (len(lines) + 1.6)))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, _WIDTH), ylim=(len(lines) + 0.8, -0.8))
    axes.axis("off")
    axes.text(1, -0.45, title, fontsize=10, va="center")
    for height, line in enumerate(lines):
        _draw_line(axes, height + 0.3, line)
    _draw_line(axes, len(lines) + 0.4, Line(*[list(LOOKS)] * 3), beneath=[look.name for look in LOOKS.values()])
    pictures.save(figure, path)


def _draw_line(axes: Axes, y: float, line: Line, beneath: Sequence[str] | None = None) -> None:
    """`beneath` stands there in place of the tags."""
    small = {"fontsize": 5.5, "family": "monospace", "va": "center"}
    x = 1.0
    for word, tag, gold, label in zip(*line, beneath or line.tags):
        edge = "none" if tag == gold else "#d00000"
        box = {"boxstyle": "round,pad=0.25", "facecolor": LOOKS[tag].colour, "edgecolor": edge, "linewidth": 1.4}
        axes.text(x, y, word, fontsize=9, family="monospace", va="center", bbox=box)
        axes.text(x, y + 0.33, label, color="#606060", **small)
        if tag != gold:
            axes.text(x, y + 0.5, gold, color="#d00000", weight="bold", **small)
        x += _room(word, label, gold)


def _wrapped(sentence: Line) -> list[Line]:
    """The sentence in lines that fit."""
    lines: list[list[tuple[str, str, str]]] = [[]]
    used = 1.0
    for word in zip(*sentence):
        room = _room(*word)
        if lines[-1] and used + room > _WIDTH:
            lines.append([])
            used = 1.0
        lines[-1].append(word)
        used += room
    return [Line(*zip(*line)) for line in lines]


def _room(word: str, tag: str, gold: str) -> float:
    """Characters that a word takes up, with the gap after it; its tags are smaller."""
    return max(cell_len(word), 0.62 * max(len(tag), len(gold))) + 1.6
