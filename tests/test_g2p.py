"""Grapheme to phoneme: a run from end to end, what it leaves, what it pronounces afterwards, and every word that it cannot."""

import json

import jax
import numpy as np
import pytest

pytest.importorskip("tyro", reason="the experiments extra is not installed")
pytest.importorskip("rapidfuzz", reason="the pronunciation extra is not installed")

from experiments import g2p
from experiments.common.translator import END, START, examples, middling, vocabulary
from experiments.data.pronunciations import Entry, Pronunciations
from experiments.g2p import Config, check_word, make_translator, thinned

pytestmark = pytest.mark.usefixtures("as_a_user")

SOUNDS = {"a": "AA1", "b": "B", "d": "D", "e": "EH0", "m": "M", "n": "N"}
LETTERS = sorted(SOUNDS)


def dictionary():
    """Words of up to three of six letters, spoken letter by letter."""
    words = [a + b + c for a in LETTERS for b in ["", *LETTERS] for c in ["", *LETTERS]]
    lines = [f"{word} {' '.join(SOUNDS[letter] for letter in word)}" for word in dict.fromkeys(words)]
    return "\n".join(["ad(2) EH2 D", *lines])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A tiny run on a dictionary of one's own."""
    folder = tmp_path_factory.mktemp("g2p")
    (folder / "mine.dict").write_text(dictionary())
    options = ["--smoke", "--file", str(folder / "mine.dict"), "--out", str(folder / "run"), "--seed", "3"]
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # as a user has it
        g2p.main(options)
    return folder


def said(capsys, *arguments):
    g2p.main(["pronounce", *map(str, arguments)])
    return capsys.readouterr().out


def fails(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        g2p.main([*map(str, arguments)])
    assert caught.value.code == 2
    return capsys.readouterr().err


def test_what_a_run_leaves_behind(finished):
    found = json.loads((finished / "run" / "result.json").read_text())
    rates = found["metrics"]["test"]
    assert set(rates) == {"phoneme_error_rate", "word_error_rate"}
    assert 0 <= rates["word_error_rate"] <= 100
    assert rates["phoneme_error_rate"] >= 0
    (record,) = found["metrics"]["records"]
    assert 0 <= record["valid"] <= 100
    assert json.loads((finished / "run" / "config.json").read_text())["seed"] == 3
    letters, phonemes = json.loads((finished / "run" / "vocabularies.json").read_text())
    assert sorted(letters[4:]) == LETTERS
    assert sorted(phonemes[4:]) == ["AA", "B", "D", "EH", "M", "N"]
    for picture in ("curves.png", "attention.png"):
        assert (finished / "run" / picture).read_bytes().startswith(b"\x89PNG")


def test_what_was_trained_pronounces(finished, tmp_path, capsys):
    options = ["--run", finished / "run", "Mad", "bandana"]
    # More hypotheses than there are tokens.
    lines = said(capsys, *options, "--beams", "12", "--attention", tmp_path / "a.png").splitlines()
    assert [line.split()[0] for line in lines] == ["mad"] * 12 + ["bandana"] * 12
    for rows in (lines[:12], lines[12:]):
        scores = [float(row.split()[1]) for row in rows]
        assert scores == sorted(scores, reverse=True)
        every = [tuple(row.split()[2:]) for row in rows]
        assert len(set(every)) == 12
        assert all(set(one) <= {"AA", "B", "D", "EH", "M", "N"} for one in every)
        assert all(1 <= len(one) <= 3 * 7 + 10 for one in every)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    best = [line.split()[1:] for line in said(capsys, *options).splitlines()]
    assert len(best) == 2
    assert all(set(one) <= {"AA", "B", "D", "EH", "M", "N"} for one in best)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mad", " "], "word 2 is empty; expected at least one letter"),
        (["m4d"], "word 1 is 'm4d' with '4', never seen in training; expected letters of abdemn: write numbers as"),
        (["adé-é"], "word 1 is 'adé-é' with 'é', '-', never seen in training"),
        (["Zen"], "word 1 is 'zen' with 'z', never seen in training"),
    ],
)
def test_words_that_cannot_be_pronounced(finished, capsys, words, message):
    assert message in fails(capsys, "pronounce", "--run", finished / "run", *words)


def test_the_names_of_other_tokens_are_no_letters():
    """`<pad>` and its like are in the vocabulary."""
    with pytest.raises(ValueError, match=r"with '<', 'p', '>', never seen .* letters of ad:"):
        check_word("word 1", "<pad>", vocabulary(["ad"]))
    check_word("word 1", "dad", vocabulary(["ad"]))


def test_requests_that_cannot_be_met(finished, tmp_path, capsys):
    assert "is not a run directory" in fails(capsys, "pronounce", "--run", finished, "mad")
    out = ["--smoke", "--out", tmp_path / "run"]
    assert "none.dict does not exist" in fails(capsys, *out, "--file", tmp_path / "none.dict")
    (tmp_path / "bad.dict").write_text("ad AA1 D\nda D XX1\n")
    assert "bad.dict:2: the phoneme 'XX1'; expected ARPAbet's 39" in fails(
        capsys, *out, "--file", tmp_path / "bad.dict"
    )
    assert "--beams is 0; expected at least 1" in fails(capsys, *out, "--beams", "0")
    assert not (tmp_path / "run").exists()


WORDS = vocabulary(["ab"]), vocabulary([["X", "Y"]])


def made(**options):
    translator = make_translator(Config(hidden=6, embedding=4, dropout=0.0, **options), WORDS)
    return translator, translator.model.init(jax.random.key(0))


@pytest.fixture(scope="module")
def endless():
    """A model that never wants to end, nor to say anything but what it must not: padding, the unknown token, the start."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        translator, params = made()
        bias = np.array([9, 9, 9, -99, 1, 0], np.float32)
        return translator, params._replace(decoder=params.decoder._replace(b=bias))


def test_it_stops_where_a_model_would_never_end(endless):
    translator, params = endless
    # A beam wider than the vocabulary.
    for found in translator.translate(params, ["a", "abab"], beams=20, best=20):
        assert len({tuple(words) for words, _ in found}) == 20
        assert all(0 < len(words) <= 3 * 4 + 10 for words, _ in found)
        assert all(set(words) <= {"X", "Y"} for words, _ in found)
        assert all(np.isfinite(score) for _, score in found)


def test_weights_are_shares_of_the_letters(endless):
    translator, params = endless
    ((source, target, weights),) = translator.looked(params, ["abb"], [["X", "Y"]])
    assert source == ["a", "b", "b"]
    assert target == ["X", "Y", "<end>"]
    assert weights.shape == (3, 3)
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-5)


def test_pairs_by_hand():
    ((source, target, length),) = examples(["ba?"], [["Y", "X"]], WORDS)
    np.testing.assert_array_equal(source, [5, 4, 1])
    np.testing.assert_array_equal(target, [START, 5, 4, END])
    assert length == 4
    assert vocabulary(["aab", "c"], min_count=2).tokens == ("<pad>", "<unk>", "<start>", "<end>", "a")
    assert middling(["aaaa", "b", "cc", "ddd"], 1) == [3]


def test_a_smoke_run_takes_words_from_all_over():
    entries = [Entry(f"{a}{b}", (("AA",),)) for a in "abcde" for b in "abcde"]
    found = thinned(Pronunciations("mine", entries, entries[:3], entries), 10)
    assert [len(part) for part in found[1:]] == [9, 3, 9]
    assert found.train[-1].word == "ee"
