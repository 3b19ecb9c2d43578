"""Several tunes written at a time, to new files alone, in metres and keys as people write them; bits beside nats."""

import json
import math

import jax
import pytest

pytest.importorskip("tyro", reason="the experiments extra is not installed")
pytest.importorskip("music21", reason="the music extra is not installed")

from experiments import tunes
from experiments.data import abc_notation

pytestmark = pytest.mark.usefixtures("as_a_user")

TUNES = "".join(
    f"X:{n}\nT:Tune {n}\nM:{'C' if n % 2 else '6/8'}\nL:1/8\nK:{'E minor' if n % 2 else 'D'}\n{'abc def|' * (n % 5 + 1)}"
    f"{'d' * n}|]\n\n"
    for n in range(1, 31)
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tunes")
    (folder / "own.abc").write_text(TUNES)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # as a user has it
        tunes.main(["--smoke", "--files", str(folder), "--out", str(folder / "run")])
    return folder / "run"


def test_bits_are_nats_in_another_unit(finished):
    metrics = json.loads((finished / "result.json").read_text())["metrics"]
    for part in ("valid", "test"):
        assert metrics["bits_per_character"][part] * math.log(2) == pytest.approx(metrics["nats_per_character"][part])


def test_several_tunes(finished, tmp_path, capsys, monkeypatch):
    options = ["write", "--run", str(finished), "--seed", "3", "--count", "3", "--length", "60", "--out"]
    made = []
    monkeypatch.setattr(tunes.scores, "parse", lambda document: document)
    monkeypatch.setattr(tunes.scores, "write_midi", lambda path, score: made.append((path.name, score)))
    tunes.main([*options, str(tmp_path / "some.abc")])
    text = (tmp_path / "some.abc").read_text()
    assert capsys.readouterr().out.startswith(text)
    assert [line for line in text.splitlines() if line.startswith(("X:", "T:"))] == [
        part for n in (1, 2, 3) for part in (f"X:{n}", f"T:Tune of seed 3, number {n}")
    ]
    assert [name for name, _ in made] == ["some-1.mid", "some-2.mid", "some-3.mid"]
    assert len({document for _, document in made}) == 3
    assert all(len(document) <= 60 for _, document in made)


def test_no_file_is_overwritten(finished, tmp_path, capsys):
    (tmp_path / "tune-2.mid").write_text("kept")
    with pytest.raises(SystemExit) as caught:
        tunes.main(["write", "--run", str(finished), "--count", "2", "--out", str(tmp_path / "tune.abc")])
    assert caught.value.code == 2
    assert "tune-2.mid exists, and nothing is overwritten: choose another name" in capsys.readouterr().err
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("tune-2.mid", "kept")]
    with pytest.raises(ValueError, match="none is not a folder: make it, or choose another"):
        tunes.midi_files(tmp_path / "none" / "tune.abc", 1)
    assert tunes.midi_files(tmp_path / "new.abc", 1) == [tmp_path / "new.mid"]


def test_metres_and_keys_as_people_write_them():
    known = [["4/4", "Em", 2], ["6/8", "D", 1]]
    assert tunes.asked(known, "C", "E minor", 0) == "M:4/4\nK:Em\n"
    assert tunes.asked(known, "C", None, 0) == "M:4/4\nK:"
    with pytest.raises(ValueError, match="--key is 'H', which the training tunes do not have; they have Em, D"):
        tunes.asked(known, None, "H", 0)
    assert abc_notation.metre_of("C") == "4/4"
