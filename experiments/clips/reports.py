"""What a trained model says of clips, in numbers, words and pictures."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.clips import pictures, strips
from experiments.clips.models import Labeller, Predictor
from experiments.common.pictures import confusion
from experiments.data.moving_digits import NO_DIRECTION, Clips, ways

SHOWN = 6  # clips in a picture


def in_parts(f: Callable[[Any, Any], Any], params: Any, frames: np.ndarray) -> Any:
    """`f(params, frames)` of clips [time, clips, ...], 32 at a time; what it gives likewise."""
    compiled = jax.jit(f)
    parts = [compiled(params, frames[:, start : start + 32]) for start in range(0, frames.shape[1], 32)]
    return jax.tree.map(lambda *found: np.concatenate(found, 1), *parts)


def labels(model: Labeller, params: Any, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The likeliest digits and directions, int [time, clips] each; none of the first frame."""

    def likeliest(params: Any, frames: jax.Array) -> Any:
        return tuple(logits.argmax(-1) for logits in model.apply(params, frames))

    digit, direction = in_parts(likeliest, params, frames)
    direction[0] = NO_DIRECTION
    return digit, direction


def words(model: Labeller, digit: np.ndarray, direction: np.ndarray) -> list[list[str]]:
    """What is said of each frame, [clips][time]: the digit and an arrow."""
    arrows = [*(pictures.ARROWS[way] for way in ways(model.directions)), ""]  # NO_DIRECTION is the last
    return [
        [f"{one} {arrows[way]}".strip() for one, way in zip(*clip, strict=True)] for clip in zip(digit.T, direction.T)
    ]


def report_labels(directory: Path, model: Labeller, params: Any, test: Clips) -> tuple[str, dict[str, Any]]:
    """Percent of frames labelled right, in words and as metrics; pictures."""
    digit, direction = labels(model, params, test.frames)
    right = {"digit": digit == test.digit, "direction": (direction == test.direction)[1:]}
    right["both"] = right["digit"][1:] & right["direction"]
    share = {name: 100 * float(found.mean()) for name, found in right.items()}
    confusion(directory / "confusion.png", test.digit.ravel().tolist(), digit.ravel().tolist(), range(model.digits))
    show_labels(directory / "frames.png", model, test, digit, direction)
    said = ", ".join(f"{name} {value:.2f} %" for name, value in share.items())
    return f"of {digit.size:,} frames right: {said}", {"test": share}


def show_labels(path: Path, model: Labeller, clips: Clips, digit: np.ndarray, direction: np.ndarray) -> None:
    """The picture: the first clips, and what is said of their frames."""
    said = words(model, digit[:, :SHOWN], direction[:, :SHOWN])
    truth = words(model, clips.digit[:, :SHOWN], clips.direction[:, :SHOWN])
    right = float(np.mean([a == b for one, other in zip(said, truth) for a, b in zip(one, other)]))
    title = f"{right:.0%} of these frames labelled right; in red what is wrong, and the truth below"
    pictures.labelled(path, clips.frames[:, :SHOWN], said, truth, title=title)


def continued(model: Predictor, params: Any, seen: np.ndarray, ahead: int) -> np.ndarray:
    """Logits of the pixels of so many frames more, [ahead, clips, height, width, 1]."""
    return in_parts(lambda params, seen: model.apply(params, seen, ahead), params, seen)


def report_frames(
    directory: Path, model: Predictor, params: Any, test: np.ndarray, seen: int
) -> tuple[str, dict[str, Any]]:
    """Nats a frame of those to predict, in words and as metrics, of all and by how far ahead; pictures."""
    truth = test[seen:]
    logits = continued(model, params, test[:seen], len(truth)).astype(np.float64)
    nats = (np.logaddexp(0, logits) - truth * logits).sum((2, 3, 4)).mean(1)
    predicted = 1 / (1 + np.exp(-logits[:, :SHOWN]))
    rows = []
    for clip in range(min(SHOWN, 3)):
        last = np.repeat(test[seen - 1 : seen, clip], len(truth), 0)
        rows += [np.concatenate([test[:seen, clip], shown]) for shown in (truth[:, clip], predicted[:, clip], last)]
    strips.strip(directory / "frames.png", rows)
    strips.animation(directory / "frames.gif", test[:, :SHOWN], predicted)
    said = f"{nats.mean():.2f} nats a frame, from {nats[0]:.1f} for the first to {nats[-1]:.1f} for the last"
    return said, {"nats_per_frame": float(nats.mean()), "ahead": nats.tolist()}
