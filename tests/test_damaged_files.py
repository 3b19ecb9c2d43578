"""Damaged files of every kind: readers read them or refuse them by name; and what counts as a crash or a hang."""

import json
import time

import numpy as np
import pytest

pytest.importorskip("tyro", reason="the experiments extra is not installed")
pytest.importorskip("PIL", reason="the experiments extra is not installed")

from experiments.campaigns import damaged_files
from experiments.campaigns.damage import DAMAGES, damaged
from experiments.campaigns.damaged_files import campaign, example, outcome
from experiments.campaigns.valid_files import READERS, Reader
from experiments.common.extras import MissingPackage


@pytest.mark.parametrize("name", READERS)
def test_a_reader_reads_or_refuses_by_name(name):
    try:
        found = campaign(name, range(40), seconds=20)
    except MissingPackage as error:
        pytest.skip(str(error))
    assert found["wrong"] == {}
    assert found["read"] + found["refused"] == 40
    assert found["refused"] > 0  # the damage is done


CONTENTS = [b"a", b"\n", b"one\ntwo\nthree\n", "très\n".encode() * 9, bytes(range(256))]


@pytest.mark.parametrize("content", CONTENTS)
def test_what_is_damaged_is_another_content_and_always_the_same(content):
    for seed in range(100):
        found = damaged(content, np.random.default_rng(seed))
        assert found != content
        assert found == damaged(content, np.random.default_rng(seed))


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_each_damage_does_something(damage):
    content = CONTENTS[3] + b"end"
    found = {damage(content, np.random.default_rng(seed)) for seed in range(30)}
    assert len(found - {content}) >= 4


def test_an_example_is_known_by_reader_and_number():
    files = {"a": b"some content", "b": b"some other"}
    assert example("csv", 7, files) == example("csv", 7, dict(reversed(files.items())))
    assert len({example("csv", number, files) for number in range(20)}) > 15
    assert example("csv", 7, files) != example("series", 7, files)


def raises(error):
    def read(folder):
        raise error

    return Reader(dict, read)


def sleeps(folder):
    try:
        time.sleep(60)
    except Exception:
        return


def test_what_comes_of_a_file(tmp_path):
    def found(reader):
        return outcome(reader, tmp_path, "folder/a.csv", 0.2)

    assert found(Reader(dict, lambda folder: folder)) == ("read", "")
    for error in (
        ValueError("a.csv:3: no"),
        FileNotFoundError("a.csv is not there"),
        ValueError(f"{tmp_path} is empty"),
    ):
        assert found(raises(error)) == ("refused", "")
    for error in (ValueError("no"), ValueError(), KeyError("a.csv"), RecursionError("a.csv"), MemoryError()):
        what, why = found(raises(error))
        assert (what, why.split(": ")[-1]) == ("crashed", type(error).__name__)
    assert found(Reader(dict, sleeps)) == ("hung", "after 0.2 seconds")


def test_a_campaign_writes_what_it_found(tmp_path, monkeypatch, capsys):
    def read(folder):
        content = (folder / "a.csv").read_bytes()
        if content != b"good":
            raise KeyError if len(content) < 4 else ValueError("a.csv is bad")

    monkeypatch.setitem(READERS, "csv", Reader(lambda: {"a.csv": b"good"}, read))
    arguments = ["--examples=30", "--readers", "csv", "--out", str(tmp_path / "made" / "found.json")]
    with pytest.raises(SystemExit) as caught:
        damaged_files.main(arguments)
    assert caught.value.code == 1
    written = json.loads((tmp_path / "made" / "found.json").read_text())
    found = written["readers"]["csv"]
    assert found["crashed"] + found["refused"] == 30
    (place,) = found["wrong"].values()
    assert place["count"] == found["crashed"] > 0
    assert "KeyError" in capsys.readouterr().out
    again = ["--first", str(place["examples"][0]), "--examples=1", *arguments[1:]]
    with pytest.raises(SystemExit):
        damaged_files.main(again)
    assert json.loads((tmp_path / "made" / "found.json").read_text())["readers"]["csv"]["crashed"] == 1
    with pytest.raises(SystemExit) as caught:
        damaged_files.main(["--readers", "spreadsheets"])
    assert caught.value.code == 2
    assert "--readers has 'spreadsheets'; expected some of characters" in capsys.readouterr().err
