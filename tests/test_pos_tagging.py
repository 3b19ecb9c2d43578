"""Part-of-speech tagging as its user meets it: a treebank of one's own, what a run leaves behind, tagging, nonsense."""

import io
import json
import random
import re

import jax
import numpy as np
import pytest

pytest.importorskip("tyro", reason="the experiments extra is not installed")
pytest.importorskip("conllu", reason="the experiments extra is not installed")

from rich.console import Console

from experiments import pos_tagging
from experiments.common import supervised
from experiments.data.treebank import PARTS, TAGS, Sentence
from experiments.tags import pictures
from jrnn.data import bucketed

pytestmark = pytest.mark.usefixtures("as_a_user")

LEXICON = {
    "DET": ["the", "a"],
    "ADJ": ["old", "small", "extraordinarily-tired"],
    "NOUN": ["man", "boat", "dog"],
    "VERB": ["sees", "moors"],
    "PROPN": ["Mary", "Oslo", "UNESCO"],
    "PUNCT": [".", "!"],
}
PATTERNS = ["DET NOUN VERB DET ADJ NOUN PUNCT", "PROPN VERB PROPN PUNCT", "PROPN VERB", "NOUN"]


def sentences(seed, count):
    draw = random.Random(seed)
    for _ in range(count):
        tags = draw.choice(PATTERNS).split()
        yield Sentence([draw.choice(LEXICON[tag]) for tag in tags], tags)


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bank")
    for seed, part in enumerate(PARTS):
        rows = [
            "".join(f"{n}\t{word}\t_\t{tag}" + "\t_" * 6 + "\n" for n, (word, tag) in enumerate(zip(*sentence), 1))
            for sentence in sentences(seed, 60)
        ]
        unseen = "1\tPeru\t_\tPROPN" + "\t_" * 6 + "\n"
        (folder / f"xx_toy-ud-{part}.conllu").write_text("\n".join(rows + [unseen] * (part == "test")) + "\n")
    return folder


