"""A picture of the hypotheses of a beam as a tree."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from experiments.common.pictures import save


def draw(path: Path, hypotheses: Sequence[tuple[Sequence[str], float]]) -> None:
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
