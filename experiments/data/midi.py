"""Piano rolls as MIDI files, and back."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.extras import need
from experiments.common.processes import by_first

KEYS = 88
LOWEST = 21
"""The MIDI number of a piano's first key, A0."""

_DRUMS = 9  # the channel whose numbers are no pitches


def roll_of(notes: Iterable[tuple[float, float, int]], beats: float) -> np.ndarray:
    """Bool [time, 88] of notes (start, end, MIDI number), in quarter notes: the keys that sound when each frame begins.

    A note shorter than a frame is heard in the frame that is nearest to its start. Notes that a piano has no key for are left out.
    """
    if not (math.isfinite(beats) and beats > 0):
        raise ValueError(f"beats is {beats}; expected the quarter notes in a frame, such as 0.5")
    placed = [
        (round(start / beats), max(round(end / beats), round(start / beats) + 1), number - LOWEST)
        for start, end, number in notes
        if 0 <= number - LOWEST < KEYS
    ]
    roll = np.zeros((max((end for _, end, _ in placed), default=0), KEYS), bool)
    for start, end, key in placed:
        roll[start:end, key] = True
    sounding = np.flatnonzero(roll.any(1))
    return roll[sounding[0] :] if len(sounding) else roll  # without the silence before the first note


def read(path: Path, beats: float) -> np.ndarray:
    """The roll of a MIDI file, drums left out; ValueError where it is none. A note without an end lasts until the file's."""
    mido: Any = need("mido", "music")
    try:
        file = mido.MidiFile(path)
        ticks, now, sounding, notes = file.ticks_per_beat, 0, {}, []
        if ticks <= 0:  # the sign of frames of film
            raise ValueError("its time is counted in frames of film, not in quarter notes")
        for message in mido.merge_tracks(file.tracks):
            now += message.time
            if message.type not in ("note_on", "note_off") or message.channel == _DRUMS:
                continue
            place = message.channel, message.note
            if place in sounding:
                notes.append((sounding.pop(place) / ticks, now / ticks, message.note))
            if message.type == "note_on" and message.velocity:
                sounding[place] = now
    except (OSError, EOFError, ValueError, LookupError, mido.KeySignatureError) as error:
        reason = str(error) or type(error).__name__
        raise ValueError(f"{path} cannot be read as MIDI ({reason}): replace or remove it") from error
    notes += [(start / ticks, now / ticks, number) for (_, number), start in sounding.items()]
    return roll_of(notes, beats)


@by_first
def write(path: Path, roll: np.ndarray, beats: float, *, tempo: float = 100.0, velocity: int = 80) -> None:
    """A roll [time, 88] as a MIDI file, at `tempo` quarter notes a minute; a key held over frames is one note.

    FileExistsError where there is such a file.
    """
    mido: Any = need("mido", "music")
    if path.exists():
        raise FileExistsError(f"{path} exists and is not overwritten: give another name")
    ticks = 480
    file = mido.MidiFile(ticks_per_beat=ticks)
    track = mido.MidiTrack()
    file.tracks.append(track)
    track.append(mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(tempo)))
    held = np.pad(np.asarray(roll, np.int8), ((1, 1), (0, 0)))
    last = 0
    for frame, changes in enumerate(np.diff(held, axis=0)):
        for key in sorted(np.flatnonzero(changes), key=lambda key: changes[key]):  # what ends first
            now = round(frame * beats * ticks)
            kind = "note_on" if changes[key] > 0 else "note_off"
            track.append(mido.Message(kind, note=int(key) + LOWEST, velocity=velocity, time=now - last))
            last = now
    with path.open("xb") as out:
        file.save(file=out)
