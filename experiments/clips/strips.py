"""Clips to look at: side by side in a picture, or moving."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from experiments.common.processes import by_first

_GAP = 1  # pixels, before they are enlarged
_GREY = 128  # of the gaps


def strip(path: Path, rows: Sequence[np.ndarray], *, scale: int = 3) -> None:
    """Write a PNG: a row for each clip [time, height, width, 1], from 0 to 1, its frames side by side.

    Clips may differ in length; with a clip's truth and its prediction one below the other, errors are seen at a glance.
    """
    time = max(len(row) for row in rows)
    pixels = np.concatenate([_side_by_side(row, time) for row in rows])
    _write(path, [_picture(pixels[_GAP:, _GAP:], scale)], "png")


def animation(path: Path, truth: np.ndarray, predicted: np.ndarray, *, scale: int = 4, milliseconds: int = 150) -> None:
    """Write an animated GIF: clips [time, clips, height, width, 1] side by side, the truth above the prediction.

    `predicted` may be shorter: its last frame goes with the last of `truth`, and before its first the truth is shown, darkened.
    """
    if truth.shape[1:] != predicted.shape[1:] or len(predicted) > len(truth) or not len(truth):
        raise ValueError(
            f"truth is {truth.shape} and predicted {predicted.shape}; expected clips [time, clips, height, width, 1] of one "
            f"size, predicted no longer than truth"
        )
    known = len(truth) - len(predicted)
    below = np.concatenate([truth[:known] / 2, predicted])
    pictures = []
    for above, under in zip(truth, below):
        pixels = np.concatenate([_side_by_side(frames, len(frames)) for frames in (above, under)])
        pictures.append(_picture(pixels[_GAP:, _GAP:], scale))
    _write(path, pictures, "gif", save_all=True, append_images=pictures[1:], duration=milliseconds, loop=0)


def _side_by_side(frames: np.ndarray, columns: int) -> np.ndarray:
    """Frames [count, height, width, 1] as bytes, a gap above and to the left of each, and nothing for those that are missing."""
    padding = (0, columns - len(frames)), (_GAP, 0), (_GAP, 0)
    pixels = np.rint(np.clip(frames[..., 0], 0, 1) * 255).astype(np.uint8)
    return np.concatenate(list(np.pad(pixels, padding, constant_values=_GREY)), axis=1)


def _picture(pixels: np.ndarray, scale: int) -> Image.Image:
    return Image.fromarray(pixels.repeat(scale, 0).repeat(scale, 1))


@by_first
def _write(path: Path, pictures: list[Image.Image], kind: str, **options: object) -> None:
    """The first picture, with its options, whole or not at all."""
    partial = path.with_suffix(".partial")
    pictures[0].save(partial, format=kind, **options)
    partial.replace(path)
