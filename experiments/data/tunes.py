"""Folk tunes in ABC notation, in three parts.

| data         | tunes (train / valid / test) | what                                                                           |
|--------------|------------------------------|--------------------------------------------------------------------------------|
| `music21`    | 3,325 / 420 / 408            | Irish, Scottish, American: O'Neill's (1850), Ryan's Mammoth and Aird's books    |
| `nottingham` | 804 / 107 / 103              | British and American: the Nottingham Music Database, as Jukedeck cleaned it     |

`music21` needs no download: the package of that name ships the books' ABC files, which are read as text. `nottingham` is read from
`data_dir`, else from the folder that the environment variable JRNN_DATA names, else from the download cache. Either folder holds
nottingham_abc/jigs.abc and so on. It is under the GNU General Public License 3.

`experiments.data.abc_notation` says what is kept of a tune. Left out are tunes that it cannot read, those of which exactly the same
is kept as of one before, and those of more than `longest` characters. Tunes of one title, letters and digits alone and "The" aside,
are in one part: parts are cut by the order of the titles' checksums, so they are the same everywhere. Books share melodies under
different titles, and those may be in two parts.
"""

import hashlib
import importlib.util
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np

from experiments.common.extras import MissingPackage
from experiments.data import abc_notation
from experiments.data.abc_notation import Tune
from experiments.data.files import File, files_in, plain, read

Data = Literal["music21", "nottingham"]
BOOKS = ("oneills1850", "ryansMammoth", "airdsAirs")
START, END = 0, 1  # tokens; characters follow
FEWEST = 10  # titles, of which one validates and one tests

_NOTTINGHAM = "https://raw.githubusercontent.com/jukedeck/nottingham-dataset/0992bb6cd864f6d4b90d6663e08c0ef53ffaa08f/ABC_cleaned/"
_SHA256 = {
    "ashover": "6586eea8dca53866b42721050d11fc1408bdb2cf31a902b41c5c13504139b164",
    "hpps": "6d035c6972ac0c204ba79d8128e2d71978ece2214a29ffceeb3e053e27f17db5",
    "jigs": "5bb6f621e443bde552540810e3ea53e53531fd22258736e338d795e7a5bdcaf5",
    "morris": "cbf60b212c87748dea226c76b72a15db5b4f606bb35a580763e9cd8f7294e7da",
    "playford": "070877bc37176e0dedbcd038268d6669399201cd7b58d88b4ab36127528f9c76",
    "reelsa-c": "f92ed0e66024e0a5bb7d21fe3172cd50c3fb4cb7f642b4ec7cd5aa8ad0396da8",
    "reelsd-g": "33f535569116ec8cfb530c112f4cdc3bfb7fc042c271e0317cf6458bad30dfae",
    "reelsh-l": "cb701d4ffe6839cb7a5655bc21785ecb71a72ab63d8560f7be3856f6aedaf7e5",
    "reelsm-q": "a99f2967cf47460bba70bae40cd355a220b537a87180131c6d9433750bc446a1",
    "reelsr-t": "f80a2c0f37a49b9b0c748e922924d59c40d82758abc5b0f7fc9245d7fd563be0",
    "reelsu-z": "d104d7d1bb83eb1ca18f6b944dc22cf9f7bfe5f955d07cd573615985f69c2c1f",
    "slip": "da686b3a0de20aab38e64f8c8ec57edace980bab6450a6c388d79a2866e5b16a",
    "waltzes": "ffa773d012756be17784ab4a84e0e4618f316be5c6f244f9d60c06b23cd812c6",
    "xmas": "05ebc4b856c8c5186bb828641e8f88f723c109d47ba7e3f1e5048b536e091249",
}
_FILES = [
    File(f"nottingham_abc/{name}.abc", f"{_NOTTINGHAM}{name}.abc", sha256) for name, sha256 in sorted(_SHA256.items())
]


class Corpus(NamedTuple):
    """Tunes in three parts."""

    name: str
    train: list[Tune]
    valid: list[Tune]
    test: list[Tune]
    unread: int  # tunes that were left out because they cannot be read

    @property
    def characters(self) -> str:
        """All characters of all parts, sorted: the token of one is its place, after those of start and end."""
        parts = (self.train, self.valid, self.test)
        return "".join(sorted({character for part in parts for tune in part for character in tune.document}))


