"""Treebanks: what counts as a word, where the files are looked for, and every line that may be wrong in one."""

import gzip
import hashlib

import pytest
from data_sets import needs

pytest.importorskip("conllu", reason="the experiments extra is not installed")

from experiments.data import treebank
from experiments.data.treebank import PARTS, TAGS, Sentence, load, most_frequent_tag, parse

pytestmark = pytest.mark.usefixtures("isolated")


def row(number, form, tag):
    return f"{number}\t{form}\t_\t{tag}\t_\t_\t_\t_\t_\t_\n"


def sentence(*pairs):
    return "".join(row(number, *pair) for number, pair in enumerate(pairs, 1)) + "\n"


SHE_SLEEPS = sentence(("She", "PRON"), ("sleeps", "VERB"))
FILES = {part: sentence((part, "NOUN"), (".", "PUNCT")).encode() for part in PARTS}


def test_words_are_the_tokens_with_an_integer_id():
    text = (
        "# sent_id = 1\n# text = I cannot, he tea\n"
        + row(1, "I", "PRON")
        + row("2-3", "cannot", "_")
        + row(2, "can", "AUX")
        + row(3, "not", "PART")
        + row(4, ",", "PUNCT")
        + row(5, "he", "PRON")
        + row("5.1", "drinks", "VERB")
        + row(6, "tea", "NOUN")
        + "\n"
    )
    (found,) = parse(text.encode(), "file")
    assert found == Sentence(["I", "can", "not", ",", "he", "tea"], ["PRON", "AUX", "PART", "PUNCT", "PRON", "NOUN"])


def test_words_keep_what_they_are_written_with():
    """Spaces within a word, letters of any script, and the separators that str.splitlines would break at."""
    words = ["20 000", "Straße", "東京", "a\u2028b", "\x85", "_", "#", '"']
    (found,) = parse(sentence(*((word, "X") for word in words)).encode(), "file")
    assert found.words == words


def test_ranges_and_empty_nodes_anywhere_and_enhanced_dependencies():
    """A range before the first word, an empty node before it and after the last one; the last two columns are anything."""
    rows = [
        row("0.1", "es", "PRON"),
        row("1-2", "zum", "_"),
        row(1, "zu", "ADP"),
        row(2, "dem", "DET"),
        row("2.1", "x", "X"),
    ]
    text = "".join(rows).replace("_\t_\n", "0:root|2.1:nsubj>3\tSpaceAfter=No|CorrectForm=\n")
    assert "|2.1:nsubj" in text
    (found,) = parse(text.encode(), "file")
    assert found == Sentence(["zu", "dem"], ["ADP", "DET"])


@pytest.mark.parametrize(
    "written",
    [
        "\n" + SHE_SLEEPS,
        SHE_SLEEPS + "\n\n",
        SHE_SLEEPS.replace("\n\n", "\n \t\n"),
        "# newdoc\n\n# text = She sleeps\n" + SHE_SLEEPS,
        SHE_SLEEPS + "# the end",
        SHE_SLEEPS.replace("2\t", "# between\n2\t"),
    ],
)
def test_comments_and_empty_lines_are_anywhere(written):
    for content in (written.encode(), written.encode("utf-8-sig"), written.replace("\n", "\r\n").encode()):
        assert parse(content, "file") == [Sentence(["She", "sleeps"], ["PRON", "VERB"])]


@pytest.mark.parametrize("written", [SHE_SLEEPS, SHE_SLEEPS.rstrip("\n"), SHE_SLEEPS.replace("\n", "\r\n")])
def test_the_last_empty_line_may_be_missing_and_lines_may_end_as_on_windows(written):
    assert parse(written.encode(), "file") == [Sentence(["She", "sleeps"], ["PRON", "VERB"])]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"^file is empty; expected sentences"),
        ("\n\n", r"^file is empty; expected sentences"),
        ("She sleeps.\n\n", r"^file:1: 1 columns in 'She sleeps\.'; expected the 10 of CoNLL-U, with tabs"),
        (row(1, "She", "PRON").rsplit("\t", 1)[0] + "\n\n", r"^file:1: 9 columns in '1\\tShe"),
        (row(1, "She", "PRON").replace("\n", "\t_\n\n"), r"^file:1: 11 columns"),
        (SHE_SLEEPS + row("one", "A", "DET"), r"^file:4: .*'one' is not a valid ID.*Ids are 1, 2, 3"),
        (SHE_SLEEPS + row("", "A", "DET"), r"^file:4: .*the id is missing; expected 1"),
        (SHE_SLEEPS + row(2, "A", "DET"), r"^file:4: word 2; expected word 1"),
        (row(1, "A", "DET") + row(3, "dog", "NOUN"), r"^file:2: word 3; expected word 2"),
        (row(1, "", "PRON"), r"^file:1: the word's form is empty"),
        (SHE_SLEEPS + "# text = A\n" + row(1, "A", "DT"), r"^file:5: 'A' has the tag 'DT'; .*one of ADJ, ADP, .*, X: "),
        (row(1, "A", "det"), r"^file:1: 'A' has the tag 'det'"),
        ("# text = She sleeps\n\n", r"^file is empty; expected sentences"),
        (row("1.1", "drinks", "VERB") + "\n", r"^file is empty; expected sentences"),
    ],
)
def test_a_bad_line_is_named(text, message):
    with pytest.raises(ValueError, match=message):
        parse(text.encode(), "file")


def test_what_is_not_utf8_is_named():
    content = SHE_SLEEPS.encode() + sentence(("caf\xe9", "NOUN")).encode("latin-1")
    with pytest.raises(ValueError, match=r"^file:4: byte 0xe9 is not UTF-8 .*convert the file"):
        parse(content, "file")


