"""Clips of digits that move: what their labels say is measured in their frames; floors by hand; pictures read back."""

import inspect

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the experiments extra is not installed")

from PIL import Image

from experiments.clips.strips import animation, strip
from experiments.data import digits
from experiments.data.digits import Images
from experiments.data.moving_digits import (
    DIRECTIONS,
    NO_DIRECTION,
    batches,
    bouncing,
    floors,
    frame_cross_entropy,
    labelled,
    ways,
)

STEPS = {"right": (0, 1), "down": (1, 0), "left": (0, -1), "up": (-1, 0)}  # down, right


@pytest.fixture(scope="module")
def images():
    return digits.load().train


def rng(seed=0):
    return np.random.default_rng(seed)


def centres(frames):
    """The centre of mass of each frame, down and right, [time, clips, 2]."""
    frames = frames[..., 0].astype(np.float64)
    mass = frames.sum((2, 3))
    down, right = (np.arange(size) for size in frames.shape[2:])
    return np.stack([(frames.sum(3) * down).sum(2) / mass, (frames.sum(2) * right).sum(2) / mass], -1)


# --- clips with labels ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("directions", "speed"), [(4, 1), (8, 1), (8, 3)])
def test_directions_are_the_displacements_of_the_centre_of_mass(images, directions, speed):
    clips = labelled(images, rng(), 30, directions=directions, speed=speed, turn=0.2, change=0)
    assert clips.frames.shape == (20, 30, 24, 24, 1)
    assert clips.digit.shape == clips.direction.shape == (20, 30)
    assert (clips.frames.dtype, clips.digit.dtype, clips.direction.dtype) == (np.float32, np.int32, np.int32)
    names = ways(directions)
    expected = [[speed * sum(STEPS[part][axis] for part in name.split()) for axis in (0, 1)] for name in names]
    np.testing.assert_allclose(
        np.diff(centres(clips.frames), axis=0), np.array(expected)[clips.direction[1:]], atol=1e-4
    )
    assert (clips.direction[0] == NO_DIRECTION).all()
    assert set(clips.direction[1:].ravel()) == set(range(directions))


def test_digits_are_those_of_the_images_shown(images):
    clips = labelled(images, rng(), 30, change=0.3)
    label = {tuple(image[image > 0]): digit for image, digit in zip(images.pixels, images.labels, strict=True)}
    shown = [[label[tuple(frame[frame > 0])] for frame in row[..., 0]] for row in clips.frames]
    np.testing.assert_array_equal(clips.digit, shown)
    assert set(clips.digit.ravel()) == set(range(10))


def test_how_often_digits_turn_and_change(images):
    whole = Images(np.ones((2, 3, 3), np.float32), np.array([3, 5]))
    never = labelled(whole, rng(), 200, turn=0, change=0, canvas=12)
    np.testing.assert_array_equal(never.digit[1:], never.digit[:-1])
    before = never.frames[1:-1, ..., 0]
    at_an_edge = before[:, :, [0, -1]].any((2, 3)) | before[:, :, :, [0, -1]].any((2, 3))
    turned = never.direction[2:] != never.direction[1:-1]
    assert turned.any()
    assert at_an_edge[turned].all()
    always = labelled(images, rng(), 50, turn=1, change=1)
    assert (always.digit[1:] != always.digit[:-1]).all()
    assert (always.direction[2:] != always.direction[1:-1]).all()
    some = labelled(images, rng(), 300, turn=0, change=0.25)
    assert (some.digit[1:] != some.digit[:-1]).mean() == pytest.approx(0.25, abs=0.02)


def test_a_digit_stays_inside_and_reaches_the_edges():
    whole = Images(np.ones((2, 4, 3), np.float32), np.array([3, 5]))
    clips = labelled(whole, rng(), 40, time=60, canvas=9, speed=2)
    assert clips.frames.sum((2, 3, 4)).tolist() == [[12.0] * 40] * 60
    for edge in (0, -1):
        assert clips.frames[:, :, edge].any()
        assert clips.frames[:, :, :, edge].any()
    assert set(clips.digit.ravel()) == {3, 5}


# --- clips to be continued --------------------------------------------------------------------------------------------


def test_one_digit_bounces_inside_the_canvas():
    whole = Images(np.ones((1, 5, 5), np.float32), np.array([0]))
    frames = bouncing(whole, rng(), 50, time=60, canvas=45, digits=1, speed=0.1)
    assert frames.shape == (60, 50, 45, 45, 1)
    assert frames.dtype == np.float32
    assert frames.sum((2, 3, 4)).tolist() == [[25.0] * 50] * 60
    centre = centres(frames)  # from 2 to 42
    assert centre.min() == pytest.approx(2, abs=1e-5)
    assert centre.max() == pytest.approx(42, abs=1e-5)
    moved = np.diff(centre, axis=0)
    straight = (np.abs(centre[1:-1] - 22) < 16).all(
        -1
    )  # a frame's way or more from the edges: moves by as much before and after
    assert straight.mean() > 0.4
    assert np.abs((moved[1:] - moved[:-1])[straight]).max() < 1 + 1e-4  # each rounded to whole pixels
    np.testing.assert_allclose(np.linalg.norm(moved[:-1][straight], axis=-1), 4, atol=1.5)
    assert np.linalg.norm(moved[:-1][straight], axis=-1).mean() == pytest.approx(4, abs=0.1)
    assert (np.abs(moved) < 4 + 1 + 1e-4).all()
    turned = np.sign(moved[1:]) * np.sign(moved[:-1]) < 0
    assert turned.any((0, 2)).mean() > 0.9


