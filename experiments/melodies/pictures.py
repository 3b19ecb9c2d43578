"""A picture of a tune: its notes over time, with its bars."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.common.pictures import save

ROWS = 32  # quarter notes in a row of the picture
NAMES = ("C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B")


def roll(path: Path, score: Any, *, title: str) -> None:
    """A music21 score of one part as a piano roll: a bar for each note, a grey line at each bar line; repeats stand once."""
    part = score.parts[0]
    notes = [
        (float(note.getOffsetInHierarchy(part)), float(note.quarterLength), pitch.midi)
        for note in part.flatten().notes
        for pitch in note.pitches
    ]
    lines = [float(measure.offset) for measure in part.getElementsByClass("Measure")]
    end = max(start + length for start, length, _ in notes)
    low, high = min(pitch for *_, pitch in notes) - 1, max(pitch for *_, pitch in notes) + 1
    rows = int(np.ceil(end / ROWS))
    figure = Figure(figsize=(11, 0.6 + rows * max(0.11 * (high - low), 1.2)), layout="constrained")
    panels = figure.subplots(rows, squeeze=False)[:, 0]
    for row, axes in enumerate(panels):
        left = row * ROWS
        for line in [*lines, end]:
            axes.axvline(line - left, color="0.75", linewidth=1, zorder=0)
        for start, length, pitch in notes:
            axes.barh(pitch, max(length - 0.06, 0.05), left=start - left, height=0.8, color="tab:blue")
        shown = [pitch for pitch in range(low, high + 1) if pitch % 12 in (0, 2, 4, 5, 7, 9, 11)]
        axes.set_yticks(shown, [f"{NAMES[pitch % 12]}{pitch // 12 - 1}" for pitch in shown], fontsize=6)
        axes.set_xticks(range(0, ROWS + 1, 4), [str(left + place) for place in range(0, ROWS + 1, 4)])
        axes.set(xlim=(0, ROWS), ylim=(low - 0.5, high + 0.5))
        axes.grid(axis="y", color="0.93")
        axes.set_axisbelow(True)
    panels[0].set_title(title, fontsize=10)
    panels[-1].set_xlabel("quarter notes; grey: bar lines")
    save(figure, path)
