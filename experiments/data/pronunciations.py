"""Pronouncing dictionaries: words and how they are spoken, and the scores of what a model says.

| dictionary | words (train / valid / test) | pronunciations a word | source                                                    |
|------------|------------------------------|-----------------------|-----------------------------------------------------------|
| `packaged` | 101,912 / 3,040 / 11,554     | 1.07                  | CMUdict, about 0.7b, as the package eng-to-ipa ships it   |
| `cmudict`  | 102,784 / 3,071 / 11,638     | 1.07                  | CMUdict as cmusphinx keeps it (2024)                      |

CMUdict, the Carnegie Mellon Pronouncing Dictionary, is of North American English and may be used freely (the two-clause BSD
licence). Its 39 phonemes are those of ARPAbet; markers of stress on vowels (0, 1, 2) are left out here, and so are words with
anything but the letters a to z (apostrophes, hyphens, points). A word's pronunciations, `tomato` and `tomato(2)`, belong
together, so that all of them go into one part: by a checksum of the word, so that it is in the same part of every dictionary; a
tenth of the words is to test on, a fortieth to validate on. Published results have 106,837 words to train on, of which some are
held out, and 12,000 to test on, of an earlier CMUdict (Yao & Zweig 2015; Rao et al. 2015).

`packaged` comes with the package eng-to-ipa, so it needs no download. `cmudict` is read from `data_dir`, else from the folder that
the environment variable JRNN_DATA names, else from the download cache, where it is fetched to on first use. Either folder is laid
out as

    cmudict/cmudict.dict

which may be gzipped (`.gz` added to its name). Any other dictionary in the same format is read by `file`, `cmudict-0.7b` for one.

Yao and Zweig, "Sequence-to-sequence neural net models for grapheme-to-phoneme conversion", Interspeech 2015, arXiv:1506.00196.
Rao, Peng, Sak and Beaufays, "Grapheme-to-phoneme conversion using long short-term memory recurrent neural networks", ICASSP 2015.
"""

import codecs
import importlib.util
import json
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from experiments.common.extras import need
from experiments.data.files import File, check_file, plain, read

Dictionary = Literal["packaged", "cmudict"]

LETTERS = "abcdefghijklmnopqrstuvwxyz"
PHONEMES = (
    "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH", "IH", "IY", "JH", "K", "L", "M",
    "N", "NG", "OW", "OY", "P", "R", "S", "SH", "T", "TH", "UH", "UW", "V", "W", "Y", "Z", "ZH",
)  # fmt: skip

_CMUDICT = File(
    "cmudict/cmudict.dict",
    "https://raw.githubusercontent.com/cmusphinx/cmudict/0f8072f814306c5ee4fbf992ed853601b12c01f9/cmudict.dict",
    "81917843c7f44ce2b094ac63873c2c7a4cf802040792c455ba3ca406891c3d22",
)
_WORD = re.compile(r"(?P<word>[a-z]+)(\(\d+\))?")
_UNSTRESSED = {f"{name}{stress}": name for name in PHONEMES for stress in ("", *("012" if name[0] in "AEIOU" else ""))}

Pronunciation = tuple[str, ...]  # phonemes


class Entry(NamedTuple):
    """A word and its pronunciations: different ones, in the order of the dictionary."""

    word: str
    pronunciations: tuple[Pronunciation, ...]


class Pronunciations(NamedTuple):
    """A dictionary and its parts, each in the order of its words."""

    name: str
    train: list[Entry]
    valid: list[Entry]
    test: list[Entry]


class Scores(NamedTuple):
    """Shares of errors: 0 is best; the first can exceed 1."""

    phoneme_error_rate: float  # edits that make the predicted phonemes a right pronunciation, per phoneme of it
    word_error_rate: float  # words pronounced in none of the right ways


def load(
    dictionary: Dictionary = "packaged", *, file: Path | None = None, data_dir: Path | None = None
) -> Pronunciations:
    """One of the dictionaries above, or, with `file`, one in CMUdict's format (`dictionary` is then ignored).

    The format is a line for each pronunciation, `tomato(2) T AH0 M AA1 T OW2`: the word, a number from its second one on, and its
    phonemes. Case does not matter; lines that begin with `;;;` and what follows a `#` are comments.

    MissingPackage, FileNotFoundError and ValueError say what was read, what was found there, what was expected and what to do.
    """
    if file is not None:
        path = Path(file).expanduser()
        check_file(path, "a pronouncing dictionary in CMUdict's format")
        return _split(path.name, parse(path.read_bytes(), str(path)))
    match dictionary:
        case "packaged":
            return _split("CMUdict of eng-to-ipa", _packaged())
        case "cmudict":
            return _split(dictionary, parse(read(_CMUDICT, data_dir), _CMUDICT.name))
    raise ValueError(
        f"dictionary is {dictionary!r}; expected one of {', '.join(get_args(Dictionary))}, or pass file= with one"
    )


