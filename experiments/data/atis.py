"""ATIS: questions to an airline, each word labelled with the slot it fills, each question with its intent. `load_folder` reads
utterances of one's own.

| part    | file                         | utterances | words  |
|---------|------------------------------|------------|--------|
| `train` | `atis-2.train.w-intent.iob`  | 4,478      | 50,497 |
| `valid` | `atis-2.dev.w-intent.iob`    | 500        | 5,703  |
| `test`  | `atis.test.w-intent.iob`     | 893        | 9,164  |

`train` and `valid` together are the 4,978 utterances of `atis.train`, the usual training part (Mesnil et al. 2013; Goo et
al. 2018). They have 121 labels in IOB (O; B-x for the first word of a slot x; I-x for a further one), 79 slots and 22
intents. Several intents of one utterance are joined by `#`, and the joined name is an intent of its own, as usual.

6 labels and 4 intents of the test part never occur in training. They stay as they are: no model can give them, so
each counts as an error.

The files are read from `data_dir`, else from the folder that the environment variable JRNN_DATA names, else from the
download cache, to which they are fetched on first use from github.com/yvchen/JointSLU. A folder is laid out as
`atis/atis-2.train.w-intent.iob` and so on, each file gzipped or not. The recordings behind them are the Linguistic Data
Consortium's (LDC93S5, LDC94S19, LDC95S26): they may be used for research but not passed on.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.data.files import File, check_file, decoded, lines_of, read

_JOINT_SLU = "https://raw.githubusercontent.com/yvchen/JointSLU/fad79658f343e98c1737fcfe563e76069b62f064/data/"
_SHA256 = {
    "train": ("atis-2.train.w-intent.iob", "c4b1fe74c23b226814ca0cb905eb68190226f3954799277a873a7d29347b7d0e"),
    "valid": ("atis-2.dev.w-intent.iob", "99385eebb9295a214ed8a1c0cc547eb8e8d0618c2a4f1094720d52d8902f7ffc"),
    "test": ("atis.test.w-intent.iob", "744bc272bce1c6a828df7b5580b47a4aee2ad2019e5d2376c348bea1c15f0d6e"),
}
_FILES = {part: File(f"atis/{name}", _JOINT_SLU + name, sha256) for part, (name, sha256) in _SHA256.items()}
_LABEL = re.compile(r"O|[BI]-\S+")
_ABBREVIATIONS = {"st."}  # the only words of ATIS with a full stop


class Utterance(NamedTuple):
    """One question."""

    words: tuple[str, ...]  # lower-case
    slots: tuple[str, ...]  # one label a word: O, B-x or I-x
    intent: str


class Atis(NamedTuple):
    """The three parts."""

    train: list[Utterance]
    valid: list[Utterance]
    test: list[Utterance]


def load(data_dir: Path | None = None) -> Atis:
    """All parts. Errors are those of `files.read` (nowhere to be found, not the expected content) and of `parse`."""
    return Atis(**{part: parse(read(file, data_dir).decode("utf-8"), file.name) for part, file in _FILES.items()})


def load_folder(folder: Path) -> Atis:
    """Utterances of one's own, as Goo et al. (2018) have ATIS and SNIPS.

    `folder` holds train, valid (or dev) and test, each with three files of as many lines: seq.in, words with spaces between them;
    seq.out, a slot for each, O, B-x or I-x; label, the intent. Words are put into lower case. FileNotFoundError and ValueError
    say which file and line, what was found, what was expected and what to do.
    """
    folder = Path(folder).expanduser()
    valid = next((name for name in ("valid", "dev") if (folder / name).is_dir()), "valid")
    return Atis(*(_part(folder / name) for name in ("train", valid, "test")))


def _part(folder: Path) -> list[Utterance]:
    paths = [folder / name for name in ("seq.in", "seq.out", "label")]
    for path in paths:
        check_file(path, "words in seq.in, slots in seq.out, intents in label, a line for each utterance")
    words, slots, intents = (lines_of(decoded(path.read_bytes(), path)) for path in paths)
    for path, lines in zip(paths[1:], (slots, intents)):
        if len(lines) != len(words):
            raise ValueError(
                f"{path} has {len(lines)} lines and {paths[0]} {len(words)}; expected as many: complete them"
            )
    return [
        _checked(tuple(one.lower().split()), tuple(labels.split()), intent.strip(), f"{folder}:{number}")
        for number, (one, labels, intent) in enumerate(zip(words, slots, intents), 1)
    ]


def _checked(words: tuple[str, ...], slots: tuple[str, ...], intent: str, where: str) -> Utterance:
    if not words or not intent:
        raise ValueError(
            f"{where}: {'the intent' if words else 'seq.in'} is empty; expected an utterance: remove the line"
        )
    if len(slots) != len(words):
        raise ValueError(f"{where}: {len(words)} words, but {len(slots)} slots; expected one for each")
    _check_labels(words, slots, where)
    return Utterance(words, slots, intent)


def _check_labels(words: Sequence[str], labels: Sequence[str], where: str) -> None:
    for word, label in zip(words, labels):
        if not _LABEL.fullmatch(label):
            raise ValueError(f"{where}: the label of {word!r} is {label!r}; expected O, B-slot or I-slot")


def parse(content: str, path: str) -> list[Utterance]:
    """The utterances in the lines of a file: `BOS words EOS<TAB>O labels intent`.

    BOS and EOS are left out, with the O that BOS has; the intent stands where EOS would have its label. ValueError names
    `path`, the line, what is wrong with it and what was expected.
    """
    return [_utterance(line, f"{path}:{number}") for number, line in enumerate(lines_of(content), 1)]


def words_of(sentence: str) -> tuple[str, ...]:
    """A typed sentence as ATIS would write it: lower-case, without punctuation but for apostrophes and `st.`, 838 pm for
    8:38pm."""
    spaced = re.sub(r"(\d)([ap]\.?m)\b", r"\1 \2", sentence.lower().replace("’", "'").replace("-", " "))
    words = (re.sub(r"[^\w'.]", "", word) for word in spaced.split())
    words = (word if word in _ABBREVIATIONS else word.replace(".", "") for word in words)
    return tuple(word for word in words if word.strip("'"))


def _utterance(line: str, where: str) -> Utterance:
    halves = line.split("\t")
    if len(halves) != 2:
        raise ValueError(f"{where}: {len(halves) - 1} tabs; expected one, between the words and their labels")
    words, labels = halves[0].split(), halves[1].split()
    if len(words) < 2 or words[0] != "BOS" or words[-1] != "EOS":
        raise ValueError(f"{where}: the words are {halves[0]!r:.60}; expected them between BOS and EOS")
    if len(words) == 2:
        raise ValueError(f"{where}: no word between BOS and EOS; expected an utterance: remove the line")
    if len(labels) == len(words) - 1 and _LABEL.fullmatch(labels[-1]):
        raise ValueError(f"{where}: the intent is missing; expected it after the last label, {labels[-1]}")
    if len(labels) != len(words):
        raise ValueError(
            f"{where}: {len(words)} words, BOS and EOS among them, but {len(labels)} labels; expected one for each, "
            "the intent being that of EOS"
        )
    _check_labels(words[:-1], labels[:-1], where)
    if _LABEL.fullmatch(labels[-1]):
        raise ValueError(f"{where}: the intent is {labels[-1]!r}, a slot's label; expected a name such as atis_flight")
    if labels[0] != "O":
        raise ValueError(f"{where}: the label of BOS is {labels[0]!r}; expected O")
    return Utterance(tuple(words[1:-1]), tuple(labels[1:-1]), labels[-1])
