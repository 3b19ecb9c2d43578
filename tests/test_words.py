"""Texts as words: tokens, documentation, vocabularies and parts; the sizes and floors that are published."""

import hashlib
import sysconfig

import numpy as np
import pytest
from data_sets import needs
from hypothesis import given
from hypothesis import strategies as st

from experiments.data import text, words
from experiments.data.ngram import kneser_ney_floor, ngram_floor
from experiments.data.words import decode, documentation, encode, load, part_of, tokenize

pytestmark = pytest.mark.usefixtures("isolated")


# --- tokens -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("paragraph", "tokens"),
    [
        ("Don't use os.path, it's slow!", ["don't", "use", "os", ".", "path", ",", "it's", "slow", "!"]),
        ("1,000.5 of 0x1F 3rd v2 in 2.", ["N", "of", "N", "N", "v2", "in", "N", "."]),
        ("a_b __init__ 'quoted'", ["a_b", "__init__", "'", "quoted", "'"]),
        ("x == y ... -------- (())", ["x", "==", "y", "...", "---", "((", "))"]),
        ("the <unk> of\n  Göteborg", ["the", "<unk>", "of", "göteborg"]),
        (" \n ", []),
    ],
)
def test_tokens_by_hand(paragraph, tokens):
    assert tokenize(paragraph) == tokens


@given(st.text(st.characters(exclude_characters="0123456789", codec="ascii")))
def test_nothing_but_space_and_the_length_of_runs_is_lost(paragraph):
    """Where there are no numbers, tokens say the text."""
    kept = "".join(tokenize(paragraph))
    whole = "".join(paragraph.lower().split())
    assert set(kept) == set(whole)
    assert tokenize(" ".join(tokenize(paragraph))) == tokenize(paragraph)


# --- the standard library ---------------------------------------------------------------------------------------------

SOURCE = '''#!/usr/bin/env python
"""The module.

Its second
paragraph.
"""
# A comment
# of two lines.
x = 1  # after code

# --------
class C:
    """The class."""
    text = """
# within a string
"""
    def f(self):
        "The function."
    async def g(self):
        b"no documentation"
'''


def test_documentation_is_docstrings_then_comments():
    found = [" ".join(tokenize(paragraph)) for paragraph in documentation(SOURCE)]
    assert found == [
        "the module .",
        "its second paragraph .",
        "the class .",
        "the function .",
        "/ usr / bin / env python",
        "a comment of two lines .",
    ]


def test_documentation_of_the_language_reference():
    source = "topics = {'if': 'The if\\n  statement.',\n'n': 3}\nother = 'not this'\n"
    assert list(documentation(source, "pydoc_data/topics.py")) == ["The if\nstatement."]
    assert list(documentation(source, "other.py")) == []


@pytest.mark.parametrize("source", ["def f(:", "\0", ""])
def test_what_does_not_parse_documents_nothing(source):
    assert list(documentation(source)) == []


def test_the_standard_library_of_this_python():
    found = load()
    assert found.name == "stdlib"
    sizes = [len(part) for part in found[2:]]
    assert sum(sizes) > 400_000
    assert min(sizes) > 20_000
    counts = np.bincount(found.train, minlength=len(found.vocabulary))
    assert counts.min() >= 3
    assert (np.diff(counts) <= 0).all()
    assert len(set(found.vocabulary)) == len(found.vocabulary)
    assert {words.UNKNOWN, words.END, words.NUMBER} < set(found.vocabulary)
    for part in found[2:]:
        assert part.dtype == np.int32
        assert part.max() < len(found.vocabulary)
        assert decode(part[-1:], found.vocabulary) == [words.END]