# --- where the files are ----------------------------------------------------------------------------------------------


def write(folder, prefix, *, compress=False, parts=PARTS):
    folder.mkdir(parents=True, exist_ok=True)
    for part in parts:
        path = folder / f"{prefix}-ud-{part}.conllu{'.gz' * compress}"
        path.write_bytes(gzip.compress(FILES[part]) if compress else FILES[part])
    return folder


def assert_read(found):
    for part, sentences in zip(PARTS, found[1:4], strict=True):
        assert sentences == [Sentence([part, "."], ["NOUN", "PUNCT"])]


@pytest.mark.parametrize("source", ["data_dir", "JRNN_DATA"])
def test_ewt_is_read_from_a_data_folder(tmp_path, monkeypatch, source):
    for part, content in FILES.items():
        file = treebank._FILES[part]._replace(sha256=hashlib.sha256(content).hexdigest())
        monkeypatch.setitem(treebank._FILES, part, file)
    write(tmp_path / "ud_english_ewt", "en_ewt", compress=source == "JRNN_DATA")
    if source == "JRNN_DATA":
        monkeypatch.setenv("JRNN_DATA", str(tmp_path))
    assert_read(load(data_dir=tmp_path if source == "data_dir" else None))


def test_another_content_of_ewt_is_an_error(tmp_path):
    write(tmp_path / "ud_english_ewt", "en_ewt")
    with pytest.raises(ValueError, match=r"en_ewt-ud-train\.conllu is not the expected file: the SHA-256"):
        load(data_dir=tmp_path)


def test_without_a_network_the_error_says_what_to_do(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"could not be downloaded from https://raw\.github.*15d613d.*--data-dir"
    ):
        load(data_dir=tmp_path)


def test_a_treebank_of_ones_own(tmp_path):
    found = load(write(tmp_path / "mine", "xx_mine"))
    assert found.name == "xx_mine"
    assert_read(found)


def test_sentences_that_miss_a_tag_are_left_out_and_counted(tmp_path):
    folder = write(tmp_path / "mine", "xx_mine")
    untagged = sentence(("one", "NUM"), ("two", "_")) + sentence(("three", "_"))
    (folder / "xx_mine-ud-train.conllu").write_text(untagged + FILES["train"].decode())
    (folder / "xx_mine-ud-test.conllu").write_text(FILES["test"].decode() + untagged)
    found = load(folder)
    assert found.left_out == 4
    assert_read(found)
    (folder / "xx_mine-ud-dev.conllu").write_text(untagged)
    with pytest.raises(ValueError, match=r"xx_mine-ud-dev\.conllu has no sentence whose words all have a tag .*ADJ"):
        load(folder)


def test_a_treebank_without_a_dev_part_holds_a_tenth_out(tmp_path):
    folder = write(tmp_path / "mine", "xx_mine", parts=("train", "test"))
    with pytest.raises(ValueError, match=r"has no \*-ud-dev\.conllu and 1 sentences to train on; expected at least 10"):
        load(folder)
    words = [f"word{n}" for n in range(25)]
    (folder / "xx_mine-ud-train.conllu").write_text("".join(sentence((word, "X")) for word in words))
    found = load(folder)
    train, dev = ([one.words[0] for one in part] for part in (found.train, found.dev))
    assert dev == ["word9", "word19"]
    assert sorted([*train, *dev]) == sorted(words)
    assert found.test == [Sentence(["test", "."], ["NOUN", "PUNCT"])]


def test_errors_in_a_treebank_of_ones_own_name_the_file(tmp_path):
    folder = write(tmp_path / "mine", "xx_mine")
    (folder / "xx_mine-ud-dev.conllu").write_text(SHE_SLEEPS + "nonsense\n")
    with pytest.raises(ValueError, match=r"mine/xx_mine-ud-dev\.conllu:4: 1 columns"):
        load(folder)


def test_a_folder_that_holds_no_treebank(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere is no folder; expected one with \*-ud-\{train,dev,test\}"):
        load(tmp_path / "nowhere")
    folder = write(tmp_path / "mine", "xx_mine", parts=("train", "dev"))
    with pytest.raises(FileNotFoundError, match=r"mine has none for \*-ud-test\.conllu; expected one file"):
        load(folder)
    write(folder, "xx_other")
    with pytest.raises(FileNotFoundError, match=r"mine has xx_mine-ud-train\.conllu, xx_other-ud-train\.conllu for"):
        load(folder)


# --- the real one -----------------------------------------------------------------------------------------------------


def test_published_sizes_and_floor(data_dir):
    needs(data_dir, "ud_english_ewt")
    found = load(data_dir=data_dir)
    assert [len(part) for part in found[1:4]] == [12_544, 2_001, 2_077]
    assert [sum(len(s.words) for s in part) for part in found[1:4]] == [204_577, 25_147, 25_094]
    assert {tag for s in found.train for tag in s.tags} == set(TAGS)
    assert most_frequent_tag(found.train, found.test) == pytest.approx(0.8806, abs=5e-5)


def test_floor_of_seen_and_unseen_words():
    train = [
        Sentence(["can", "can", "can"], ["AUX", "AUX", "NOUN"]),
        Sentence(["Rome", "Oslo", "tea"], ["PROPN", "PROPN", "NOUN"]),
    ]
    held_out = [Sentence(["can", "can", "Paris", "Eat", "milk"], ["AUX", "NOUN", "PROPN", "VERB", "NOUN"])]
    assert most_frequent_tag(train, held_out) == 3 / 5
    seen_often = [Sentence(["a", "a", "b", "b"], ["DET", "DET", "X", "DET"])]
    assert most_frequent_tag(seen_often, [Sentence(["c", "C"], ["DET", "DET"])]) == 1
