"""Parallel text for translation: pairs of sentences, tokenised, in three parts.

| data       | pairs (train / valid / test)                    | source                     | target                 |
|------------|-------------------------------------------------|----------------------------|------------------------|
| `numbers`  | 20,000 / 500 / 1,000, made, of 0 to 999,999     | the letters of a number    | its words              |
| `multi30k` | 29,000 / 1,014 / 1,000 (2016)                   | words, lower case          | words, lower case      |

`numbers` needs no download: the package num2words spells them. No number is in two parts. German writes a number as one word
and its units before its tens; of letters, a network has to find where each part of it stands.

`multi30k` (Elliott et al. 2016; raw sentences in German, English and French) is read from `data_dir`, else from the folder that the
environment variable JRNN_DATA names, else from the download cache. Either folder holds multi30k/train.de.gz and so on. It may be
used for research and not passed on. Words are those of Moses' tokeniser (sacremoses).

Files of one's own: two texts with a sentence a line, of which the last tenth is held out and the tenth before it validates.
"""

import functools
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from experiments.common.extras import need
from experiments.data.files import File, check_file, decoded, lines_of, read, unpacked

Data = Literal["numbers", "multi30k"]
_URL = "https://raw.githubusercontent.com/multi30k/dataset/a3d2e0d26b56f3846f66a952536ffed4e401d05a/data/task1/raw/"
_SHA256 = {  # of the uncompressed files
    "train.de": "2c2b73fd2b548fbcde3a875e0a78d6ee94d498bfdee6bd3eae3945779e9ddf72",
    "train.en": "460a15fbd157e34a7a9957ee388c1ca247fe47af3ef25fb50442af6c274e0fc6",
    "train.fr": "5925a3c18f1587b6b54b87743106e6e8ab93618edb6f65d19eac0621f853a10d",
    "val.de": "660e09eb7e1da2f856ea13ee5ad3cf6d36b3d5b0b733c857e94c5747a3dfc660",
    "val.en": "1f2a23d992769b5b3d209b0a10dd0b77c08cceb1f20dfb97ed0aafa49d107227",
    "val.fr": "5304e444d842e962b2dda4d816b70b22a1765b15401642b7ca37a67477e708dc",
    "test_2016_flickr.de": "4be6b5b3236b79c25475c6bb829800a7ce559e9ba7a1f6c2394fe4d40be46d16",
    "test_2016_flickr.en": "399a4382932c1aadd3ceb9bef1008d388a64c76d4ae4e9d4728c6f4301cac182",
    "test_2016_flickr.fr": "cb3160d69b002bb638e66cc7612fcd56cb0af82eadc9c142dedc438afb885ef6",
}
PARTS = {"train": "train", "valid": "val", "test": "test_2016_flickr"}
LANGUAGES = {"de": "German", "en": "English", "fr": "French", "es": "Spanish", "it": "Italian", "nl": "Dutch"}
SIZES = {"train": 20_000, "valid": 500, "test": 1_000}


class Pairs(NamedTuple):
    """Sentences and their translations; as they are, and as tokens."""

    sources: list[list[str]]
    targets: list[list[str]]
    texts: tuple[list[str], list[str]]


class Corpus(NamedTuple):
    name: str
    train: Pairs
    valid: Pairs
    test: Pairs


class Tokeniser(NamedTuple):
    """How a language is cut into tokens, and put together again."""

    split: Callable[[str], list[str]]
    join: Callable[[Sequence[str]], str]


def letters() -> Tokeniser:
    """One for each character."""
    return Tokeniser(list, "".join)


def spaced() -> Tokeniser:
    """One for each word between spaces, hyphens and commas."""
    return Tokeniser(lambda text: text.replace("-", " ").replace(",", " ").split(), " ".join)


def moses(language: str) -> Tokeniser:
    """Moses' tokeniser, in lower case."""
    library = need("sacremoses", "translation")
    cut, glue = library.MosesTokenizer(lang=language), library.MosesDetokenizer(lang=language)
    return Tokeniser(lambda text: cut.tokenize(text.lower(), escape=False), glue.detokenize)


def tokenisers(data: Data, languages: tuple[str, str], *, files: bool) -> tuple[Tokeniser, Tokeniser]:
    """Those of source and target."""
    if data == "numbers" and not files:
        return letters(), spaced()
    return moses(languages[0]), moses(languages[1])


