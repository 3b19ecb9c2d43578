"""Captions: a run on pictures of one's own from end to end, what it leaves, and what it writes about pictures afterwards."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("tyro", reason="the experiments extra is not installed")
pytest.importorskip("sacrebleu", reason="the translation extra is not installed")

from PIL import Image

from experiments import captioning
from experiments.captioning import Config, build
from experiments.captions.encoder import statistics, varied
from experiments.captions.model import END, START, About
from experiments.captions.writer import Writer
from experiments.common import text_scores
from experiments.data import captions
from jrnn.data import Vocabulary

pytestmark = pytest.mark.usefixtures("as_a_user")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A tiny run on 20 pictures of one colour each, with two captions each."""
    folder = tmp_path_factory.mktemp("captioning")
    (folder / "mine").mkdir()
    lines = []
    for number in range(20):
        name, colour = [("red", (200, 0, 0)), ("blue", (0, 0, 200))][number % 2]
        Image.new("RGB", (20 + number, 30), colour).save(folder / f"mine/{number}.png")
        lines += [f"{number}.png\tA {name} wall.\n", f"{number}.png\tAll of it is {name}\n"]
    (folder / "captions.txt").write_text("".join(lines))
    options = ["--smoke", "--files", str(folder / "mine"), str(folder / "captions.txt"), "--size", "16", "--rare", "1"]
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # as a user has it
        captioning.main([*options, "--beams", "2", "--out", str(folder / "run")])
    return folder


def said(capsys, *arguments):
    captioning.main(["caption", *map(str, arguments)])
    return capsys.readouterr().out