def parse(content: bytes, name: str) -> list[Entry]:
    """The entries of a dictionary in CMUdict's format, by word; `name` is for the errors. Latin-1 serves for any ASCII superset."""
    found: dict[str, dict[Pronunciation, None]] = {}
    text = plain(content.removeprefix(codecs.BOM_UTF8).decode("latin-1"))
    for number, line in enumerate(text.split("\n"), 1):
        word, *phonemes = [""] if line.startswith(";;;") else line.split(" #")[0].split() or [""]
        known = _WORD.fullmatch(word.lower())
        if known:
            found.setdefault(known["word"], {})[_spoken(phonemes, f"{name}:{number}")] = None
    if not found:
        raise ValueError(
            f"{name} has no entry of the letters a to z; expected lines such as 'tomato T AH0 M EY1 T OW2': pass a dictionary "
            f"in CMUdict's format"
        )
    return [Entry(word, tuple(spoken)) for word, spoken in sorted(found.items())]


def part_of(word: str) -> str:
    """The part that a word goes into: of forty, four to test on and one to validate on."""
    fortieth = zlib.crc32(word.encode()) % 40
    return "test" if fortieth < 4 else "valid" if fortieth == 4 else "train"


def edit_distance(predicted: Sequence[str], reference: Sequence[str]) -> int:
    """Levenshtein's: the fewest insertions, deletions and substitutions that make one sequence the other."""
    return need("rapidfuzz.distance", "pronunciation").Levenshtein.distance(predicted, reference)


def score(predicted: Sequence[Sequence[str]], entries: Sequence[Entry]) -> Scores:
    """Error rates of one predicted pronunciation for each entry, against the nearest of its pronunciations (Yao & Zweig 2015).

    Of several that are as near the longest counts, so that the rate does not depend on their order. ValueError where there are not
    as many of the one as of the other, or none.
    """
    if not entries or len(predicted) != len(entries):
        raise ValueError(
            f"predicted has {len(predicted)} pronunciations and entries {len(entries)} words; expected as many, and at least one: "
            f"predict each word of the part once"
        )
    edits = phonemes = wrong = 0
    for spoken, entry in zip(predicted, entries):
        distances = [(edit_distance(spoken, right), -len(right), right) for right in entry.pronunciations]
        distance, _, nearest = min(distances)
        edits += distance
        phonemes += len(nearest)
        wrong += distance > 0
    return Scores(edits / phonemes, wrong / len(entries))


def _spoken(phonemes: list[str], where: str) -> Pronunciation:
    """Phonemes without the markers of stress; ValueError for one that is not of the 39."""
    unknown = [phoneme for phoneme in phonemes if phoneme.upper() not in _UNSTRESSED]
    if unknown or not phonemes:
        raise ValueError(
            f"{where}: {f'the phoneme {unknown[0]!r}' if unknown else 'no phoneme follows the word'}; expected ARPAbet's "
            f"{len(PHONEMES)}, {PHONEMES[0]} to {PHONEMES[-1]}, a vowel with 0, 1 or 2 after it or not: mend or remove the line"
        )
    return tuple(_UNSTRESSED[phoneme.upper()] for phoneme in phonemes)


def _packaged() -> list[Entry]:
    spec = importlib.util.find_spec("eng_to_ipa")  # its data alone: it is not imported
    origin = spec.origin if spec and spec.origin else need("eng_to_ipa", "pronunciation").__file__
    found = json.loads((Path(origin).parent / "resources" / "CMU_dict.json").read_text("utf-8"))
    lines = (f"{word} {spoken}" for word, every in found.items() for spoken in every)
    return parse("\n".join(lines).encode("latin-1", "replace"), "eng_to_ipa")


def _split(name: str, entries: list[Entry]) -> Pronunciations:
    parts: dict[str, list[Entry]] = {"train": [], "valid": [], "test": []}
    for entry in entries:
        parts[part_of(entry.word)].append(entry)
    if empty := [part for part, found in parts.items() if not found]:
        raise ValueError(
            f"{name} has {len(entries)} words, of which none falls to {' and '.join(empty)}; expected some hundreds, so that a "
            f"fortieth can be held out: use a larger dictionary"
        )
    return Pronunciations(name, **parts)
