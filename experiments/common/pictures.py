"""Pictures that several experiments draw."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure


def save(figure: Figure, path: Path) -> None:
    """Write a PNG whole or not at all."""
    partial = path.with_suffix(".partial")
    figure.savefig(partial, format="png", dpi=120)
    partial.replace(path)


def confusion(path: Path, truth: Sequence[int], predicted: Sequence[int], names: Sequence[Any]) -> None:
    """How often each class (a row) was taken for each (a column)."""
    counts = np.zeros((len(names), len(names)), int)
    np.add.at(counts, (np.asarray(truth), np.asarray(predicted)), 1)
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
    right = int(np.trace(counts))
    axes.set(xlabel="predicted", ylabel="true", title=f"{right} of {counts.sum()} right")
    save(figure, path)