def fails(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        captioning.main([*map(str, arguments)])
    assert caught.value.code == 2
    return capsys.readouterr().err


def test_what_a_run_leaves_behind(finished):
    found = json.loads((finished / "run" / "result.json").read_text())["metrics"]["test"]
    assert found["perplexity"] > 1
    assert found["perplexity of other pictures"] > 1
    assert "nrefs:2" in found["tokenised signature"]
    for picture in ("curves.png", "captions.png", "attention.png"):
        assert (finished / "run" / picture).read_bytes().startswith(b"\x89PNG")


def test_it_writes_about_images_of_any_size_and_mode(finished, tmp_path, capsys):
    Image.new("L", (40, 9), 80).save(tmp_path / "grey.png")
    Image.new("RGBA", (5, 70), (0, 0, 200, 90)).save(tmp_path / "clear.png")
    options = ["--run", finished / "run", tmp_path / "grey.png", tmp_path / "clear.png"]
    lines = said(capsys, *options, "--beams", "2", "--attention", tmp_path / "a.png").splitlines()
    known = {"a", "all", "blue", "is", "it", "of", "red", "wall"}
    assert len(lines) == 4
    for line, name in zip(lines, ("grey", "grey", "clear", "clear"), strict=True):
        path, score, *words = line.split()
        assert path == str(tmp_path / f"{name}.png")
        assert float(score) < 0
        assert set(words) <= known
        assert 1 <= len(words) <= 6  # the longest caption it saw has 5 words, and an end
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert len(said(capsys, *options[:3]).splitlines()) == 1


def test_requests_that_cannot_be_met(finished, tmp_path, capsys):
    run, picture = finished / "run", finished / "mine" / "0.png"
    (tmp_path / "text.png").write_text("no image")
    assert "text.png cannot be read" in fails(capsys, "caption", "--run", run, picture, tmp_path / "text.png")
    assert "nowhere.png does not exist" in fails(capsys, "caption", "--run", run, tmp_path / "nowhere.png")
    expected = "--language is 'de'; expected none: the model knows the one of its captions"
    assert expected in fails(capsys, "caption", "--run", run, "--language", "de", picture)
    assert "no image is given" in fails(capsys, "caption", "--run", run)
    assert "is not a run directory" in fails(capsys, "caption", "--run", finished, picture)
    out = tmp_path / "other"
    assert "languages holds 'xx'; expected some of en" in fails(capsys, "--languages", "en", "xx", "--out", out)
    missing = fails(capsys, "--files", finished / "mine", tmp_path / "none.txt", "--out", out)
    assert "none.txt does not exist; expected a file of captions" in missing
    assert not out.exists()
    with pytest.raises(ValueError, match=r"--widths is \(0,\); expected one size of at least 1 or more"):
        Config(widths=(0,))


def made(**options):
    """An untrained model of digits in two languages."""
    config = Config(hidden=6, embedding=4, grid=5, widths=(8, 8), **options).resolved()
    data = captions.first(captions.load("digits", languages=("en", "de")), 30)
    about = About.of(data, spelled=config.spelled, rare=config.rare)
    model = build(config, about)
    return Writer(model, jax.jit(model.init)(jax.random.key(0)), about), data


def test_the_language_is_the_first_token_and_no_caption_holds_it():
    writer, data = made()
    found = captioning.examples(data.train, writer.about)
    assert [one.tokens[0] for one in found[:2]] == [START, START + 1]
    assert [writer.about.vocabulary.decode(one.tokens[1:-1]) for one in found[:2]] == [
        one.tokens for one in data.train.captions[:2]
    ]
    assert {int(one.tokens[-1]) for one in found} == {END}
    assert captioning.chosen_languages(None, ("en", "de")) == [0, 1]
    assert captioning.chosen_languages("de", ("en", "de")) == [1]
    with pytest.raises(ValueError, match=r"--language is 'fr'; expected one of en, de"):
        captioning.chosen_languages("fr", ("en", "de"))


def test_writing_stops_where_the_end_never_comes():
    writer, data = made(layers=2, cell="lstm")
    decoder = writer.params.captioner.decoder
    writer.params = writer.params._replace(
        captioner=writer.params.captioner._replace(decoder=decoder._replace(b=decoder.b.at[END].set(-jnp.inf)))
    )
    found = writer.write(list(data.test.images[:3]), [0, 1, 0], beams=2, best=2)
    letters = set(writer.about.vocabulary.tokens[START + 2 :])
    assert [len(one) for one in found] == [2, 2, 2]
    assert all(len(words) == writer.about.longest and set(words) <= letters for one in found for words, _ in one)
    looked = writer.weights(data.test.images[0], 0, list("zero"))
    assert looked.shape == (5, 4, 4)
    np.testing.assert_allclose(looked.sum((1, 2)), 1, rtol=1e-5)


def test_the_blind_see_nothing():
    images = [np.zeros((8, 8, 1), np.float32), np.ones((8, 8, 1), np.float32)]
    for blind in (False, True):
        writer, _ = made(blind=blind)
        scores_ = [one[0][1] for one in writer.write(images, [0, 0], beams=1)]
        assert (scores_[0] == scores_[1]) == blind


def test_the_share_of_the_most_frequent():
    data = captions.load("digits", languages=("en", "de"))
    assert captioning.most_frequent(data) == pytest.approx(1 / 10, abs=0.01)  # ten digits, about as frequent


def test_pictures_are_mirrored_and_moved():
    picture = jnp.arange(25.0).reshape(1, 5, 5, 1)
    pictures = jnp.broadcast_to(picture, (64, 5, 5, 1))
    found = {bytes(np.asarray(one)) for one in varied(pictures, jax.random.key(0), flips=True, shift=0)}
    assert found == {bytes(np.asarray(one)) for one in (picture[0], picture[0, :, ::-1])}
    padded = np.pad(np.asarray(picture[0]), ((1, 1), (1, 1), (0, 0)), mode="edge")
    expected = {padded[i : i + 5, j : j + 5].tobytes() for i in range(3) for j in range(3)}
    found = {bytes(np.asarray(one)) for one in varied(pictures, jax.random.key(1), flips=False, shift=1)}
    assert found == expected


def test_colours_and_edges_around_a_position():
    """Left a red half, right a blue one: 2 x 2 positions, each of one colour, and an upright edge between them."""
    picture = np.zeros((1, 8, 8, 3), np.float32)
    picture[:, :, :4, 0] = picture[:, :, 4:, 2] = 0.9
    picture[:, :, 4:, 1] = 0.5
    found = np.asarray(statistics(jnp.asarray(picture), (1, 2)))[0, 0]
    assert found.shape == (2, 27 + 8)
    shares = ((found[:, :27] + 0.5) / 4) ** 2
    np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-5)
    red, blue = 2, 2 * 9 + 1 * 3  # three levels of red, green (by 3) and blue (by 9)
    assert shares[:, [red, blue]].argmax(1).tolist() == [0, 1]
    edges = np.exp(found[:, 27:] - 4.5) - 1e-3
    assert edges[:, 0].min() > 0.01
    np.testing.assert_allclose(edges[:, 1:], 0, atol=1e-6)


def test_scores_of_several_references_by_hand():
    right = [[["a", "b", "c", "d"], ["e", "f"]], [["g", "h", "i", "j", "k"]]]
    said = [["a", "b", "c", "d"], ["g", "h", "i", "j"]]
    found = text_scores.bleu_of_several(said, right)
    # All words are right; 8 words of 9, those of the references nearest in length.
    assert found["tokenised"] == pytest.approx(100 * np.exp(1 - 9 / 8))


def test_rare_words_are_unknown_but_no_letters_are():
    part = captions.Part(["a"], np.zeros((1, 2, 2, 3), np.float32), [captions.Caption(0, 0, ["one", "one", "two"])])
    data = captions.Captioned("mine", ("",), part, part, part)
    about = About.of(data, spelled=False, rare=2)
    assert about.vocabulary == Vocabulary(("<pad>", "<unk>", "<end>", "<start>", "one"))
    assert (about.longest, about.between) == (4, " ")
