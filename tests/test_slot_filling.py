"""Slot filling as its user meets it: runs, a demo, utterances of one's own, errors."""

import hashlib
import json

import pytest

pytest.importorskip("tyro", reason="the experiments extra is not installed")
pytest.importorskip("seqeval", reason="the experiments extra is not installed")

from experiments import slot_filling
from experiments.data import atis
from experiments.data.atis import Utterance

pytestmark = pytest.mark.usefixtures("as_a_user")


# --- a user's runs ----------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """A data folder with a small ATIS of its own."""
    monkeypatch.delenv("JRNN_DATA", raising=False)
    cities = ["boston", "denver", "dallas", "oakland", "san francisco", "st. paul"]
    lines = []
    for number, city in enumerate(cities * 3):
        name = " ".join(["B-toloc.city_name", *["I-toloc.city_name"] * city.count(" ")])
        lines.append(f"BOS arrive in {city} at {number} pm EOS\tO O O {name} O B-time I-time atis_flight")
        lines.append(f"BOS leave {city} EOS\tO O {name.replace('toloc', 'fromloc')} atis_flight#atis_airfare")
        lines.append("BOS what is ff EOS\tO O O B-code atis_abbreviation")
    content = "\n".join(lines).encode()
    for part, file in atis._FILES.items():
        monkeypatch.setitem(atis._FILES, part, file._replace(sha256=hashlib.sha256(content).hexdigest()))
        path = tmp_path / "data" / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "data"


def run(*arguments):
    slot_filling.main([*map(str, arguments)])


def fails(capsys, *arguments):
    """The sentence that a user's mistake gives: on stderr, with exit status 2."""
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert caught.value.code == 2
    return capsys.readouterr().err


@pytest.fixture
def own(tmp_path):
    """Utterances of one's own, in the three parts, as SNIPS comes."""
    songs = ["Yesterday", "Blue Moon", "So What", "Take Five"]
    lines = [
        (f"play {song} please", " ".join(["O", "B-song", *["I-song"] * song.count(" "), "O"]), "PlayMusic")
        for song in songs
    ]
    lines += [(f"rate it {n}", "O O B-rating", "RateBook") for n in range(5)]
    for part in ("train", "dev", "test"):
        (tmp_path / "mine" / part).mkdir(parents=True)
        for name, column in zip(("seq.in", "seq.out", "label"), zip(*lines)):
            (tmp_path / "mine" / part / name).write_text("".join(f"{one}\n" for one in column))
    return tmp_path / "mine"


def test_utterances_of_ones_own(own, tmp_path, capsys):
    run("--smoke", "--data", own, "--out", tmp_path / "run")
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert set(result["metrics"]) >= {"test", "held out"}
    assert not {"published", "test, every city unknown"} & set(result["metrics"])
    assert result["floors"]["most frequent, intent"] == pytest.approx(100 * 5 / 9)
    assert "target" not in capsys.readouterr().out
    run("demo", "--run", tmp_path / "run", "play So What")
    assert "so what" in capsys.readouterr().out


def test_the_parts_of_ones_own_are_what_the_files_say(own):
    found = atis.load_folder(own)
    assert found.train == found.valid == found.test
    assert found.train[1] == Utterance(("play", "blue", "moon", "please"), ("O", "B-song", "I-song", "O"), "PlayMusic")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("label", "PlayMusic\n", r"train/label has 1 lines and .*train/seq.in 9; expected as many"),
        ("seq.in", "\n" * 9, r"train:1: seq.in is empty; expected an utterance: remove the line"),
        ("label", "\n" * 9, r"train:1: the intent is empty"),
        ("seq.out", "O\n" * 9, r"train:1: 3 words, but 1 slots; expected one for each"),
        ("seq.out", "O song O\n" * 9, r"train:1: the label of 'yesterday' is 'song'; expected O, B-slot or I-slot"),
        ("label", None, r"train/label does not exist; expected words in seq.in"),
    ],
)
def test_files_of_ones_own_that_do_not_fit(own, capsys, name, content, words):
    path = own / "train" / name
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        atis.load_folder(own)
    assert "error: " in fails(capsys, "--smoke", "--data", own)


