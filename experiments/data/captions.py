"""Images and what is written about them.

| data     | images (train / valid / test) | size          | captions                                 | tokens  |
|----------|-------------------------------|---------------|------------------------------------------|---------|
| `digits` | 1,293 / 144 / 360             | 8 x 8 x 1     | the digit's name, in each of 6 languages | letters |
| `flickr` | 800 / 100 / 100               | 112 x 112 x 3 | five by people                           | words   |

`digits` needs no download: the handwritten digits of scikit-learn (see digits.py), light on dark, and their names in English,
German, French, Spanish, Italian and Dutch. The language is given with the image: `z e r o` in English, `n u l l` in German.

`flickr` is a thousand photographs of Flickr8k (Hodosh, Young & Hockenmaier 2013), their middle shrunk. It may be used for
research but not passed on, so it is read from a folder alone: `data_dir`, else the one that the environment variable JRNN_DATA
names, with

    flickr8k_1000/captions.json.gz  flickr8k_1000/images112.zip

in it. It has no parts of its own: they are drawn by photograph, always the same.

Images of one's own: a folder with them, of any size and mode, and a file with their captions, UTF-8, gzipped where its name ends
in `.gz`. Where that name has `.json` in it, it is JSON, `{"a.jpg": ["A dog runs .", "Two dogs ."], ...}`; else it has a caption a
line, after the image's name and a tab. `#0`, `#1` may follow the name, as in `Flickr8k.token.txt`. Images without a caption are
not used. A tenth of the images is for testing, another tenth validates, drawn by `seed`.

Words are in lower case and without punctuation, as is usual for captions (Karpathy & Fei-Fei 2015).
"""

import json
import os
import random
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from experiments.data import digits
from experiments.data.files import File, decoded, read, unpacked
from experiments.data.pixels import decode_image, read_image
from experiments.data.sentences import tokenize

Data = Literal["digits", "flickr"]

SIZE = (112, 112)
NAMES = {
    "en": "zero one two three four five six seven eight nine",
    "de": "null eins zwei drei vier fünf sechs sieben acht neun",
    "fr": "zéro un deux trois quatre cinq six sept huit neuf",
    "es": "cero uno dos tres cuatro cinco seis siete ocho nueve",
    "it": "zero uno due tre quattro cinque sei sette otto nove",
    "nl": "nul één twee drie vier vijf zes zeven acht negen",
}
LANGUAGES = tuple(NAMES)

_FLICKR = {
    name: File(f"flickr8k_1000/{name}", "", sha256)
    for name, sha256 in {
        "captions.json": "4f2c42fee5842d8fa05d77e446a1cfee5f888d71d32db957da01c8d7797b7b5d",
        "images112.zip": "f30babd652045713536eb49ef51c910eb5d0f8e62f60931e1bc28cea6989f330",
    }.items()
}


class Caption(NamedTuple):
    """What is written about one image."""

    image: int  # place among the images of its part
    language: int  # place among the languages of the data set
    tokens: list[str]


class Part(NamedTuple):
    """Images, and captions of all of them."""

    names: list[str]  # one an image
    images: np.ndarray  # float32 [count, height, width, channels], from 0 to 1
    captions: list[Caption]


