"""Clips with what is said of their frames."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from experiments.common.pictures import save

ARROWS = {
    "right": "→", "down right": "↘", "down": "↓", "down left": "↙", "left": "←", "up left": "↖", "up": "↑", "up right": "↗",
}  # fmt: skip
_RIGHT, _WRONG = "#1a7f37", "#d7191c"


def labelled(
    path: Path, frames: np.ndarray, said: Sequence[Sequence[str]], truth: Sequence[Sequence[str]], *, title: str = ""
) -> None:
    """A row for each clip of `frames` [time, clips, height, width, 1]: below each frame what is `said` of it, [clips][time] both,
    green where it is the truth, red with the truth below where not."""
    time, clips = frames.shape[:2]
    figure = Figure(figsize=(0.62 * time + 0.2, 0.98 * clips + 0.5), layout="constrained")
    figure.suptitle(title, fontsize=10)
    axes = figure.subplots(clips, time, squeeze=False)
    for row in range(clips):
        for step in range(time):
            one, word, true = axes[row, step], said[row][step], truth[row][step]
            one.imshow(frames[step, row, ..., 0], cmap="gray", vmin=0, vmax=1)
            one.set(xticks=[], yticks=[])
            one.set_xlabel(
                word if word == true else f"{word}\n({true})", fontsize=9, color=_RIGHT if word == true else _WRONG
            )
    save(figure, path)
