"""Pictures that several experiments draw."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from experiments.common.processes import by_first

matplotlib.rcParams["text.parse_math"] = False  # words and labels are no formulas, whatever dollars they hold

CLASSES = 40  # that a table of them has room for


@by_first
def save(figure: Figure, path: Path) -> None:
    """Write a PNG whole or not at all."""
    partial = path.with_suffix(".partial")
    figure.savefig(partial, format="png", dpi=120)
    partial.replace(path)


def confusion(path: Path, truth: Sequence[int], predicted: Sequence[int], names: Sequence[Any]) -> None:
    """How often each class (a row) was taken for each (a column); of more than `CLASSES` the most frequent, the others as one."""
    counts = np.zeros((len(names), len(names)), int)
    np.add.at(counts, (np.asarray(truth), np.asarray(predicted)), 1)
    right = int(np.trace(counts))
    if len(names) > CLASSES:
        shown = np.sort(np.argsort(-counts.sum(1), kind="stable")[: CLASSES - 1])
        group = np.full(len(names), len(shown))
        group[shown] = np.arange(len(shown))
        merged = np.zeros((CLASSES, CLASSES), int)
        np.add.at(merged, (group[:, None], group[None]), counts)
        names = [*(names[place] for place in shown), f"{len(names) - len(shown)} others"]
        counts = merged
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    size = 2.2 + 0.42 * len(names)
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(counts):
        colour = "white" if share[row, column] > 0.5 else "black"
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=8)
    ticks = range(len(names))
    axes.set_xticks(ticks, [str(name) for name in names], rotation=90 if max(len(str(n)) for n in names) > 3 else 0)
    axes.set_yticks(ticks, [str(name) for name in names])
    axes.set(xlabel="predicted", ylabel="true", title=f"{right} of {counts.sum()} right")
    save(figure, path)


def attention(path: Path, pairs: Sequence[tuple[Sequence[str], Sequence[str], np.ndarray]]) -> None:
    """For each (source, target, weights [target, source]): dark where a target token (a row) looked in the source."""
    heights = [0.32 * len(target) + 0.9 for _, target, _ in pairs]
    widest = max(len(source) for source, _, _ in pairs)
    figure = Figure(figsize=(max(0.24 * widest + 2.4, 5), sum(heights)), layout="constrained")
    rows = np.atleast_1d(figure.subplots(len(pairs), 1, gridspec_kw={"height_ratios": heights}))
    for axes, (source, target, weights) in zip(rows, pairs, strict=True):
        axes.imshow(weights, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        turned = 90 if max(map(len, source)) > 2 else 0
        axes.set_xticks(range(len(source)), source, rotation=turned)
        axes.set_yticks(range(len(target)), target)
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        axes.set_xticks(np.arange(len(source) + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(len(target) + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="#e5e5e5", linewidth=0.5)
        axes.tick_params(which="minor", length=0)
        axes.spines[:].set_visible(False)
    save(figure, path)
