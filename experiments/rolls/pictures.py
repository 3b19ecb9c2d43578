"""Pictures of piano rolls."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from experiments.common.pictures import save
from experiments.data.midi import LOWEST


def rolls(path: Path, shown: Sequence[tuple[str, np.ndarray]], *, mark: int | None = None) -> None:
    """Rolls [time, 88] below each other, bool or probabilities, each with a title; a line before the frame `mark` of the last."""
    used = np.flatnonzero(np.any([np.asarray(roll).max(0, initial=0) > 0.1 for _, roll in shown], axis=0))
    low, high = (used[0] - 1, used[-1] + 2) if len(used) else (39, 52)
    figure = Figure(figsize=(11, 0.6 + 2.4 * len(shown)), layout="constrained")
    every = figure.subplots(len(shown), sharex=True, squeeze=False)[:, 0]
    for axes, (title, roll) in zip(every, shown, strict=True):
        axes.imshow(np.asarray(roll, float).T, origin="lower", aspect="auto", cmap="magma_r", vmin=0, vmax=1)
        octaves = [key for key in range(low, high) if (key + LOWEST) % 12 == 0]
        axes.set_yticks(octaves, [f"C{(key + LOWEST) // 12 - 1}" for key in octaves])
        axes.set_ylim(low - 0.5, high - 0.5)
        axes.grid(axis="y", color="0.85", linewidth=0.5)
        axes.set_title(title, loc="left", fontsize=10)
    if mark is not None:
        every[-1].axvline(mark - 0.5, color="tab:blue", linewidth=1)
    every[-1].set_xlabel("frame")
    save(figure, path)
