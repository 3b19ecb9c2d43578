"""Digits pixel by pixel: a run from end to end, and what is done to the images on the way."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("tyro", reason="the experiments extra is not installed")
pytest.importorskip("sklearn", reason="the experiments extra is not installed")

from test_digits import write

import jrnn
from experiments import pixel_digits
from experiments.common import supervised
from experiments.common.recurrent import CELLS
from experiments.common.run import open_finished
from experiments.data import digits
from experiments.pixel_digits import Config, Example
from jrnn.data import bucketed
from jrnn.models import Classifier

pytestmark = pytest.mark.usefixtures("as_a_user")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A tiny run, from end to end."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        pixel_digits.main(["--smoke", "--epochs", "2", "--out", str(out)])
    return out


def result(out):
    return json.loads((out / "result.json").read_text())


def test_what_a_run_leaves_behind(whole):
    found = result(whole)
    metrics = found["metrics"]
    assert found["config"]["smoke"] is True
    assert metrics["published"] == []
    assert [record["step"] for record in metrics["records"]] == [metrics["steps"]]
    for part in ("valid", "test"):
        assert 48 * metrics["accuracy"][part] == pytest.approx(round(48 * metrics["accuracy"][part]))
    assert 0 < found["floors"]["most frequent class"] < 0.5
    for picture in ("curves.png", "confusion.png", "unfolding.png"):
        assert (whole / picture).read_bytes().startswith(b"\x89PNG")


def test_the_number_reported_is_that_of_the_best_checkpoint(whole):
    run, config = open_finished(whole, pixel_digits.NAME, Config)
    images = digits.load()
    model = pixel_digits.build(config, 1, images.classes)
    params = supervised.restore(run, model.init(jax.random.key(0)))
    pixels, labels = images.test.pixels[:48], images.test.labels[:48]
    logits = model.apply(params, digits.steps(jnp.asarray(pixels).swapaxes(0, 1), "pixels"))
    assert result(whole)["metrics"]["accuracy"]["test"] == np.mean(np.argmax(logits, -1) == labels)


def test_resuming_a_finished_run_reports_the_same(whole, capsys):
    before = result(whole)["metrics"]
    pixel_digits.main(["--resume", "--out", str(whole)])
    assert result(whole)["metrics"] == before
    assert f"test: {before['accuracy']['test']:.2%} of 48 right" in capsys.readouterr().out


@pytest.mark.parametrize("order", ["rows", "permuted"])
def test_a_folder_of_ones_own(tmp_path, order):
    write(tmp_path / "mine")  # images of 3 x 4 pixels, 4 classes
    pixel_digits.main(["--smoke", "--folder", "mine", "--order", order, "--cell", "elman", "--out", "run"])
    found = result(tmp_path / "run")
    assert found["metrics"]["published"] == []


def fails(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        pixel_digits.main([*map(str, arguments), "--out", "run"])
    assert caught.value.code == 2
    return " ".join(capsys.readouterr().err.split())


def test_mistakes_leave_no_run_behind(tmp_path, capsys):
    assert "folder nowhere holds neither train-images" in fails(capsys, "--folder", "nowhere")
    assert "--hidden is 0; expected at least 1" in fails(capsys, "--hidden", 0)
    assert "--warp is -1.0; expected at least 0" in fails(capsys, "--warp", -1)
    assert "--early is 1.5; expected a share" in fails(capsys, "--early", 1.5)
    assert "--dropout is 1.0; expected a share" in fails(capsys, "--dropout", 1)
    assert "has no gate that keeps the past" in fails(capsys, "--chrono", "--cell", "elman")
    assert not (tmp_path / "run").exists()


# --- the model ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", [name for name in CELLS if "gru" in name or "lstm" in name])
def test_chrono_gives_memories_of_all_lengths(cell):
    model = pixel_digits.build(Config(cell=cell, hidden=40, layers=2, dropout=0.1), 1, 10)
    plain = model.init(jax.random.key(3))
    params = pixel_digits.chrono(model, plain, jax.random.key(4), 64)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, plain)
    recurrent = [layer for layer in model.layer.layers if isinstance(layer, jrnn.Recurrent)]
    for layer, own in zip(recurrent, params.layer, strict=True):
        place = layer.cell.gates.index(layer.cell.forget_gate)
        bias = np.split(np.asarray(own.b), len(layer.cell.gates))[place]
        kept = 1 + np.exp(bias)  # steps: the sigmoid of the bias is 1 - 1 / kept
        assert kept.min() >= 2
        assert 32 < kept.max() <= 64
    one, other = (own.b for own in params.layer)
    assert not np.allclose(one, other)


@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_by_name(cell):
    model = pixel_digits.build(Config(cell=cell, hidden=4), 1, 10)
    params = jax.eval_shape(model.init, jax.random.key(0))
    xs = jax.ShapeDtypeStruct((64, 3, 1), jnp.float32)
    assert jax.eval_shape(model.apply, params, xs).shape == (3, 10)


def batch_of(images, rows):
    return bucketed([Example(*pair) for pair in zip(images.pixels, images.labels)], batch=rows)[0]


@pytest.mark.parametrize("pooling", ["last", "attention"])
def test_rows_that_fill_up_a_batch_do_not_count(pooling):
    images = digits.Images(*(part[:3] for part in digits.load().valid))
    config = Config(hidden=5, pooling=pooling)
    model = pixel_digits.build(config, 1, 10)
    params = model.init(jax.random.key(0))
    loss = pixel_digits.make_loss(pixel_digits.make_logits(model, config))
    full, filled = (loss(params, batch_of(images, rows), None) for rows in (3, 5))
    np.testing.assert_allclose(full.total, filled.total, rtol=1e-5)
    assert (full.weight, filled.weight) == (3, 3)


@pytest.mark.parametrize("change", [{"warp": 1.0}, {"dropout": 0.4}, {"early": 1.0}])
def test_images_are_changed_in_training_alone(change):
    config = Config(**{"hidden": 6, "warp": 0.0, "dropout": 0.0, "early": 0.0, **change})
    model = pixel_digits.build(config, 1, 10)
    params = model.init(jax.random.key(0))
    batch = batch_of(digits.load().valid, 4)
    logits = pixel_digits.make_logits(model, config)
    plain = model.apply(params, digits.steps(batch.data.rows, "pixels"))
    one, again, other = (np.asarray(logits(params, batch, jax.random.key(n))) for n in (1, 1, 2))
    np.testing.assert_allclose(logits(params, batch, None), plain, rtol=1e-5)
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, other)
    assert not np.allclose(one, plain)


def test_a_share_of_the_images_is_cut_short():
    found = np.asarray(pixel_digits.beginnings(jax.random.key(0), 0.25, 7, 4000))
    assert (found.min(), found.max()) == (1, 7)
    short = np.bincount(found, minlength=8)[1:7] / 4000
    np.testing.assert_allclose(short, 0.25 / 7, atol=0.015)  # five standard deviations
    assert set(np.asarray(pixel_digits.beginnings(jax.random.key(0), 0.0, 7, 50))) == {7}


# --- warping ------------------------------------------------------------------------------------------------------------


def test_warping_by_nothing_changes_nothing():
    rows = jax.random.uniform(jax.random.key(0), (5, 3, 7))
    np.testing.assert_allclose(pixel_digits.warped(jax.random.key(1), rows, 0.0), rows, atol=1e-6)


def test_each_image_is_warped_its_own_way_and_a_key_says_how():
    image = jax.random.uniform(jax.random.key(0), (8, 1, 6))
    rows = jnp.concatenate([image, image], 1)
    one, again, other = (np.asarray(pixel_digits.warped(jax.random.key(n), rows, 1.0)) for n in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, other)
    assert not np.allclose(one[:, 0], one[:, 1])
    assert one.min() >= 0
    assert one.max() <= image.max()


def test_warping_is_scipy_s_affine_transform():
    """An independent oracle: the same matrix and move, found from where a ramp of row and column numbers goes."""
    from scipy import ndimage

    height, width = 9, 11
    row, column = np.mgrid[:height, :width].astype(np.float32)
    image = np.random.default_rng(0).random((height, width), np.float32)
    rows = jnp.stack([row, column, jnp.asarray(image)], 1)
    key = jax.random.key(4)
    # The same warp for the three: one key, one image each.
    sources = [pixel_digits.warped(key, rows[:, n : n + 1], 0.5)[:, 0] for n in range(3)]
    inside = np.s_[3:6, 4:7]
    y, x = (np.asarray(source)[inside].ravel() for source in sources[:2])
    places = np.stack([row[inside].ravel(), column[inside].ravel(), np.ones(9)], 1)
    matrix = np.stack([np.linalg.lstsq(places, values, rcond=None)[0] for values in (y, x)])
    wanted = ndimage.affine_transform(image, matrix[:, :2], matrix[:, 2], order=1)
    np.testing.assert_allclose(np.asarray(sources[2])[1:-1, 1:-1], wanted[1:-1, 1:-1], atol=2e-2)
    assert not np.allclose(wanted, image, atol=0.1)


# --- the picture --------------------------------------------------------------------------------------------------------


def test_what_is_seen_grows_in_the_order_of_reading():
    assert pixel_digits.seen_by(5, (3, 4), "pixels").tolist() == [[True] * 4, [True] + [False] * 3, [False] * 4]
    assert pixel_digits.seen_by(2, (3, 4), "rows").tolist() == [[True] * 4, [True] * 4, [False] * 4]
    seen = pixel_digits.seen_by(5, (3, 4), "permuted")
    assert sorted(np.flatnonzero(seen)) == sorted(digits.reading_order(12)[:5])


def test_the_images_shown_are_of_different_classes_and_one_is_wrong():
    labels = np.array([3, 3, 1, 2, 2, 0, 4])
    right = np.array([True, True, True, False, True, True, True])
    assert pixel_digits.interesting(right, labels) == [0, 2, 4, 3]
    assert pixel_digits.interesting(np.ones(7, bool), labels) == [0, 2, 3, 5]
    assert pixel_digits.interesting(np.zeros(7, bool), labels) == [0]


def test_what_is_said_midway_is_what_those_steps_alone_say():
    """The curves of the picture: the state after so many steps does not know of the rest."""
    model = Classifier(jrnn.Recurrent(jrnn.GRU(1, 4)), 3)
    params = model.init(jax.random.key(0))
    xs = jax.random.normal(jax.random.key(1), (6, 2, 1))
    whole = model.apply(params, xs, lengths=jnp.full(2, 4))
    np.testing.assert_allclose(whole, model.apply(params, xs[:4]), rtol=1e-5)
