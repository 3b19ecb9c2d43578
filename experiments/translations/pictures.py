"""Pictures of a translation: where each word looked, and the hypotheses of a beam as a tree."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from experiments.common.pictures import save


def attention(path: Path, sentences: Sequence[tuple[Sequence[str], Sequence[str], np.ndarray]]) -> None:
    """For each (source, target, weights [target, source]): dark where a target token (a row) looked at a source token."""
    heights = [0.32 * len(target) + 0.9 for _, target, _ in sentences]
    widest = max(len(source) for source, _, _ in sentences)
    figure = Figure(figsize=(max(0.24 * widest + 2.4, 5), sum(heights)), layout="constrained")
    rows = np.atleast_1d(figure.subplots(len(sentences), 1, gridspec_kw={"height_ratios": heights}))
    for axes, (source, target, weights) in zip(rows, sentences, strict=True):
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


def beams(path: Path, hypotheses: Sequence[tuple[Sequence[str], float]]) -> None:
    """Hypotheses with their scores as a tree that parts where they do, the best on top."""
    depth = max(len(words) for words, _ in hypotheses)
    figure = Figure(figsize=(0.95 * depth + 2.2, 0.55 * len(hypotheses) + 0.6), layout="constrained")
    axes = figure.subplots()
    rows: dict[tuple[str, ...], int] = {}  # of each beginning, the row where it is written
    for row, (words, score) in enumerate(hypotheses):
        for place in range(len(words)):
            beginning = tuple(words[: place + 1])
            if beginning in rows:
                continue
            rows[beginning] = row
            before = rows.get(beginning[:-1], row)
            colour = "#1f77b4" if row == 0 else "#8c8c8c"
            if place:
                axes.plot([place - 0.5, place - 0.35], [before, row], color=colour, linewidth=0.8, zorder=1)
            axes.text(place, row, words[place], ha="center", va="center", color=colour, fontsize=9)
        axes.text(depth - 0.3, row, f"{score:.2f}", ha="left", va="center", fontsize=8, color="#d62728")
    axes.set(xlim=(-0.6, depth + 0.4), ylim=(len(hypotheses) - 0.5, -0.5))
    axes.axis("off")
    save(figure, path)
