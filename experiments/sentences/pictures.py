"""How a model's opinion of a sentence changes as it unfolds."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.common.pictures import save
from experiments.data.sentences import Part

PANELS = 6  # sentences that are shown
WIDEST = 16  # words of them
NAMED = 6  # labels of a sentence that are named

Unfold = Callable[[Sequence[str]], np.ndarray]
"""`unfold(words) -> [words, classes]`: how likely each class would be if the sentence ended after each word."""


def turning(unfold: Unfold, part: Part) -> list[tuple[list[str], int]]:
    """Of the rightly classified sentences, the one of each label that looked least like it before its end, and its label.

    Of the `PANELS` most frequent labels, and of sentences of 8 to `WIDEST` words; of any from 2 where a label has none of these.
    """
    labels = np.bincount(part.labels)
    shown = sorted(np.argsort(-labels, kind="stable")[:PANELS].tolist())
    return [(words, label) for label in shown for words in _furthest(unfold, part, label)]


def _furthest(unfold: Unfold, part: Part, label: int) -> list[list[str]]:
    """One sentence or none."""
    own = [words for words, other in zip(part.sentences, part.labels) if other == label and 2 <= len(words) <= WIDEST]
    long = [words for words in own if len(words) >= 8]
    least, found = np.inf, []
    for words in long or own:
        likely = unfold(words)
        before = likely[3 if long else 0 :, label].min()
        if likely[-1].argmax() == label and before < least:
            least, found = before, [words]
    return found


def unfolding(
    path: Path, unfold: Unfold, classes: Sequence[str], sentences: Sequence[tuple[Sequence[str], str]]
) -> None:
    """Of sentences, each with a title: how likely the second of two classes is after each word, or each of several classes."""
    columns = min(len(sentences), 2)
    rows = -(-len(sentences) // columns)
    figure = Figure(figsize=(6.5 * columns, 3.1 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes in panels.flat[len(sentences) :]:
        axes.set_visible(False)
    for axes, (words, title) in zip(panels.flat, sentences):
        likely = unfold(words)
        if len(classes) == 2:
            _two(axes, likely[:, 1])
        else:
            _several(axes, likely, classes)
        axes.set_xticks(range(len(words)), words, rotation=40, ha="right", rotation_mode="anchor")
        axes.set(ylim=(-0.03, 1.03), xlim=(-0.4, len(words) - 0.6))
        axes.set_title(title, fontsize=9, loc="right", color="#666666")
        axes.spines[["top", "right"]].set_visible(False)
    what = f"'{classes[1]}'" if len(classes) == 2 else "each label"
    figure.supylabel(f"probability of {what} after each word", fontsize=10)
    save(figure, path)


def _two(axes: Axes, likely: np.ndarray) -> None:
    steps = np.arange(len(likely))
    # Finer than the words, so that the colour changes where the line crosses a half.
    fine = np.linspace(0, len(likely) - 1, 20 * len(likely))
    line = np.interp(fine, steps, likely)
    axes.fill_between(fine, 0.5, line, where=(line >= 0.5).tolist(), color="#2ca02c", alpha=0.25, linewidth=0)
    axes.fill_between(fine, 0.5, line, where=(line <= 0.5).tolist(), color="#d62728", alpha=0.25, linewidth=0)
    axes.plot(steps, likely, color="#333333", marker="o", markersize=4, linewidth=1.2)
    axes.axhline(0.5, color="#8c8c8c", linewidth=0.8)


def _several(axes: Axes, likely: np.ndarray, classes: Sequence[str]) -> None:
    """The classes that are the likeliest after some word by name, the longest ahead first, the others in grey."""
    ahead = np.bincount(likely.argmax(-1), minlength=len(classes))
    named = [place for place in np.argsort(-ahead, kind="stable")[:NAMED] if ahead[place]]
    colours = colormaps["tab10" if len(classes) <= 10 else "tab20"]  # a label has its colour in every panel
    steps = np.arange(len(likely))
    axes.plot(steps, np.delete(likely, named, axis=1), color="#cccccc", linewidth=0.8)
    for place in named:
        colour = colours(place % colours.N)
        axes.plot(steps, likely[:, place], color=colour, marker="o", markersize=4, linewidth=1.2, label=classes[place])
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
