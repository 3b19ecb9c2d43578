"""Texts for word language models, and words as integers.

| corpus   | words (train / valid / test) | vocabulary | `<unk>` in test | trigram perplexity of test, Kneser-Ney (Witten-Bell) |
|----------|------------------------------|------------|-----------------|------------------------------------------------------|
| `stdlib` | 533,225 / 72,418 / 63,481    | 7,008      | 4.2 %           | 120.5 (146.1); Python 3.11.7                         |
|          | 502,318 / 65,988 / 62,208    | 6,747      | 4.5 %           | 122.3 (149.2); Python 3.13.0                         |
| `ptb`    | 929,589 / 73,760 / 82,430    | 10,000     | 5.8 %           | 150.9 (188.7)                                        |

`stdlib` is the documentation in the running Python's own standard library, so it needs no download: docstrings, comments and
the language reference behind `help()`. Modules are parsed, not imported, in the order of their names, tests left out. A
paragraph is what stands between blank lines; each different one is taken once, and `<eos>` ends it. A module's paragraphs all
go into one part, by a checksum of its path, so that a module stays in its part from one version of Python to the next: about
a tenth of the modules is to validate on, a tenth to test on.

`ptb`, the Penn Treebank as Mikolov prepared it (2010), is the text of `experiments.data.text`, where it says how it is found:
numbers are N, all but the 10,000 most frequent words are `<unk>`, and `<eos>` ends each line (Zaremba et al. 2014).
"""

import ast
import functools
import inspect
import re
import sysconfig
import warnings
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np

from experiments.data import text
from experiments.data.files import lines_of

Corpus = Literal["stdlib", "ptb"]

UNKNOWN = "<unk>"
END = "<eos>"
NUMBER = "N"
PARTS = ("train", "valid", "test")

_TOKEN = re.compile(
    r"(?P<tag><\w+>)|(?P<number>\d\w*(?:[.,]\d\w*)*)|(?P<word>[^\W\d]\w*(?:'\w+)?)|(?P<mark>[^\w\s])(?P=mark)*"
)
_LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idle_test"}
_REFERENCE = "pydoc_data/topics.py"  # what help() shows of the language reference: strings in a dict
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


class Words(NamedTuple):
    """A corpus: its name, its vocabulary, and its parts as places in the vocabulary."""

    name: str
    vocabulary: tuple[str, ...]  # most frequent first
    train: np.ndarray  # int32 [words]
    valid: np.ndarray  # int32 [words]
    test: np.ndarray  # int32 [words]


def load(
    corpus: Corpus = "stdlib",
    *,
    file: Path | None = None,
    encoding: str = "utf-8",
    min_count: int = 3,
    data_dir: Path | None = None,
) -> Words:
    """One of the corpora above, or, with `file`, any text in `encoding` (`corpus` is then ignored).

    Of `file` each line with words in it is a paragraph; the first eight tenths of the lines are to train on, then a tenth to
    validate and a tenth to test on. Words that occur fewer than `min_count` times in the training part are `<unk>` (`ptb`
    comes with its own). ValueError and FileNotFoundError say what was read, what was found, what was expected and what to do.
    """
    if min_count < 1:
        raise ValueError(f"min_count is {min_count}; expected at least 1, which keeps every word of the training part")
    if file is not None:
        whole = text.load(file=file, encoding=encoding)
        return _indexed(whole.name, _tenths(whole.name, lines_of(whole.train + whole.valid)), min_count)
    match corpus:
        case "stdlib":
            return _indexed(corpus, _standard_library(), min_count)
        case "ptb":
            found = text.load("ptb", data_dir=data_dir)
            parts = [(part or "").replace("\n", f" {END} ").split() for part in (found.train, found.valid, found.test)]
            return _indexed(corpus, parts, min_count=1)
    raise ValueError(f"corpus is {corpus!r}; expected one of {', '.join(get_args(Corpus))}, or pass file= with a text")


def tokenize(paragraph: str) -> list[str]:
    """The words and punctuation marks of a text, in lower case.

    A word begins with a letter or underscore and goes on with digits too, so that an identifier is one word, as is `don't`. What
    begins with a digit is N, inner points and commas included. A tag such as `<unk>` is one word. A run of the same mark is one
    word, at most three long: `...`, `==`, `---`.
    """
    return [
        NUMBER if found["number"] else found[0][:3] if found["mark"] else found[0]
        for found in _TOKEN.finditer(paragraph.lower())
    ]


def encode(words: Iterable[str], vocabulary: tuple[str, ...]) -> np.ndarray:
    """Words as places in the vocabulary, int32 [how many]; one that is not in it becomes `<unk>`."""
    places = _places(vocabulary)
    unknown = places[UNKNOWN]
    return np.fromiter((places.get(word, unknown) for word in words), np.int32)


