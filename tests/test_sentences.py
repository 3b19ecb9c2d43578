"""Labelled sentences: their splits, the trees they come from, and every error a user can meet."""

import gzip
import hashlib

import numpy as np
import pytest
from data_sets import needs
from hypothesis import given
from hypothesis import strategies as st

from experiments.data import sentences as corpora
from experiments.data.sentences import FOLDS, Lines, Part, Phrase, labelled, load, parse_tree, tokenize, words_as_known
from experiments.data.vectors import read_vectors

pytestmark = pytest.mark.usefixtures("isolated")

MR = "sentence_classification/rt-polarity.all"
TREES = {
    "train": "(3 (2 A) (4 (4 good) (2 film)))\n(1 (2 A) (0 (0 bad) (2 film)))\n(2 (2 A) (2 film))\n",
    "dev": "(4 (4 Good) (2 .))\n(2 (2 A) (2 .))\n",
    "test": "(0 (0 Bad) (2 .))\n",
}


def provide(monkeypatch, folder, name, content, *, compress=False):
    """Writes `content`, and makes it what the file `name` ought to hold."""
    file = corpora._FILES[name]._replace(sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(corpora._FILES, name, file)
    path = folder / (name + ".gz" * compress)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if compress else content)


@pytest.fixture
def lines():
    """Sentence n is 'word n', positive where n is odd."""
    return "".join(f"{n % 2} word {n}\n" for n in range(25))


# --- splits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fold", range(FOLDS))
def test_folds_share_nothing_and_leave_nothing_out(tmp_path, lines, fold):
    (tmp_path / "mine.txt").write_text(lines)
    corpus = load(file=tmp_path / "mine.txt", fold=fold)
    parts = [{int(sentence[1]) for sentence in part.sentences} for part in corpus[1:4]]
    assert sorted(n for part in parts for n in part) == list(range(25))
    assert parts[2] == {n for n in range(25) if n % 10 == fold}
    assert parts[1] == {n for n in range(25) if n % 10 == (fold + 1) % 10}
    for part in corpus[1:4]:
        assert part.labels == [int(sentence[1]) % 2 for sentence in part.sentences]


@pytest.mark.parametrize("compress", [False, True])
def test_mr_is_latin_1_from_a_data_folder(monkeypatch, tmp_path, lines, compress):
    content = (lines + "1 clichés ½\n").encode("latin-1")
    provide(monkeypatch, tmp_path, MR, content, compress=compress)
    corpus = load("mr", data_dir=tmp_path, fold=5)
    assert corpus.name == "mr"
    assert corpus.test.sentences == [["word", "5"], ["word", "15"], ["clichés", "½"]]
    assert corpus.test.labels == [1, 1, 1]


def test_sst2_trains_on_phrases_and_tests_on_sentences(monkeypatch, tmp_path):
    for part, text in TREES.items():
        provide(monkeypatch, tmp_path, f"sst/trees.{part}.txt", text.encode())
    corpus = load("sst2", data_dir=tmp_path)
    examples = dict(zip(map(" ".join, corpus.train.sentences), corpus.train.labels))
    assert examples == {"good": 1, "good film": 1, "a good film": 1, "bad": 0, "bad film": 0, "a bad film": 0}
    assert len(corpus.train.labels) == 6
    assert corpus.valid == Part([["good", "."]], [1])
    assert corpus.test == Part([["bad", "."]], [0])
    whole = load("sst2", data_dir=tmp_path, phrases=False)
    assert whole.train == Part([["a", "good", "film"], ["a", "bad", "film"]], [1, 0])
    assert whole.test == corpus.test


def test_published_sizes(data_dir):
    for name in ("sentence_classification", "sst"):
        needs(data_dir, name)
    mr, sst = load("mr", data_dir=data_dir), load("sst2", data_dir=data_dir)
    assert [len(part.labels) for part in mr[1:4]] == [8_528, 1_067, 1_067]
    assert sum(sum(part.labels) for part in mr[1:4]) == 5_331  # half of 10,662
    assert [len(part.labels) for part in sst[1:4]] == [77_195, 872, 1_821]
    assert [sum(part.labels) for part in sst[2:4]] == [444, 909]
    assert len(load("sst2", data_dir=data_dir, phrases=False).train.labels) == 6_911
    assert all(all(part.sentences) for corpus in (mr, sst) for part in corpus[1:4])


