"""Pictures of captions: images with what was written about them, and where each word of one looked."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.common.pictures import save


def captioned(path: Path, images: Sequence[np.ndarray], texts: Sequence[str], *, columns: int = 4) -> None:
    """Images [height, width, channels] from 0 to 1 side by side, the text of each below it."""
    figure, cells = _cells(len(images), columns, 1.9, 0.6)
    for axes, image, text in zip(cells, images, texts, strict=False):
        _show(axes, image)
        below = "\n".join(textwrap.wrap(text, 32))
        axes.text(0.5, -0.03, below, transform=axes.transAxes, ha="center", va="top", fontsize=7)
    save(figure, path)


def attention(path: Path, image: np.ndarray, words: Sequence[str], weights: np.ndarray) -> None:
    """The image alone, then for each word where it was looked while writing it: bright; weights [words, height, width]."""
    figure, cells = _cells(len(words) + 1, 6, 1.5, 0.3)
    _show(cells[0], image)
    height, width = image.shape[:2]
    for axes, word, looked in zip(cells[1:], words, weights, strict=False):
        _show(axes, image)
        axes.imshow(
            looked,
            cmap="gray",
            alpha=0.65,
            vmin=0,
            extent=(-0.5, width - 0.5, height - 0.5, -0.5),
            interpolation="bicubic",
        )
        axes.set_title(word, fontsize=8)
    save(figure, path)


def _cells(count: int, columns: int, size: float, text: float) -> tuple[Figure, list[Any]]:
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(size * columns, (size + text) * rows), layout="constrained")
    cells = list(np.ravel(figure.subplots(rows, columns, squeeze=False)))
    for axes in cells:
        axes.axis("off")
    return figure, cells


def _show(axes: Any, image: np.ndarray) -> None:
    axes.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=1)