def test_a_run_and_a_demo_of_it(folder, tmp_path, capsys):
    run("--smoke", "--data-dir", folder)
    (directory,) = (tmp_path / "runs" / "slot_filling").iterdir()
    result = json.loads((directory / "result.json").read_text())
    assert set(result["metrics"]["test"]) == {"slots", "intent", "intent, any"}
    assert all(0 <= value <= 100 for value in result["metrics"]["test"].values())
    assert "of the training part" in result["metrics"]
    assert result["floors"]["most frequent, intent"] == pytest.approx(100 / 3)
    assert result["config"]["epochs"] == slot_filling.Config.SMOKE["epochs"]
    for picture in ("curves.png", "sentences.png"):
        assert (directory / picture).read_bytes().startswith(b"\x89PNG")
    said = capsys.readouterr().out
    assert f"span F1 {result['metrics']['test']['slots']:.2f}" in said

    run("demo", "Arrive in Taipei at 99 pm!", "Leave st. paul")
    said = capsys.readouterr().out
    assert directory.name in said
    assert "arrive in taipei at 99 pm" in said
    assert "leave st. paul" in said
    assert said.count("intent") == 2
    assert "sentence '?!' has no word" in fails(capsys, "demo", "leave boston", "?!")


def test_a_resumed_run_is_scored_alike(folder, tmp_path):
    """Finished already: nothing is left to train, and the same checkpoint gives the same numbers."""
    out = tmp_path / "run"
    options = ("--smoke", "--data-dir", folder, "--out", out, "--model", "elman", "--crf", "--held-out")
    run(*options)
    first = json.loads((out / "result.json").read_text())["metrics"]
    assert "held out" in first
    (out / "result.json").unlink()
    run(*options, "--resume")
    assert json.loads((out / "result.json").read_text())["metrics"] == first


def test_a_comparison_has_every_model_and_goes_on_where_it_stopped(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(slot_filling, "MODELS", {name: slot_filling.MODELS[name] for name in ("jordan", "bi-lstm")})
    out = tmp_path / "runs" / "slot_filling" / "five"
    run("--smoke", "--compare", "--data-dir", folder, "--out", out)
    result = json.loads((out / "result.json").read_text())
    assert list(result["metrics"]["test"]) == ["jordan", "bi-lstm"]
    assert (out / "models.png").read_bytes().startswith(b"\x89PNG")
    said = capsys.readouterr().out
    assert f"{result['metrics']['test']['jordan'][0]['slots']:.2f}" in said

    one = out / "jordan-0" / "result.json"
    changed = json.loads(one.read_text())
    changed["metrics"]["test"]["slots"] = 12.34
    one.write_text(json.dumps(changed))
    run("--resume", "--out", out, "--data-dir", folder)
    assert json.loads((out / "result.json").read_text())["metrics"]["test"]["jordan"][0]["slots"] == 12.34

    assert slot_filling.newest().resolve() == (out / "bi-lstm-0").resolve()


def test_a_demo_says_what_was_never_seen(capsys):
    names = slot_filling.Names.of([Utterance(("to", "boston", "838"), ("O", "B-toloc.city", "B-time"), "a")])
    slot_filling.show(Utterance(("to", "taipei", "757"), ("O", "B-toloc.city", "B-time"), "a"), names)
    said = capsys.readouterr().out.splitlines()
    assert [line.split() for line in said if line.split()[:1] == ["toloc.city"]] == [
        ["toloc.city", "taipei", "destination", "'taipei'", "never", "seen", "in", "training"]
    ]
    assert [line.split() for line in said if line.split()[:1] == ["time"]] == [["time", "757"]]  # 000 was seen


def test_a_demo_without_a_trained_model(capsys):
    assert "no trained model in runs/slot_filling: train one by python -m experiments.slot_filling" in fails(
        capsys, "demo", "leave boston"
    )
    assert "nowhere is not a run directory" in fails(capsys, "demo", "leave boston", "--run", "nowhere")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--window", -1, "--window is -1; expected 0 or more words"),
        ("--hidden", 0, "--hidden is 0; expected at least 1"),
        ("--utterances", 0, "--utterances is 0; expected at least 1"),
        ("--omit-rate", 1.0, "--omit-rate is 1.0; expected a share in [0, 1)"),
    ],
)
def test_bad_options(capsys, option, value, message):
    with pytest.raises(SystemExit) as caught:
        run(option, value)
    assert caught.value.code == 2
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_no_data_leaves_no_run_behind(tmp_path, capsys):
    assert "nowhere, which is not a folder" in fails(
        capsys, "--data-dir", tmp_path / "nowhere", "--out", tmp_path / "run"
    )
    assert not (tmp_path / "run").exists()