# --- trees ------------------------------------------------------------------------------------------------------------


def test_a_tree_gives_its_phrases_the_whole_last():
    assert parse_tree("(3 (2 It) (4 (2 's) (4 good)))", "f:1") == [
        Phrase(2, ["it"]),
        Phrase(2, ["'s"]),
        Phrase(4, ["good"]),
        Phrase(4, ["'s", "good"]),
        Phrase(3, ["it", "'s", "good"]),
    ]


RATINGS = st.integers(0, 4)
WORDS = st.text(st.characters(exclude_characters="()", exclude_categories=("Z", "C")), min_size=1, max_size=4)
TREE = st.recursive(
    st.tuples(RATINGS, WORDS), lambda inner: st.tuples(RATINGS, st.lists(inner, min_size=1, max_size=3))
)


def written(tree):
    rating, content = tree
    return f"({rating} {content if isinstance(content, str) else ' '.join(map(written, content))})"


def leaves(tree):
    return [tree[1].lower()] if isinstance(tree[1], str) else [word for inner in tree[1] for word in leaves(inner)]


def count(tree):
    return 1 if isinstance(tree[1], str) else 1 + sum(map(count, tree[1]))


@given(TREE)
def test_any_tree_is_read_as_it_was_written(tree):
    phrases = parse_tree(written(tree), "f:1")
    assert len(phrases) == count(tree)
    assert phrases[-1] == Phrase(tree[0], leaves(tree))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "0 of the tree's '\\(' are never closed; expected a whole tree"),
        ("(3 (2 a) (4 good)", "1 of the tree's '\\(' are never closed"),
        ("(3 (2 a) (4 good)))", "'\\)' stands outside of the tree; expected '\\('"),
        ("good", "'good' stands outside of the tree"),
        ("(3 (2 a)) (2 b)", "a second tree follows the first"),
        ("(5 (2 a) (4 good))", "'5' follows '\\('; expected a rating from 0 to 4"),
        ("((2 a) (4 good))", "'\\(' follows '\\('; expected a rating"),
        ("(3 (2 a) (", "'nothing' follows '\\('"),
        ("(3 (2) (4 good))", "a phrase rated 2 has no word"),
    ],
)
def test_a_broken_tree_names_file_and_line(line, message):
    with pytest.raises(ValueError, match=f"^trees.txt:7: {message}"):
        parse_tree(line, "trees.txt:7")


def test_a_broken_tree_in_a_file_is_found(monkeypatch, tmp_path):
    for part, text in TREES.items():
        provide(monkeypatch, tmp_path, f"sst/trees.{part}.txt", text.encode() + b"(3 (2 a)\n" * (part == "dev"))
    with pytest.raises(ValueError, match=r"sst/trees\.dev\.txt:3: 1 of the tree's"):
        load("sst2", data_dir=tmp_path)


# --- sentences of one's own -------------------------------------------------------------------------------------------


def test_lines_of_labels_and_words():
    text = "0 Bad  film .\r\nvery-good good \n__label__x\ta tab\n-1 no newline"
    sentences = [["Bad", "film", "."], ["good"], ["a", "tab"], ["no", "newline"]]
    assert labelled(text) == Lines(sentences, ["0", "very-good", "__label__x", "-1"], 0)


def test_lines_without_words_are_left_out_and_counted():
    assert labelled("1 good\n\n0\n 0 \n0 bad\n\n") == Lines([["good"], ["bad"]], ["1", "0"], 4)


def test_a_coarse_label_is_what_stands_before_its_first_colon():
    text = "NUM:date When : now ?\nHUM Who ?\nENTY:a:b What ?\n"
    assert labelled(text, coarse=True).labels == ["NUM", "HUM", "ENTY"]
    assert labelled(text).labels == ["NUM:date", "HUM", "ENTY:a:b"]
    assert labelled(text, coarse=True).sentences == labelled(text).sentences


