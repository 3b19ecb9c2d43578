"""Pronouncing dictionaries: the format, the split by word, the error rates by hand, and every error of a file of one's own."""

import gzip
import hashlib
import importlib.util
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("rapidfuzz", reason="the pronunciation extra is not installed")

from experiments.common.extras import MissingPackage
from experiments.data import pronunciations
from experiments.data.pronunciations import LETTERS, PHONEMES, Entry, edit_distance, load, parse, part_of, score

pytestmark = pytest.mark.usefixtures("isolated")

DICTIONARY = b""";;; a comment
TOMATO  T AH0 M EY1 T OW2
tomato(2) T AH0 M AA1 T OW2
A(1)\tEY1
tomato(3) t ah1 m ey0 t ow0 # the first again, but for the stress
it's IH1 T S
3d TH R IY1 D IY2
d\xe9j\xe0 D EY1 Zh AA2
#hash-mark HH AE1 SH M AA2 R K
x-ray EH1 K S R EY2

a AH0\r
it\xe2\x80\x85b UNKNOWN
"""


# --- the format -------------------------------------------------------------------------------------------------------


def test_a_dictionary_by_hand():
    assert parse(DICTIONARY, "mine") == [
        Entry("a", (("EY",), ("AH",))),
        Entry("tomato", (("T", "AH", "M", "EY", "T", "OW"), ("T", "AH", "M", "AA", "T", "OW"))),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"mine has no entry of the letters a to z; expected lines such as 'tomato T"),
        (b"caf\xc3\xa9 K AH0 F EY1\n", "mine has no entry"),
        (b"a AH0\nb\n", "mine:2: no phoneme follows the word; expected ARPAbet's 39, AA to ZH"),
        (b"a AH0\nb B AX1 Y\n", "mine:2: the phoneme 'AX1'; expected ARPAbet's 39"),
        (b"b B1 IY0\n", "mine:1: the phoneme 'B1'; expected .* a vowel with 0, 1 or 2"),
        (b"b B IY3\n", "mine:1: the phoneme 'IY3'"),
    ],
)
def test_errors_name_the_line(content, message):
    with pytest.raises(ValueError, match=message):
        parse(content, "mine")


# --- where dictionaries come from, and their parts --------------------------------------------------------------------


def test_the_packaged_dictionary():
    if importlib.util.find_spec("eng_to_ipa") is None:
        pytest.skip("the pronunciation extra is not installed")
    found = load()
    parts = found[1:]
    words = [{entry.word for entry in part} for part in parts]
    assert len(set.union(*words)) == sum(map(len, words)) == sum(map(len, parts)) == 116_506
    for part, share in zip(parts, (35 / 40, 1 / 40, 4 / 40), strict=True):
        assert len(part) == pytest.approx(116_506 * share, rel=0.06)
        assert [entry.word for entry in part] == sorted(entry.word for entry in part)
    entries = {entry.word: entry.pronunciations for part in parts for entry in part}
    assert set("".join(entries)) == set(LETTERS)
    assert {phoneme for every in entries.values() for spoken in every for phoneme in spoken} == set(PHONEMES)
    assert all(len(set(every)) == len(every) > 0 for every in entries.values())
    assert entries["read"] == (("R", "EH", "D"), ("R", "IY", "D"))


def test_the_package_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "eng_to_ipa", None)
    with pytest.raises(MissingPackage, match=r"needs eng_to_ipa: pip install -e '\.\[pronunciation\]'"):
        load()


def many(count):
    """A dictionary of so many words."""
    return "".join(f"{a}{b} {'B ' * (1 + i)}\n" for i, (a, b) in enumerate(pairs(count))).encode()