def load(
    data: Data = "music21", *, files: Sequence[Path] = (), longest: int = 600, data_dir: Path | None = None
) -> Corpus:
    """One of the corpora above, or, with `files`, ABC files and folders of them (`data` is then ignored).

    Raises ValueError for a file of one's own that holds no tunes, or one that cannot be read: which, and why.
    """
    if files:
        texts, name = _own(files), ", ".join(Path(path).name for path in files)
    elif data == "music21":
        texts, name = _books(), "O'Neill's, Ryan's and Aird's books"
    elif data == "nottingham":
        texts, name = ((file.name, _decoded(read(file, data_dir))) for file in _FILES), "Nottingham Music Database"
    else:
        raise ValueError(f"data is {data!r}; expected one of {', '.join(get_args(Data))}")
    kept: dict[str, Tune] = {}
    unread = 0
    for source, text in texts:
        tunes = list(abc_notation.read(text))
        if files and not tunes:
            raise ValueError(f"{source} holds no tune; expected ABC notation: tunes that begin with a line X:")
        for what, tune in tunes:
            if isinstance(tune, ValueError):
                if files:
                    raise ValueError(f"{source}, {what}: {tune}; correct it or take it out")
                unread += 1
            elif len(tune.document) <= longest:
                kept.setdefault(tune.document, tune)
    return Corpus(name, *_parts(list(kept.values()), name, longest), unread)


def first(corpus: Corpus, count: int) -> Corpus:
    """The first `count` tunes of each part."""
    return corpus._replace(train=corpus.train[:count], valid=corpus.valid[:count], test=corpus.test[:count])


def encode(document: str, characters: str) -> np.ndarray:
    """Start, the characters, end: int32 [length + 2]."""
    place = {character: token for token, character in enumerate(characters, END + 1)}
    return np.array([START, *(place[character] for character in document), END], np.int32)


def decode(tokens: np.ndarray, characters: str) -> str:
    """The characters among `tokens` [length], up to the first end."""
    ends = np.flatnonzero(np.asarray(tokens) == END)
    kept = tokens[: ends[0]] if len(ends) else tokens
    return "".join(characters[token - END - 1] for token in kept if token > END)


def _parts(tunes: list[Tune], name: str, longest: int) -> tuple[list[Tune], list[Tune], list[Tune]]:
    """80, 10 and 10 % of the titles."""
    titles = sorted({_normalised(tune) for tune in tunes}, key=_checksum)
    if len(titles) < FEWEST:
        raise ValueError(
            f"{name} has {len(titles)} tunes of different titles, of at most {longest} characters; expected at least {FEWEST}, "
            f"to hold two tenths out: add tunes, or raise longest"
        )
    held = round(len(titles) / 10)
    valid, test = set(titles[-2 * held : -held]), set(titles[-held:])
    parts: tuple[list[Tune], list[Tune], list[Tune]] = ([], [], [])
    for tune in tunes:
        title = _normalised(tune)
        parts[1 if title in valid else 2 if title in test else 0].append(tune)
    return parts


def _normalised(tune: Tune) -> str:
    """Letters and digits of the title, without "The"; of a tune without title, its text."""
    words = re.findall(r"\w+", tune.title.casefold().replace("'", ""))
    return "".join(word for word in words if word != "the") or tune.document


def _checksum(title: str) -> str:
    return hashlib.sha256(title.encode()).hexdigest()


def _books() -> Iterator[tuple[str, str]]:
    found = importlib.util.find_spec("music21")
    if found is None or not found.submodule_search_locations:
        raise MissingPackage("needs music21: pip install -e '.[music]'")
    corpus = Path(found.submodule_search_locations[0]) / "corpus"
    for book in BOOKS:
        paths = sorted((corpus / book).glob("*.abc"))
        if not paths:
            raise FileNotFoundError(f"{corpus / book} holds no ABC files; expected those that music21 10 has there")
        yield from _texts(paths)


def _own(files: Iterable[Path]) -> Iterator[tuple[str, str]]:
    for path in map(Path, files):
        paths = files_in(path, ".abc") if path.is_dir() else [path]
        if not paths:
            raise ValueError(f"folder {path} holds no file that ends in .abc; expected some")
        if not paths[0].is_file():
            raise FileNotFoundError(f"file {path} does not exist; expected an ABC file, or a folder of them")
        yield from _texts(paths)


def _texts(paths: Iterable[Path]) -> Iterator[tuple[str, str]]:
    return ((str(path), _decoded(path.read_bytes())) for path in paths)


def _decoded(content: bytes) -> str:
    """Titles may be in any encoding; music is ASCII."""
    return plain(content.decode("utf-8", "replace"))
