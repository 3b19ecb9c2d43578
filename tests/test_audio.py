"""Recordings: from WAV files, packed, from the archive; their split; their features; every error a user can meet."""

import io
import re
import zipfile

import numpy as np
import pooch
import pytest

pytest.importorskip("soundfile", reason="the speech extra is not installed")
pytest.importorskip("librosa", reason="the speech extra is not installed")

import soundfile

from experiments.data import audio
from experiments.data.audio import RATE, WINDOW, Recording

pytestmark = pytest.mark.usefixtures("isolated")


def tone(seconds=0.3, rate=RATE, hertz=440.0, channels=1):
    wave = 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    return np.repeat(wave[:, None], channels, 1)


def whole(wave):
    """As 16-bit integers."""
    return np.round(wave * 32767).astype(np.int16)


@pytest.fixture
def recordings(tmp_path):
    folder = tmp_path / "recordings"
    folder.mkdir()
    for digit, speaker, number in [(7, "ann", 0), (0, "bo_b", 12), (0, "ann", 5)]:
        soundfile.write(folder / f"{digit}_{speaker}_{number}.wav", whole(tone(0.1 + digit / 10)), RATE)
    return folder


def test_a_folder(recordings):
    found = audio.load(folder=recordings)
    assert [(one.digit, one.speaker, one.number) for one in found] == [(0, "ann", 5), (0, "bo_b", 12), (7, "ann", 0)]
    np.testing.assert_array_equal(found[2].samples, (whole(tone(0.8))[:, 0] / 2**15).astype(np.float32))


# How far a sample of each may be from what was written: half a step of its bits, more where they are fewer for loud ones.
SUBTYPES = {"PCM_U8": 2**-7, "PCM_16": 2**-15, "PCM_24": 2**-23, "PCM_32": 2**-23, "FLOAT": 2**-24, "DOUBLE": 2**-24}
SUBTYPES |= {"ULAW": 0.02, "ALAW": 0.02}


@pytest.mark.parametrize("subtype", SUBTYPES)
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_any_way_to_write_a_sample(tmp_path, subtype, channels):
    """Of several channels the mean is what is heard."""
    wave = tone(0.5, channels=channels) * np.linspace(0.2, 1.5, channels)
    soundfile.write(tmp_path / "3_ann_0.wav", wave, RATE, subtype=subtype)
    [found] = audio.load(folder=tmp_path)
    assert found.samples.dtype == np.float32
    np.testing.assert_allclose(found.samples, wave.mean(1), rtol=0, atol=SUBTYPES[subtype])


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "FLOAT", "ULAW"])
@pytest.mark.parametrize("kept", [0.1, 0.5, -1])
def test_a_file_that_is_cut_short_is_named(tmp_path, subtype, kept):
    path = tmp_path / "3_ann_0.wav"
    soundfile.write(path, tone(0.5), RATE, subtype=subtype)
    content = path.read_bytes()
    whole = len(content) - content.index(b"data") - 8
    cut = content[:kept] if kept < 0 else content[: len(content) - round(whole * (1 - kept))]
    path.write_bytes(cut)
    size = whole - (len(content) - len(cut))
    with pytest.raises(ValueError, match=rf"3_ann_0\.wav is cut short: {size:,} bytes of samples; expected {whole:,}"):
        audio.load(folder=tmp_path)


@pytest.mark.parametrize("said", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF024])
def test_a_file_written_to_a_pipe_says_no_length(tmp_path, said):
    path = tmp_path / "3_ann_0.wav"
    soundfile.write(path, whole(tone()), RATE)
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = said.to_bytes(4, "little")
    path.write_bytes(content)
    [found] = audio.load(folder=tmp_path)
    np.testing.assert_array_equal(found.samples, (whole(tone())[:, 0] / 2**15).astype(np.float32))


@pytest.mark.parametrize(
    ("rate", "channels", "subtype"), [(16_000, 1, "PCM_16"), (44_100, 2, "FLOAT"), (8_000, 2, "PCM_U8")]
)
def test_other_rates_and_channels_sound_the_same(tmp_path, rate, channels, subtype):
    wave = tone(0.5, rate=rate, channels=channels) * np.linspace(0.5, 1.5, channels)
    soundfile.write(tmp_path / "3_ann_0.wav", wave, rate, subtype=subtype)
    [found] = audio.load(folder=tmp_path)
    expected = tone(0.5)[:, 0] * np.linspace(0.5, 1.5, channels).mean()
    assert found.samples.dtype == np.float32
    assert len(found.samples) == len(expected)
    assert np.abs(found.samples - expected)[200:-200].max() < 0.02


