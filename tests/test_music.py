"""Music: piano rolls and MIDI files, a run from end to end, what it composes, and everything it cannot read."""

import json
import tempfile
from pathlib import Path

import jax
import numpy as np
import pytest
from data_sets import needs
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tyro", reason="the experiments extra is not installed")
pytest.importorskip("mido", reason="the music extra is not installed")

import mido

from experiments import music
from experiments.data import midi, piano_rolls
from experiments.data.midi import KEYS
from experiments.music import build, compose, pieces, transposed

pytestmark = pytest.mark.usefixtures("as_a_user")


def melody(seed, frames=24):
    """A roll in which up to three keys sound at a time, from its first frame on to its last."""
    random = np.random.default_rng(seed)
    roll = np.zeros((frames, KEYS), bool)
    for row in roll:
        row[random.integers(30, 60, 3)] = True
    return roll


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A tiny run on a folder of one's own."""
    folder = tmp_path_factory.mktemp("music")
    (folder / "mine").mkdir()
    for number in range(6):
        midi.write(folder / "mine" / f"{number}.mid", melody(number), 0.5)
    options = ["--smoke", "--files", str(folder / "mine"), "--out", str(folder / "run"), "--seed", "3"]
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # as a user has it
        music.main(options)
    return folder


def fails(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        music.main([*map(str, arguments)])
    assert caught.value.code == 2
    return " ".join(capsys.readouterr().err.split())


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), frames=st.integers(1, 40), beats=st.sampled_from([0.25, 0.5, 1.0, 1 / 3]))
def test_midi_reads_back_as_it_was_written(seed, frames, beats):
    roll = np.random.default_rng(seed).random((frames, KEYS)) < 0.2
    roll[[0, -1], 40] = True  # silence before and after a piece is no part of it
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.mid"
        midi.write(path, roll, beats, tempo=100)
        np.testing.assert_array_equal(midi.read(path, beats), roll)
        notes = [message for message in mido.MidiFile(path) if message.type == "note_on" and message.velocity]
        # A key that is held is one note.
        held = np.diff(np.pad(roll.astype(int), ((1, 0), (0, 0))), axis=0)
        assert len(notes) == (held > 0).sum()
        np.testing.assert_allclose(mido.MidiFile(path).length, frames * beats * 60 / 100, rtol=0.01)


def test_notes_fall_into_frames():
    notes = [(0, 1, 60), (1, 1.1, 62), (2, 3, 10), (2.3, 4, 64)]  # 10 is below a piano's keys
    roll = midi.roll_of(notes, 0.5)
    expected = np.zeros((8, KEYS), bool)
    expected[0:2, 60 - 21] = expected[2, 62 - 21] = expected[5:8, 64 - 21] = True
    expected[4, 64 - 21] = roll[4, 64 - 21]  # 2.3 is nearer to 2.5
    np.testing.assert_array_equal(roll, expected)
    assert not roll[4].any()


def test_drums_are_no_pitches(tmp_path):
    file = mido.MidiFile()
    track = mido.MidiTrack()
    file.tracks.append(track)
    for channel in (9, 0):
        track.append(mido.Message("note_on", channel=channel, note=60, velocity=9, time=0))
    track.append(mido.Message("note_on", channel=0, note=60, velocity=0, time=480))  # which ends it
    track.append(mido.Message("note_off", channel=9, note=60, time=4800))
    file.save(tmp_path / "a.mid")
    assert midi.read(tmp_path / "a.mid", 0.5).shape == (2, KEYS)


def test_the_floor_by_hand():
    """One key: on, on, off, on; it stays on in one of two, and comes on in one of one."""
    roll = np.zeros((4, KEYS), bool)
    roll[[0, 1, 3], 7] = True
    found = piano_rolls.markov_floor([roll], [roll[:2]])
    stays = 1.5 / 3
    never = 0.5 / 4  # of each of the other keys, which was off before three frames and stayed so
    np.testing.assert_allclose(found, -np.log(stays) - 87 * np.log(1 - never))


@pytest.mark.parametrize(("corpus", "floor"), [("jsb", 10.49), ("nottingham", 5.16)])
def test_the_floors_of_the_published_rolls(corpus, floor, data_dir):
    needs(data_dir, "polyphonic_mat")
    found = piano_rolls.load(corpus, data_dir=data_dir)
    np.testing.assert_allclose(piano_rolls.markov_floor(found.train, found.test), floor, atol=0.01)