def test_several_digits_show_the_brighter_pixel():
    one = Images(np.full((1, 4, 4), 0.25, np.float32), np.array([0]))
    frames = bouncing(one, rng(), 20, canvas=8, digits=3)
    assert set(np.unique(frames)) == {0, 0.25}
    assert frames.sum((2, 3, 4)).max() > 4 * 2
    assert frames.sum((2, 3, 4)).min() >= 4


def test_each_digit_of_a_clip_is_an_image_of_the_part(images):
    frames = bouncing(images, rng(), 20, digits=1)
    known = {tuple(image[image > 0]) for image in images.pixels}
    assert all(tuple(frame[frame > 0]) in known for row in frames[..., 0] for frame in row)


# --- both -------------------------------------------------------------------------------------------------------------


def test_parts_show_different_images():
    """In the clips themselves: no picture of one part is seen in another."""
    seen = []
    for part in digits.load()[1:]:
        frames = labelled(part, rng(), 100, change=0.5).frames[..., 0]
        seen.append({tuple(frame[frame > 0]) for row in frames for frame in row})
    assert min(map(len, seen)) > 100
    assert not seen[0] & seen[1]
    assert not seen[0] & seen[2]
    assert not seen[1] & seen[2]


@pytest.mark.parametrize("draw", [labelled, bouncing], ids=lambda draw: draw.__name__)
def test_a_seed_says_which_clips(images, draw):
    one, same, other = (draw(images, rng(seed), 4) for seed in (0, 0, 1))
    for first, second, third in zip(
        *([*found] if isinstance(found, tuple) else [found] for found in (one, same, other))
    ):
        np.testing.assert_array_equal(first, second)
        assert (first != third).any()


def test_batches_are_the_same_whenever_asked_for(images):
    found = batches(lambda random: labelled(images, random, 3, time=5), seed=1, length=4)
    assert len(found) == 4
    last, again, first = found[3], found[3], found[0]
    np.testing.assert_array_equal(last.frames, again.frames)
    assert (last.frames != first.frames).any()
    one, other = (batches(lambda random: random.random(), seed=seed, length=4) for seed in (1, 2))
    assert len({*one, *other}) == 8


def test_the_default_canvas():
    for size, canvas in ((28, 64), (8, 24)):
        one = Images(np.ones((1, size, size), np.float32), np.array([0]))
        assert bouncing(one, rng(), 1, time=1).shape == (1, 1, canvas, canvas, 1)


@pytest.mark.parametrize(
    ("draw", "arguments", "message"),
    [
        (labelled, {"count": 0}, "count is 0; expected at least 1"),
        (labelled, {"time": 0}, "time is 0; expected at least 1"),
        (labelled, {"speed": 0}, "speed is 0; expected at least 1"),
        (labelled, {"directions": 6}, "directions is 6; expected 4, along the edges, or 8"),
        (labelled, {"turn": 1.5}, "turn is 1.5; expected a probability"),
        (labelled, {"change": -0.1}, "change is -0.1; expected a probability"),
        (labelled, {"canvas": 8}, "canvas is 8; expected more than 8, the size of the digits"),
        (labelled, {"canvas": 9}, "canvas leaves a digit 1 pixels to move; expected at least twice the speed 1"),
        (labelled, {}, "images all show the digit 0; expected several, or change=0"),
        (bouncing, {"digits": 0}, "digits is 0; expected at least 1"),
        (bouncing, {"speed": 0.0}, "speed is 0.0; expected a share"),
        (bouncing, {"speed": 1.5}, "speed is 1.5; expected a share"),
    ],
)
def test_errors(draw, arguments, message):
    zeros = Images(np.ones((3, 8, 8), np.float32), np.zeros(3, np.int32))
    with pytest.raises(ValueError, match=message):
        draw(zeros, rng(), **{"count": 2, **arguments})


def test_names_of_directions():
    assert ways(8) == DIRECTIONS
    assert ways(4) == ("right", "down", "left", "up")
    assert inspect.signature(labelled).parameters["directions"].default == 8


# --- floors -----------------------------------------------------------------------------------------------------------


def clips(*rows):
    """Clips of two frames of 1 x 2 pixels: each row the pixels of both frames."""
    return np.array(rows, np.float32).reshape(len(rows), 2, 1, 2, 1).swapaxes(0, 1)


def test_cross_entropy_of_frames_by_hand():
    frames = clips([0, 1, 0.5, 1], [1, 1, 0, 0])
    nats = -np.log([0.75 * 0.5, 0.25**0.5 * 0.75**0.5 * 0.5, 0.25 * 0.5, 0.75 * 0.5]).mean()
    assert frame_cross_entropy(np.array([0.25, 0.5]).reshape(1, 2, 1), frames) == pytest.approx(nats, rel=1e-6)


