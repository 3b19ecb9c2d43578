"""Translation: a run from end to end, what it leaves, and what it translates afterwards."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("tyro", reason="the experiments extra is not installed")
pytest.importorskip("sacrebleu", reason="the translation extra is not installed")
pytest.importorskip("sacremoses", reason="the translation extra is not installed")

from experiments import translation
from experiments.common import text_scores
from experiments.translation import Config, make_translator
from experiments.translations import trees
from jrnn.data import Vocabulary

pytestmark = pytest.mark.usefixtures("as_a_user")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A tiny run on a text of one's own."""
    folder = tmp_path_factory.mktemp("translation")
    colours = {"rot": "red", "blau": "blue", "alt": "old", "neu": "new"}
    things = {"Haus": "house", "Tor": "gate", "Boot": "boat"}
    pairs = [(f"Das {t} ist {c}.", f"The {things[t]} is {colours[c]}.") for c in colours for t in things]
    (folder / "a.de").write_text("".join(f"{a}\n" for a, _ in pairs * 3))
    (folder / "a.en").write_text("".join(f"{b}\n" for _, b in pairs * 3))
    options = [
        "--smoke",
        "--files",
        str(folder / "a.de"),
        str(folder / "a.en"),
        "--rare",
        "1",
        "--out",
        str(folder / "run"),
    ]
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # as a user has it
        translation.main(options)
    return folder


def said(capsys, *arguments):
    translation.main(["translate", *map(str, arguments)])
    return capsys.readouterr().out


def test_what_a_run_leaves_behind(finished):
    found = json.loads((finished / "run" / "result.json").read_text())["metrics"]["test"]
    assert 0 <= found["exact"] <= 100
    assert "tok:none" in found["tokenised signature"]
    assert "tok:13a" in found["default signature"]
    for picture in ("curves.png", "attention.png"):
        assert (finished / "run" / picture).read_bytes().startswith(b"\x89PNG")


def test_what_was_trained_translates(finished, tmp_path, capsys):
    options = ["--run", finished / "run", "Das Haus ist gelb.", "Tor"]
    text = said(capsys, *options, "--beams", "3", "--tree", tmp_path / "t.png", "--attention", tmp_path / "a.png")
    assert "never seen in training: gelb" in text
    lines = [line for line in text.splitlines() if line[:7].strip().startswith("-")]
    values = [float(line[:7]) for line in lines]
    assert len(values) == 6
    assert values[:3] == sorted(values[:3], reverse=True)
    for picture in ("t.png", "a.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")
    assert len(said(capsys, *options).splitlines()) == 3


def fails(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        translation.main([*map(str, arguments)])
    assert caught.value.code == 2
    return capsys.readouterr().err


def test_requests_that_cannot_be_met(finished, capsys):
    run = finished / "run"
    assert "sentence 2 is empty; expected at least one word" in fails(capsys, "translate", "--run", run, "Das", " ")
    assert "is not a run directory" in fails(capsys, "translate", "--run", finished, "Das")
    assert "source and target are both" in fails(capsys, "--languages", "de", "de", "--out", finished / "other")
    assert not (finished / "other").exists()


WORDS = (
    Vocabulary(("<pad>", "<unk>", "<start>", "<end>", "a", "b")),
    Vocabulary(("<pad>", "<unk>", "<start>", "<end>", "x", "y")),
)


def made(**options):
    config = Config(hidden=6, embedding=4, dropout=0.0, **options)
    translator = make_translator(config, WORDS)
    return translator, translator.model.init(jax.random.key(0))


def test_an_unknown_word_is_the_one_it_looked_at():
    """A model that always says the unknown word, then the end."""
    translator, params = made()
    bias = jnp.array([-99.0, 9, -99, 8, -99, -99])
    params = params._replace(decoder=params.decoder._replace(b=bias))
    (((words, _),),) = translator.translate(params, [["strange", "words", "here"]], beams=1)
    assert words
    assert set(words) <= {"strange", "words", "here"}


@pytest.mark.parametrize("attention", ["general", "dot", "none"])
def test_every_attention_translates_and_stops(attention):
    translator, params = made(attention=attention, layers=2)
    found = translator.translate(params, [["a"], ["b", "a", "b", "b"], ["a", "a"]], beams=2, best=2)
    assert [len(one) for one in found] == [2, 2, 2]
    assert all(len(words) <= 20 for one in found for words, _ in one)
    assert (translator.weights(params, np.array([4, 5]), np.array([4, 3])) is None) == (attention == "none")


def test_scores_by_hand():
    right = [["a", "b", "c", "d"], ["e", "f", "g", "h"]]
    assert text_scores.exact([right[0], ["e"]], right) == 0.5
    texts = [" ".join(one) for one in right]
    assert text_scores.bleu(right, right, texts, texts)["tokenised"] == pytest.approx(100)
    half = [["a", "b", "c", "x"], ["e", "f", "g", "h"]]
    # precisions 7/8, 5/6, 3/4, 1/2 of one to four words, no penalty for length
    by_hand = 100 * (7 / 8 * 5 / 6 * 3 / 4 * 1 / 2) ** 0.25
    assert text_scores.bleu(half, right, texts, texts)["tokenised"] == pytest.approx(by_hand)


def test_no_picture_is_overwritten(finished, tmp_path, capsys):
    (tmp_path / "a.png").write_text("mine")
    with pytest.raises(SystemExit) as caught:
        translation.main(["translate", "--run", str(finished), "zwei", "--attention", str(tmp_path / "a.png")])
    assert caught.value.code == 2
    assert "--attention is" in capsys.readouterr().err
    assert (tmp_path / "a.png").read_text() == "mine"


def test_a_tree_of_one_hypothesis(tmp_path):
    trees.draw(tmp_path / "tree.png", [(["one"], -0.1)])
    assert (tmp_path / "tree.png").read_bytes().startswith(b"\x89PNG")