def load(
    data: Data = "numbers",
    languages: tuple[str, str] = ("de", "en"),
    *,
    files: tuple[Path, Path] | None = None,
    encoding: str = "utf-8",
    data_dir: Path | None = None,
    seed: int = 0,
) -> Corpus:
    """One of the corpora above, or, with `files`, a source and a target text (`data` is then ignored)."""
    if languages[0] == languages[1]:
        raise ValueError(f"source and target are both {languages[0]!r}; expected two languages")
    if files is not None:
        texts = _aligned(*files, encoding)
        held = max(len(texts[0]) // 10, 1)
        if len(texts[0]) < 3:
            raise ValueError(
                f"{files[0]} has {len(texts[0])} sentences; expected at least 3, to train, validate and test"
            )
        cuts = {"train": slice(0, -2 * held), "valid": slice(-2 * held, -held), "test": slice(-held, None)}
        parts = {part: tuple(side[cut] for side in texts) for part, cut in cuts.items()}
        name = f"{files[0].name}, {files[1].name}"
    elif data == "numbers":
        parts, name = _numbers(languages, seed), f"numbers, {_named(languages)}"
    elif data == "multi30k":
        if unknown := [language for language in languages if language not in ("de", "en", "fr")]:
            raise ValueError(f"multi30k has no {unknown[0]!r}; expected two of de, en, fr")
        parts = {part: tuple(_multi30k(part, language, data_dir) for language in languages) for part in PARTS}
        name = f"Multi30k, {_named(languages)}"
    else:
        raise ValueError(f"data is {data!r}; expected one of {', '.join(get_args(Data))}")
    cut = tokenisers(data, languages, files=files is not None)

    def tokens(sides: Any) -> Pairs:
        sources, targets = ([tool.split(text) for text in side] for tool, side in zip(cut, sides))
        return Pairs(sources, targets, tuple(sides))

    return Corpus(name, **{part: tokens(sides) for part, sides in parts.items()})


def first(corpus: Corpus, count: int) -> Corpus:
    """The first `count` pairs of each part."""

    def some(part: Pairs) -> Pairs:
        return Pairs(part.sources[:count], part.targets[:count], (part.texts[0][:count], part.texts[1][:count]))

    return corpus._replace(train=some(corpus.train), valid=some(corpus.valid), test=some(corpus.test))


def spell(number: int, language: str) -> str:
    """A number in words, in lower case."""
    return need("num2words", "translation").num2words(number, lang=language).lower()


def _named(languages: tuple[str, str]) -> str:
    return " to ".join(LANGUAGES.get(language, language) for language in languages)


def _numbers(languages: tuple[str, str], seed: int) -> dict[str, tuple[list[str], list[str]]]:
    """Those below a thousand in every part too: of all numbers they would hardly be one in a thousand."""
    if unknown := [language for language in languages if language not in LANGUAGES]:
        raise ValueError(f"numbers are not spelled in {unknown[0]!r}; expected two of {', '.join(LANGUAGES)}")
    chance = random.Random(seed)
    small = chance.sample(range(1000), 1000)
    large = chance.sample(range(1000, 1_000_000), sum(SIZES.values()))
    parts = {"test": small[:100] + large[:900], "valid": small[100:150] + large[900:1350]}
    parts["train"] = small[150:] + large[1350 : 1350 + SIZES["train"] - 850]
    return {part: tuple([spell(n, language) for n in found] for language in languages) for part, found in parts.items()}  # type: ignore[misc]


@functools.cache
def _multi30k(part: str, language: str, data_dir: Path | None) -> list[str]:
    name = f"{PARTS[part]}.{language}"
    file = File(f"multi30k/{name}", f"{_URL}{name}.gz", _SHA256[name])
    return [line.strip() for line in lines_of(read(file, data_dir).decode("utf-8"))]


def _aligned(source: Path, target: Path, encoding: str) -> tuple[list[str], list[str]]:
    """The lines of both, without pairs of which a side is empty."""
    sides = [_lines(source, encoding), _lines(target, encoding)]
    shorter = min(map(len, sides))
    for path, other, lines in ((source, target, sides[0]), (target, source, sides[1])):
        if len(lines) > shorter:
            raise ValueError(
                f"{path} line {shorter + 1} has no partner: {other} has {shorter} lines; expected two texts of as many lines"
            )
    kept = [(a, b) for a, b in zip(*sides) if a and b]
    if not kept:
        raise ValueError(f"{source} and {target} have no pair of sentences; expected one a line")
    return tuple(map(list, zip(*kept)))  # type: ignore[return-value]


def _lines(path: Path, encoding: str) -> list[str]:
    check_file(path, "a text, a sentence a line")
    content = unpacked(path) if path.suffix == ".gz" else path.read_bytes()
    return [line.strip() for line in lines_of(decoded(content, path, encoding))]
