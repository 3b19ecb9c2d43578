"""ATIS: what a line means, every line that means nothing, and the published sizes."""

import gzip
import hashlib

import pytest
from data_sets import needs

from experiments.data import atis
from experiments.data.atis import Utterance, load, parse, words_of

LINE = "BOS from st. paul EOS\tO O B-fromloc.city_name I-fromloc.city_name atis_flight"


def test_a_line_is_an_utterance():
    assert parse(f"{LINE}\nBOS fares EOS\t O O atis_airfare#atis_flight\n", "a") == [
        Utterance(("from", "st.", "paul"), ("O", "B-fromloc.city_name", "I-fromloc.city_name"), "atis_flight"),
        Utterance(("fares",), ("O",), "atis_airfare#atis_flight"),
    ]
    assert parse("", "a") == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "0 tabs; expected one"),
        ("BOS from paul EOS O O B-x atis_flight", "0 tabs; expected one, between the words and their labels"),
        (LINE + "\tmore", "2 tabs; expected one"),
        ("from paul\tO B-x", "the words are 'from paul'; expected them between BOS and EOS"),
        ("BOS\tO", "the words are 'BOS'; expected them between BOS and EOS"),
        ("BOS EOS\tO atis_flight", "no word between BOS and EOS; expected an utterance: remove the line"),
        ("BOS to paul EOS\tO O B-x", "the intent is missing; expected it after the last label, B-x"),
        ("BOS to paul EOS\tO B-x atis_flight", "4 words, .* but 3 labels; expected one for each"),
        ("BOS to paul EOS\tO O O B-x atis_flight", "4 words, .* but 5 labels"),
        ("BOS to paul EOS\tO O X-x atis_flight", "the label of 'paul' is 'X-x'; expected O, B-slot or I-slot"),
        ("BOS to paul EOS\tO O B- atis_flight", "the label of 'paul' is 'B-'"),
        ("BOS to paul EOS\tO O o atis_flight", "the label of 'paul' is 'o'"),
        ("BOS to paul EOS\tO O B-x I-x", "the intent is 'I-x', a slot's label"),
        ("BOS to paul EOS\tB-x O B-x atis_flight", "the label of BOS is 'B-x'; expected O"),
    ],
)
def test_errors_name_file_and_line(line, message):
    with pytest.raises(ValueError, match=f"^a/file:2: {message}"):
        parse(f"{LINE}\n{line}\n{LINE}\n", "a/file")


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("arrive Taipei on November 2nd", "arrive taipei on november 2nd"),
        ("  What's the fare, please?\n", "what's the fare please"),
        ("From St. Paul to St. Louis.", "from st. paul to st. louis"),
        ("At 5 O’clock (P.M.) - or 8:38pm!", "at 5 o'clock pm or 838 pm"),
        ("Round-trip, 10 a.m., $300", "round trip 10 am 300"),
        ("... ' ?", ""),
        ("", ""),
    ],
)
def test_a_typed_sentence_is_written_as_atis_writes(typed, words):
    assert words_of(typed) == tuple(words.split())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A data folder with one utterance in each part."""
    monkeypatch.delenv("JRNN_DATA", raising=False)
    for part, file in atis._FILES.items():
        content = f"BOS {part} EOS\tO B-part atis_flight\n".encode()
        monkeypatch.setitem(atis._FILES, part, file._replace(sha256=hashlib.sha256(content).hexdigest()))
        path = tmp_path / f"{file.name}.gz"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(gzip.compress(content))
    return tmp_path


def test_the_parts_come_from_their_own_files(folder):
    found = load(folder)
    assert found._fields == ("train", "valid", "test")
    assert [part for ((utterance,), part) in zip(found, found._fields) if utterance.words == (part,)] == [
        "train",
        "valid",
        "test",
    ]


def test_another_content_is_an_error(folder):
    path = folder / "atis" / "atis.test.w-intent.iob.gz"
    path.write_bytes(gzip.compress(f"{LINE}\n".encode()))
    with pytest.raises(ValueError, match=r"atis\.test\.w-intent\.iob\.gz is not the expected file"):
        load(folder)


@pytest.fixture(scope="module")
def real(data_dir):
    needs(data_dir, "atis")
    return load(data_dir)


def test_published_sizes(real):
    assert [len(part) for part in real] == [4478, 500, 893]
    assert [sum(len(utterance.words) for utterance in part) for part in real] == [50_497, 5_703, 9_164]
    seen = [*real.train, *real.valid]
    labels = {label for utterance in seen for label in utterance.slots}
    intents = {utterance.intent for utterance in seen}
    assert (len(labels), len({label[2:] for label in labels if label != "O"}), len(intents)) == (121, 79, 22)
    assert len({label for utterance in real.test for label in utterance.slots} - labels) == 6
    assert len({utterance.intent for utterance in real.test} - intents) == 4


def test_every_word_of_atis_is_what_it_would_be_typed_as(real):
    for part in real:
        for utterance in part:
            assert words_of(" ".join(utterance.words)) == utterance.words


def test_the_slots_of_atis_open_with_b(real):
    """No I without a B or I of the same slot before it, so both modes of conlleval read the same spans."""
    for utterance in (utterance for part in real for utterance in part):
        for before, label in zip(("O", *utterance.slots), utterance.slots):
            assert not label.startswith("I-") or before[2:] == label[2:]


def test_train_and_valid_are_the_usual_training_part(real, data_dir):
    path = data_dir / "atis" / "atis.train.w-intent.iob.gz"
    if not path.is_file():
        pytest.skip(f"no {path}")
    assert sorted(parse(gzip.decompress(path.read_bytes()).decode(), path.name)) == sorted([*real.train, *real.valid])
