"""Tunes in ABC notation: reading, bars, a run from end to end, what it leaves and what it writes afterwards."""

import json
import math
from fractions import Fraction

import jax
import numpy as np
import pytest

pytest.importorskip("tyro", reason="the experiments extra is not installed")
pytest.importorskip("music21", reason="the music extra is not installed")
pytest.importorskip("mido", reason="the music extra is not installed")

import mido
from music21.exceptions21 import Music21Exception

from experiments import tunes as experiment
from experiments.data import abc_notation, tunes
from experiments.data.ngram import ngram_probabilities
from experiments.melodies import composer, floors, scores
from jrnn.models import LanguageModel

pytestmark = pytest.mark.usefixtures("as_a_user")

JIG = "M:6/8\nK:D\nL:1/8\n|:A|def fed|efg gfe|def a2f|e3 d2:|\n"
NOTES = ["def fed|", "GAB BAG|", "dcB ABc|", "f2a afd|"]


def tune(number, title=None):
    """One of many different tunes, half of them reels."""
    metre = "M: C" if number % 2 else "M:6/8"
    music = (
        "".join(NOTES[(number >> shift) % 4] for shift in (0, 2, 4)) if number % 2 == 0 else "d2ef gfed|c2BA G4|" * 2
    )
    return (
        f"X:{number}\nT:{title or f'Tune {number}'}\n{metre}\nL:1/8\nK:D major\n{music}{'d' * (number % 7 + 1)}|]\n\n"
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A tiny run on tunes of one's own, in a folder beside them."""
    folder = tmp_path_factory.mktemp("tunes")
    (folder / "own.abc").write_text("".join(tune(number) for number in range(20, 60)))
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # as a user has it
        experiment.main(["--smoke", "--files", str(folder), "--out", str(folder / "run")])
    return folder


def said(capsys, *arguments):
    experiment.main([*map(str, arguments)])
    return capsys.readouterr().out


def fails(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        experiment.main([*map(str, arguments)])
    assert caught.value.code == 2
    return capsys.readouterr().err


def one(text):
    ((_, found),) = abc_notation.read(text)
    return found


def test_what_is_kept_of_a_tune():
    text = """% a comment
X: 7
T: The Cat
M: C
S: somewhere
K: E Minor
"Em"{d}(B>c) .d~e | !trill!f2 (3gfe x3/2 e/2 :||: [EB]2 |1 E3 :|2 "_slow"e4 |] % the end
w: a song
L:1/4
uE- \\
E |]
"""
    found = one(text)
    assert found == abc_notation.Tune(
        "The Cat", "4/4", "Em", "1/8", "B>c de|f2 (3gfe z3/2 e/::[EB]2|[1E3:|[2e4|]\nL:1/4\nE-E|]"
    )
    assert abc_notation.parse_document(found.document) == found._replace(title="")
    alone = abc_notation.as_file(found.document, number=3, title="Cat")
    assert alone.startswith("X:3\nT:Cat\nM:4/4\nL:1/8\nK:Em\nB>c")
    assert one(alone) == found._replace(title="Cat")


@pytest.mark.parametrize(
    ("music", "eighths"),
    [
        ("abc d2e/f/|", [6]),
        ("a>b c<d|e>>f|", [4, 2]),
        (
            "(3abc (2de (3:2:2fg2|",
            [Fraction(2) + 3 + 2],
        ),  # three in the time of two, two in that of three, and two of one kind
        ("[Ace]3 z//|", [3 + Fraction(1, 4)]),
        ("a2|\nL:1/4\na2|", [2, 4]),
    ],
)
def test_bars_by_hand(music, eighths):
    found = abc_notation.bars(one(f"X:1\nM:6/8\nL:1/8\nK:C\n{music}"))
    assert [bar.length * 8 for bar in found] == eighths


def test_inner_bars_stand_between_single_lines():
    found = abc_notation.bars(one("X:1\nM:6/8\nL:1/8\nK:D\nA|d3 f3|d2 f2|d3 f2:|d3 d3|[1d6:|[2d6|\nM:2/4\nd4|d4||d2|]"))
    inner = [(bar.length * 8, bar.expected * 8) for bar in found if bar.inner]
    assert inner == [(6, 6), (4, 6), (4, 4)]
    assert [bar.inner for bar in found] == [False, True, True, False, False, False, False, True, False, False]


def test_keys_and_metres_are_written_in_one_way():
    keys = {"G": "G", "E minor": "Em", "EMin": "Em", "F# m": "F#m", "A Mixolydian": "Amix", "Bbmaj clef=treble": "Bb"}
    assert {text: abc_notation.key_of(text) for text in keys} == keys
    with pytest.raises(ValueError, match="its key is 'H'; expected such as G"):
        abc_notation.key_of("H")
    with pytest.raises(ValueError, match="its metre is 'fast'"):
        abc_notation.metre_of("fast")


def test_parts_hold_titles_apart(tmp_path):
    twice = [tune(n, title="The Hare's Foot") for n in (200, 201)] + [tune(202, title="Hares foot")]
    text = "".join([*(tune(n) for n in range(100, 148)), *twice, tune(100), tune(148).replace("d|]", "d" * 900 + "|]")])
    (tmp_path / "own.abc").write_text(text)
    corpus = tunes.load(files=[tmp_path / "own.abc"])
    parts = [corpus.train, corpus.valid, corpus.test]
    hares = [{t.title for t in part} & {"The Hare's Foot", "Hares foot"} for part in parts]
    assert sorted(map(len, hares)) == [0, 0, 2]
    everything = [t.document for part in parts for t in part]
    assert len(set(everything)) == len(everything)
    assert max(map(len, everything)) <= 600
    titles = [len({t.title for t in part} - {"Hares foot"}) for part in parts]
    assert titles[1] == titles[2] == round(sum(titles) / 10)
    assert corpus[1:] == tunes.load(files=[tmp_path])[1:]


def test_a_book_that_music21_ships(monkeypatch):
    monkeypatch.setattr(tunes, "BOOKS", ("airdsAirs",))
    corpus = tunes.load("music21")
    assert len(corpus.train) > 900
    assert corpus.unread < 30
    bars = [bar for t in corpus.test for bar in abc_notation.bars(t) if bar.inner]
    assert sum(bar.length == bar.expected for bar in bars) / len(bars) > 0.98


def test_nottingham(data_dir):
    corpus = tunes.load("nottingham", data_dir=data_dir)
    assert sum(map(len, corpus[1:4])) > 950
    assert (
        tunes.decode(tunes.encode(corpus.test[0].document, corpus.characters), corpus.characters)
        == corpus.test[0].document
    )


def test_what_a_run_leaves_behind(finished):
    found = json.loads((finished / "run" / "result.json").read_text())
    metrics = found["metrics"]
    assert set(found["floors"]) == {
        f"{m} 5-gram, {p}" for m in ("Witten-Bell", "Kneser-Ney") for p in ("valid", "test")
    }
    assert metrics["written"]["tunes"] == 4
    assert metrics["test_tunes"]["parsed"] == 1
    assert metrics["records"][-1]["valid"] == pytest.approx(metrics["nats_per_character"]["valid"], rel=1e-5)
    assert (finished / "run" / "tunes.abc").read_text().count("X:") >= 4
    assert (finished / "run" / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_it_writes_what_is_asked_for_and_stops(finished, tmp_path, capsys):
    run, out = finished / "run", tmp_path / "tune.abc"
    options = ["write", "--run", run, "--metre", "6/8", "--key", "D", "--seed", "3", "--length", "80"]
    text = said(capsys, *options, "--out", out)
    assert "M:6/8\n" in text
    assert "K:D\n" in text
    assert text.startswith(out.read_text())
    assert len(out.read_text()) <= 80 + len("X:1\nT:Tune of seed 3\n") + 1
    assert said(capsys, *options) == text.partition("tune 1 cannot be read")[0]
    err = fails(capsys, *options, "--out", out)
    assert "tune.abc; expected another name: this one exists, and nothing is overwritten" in err
    (tmp_path / "other.mid").write_text("")
    assert "other.mid; expected another name: this one exists" in fails(
        capsys, *options, "--out", tmp_path / "other.abc"
    )
    assert "expected an ABC file" in fails(capsys, *options, "--out", tmp_path / "new.mid")


def test_requests_that_cannot_be_met(finished, capsys):
    start = ["write", "--run", finished / "run"]
    assert "--key is 'H', which the training tunes do not have; they have D" in fails(capsys, *start, "--key", "H")
    assert "--metre is '7/9'" in fails(capsys, *start, "--metre", "7/9")
    err = fails(capsys, *start, "--key", "D", "--metre", "6/8", "--length", "9")
    assert "the greatest length is 9; expected more than the 10 characters of" in err
    assert "--length is 0; expected at least 1" in fails(capsys, *start, "--length", "0")


def test_a_key_alone_has_a_metre_of_its_own_tunes():
    known = [["6/8", "D", 9], ["4/4", "Em", 2], ["2/4", "Em", 1]]
    found = {composer.asked(known, None, "Em", seed) for seed in range(30)}
    assert found == {"M:4/4\nK:Em\n", "M:2/4\nK:Em\n"}
    assert composer.asked(known, "6/8", None, 0) == "M:6/8\nK:"
    assert composer.asked(known, None, None, 0) == ""


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("no music at all\n", "own.abc holds no tune; expected ABC notation"),
        (tune(1) + "X:2\nT:Odd\nM:6/8\nK:D\nabc ?|\n", "own.abc, tune X:2 (Odd): 'abc ?|' has '?' at character 5"),
        (tune(1) + "X:2\nM:6/8\nabc|\n", "own.abc, tune X:2: it has no key (K:)"),
        ("X:5\nK:D\nabc|\n", "tune X:5: it has no metre (M:)"),
        ("X:5\nM:6/8\nK:D\n|:|\n", "tune X:5: it has no notes"),
        ("X:5\nM:6/8\nK:D\nV:1\nabc|\n", "tune X:5: it has voices"),
        ("X:5\nM:6/8\nK:D\na/0b|\n", "tune X:5: a note has the length /0"),
        (tune(1) + tune(2), "has 2 tunes of different titles, of at most 200 characters; expected at least 10"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, capsys, content, expected):
    (tmp_path / "own.abc").write_text(content)
    assert expected in fails(capsys, "--smoke", "--files", tmp_path / "own.abc", "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_files_that_are_not_there(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert "holds no file that ends in .abc" in fails(capsys, "--files", tmp_path / "empty")
    assert "none.abc does not exist; expected an ABC file" in fails(capsys, "--files", tmp_path / "none.abc")


def test_a_tune_that_can_be_read_sounds_and_is_drawn(tmp_path):
    experiment.keep(tmp_path, ["nonsense", JIG])
    assert (tmp_path / "tunes.abc").read_text().startswith("X:1\nT:Tune 1\nnonsense\n\nX:2\nT:Tune 2\nM:6/8\n")
    assert not (tmp_path / "tune-1.mid").exists()
    assert (tmp_path / "roll.png").read_bytes().startswith(b"\x89PNG")
    messages = [message for track in mido.MidiFile(tmp_path / "tune-2.mid").tracks for message in track]
    started = [message.note for message in messages if message.type == "note_on" and message.velocity]
    # A4, then d e f# f# e d and so on, in D major; what stands between the repeat signs twice.
    assert started[:4] == [69, 74, 76, 78]
    assert len(started) == 2 * (1 + 6 + 6 + 5 + 2)


@pytest.mark.parametrize(
    "document",
    [
        "M:6/8\nK:D\nL:1/8\n[2abc abc:|[1 def def:|\n",  # repeats that do not fit together
        "M:3/4\nK:G\nL:1/8\nd2|A2 ABAG|D2 d2 A2 DD|G4||\n",  # a bar too long: music21 puts its metre in twice
    ],
)
def test_what_music21_cannot_play_is_written_as_it_stands(document, tmp_path):
    score = scores.parse(document)
    with pytest.raises(Music21Exception):
        score.write("midi", fp=str(tmp_path / "direct.mid"))
    scores.write_midi(tmp_path / "tune.mid", score)
    messages = [message for track in mido.MidiFile(tmp_path / "tune.mid").tracks for message in track]
    assert sum(message.type == "note_on" and message.velocity > 0 for message in messages) == 12


def test_scores_by_hand():
    full = "M:2/4\nK:G\nL:1/8\nG2|B2B2|d2d|g2g2|G2|]\n"
    found = scores.score([full, "M:6/8\nabc", "X"], [True, True, False], [JIG])
    assert found.tunes == 3
    assert found.parsed == pytest.approx(1 / 3)
    assert (found.bars, found.inner_bars) == (pytest.approx(2 / 3), 3)
    assert found.copied == 0
    assert found.ended == pytest.approx(2 / 3)
    assert scores.score([full], [True], [JIG, full]).copied == 1


def test_copied_is_more_than_half_in_one_run():
    train = "abcdefgh"
    assert scores.copied("abcdeXYZ", train)  # five of eight
    assert not scores.copied("abcdWXYZ", train)  # four of eight
    assert not scores.copied("abcXefgh", train)  # seven of eight, but four in a run
    assert scores.copied("Xdefg", train)
    assert scores.music_of("M:2/4\nK:G\nL:1/8\nG2 A2|\nK:D\nB4|\n") == "G2A2|B4|"


def test_what_is_cut_off_ends_at_its_last_bar_line():
    head = "M:6/8\nK:D\nL:1/8\n"
    assert composer.cut(f"{head}abc def|ab") == f"{head}abc def|\n"
    assert composer.cut(f"{head}abc def|]ab") == f"{head}abc def|]\n"
    assert composer.cut(f"{head}abc") == f"{head}abc"
    assert composer.cut("M:C|") == "M:C|"


def test_passes_by_default(tmp_path):
    def passes(**given):
        return experiment.Config(**given).resolved().epochs

    assert [passes(), passes(data="nottingham"), passes(files=(tmp_path,))] == [8, 20, 20]
    assert [passes(epochs=3), passes(data="nottingham", epochs=3)] == [3, 3]


def test_the_loss_and_the_floor_count_every_character_and_the_end(finished):
    corpus = tunes.load(files=[finished])
    characters = corpus.characters
    model: LanguageModel = experiment.build(experiment.Config(hidden=4, embedding=3, layers=1), characters)
    params = model.init(jax.random.key(0))
    some = corpus.test[:2]
    examples = [experiment.make_example(t, characters) for t in some]
    (batch,) = experiment.supervised.bucketed(examples, batch=3, shapes=1)
    mean = jax.jit(lambda params, batch: experiment.make_loss(model)(params, batch, None))(params, batch)
    step, nats, count = jax.jit(model.step), 0.0, 0
    for t in some:
        state, token = model.initial_state(params), tunes.START
        for following in [*(characters.index(c) + 2 for c in t.document), tunes.END]:
            state, logits = step(params, state, np.int32(token))
            nats -= float(jax.nn.log_softmax(logits)[following])
            token, count = following, count + 1
    assert float(mean.value) == pytest.approx(nats / count, rel=1e-4)

    # The floor of several tunes is that of each from its own beginning.
    start = np.full(4, tunes.START, np.int32)
    seen = np.concatenate([np.concatenate([start[1:], tunes.encode(t.document, characters)]) for t in corpus.train])
    texts = [np.concatenate([start[1:], tunes.encode(t.document, characters)]) for t in some]
    each = [-np.log(ngram_probabilities(seen, text, len(characters) + 2, 5)) for text in texts]
    assert [len(one) for one in each] == [len(t.document) + 1 for t in some]
    found = floors.ngram_floors(corpus.train, some, characters)
    assert found["Witten-Bell 5-gram"] == pytest.approx(np.concatenate(each).mean())


def test_bits_are_nats_in_another_unit(finished):
    metrics = json.loads((finished / "run" / "result.json").read_text())["metrics"]
    for part in ("valid", "test"):
        assert metrics["bits_per_character"][part] * math.log(2) == pytest.approx(metrics["nats_per_character"][part])


def test_several_tunes(finished, tmp_path, capsys, monkeypatch):
    options = ["write", "--run", str(finished / "run"), "--seed", "3", "--count", "3", "--length", "60", "--out"]
    made = []
    monkeypatch.setattr(experiment.scores, "parse", lambda document: document)
    monkeypatch.setattr(experiment.scores, "write_midi", lambda path, score: made.append((path.name, score)))
    experiment.main([*options, str(tmp_path / "some.abc")])
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
        experiment.main(["write", "--run", str(finished / "run"), "--count", "2", "--out", str(tmp_path / "tune.abc")])
    assert caught.value.code == 2
    assert "tune-2.mid; expected another name: this one exists, and nothing is overwritten" in capsys.readouterr().err
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("tune-2.mid", "kept")]
    with pytest.raises(
        ValueError, match=r"tune\.mid; expected a file in a folder that is there: make it, or choose another"
    ):
        experiment.midi_files(tmp_path / "none" / "tune.abc", 1)
    assert experiment.midi_files(tmp_path / "new.abc", 1) == [tmp_path / "new.mid"]


def test_metres_and_keys_as_people_write_them():
    known = [["4/4", "Em", 2], ["6/8", "D", 1]]
    assert composer.asked(known, "C", "E minor", 0) == "M:4/4\nK:Em\n"
    assert composer.asked(known, "C", None, 0) == "M:4/4\nK:"
    with pytest.raises(ValueError, match="--key is 'H', which the training tunes do not have; they have Em, D"):
        composer.asked(known, None, "H", 0)