class Captioned(NamedTuple):
    """A data set and its parts; no image is in two."""

    name: str
    languages: tuple[str, ...]  # one, where none is chosen
    train: Part
    valid: Part
    test: Part

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of an image."""
        return self.train.images.shape[1], self.train.images.shape[2]

    @property
    def channels(self) -> int:
        """1 for shades of grey, 3 for colours; `read_image(path, size, channels)` loads another image for the same model."""
        return self.train.images.shape[3]


class Line(NamedTuple):
    """A caption as it stands in a file."""

    where: str  # for the errors: path:line
    image: str
    text: str


def load(
    data: Data = "digits",
    *,
    folder: Path | None = None,
    captions: Path | None = None,
    encoding: str = "utf-8",
    size: tuple[int, int] = SIZE,
    channels: int = 3,
    languages: Sequence[str] = LANGUAGES,
    data_dir: Path | None = None,
    seed: int = 0,
) -> Captioned:
    """One of the data sets above or, with `folder` and `captions`, images and captions of one's own (`data` is then ignored).

    `size` (height, width), `channels` and `seed` concern one's own images: they are made that large, as `read_image` says, and
    drawn for the parts by `seed`. `languages` are those of `digits`. ValueError and FileNotFoundError say which file and line, what
    was found there, what was expected and what to do.
    """
    if (folder is None) != (captions is None):
        missing, given = ("folder", "captions") if folder is None else ("captions", "folder")
        raise ValueError(
            f"{given} is given without {missing}; expected both: a folder of images, and a file of captions"
        )
    if folder is not None and captions is not None:
        return _own(Path(folder).expanduser(), Path(captions).expanduser(), encoding, size, channels, seed)
    match data:
        case "digits":
            return _digits(tuple(languages))
        case "flickr":
            return _flickr(data_dir)
    raise ValueError(
        f"data is {data!r}; expected one of {', '.join(get_args(Data))}, or pass folder= and captions= with images of your own"
    )


def first(data: Captioned, count: int) -> Captioned:
    """Of each part the first images, at most so many."""

    def one(part: Part) -> Part:
        kept = [caption for caption in part.captions if caption.image < count]
        return Part(part.names[:count], part.images[:count], kept)

    return data._replace(train=one(data.train), valid=one(data.valid), test=one(data.test))


def words_of(caption: str) -> list[str]:
    """Its words, in lower case and without punctuation."""
    return [token for token in tokenize(caption, treebank=False) if re.search(r"\w", token)]


def parse(content: bytes, name: str, encoding: str = "utf-8") -> list[Line]:
    """The captions in a file of one's own, JSON where `name` says so; ValueError names the line."""
    text = decoded(content, name, encoding)
    lines = list(_from_json(text, name) if ".json" in Path(name).name.lower() else _from_lines(text, name))
    if not lines:
        raise ValueError(f"{name} has no captions; expected one for each image at least: pass a file with some")
    for where, image, caption in lines:
        if not words_of(caption):
            found = f"{caption!r}, which has no word" if caption.strip() else "empty"
            raise ValueError(f"{where}: the caption of {image} is {found}; expected a sentence: correct or remove it")
    return lines


def _from_lines(text: str, name: str) -> Iterator[Line]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        image, tab, caption = line.strip("\r").partition("\t")
        if not tab or not image.strip():
            found = "no tab" if not tab else "no name before the tab"
            raise ValueError(
                f"{name}:{number}: {found} in {line[:40]!r}; expected an image's name, a tab and a caption"
            )
        yield Line(f"{name}:{number}", re.sub(r"#\d+$", "", image.strip()), caption)


def _from_json(text: str, name: str) -> Iterator[Line]:
    expected = 'expected {"image": ["caption", ...], ...}'
    try:
        found = json.loads(text, object_pairs_hook=lambda pairs: pairs)
    except json.JSONDecodeError as error:
        raise ValueError(f"{name}:{error.lineno}: {error.msg}; {expected}: correct it") from error
    if not isinstance(found, list) or not all(isinstance(pair, tuple) for pair in found):
        raise ValueError(f"{name}: a {type(found).__name__} on top; {expected}")
    position = 0
    for image, captions in found:
        position = _place(text, image, position)
        where = f"{name}:{_line(text, position)}"
        captions = [captions] if isinstance(captions, str) else captions
        if not isinstance(captions, list) or not captions or not all(isinstance(one, str) for one in captions):
            raise ValueError(f"{where}: the captions of {image} are {json.dumps(captions)[:40]}; {expected}")
        for caption in captions:
            position = _place(text, caption, position)
            yield Line(f"{name}:{_line(text, position)}", image, caption)


