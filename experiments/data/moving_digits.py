"""Clips of handwritten digits that move, made as they are asked for from the images of `experiments.data.digits`.

`labelled` clips show one digit that goes a step each frame, turns and changes into another digit now and then; each frame is
labelled with the digit and the way it came. `bouncing` clips show digits that go straight on, pass through each other and
bounce off the edges, to be continued: Moving MNIST (Srivastava et al. 2015) has two digits of MNIST, 20 frames of 64 x 64
pixels, of which ten are seen and ten predicted. There each is set back to an edge that it crosses; here it is reflected.

Clips of the training, validation and test part come from different images, as `digits.load` splits them. A generator of random
numbers says which clips: `batches` makes one for each step from a seed, so the same step is always the same clips.

| images    | canvas  | `bouncing`, two digits, test part, nats a frame: last frame / mean frame / truth |
|-----------|---------|----------------------------------------------------------------------------------|
| `sklearn` | 24 x 24 | 133 / 123 / 26                                                                   |
| `mnist`   | 64 x 64 | 770 / 663 / 87                                                                   |

The first two are `floors`; the truth itself is not 0, as its pixels are grey.

Srivastava, Mansimov and Salakhutdinov, "Unsupervised learning of video representations using LSTMs", ICML 2015.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import grain
import numpy as np

from experiments.data.digits import Images

DIRECTIONS = ("right", "down right", "down", "down left", "left", "up left", "up", "up right")  # clockwise
NO_DIRECTION = -1  # of the first frame
SEEN = 10  # frames of a clip that are shown; the rest is to be predicted

_OFFSETS = np.array([(0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1)])  # down, right
_LEVELS = 17  # of grey that the floor tells apart: as many as scikit-learn's digits have


class Clips(NamedTuple):
    """Clips side by side, time first, and what their frames show."""

    frames: np.ndarray  # float32 [time, clips, height, width, 1], from 0 to 1
    digit: np.ndarray  # int32 [time, clips]
    direction: (
        np.ndarray
    )  # int32 [time, clips]: the way from the frame before, a place in `ways`; -1 in the first frame


class Floors(NamedTuple):
    """Cross-entropy, in nats a frame, of predictions that follow no motion."""

    last_frame: float  # a pixel's mean, in training, given its grey in the last frame seen and how long ago that is
    mean_frame: float  # a pixel's mean in training


def ways(directions: int) -> tuple[str, ...]:
    """The names of four or eight directions, in the order of their labels."""
    if directions not in (4, 8):
        raise ValueError(f"directions is {directions}; expected 4, along the edges, or 8, with the diagonals")
    return DIRECTIONS[:: len(DIRECTIONS) // directions]


def labelled(
    images: Images,
    random: np.random.Generator,
    count: int,
    *,
    time: int = 20,
    canvas: int | None = None,
    directions: int = 8,
    speed: int = 1,
    turn: float = 0.1,
    change: float = 0.1,
) -> Clips:
    """So many clips of one digit each, which goes `speed` pixels a frame along an axis, or along both.

    Before each frame but the first it turns with probability `turn`, and where it would leave the canvas, into one of the other
    directions that do not leave it; and with probability `change` it becomes another digit. `canvas` is the height and width,
    by default 64 for digits of 28 x 28 pixels, else three times theirs.
    """
    _check_counts(count=count, time=time, speed=speed)
    for name, value in {"turn": turn, "change": change}.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} is {value}; expected a probability, from 0 to 1")
    room = _room(images, canvas)
    if min(room) < 2 * speed:
        raise ValueError(
            f"canvas leaves a digit {min(room)} pixels to move; expected at least twice the speed {speed}: raise canvas or "
            f"lower speed"
        )
    offsets = speed * _OFFSETS[:: len(_OFFSETS) // len(ways(directions))]

    place = random.integers(0, np.add(room, 1), (count, 2))
    shown = random.integers(0, len(images.labels), count)
    way = random.integers(0, directions, count)
    places, rows, came = [place], [shown], [np.full(count, NO_DIRECTION)]
    for _ in range(time - 1):
        reached = place[:, None] + offsets  # [count, directions, 2]
        inside: np.ndarray = np.all((reached >= 0) & (reached <= room), axis=-1)
        stays = inside[np.arange(count), way] & (random.random(count) >= turn)
        others = np.where(inside & (np.arange(directions) != way[:, None]), random.random((count, directions)), -1)
        way = np.where(stays, way, others.argmax(1))
        place = place + offsets[way]
        if change:
            shown = np.where(random.random(count) < change, _another(images.labels, shown, random), shown)
        places.append(place)
        rows.append(shown)
        came.append(way)
    shown = np.stack(rows)
    frames = _draw(images.pixels, shown[..., None], np.stack(places)[:, :, None], room)
    return Clips(frames, images.labels[shown].astype(np.int32), np.stack(came).astype(np.int32))


def bouncing(
    images: Images,
    random: np.random.Generator,
    count: int,
    *,
    time: int = 20,
    canvas: int | None = None,
    digits: int = 2,
    speed: float = 0.1,
) -> np.ndarray:
    """So many clips of so many digits, float32 [time, count, height, width, 1]; where digits overlap the brighter pixel is seen.

    Each starts anywhere, in any direction, and goes `speed` of the way from edge to edge a frame. `canvas` as in `labelled`.
    """
    _check_counts(count=count, time=time, digits=digits)
    if not 0 < speed <= 1:
        raise ValueError(f"speed is {speed}; expected a share of the way from edge to edge, above 0 and at most 1")
    room = _room(images, canvas)
    start = random.random((count, digits, 2))
    angle = random.uniform(0, 2 * np.pi, (count, digits))
    velocity = speed * np.stack([np.sin(angle), np.cos(angle)], -1)
    way = np.mod(start + velocity * np.arange(time)[:, None, None, None], 2)  # there and back again is 2
    places = np.rint((1 - np.abs(1 - way)) * room).astype(int)
    shown = np.broadcast_to(random.integers(0, len(images.labels), (count, digits)), places.shape[:-1])
    return _draw(images.pixels, shown, places, room)


def batches(draw: Callable[[np.random.Generator], Any], *, seed: int, length: int) -> grain.MapDataset:
    """What `draw` makes of a generator of random numbers, `length` times; step t is the same whenever it is asked for.

    `batches(lambda random: labelled(found.train, random, 32), seed=0, length=500)` are 500 batches of 32 clips.
    """
    return grain.MapDataset.range(length).map(lambda step: draw(np.random.default_rng([seed, step])))


def frame_cross_entropy(probability: np.ndarray, frames: np.ndarray) -> float:
    """Nats a frame: the cross-entropy of pixels, as probabilities, summed over a frame, a mean over time and clips.

    `frames` is [time, clips, height, width, 1], `probability` of a shape that broadcasts to it, strictly between 0 and 1.
    """
    probability = np.asarray(probability, np.float64)
    nats = -(frames * np.log(probability) + (1 - frames) * np.log1p(-probability))
    return float(nats.sum(axis=(2, 3, 4)).mean())


def floors(train: np.ndarray, held_out: np.ndarray, *, seen: int = SEEN) -> Floors:
    """What predicts the frames of `held_out` from `seen` on without motion, learned on `train`; each [time, clips, h, w, 1].

    Each mean has one pixel of the overall mean added, so that none is 0 or 1.
    """
    for name, clips in {"train": train, "held_out": held_out}.items():
        if clips.ndim != 5 or not 0 < seen < len(clips) or clips.shape[2:] != train.shape[2:]:
            raise ValueError(
                f"{name} is {clips.shape} and seen is {seen}; expected clips [time, clips, height, width, 1], as large as those "
                f"of train, of more than seen frames"
            )
    ahead = np.arange(len(train) - seen)
    if len(held_out) - seen != len(ahead):
        raise ValueError(f"held_out has {len(held_out)} frames; expected as many as train, {len(train)}")
    targets = train[seen:].astype(np.float64)
    overall = targets.mean()
    mean_frame = (targets.sum(axis=(0, 1)) + overall) / (targets.shape[0] * targets.shape[1] + 1)

    def cell(clips: np.ndarray) -> np.ndarray:
        """Which mean a pixel to predict has: by how far ahead it is and by its grey in the last frame."""
        grey = np.rint(clips[seen - 1] * (_LEVELS - 1)).astype(int)
        return ahead[:, None, None, None, None] * _LEVELS + grey

    place = cell(train).ravel()
    size = len(ahead) * _LEVELS
    total, number = np.bincount(place, targets.ravel(), size), np.bincount(place, minlength=size)
    last_frame = ((total + overall) / (number + 1))[cell(held_out)]
    return Floors(*(frame_cross_entropy(guess, held_out[seen:]) for guess in (last_frame, mean_frame)))


def _check_counts(**counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} is {value}; expected at least 1")


def _room(images: Images, canvas: int | None) -> tuple[int, int]:
    """How many pixels further down and right a digit can be than in the upper left corner."""
    height, width = images.pixels.shape[1:]
    if canvas is None:
        canvas = 64 if height == width == 28 else 3 * max(height, width)
    if canvas <= max(height, width):
        raise ValueError(
            f"canvas is {canvas}; expected more than {max(height, width)}, the size of the digits, so that they can move"
        )
    return canvas - height, canvas - width


def _another(labels: np.ndarray, shown: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """For each image one at random of another digit: rows, int [count]."""
    order = np.argsort(labels, kind="stable")
    ordered = labels[order]
    first, after = (np.searchsorted(ordered, labels[shown], side) for side in ("left", "right"))
    others = len(labels) - (after - first)
    if not others.all():
        raise ValueError(f"images all show the digit {ordered[0]}; expected several, or change=0, so that none changes")
    drawn = random.integers(0, others)
    return order[np.where(drawn < first, drawn, drawn + after - first)]


def _draw(pixels: np.ndarray, shown: np.ndarray, places: np.ndarray, room: tuple[int, int]) -> np.ndarray:
    """The images `shown` [time, clips, digits] with their upper left corners at `places` [time, clips, digits, 2]."""
    height, width = pixels.shape[1:]
    size = height + room[0], width + room[1]
    time, count, digits = shown.shape
    frames = np.zeros((time * count, size[0] * size[1]), np.float32)
    inside = (np.arange(height)[:, None] * size[1] + np.arange(width)).ravel()
    corner = places[..., 0] * size[1] + places[..., 1]
    for digit in range(digits):
        index = corner[..., digit].reshape(-1, 1) + inside
        glyph = pixels[shown[..., digit].ravel()].reshape(len(index), -1)
        np.put_along_axis(frames, index, np.maximum(np.take_along_axis(frames, index, 1), glyph), 1)
    return frames.reshape(time, count, *size, 1)
