"""Texts of a user's own as other programs write them: byte order marks, ends of lines, encodings."""

import pytest

pytest.importorskip("tyro", reason="the experiments extra is not installed")

from experiments import char_lm
from experiments.common.options import Encoding, check_value
from experiments.data import captions, forecasting, parallel, pronunciations, sentences, text, treebank, tunes, words
from experiments.data.files import decoded

TEXT = "".join(f"{n} cafés près de l'église, naïf et gai.\n" for n in range(40))
LABELLED = "".join(f"{n % 2} un film très naïf {n}\n" for n in range(20))
CSV = "date,été\n" + "".join(f"2020-01-{n:02},{n}\n" for n in range(1, 31))
CAPTIONS = "a.jpg\tUn café noir\nb.jpg\tUne église\n"
CMUDICT = "".join(f"{word} {spoken}\n" for word, spoken in [("tomato", "T AH0 M AA1 T OW2"), ("cat", "K AE1 T")])
CONLLU = "1\tCafé\tcafé\tNOUN\t_\t_\t0\troot\t_\t_\n\n"
TUNE = "X:1\nT:Café\nM:4/4\nL:1/4\nK:D\nDEFG|ABcd|\n"


def loaders(path, other, encoding):
    """What each reader makes of the file, by what should stand in it."""
    return {
        "characters": (TEXT, lambda: tuple(text.load(file=path, encoding=encoding)[1:])),
        "words": (TEXT, lambda: [list(part) for part in words.load(file=path, encoding=encoding, min_count=1)[1:]]),
        "sentences": (LABELLED, lambda: sentences.load(file=path, encoding=encoding)[1:]),
        "pairs": (TEXT, lambda: parallel.load(files=(path, other), encoding=encoding).train.texts),
        "captions": (CAPTIONS, lambda: [line[1:] for line in captions.parse(path.read_bytes(), "f", encoding)]),
        "csv": (CSV, lambda: [list(part) for part in forecasting.load(file=path, encoding=encoding)[1:4]]),
    }


READERS = list(loaders(None, None, None))


@pytest.mark.parametrize("name", READERS)
def test_the_same_text_however_it_was_written(name, tmp_path):
    path, other = tmp_path / "mine", tmp_path / "other"
    other.write_text("".join(f"sentence {n}\n" for n in range(40)), encoding="utf-8")

    def read(content, encoding="utf-8"):
        path.write_bytes(content)
        return loaders(path, other, encoding)[name][1]()

    content = loaders(path, other, None)[name][0]
    if name == "pairs":
        other.write_text(content, encoding="utf-8")
    want = read(content.encode())
    ways = {
        "mark": read(content.encode("utf-8-sig")),
        "windows": read(content.replace("\n", "\r\n").encode()),
        "old mac": read(content.replace("\n", "\r").encode()),
    }
    if name == "pairs":
        other.write_text(content, encoding="latin-1")
    ways["latin-1"] = read(content.encode("latin-1"), "latin-1")
    for way, found in ways.items():
        assert found == want, way
    with pytest.raises(
        ValueError, match=r"byte 0xe[89] is not UTF-8 .*--encoding, such as latin-1, or convert the file"
    ):
        read(content.encode("latin-1"))


def test_formats_that_have_their_encoding(tmp_path):
    def ways(content):
        return content.encode("utf-8-sig"), content.replace("\n", "\r\n").encode(), content.replace("\n", "\r").encode()

    for content in ways(CMUDICT):
        assert pronunciations.parse(content, "f") == pronunciations.parse(CMUDICT.encode(), "f")
    for content in ways(CONLLU):
        assert treebank.parse(content, "f") == treebank.parse(CONLLU.encode(), "f")
    with pytest.raises(ValueError, match=r"f:1: byte 0xe9 is not UTF-8 \(.*\); convert the file"):
        treebank.parse(CONLLU.encode("latin-1"), "f")
    for number, content in enumerate((TUNE.encode(), *ways(TUNE))):
        (tmp_path / f"{number}.abc").write_bytes(content)
    found = [next(iter(tunes._texts([tmp_path / f"{number}.abc"])))[1] for number in range(4)]
    assert len(set(found)) == 1


def test_a_carriage_return_inside_a_line_stays_there():
    assert decoded(b"one\rtwo\nthree\r\n", "f") == "one\rtwo\nthree\n"


INSIDE = ("\u2028", "\x85", "\x0b", "\x0c", "\x1c")


def test_other_ends_of_lines_that_unicode_has_end_none(tmp_path):
    """What latin-1 has for the ellipsis of cp1252 is one of them."""
    for mark in INSIDE:
        content = "".join(f"{n} a{mark}b\n" for n in range(20))
        (tmp_path / "mine").write_text(content, encoding="utf-8", newline="")
        (tmp_path / "other").write_text("one two\n" * 20)
        found = words.load(file=tmp_path / "mine", min_count=1)
        ends = sum(part.tolist().count(found.vocabulary.index("<eos>")) for part in found[2:])
        assert ends == 20, mark
        assert len(sentences.labelled(content).labels) == 20, mark
        pairs = parallel.load(files=(tmp_path / "mine", tmp_path / "other"))
        assert sum(len(part.sources) for part in (pairs.train, pairs.valid, pairs.test)) == 20, mark


def test_a_utf_16_text_is_said_to_be_one():
    for order in ("utf-16-le", "utf-16-be"):
        content = "\ufeffnaïf\n".encode(order)
        with pytest.raises(ValueError, match=r"f:1: .*--encoding, such as utf-16, or convert"):
            decoded(content, "f", "utf-8")
        assert decoded(content, "f", "utf-16") == "naïf\n"


def test_an_encoding_that_is_none():
    with pytest.raises(
        ValueError, match="--encoding is latin1000; expected an encoding of text, such as utf-8, latin-1"
    ):
        check_value("encoding", "latin1000", Encoding)
    with pytest.raises(ValueError, match="--encoding is base64; expected an encoding of text"):
        check_value("encoding", "base64", Encoding)
    assert char_lm.Config(encoding="cp1252").encoding == "cp1252"
