"""Piano rolls of scores and of MIDI files that are written otherwise than ours."""

import numpy as np
import pytest

pytest.importorskip("music21", reason="the music extra is not installed")
pytest.importorskip("mido", reason="the music extra is not installed")
pytest.importorskip("pooch", reason="the experiments extra is not installed")

import mido
import music21

from experiments.data import midi, piano_rolls

pytestmark = pytest.mark.usefixtures("isolated")


def sounding(roll):
    """The MIDI numbers that sound in each frame."""
    return [(np.flatnonzero(frame) + midi.LOWEST).tolist() for frame in roll]


def test_a_score_by_hand():
    """Two parts, the upper with a rest and a tie over the bar, the lower with a chord: in eighth notes."""
    upper, lower = music21.stream.Part(), music21.stream.Part()
    first, second = music21.stream.Measure(number=1), music21.stream.Measure(number=2)
    start, end = music21.note.Note("D5", quarterLength=0.5), music21.note.Note("D5", quarterLength=0.5)
    start.tie, end.tie = music21.tie.Tie("start"), music21.tie.Tie("stop")
    first.append([music21.note.Note("C5", quarterLength=1), music21.note.Rest(quarterLength=0.5), start])
    second.append([end, music21.note.Note("B4", quarterLength=0.5)])
    upper.append([first, second])
    lower.append(music21.chord.Chord(["C3", "G3"], quarterLength=2))
    lower.append(music21.note.Note("G2", quarterLength=1))
    roll = piano_rolls._rolled(music21.stream.Score([upper, lower]), 0.5)
    assert sounding(roll) == [[48, 55, 72], [48, 55, 72], [48, 55], [48, 55, 74], [43, 74], [43, 71]]


def test_a_chorale_as_it_is_printed():
    """BWV 66.6: its upbeat, and the chord of F sharp minor (major, by its raised third) that it ends in."""
    roll = piano_rolls._rolled(music21.corpus.parse("bwv66.6"), 0.5)
    assert len(roll) == 2 * 36  # quarter notes: an upbeat, eight bars of four, and three beats
    assert max(sounding(roll)[0]) == 73  # C sharp above middle C, in the soprano
    assert {number % 12 for number in sounding(roll)[-1]} == {6, 10, 1}  # F sharp, A sharp, C sharp


def written(path, *messages, **options):
    file = mido.MidiFile(ticks_per_beat=480, **options)
    file.tracks.append(mido.MidiTrack(messages))
    file.save(path)
    return path


def test_a_note_that_is_never_ended_lasts_until_the_end(tmp_path):
    on = mido.Message("note_on", note=60, velocity=9)
    path = written(tmp_path / "a.mid", on, mido.MetaMessage("end_of_track", time=960))
    assert sounding(midi.read(path, 0.5)) == [[60]] * 4


def test_tracks_and_channels_sound_together(tmp_path):
    """The same key in two channels, of which one ends first, is on until both have ended."""
    file = mido.MidiFile(type=1, ticks_per_beat=480)
    for channel, ticks in ((0, 480), (1, 960)):
        messages = [
            mido.Message("note_on", channel=channel, note=60, velocity=9),
            mido.Message("note_off", channel=channel, note=60, time=ticks),
        ]
        file.tracks.append(mido.MidiTrack(messages))
    file.save(tmp_path / "a.mid")
    assert sounding(midi.read(tmp_path / "a.mid", 0.5)) == [[60]] * 4


def test_keys_that_a_piano_lacks_are_left_out(tmp_path):
    notes = [mido.Message("note_on", note=note, velocity=9) for note in (20, 21, 108, 109)]
    path = written(tmp_path / "a.mid", *notes, mido.MetaMessage("end_of_track", time=480))
    assert sounding(midi.read(path, 0.5)) == [[21, 108]] * 2


@pytest.mark.parametrize("kind", ["film", "key", "text", "empty"])
def test_files_that_cannot_be_read_are_named(tmp_path, kind):
    path = written(tmp_path / "a.mid", mido.MetaMessage("key_signature", key="C"))
    content = bytearray(path.read_bytes())
    if kind == "film":
        content[12:14] = b"\xe7\x28"  # 25 frames a second of 40 ticks each
    elif kind == "key":
        place = content.index(b"\xff\x59\x02")
        content[place + 3] = 100  # sharps
    path.write_bytes({"text": b"no music\n", "empty": b""}.get(kind, bytes(content)))
    with pytest.raises(ValueError, match=r"a\.mid cannot be read as MIDI \(.+\): replace or remove it"):
        midi.read(path, 0.5)
