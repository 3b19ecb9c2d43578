"""The word language model: a run from end to end, what it leaves, what it writes and what surprises it afterwards."""

import json
import math

import jax
import numpy as np
import pytest

pytest.importorskip("tyro", reason="the experiments extra is not installed")

from experiments import word_lm
from experiments.data import words
from experiments.language import pictures

pytestmark = pytest.mark.usefixtures("as_a_user")

TEXT = "".join(f"the {a} {b} eats {n} apples .\n" for n, a in enumerate(("old", "big")) for b in ("cat", "dog")) * 40


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A tiny run on a text of one's own; its directory and what it said."""
    folder = tmp_path_factory.mktemp("word_lm")
    (folder / "text.txt").write_text(TEXT)
    options = ["--smoke", "--file", str(folder / "text.txt"), "--batch", "4", "--window", "16", "--out"]
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # as a user has it
        word_lm.main([*options, str(folder / "run")])
    return folder / "run"


@pytest.fixture(scope="module")
def trained(finished):
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return word_lm.open_trained(finished)


def test_what_a_run_leaves_behind(finished):
    found = json.loads((finished / "result.json").read_text())
    config, metrics = found["config"], found["metrics"]
    assert (config["layers"], config["hidden"], config["epochs"], config["dropout"]) == (1, 8, 1, 0.2)
    assert metrics["words"] == {"valid": 16 * 8, "test": 16 * 8}
    assert metrics["records"][-1]["valid"] == pytest.approx(metrics["perplexity"]["valid"], rel=1e-5)
    assert set(found["floors"]) == {"Kneser-Ney 3-gram valid", "Kneser-Ney 3-gram test"}
    # After two words of a line there are two that may follow, and else one.
    assert 1 < found["floors"]["Kneser-Ney 3-gram test"] < 2
    for picture in ("curves.png", "surprise.png"):
        assert (finished / picture).read_bytes().startswith(b"\x89PNG")
    assert (finished / "samples.txt").read_text().count("--- step") == len(metrics["records"])


def test_the_perplexity_is_that_of_every_word_of_one_stream(finished, trained):
    vocabulary, model, params = trained
    ids = words.load(file=finished.parent / "text.txt").test
    state, nats, before = model.initial_state(params), 0.0, vocabulary.index("<eos>")
    step = jax.jit(model.step)
    for token in ids:
        state, logits = step(params, state, np.int32(before))
        nats -= float(jax.nn.log_softmax(logits)[token])
        before = token
    measured = json.loads((finished / "result.json").read_text())["metrics"]["perplexity"]["test"]
    assert measured == pytest.approx(math.exp(nats / len(ids)), rel=1e-4)


def test_embedding_and_output_are_one_matrix(trained):
    vocabulary, _, params = trained
    assert params.w is None
    assert params.embedding.shape == (len(vocabulary), 8)


def said(capsys, *arguments):
    word_lm.main([*map(str, arguments)])
    return capsys.readouterr().out


def test_it_writes_the_likeliest_words_after_the_prompt(finished, trained, capsys):
    options = ["sample", "--run", finished, "--prompt", "The old  Unicorn", "--length", "12", "--temperature", "0"]
    text = said(capsys, *options)
    first, rest = text.split("\n", 1)
    assert first.endswith("read as <unk>: unicorn")
    tokens = rest.replace("\n", " <eos> ").split()
    assert tokens[:3] == ["the", "old", "<unk>"]
    vocabulary, model, params = trained
    ids = words.encode(["<eos>", *tokens], vocabulary)
    _, logits = model.apply(params, ids)
    forbidden = np.asarray(logits).copy()
    forbidden[:, vocabulary.index("<unk>")] = -np.inf
    np.testing.assert_array_equal(forbidden.argmax(-1)[3:15], ids[4:16])


def test_writing_is_seeded(finished, capsys):
    options = ["sample", "--run", finished, "--length", "20", "--top-p", "0.9"]
    assert said(capsys, *options) == said(capsys, *options) != said(capsys, *options, "--seed", "1")


def test_surprise_at_a_text(finished, tmp_path, capsys):
    picture = tmp_path / "surprise.png"
    text = said(capsys, "surprise", "--run", finished, "the $ cat", "--picture", picture)
    *lines, last = text.splitlines()[1:]
    assert [line.split()[-1] for line in lines] == ["the", "<unk>", "cat", "<eos>"]
    bits = [float(line.split()[0]) for line in lines]
    assert float(last.split()[-1]) == pytest.approx(2 ** np.mean(bits), abs=0.2)
    assert picture.read_bytes().startswith(b"\x89PNG")


def fails(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        word_lm.main([*map(str, arguments)])
    assert caught.value.code == 2
    return capsys.readouterr().err


def test_requests_that_cannot_be_met(finished, tmp_path, capsys):
    run = ["--run", finished]
    assert "--prompt is ' '; expected at least one word" in fails(capsys, "sample", *run, "--prompt", " ")
    assert "--length is 0; expected at least 1" in fails(capsys, "sample", *run, "--length", "0")
    assert "temperature is -1.0" in fails(capsys, "sample", *run, "--temperature", "-1")
    assert "the text is ''; expected at least one word" in fails(capsys, "surprise", *run, "")
    assert "is not a run directory" in fails(capsys, "sample", "--run", tmp_path)


def test_texts_that_are_too_small_leave_no_run_behind(tmp_path, capsys):
    (tmp_path / "short").write_text("to be or not to be,\nthat is the question\n")
    (tmp_path / "small").write_text("to be or not to be\n" * 12)
    out = ["--out", tmp_path / "run"]
    assert "expected at least 10, to hold two tenths out" in fails(capsys, "--file", tmp_path / "short", *out)
    assert "lower batch or time, or use a longer text" in fails(capsys, "--file", tmp_path / "small", *out)
    assert not (tmp_path / "run").exists()


def test_a_size_sets_what_is_not_given():
    config = word_lm.Config(size="medium", hidden=100).resolved()
    assert (config.layers, config.hidden, config.dropout, config.epochs) == (2, 100, 0.5, 40)


def test_whole_lines_at_the_beginning():
    ids = np.array([3, 0, 4, 5, 0, 6, 6, 6])
    assert word_lm.beginning(ids, 0) == 5
    assert word_lm.beginning(ids, 0, most=4) == 2
    assert word_lm.beginning(ids, 9, most=4) == 4
    assert word_lm.beginning(ids, 9) == 8


def test_a_picture_breaks_lines_and_takes_any_mark(tmp_path):
    tokens = ["a" * 50, "$x$", "b" * 50, "<eos>", "^_\\frac{", "<eos>"]
    pictures.surprise(tmp_path / "s.png", tokens, np.arange(6.0), end="<eos>", title="t")
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")
