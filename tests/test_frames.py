"""Frames of moving digits: both tasks from end to end, what they leave, what is done with it, and the two models."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("tyro", reason="the experiments extra is not installed")
pytest.importorskip("sklearn", reason="the experiments extra is not installed")

from PIL import Image, ImageSequence

import jrnn
from experiments import frames
from experiments.clips import pictures
from experiments.clips.models import Labeller, Reader, convolutional, parameters, plain
from experiments.common import supervised
from experiments.common.run import open_finished
from experiments.data import digits
from experiments.data.moving_digits import DIRECTIONS, Clips, frame_cross_entropy
from experiments.frames import Config, build

pytestmark = pytest.mark.usefixtures("as_a_user")


def finished(tmp_path_factory, task):
    out = tmp_path_factory.mktemp("frames") / task
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        frames.main(["--task", task, "--smoke", "--out", str(out)])
    return out


@pytest.fixture(scope="module")
def labelling(tmp_path_factory):
    return finished(tmp_path_factory, "label")


@pytest.fixture(scope="module")
def predicting(tmp_path_factory):
    return finished(tmp_path_factory, "predict")


def result(out):
    return json.loads((out / "result.json").read_text())


def opened(out):
    """The model of a run, its best parameters, and the clips that it was tested on."""
    run, config = open_finished(out, frames.NAME, Config)
    images = digits.load()
    model: Any = build(config, config.canvas or 0, images.classes)
    test = config.draw(images.test)(np.random.default_rng(frames.TEST), config.held_out)
    return model, supervised.restore(run, model.init(jax.random.key(0))), test


def test_what_labelling_leaves_behind(labelling):
    found = result(labelling)
    model, params, test = opened(labelling)
    assert [record["step"] for record in found["metrics"]["records"]] == [1, 2]
    assert found["metrics"]["parameters"] == {"gru": parameters(model)}
    right = [
        logits.argmax(-1) == np.asarray(truth)
        for logits, truth in zip(jax.jit(model.apply)(params, test.frames), test[1:])
    ]
    both = np.asarray(right[0] & right[1])[1:]
    by_hand = {"digit": right[0].mean(), "direction": right[1][1:].mean(), "both": both.mean()}
    assert found["metrics"]["test"] == pytest.approx({name: 100 * float(share) for name, share in by_hand.items()})
    assert set(found["floors"]) == {"most frequent digit", "most frequent direction"}
    for picture in ("curves.png", "confusion.png", "frames.png"):
        assert (labelling / picture).read_bytes().startswith(b"\x89PNG")


def pictures_in(path):
    with Image.open(path) as moving:
        return sum(1 for _ in ImageSequence.Iterator(moving))


def test_what_predicting_leaves_behind(predicting):
    found = result(predicting)
    model, params, test = opened(predicting)
    probability = jax.nn.sigmoid(model.apply(params, test[:2], 2))
    assert found["metrics"]["nats_per_frame"] == pytest.approx(frame_cross_entropy(np.asarray(probability), test[2:]))
    assert np.mean(found["metrics"]["ahead"]) == pytest.approx(found["metrics"]["nats_per_frame"])
    assert set(found["floors"]) == {"last frame", "mean frame"}
    for picture in ("curves.png", "frames.png"):
        assert (predicting / picture).read_bytes().startswith(b"\x89PNG")
    assert pictures_in(predicting / "frames.gif") == 4


def said(capsys, *arguments):
    frames.main([*map(str, arguments)])
    return capsys.readouterr().out


def fails(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        frames.main([*map(str, arguments)])
    assert caught.value.code == 2
    return capsys.readouterr().err


def test_a_trained_model_labels_other_clips(labelling, tmp_path, capsys):
    options = ["label", "--run", labelling, "--clips", 3]
    lines = said(capsys, *options, "--out", tmp_path / "a.png").splitlines()
    assert [line.split("   ")[1].split(" of ")[1] for line in lines] == ["4 right"] * 3
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert "is not a run directory" in fails(capsys, "label", "--run", tmp_path)
    assert "was trained with --task label; expected a run of --task predict" in fails(
        capsys, "continue", "--run", labelling
    )


def test_a_trained_model_continues_other_clips_as_far_as_wanted(predicting, tmp_path, capsys):
    options = ["continue", "--run", predicting, "--clips", 2, "--ahead", 3]
    said(capsys, *options, "--out", tmp_path / "a.gif")
    said(capsys, *options, "--out", tmp_path / "b.gif")
    said(capsys, *options, "--seed", 1, "--out", tmp_path / "c.gif")
    written = [(tmp_path / name).read_bytes() for name in ("a.gif", "b.gif", "c.gif")]
    assert written[0] == written[1] != written[2]
    assert pictures_in(tmp_path / "a.gif") == 5
    assert "this one exists, and nothing is overwritten" in fails(capsys, *options, "--out", tmp_path / "a.gif")
    assert (tmp_path / "a.gif").read_bytes() == written[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "lstm"}, "--model is lstm and --task label; expected it with --task predict alone"),
        ({"patch": 2}, "--patch is 2 and --task label"),
        ({"task": "predict", "cell": "gru"}, "--cell is gru and --task predict; expected it with --task label alone"),
        ({"frames": 1}, "--frames is 1; expected at least 2"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ValueError) as caught:
        Config(**options)
    assert message in str(caught.value)


def test_pictures_that_do_not_fit(tmp_path, capsys):
    out = ["--out", tmp_path / "run"]
    assert "canvas is 8; expected more than 8" in fails(capsys, "--canvas", 8, *out)
    said = fails(capsys, "--task", "predict", "--smoke", "--patch", 4, *out)
    assert "--patch is 4; expected a divisor of the 10 pixels of a frame's side" in said
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def predictor():
    return convolutional(jrnn.ConvGRU, canvas=8, patch=2, hidden=3, layers=1, kernel=3)


def test_patches_are_squares_and_come_back(predictor):
    clip = np.arange(2 * 3 * 64, dtype=np.float32).reshape(2, 3, 8, 8, 1)
    read = predictor._read(jnp.asarray(clip))
    assert read.shape == (2, 3, 4, 4, 4)
    assert read[1, 2, 3, 0].tolist() == clip[1, 2, 6:8, 0:2, 0].ravel().tolist()
    np.testing.assert_array_equal(predictor._written(read), clip)
    flat = plain(predictor, 1)
    np.testing.assert_array_equal(flat._written(flat._read(jnp.asarray(clip))), clip)


def test_the_loss_is_the_cross_entropy_of_the_frames_to_come(predictor):
    params = predictor.init(jax.random.key(0))
    clips = np.random.default_rng(0).random((5, 2, 8, 8, 1), np.float32)
    probability = np.asarray(
        jax.nn.sigmoid(jax.jit(predictor.apply, static_argnums=2)(params, jnp.asarray(clips[:2]), 3))
    )
    found = jax.jit(predictor.loss, static_argnums=2)(params, jnp.asarray(clips), 2)
    assert float(found.value) == pytest.approx(frame_cross_entropy(probability, clips[2:]), rel=1e-5)
    assert float(found.weight) == 6


def test_a_plain_lstm_has_as_many_parameters_as_its_width_allows():
    like = convolutional(jrnn.ConvLSTM, canvas=24, patch=2, hidden=16, layers=2, kernel=3)
    found = plain(like, 2)
    width: int = found.layer.output_size  # type: ignore[assignment]
    assert parameters(like) == 2 * 9 * 4 * (4 + 16 + 32) * 16 + 4 * 4 * 16 + 17 * 4
    counts = []
    for one in (width - 1, width, width + 1):
        layers = 4 * one * (24 * 24 + one + 1) + 4 * one * (2 * one + 1)
        counts.append(abs(2 * layers + (one + 1) * 24 * 24 - parameters(like)))
    assert counts[1] == min(counts)


@pytest.fixture(scope="module")
def labeller():
    layer = jrnn.Layered((jrnn.Recurrent(jrnn.GRU(4, 5)),))
    model = Labeller(Reader(2, 4), layer, canvas=10, digits=10, directions=4)
    return model, jax.jit(model.init)(jax.random.key(0))


def test_the_first_direction_does_not_count(labeller):
    model, params = labeller
    rng = np.random.default_rng(0)
    clips = Clips(
        rng.random((3, 2, 10, 10, 1), np.float32), rng.integers(0, 10, (3, 2), np.int32), np.full((3, 2), -1, np.int32)
    )
    loss = jax.jit(model.loss)
    without = loss(params, clips)
    digit, direction = (jax.nn.log_softmax(logits) for logits in jax.jit(model.apply)(params, clips.frames))
    nats = -np.take_along_axis(np.asarray(digit), clips.digit[..., None], -1).sum()
    assert float(without.total) == pytest.approx(nats, rel=1e-5)
    clips.direction[1:] = 2
    assert float(loss(params, clips).total) == pytest.approx(nats - float(direction[1:, :, 2].sum()), rel=1e-5)
    assert float(without.weight) == 6


def test_a_frame_is_read_with_the_one_before_it(labeller):
    """And no other, by a layer of one direction: the future does not change what is said."""
    model, params = labeller
    clip = jnp.asarray(np.random.default_rng(0).random((3, 1, 10, 10, 1), np.float32))
    apply = jax.jit(model.apply)
    before = apply(params, clip)[1]
    after = apply(params, clip.at[2].set(0.0))[1]
    np.testing.assert_array_equal(before[:2], after[:2])
    assert not np.allclose(before[2], after[2])
    moved = apply(params, clip.at[0].set(0.0))[1]
    assert not np.allclose(before[0], moved[0])


def test_every_way_has_an_arrow(tmp_path):
    assert set(pictures.ARROWS) == set(DIRECTIONS)
    pictures.labelled(tmp_path / "a.png", np.zeros((2, 1, 4, 4, 1)), [["3", "3 →"]], [["3", "2 ↑"]], title="one")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
