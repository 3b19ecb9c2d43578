"""Treebanks in CoNLL-U (Universal Dependencies): sentences of words, each with one of the 17 universal part-of-speech tags.

| treebank         | sentences (train / dev / test) | words                     | floor (test): each word's commonest tag |
|------------------|--------------------------------|---------------------------|-----------------------------------------|
| UD English EWT   | 12,544 / 2,001 / 2,077         | 204,577 / 25,147 / 25,094 | 88.06 %                                 |

UD English EWT (Silveira et al. 2014; texts of the English Web Treebank: weblogs, newsgroups, e-mail, reviews, answers) is
under CC BY-SA 4.0. It is read from `data_dir`, else from the folder that the environment variable JRNN_DATA names, else
from the download cache, where it is fetched to on first use. Either folder is laid out as

    ud_english_ewt/en_ewt-ud-train.conllu  ud_english_ewt/en_ewt-ud-dev.conllu  ud_english_ewt/en_ewt-ud-test.conllu

and any of these files may be gzipped (`.gz` added to its name). Any other treebank of https://universaldependencies.org is
read from its own folder; of one without a dev part every tenth sentence of the training part is held out. Words are the tokens with
an integer id: of `1-2 cannot`, `1 can`, `2 not` the last two, and no empty nodes (`8.1`), as the official evaluation counts.
Sentences with a word whose tag is missing (`_`) are left out.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from conllu.exceptions import ParseException
from conllu.parser import DEFAULT_FIELDS, parse_line

from experiments.data.files import File, decoded, read

TAGS = (
    "ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PART", "PRON", "PROPN", "PUNCT", "SCONJ", "SYM",
    "VERB", "X",
)  # fmt: skip
PARTS = ("train", "dev", "test")

_EWT = (
    "https://raw.githubusercontent.com/UniversalDependencies/UD_English-EWT/15d613d8447b3478787d4c278730a1e48a945efb/"
)
_SHA256 = {
    "train": "3fb78e2b55482c8ee00caa653af436c88c9e5bc9a73ce26e4ae3ddc79d2b7e7b",
    "dev": "531a54ff90d6ab12201c5a50c3e78e6ddac4de69abc4bce5d275d3cd29efe2b6",
    "test": "e266e515a0a7547657ed3d90d9ba46487d6bd251f27ad4269d4e8a427c8555cd",
}
_FILES = {
    part: File(f"ud_english_ewt/en_ewt-ud-{part}.conllu", f"{_EWT}en_ewt-ud-{part}.conllu", sha256)
    for part, sha256 in _SHA256.items()
}
HELD_OUT = 10  # one in so many, of a treebank without a dev part
UNTAGGED = "_"
_USED = DEFAULT_FIELDS[:4]  # id, form, lemma, upos


class Sentence(NamedTuple):
    """Words and their tags, side by side; never empty."""

    words: list[str]
    tags: list[str]


class Treebank(NamedTuple):
    """A treebank's name and its official parts."""

    name: str
    train: list[Sentence]
    dev: list[Sentence]
    test: list[Sentence]
    left_out: int = 0  # sentences with a word whose tag is missing


def load(folder: Path | None = None, *, data_dir: Path | None = None) -> Treebank:
    """UD English EWT, or, with `folder`, the treebank there: its files are called *-ud-train.conllu, -dev and -test.

    ValueError and FileNotFoundError say which file and line was read, what was found there, what was expected and what to do.
    """
    if folder is None:
        files = [_FILES[part] for part in PARTS]
        return _tagged("UD English EWT", {file.name: parse(read(file, data_dir), file.name) for file in files})
    paths = [path for part in PARTS if (path := _find(Path(folder).expanduser(), part))]
    return _tagged(paths[0].name.split("-ud-")[0], {str(path): parse(path.read_bytes(), str(path)) for path in paths})


def parse(content: bytes, name: str) -> list[Sentence]:
    """The sentences of a CoNLL-U file; errors call it `name`."""
    sentences = list(_sentences(decoded(content, name).split("\n"), name))
    if not sentences:
        raise ValueError(f"{name} is empty; expected sentences in CoNLL-U: pass a treebank with some in it")
    return sentences


def _tagged(name: str, files: dict[str, list[Sentence]]) -> Treebank:
    """The parts of a treebank from its files, without the sentences that miss a tag."""
    parts = [[one for one in sentences if UNTAGGED not in one.tags] for sentences in files.values()]
    for file, part in zip(files, parts):
        if not part:
            raise ValueError(
                f"{file} has no sentence whose words all have a tag in the fourth column; expected universal tags, "
                f"{', '.join(TAGS)}: use a treebank that has them"
            )
    *train, test = parts
    train, dev = train if len(train) == 2 else _without_dev(train[0], name)
    left_out = sum(map(len, files.values())) - len(train) - len(dev) - len(test)
    return Treebank(name, train, dev, test, left_out)