def test_a_chorale_is_in_one_part_by_its_number():
    assert piano_rolls.part_of("bwv66.6") == piano_rolls.part_of("bwv66.1-a")
    assert {piano_rolls.part_of(f"bwv{n}.1") for n in range(200)} == {"train", "valid", "test"}


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_transposition_moves_all_keys_alike_and_none_off_the_piano(seed):
    random = np.random.default_rng(seed)
    roll = (random.random((5, 3, KEYS)) < 0.1).astype(np.float32)
    roll[:, 0, 0] = roll[:, 1, KEYS - 1] = 0
    semitones = np.array([-1, 1, 0])
    found = np.asarray(transposed(roll, semitones))
    np.testing.assert_array_equal(found.sum(-1), roll.sum(-1))
    for row, amount in enumerate(semitones):
        used = np.flatnonzero(roll[:, row].any(0))
        moved = np.clip(amount, -used[0], KEYS - 1 - used[-1])
        np.testing.assert_array_equal(found[:, row], np.roll(roll[:, row], moved, axis=-1))


def test_parts_of_a_piece_predict_each_frame_once():
    roll = melody(0, 11)
    found = [piece.roll for piece in pieces([roll, roll[:1]], window=4)]
    assert [len(part) for part in found] == [5, 5, 3]
    np.testing.assert_array_equal(np.concatenate([part[1:] for part in found]), roll[1:])


def test_what_a_run_leaves_behind(finished):
    found = json.loads((finished / "run" / "result.json").read_text())
    assert found["metrics"]["nats_per_frame"]["test"] > 0
    assert found["floors"]["Markov test"] > 0
    for picture in ("curves.png", "roll.png"):
        assert (finished / "run" / picture).read_bytes().startswith(b"\x89PNG")


def test_what_was_trained_composes(finished, tmp_path):
    for name, seed in (("a.mid", 3), ("b.mid", 3), ("c.mid", 4)):
        options = [
            "--run",
            finished / "run",
            "--seed",
            seed,
            "--out",
            tmp_path / name,
            "--length",
            "20",
            "--prime",
            "4",
        ]
        music.main(["compose", *map(str, options), "--temperature", "1"])
        assert (tmp_path / name).with_suffix(".png").is_file()
    a, b, c = (midi.read(tmp_path / name, 0.5) for name in ("a.mid", "b.mid", "c.mid"))
    np.testing.assert_array_equal(a, b)
    assert a.shape != c.shape or (a != c).any()
    np.testing.assert_array_equal(a[:4], melody(5)[:4])


def test_a_cold_draw_is_the_likelier_of_on_and_off():
    model = build(music.Config(hidden=8, dropout=0.0).resolved())
    params = model.init(jax.random.key(0))
    prime = melody(1, 6)
    written = compose(model, params, prime, jax.random.key(1), length=5, temperature=1e-6)
    state, logits = model.apply(params, prime.astype(np.float32))
    frame = logits[-1]
    for row in written[6:]:
        np.testing.assert_array_equal(row, np.asarray(frame) > 0)
        state, frame = model.step(params, state, row.astype(np.float32))


def test_bad_options(finished, tmp_path, capsys):
    (tmp_path / "there.mid").write_bytes(b"mine")
    run = ["--run", finished / "run"]
    assert "this one exists, and nothing is overwritten" in fails(
        capsys, "compose", *run, "--out", tmp_path / "there.mid"
    )
    assert (tmp_path / "there.mid").read_bytes() == b"mine"
    assert "ends in .mid" in fails(capsys, "compose", *run, "--out", tmp_path / "a.wav")
    assert "a folder that is there" in fails(capsys, "compose", *run, "--out", tmp_path / "no" / "a.mid")
    assert "expected 0 to 0" in fails(capsys, "compose", *run, "--out", tmp_path / "a.mid", "--piece", "5")
    assert "temperature" in fails(capsys, "compose", *run, "--out", tmp_path / "a.mid", "--temperature", "0")


def test_bad_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="not a folder"):
        piano_rolls.load(files=tmp_path / "none")
    with pytest.raises(ValueError, match="holds 0 MIDI files"):
        piano_rolls.load(files=tmp_path)
    midi.write(tmp_path / "one_frame.mid", melody(0, 1), 0.5)
    with pytest.raises(ValueError, match=r"1 MIDI files .* 0 of them of two frames"):
        piano_rolls.load(files=tmp_path)
    midi.write(tmp_path / "cut.mid", melody(0), 0.5)
    (tmp_path / "cut.mid").write_bytes((tmp_path / "cut.mid").read_bytes()[:60])
    with pytest.raises(ValueError, match=r"cut\.mid cannot be read as MIDI"):
        piano_rolls.load(files=tmp_path)
    (tmp_path / "cut.mid").unlink()
    with pytest.raises(ValueError, match="beats is 0"):
        piano_rolls.load(files=tmp_path, beats=0)
    with pytest.raises(ValueError, match="expected None, or files="):
        piano_rolls.load("jsb", beats=0.5)
    with pytest.raises(FileExistsError, match="not overwritten"):
        midi.write(tmp_path / "one_frame.mid", melody(0), 0.5)
