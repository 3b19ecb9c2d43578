"""Corpora: their conventions, where they are looked for, and every error a user can meet."""

import gzip
import hashlib
import sysconfig

import numpy as np
import pooch
import pytest
from data_sets import needs
from hypothesis import given
from hypothesis import strategies as st

from experiments.data import text as corpora
from experiments.data.text import Text, decode, encode, load, vocabulary

pytestmark = pytest.mark.usefixtures("isolated")

SHAKESPEARE = "tinyshakespeare/input.txt"
PTB = {"train": " no it was n't \n a b \n", "valid": " a b \n", "test": " b a \n \n"}


def write(folder, name, content, *, compress=False):
    path = folder / (name + ".gz" * compress)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if compress else content)
    return path


def expect(monkeypatch, name, content):
    """Makes `content` what the file `name` ought to hold."""
    file = corpora._FILES[name]._replace(sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(corpora._FILES, name, file)


# --- the standard library ---------------------------------------------------------------------------------------------


def test_stdlib_is_the_default_and_deterministic():
    text = load()
    assert text == load("stdlib")
    assert text.name == "stdlib"
    assert text.test is None
    whole = text.train + text.valid
    assert len(text.train) == int(0.9 * len(whole))
    assert 1e6 < len(whole) < 4e6
    assert whole.isascii()
    assert "\r" not in whole


def test_stdlib_takes_short_public_ascii_modules_in_the_order_of_their_names(tmp_path, monkeypatch):
    for name, content in {
        "b.py": b"b = 1\r\n" * 2,
        "a.py": b"a = 1\n" * 2,
        "_private.py": b"p = 1\n",
        "utf8.py": "é = 1\n".encode(),
        "latin1.py": "é = 1\n".encode("latin-1"),
        "long.py": b"#" * 65_537,
        "text.txt": b"text\n",
        "package/inner.py": b"inner = 1\n",
    }.items():
        write(tmp_path, name, content)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    text = load("stdlib")
    assert text.train + text.valid == "a = 1\na = 1\nb = 1\nb = 1\n"


def test_stdlib_without_source(tmp_path, monkeypatch):
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path / "python.zip"))
    with pytest.raises(FileNotFoundError, match=r"python\.zip holds no Python source.*embedded.*file="):
        load("stdlib")


# --- a file of one's own ----------------------------------------------------------------------------------------------


def test_file_is_taken_as_it_is_but_for_marks_of_order_and_ends_of_lines(tmp_path):
    written = "une ligne\r\n deux\rlignes \n\n" * 3
    text = load(file=write(tmp_path, "mine.txt", written.encode("utf-8-sig")))
    content = "une ligne\n deux\rlignes \n\n" * 3
    assert text.name == "mine.txt"
    assert text.train + text.valid == content
    assert len(text.train) == int(0.9 * len(content))
    assert text.test is None


def test_file_accepts_a_string(tmp_path):
    assert load(file=str(write(tmp_path, "mine.txt", b"x" * 20))) == Text("mine.txt", "x" * 18, "xx")


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, FileNotFoundError, " does not exist; expected a text file"),
        ("folder", FileNotFoundError, " is a folder; expected a text file"),
        (b"", ValueError, " is empty; expected a text"),
        (b"caf\xe9 noir, caf\xe9 au lait", ValueError, ":1: byte 0xe9 is not UTF-8 .*--encoding.*convert the file"),
        (b"x" * 19, ValueError, " has 19 characters; expected at least 20.*use a longer text"),
    ],
)
def test_file_errors_name_the_path_and_the_remedy(tmp_path, content, error, message):
    path = tmp_path / "mine.txt"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(error, match=rf"mine\.txt{message}"):
        load(file=path)


def test_unknown_corpus():
    with pytest.raises(
        ValueError, match=r"corpus is 'wikitext'; expected one of stdlib, tinyshakespeare, ptb, or .*file="
    ):
        load("wikitext")


# --- published corpora ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("source", ["data_dir", "JRNN_DATA"])
def test_tinyshakespeare_is_read_from_a_data_folder(tmp_path, monkeypatch, source, compress):
    content = b"First Citizen:\nBefore we proceed any further, hear me speak.\n"
    expect(monkeypatch, SHAKESPEARE, content)
    write(tmp_path, SHAKESPEARE, content, compress=compress)
    if source == "JRNN_DATA":
        monkeypatch.setenv("JRNN_DATA", str(tmp_path))
    text = load("tinyshakespeare", data_dir=tmp_path if source == "data_dir" else None)
    cut = int(0.9 * len(content))
    assert text == Text("tinyshakespeare", content[:cut].decode(), content[cut:].decode())


def test_data_dir_goes_before_the_environment_and_falls_through_to_it(tmp_path, monkeypatch):
    first, second = tmp_path / "first", tmp_path / "second"
    content = b"the expected content"
    expect(monkeypatch, SHAKESPEARE, content)
    first.mkdir()
    write(second, SHAKESPEARE, content)
    monkeypatch.setenv("JRNN_DATA", str(second))
    assert load("tinyshakespeare", data_dir=first).train == content[:18].decode()
    write(first, SHAKESPEARE, b"something else")
    with pytest.raises(ValueError, match="first"):
        load("tinyshakespeare", data_dir=first)