def _without_dev(train: list[Sentence], name: str) -> tuple[list[Sentence], list[Sentence]]:
    """What is trained on and what is held out, of a training part that comes without a dev part."""
    if len(train) < HELD_OUT:
        raise ValueError(
            f"{name} has no *-ud-dev.conllu and {len(train)} sentences to train on; expected at least {HELD_OUT}, so that some can "
            "be held out: add a dev part"
        )
    return [one for place, one in enumerate(train, 1) if place % HELD_OUT], train[HELD_OUT - 1 :: HELD_OUT]


def most_frequent_tag(train: list[Sentence], held_out: list[Sentence]) -> float:
    """The floor, a share: how many held-out words have the tag that the word, as it is written, has most often in `train`.

    For a word that `train` lacks it is the tag most frequent among words seen there once that begin likewise, with a
    capital or without.
    """
    of_word: defaultdict[str, Counter[str]] = defaultdict(Counter)
    of_rare: defaultdict[bool, Counter[str]] = defaultdict(Counter)
    for sentence in train:
        for word, tag in zip(*sentence):
            of_word[word][tag] += 1
    for word, tags in of_word.items():
        if tags.total() == 1:
            of_rare[word[0].isupper()] += tags
    overall = sum(of_word.values(), Counter())

    def guess(word: str) -> str:
        tags = of_word.get(word) or of_rare.get(word[0].isupper()) or overall
        return tags.most_common(1)[0][0]

    right = [guess(word) == tag for sentence in held_out for word, tag in zip(*sentence)]
    return sum(right) / len(right)


def _find(folder: Path, part: str) -> Path | None:
    """The file of a part; None where there is none for dev, which many treebanks lack."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f"treebank folder {folder} is no folder; expected one with *-ud-{{train,dev,test}}.conllu in it"
        )
    found = sorted(folder.glob(f"*-ud-{part}.conllu"))
    if part == "dev" and not found:
        return None
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise FileNotFoundError(
            f"{folder} has {names} for *-ud-{part}.conllu; expected one file: give the folder of one treebank, unpacked"
        )
    return found[0]


def _sentences(lines: list[str], name: str) -> Iterator[Sentence]:
    """A sentence is comments, then tokens, then an empty line or several (which may be missing at the end)."""
    words: list[str] = []
    tags: list[str] = []
    for number, line in enumerate([*lines, ""], 1):
        if line.startswith("#"):
            continue
        if line.strip():
            token = _token(line, f"{name}:{number}", expected_id=len(words) + 1)
            if token is not None:
                words.append(token[0])
                tags.append(token[1])
        elif words:
            yield Sentence(words, tags)
            words, tags = [], []


def _token(line: str, where: str, *, expected_id: int) -> tuple[str, str] | None:
    """Form and universal tag of a word; None for multiword ranges and empty nodes."""
    columns = line.count("\t") + 1
    if columns != len(DEFAULT_FIELDS):
        raise ValueError(
            f"{where}: {columns} columns in {_short(line)}; expected the {len(DEFAULT_FIELDS)} of CoNLL-U, with tabs between "
            f"them ({', '.join(DEFAULT_FIELDS)}): mend the line"
        )
    try:
        token = parse_line(line, _USED)
    except ParseException as error:
        raise ValueError(f"{where}: {error} Ids are 1, 2, 3, a range such as 3-4, or 3.1: mend the line") from error
    if token["id"] is None:
        raise ValueError(f"{where}: the id is missing; expected {expected_id}: mend the line")
    if not isinstance(token["id"], int):
        return None
    if token["id"] != expected_id:
        raise ValueError(f"{where}: word {token['id']}; expected word {expected_id}, as ids count from 1: mend the ids")
    if not token["form"]:
        raise ValueError(f"{where}: the word's form is empty; expected the word in the second column: mend the line")
    if token["upos"] not in (*TAGS, UNTAGGED, None):
        raise ValueError(
            f"{where}: {token['form']!r} has the tag {token['upos']!r}; expected a universal tag, one of {', '.join(TAGS)}: "
            f"mend it, or use a treebank that has them"
        )
    return token["form"], token["upos"] or UNTAGGED


def _short(line: str) -> str:
    return repr(line if len(line) <= 40 else f"{line[:40]}...")
