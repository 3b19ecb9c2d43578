"""A picture of a text: how surprised a language model was at each word of it."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from experiments.common.pictures import save

WIDTH = 62.0  # of a line, in heights of a letter
GAP = 0.55  # between words
MOST = 16.0  # bits where the colours end


def surprise(path: Path, words: Sequence[str], bits: np.ndarray, *, end: str, title: str) -> None:
    """The words as running text, each on a ground that is the darker the more bits, `bits` [words], it took the model by surprise.

    A line is broken after `end`, which is shown as ⏎, since the model has to expect it as well.
    """
    font = FontProperties(family="DejaVu Sans")
    places: list[tuple[float, int, float, str]] = []  # left edge, line, width, word
    left, line = 0.0, 0
    for word in words:
        shown = "⏎" if word == end else word
        width = TextPath((0, 0), shown, size=1, prop=font).get_extents().width + 0.25
        if left + width > WIDTH and left > 0:
            left, line = 0.0, line + 1
        places.append((left, line, width, shown))
        left += width + GAP
        if word == end:
            left, line = 0.0, line + 1
    lines = places[-1][1] + 1
    figure = Figure(figsize=(WIDTH * 10 / 72 + 1.2, 0.27 * lines + 1.1), layout="constrained")
    axes = figure.subplots()
    colours, scale = matplotlib.colormaps["YlOrRd"], Normalize(0, MOST)
    for (left, line, width, shown), amount in zip(places, bits, strict=True):
        ground = colours(scale(float(amount)))
        dark = float(np.dot(ground[:3], (0.299, 0.587, 0.114))) < 0.5
        axes.text(
            left + width / 2,
            line,
            shown,
            ha="center",
            va="center",
            fontsize=10,
            fontproperties=font,
            color="white" if dark else "black",
            bbox={"boxstyle": "square,pad=0.18", "facecolor": ground, "edgecolor": "none"},
        )
    axes.set(xlim=(-0.6, WIDTH + 0.6), ylim=(lines - 0.4, -0.7))
    axes.axis("off")
    axes.set_title(title, fontsize=10, loc="left")
    bar = figure.colorbar(ScalarMappable(scale, colours), ax=axes, orientation="horizontal", aspect=60, extend="max")
    bar.set_label("surprise of each word given all before it, in bits: 1 is what one of two equally likely takes")
    save(figure, path)
