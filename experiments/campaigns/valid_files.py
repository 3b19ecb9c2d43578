"""For every reader of a user's files, files that it reads, and how it is called."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from experiments.common.extras import need
from experiments.data import (
    atis,
    audio,
    captions,
    digits,
    forecasting,
    parallel,
    piano_rolls,
    pronunciations,
    sentences,
    series,
    text,
    treebank,
    tunes,
    vectors,
    words,
)


class Reader(NamedTuple):
    """What reads files, and some that are good."""

    write: Callable[[], Mapping[str, bytes]]  # contents by their paths in a folder
    read: Callable[[Path], Any]  # of that folder


def _text(lines: Callable[[int], str], count: int, head: str = "") -> bytes:
    return (head + "".join(lines(n) for n in range(count))).encode()


def _pictures() -> dict[str, bytes]:
    """Of several formats, with their captions."""
    ramp = np.linspace(0, 255, 12 * 10 * 3).reshape(12, 10, 3).astype(np.uint8)
    found = {}
    for name, form in {"a.png": "PNG", "b.jpg": "JPEG", "c.gif": "GIF", "d.bmp": "BMP", "e.tif": "TIFF"}.items():
        out = io.BytesIO()
        Image.fromarray(ramp).save(out, form)
        found[f"pictures/{name}"] = out.getvalue()
    return found


def _with_lines() -> dict[str, bytes]:
    names = [Path(name).name for name in _pictures()]
    return {**_pictures(), "captions.txt": "".join(f"{name}#0\tUn café noir\n" for name in names).encode()}


def _with_json() -> dict[str, bytes]:
    names = [Path(name).name for name in _pictures()]
    lines = ",\n".join(f'"{name}": ["Un café noir", "Deux\\u00e9 \\n"]' for name in names)
    return {**_pictures(), "captions.json": f"{{{lines}}}".encode()}


def _recordings() -> dict[str, bytes]:
    """Each in another way to write a sample, one of another rate."""
    soundfile = need("soundfile", "speech")
    wave = 0.5 * np.sin(np.arange(600) / 5)
    found = {}
    for number, subtype in enumerate(("PCM_U8", "PCM_16", "PCM_24", "FLOAT", "ULAW")):
        out = io.BytesIO()
        soundfile.write(out, wave, audio.RATE * (1 + number // 4), format="WAV", subtype=subtype)
        found[f"{number}_ann_{number}.wav"] = out.getvalue()
    return found


def _packed() -> dict[str, bytes]:
    out = io.BytesIO()
    low = np.arange(600, dtype=np.uint8)
    np.savez(
        out, names=["1_ann_1.wav", "2_ann_2.wav"], lens=np.array([300, 300], np.int32), lo=low, hi=np.zeros_like(low)
    )
    return {"some.npz": out.getvalue()}


def _midi() -> dict[str, bytes]:
    mido = need("mido", "music")
    found = {}
    for number in range(4):
        file = mido.MidiFile()
        track = mido.MidiTrack()
        file.tracks.append(track)
        track.append(mido.MetaMessage("track_name", name="x"))
        for key in range(60, 68):
            track.append(mido.Message("note_on", note=key, velocity=64, time=0))
            track.append(mido.Message("note_off", note=key, time=240))
        out = io.BytesIO()
        file.save(file=out)
        found[f"{number}.mid"] = out.getvalue()
    return found


def _idx() -> dict[str, bytes]:
    def one(*shape: int) -> bytes:
        head = bytes([0, 0, 8, len(shape)]) + b"".join(length.to_bytes(4, "big") for length in shape)
        return head + (np.arange(np.prod(shape)) % 7).astype(np.uint8).tobytes()

    images, labels = "-images-idx3-ubyte", "-labels-idx1-ubyte"
    return {
        f"train{images}": one(24, 5, 4),
        f"train{labels}": one(24),
        f"t10k{images}": one(3, 5, 4),
        f"t10k{labels}": one(3),
    }


def _conllu() -> dict[str, bytes]:
    rows = [
        ("1-2", "zum", "_"),
        (1, "zu", "ADP"),
        (2, "dem", "DET"),
        (3, "Café", "NOUN"),
        ("3.1", "x", "X"),
        (4, ".", "PUNCT"),
    ]
    lines = "".join(f"{row[0]}\t{row[1]}\t_\t{row[2]}\t_\t_\t_\t_\t0:root\tSpaceAfter=No\n" for row in rows)
    one = f"# text = zum Café.\n{lines}\n"
    return {f"xx_x-ud-{part}.conllu": (one * 4).encode() for part in treebank.PARTS}


def _slots() -> dict[str, bytes]:
    lines = {"seq.in": "fly to köln now", "seq.out": "O O B-city I-city", "label": "flight"}
    return {
        f"{part}/{name}": f"{line}\n".encode() * 4
        for part in ("train", "valid", "test")
        for name, line in lines.items()
    }


def _series(*, times: bool) -> dict[str, bytes]:
    def one(n: int) -> str:
        values = [f"(2020-01-01 00:00:0{step},{step}.{n})" if times else f"{step}.{n}" for step in range(4 + n % 3)]
        return f"{','.join(values)}:{','.join(values)}:{('Low', 'high')[n % 2]}\n"

    head = (
        f"# of two dimensions\n@problemName mine\n@timeStamps {str(times).lower()}\n@missing false\n@univariate false\n"
    )
    head += "@dimensions 2\n@equalLength false\n@classLabel true Low high\n@data\n"
    return {name: _text(one, 14, head) for name in ("a.ts", "b.ts")}


_TUNE = "X:{n}\nT:Café {n}\nM:4/4\nL:1/8\nK:D\n|:DEFG A{n}Bcd|(3efg a2 [ce]>d z2:|\n"
_CMUDICT = (
    "tomato T AH0 M EY1 T OW2",
    "tomato(2) T AH0 M AA1 T OW2",
    "cat K AE1 T",
    "d'or D AO1 R # french",
    ";;; comment",
)

READERS: dict[str, Reader] = {
    "characters": Reader(
        lambda: {"mine.txt": _text(lambda n: f"{n} cafés près de l'église.\n", 9)},
        lambda at: text.load(file=at / "mine.txt"),
    ),
    "words": Reader(
        lambda: {"mine.txt": _text(lambda n: f"{n} cafés près de l'église.\n", 30)},
        lambda at: words.load(file=at / "mine.txt"),
    ),
    "sentences": Reader(
        lambda: {
            "mine.txt": _text(lambda n: f"N{n % 3}:x un film très naïf {n}\n", 30),
            "test.txt": _text(lambda n: f"N{n % 3}:x un {n}\n", 6),
        },
        lambda at: sentences.load(file=at / "mine.txt", test=at / "test.txt"),
    ),
    "word vectors": Reader(
        lambda: {"mine.txt": _text(lambda n: f"word{n} 0.25 -1e-3 {n}\n", 9, "9 3\n")},
        lambda at: vectors.read_vectors(at / "mine.txt", [f"word{n}" for n in range(9)], 3),
    ),
    "parallel texts": Reader(
        lambda: {name: _text(lambda n: f"{n} cafés près de l'église.\n", 20) for name in ("mine.fr", "mine.en")},
        lambda at: parallel.load(files=(at / "mine.fr", at / "mine.en")),
    ),
    "captions": Reader(
        _with_lines, lambda at: captions.load(folder=at / "pictures", captions=at / "captions.txt", size=(6, 6))
    ),
    "captions in JSON": Reader(
        _with_json,
        lambda at: captions.load(folder=at / "pictures", captions=at / "captions.json", size=(6, 6), channels=1),
    ),
    "csv": Reader(
        lambda: {"mine.csv": _text(lambda n: f"2020-01-{n + 1:02},{n},-{n}.5\n", 30, "date,été,v\n")},
        lambda at: forecasting.load(file=at / "mine.csv"),
    ),
    "csv with semicolons": Reader(
        lambda: {"mine.csv": _text(lambda n: f'{n + 1:02}.01.2020 9:30;{n},25;"{n}"\n', 30, "Zeit;Öl;v\n")},
        lambda at: forecasting.load(file=at / "mine.csv"),
    ),
    "series": Reader(lambda: _series(times=False), lambda at: series.load(at / "a.ts", at / "b.ts")),
    "series with times": Reader(lambda: _series(times=True), lambda at: series.load(at / "a.ts", at / "b.ts")),
    "treebank": Reader(_conllu, lambda at: treebank.load(at)),
    "slots": Reader(_slots, lambda at: atis.load_folder(at)),
    "pronunciations": Reader(
        lambda: {"mine.dict": "".join(f"{line}\n" for line in _CMUDICT).encode()},
        lambda at: pronunciations.parse((at / "mine.dict").read_bytes(), str(at / "mine.dict")),
    ),
    "recordings": Reader(_recordings, lambda at: audio.load(folder=at)),
    "packed recordings": Reader(_packed, lambda at: audio.unpack(at / "some.npz")),
    "tunes": Reader(
        lambda: {"mine.abc": "".join(_TUNE.format(n=n) for n in range(12)).encode()},
        lambda at: _with_bars(tunes.load(files=[at / "mine.abc"])),
    ),
    "MIDI": Reader(_midi, lambda at: piano_rolls.load(files=at)),
    "IDX": Reader(_idx, lambda at: digits.load(folder=at)),
}


def _with_bars(corpus: tunes.Corpus) -> Any:
    """What is read of a tune is measured too."""
    return [tunes.abc_notation.bars(tune) for tune in (*corpus.train, *corpus.valid, *corpus.test)]