@pytest.mark.parametrize(
    ("name", "wave", "message"),
    [
        ("seven_ann_0.wav", tone(), "named seven_ann_0.wav; expected DIGIT_SPEAKER_NUMBER.wav.*rename"),
        ("7_0.wav", tone(), "named 7_0.wav"),
        ("17_ann_0.wav", tone(), "named 17_ann_0.wav"),
        ("7_ann_0.wav", tone(0.0), "has 0 samples at 8000 Hz; expected at least 256"),
        ("7_ann_0.wav", tone(0.01), "has 80 samples at 8000 Hz; expected at least 256"),
        ("7_ann_0.wav", np.full(400, np.nan), "has samples that are not finite"),
        (
            "7_ann_0.wav",
            b"RIFF or not",
            r"7_ann_0\.wav cannot be read as audio \(\w.*\w\); expected a WAV file: replace",
        ),
        ("7_ann_0.wav", b"", r"7_ann_0\.wav begins with b''; expected a WAV file, which begins with RIFF: replace"),
        ("7_ann_0.wav", b"ID3" + b"\0" * 99, r"7_ann_0\.wav begins with b'ID3.x00'; expected a WAV file"),
    ],
)
def test_bad_files_are_named(tmp_path, name, wave, message):
    path = tmp_path / name
    path.write_bytes(wave) if isinstance(wave, bytes) else soundfile.write(path, wave, RATE, subtype="FLOAT")
    with pytest.raises(ValueError, match=message):
        audio.load(folder=tmp_path)


def test_names_in_capitals(recordings):
    (recordings / "7_ann_0.wav").rename(recordings / "7_ann_0.WAV")
    assert [one.digit for one in audio.load(folder=recordings)] == [0, 0, 7]


def test_no_recordings(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder"):
        audio.load(folder=tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"holds no \.wav file"):
        audio.load(folder=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"fsdd was not found .*no network.*git clone .*--recordings"):
        audio.load(data_dir=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"data_dir is .*nowhere, which is not a folder"):
        audio.load(data_dir=tmp_path / "nowhere")


def packed(rows):
    """The format of `unpack`, written out sample by sample."""
    names, lengths, low, high = [], [], [], []
    for name, samples in rows.items():
        before = 0
        for sample in samples.tolist():
            step = (sample - before + 2**15) % 2**16 - 2**15
            coded = 2 * step if step >= 0 else -2 * step - 1
            low.append(coded % 256)
            high.append(coded // 256)
            before = sample
        names.append(name)
        lengths.append(len(samples))
    return {"names": names, "lens": np.int32(lengths), "lo": np.uint8(low), "hi": np.uint8(high)}


def test_packing_loses_nothing(tmp_path):
    random = np.random.default_rng(0)
    rows = {f"{n}_ann_{n}.wav": random.integers(-(2**15), 2**15, 300 + n).astype(np.int16) for n in range(3)}
    rows["5_ann_5.wav"] = np.tile(np.int16([32767, -32768, 0, -1]), 100)
    np.savez(tmp_path / "some.npz", **packed(rows))
    for one, samples in zip(audio.unpack(tmp_path / "some.npz"), rows.values(), strict=True):
        np.testing.assert_array_equal(one.samples * 2**15, samples)


SOUND = packed({"1_ann_1.wav": np.arange(300, dtype=np.int16)})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a zip",
        {"lo": np.zeros(3)},
        SOUND | {"lens": np.int32([299])},
        SOUND | {"lens": np.int32([300, 0])},
        SOUND | {"hi": SOUND["hi"][1:]},
        SOUND | {"lo": np.array(["a"] * 300)},
        SOUND | {"lens": np.array(["a"])},
    ],
)
def test_a_damaged_packed_file(tmp_path, content):
    path = tmp_path / "some.npz"
    path.write_bytes(content) if isinstance(content, bytes) else np.savez(path, **content)
    with pytest.raises(ValueError, match=r"some\.npz is not a file of packed recordings \(.*\w.*\): replace"):
        audio.unpack(path)


@pytest.mark.parametrize(("place", "byte"), [(6, 1), (8, 99)])
def test_a_packed_file_that_says_it_is_encrypted_or_compressed_otherwise(tmp_path, place, byte):
    """By one byte of each entry, at its beginning and, two further, in the list at the end."""
    path = tmp_path / "some.npz"
    np.savez(path, **SOUND)
    content = bytearray(path.read_bytes())
    for mark, further in ((b"PK\x03\x04", 0), (b"PK\x01\x02", 2)):
        for found in re.finditer(re.escape(mark), bytes(content)):
            content[found.start() + place + further] = byte
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"some\.npz is not a file of packed recordings \(.*(encrypted|compression).*\): replace"
    ):
        audio.unpack(path)