def pairs(count):
    return [(LETTERS[i // 26 % 26], LETTERS[i % 26] * (1 + i // 676)) for i in range(count)]


@pytest.mark.parametrize("compress", [False, True])
def test_cmudict_is_read_from_a_data_folder_and_checked(tmp_path, monkeypatch, compress):
    (tmp_path / "cmudict").mkdir()
    path = tmp_path / "cmudict" / ("cmudict.dict" + ".gz" * compress)
    path.write_bytes(gzip.compress(many(200)) if compress else many(200))
    with pytest.raises(ValueError, match=r"cmudict\.dict.* is not the expected file: the SHA-256"):
        load("cmudict", data_dir=tmp_path)
    known = pronunciations._CMUDICT._replace(sha256=hashlib.sha256(many(200)).hexdigest())
    monkeypatch.setattr(pronunciations, "_CMUDICT", known)
    found = load("cmudict", data_dir=tmp_path)
    for name, part in zip(found._fields[1:], found[1:], strict=True):
        assert {part_of(entry.word) for entry in part} == {name}
    assert sum(map(len, found[1:])) == 200


def test_no_network_says_where_it_looked(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"cmudict/cmudict\.dict was not found .*no network.*--data-dir"):
        load("cmudict", data_dir=tmp_path)


def test_a_word_is_in_the_same_part_of_every_dictionary(tmp_path):
    parts = []
    for count in (300, 700):
        path = tmp_path / f"{count}.dict"
        path.write_bytes(many(count))
        found = load(file=path)
        assert found.name == f"{count}.dict"
        parts.append({entry.word: name for name, part in zip(found._fields[1:], found[1:]) for entry in part})
    assert len(parts[0]) == 300
    assert parts[0].items() <= parts[1].items()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"dictionary": "beep"}, ValueError, r"dictionary is 'beep'; expected one of packaged, cmudict, or pass file="),
        ({"file": "none"}, FileNotFoundError, "none does not exist; expected a pronouncing dictionary in CMUdict's"),
        ({"content": b"a AH0\n"}, ValueError, r"mine\.dict has 1 words, of which none falls to .*use a larger"),
    ],
)
def test_errors(tmp_path, arguments, error, message):
    content = arguments.get("content")
    if content:
        arguments = {"file": tmp_path / "mine.dict"}
        arguments["file"].write_bytes(content)
    with pytest.raises(error, match=message):
        load(**arguments)


# --- error rates ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [
        ("", "", 0),
        ("", "AA B", 2),
        ("K AE T", "K AE T", 0),
        ("K AE T", "K AA T", 1),
        ("K AE T", "K T", 1),
        ("K AE T", "T AE K", 2),
        ("S IH T IH NG", "K IH T AH N", 3),
        ("A AA", "AA A", 2),  # phonemes, not letters
    ],
)
def test_edit_distances_by_hand(one, other, distance):
    assert edit_distance(one.split(), other.split()) == distance
    assert edit_distance(tuple(other.split()), one.split()) == distance


def levenshtein(one, other):
    """By its recursive definition."""
    if not one or not other:
        return len(one) + len(other)
    return min(
        levenshtein(one[1:], other) + 1,
        levenshtein(one, other[1:]) + 1,
        levenshtein(one[1:], other[1:]) + (one[0] != other[0]),
    )


@given(*[st.lists(st.sampled_from(PHONEMES[:3]), max_size=5)] * 2)
def test_edit_distances_by_definition(one, other):
    assert edit_distance(one, other) == levenshtein(one, other)


def test_error_rates_by_hand():
    entries = parse(b"a EY1\na(2) AH0\ntomato T AH0 M EY1 T OW2\ntomato(2) T AH0 M AA1 T OW2\nuh AH1\n", "mine")
    predicted = [("AH",), ["T", "AH", "M", "AA", "T", "ER"], ["AH", "HH", "HH"]]
    # Right; one of six phonemes wrong; two inserted to one.
    assert score(predicted, entries) == (pytest.approx(3 / 8), pytest.approx(2 / 3))
    assert score([entry.pronunciations[-1] for entry in entries], entries) == (0, 0)


def test_of_pronunciations_as_near_the_longest_counts():
    entry = Entry("either", (("A",), ("A", "B", "C")))
    for pronounced in (entry, Entry("either", entry.pronunciations[::-1])):
        assert score([("A", "B")], [pronounced]) == (pytest.approx(1 / 3), 1)


@pytest.mark.parametrize(("predicted", "words"), [([], 0), ([], 1), ([("AH",)] * 2, 1)])
def test_scores_of_nothing_and_of_others_than_there_are(predicted, words):
    message = (
        f"predicted has {len(predicted)} pronunciations and entries {words} words; expected as many, and at least one"
    )
    with pytest.raises(ValueError, match=message):
        score(predicted, [Entry("a", (("AH",),))] * words)