def of_labels(path, labels, count=20):
    """A file of sentences that hold their labels as their last words."""
    path.write_text("".join(f"{labels[n % len(labels)]} word {labels[n % len(labels)]}\n" for n in range(count)))
    return path


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ("01", ("0", "1")),
        (("objective", "subjective"), ("objective", "subjective")),
        (("10", "9", "2"), ("2", "9", "10")),
        (("+1", "-1"), ("+1", "-1")),
        ([f"L{n % 23}:x" for n in range(23)], tuple(sorted(f"L{n}:x" for n in range(23)))),
    ],
)
def test_any_labels(tmp_path, labels, classes):
    corpus = load(file=of_labels(tmp_path / "mine", labels, 230))
    assert corpus.classes == classes
    for part in corpus[1:4]:
        assert [classes[label] for label in part.labels] == [words[-1] for words in part.sentences]
    assert sum(len(part.labels) for part in corpus[1:4]) == 230


def test_a_file_to_test_on(tmp_path, lines):
    (tmp_path / "train").write_text(lines)
    (tmp_path / "test").write_text("1 one\n\n2 two\n0 none\n")
    corpus = load(file=tmp_path / "train", test=tmp_path / "test", fold=3)
    assert corpus.classes == ("0", "1", "2")
    assert corpus.left_out == 1
    assert corpus.test == Part([["one"], ["two"], ["none"]], [1, 2, 0])
    train, valid = ({int(words[1]) for words in part.sentences} for part in corpus[1:3])
    assert valid == {3, 13, 23}
    assert train == set(range(25)) - valid


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, FileNotFoundError, "mine.txt does not exist; expected a text file of labelled sentences"),
        ("folder", FileNotFoundError, "mine.txt is a folder"),
        (b" \n", ValueError, "mine.txt is empty"),
        (b"1\n0\n", ValueError, "mine.txt has no words after its labels; expected a label and a sentence"),
        (b"1 good\n0 caf\xe9 noir\n", ValueError, "mine.txt:2: byte 0xe9 is not UTF-8 .*--encoding"),
        (b"1 good\n0 bad\n", ValueError, "mine.txt has 2 sentences; expected at least 10"),
        (b"1 good\n" * 20, ValueError, "mine.txt has one label, 1; expected at least two"),
        (
            "".join(f"word{n} and others\n" for n in range(20)).encode(),
            ValueError,
            r"has 20 labels, 20 of them on one line alone: word0, .*, \.\.\.; expected lines that begin with a label of few",
        ),
    ],
)
def test_errors_of_a_file(tmp_path, content, error, message):
    path = tmp_path / "mine.txt"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(error, match=message):
        load(file=path)
    with pytest.raises(error, match=r"mine\.txt"):
        load(file=path, test=path)


def test_files_that_do_not_fit_each_other(tmp_path, lines):
    (tmp_path / "mine").write_text(lines)
    other = of_labels(tmp_path / "other", ("pos", "neg"))
    with pytest.raises(ValueError, match=r"other has none of the labels of .*mine, which are 0, 1, but neg, pos"):
        load(file=tmp_path / "mine", test=other)
    with pytest.raises(ValueError, match=r"test is .*other without a file to train on"):
        load(test=other)


def test_errors_of_options(tmp_path, lines):
    with pytest.raises(ValueError, match="corpus is 'imdb'; expected one of mr, sst2, or pass file="):
        load("imdb")
    (tmp_path / "mine.txt").write_text(lines)
    for fold in (-1, 10):
        with pytest.raises(ValueError, match=f"fold is {fold}; expected 0 to 9"):
            load(file=tmp_path / "mine.txt", fold=fold)