def test_the_same_recordings_wherever_they_come_from(recordings, tmp_path, monkeypatch):
    """Folder, packed files and downloaded archive are checked as one; a changed sample is noticed."""
    names = sorted(path.name for path in recordings.iterdir())
    samples = {name: soundfile.read(recordings / name, dtype="int16")[0] for name in names}
    with pytest.raises(ValueError, match="does not hold the expected recordings: the SHA-256 of the 3 there") as caught:
        audio._checked(audio.load(folder=recordings), recordings)
    monkeypatch.setattr(audio, "_SHA256", str(caught.value).split(" is ")[1].split(",")[0])

    plain, boxed = tmp_path / "plain" / "fsdd", tmp_path / "boxed" / "fsdd"
    plain.mkdir(parents=True)
    boxed.mkdir(parents=True)
    recordings.rename(plain / "recordings")
    for name, chosen in zip(audio._PACKED, (names[:2], names[2:])):
        np.savez(boxed / name, **packed({one: samples[one] for one in chosen}))

    def retrieve(url, *, known_hash, path, fname):
        path.mkdir(parents=True)
        with zipfile.ZipFile(path / fname, "w") as archive:
            for file in (plain / "recordings").iterdir():
                archive.write(file, f"dataset-26eb9aa/recordings/{file.name}")
            archive.writestr("dataset-26eb9aa/README.md", "")
        return str(path / fname)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    found = [audio.load(data_dir=folder) for folder in (plain.parent, boxed.parent, tmp_path)]
    monkeypatch.setenv("JRNN_DATA", str(boxed.parent))
    found.append(audio.load())
    assert (tmp_path / "cache" / "jrnn" / "fsdd" / "fsdd.zip").is_file()
    for one in found:
        assert [f"{r.digit}_{r.speaker}_{r.number}.wav" for r in one] == names
        for recording in one:
            name = f"{recording.digit}_{recording.speaker}_{recording.number}.wav"
            np.testing.assert_array_equal(recording.samples * 2**15, samples[name])

    samples[names[1]][7] += 1
    np.savez(boxed / audio._PACKED[0], **packed({one: samples[one] for one in names[:2]}))
    with pytest.raises(ValueError, match="does not hold the expected recordings"):
        audio.load(data_dir=boxed.parent)


def test_a_damaged_archive(tmp_path, monkeypatch):
    (tmp_path / "fsdd.zip").write_bytes(io.BytesIO(b"half a zip").getvalue())
    monkeypatch.setattr(pooch, "retrieve", lambda url, **_: str(tmp_path / "fsdd.zip"))
    with pytest.raises(ValueError, match=r"fsdd\.zip is not a whole zip file .*remove it"):
        audio.load()


ALL = [Recording(np.zeros(WINDOW), digit, speaker, n) for digit in range(10) for speaker in "abc" for n in range(12)]


def named(recordings):
    return {(one.digit, one.speaker, one.number) for one in recordings}


def test_the_official_split():
    parts = audio.split(ALL)
    assert named(parts.test) == {one for one in named(ALL) if one[2] in range(5)}
    assert named(parts.valid) == {one for one in named(ALL) if one[2] in range(5, 10)}
    assert named(parts.train) == {one for one in named(ALL) if one[2] >= 10}


def test_a_speaker_left_out_is_tested_on_and_nowhere_else():
    parts = audio.split(ALL, "b")
    assert named(parts.test) == {one for one in named(ALL) if one[1] == "b"}
    assert {one.speaker for one in [*parts.train, *parts.valid]} == {"a", "c"}
    assert named(parts.train) | named(parts.valid) | named(parts.test) == named(ALL)
    assert sum(map(len, parts)) == len(ALL)


@pytest.mark.parametrize(
    ("recordings", "leave_out", "message"),
    [
        (ALL, "d", "leave_out is 'd'; expected one of the speakers, a, b, c"),
        ([one for one in ALL if one.number >= 5], None, "none of the 210 recordings is for the test part"),
        ([one for one in ALL if one.number < 10], None, "none of the 300 recordings is for the train part"),
        ([one for one in ALL if one.speaker == "a"], "a", "more than one speaker to leave one out"),
    ],
)
def test_splits_that_cannot_be(recordings, leave_out, message):
    with pytest.raises(ValueError, match=message):
        audio.split(recordings, leave_out)


def test_features_show_the_pitch_at_its_time():
    low, high = tone(0.4, hertz=300)[:, 0], tone(0.4, hertz=2500)[:, 0]
    frames = audio.log_mel(np.concatenate([low, high]).astype(np.float32))
    assert frames.dtype == np.float32
    assert frames.shape == (1 + 6400 // audio.HOP, audio.BANDS)
    early, late = frames[5:35].mean(0), frames[45:75].mean(0)
    assert (early - late).argmax() < 10 < 25 < (late - early).argmax()


def test_features_do_not_depend_on_the_gain():
    wave = (tone(0.4)[:, 0] + 0.05 * np.random.default_rng(0).normal(size=3200)).astype(np.float32)
    frames = audio.log_mel(wave)
    np.testing.assert_allclose(audio.log_mel(wave / 8), frames, atol=1e-3)
    assert abs(frames.mean()) < 1e-4


def test_the_data_set(data_dir):
    found = audio.load(data_dir=data_dir)
    assert len(found) == 3000
    assert {one.speaker for one in found} == {"george", "jackson", "lucas", "nicolas", "theo", "yweweler"}
    assert [len(part) for part in audio.split(found)] == [2400, 300, 300]
    assert [len(part) for part in audio.split(found, "theo")] == [2250, 250, 500]
