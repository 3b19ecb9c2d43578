"""Labelled sentences: about films, negative or positive, and any of one's own.

| corpus | training | validation | test  | positive in test | source                                                     |
|--------|----------|------------|-------|------------------|------------------------------------------------------------|
| `mr`   | 8,528    | 1,067      | 1,067 | 533              | Pang & Lee 2005: snippets of reviews on rottentomatoes.com |
| `sst2` | 77,195   | 872        | 1,821 | 909              | Socher et al. 2013: the same snippets, parsed and rated    |

`mr` comes without a split, and published numbers are means over ten folds. Here sentence i belongs to fold i mod 10; fold
`fold` is the test part, the fold after it the validation part (the sizes above are of fold 0).

`sst2` is the two-class Stanford Sentiment Treebank. Every phrase of its trees is rated from 0 (very negative) to 4 (very
positive); those rated 2, neutral, are left out, below 2 is negative. The official training part has 6,911 different sentences
and, with all their phrases, 77,195 different examples; validation and test are the 872 and 1,821 official sentences.

Both came tokenised, `sst2` as in the Penn Treebank (is n't, -lrb-), `mr` with contractions whole (isn't); `mr` came in lower
case and `sst2` is put into it. They are read from `data_dir`, else from the folder that the environment variable JRNN_DATA
names, else from the download cache, where they are fetched to on first use. Either folder is laid out as

    sentence_classification/rt-polarity.all
    sst/trees.train.txt  sst/trees.dev.txt  sst/trees.test.txt

and any of these files may be gzipped (`.gz` added to its name). The sentences are free for research; neither corpus comes
with a licence to pass it on.

A file of one's own has a label and a sentence on each line, as TREC, SUBJ, CR and MPQA come (github.com/harvardnlp/sent-conv-torch,
`data`).
"""

import collections
import re
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from experiments.data.files import File, check_file, decoded, lines_of, read

Corpus = Literal["mr", "sst2"]

FOLDS = 10
LABELS = ("negative", "positive")
NEUTRAL = 2

_MR = "https://raw.githubusercontent.com/harvardnlp/sent-conv-torch/d61ded09c99c0199d8c5bca946cd65864de2b296/data/"
_SST = "https://raw.githubusercontent.com/neubig/nn4nlp-code/970d91a51664b3d91a9822b61cd76abea20218cb/data/trees/"

_SHA256 = {
    "sentence_classification/rt-polarity.all": "b8846c3bbd59241f901efdc58f7c515e4b280ab3561fd1858caa5aa48da95a8a",
    "sst/trees.train.txt": "e2f3f41b0b1e6d4dddc0effe3bfc2d27ed8928079aa9a03d652311614fc5feb7",
    "sst/trees.dev.txt": "0e9336aed6e4730e19f58d00a77b3f0297efdb755f7b5e598c98a05e3f97ea40",
    "sst/trees.test.txt": "6e54806dee95cf80cd918e7dfb3f6770f6df24bf826f289a4d1f709e1c8f6761",
}
_FILES = {
    name: File(
        name, _SST + name.removeprefix("sst/trees.") if name.startswith("sst") else _MR + Path(name).name, sha256
    )
    for name, sha256 in _SHA256.items()
}
# What the treebank has for running text, in this order.
_TREEBANK = (
    (r"(?<=\w)(n't|'(?:s|m|d|re|ve|ll))(?!\w)", r" \1"),
    (r'(^|(?<=[\s(]))"', "`` "),
    (r'"', " '' "),
    (r"\(", " -lrb- "),
    (r"\)", " -rrb- "),
)
_WORD = re.compile(r"-[lr]rb-|``|''|n't|'\w+|\w+(?:[-'./]\w+)*|--|\.{3}|[^\w\s]")


class Part(NamedTuple):
    """Examples, one an entry."""

    sentences: list[list[str]]  # the words of each
    labels: list[int]  # places in the classes of the corpus


class Sentences(NamedTuple):
    """A corpus and its parts."""

    name: str
    train: Part
    valid: Part
    test: Part
    classes: tuple[str, ...] = LABELS  # the labels there are; those of a file as they stand there
    left_out: int = 0  # lines without words


class Lines(NamedTuple):
    """What a file of labelled sentences holds."""

    sentences: list[list[str]]  # the words of each
    labels: list[str]
    left_out: int  # lines without words