def test_modules_stay_whole_and_paragraphs_come_once(tmp_path, monkeypatch):
    """A small library: each part gets its own modules, and a paragraph goes where it came first."""
    names = [f"m{number}.py" for number in range(60)]
    assert {part_of(name) for name in names} == {"train", "valid", "test"}
    for name in [*names, "tests/m.py", "site-packages/m.py"]:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'"""Of {name.replace("/", "_").replace(".", "_")}.\n\nCommon to all."""\n')
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    found = load(min_count=1)
    held_out = dict(zip(words.PARTS, found[2:], strict=True))
    everywhere = [" ".join(decode(part, found.vocabulary)) for part in held_out.values()]
    assert "tests_m_py" not in " ".join(everywhere)
    assert " ".join(everywhere).count("common to all . <eos>") == 1
    own = {part: sorted(name for name in names if part_of(name) == part) for part in words.PARTS}
    for part in ("valid", "test"):  # whose words the vocabulary lacks, but for those all modules have
        assert list(held_out[part]).count(found.vocabulary.index(words.UNKNOWN)) == len(own[part])
    assert [word for word in everywhere[0].split() if word.endswith("_py")] == [
        name.replace(".", "_") for name in own["train"]
    ]
    again = load("stdlib", min_count=1)
    assert again.vocabulary == found.vocabulary
    assert [part.tolist() for part in again[2:]] == [part.tolist() for part in found[2:]]


def test_stdlib_without_source(tmp_path, monkeypatch):
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path / "python.zip"))
    with pytest.raises(FileNotFoundError, match=r"python\.zip holds no documented Python source.*embedded.*file="):
        load("stdlib")


# --- a file of one's own ----------------------------------------------------------------------------------------------


def test_lines_of_a_file_are_split_in_tenths(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("\n\n".join(f"Line {letter} {letter}" for letter in "abcdefghij"))
    found = load(file=path, min_count=2)
    assert found.name == "mine.txt"
    assert found.vocabulary == ("<eos>", "line", "a", "b", "c", "d", "e", "f", "g", "h", "<unk>")
    assert decode(found.train[:8], found.vocabulary) == ["line", "a", "a", "<eos>", "line", "b", "b", "<eos>"]
    assert len(found.train) == 32
    assert decode(found.valid, found.vocabulary) == ["line", "<unk>", "<unk>", "<eos>"]
    assert decode(found.test, found.vocabulary) == ["line", "<unk>", "<unk>", "<eos>"]
    seldom = load(file=path, min_count=3)
    assert seldom.vocabulary == ("<unk>", "<eos>", "line")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"corpus": "wikitext"}, r"corpus is 'wikitext'; expected one of stdlib, ptb, or pass file="),
        ({"min_count": 0}, "min_count is 0; expected at least 1"),
        ({"content": "word word\n" * 9}, r"mine\.txt has 9 lines with words in them; expected at least 10.*break it"),
    ],
)
def test_errors(tmp_path, arguments, message):
    content = arguments.pop("content", None)
    if content:
        arguments["file"] = tmp_path / "mine.txt"
        arguments["file"].write_text(content)
    with pytest.raises(ValueError, match=message):
        load(**arguments)


# --- the Penn Treebank ------------------------------------------------------------------------------------------------


def test_ptb_is_read_as_it_is(tmp_path, monkeypatch):
    for part, content in {"train": " no <unk> N n't \n a no \n", "valid": " a N \n", "test": " n't \n"}.items():
        name = f"ptb/ptb.{part}.txt"
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
        file = text._FILES[name]._replace(sha256=hashlib.sha256(content.encode()).hexdigest())
        monkeypatch.setitem(text._FILES, name, file)
    found = load("ptb", data_dir=tmp_path)
    assert found.vocabulary == ("<eos>", "no", "<unk>", "N", "a", "n't")
    assert [part.tolist() for part in found[2:]] == [[1, 2, 3, 5, 0, 4, 1, 0], [4, 3, 0], [5, 0]]


def test_published_sizes_and_floors(data_dir):
    needs(data_dir, "ptb")
    found = load("ptb", data_dir=data_dir)
    assert [len(part) for part in found[2:]] == [929_589, 73_760, 82_430]  # Zaremba et al. 2014
    assert len(found.vocabulary) == 10_000
    assert np.exp(ngram_floor(found.train, found.test, 10_000, 3)) == pytest.approx(188.7, abs=0.05)
    assert kneser_ney_floor(found.train, found.test, 10_000, 3) < ngram_floor(found.train, found.test, 10_000, 3) - 0.2


# --- words as integers ------------------------------------------------------------------------------------------------


def test_encode_and_decode():
    vocabulary = ("<eos>", "a", "<unk>")
    ids = encode(["a", "b", "<eos>", "a"], vocabulary)
    assert ids.dtype == np.int32
    assert ids.tolist() == [1, 2, 0, 1]
    assert decode(ids, vocabulary) == ["a", "<unk>", "<eos>", "a"]
    assert encode([], vocabulary).shape == (0,)