def test_floors_by_hand():
    # The second frames of training: pixels 1 1, 0 1. Their mean is 3/4, with which each mean starts as with one pixel.
    train = clips([0, 1, 1, 1], [0, 1, 0, 1])
    mean = (1 + 0.75) / 3, (2 + 0.75) / 3  # left, right
    after_dark, after_light, after_grey = (1 + 0.75) / 3, (2 + 0.75) / 3, 0.75
    held_out = clips([1, 0.5, 1, 0])
    found = floors(train, held_out, seen=1)
    assert found.mean_frame == pytest.approx(-np.log(mean[0]) - np.log(1 - mean[1]))
    assert found.last_frame == pytest.approx(-np.log(after_light) - np.log(1 - after_grey))
    both = floors(train, clips([0, 0, 1, 0]), seen=1)
    assert both.last_frame == pytest.approx(-np.log(after_dark) - np.log(1 - after_dark))


def test_the_last_frame_is_learned_for_each_frame_ahead():
    """A pixel that goes on and off: what follows depends on how far ahead it is."""
    train = np.array([1, 0, 1, 0], np.float32).reshape(4, 1, 1, 1, 1).repeat(1000, 1)
    assert floors(train, train, seen=1).last_frame == pytest.approx(0, abs=0.01)


def test_motion_leaves_room_below_the_floors(images):
    train, held_out = (bouncing(images, rng(seed), 100) for seed in (0, 1))
    found = floors(train, held_out)
    truth = frame_cross_entropy(np.clip(held_out[10:], 1e-6, 1 - 1e-6), held_out[10:])
    still = frame_cross_entropy(np.clip(held_out[9], 1e-6, 1 - 1e-6), held_out[10:])
    assert truth < min(found) < max(found) < still


@pytest.mark.parametrize(
    ("train", "held_out", "seen", "message"),
    [
        ((4, 2, 3, 3), (4, 2, 3, 3, 1), 1, r"train is \(4, 2, 3, 3\) and seen is 1; expected clips"),
        ((4, 2, 3, 3, 1), (4, 2, 3, 4, 1), 1, r"held_out is \(4, 2, 3, 4, 1\) .* as large as those of train"),
        ((4, 2, 3, 3, 1), (4, 2, 3, 3, 1), 4, "train is .* seen is 4; expected .* of more than seen frames"),
        ((4, 2, 3, 3, 1), (5, 2, 3, 3, 1), 2, "held_out has 5 frames; expected as many as train, 4"),
    ],
)
def test_errors_of_floors(train, held_out, seen, message):
    with pytest.raises(ValueError, match=message):
        floors(np.zeros(train, np.float32), np.zeros(held_out, np.float32), seen=seen)


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_a_strip_shows_the_frames_side_by_side(tmp_path):
    frames = np.linspace(0, 1, 3 * 2 * 4, dtype=np.float32).reshape(3, 2, 4, 1)
    strip(tmp_path / "strip.png", [frames, 1 - frames[:2]], scale=2)
    found = np.asarray(Image.open(tmp_path / "strip.png"))[::2, ::2]
    assert found.shape == (2 + 1 + 2, 4 + 1 + 4 + 1 + 4)
    for time in range(3):
        np.testing.assert_array_equal(found[:2, 5 * time : 5 * time + 4], np.rint(255 * frames[time, ..., 0]))
    np.testing.assert_array_equal(found[3:, :4], np.rint(255 * (1 - frames[0, ..., 0])))
    assert set(found[2]) | set(found[3:, 10:].ravel()) == {128}
    assert [path.name for path in tmp_path.iterdir()] == ["strip.png"]


def test_an_animation_shows_the_truth_above_the_prediction(tmp_path, images):
    truth = bouncing(images, rng(), 2, time=5)
    predicted = bouncing(images, rng(1), 2, time=3)
    animation(tmp_path / "clip.gif", truth, predicted, scale=2, milliseconds=120)
    with Image.open(tmp_path / "clip.gif") as found:
        assert found.n_frames == 5
        assert found.info["duration"] == 120
        for time in range(5):
            found.seek(time)
            frame = np.asarray(found.convert("L"))[::2, ::2] / 255
            below = predicted[time - 2] if time >= 2 else truth[time] / 2
            for clip, left in ((0, 0), (1, 25)):
                np.testing.assert_allclose(frame[:24, left : left + 24], truth[time, clip, ..., 0], atol=0.01)
                np.testing.assert_allclose(frame[25:, left : left + 24], below[clip, ..., 0], atol=0.01)


def test_errors_of_an_animation(tmp_path):
    with pytest.raises(ValueError, match=r"truth is \(2, 1, 3, 3, 1\) and predicted \(3, 1, 3, 3, 1\); expected"):
        animation(tmp_path / "clip.gif", np.zeros((2, 1, 3, 3, 1)), np.zeros((3, 1, 3, 3, 1)))