class Phrase(NamedTuple):
    """A node of a rated tree."""

    rating: int  # 0 very negative, 1, 2 neutral, 3, 4 very positive
    words: list[str]


def load(
    corpus: Corpus = "mr",
    *,
    file: Path | None = None,
    test: Path | None = None,
    coarse: bool = False,
    encoding: str = "utf-8",
    fold: int = 0,
    phrases: bool = True,
    data_dir: Path | None = None,
) -> Sentences:
    """One of the corpora above, or, with `file`, sentences of one's own (`corpus` is then ignored).

    Args:
      file: A sentence a line, in `encoding`: its label, any word, then the words of the sentence, with spaces between all. A line
        without words is left out. It is split as `mr` is, by `fold`.
      test: A second such file, to test on; the tenth `fold` of `file` is then held out for validation, and nothing else.
      coarse: Whether a label is what stands before its first colon, so that TREC's 50 classes, such as `NUM:date`, become six.
      phrases: Of `sst2` alone: without them the training part has whole sentences only.

    ValueError and FileNotFoundError say which file and line, what was found there, what was expected and what to do.
    """
    if file is not None:
        paths = [Path(path) for path in (file, test) if path is not None]
        return _of_files(paths, [labelled(_read_file(path, encoding), coarse=coarse) for path in paths], fold)
    if test is not None:
        raise ValueError(f"test is {test} without a file to train on; expected both: pass that as data")
    match corpus:
        case "mr":
            name = "sentence_classification/rt-polarity.all"
            lines = labelled(read(_FILES[name], data_dir).decode("latin-1"))
            return _folds(corpus, Part(lines.sentences, [int(label) for label in lines.labels]), fold)
        case "sst2":
            parts = {part: _trees(f"sst/trees.{part}.txt", data_dir) for part in ("train", "dev", "test")}
            roots = {part: _two_classes([tree[-1] for tree in trees]) for part, trees in parts.items()}
            train = _two_classes([node for tree in parts["train"] for node in tree]) if phrases else roots["train"]
            return Sentences(corpus, train, roots["dev"], roots["test"])
    raise ValueError(
        f"corpus is {corpus!r}; expected one of {', '.join(get_args(Corpus))}, or pass file= with sentences"
    )


def labelled(text: str, *, coarse: bool = False) -> Lines:
    """Lines of a label, a space and words; those without words are left out. `coarse` is as for `load`."""
    lines = [line.split() for line in lines_of(text)]
    kept = [line for line in lines if len(line) > 1]
    labels = [label.partition(":")[0] if coarse else label for label, *_ in kept]
    return Lines([words for _, *words in kept], labels, len(lines) - len(kept))


def parse_tree(line: str, where: str) -> list[Phrase]:
    """The phrases of a bracketed tree such as `(3 (2 so) (4 good))`, each after its parts: the whole sentence is the last.

    Words are lower-cased. `where` is for the errors: `path:line`.
    """
    open_: list[Phrase] = []
    closed: list[Phrase] = []
    tokens = iter(re.findall(r"[()]|[^()\s]+", line))
    for token in tokens:
        if token == "(":
            if closed and not open_:
                raise ValueError(f"{where}: a second tree follows the first; expected one a line: break the line")
            rating = next(tokens, "nothing")
            if rating not in ("0", "1", "2", "3", "4"):
                raise ValueError(f"{where}: {rating!r} follows '('; expected a rating from 0 to 4: correct it")
            open_.append(Phrase(int(rating), []))
        elif not open_:
            raise ValueError(f"{where}: {token!r} stands outside of the tree; expected '(': balance the brackets")
        elif token == ")":
            node = open_.pop()
            if not node.words:
                raise ValueError(f"{where}: a phrase rated {node.rating} has no word; expected some: add or remove it")
            closed.append(node)
            if open_:
                open_[-1].words.extend(node.words)
        else:
            open_[-1].words.append(token.lower())
    if open_ or not closed:
        raise ValueError(
            f"{where}: {len(open_)} of the tree's '(' are never closed; expected a whole tree: balance them"
        )
    return closed


def tokenize(text: str, *, treebank: bool, lower: bool = True) -> list[str]:
    """Words of running text, punctuation apart, in lower case or as they are written: as `sst2` has them with `treebank`, else as
    `mr` has them.
    """
    text = (text.lower() if lower else text).replace("’", "'")
    if not treebank:
        return _WORD.findall(text.replace("...", ". . ."))
    for pattern, replacement in _TREEBANK:
        text = re.sub(pattern, replacement, text)
    return _WORD.findall(text)


