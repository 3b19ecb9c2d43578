"""Sentiment as its user meets it: what a run leaves behind, what it can learn, sentences of one's own, nonsense."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from data_sets import needs

pytest.importorskip("tyro", reason="the experiments extra is not installed")
pytest.importorskip("grain", reason="the data extra is not installed")

from experiments import sentiment
from experiments.common.run import open_finished
from experiments.sentiment import Config, build, encode, make_loss, make_unfold, naive_bayes, start
from jrnn.data import Vocabulary, bucketed

pytestmark = pytest.mark.usefixtures("as_a_user")

WORDS = {("", "good"): 1, ("not", "good"): 0, ("", "bad"): 0, ("not", "bad"): 1}
FILLERS = "the film is a story with some actors and music in it that i saw".split()  # noqa: SIM905


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    """Sentences whose words say nothing one by one: only 'not' before 'good' or 'bad' does."""
    generator = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "reviews.txt"
    lines = []
    for _ in range(500):
        (negation, word), label = list(WORDS.items())[generator.integers(4)]
        before, after = (generator.choice(FILLERS, generator.integers(4)) for _ in range(2))
        # Each has a 'not' and a 'good' or a 'bad', together or apart.
        words = [*before, negation, word, *after] if negation else ["not", *before, "the", word, *after]
        lines.append(f"{label} {' '.join(words)}\n")
    path.write_text("".join(lines))
    return path


def run(capsys, *arguments):
    sentiment.main([str(argument) for argument in arguments])
    return capsys.readouterr().out


def fails(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        run(capsys, *arguments)
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return " ".join(said.replace("│", " ").split())


@pytest.fixture(scope="module")
def finished(reviews, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    options = ["--hidden=16", "--embedding=16", "--epochs=12", "--learning-rate=0.02", "--dropout=0.1"]
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        sentiment.main(["--data", str(reviews), "--out", str(out), "--word-dropout=0.05", *options])
    return out


def opened(out):
    run, config = open_finished(out, sentiment.NAME, Config)
    vocabulary = Vocabulary(tuple(run.read(sentiment.VOCABULARY)))
    model = build(config, vocabulary, 2)
    return config, vocabulary, model, model.init(jax.random.key(1))


# --- a run ------------------------------------------------------------------------------------------------------------


def test_what_a_run_leaves_behind(finished):
    found = json.loads((finished / "result.json").read_text())
    assert found["metrics"]["split"].startswith("test fold 0 of 10")
    assert found["metrics"]["published"] is None
    assert len(found["metrics"]["records"]) == 12
    assert found["floors"].keys() == {"naive Bayes valid", "naive Bayes test", "most frequent label"}
    for picture in ("curves.png", "unfolding.png", "confusion.png"):
        assert (finished / picture).read_bytes().startswith(b"\x89PNG")
    best = min(record["valid"] for record in found["metrics"]["records"])
    assert found["metrics"]["accuracy"]["valid"] == pytest.approx(1 - best)


def test_it_learns_what_no_count_of_words_tells(finished):
    found = json.loads((finished / "result.json").read_text())
    assert found["metrics"]["accuracy"]["test"] > 0.9
    assert found["floors"]["naive Bayes test"] < 0.7


def test_smoke_on_real_data(data_dir, tmp_path, capsys):
    needs(data_dir, "sst")
    said = run(capsys, "--smoke", "--corpus", "sst2", "--data-dir", data_dir, "--out", tmp_path / "run")
    assert "test: " in said
    found = json.loads((tmp_path / "run" / "result.json").read_text())
    assert found["metrics"]["split"].startswith("official, all phrases")


# --- the pieces -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "bidirectional", "classes"),
    [("last", True, 2), ("mean", False, 3), ("max", True, 2), ("attention", True, 7)],
)
def test_unfolding_is_the_classifier_on_each_beginning(how, bidirectional, classes):
    vocabulary = Vocabulary.build([FILLERS])
    config = Config(pooling=how, bidirectional=bidirectional, hidden=4, embedding=3)
    model = build(config, vocabulary, classes)
    params = model.init(jax.random.key(0))
    words = vocabulary.encode(FILLERS[:5])
    probabilities = jax.jit(lambda params, words: jax.nn.softmax(model.apply(params, words)))
    alone = [probabilities(params, np.asarray(words[:end])) for end in range(1, 6)]
    np.testing.assert_allclose(make_unfold(model, params, vocabulary)(FILLERS[:5]), alone, rtol=1e-5)


def test_words_are_hidden_in_training_alone(finished):
    config, vocabulary, model, params = opened(finished)
    examples = encode(sentiment.Part([FILLERS[:4], ["good", "film"]], [1, 0]), vocabulary)
    (batch,) = bucketed(examples, batch=2, shapes=1)
    plain = model.loss(params, batch.data.words, batch.data.label, lengths=batch.lengths).value
    assert make_loss(model, 0.9)(params, batch, None).value == plain
    without = build(Config(dropout=0.0, hidden=config.hidden, embedding=config.embedding), vocabulary, 2)
    key = jax.random.key(2)
    np.testing.assert_allclose(make_loss(without, 0.0)(params, batch, key).value, plain, rtol=1e-6)
    unknown = model.loss(params, jnp.ones_like(batch.data.words), batch.data.label, lengths=batch.lengths).value
    np.testing.assert_allclose(make_loss(without, 1.0)(params, batch, key).value, unknown, rtol=1e-6)


def test_naive_bayes_counts_words():
    train = sentiment.Part([["good", "film"], ["good"], ["bad", "film"], ["bad"]], [1, 1, 0, 0])
    assert naive_bayes(train, sentiment.Part([["good", "unseen"], ["bad", "bad"]], [1, 0])) == 1
    assert naive_bayes(train, sentiment.Part([["good"], ["bad"]], [0, 0])) == 0.5


def test_the_most_frequent_label_of_training():
    train = sentiment.Part([["a"]] * 6, [1, 1, 2, 0, 1, 2])
    assert sentiment.most_frequent(train, sentiment.Part([["a"]] * 4, [1, 0, 1, 1])) == 0.75


# --- any labels -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    """A file to train on and one to test on, with labels in COARSE:fine form; what is asked for is told by one word."""
    folder = tmp_path_factory.mktemp("questions")
    words = {"NUM:date": "When", "NUM:count": "Many", "HUM:ind": "Who", "LOC:city": "Where", "ABBR:exp": "CPR"}
    generator = np.random.default_rng(0)
    for name, count in (("train", 300), ("test", 40)):
        rows = [list(words.items())[n % 5] for n in range(count)]
        lines = [f"{label} {' '.join(generator.permutation([word, *FILLERS[:5]]))}\n" for label, word in rows]
        (folder / name).write_text("".join(lines) + ("ENTY:other never seen\nHUM:ind\n" if name == "test" else ""))
    return folder


@pytest.fixture(scope="module")
def sorted_questions(questions, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "questions"
    options = [
        "--hidden=8",
        "--embedding=8",
        "--epochs=6",
        "--learning-rate=0.03",
        "--dropout=0",
        "--batch=20",
        "--coarse",
    ]
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        files = ["--data", str(questions / "train"), "--test", str(questions / "test")]
        sentiment.main([*files, "--out", str(out), "--word-dropout=0", *options])
    return out


def test_it_learns_several_labels_and_is_tested_on_a_file(sorted_questions):
    found = json.loads((sorted_questions / "result.json").read_text())
    assert 0.9 < found["metrics"]["accuracy"]["test"] < 40.5 / 41  # not the label never seen
    assert found["floors"]["most frequent label"] == pytest.approx(16 / 41)
    assert found["metrics"]["split"].startswith("a test file of its own, validation fold 0 of 10")
    for picture in ("curves.png", "unfolding.png", "confusion.png"):
        assert (sorted_questions / picture).read_bytes().startswith(b"\x89PNG")


def test_score_names_the_labels(sorted_questions, capsys):
    said = run(capsys, "score", "--run", sorted_questions, "Where the film is?").splitlines()
    assert said[0] == "likeliest label, after each word"
    assert [line.split()[2] for line in said[1:6]] == ["LOC"] * 5
    assert [line.split()[-1] for line in said[1:5]] == ["Where", "the", "film", "is"]
    names = [part.split(":")[0] for part in said[-1].split("; ")]
    assert names[0] == "LOC"
    assert len(set(names)) == 3
    assert set(names) < {"NUM", "HUM", "LOC", "ABBR", "ENTY"}


def test_what_is_left_out_or_cannot_be_right_is_said(questions, tmp_path, capsys):
    files = ["--data", questions / "train", "--test", questions / "test", "--coarse"]
    said = run(capsys, "--smoke", *files, "--out", tmp_path / "run")
    assert "1 lines without words are left out" in said
    assert "1 sentences to test on have labels never seen in training, and count as wrong: ENTY" in said


# --- score ------------------------------------------------------------------------------------------------------------


def test_score_shows_every_word(finished, tmp_path, capsys):
    picture = tmp_path / "unfolding.png"
    options = ("--run", finished, "The film is not bad, zorkmid", "--picture", picture)
    said = run(capsys, "score", *options).splitlines()
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert [line.split()[-1] for line in said[1:6]] == ["the", "film", "is", "not", "bad"]
    assert ["not a known word" in line for line in said[1:8]] == [False] * 5 + [True] * 2
    assert len(said) == 9
    end = float(said[-2].split()[0])
    assert said[0] == "likely to be 1, after each word"
    assert said[-1] == (f"1: {end:.1f} %" if end > 50 else f"0: {100 - end:.1f} %")


def test_score_explains_what_is_wrong(finished, tmp_path, capsys):
    assert "is not a run directory" in fails(capsys, "score", "--run", "nowhere", "good")
    assert "the sentence is ' ', without a word" in fails(capsys, "score", "--run", finished, " ")
    shutil.copytree(finished, tmp_path / "before")
    (tmp_path / "before" / "classes.json").unlink()
    assert "classes.json is not there; expected a run of sentiment of this version" in fails(
        capsys, "score", "--run", tmp_path / "before", "good"
    )
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"name": "char_lm"}')
    assert "is not a run of sentiment" in fails(capsys, "score", "--run", tmp_path / "other", "good")


# --- nonsense ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--fold=10"], "fold is 10; expected 0 to 9"),
        (["--dropout=2"], "--dropout is 2.0; expected a share in [0, 1)"),
        (["--word-dropout=1"], "--word-dropout is 1.0; expected a share"),
        (["--min-count=0"], "--min-count is 0; expected at least 1"),
        (["--hidden=0"], "--hidden is 0; expected at least 1"),
        (["--data=nowhere.txt"], "nowhere.txt does not exist"),
        (["--data=bad.txt"], "bad.txt has 2 sentences; expected at least 10"),
        (["--test=nowhere.txt"], "nowhere.txt does not exist"),
        (["--test=bad.txt"], "bad.txt has none of the labels of"),
        (["--vectors=nowhere.txt"], "file nowhere.txt does not exist; expected a text file of word vectors"),
        (["--vectors=vectors.txt"], "vectors.txt:1: a vector of 2 numbers; expected 128"),
    ],
)
def test_bad_options_and_files_leave_no_run_behind(reviews, tmp_path, capsys, options, message):
    (tmp_path / "bad.txt").write_text("neg bad\ngood film\n")
    (tmp_path / "vectors.txt").write_text("film 1 2\n")
    assert message in fails(capsys, "--data", reviews, "--out", tmp_path / "run", *options)
    assert not (tmp_path / "run").exists()


def test_training_starts_from_vectors(tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text("film 1 2 3\nunseen 1 1 1\n")
    vocabulary = Vocabulary.build([FILLERS])
    config = Config(hidden=4, embedding=3, vectors=path)
    model = build(config, vocabulary, 2)
    params, random = start(model, config, vocabulary), start(model, Config(), vocabulary)
    row = int(vocabulary.encode(["film"])[0])
    changed = np.any(params.layer[0].vectors != random.layer[0].vectors, -1)
    np.testing.assert_array_equal(params.layer[0].vectors[row], [1, 2, 3])
    assert np.flatnonzero(changed).tolist() == [row]
