"""HKCanCor: as its files have it, each recording in one part, and what is typed as it would have it."""

import re
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("pycantonese", reason="the cantonese extra is not installed")
pytest.importorskip("conllu", reason="the experiments extra is not installed")

import pycantonese

from experiments.data import hkcancor
from experiments.data.treebank import PARTS, TAGS, most_frequent_tag

pytestmark = pytest.mark.usefixtures("isolated")

MARKS = {".", ",", "?", "!", "-", '"', "...", "'"}


@pytest.fixture(scope="module")
def bank():
    return hkcancor.load()


@pytest.fixture(scope="module")
def written():
    """The words of each utterance in the corpus's own files, by file; a line that begins with a tab goes on with the last."""
    folder = Path(pycantonese.__file__).parent / "data" / "hkcancor"
    found = {}
    for path in sorted(folder.glob("*.cha")):
        lines = path.read_text("utf-8").replace("\n\t", " ").splitlines()
        found[path.name] = [line.split("\t", 1)[1].split() for line in lines if line.startswith("*")]
    return found


def test_parts_are_whole_recordings(bank, written):
    """By hand: numbers in order, the fourth of every ten tested, the seventh held out, a and b of a number together."""
    numbers = sorted({re.sub(r"[a-z]?_v2?\.cha", "", name)[3:] for name in written})
    assert len(numbers) == 49
    test, dev = (set(numbers[first::10]) for first in (3, 6))
    expected = {part: [] for part in PARTS}
    for name, utterances in written.items():
        number = re.match(r"FC-(R?\d+)", name)[1]
        expected["test" if number in test else "dev" if number in dev else "train"] += utterances
    for part in PARTS:
        assert [sentence.words for sentence in getattr(bank, part)] == expected[part]
    assert sum(len(words) for utterances in written.values() for words in utterances) == 153_656
    assert [len(part) for part in bank[1:4]] == [12_973, 1_469, 1_720]
    assert [sum(len(s.words) for s in part) for part in bank[1:4]] == [123_863, 14_831, 14_962]


def test_tags_are_universal_and_of_punctuation_what_they_should_be(bank):
    pairs = Counter((word, tag) for part in bank[1:4] for sentence in part for word, tag in zip(*sentence, strict=True))
    assert {tag for _, tag in pairs} == set(TAGS) - {"SCONJ", "SYM"}
    assert {tag for word, tag in pairs if word in MARKS} == {"PUNCT"}
    assert [word for word, tag in pairs if tag == "PUNCT" and word not in MARKS] == ["我哋"]  # once, a slip
    assert [(word, count) for (word, tag), count in pairs.items() if tag == "DET"] == [("呢", 1)]
    assert sum(pairs[mark, "PUNCT"] for mark in MARKS) == pytest.approx(0.18 * 153_656, rel=0.03)


def test_tags_are_those_of_the_files(bank):
    """FC-001 begins: hello, early, some, go, not, go, journey, ah."""
    first = bank.train[0]
    assert first.words == ["喂", "遲", "啲", "去", "唔", "去", "旅行", "啊", "?"]
    assert first.tags == ["INTJ", "ADJ", "PART", "VERB", "ADV", "VERB", "NOUN", "PART", "PUNCT"]


def test_floors(bank):
    assert most_frequent_tag(bank.train, bank.dev) == pytest.approx(0.9104, abs=5e-5)
    assert most_frequent_tag(bank.train, bank.test) == pytest.approx(0.9217, abs=5e-5)


def test_recordings():
    names = {"FC-108a_v2.cha": "108", "data/FC-108d_v2.cha": "108", "FC-R002b_v2.cha": "R002", "FC-009b_v.cha": "009"}
    assert {name: hkcancor.recording(name) for name in names} == names
    with pytest.raises(ValueError, match=r"^notes/FC-1a\.cha is no file of HKCanCor; expected FC-NUMBER_v\.cha"):
        hkcancor.recording("notes/FC-1a.cha")


def test_what_is_typed_is_cut_and_marked_as_in_the_corpus():
    assert hkcancor.words_of("佢 話\n「唔係」，香港人？") == ["佢", "話", '"', "唔係", '"', ",", "香港人", "?"]
    assert hkcancor.words_of("聽 陳奕迅 啲 歌") == ["聽", "陳奕迅", "啲", "歌"]  # which it does not find by itself
    assert hkcancor.words_of("佢返office") == ["佢", "返", "office"]
    assert hkcancor.words_of(" \n ") == []


def test_every_word_can_be_drawn(bank):
    """In letters that all fonts have, without the characters that some lack."""
    said = hkcancor.jyutping()
    words = {word for part in bank[1:4] for sentence in part for word in sentence.words}
    assert set(said) == words
    assert [sound for sound in said.values() if not sound.isascii()] == ["○"]
    assert (said["我"], said["廣東話"], said["Orlando"], said["call機"], said["?"]) == (
        "ngo5", "gwong2dung1waa2", "Orlando", "callgei1", "?",
    )  # fmt: skip
