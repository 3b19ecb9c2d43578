"""Spoken digits: recordings, their split, and what a network hears of them.

| recordings | speakers, digits | rate | train / valid / test |
|---|---|---|---|
| 3,000 | 6, 10 (50 of each by each) | 8 kHz | 2,400 (10-49) / 300 (5-9) / 300 (0-4) |

The Free Spoken Digit Dataset (Jackson et al., github.com/Jakobovski/free-spoken-digit-dataset, CC BY-SA 4.0). Recordings 0-4 of
each digit by each speaker are the official test part; 5-9 are held out of the others to choose by. The recordings are looked for in
`data_dir`, then in the folder that the environment variable JRNN_DATA names, laid out as either of

    fsdd/recordings/0_george_0.wav  ...
    fsdd/fsdd_8khz_a.npz  fsdd/fsdd_8khz_b.npz

(packed without loss, see `unpack`), else they are downloaded. Wherever they come from, what they hold is checked as one. A folder
of one's own is not: WAV files named DIGIT_SPEAKER_NUMBER.wav, of 8, 16, 24 or 32 bits, floating point, mu-law, A-law or whatever
else libsndfile reads, of any rate and any number of channels, of which the mean is taken.
"""

import hashlib
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pooch

from experiments.common.extras import need
from experiments.data.files import files_in, folders_given

RATE = 8000  # samples per second
BANDS = 40
WINDOW, HOP = 256, 80  # samples: 32 ms every 10 ms

_URL = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/26eb9aaf76e81b692f806f9140c2d2777410d7a1.zip"
_SHA256 = "c372e20bc44eb598143a5fd394ede7ef017a0778ec4a4739723c7593f28c1082"  # of what they hold, see _checked
_PACKED = ("fsdd_8khz_a.npz", "fsdd_8khz_b.npz")
_WAV = (b"RIFF", b"RIFX", b"RF64", b"riff")  # the last is Sony's for long ones
_UNKNOWN = 0x7F000000  # a chunk as long or longer is one whose writer, on a pipe, could not know its length
# The last two where a flag says that it is encrypted, or compressed in a way that there is not.
_BAD_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
_NAME = re.compile(r"([0-9])_(.+)_([0-9]+)\.wav", re.IGNORECASE)


class Recording(NamedTuple):
    """One digit, spoken once."""

    samples: np.ndarray  # float32 [samples], in -1..1, at RATE
    digit: int
    speaker: str
    number: int


class Parts(NamedTuple):
    """Which recordings are for what."""

    train: list[Recording]
    valid: list[Recording]
    test: list[Recording]


def load(*, folder: Path | None = None, data_dir: Path | None = None) -> list[Recording]:
    """The recordings described above, or those in `folder`, in the order of their names.

    Of several channels the mean is taken; another rate than 8 kHz is resampled (librosa's default, soxr_hq).

    Raises:
      FileNotFoundError: where they were looked for, and how to provide them.
      ValueError: which file is wrong, what was expected and what to do.
      MissingPackage: librosa, which reads and resamples them.
    """
    need("librosa", "speech")  # before anything is downloaded
    if folder is not None:
        return _read_folder(Path(folder))
    folders = folders_given(data_dir, "fsdd")
    for place in folders.values():
        if (place / "fsdd" / "recordings").is_dir():
            return _checked(_read_folder(place / "fsdd" / "recordings"), place / "fsdd" / "recordings")
        packed = [place / "fsdd" / name for name in _PACKED]
        if all(path.is_file() for path in packed):
            return _checked([one for path in packed for one in unpack(path)], place / "fsdd")
    return _download(list(map(str, folders.values())))


def split(recordings: Sequence[Recording], leave_out: str | None = None) -> Parts:
    """The official split, with recordings 5-9 held out to choose by.

    With `leave_out`, a speaker, all of that speaker's recordings are the test part and nothing else is: of the others those held
    out are the same.
    """
    speakers = sorted({one.speaker for one in recordings})
    if leave_out is not None and leave_out not in speakers:
        raise ValueError(f"leave_out is {leave_out!r}; expected one of the speakers, {', '.join(speakers)}")

    def part(one: Recording) -> str:
        if leave_out is not None:
            return "test" if one.speaker == leave_out else "valid" if 5 <= one.number < 10 else "train"
        return "test" if one.number < 5 else "valid" if one.number < 10 else "train"

    parts = Parts(*([one for one in recordings if part(one) == name] for name in Parts._fields))
    for name, found in parts._asdict().items():
        if not found:
            raise ValueError(
                f"none of the {len(recordings)} recordings is for the {name} part; expected numbers 0-4 to test, 5-9 to "
                "choose by and others to train on, and more than one speaker to leave one out: name the files so"
            )
    return parts


def log_mel(samples: np.ndarray) -> np.ndarray:
    """float32 [frames, BANDS]: the energy in mel bands every 10 ms, in tens of dB and at most 80 dB below the loudest.

    Relative to their mean over the recording, which takes away the gain. A mean for each band would take away the vowels too, of
    recordings as short as these.
    """
    librosa = need("librosa", "speech")  # slow to import
    power = librosa.feature.melspectrogram(
        y=samples, sr=RATE, n_fft=WINDOW, hop_length=HOP, n_mels=BANDS, pad_mode="constant"
    )
    decibels = librosa.power_to_db(power).T
    return np.ascontiguousarray((decibels - decibels.mean()) / 10, np.float32)