def decode(ids: np.ndarray, vocabulary: tuple[str, ...]) -> list[str]:
    """The words that stand at the places `ids` [length] in the vocabulary."""
    return [vocabulary[place] for place in np.asarray(ids).tolist()]


@functools.lru_cache(maxsize=4)
def _places(vocabulary: tuple[str, ...]) -> dict[str, int]:
    return {word: place for place, word in enumerate(vocabulary)}


def _indexed(name: str, parts: Iterable[list[str]], min_count: int) -> Words:
    train, *held_out = parts
    counts = Counter(train)
    kept = {word: count for word, count in counts.items() if count >= min_count}
    rare = counts.total() - sum(kept.values())
    kept[UNKNOWN] = kept.get(UNKNOWN, 0) + rare
    kept.setdefault(END, 0)
    vocabulary = tuple(sorted(kept, key=lambda word: (-kept[word], word)))
    return Words(name, vocabulary, *(encode(part, vocabulary) for part in (train, *held_out)))


def _joined(paragraphs: Iterable[str]) -> list[str]:
    return [word for paragraph in paragraphs for word in (*tokenize(paragraph), END)]


def _tenths(name: str, lines: list[str]) -> list[list[str]]:
    lines = [line for line in lines if line.strip()]
    if len(lines) < 10:
        raise ValueError(
            f"{name} has {len(lines)} lines with words in them; expected at least 10, to hold two tenths out: "
            f"break it into lines, sentences or paragraphs say"
        )
    first, second = len(lines) * 8 // 10, len(lines) * 9 // 10
    return [_joined(lines[:first]), _joined(lines[first:second]), _joined(lines[second:])]


def _standard_library() -> list[list[str]]:
    folder = Path(sysconfig.get_path("stdlib"))
    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    seen: set[tuple[str, ...]] = set()
    for module in _modules(folder):
        words = parts[part_of(module)]
        for paragraph in documentation((folder / module).read_text("utf-8", "replace"), module):
            tokens = tokenize(paragraph)
            if tuple(tokens) not in seen:
                seen.add(tuple(tokens))
                words += [*tokens, END]
    if missing := [part for part in PARTS if not parts[part]]:
        raise FileNotFoundError(
            f"{folder} holds no documented Python source for {', '.join(missing)}, but the corpus 'stdlib' is the standard "
            f"library's documentation (zipped and embedded Pythons come without it): use another Python, another corpus, or "
            f"pass file= with a text"
        )
    return list(parts.values())


def _modules(folder: Path) -> list[str]:
    """Paths below the standard library's folder, sorted."""
    paths = (path.relative_to(folder) for path in folder.rglob("*.py"))
    return sorted(path.as_posix() for path in paths if not _LEFT_OUT & set(path.parts))


def part_of(module: str) -> str:
    """The part that a module of the standard library goes into, by its path: `json/decoder.py`."""
    tenth = zlib.crc32(module.encode()) % 10
    return {0: "test", 1: "valid"}.get(tenth, "train")


def documentation(source: str, module: str = "") -> Iterator[str]:
    """Paragraphs with words in them: of a module's docstrings first, then of its comments, those after code on a line left out.

    Of the module that holds the language reference, the strings in its dict come too. Nothing where it does not parse.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # of escapes in somebody else's strings
            nodes = list(_walk(ast.parse(source)))
    except (SyntaxError, ValueError):
        return
    texts = [ast.get_docstring(node) or "" for node in nodes if isinstance(node, _DOCUMENTED)]
    if module == _REFERENCE:
        values = [
            value.value
            for node in nodes
            if isinstance(node, ast.Dict)
            for value in node.values
            if isinstance(value, ast.Constant)
        ]
        texts += [inspect.cleandoc(value) for value in values if isinstance(value, str)]
    for paragraphs in (*texts, _comments(source, nodes)):
        for paragraph in re.split(r"\n\s*\n", paragraphs):
            if re.search(r"[^\W\d_]", paragraph):
                yield paragraph


def _walk(tree: ast.AST) -> Iterator[ast.AST]:
    """As `ast.walk`, but what stands on one line, most of a module, is not entered."""
    todo = [tree]
    while todo:
        node = todo.pop()
        yield node
        if getattr(node, "end_lineno", 1) != getattr(node, "lineno", 0):
            todo.extend(reversed(list(ast.iter_child_nodes(node))))


def _comments(source: str, nodes: list[ast.AST]) -> str:
    """Lines of comment without their #, and empty ones for the code between them."""
    in_string: set[int] = set()  # a line of a string may begin with # as well
    for node in nodes:
        if isinstance(node, ast.Constant | ast.JoinedStr) and node.end_lineno is not None:
            in_string.update(range(node.lineno + 1, node.end_lineno + 1))
    lines = enumerate(source.split("\n"), 1)
    return "\n".join(
        line.strip().lstrip("#!") if line.lstrip().startswith("#") and number not in in_string else ""
        for number, line in lines
    )