def test_download_goes_to_the_cache_with_a_checksum(tmp_path, monkeypatch):
    content = b"the expected content"
    expect(monkeypatch, SHAKESPEARE, content)
    calls = []

    def retrieve(url, *, known_hash, path, fname):
        calls.append((url, known_hash))
        write(path, fname, content)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    assert load("tinyshakespeare").train == content[:18].decode()
    ((url, known_hash),) = calls
    assert url.startswith("https://raw.githubusercontent.com/karpathy/char-rnn/6f9487a6")
    assert known_hash == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert (tmp_path / "cache" / "jrnn" / SHAKESPEARE).read_bytes() == content


@pytest.mark.parametrize("corpus", ["tinyshakespeare", "ptb"])
def test_no_network_says_where_it_looked_and_what_to_do(tmp_path, monkeypatch, corpus):
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.setenv("JRNN_DATA", str(tmp_path / "there"))
    with pytest.raises(FileNotFoundError) as caught:
        load(corpus, data_dir=tmp_path / "here")
    message = str(caught.value)
    wanted = ["https://raw.github", "here (data_dir)", "there (JRNN_DATA)", "cache", "no network", "--data-dir"]
    assert [part for part in wanted if part not in message] == []
    monkeypatch.delenv("JRNN_DATA")
    with pytest.raises(FileNotFoundError, match="no data folder given"):
        load(corpus)


def test_download_with_another_content_is_an_error(monkeypatch):
    def retrieve(url, **_):
        raise ValueError("SHA256 hash of downloaded file does not match")

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    with pytest.raises(FileNotFoundError, match=r"could not be downloaded from https.*hash of downloaded file"):
        load("tinyshakespeare")


def test_another_content_in_a_data_folder_is_an_error(tmp_path):
    path = write(tmp_path, SHAKESPEARE, b"not Shakespeare")
    with pytest.raises(ValueError) as caught:
        load("tinyshakespeare", data_dir=tmp_path)
    message = str(caught.value)
    found = hashlib.sha256(b"not Shakespeare").hexdigest()
    wanted = [str(path), found, corpora._FILES[SHAKESPEARE].sha256, "replace it"]
    assert [part for part in wanted if part not in message] == []


@pytest.mark.parametrize("broken", [lambda packed: packed[:-9], lambda packed: b"plain text"])
def test_a_broken_gzip_file_is_an_error(tmp_path, broken):
    path = write(tmp_path, SHAKESPEARE, b"some text", compress=True)
    path.write_bytes(broken(path.read_bytes()))
    with pytest.raises(ValueError, match=r"input\.txt\.gz is not a whole gzip file .*: replace or remove it"):
        load("tinyshakespeare", data_dir=tmp_path)


@pytest.mark.parametrize("source", ["data_dir", "JRNN_DATA"])
def test_a_data_folder_that_does_not_exist_is_an_error(tmp_path, monkeypatch, source):
    missing = tmp_path / "missing"
    if source == "JRNN_DATA":
        monkeypatch.setenv("JRNN_DATA", str(missing))
    with pytest.raises(
        FileNotFoundError, match=f"{source} is .*missing, which is not a folder; expected one that holds"
    ):
        load("tinyshakespeare", data_dir=missing if source == "data_dir" else None)


def test_ptb_lines_are_stripped_and_end_in_a_newline(tmp_path, monkeypatch):
    for part, content in PTB.items():
        expect(monkeypatch, f"ptb/ptb.{part}.txt", content.encode())
        write(tmp_path, f"ptb/ptb.{part}.txt", content.encode(), compress=part == "train")
    assert load("ptb", data_dir=tmp_path) == Text("ptb", "no it was n't\na b\n", "a b\n", "b a\n\n")


@pytest.mark.parametrize(
    ("corpus", "lengths", "symbols"),
    [("tinyshakespeare", (1_003_854, 111_540, 0), 65), ("ptb", (5_017_482, 393_042, 442_423), 50)],
)
def test_published_sizes(data_dir, corpus, lengths, symbols):
    needs(data_dir, corpus)
    text = load(corpus, data_dir=data_dir)
    assert (len(text.train), len(text.valid), len(text.test or "")) == lengths
    assert len(vocabulary(text)) == symbols


# --- characters as integers -------------------------------------------------------------------------------------------


def test_vocabulary_is_sorted_and_covers_all_parts():
    assert vocabulary(Text("t", "cab", "d\n", "é")) == "\nabcdé"
    assert vocabulary(Text("t", "cab", "d\n")) == "\nabcd"


@given(st.text(st.characters(), min_size=1), st.randoms())
def test_encode_and_decode_are_inverse(text, random):
    symbols = vocabulary(Text("t", text, ""))
    ids = encode(text, symbols)
    assert ids.dtype == np.int32
    assert ids.tolist() == [symbols.index(c) for c in text]
    assert decode(ids, symbols) == text
    shuffled = "".join(random.sample(symbols, len(symbols)))
    assert decode(encode(text, shuffled), shuffled) == text


def test_encode_keeps_nul_and_surrogates():
    symbols = vocabulary(Text("t", "a\0\udce9", ""))
    assert decode(encode("\0a\0\udce9\0", symbols), symbols) == "\0a\0\udce9\0"


def test_encode_of_nothing():
    assert encode("", "ab").shape == (0,)
    assert decode(np.zeros(0, np.int32), "ab") == ""


def test_encode_names_unseen_characters():
    with pytest.raises(ValueError, match=r"vocabulary of 2 lacks: '\\n', 'é'; leave them out"):
        encode("abé\né", "ab")