def _place(text: str, string: str, start: int) -> int:
    """Where a string stands in JSON, from `start` on; `start`, where it is written in another way than Python would."""
    found = [text.find(json.dumps(string, ensure_ascii=ascii_), start) for ascii_ in (False, True)]
    return min((place for place in found if place >= 0), default=start)


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _own(folder: Path, captions: Path, encoding: str, size: tuple[int, int], channels: int, seed: int) -> Captioned:
    if not folder.is_dir():
        raise FileNotFoundError(f"folder {folder} is no folder; expected one with images in it")
    if not captions.is_file():
        found = "is a folder" if captions.is_dir() else "does not exist"
        raise FileNotFoundError(f"captions {captions} {found}; expected a file of captions: pass the path of one")
    content = unpacked(captions) if captions.suffix == ".gz" else captions.read_bytes()
    lines = parse(content, str(captions), encoding)
    for where, image, _ in lines:
        if not (folder / image).is_file():
            raise ValueError(
                f"{where}: no image {image} in {folder}; expected a file there: add it, or remove the line"
            )
    return _parts(
        f"{folder.name}, {captions.name}", lines, lambda name: read_image(folder / name, size, channels), seed
    )


def _flickr(data_dir: Path | None) -> Captioned:
    contents = {name: _from_folder(file, data_dir) for name, file in _FLICKR.items()}
    found = json.loads(contents["captions.json"])
    lines = [Line("captions.json", one["image"], caption) for one in found for caption in one["captions"]]
    with zipfile.ZipFile(BytesIO(contents["images112.zip"])) as images:
        return _parts("Flickr8k, 1,000 images", lines, lambda name: decode_image(images.read(name), name, SIZE), 0)


def _from_folder(file: File, data_dir: Path | None) -> bytes:
    given = [Path(folder).expanduser() for folder in (data_dir, os.environ.get("JRNN_DATA")) if folder]
    if not any((folder / name).is_file() for folder in given for name in (file.name, f"{file.name}.gz")):
        where = ", ".join(map(str, given)) or "no data folder given"
        raise FileNotFoundError(
            f"{file.name} was not found ({where}), and the photographs may not be passed on: name a folder that has it by "
            f"--data-dir or JRNN_DATA, or use images of your own"
        )
    return read(file, data_dir)


def _parts(name: str, lines: Sequence[Line], image: Callable[[str], np.ndarray], seed: int) -> Captioned:
    """A tenth of the images to test on, a tenth held out."""
    about: dict[str, list[list[str]]] = {}
    for line in lines:
        about.setdefault(line.image, []).append(words_of(line.text))
    if len(about) < 3:
        raise ValueError(
            f"{name} has {len(about)} images with captions; expected at least 3, to train, validate and test"
        )
    order = random.Random(seed).sample(sorted(about), len(about))
    held = max(len(order) // 10, 1)

    def part(names: list[str]) -> Part:
        captions = [Caption(place, 0, tokens) for place, name in enumerate(names) for tokens in about[name]]
        return Part(names, np.stack([image(name) for name in names]), captions)

    parts: Any = order[2 * held :], order[held : 2 * held], order[:held]
    return Captioned(name, ("",), *map(part, parts))


def _digits(languages: tuple[str, ...]) -> Captioned:
    unknown = [language for language in languages if language not in NAMES]
    if unknown or not languages or len(set(languages)) < len(languages):
        found = f"languages is {languages}" if not unknown else f"languages holds {unknown[0]!r}"
        raise ValueError(f"{found}; expected some of {', '.join(NAMES)}, each once")
    names = [NAMES[language].split() for language in languages]
    found = digits.load("sklearn")

    def part(kind: str, images: digits.Images) -> Part:
        captions = [
            Caption(place, language, list(names[language][label]))
            for place, label in enumerate(images.labels)
            for language in range(len(languages))
        ]
        return Part([f"{kind} {place}" for place in range(len(images.labels))], images.pixels[..., None], captions)

    parts = {kind: part(kind, getattr(found, kind)) for kind in ("train", "valid", "test")}
    return Captioned(found.name, languages, **parts)
