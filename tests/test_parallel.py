"""Parallel text: what is paired with what, how it is cut, and files that do not fit."""

import gzip

import pytest
from data_sets import needs

pytest.importorskip("pooch", reason="the experiments extra is not installed")
pytest.importorskip("num2words", reason="the translation extra is not installed")
pytest.importorskip("sacremoses", reason="the translation extra is not installed")

from experiments.data import parallel


def test_numbers_are_spelled_and_in_one_part_alone():
    corpus = parallel.load("numbers", seed=3)
    sides = [getattr(corpus, part) for part in ("train", "valid", "test")]
    assert [len(side.sources) for side in sides] == [20_000, 500, 1_000]
    seen = [text for side in sides for text in side.texts[0]]
    assert len(set(seen)) == len(seen) == 21_500
    first = sides[2]
    assert list(first.texts[0][0]) == first.sources[0]
    assert parallel.spell(43, "de") == "dreiundvierzig"
    assert parallel.spaced().split(parallel.spell(243_043, "en")) == [
        "two", "hundred", "and", "forty", "three", "thousand", "and", "forty", "three",
    ]  # fmt: skip
    pairs = dict(zip(first.texts[0], first.texts[1]))
    by_hand = {parallel.spell(n, "de"): parallel.spell(n, "en") for n in range(1000)}
    assert all(by_hand[source] == target for source, target in pairs.items() if source in by_hand)


def test_other_languages(monkeypatch):
    monkeypatch.setitem(parallel.SIZES, "train", 900)
    corpus = parallel.load("numbers", ("fr", "es"))
    assert corpus.name == "numbers, French to Spanish"
    assert corpus.train.texts != parallel.load("numbers", ("fr", "es"), seed=1).train.texts


def test_multi30k(data_dir):
    needs(data_dir, "multi30k")
    corpus = parallel.first(parallel.load("multi30k", data_dir=data_dir), 30)
    assert corpus.train.texts[0][0] == "Zwei junge weiße Männer sind im Freien in der Nähe vieler Büsche."
    assert corpus.train.targets[0] == [
        "two",
        "young",
        ",",
        "white",
        "males",
        "are",
        "outside",
        "near",
        "many",
        "bushes",
        ".",
    ]
    cut, glue = parallel.moses("en")
    assert glue(cut("A dog's tail, it is said.")) == "a dog's tail, it is said."


@pytest.fixture
def texts(tmp_path):
    """Two files of twenty sentences, one of them empty on one side."""
    source, target = tmp_path / "a.de", tmp_path / "a.en.gz"
    source.write_text("".join(f"Satz {n}.\n" for n in range(20)), encoding="utf-8")
    target.write_bytes(gzip.compress("".join(f"Sentence {n}.\n" if n != 4 else " \n" for n in range(20)).encode()))
    return source, target


def test_files_of_ones_own(texts):
    corpus = parallel.load(files=texts)
    assert [len(part.sources) for part in corpus[1:]] == [17, 1, 1]
    assert corpus.train.sources[0] == ["satz", "0", "."]
    assert ("Satz 4." in corpus.train.texts[0], corpus.test.texts[1]) == (False, ["Sentence 19."])


def test_what_unicode_calls_a_line_does_not_shift_the_pairs(tmp_path):
    for name in ("a", "b"):
        odd = "first\u2028half" if name == "a" else "whole"
        (tmp_path / name).write_text(f"{odd}\n" + "".join(f"{n}\n" for n in range(20)), encoding="utf-8")
    corpus = parallel.load(files=(tmp_path / "a", tmp_path / "b"))
    assert corpus.train.texts[0][1:] == corpus.train.texts[1][1:]


def fails(words, **options):
    with pytest.raises((ValueError, OSError), match=words):
        parallel.load(**options)


def test_files_that_do_not_fit(texts, tmp_path):
    source, target = texts
    longer = tmp_path / "longer"
    longer.write_text("a\n" * 22)
    fails(r"longer line 21 has no partner: .*a\.de has 20 lines", files=(source, longer))
    fails(r"longer line 21 has no partner", files=(longer, target))
    bad = tmp_path / "bad"
    bad.write_bytes(b"gut\n" + "schön\n".encode("latin-1"))
    fails(r"bad:2: byte 0xf6 is not UTF-8", files=(bad, target))
    empty = tmp_path / "empty"
    empty.write_text("\n" * 20)
    fails("have no pair of sentences", files=(source, empty))
    two = tmp_path / "two"
    two.write_text("a\nb\n")
    fails("two has 2 sentences; expected at least 3", files=(two, two))
    fails("nowhere does not exist; expected a text, a sentence a line", files=(tmp_path / "nowhere", two))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"languages": ("de", "de")}, "source and target are both 'de'; expected two languages"),
        ({"languages": ("de", "xx")}, "numbers are not spelled in 'xx'; expected two of de"),
        ({"data": "multi30k", "languages": ("es", "de")}, "multi30k has no 'es'"),
        ({"data": "europarl"}, "data is 'europarl'; expected one of numbers, multi30k"),
    ],
)
def test_options_that_do_not_fit(options, words):
    fails(words, **options)