def unpack(path: Path) -> list[Recording]:
    """Recordings from one npz file: `names`, `lens` (samples of each) and, end to end, two bytes a sample, `lo` and `hi`.

    Together they are the difference to the sample before (0 before the first), with the sign in the lowest bit.
    """
    try:
        with np.load(io.BytesIO(path.read_bytes())) as file:  # by its path, a damaged one stays open
            names, lengths, low, high = (file[key] for key in ("names", "lens", "lo", "hi"))
        coded = low.astype(np.int32) | high.astype(np.int32) << 8
        steps = ((coded >> 1) ^ -(coded & 1)).astype(np.int16)
        rows = np.split(steps, np.cumsum(lengths))
        if len(rows) != len(names) + 1 or len(rows[-1]) or lengths.sum() != len(steps):
            raise ValueError(
                f"{len(names)} names, {len(lengths)} lengths of {lengths.sum()} samples, {len(steps)} samples"
            )
    except (OSError, ValueError, TypeError, KeyError, *_BAD_ZIP) as error:
        raise ValueError(
            f"{path} is not a file of packed recordings ({_reason(error)}): replace or remove it"
        ) from error
    return [_recording(str(name), np.cumsum(row, dtype=np.int16), path) for name, row in zip(names, rows)]


def _read_folder(folder: Path) -> list[Recording]:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder; expected one of WAV files named DIGIT_SPEAKER_NUMBER.wav")
    paths = files_in(folder, ".wav")
    if not paths:
        raise FileNotFoundError(f"{folder} holds no .wav file; expected WAV files named DIGIT_SPEAKER_NUMBER.wav")
    return [_recording(path.name, _read_wav(path.read_bytes(), path), path) for path in paths]


def _read_wav(content: bytes, where: Path) -> np.ndarray:
    """float32 [samples] at RATE."""
    soundfile = need("soundfile", "speech")
    if content[:4] not in _WAV:
        raise ValueError(
            f"{where} begins with {content[:4]!r}; expected a WAV file, which begins with RIFF: replace or remove it"
        )
    try:
        samples, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        reason = getattr(error, "error_string", None) or _reason(error)
        raise ValueError(
            f"{where} cannot be read as audio ({reason.strip().rstrip('.')}); expected a WAV file: replace or remove it"
        ) from error
    said, found = _lengths(content)
    if found < said < _UNKNOWN:
        raise ValueError(
            f"{where} is cut short: {found:,} bytes of samples; expected {said:,}, as its header says: replace or remove it"
        )
    mono = samples.mean(1)
    if rate == RATE or not len(mono):
        return mono
    librosa = need("librosa", "speech")
    return librosa.resample(mono, orig_sr=rate, target_sr=RATE)


def _lengths(content: bytes) -> tuple[int, int]:
    """How many bytes of samples a WAV file says it has, and has; libsndfile reads what there is. Of another format 0 and 0."""
    order = {b"RIFF": "<", b"RIFX": ">"}.get(content[:4])
    place = 12
    while order and place + 8 <= len(content):
        name, said = struct.unpack_from(f"{order}4sI", content, place)
        if name == b"data":
            return said, len(content) - place - 8
        place += 8 + said + said % 2
    return 0, 0


def _reason(error: Exception) -> str:
    """What it says, or, where that is nothing, what it is."""
    return str(error) or type(error).__name__


def _recording(name: str, samples: np.ndarray, where: Path) -> Recording:
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(
            f"{where}: the recording is named {name}; expected DIGIT_SPEAKER_NUMBER.wav, such as 7_jackson_12.wav: rename it"
        )
    if samples.dtype == np.int16:
        samples = samples.astype(np.float32) / 2**15
    if len(samples) < WINDOW or not np.isfinite(samples).all():
        found = (
            f"{len(samples)} samples at {RATE} Hz" if len(samples) < WINDOW else "samples that are not finite numbers"
        )
        raise ValueError(
            f"{where}: {name} has {found}; expected at least {WINDOW} finite ones: record it again, or remove it"
        )
    digit, speaker, number = match.groups()
    return Recording(samples, int(digit), speaker, int(number))


def _download(looked_in: list[str]) -> list[Recording]:
    cache = pooch.os_cache("jrnn") / "fsdd"
    try:
        # Who packs the archive may change its own hash: what it holds is checked.
        path = Path(pooch.retrieve(_URL, known_hash=None, path=cache, fname="fsdd.zip"))
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"fsdd was not found ({', '.join(looked_in) or 'no data folder given'}; cache {cache}) and could not be downloaded "
            f"from {_URL}: {error}. Run git clone https://github.com/Jakobovski/free-spoken-digit-dataset elsewhere and name its "
            "folder recordings by --recordings"
        ) from error
    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted(name for name in archive.namelist() if re.search(r"/recordings/[^/]+\.wav$", name))
            found = [_recording(Path(name).name, _read_wav(archive.read(name), path), path) for name in names]
    except _BAD_ZIP as error:
        raise ValueError(
            f"{path} is not a whole zip file ({_reason(error)}): remove it to have it downloaded"
        ) from error
    return _checked(found, path)


def _checked(recordings: Iterable[Recording], where: Path) -> list[Recording]:
    """In the order of their names; ValueError where they are not the data set's."""
    ordered = sorted(recordings, key=lambda one: (one.digit, one.speaker, one.number))
    digest = hashlib.sha256()
    for one in ordered:
        digest.update(f"{one.digit}_{one.speaker}_{one.number} {len(one.samples)}\n".encode())
        digest.update(np.round(one.samples * 2**15).astype("<i2").tobytes())
    if digest.hexdigest() != _SHA256:
        raise ValueError(
            f"{where} does not hold the expected recordings: the SHA-256 of the {len(ordered)} there, in order, is "
            f"{digest.hexdigest()}, expected {_SHA256}; replace them, or name a folder of your own by --recordings"
        )
    return ordered