@pytest.mark.parametrize("corpus", ["mr", "sst2"])
def test_data_that_are_nowhere_or_not_the_expected_ones(tmp_path, corpus):
    with pytest.raises(FileNotFoundError, match=r"https://raw\.github.*no network.*--data-dir"):
        load(corpus)
    for name in corpora._FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"0 something else\n")
    with pytest.raises(ValueError, match="is not the expected file: the SHA-256"):
        load(corpus, data_dir=tmp_path)


# --- running text -----------------------------------------------------------------------------------------------------


def test_running_text_becomes_words_as_each_corpus_has_them():
    text = 'It isn’t "good" (or 1.5 well-made) -- we\'ll see...'
    whole = " ".join(tokenize(text, treebank=False))
    split = " ".join(tokenize(text, treebank=True))
    assert whole == "it isn't \" good \" ( or 1.5 well-made ) -- we'll see . . ."
    assert split == "it is n't `` good '' -lrb- or 1.5 well-made -rrb- -- we 'll see ..."
    assert tokenize("can't, CAN'T!", treebank=True) == ["ca", "n't", ",", "ca", "n't", "!"]
    assert tokenize(" \n", treebank=True) == []


@given(st.text(), st.booleans())
def test_words_hold_no_space_and_what_is_written_in_lower_case_letters_is_kept(text, treebank):
    words = tokenize(text, treebank=treebank)
    assert all(word and not any(c.isspace() for c in word) for word in words)
    letters = [c for c in text.lower() if c.isalpha()]
    assert [c for word in words if word not in ("-lrb-", "-rrb-") for c in word if c.isalpha()] == letters


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ("it isn't a bad film . ,", "it isn't bad , zorkmid ."),
        ("it is n't a bad film . ,", "it is n't bad , zorkmid ."),
        ("It isn't a bad film . ,", "It isn't bad , zorkmid ."),
        ("It isn't bad, films.", "It isn't bad, zorkmid."),
    ],
)
def test_running_text_is_read_as_the_known_words_are(known, words):
    """In lower case or not, contractions whole or apart, marks apart or not: as the corpus has them."""
    assert words_as_known("It isn't bad, zorkmid.", known.split()) == words.split()


def test_no_words_are_none_in_any_reading():
    assert words_as_known(" \n", ["a"]) == []


# --- word vectors -----------------------------------------------------------------------------------------------------


def vectors(tmp_path, text, words=("good", "bad"), size=2):
    path = tmp_path / "vectors.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_vectors(path, words, size)


@pytest.mark.parametrize("header", ["", "4 2\n"])
def test_vectors_of_the_words_that_are_wanted(tmp_path, header):
    found = vectors(tmp_path, header + "good 1 -2.5\nfilm 3 4\n. . . 5 6\ngood 7 8\n", ("good", "bad", ". . ."))
    assert found.keys() == {"good", ". . ."}
    assert found["good"].dtype == np.float32
    np.testing.assert_array_equal(found["good"], [1, -2.5])
    np.testing.assert_array_equal(found[". . ."], [5, 6])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("good 1 2\nbad 1\n", "vectors.txt:2: a vector of 1 numbers; expected 2: give the embedding the size"),
        ("good 1 2 3\n", "vectors.txt:1: a vector of 3 numbers; expected 2"),
        ("good 1 2\n\n", "vectors.txt:2: a vector of 0 numbers"),
        ("2 3\ngood 1 2 3\n", "vectors.txt:1: a vector of 3 numbers"),
        ("good 1 two\n", "vectors.txt:1: the vector of 'good' holds what is no number"),
        ("good 1 nan\n", "vectors.txt:1: the vector of 'good' holds NaN or infinity"),
        (b"good 1 2\nbad\xff 1 2\n", "vectors.txt:2: not UTF-8"),
        ("film 1 2\n", "vectors.txt has none of the 2 words"),
        ("", "vectors.txt has none of the 2 words"),
    ],
)
def test_malformed_vectors_name_file_and_line(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        vectors(tmp_path, text)


def test_vectors_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist; expected a text file of word vectors"):
        read_vectors(tmp_path / "vectors.txt", ["good"], 2)
    with pytest.raises(FileNotFoundError, match="is a folder"):
        read_vectors(tmp_path, ["good"], 2)
