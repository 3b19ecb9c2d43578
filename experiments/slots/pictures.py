"""Pictures of labelled utterances, and of how models compare."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.colors import hsv_to_rgb, to_hex
from matplotlib.figure import Figure

from experiments.common.pictures import save
from experiments.data.atis import Utterance

_PLACES = {"fromloc": "#b2182b", "toloc": "#2166ac", "stoploc": "#7b3294", "depart": "#d6604d", "arrive": "#4393c3"}
_RIGHT, _WRONG = 7, 7  # how many utterances of each kind are shown
_SHORT, _WIDE = 8, 17  # fewest and most words of one that is
_SMALL = 0.68  # size of a label beside that of a word


class _Cell(NamedTuple):
    words: str
    slot: str  # "" for none
    truth: str

    @property
    def width(self) -> float:
        labels = (self.slot, self.truth if self.truth != self.slot else "")
        return max(len(self.words), *(_SMALL * len(label) for label in labels)) + 1


def colour(slot: str) -> str:
    """Of a slot, with or without B- and I-: red where a journey starts, blue where it ends, green to yellow for the rest."""
    kind = slot.removeprefix("B-").removeprefix("I-")
    for start, known in _PLACES.items():
        if kind.startswith(start):
            return known
    hue = hashlib.sha256(kind.encode()).digest()[0] / 255  # the same in every run
    return to_hex(tuple(hsv_to_rgb((0.12 + 0.35 * hue, 0.9, 0.55))))


def sentences(path: Path, truth: Sequence[Utterance], labelled: Sequence[Utterance]) -> None:
    """Some utterances as they were labelled, mistakes marked; half of those shown have one, far more than of all."""
    pairs = [pair for pair in zip(truth, labelled, strict=True) if _SHORT <= len(pair[0].words) <= _WIDE]
    wrong = [pair for pair in pairs if pair[0].slots != pair[1].slots]
    right = [pair for pair in pairs if pair[0] == pair[1]]
    shown = _spread(right, _RIGHT) + _spread(wrong, _WRONG)
    rows = [_cells(*pair) for pair in shown]
    width = max([60.0, *(sum(cell.width for cell in row) for row in rows)])
    figure = Figure(figsize=(0.093 * width + 0.3, 0.62 * max(len(rows), 1) + 0.7))
    axes = figure.add_axes((0.01, 0.0, 0.98, 0.94))
    axes.set(xlim=(0, width), ylim=(-len(rows), 0.2))
    axes.axis("off")
    mistaken = sum(a.slots != b.slots for a, b in zip(truth, labelled))
    title = f"{len(truth) - mistaken} of {len(truth)} test utterances have no wrong slot. Some that have none, some that have"
    figure.text(0.01, 0.965, f"{title}; in red what is right.", fontsize=11)
    for line, row in enumerate(rows):
        left = 0.0
        for cell in row:
            _draw(axes, left, -line - 0.1, cell)
            left += cell.width
    save(figure, path)


def bars(path: Path, scores: Mapping[str, Sequence[float]], published: Mapping[str, float]) -> None:
    """F1 of each model, a dot for each of its runs, against the published numbers."""
    figure = Figure(figsize=(7.5, 4.4), layout="constrained")
    axes = figure.subplots()
    means = [float(np.mean(found)) for found in scores.values()]
    lowest = min([*means, *published.values(), *(min(found) for found in scores.values())])
    axes.bar(range(len(scores)), means, width=0.6, color=["#92c5de"] * (len(scores) - 1) + ["#2166ac"])
    for place, (mean, found) in enumerate(zip(means, scores.values(), strict=True)):
        axes.scatter(np.full(len(found), place), found, color="black", s=14, zorder=3)
        axes.annotate(f"{mean:.2f}", (place + 0.08, max(found)), xytext=(0, 4), textcoords="offset points", fontsize=10)
    for (name, value), style in zip(published.items(), (":", "-.", "--", "-"), strict=False):
        axes.axhline(value, label=f"{value:.2f} {name}", color="#8c8c8c", linestyle=style, linewidth=1)
    axes.set_xticks(range(len(scores)), list(scores))
    axes.set(ylim=(lowest - 1, max(97.5, max(means) + 1)), ylabel="span F1, test part (axis cut)")
    if published:
        axes.legend(frameon=False, loc="upper left", fontsize=8)
    save(figure, path)


def _spread(pairs: Sequence[tuple[Utterance, Utterance]], count: int) -> list[tuple[Utterance, Utterance]]:
    """At most `count` of them, from the first to the last."""
    places = sorted({int(place) for place in np.linspace(0, len(pairs) - 1, count)}) if pairs else []
    return [pairs[place] for place in places]


def _cells(truth: Utterance, labelled: Utterance) -> list[_Cell]:
    """The words joined where neither labelling starts, ends or changes a slot."""
    cells: list[_Cell] = []
    for word, true, slot in zip(truth.words, truth.slots, labelled.slots, strict=True):
        true_kind, kind = true[2:], slot[2:]
        goes_on = cells and (cells[-1].slot, cells[-1].truth) == (kind, true_kind) and "B" not in true[0] + slot[0]
        if goes_on and kind + true_kind:
            cells[-1] = cells[-1]._replace(words=f"{cells[-1].words} {word}")
        else:
            cells.append(_Cell(word, kind, true_kind))
    return cells


def _draw(axes, left: float, top: float, cell: _Cell) -> None:
    style = {"family": "monospace", "va": "top", "ha": "left"}
    wrong = cell.slot != cell.truth
    shade = colour(cell.slot) if cell.slot else "#444444"
    box = {"facecolor": "#fddbc7", "edgecolor": "#d7191c", "pad": 1.5} if wrong else None
    axes.text(
        left, top, cell.words, fontsize=10, color=shade, weight="bold" if cell.slot else "normal", bbox=box, **style
    )
    small = 10 * _SMALL
    if cell.slot or wrong:
        axes.text(left, top - 0.34, cell.slot or "no slot", fontsize=small, color=shade, **style)
    if wrong:
        axes.text(left, top - 0.56, f"{cell.truth or 'none'}", fontsize=small, color="#d7191c", **style)