def words_as_known(text: str, known: Container[str]) -> list[str]:
    """Words of running text as a corpus has them whose words are `known`, by which reading of it has the fewest unknown.

    The readings, the first where several are as good: between spaces, then as `tokenize` has it, in each way, with capitals first.
    """
    ways = [(treebank, lower) for lower in (False, True) for treebank in (False, True)]
    readings = [text.split(), *(tokenize(text, treebank=treebank, lower=lower) for treebank, lower in ways)]
    return min(readings, key=lambda words: sum(word not in known for word in words) / max(len(words), 1))


def _of_files(paths: Sequence[Path], files: Sequence[Lines], fold: int) -> Sentences:
    """The sentences of one file, or of one to train on and one to test on."""
    for path, lines in zip(paths, files):
        _check_labels(path, lines)
    found = {label for lines in files for label in lines.labels}
    classes = sorted(found, key=int) if all(label.isdecimal() for label in found) else sorted(found)
    if len(classes) < 2:
        raise ValueError(f"{paths[0]} has one label, {classes[0]}; expected at least two to tell apart: add the others")
    if not found.intersection(files[0].labels, files[-1].labels):
        raise ValueError(
            f"{paths[-1]} has none of the labels of {paths[0]}, which are {_listed(sorted(set(files[0].labels)))}, but "
            f"{_listed(sorted(set(files[-1].labels)))}; expected the same labels: pass a file that has them"
        )
    places = {label: place for place, label in enumerate(classes)}
    parts = [Part(lines.sentences, [places[label] for label in lines.labels]) for lines in files]
    whole = _folds(paths[0].name, parts[0], fold)
    if len(parts) > 1:
        whole = whole._replace(train=_take(parts[0], fold, without=True), valid=whole.test, test=parts[1])
    return whole._replace(classes=tuple(classes), left_out=sum(lines.left_out for lines in files))


def _check_labels(path: Path, lines: Lines) -> None:
    """ValueError where there are no sentences, or no labels before them."""
    if not lines.labels:
        raise ValueError(f"{path} has no words after its labels; expected a label and a sentence on each line")
    counts = collections.Counter(lines.labels)
    once = [label for label, count in counts.items() if count == 1]
    if len(once) > max(len(counts) / 2, 10):
        raise ValueError(
            f"{path} has {len(counts):,} labels, {len(once):,} of them on one line alone: {_listed(once)}; expected lines that "
            "begin with a label of few, then a space and the sentence: write the labels in front"
        )


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(labels[:6]) + (", ..." if len(labels) > 6 else "")


def _folds(name: str, part: Part, fold: int) -> Sentences:
    if not 0 <= fold < FOLDS:
        raise ValueError(f"fold is {fold}; expected 0 to {FOLDS - 1}, the tenth of the sentences to test on")
    if len(part.labels) < FOLDS:
        raise ValueError(f"{name} has {len(part.labels)} sentences; expected at least {FOLDS}, one a fold: add some")
    held_out = (fold + 1) % FOLDS
    return Sentences(name, _take(part, fold, held_out, without=True), _take(part, held_out), _take(part, fold))


def _take(part: Part, *folds: int, without: bool = False) -> Part:
    """The sentences of these folds, or all others."""
    chosen = [i for i in range(len(part.labels)) if (i % FOLDS in folds) != without]
    return Part([part.sentences[i] for i in chosen], [part.labels[i] for i in chosen])


def _trees(name: str, data_dir: Path | None) -> list[list[Phrase]]:
    lines = lines_of(read(_FILES[name], data_dir).decode("utf-8"))
    return [parse_tree(line, f"{name}:{number}") for number, line in enumerate(lines, 1)]


def _two_classes(nodes: list[Phrase]) -> Part:
    """Without the neutral, and each different phrase once: a phrase is rated the same wherever it occurs (but for case)."""
    rated = {tuple(node.words): node.rating for node in nodes if node.rating != NEUTRAL}
    return Part([list(words) for words in rated], [int(rating > NEUTRAL) for rating in rated.values()])


def _read_file(path: Path, encoding: str) -> str:
    check_file(path, "a text file of labelled sentences")
    content = path.read_bytes()
    if not content.strip():
        raise ValueError(
            f"file {path} is empty; expected a labelled sentence on each line: pass a file with some in it"
        )
    return decoded(content, path, encoding)