@pytest.fixture(scope="module")
def run(bank, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        pos_tagging.main(["--smoke", "--treebank", str(bank), "--out", str(out), "--crf"])
    return out


def result(out):
    return json.loads((out / "result.json").read_text())


def fails(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        pos_tagging.main([str(argument) for argument in arguments])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    return said


def test_what_a_run_leaves_behind(run):
    found = result(run)
    metrics = found["metrics"]
    assert found["config"]["crf"] is True
    assert metrics["published"] == []  # those are of EWT
    assert (metrics["test"]["words_unseen"], metrics["dev"]["words_unseen"]) == (1, 0)
    assert metrics["dev"]["accuracy_unseen"] is None
    assert 100 * (1 - metrics["dev"]["accuracy"]) == pytest.approx(min(r["valid"] for r in metrics["records"]))
    assert set(metrics["test"]["f1"]) == set(LEXICON)
    words = metrics["test"]["words"]
    assert found["floors"] == {"dev": 1, "test": (words - 1) / words}  # each word has one tag, and Peru was never seen
    for picture in ("sentences.png", "confusion.png", "curves.png"):
        assert (run / picture).read_bytes().startswith(b"\x89PNG")


def test_a_finished_run_tags_a_sentence(run, monkeypatch):
    pytest.importorskip("nltk", reason="the english extra is not installed")
    written = io.StringIO()
    monkeypatch.setattr(pos_tagging, "console", Console(file=written, width=100))
    pos_tagging.main(["tag", "--run", str(run), 'Mary can\'t see "the old" man.'])
    words, tags = (line.split() for line in written.getvalue().splitlines()[:2])
    assert words == ["Mary", "ca", "n't", "see", '"', "the", "old", '"', "man", "."]
    assert len(tags) == len(words)
    assert set(tags) <= set(TAGS)


def test_the_default_needs_no_download(isolated, tmp_path, monkeypatch, capsys):
    """A run with neither folder nor network, and what goes on with it, wherever a folder is by then."""
    pytest.importorskip("pycantonese", reason="the cantonese extra is not installed")
    said = io.StringIO()
    monkeypatch.setattr(pos_tagging, "console", Console(file=said, width=100))
    pos_tagging.main(["--smoke", "--out", "run"])
    found = result(tmp_path / "run")
    assert found["config"]["data"] == "hkcancor"
    assert found["metrics"]["published"] == []
    assert 0.5 < found["floors"]["test"] < 1
    assert "HKCanCor: 100 train, 100 dev, 100 test sentences" in said.getvalue()
    assert "target" not in said.getvalue()

    monkeypatch.setenv("JRNN_DATA", "nowhere")
    assert "--data is ewt (the run has hkcancor)" in fails(capsys, "--resume", "--out", "run", "--data", "ewt")
    pos_tagging.main(["--resume", "--out", "run"])
    assert result(tmp_path / "run")["metrics"] == found["metrics"]
    said.truncate(0)
    pos_tagging.main(["tag", "--run", "run", "你係香港人？"])
    assert said.getvalue().strip("\0").splitlines()[0].split() == ["你", "係", "香港人", "?"]


def test_a_folder_of_data_means_the_treebank_in_it(isolated, monkeypatch, tmp_path, capsys):
    assert pos_tagging.Config().resolved().data == "hkcancor"
    assert pos_tagging.Config(data="ewt").resolved().data == "ewt"
    assert pos_tagging.Config(treebank=tmp_path).resolved().data is None
    in_folder = pos_tagging.Config(data_dir=tmp_path)
    assert in_folder.resolved().data == "ewt"
    assert "ud_english_ewt/en_ewt-ud-train.conllu was not found" in fails(capsys, "--data-dir", tmp_path)
    monkeypatch.setenv("JRNN_DATA", str(tmp_path))
    assert pos_tagging.Config().resolved().data == "ewt"
    assert pos_tagging.Config(data="hkcancor").resolved().data == "hkcancor"


def test_published_results_are_those_of_ewt(bank, tmp_path, monkeypatch):
    """The toy stands for EWT: it is the name of what is read that decides."""
    toy = pos_tagging.treebank.load(bank)
    monkeypatch.setattr(pos_tagging.treebank, "load", lambda folder, data_dir: toy)
    pos_tagging.main(["--smoke", "--data", "ewt", "--out", "run"])
    assert result(tmp_path / "run")["metrics"]["published"] == pos_tagging.PUBLISHED


def test_tags_are_those_of_the_model():
    """A sentence gets the same tags among others, and alone with its most likely ones picked by hand."""
    train = list(sentences(0, 60))
    known = pos_tagging.vocabularies(train)
    model = pos_tagging.build(pos_tagging.Config(hidden=4, words=3, spelling=2), known)
    params = model.init(jax.random.key(3))
    examples = [pos_tagging.encode(sentence, known) for sentence in train[:9]]
    decode = pos_tagging.make_decode(model)
    together = supervised.predict(decode, params, bucketed(examples, batch=4, shapes=1), time=True)
    place = max(range(9), key=lambda i: len(examples[i].words))
    spelled = pos_tagging.Spelled(examples[place].words, examples[place].characters)
    logits = jax.jit(model.apply)(params, spelled)
    np.testing.assert_array_equal(together[place], logits.argmax(-1))
    assert [len(tags) for tags in together] == [len(example.words) for example in examples]


def test_words_are_known_in_lower_case_and_spelled_as_written():
    known = pos_tagging.vocabularies([Sentence(["The", "the", "extraordinarily-tired"], ["DET", "DET", "ADJ"])])
    the, lower, long, new = pos_tagging.encode(
        Sentence(["The", "the", "extraordinarily-tired", "Zebra"], ["DET", "DET", "ADJ", "NOUN"]), known
    ).characters
    words = pos_tagging.encode(Sentence(["THE", "zebra"], ["DET", "NOUN"]), known).words
    assert known.words.decode(words) == ["the", "<unk>"]
    assert "".join(known.characters.decode(the[:3])) == "The"
    assert "".join(known.characters.decode(lower[:3])) == "the"
    assert the[3:].tolist() == [0] * (pos_tagging.SPELLED - 3)
    assert "".join(known.characters.decode(long)) == "extraor" + "y-tired"
    assert known.characters.decode(new[:5]) == ["<unk>", "e", "<unk>", "r", "a"]


def test_rare_words_are_taken_for_unknown_in_training_alone():
    """With all words forgotten the loss is that of a sentence of unknown words; without a key none is."""
    train = list(sentences(0, 20))
    known = pos_tagging.vocabularies(train)
    config = pos_tagging.Config(hidden=4, words=3, spelling=2, dropout=0.0)
    model = pos_tagging.build(config, known)
    params = model.init(jax.random.key(0))
    examples = [pos_tagging.encode(sentence, known) for sentence in train]
    batch = bucketed(examples, batch=4, shapes=1)[0]
    data = batch.data
    unknown = batch._replace(data=data._replace(words=np.where(data.words > 0, 1, 0)))

    def value(rate, batch, key):
        return float(jax.jit(pos_tagging.make_loss(model, examples, rate))(params, batch, key).value)

    key = jax.random.key(1)
    assert value(1e9, batch, key) == pytest.approx(value(0.0, unknown, None), rel=1e-6)
    assert value(0.0, batch, key) == pytest.approx(value(1e9, batch, None), rel=1e-6)
    assert value(0.0, batch, None) != pytest.approx(value(0.0, unknown, None), rel=1e-6)


def test_measures_by_hand():
    truth = [Sentence(["a", "b", "c"], ["DET", "NOUN", "NOUN"]), Sentence(["d"], ["VERB"])]
    guess = [np.array([TAGS.index(tag) for tag in tags]) for tags in (["DET", "NOUN", "DET"], ["X"])]
    found = pos_tagging.measure(guess, truth, seen={"a", "b"})
    assert (found["accuracy"], found["words"]) == (0.5, 4)
    assert (found["accuracy_unseen"], found["words_unseen"]) == (0.0, 2)
    assert found["f1"] == pytest.approx({"DET": 2 / 3, "NOUN": 2 / 3, "VERB": 0.0})


def test_every_tag_has_a_look_and_long_sentences_are_wrapped(tmp_path):
    assert set(pictures.LOOKS) == set(TAGS)
    assert len({look.colour for look in pictures.LOOKS.values()}) == len(TAGS)
    words = [f"word{number}" for number in range(100)]
    lines = pictures._wrapped(pictures.Line(words, ["NOUN"] * 100, ["VERB"] * 100))
    assert [word for line in lines for word in line.words] == words
    assert len(lines) == 7  # 18 words of 5 or 6 characters, with gaps, in a line of 128
    pictures.draw(tmp_path / "picture.png", [pictures.Line(["$5", "x_1"], ["SYM", "X"], ["SYM", "NOUN"])], "a $title")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_bad_treebanks_leave_no_run_behind(bank, tmp_path, capsys):
    out = tmp_path / "run"
    assert "nowhere is no folder" in fails(capsys, "--treebank", "nowhere", "--out", out)
    mine = tmp_path / "mine"
    mine.mkdir()
    for path in bank.iterdir():
        (mine / path.name).write_text(path.read_text().replace("PROPN", "NNP", 1))
    said = fails(capsys, "--treebank", mine, "--out", out)
    assert re.search(r"xx_toy-ud-train\.conllu:\d+: '\w+' has the tag 'NNP'; expected a universal tag", said)
    assert not out.exists()


def test_bad_options(bank, tmp_path, capsys):
    out = tmp_path / "run"
    for options, message in {
        ("--treebank", str(bank), "--dropout", "2"): "--dropout is 2.0; expected a share in [0, 1)",
        ("--data", "hkcancor", "--treebank", "mine"): "--data is hkcancor and --treebank is mine; expected one of them",
        ("--spelling", "0"): "--spelling is 0; expected at least 1",
        ("--unknown", "-1"): "--unknown is -1.0; expected at least 0",
    }.items():
        with pytest.raises(SystemExit) as caught:
            pos_tagging.main([*options, "--out", str(out)])
        assert caught.value.code == 2
        assert message in " ".join(capsys.readouterr().err.split())
        assert not out.exists()


def test_bad_sentences_and_runs(run, tmp_path, capsys):
    pytest.importorskip("nltk", reason="the english extra is not installed")
    assert "the sentence is empty" in fails(capsys, "tag", "--run", run, "  ")
    assert "is not a run directory" in fails(capsys, "tag", "--run", tmp_path, "Hello")
