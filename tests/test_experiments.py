"""What all experiments share: the list of them, options, the command line, training of any kind, runs that are opened again."""

import dataclasses
import importlib
import subprocess
import sys
import typing
from pathlib import Path
from typing import Annotated, NamedTuple

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("tyro", reason="the experiments extra is not installed")

from matplotlib.backends.backend_agg import FigureCanvasAgg

import jrnn
from experiments.common import extras, pictures, supervised, watch
from experiments.common.command import command
from experiments.common.options import Count, Limit, NewFile, check_one, check_value
from experiments.common.recurrent import CellConfig, RecurrentConfig
from experiments.common.run import Run, RunConfig, Trained, open_finished
from experiments.language import pictures as language_pictures
from experiments.sentences.pictures import unfolding
from experiments.tags import pictures as tag_pictures
from jrnn import diagnostics
from jrnn.losses import Mean
from jrnn.train import Record, TrainState

pytestmark = pytest.mark.usefixtures("as_a_user")
ROOT = Path(__file__).parents[1]


def test_experiments_are_listed_with_what_they_are_about():
    """By an interpreter without any package."""
    listed = subprocess.run(
        [sys.executable, "-S", "-m", "experiments"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    lines = dict(line.split(maxsplit=1) for line in listed.stdout.splitlines() if line.startswith("  "))
    assert set(lines) == {path.stem for path in (ROOT / "experiments").glob("*.py") if path.stem[0] != "_"}
    assert lines["char_lm"].startswith("Character language model")
    assert "experiments/README.md" in listed.stdout


# --- options ------------------------------------------------------------------------------------------------------------


def test_a_new_file_takes_no_name_that_is_taken(tmp_path):
    kept = tmp_path / "kept.png"
    kept.write_text("mine")
    check_value("out_file", tmp_path / "new.png", NewFile | None)
    check_value("out_file", None, NewFile | None)
    check_value("out_file", Path("new.png"), NewFile)  # in the folder at hand
    with pytest.raises(ValueError, match=r"--out-file is .*kept\.png; expected another name: this one exists"):
        check_value("out_file", kept, NewFile)
    with pytest.raises(ValueError, match="expected a file in a folder that is there"):
        check_value("out_file", tmp_path / "none" / "new.png", NewFile)


@pytest.mark.parametrize(
    "name", sorted(path.stem for path in (ROOT / "experiments").glob("*.py") if path.stem[0] != "_")
)
def test_what_tries_a_run_overwrites_nothing(name):
    """A path among its options, but for a run and a folder of data, which are read, is a new file to write."""
    module = importlib.import_module(f"experiments.{name}")
    kinds = [kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, Trained)]
    for kind in kinds:
        for option, hint in typing.get_type_hints(kind, include_extras=True).items():
            if Path in (hint, *typing.get_args(hint)) and option not in ("run", "data_dir"):
                assert set(typing.get_args(hint)) & {NewFile} or hint == NewFile, f"{name}: {option}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RecurrentConfig, supervised.TrainingConfig):
    """Options of an experiment that there is not."""

    hidden: Count = 4
    epochs: Count = 2
    odd_one: Annotated[int, Limit("an odd number", lambda value: value % 2 == 1)] | None = None
    """Odd."""
    left: bool = False
    right: bool = False

    SMOKE = {"hidden": 3}  # noqa: RUF012

    def __post_init__(self):
        super().__post_init__()
        check_one(self, "left", "right")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": 0}, "--hidden is 0; expected at least 1"),
        ({"layers": -1}, "--layers is -1; expected at least 1"),
        ({"every": 0}, "--every is 0; expected at least 1"),
        ({"keep": 0}, "--keep is 0; expected at least 1"),
        ({"dropout": 1.0}, "--dropout is 1.0; expected a share in [0, 1)"),
        ({"odd_one": 2}, "--odd-one is 2; expected an odd number"),
        ({"left": True, "right": True}, "--left is True and --right is True; expected one of them"),
    ],
)
def test_options_are_what_their_types_say(options, message):
    Config(odd_one=3, every=None, dropout=0.9)
    with pytest.raises(ValueError) as caught:
        Config(**options)
    assert message in str(caught.value)


def test_a_stack_is_as_deep_and_as_wide_as_its_options_say():
    stack = Config(layers=3, cell="projected-lstm", dropout=0.5).make_stack(5, both_ways=True, dropout_before=True)
    assert [type(layer).__name__ for layer in stack] == ["Dropout"] + ["Bidirectional", "Dropout"] * 3
    layers = jrnn.Layered(stack)
    assert (layers.input_size, layers.output_size) == (5, 2 * 2)
    assert [layer.rate for layer in stack[::2]] == [0.5] * 4
    one = CellConfig(cell="gru", hidden=7).make_layer(5)
    assert (type(one), one.cell) == (jrnn.Recurrent, jrnn.GRU(5, 7))
    assert CellConfig(cell="gru").make_cell(5, 2) == jrnn.GRU(5, 2)


# --- pictures -----------------------------------------------------------------------------------------------------------


def test_words_in_pictures_are_no_formulas(tmp_path):
    """Of each picture that shows a user's words; `$_$` is a formula that cannot be parsed."""
    words = ["$_$", "a$b$", "\\frac", "{"]
    weights = np.full((4, 4), 0.25)
    pictures.confusion(tmp_path / "1.png", [0, 1, 2, 3], [0, 1, 1, 0], words)
    pictures.attention(tmp_path / "2.png", [(words, words, weights)])
    language_pictures.surprise(tmp_path / "3.png", words, np.ones(4), end="$_$", title="$_$")
    tag_pictures.draw(tmp_path / "4.png", [tag_pictures.Line(words, ["X"] * 4, ["X"] * 4)], "$_$")
    unfolding(tmp_path / "5.png", lambda words: weights, words, [(words, "$_$")])
    for number in range(1, 6):
        assert (tmp_path / f"{number}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("classes", "shown"), [(40, 40), (41, 40), (300, 40)])
def test_a_table_of_many_classes_has_room_for_the_most_frequent(tmp_path, monkeypatch, classes, shown):
    drawn = []
    monkeypatch.setattr(pictures, "save", lambda figure, path: drawn.append(figure.axes[0]))
    truth = [label for label in range(classes) for _ in range(1 + (label % 3 == 0) * 9)]
    guess = [*truth[:-5], *[0] * 5]
    pictures.confusion(tmp_path / "table.png", truth, guess, list(range(classes)))
    names = [label.get_text() for label in drawn[0].get_yticklabels()]
    assert len(names) == shown
    if classes > shown:
        assert names[-1] == f"{classes - 39} others"
        assert set(names[:-1]) >= {str(label) for label in range(0, min(classes, 39 * 3), 3)}
    cells = {text.get_position(): int(text.get_text()) for text in drawn[0].texts}
    assert sum(cells.values()) == len(truth)
    right = sum(a == b for a, b in zip(truth, guess))
    assert drawn[0].get_title() == f"{right} of {len(truth)} right"


# --- the command line ---------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Other:
    """Something else."""

    words: str = "none"


def test_a_command_opens_a_run_or_does_something_else(tmp_path):
    called = []
    main = command(
        "mine", Config, lambda run, config: called.append((run, config)), also={"other": (Other, called.append)}
    )
    main(["--smoke", "--layers", "2", "--out", "here"])
    ((run, config),) = called
    assert (run.name, run.directory, run.config) == ("mine", Path("here"), config)
    assert (config.layers, config.hidden, config.smoke) == (2, 3, True)
    assert not (tmp_path / "here").exists()  # until the run starts
    main(["other", "--words", "some"])
    assert called[1:] == [Other("some")]
    prepared = []
    command("plain", Other, called.append, prepare=lambda: prepared.append(True))(["--words", "plain"])
    assert (called[2:], prepared) == ([Other("plain")], [True])


def test_a_package_that_is_missing_is_named_with_its_extra(monkeypatch, capsys):
    def run(options):
        extras.need("no_such_package.part", "speech")

    with pytest.raises(SystemExit) as caught:
        command("spoken_digits", Other, run)([])
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: spoken_digits needs no_such_package: pip install -e '.[speech]'\n"
    assert extras.need("os.path", "speech") is __import__("os").path
    monkeypatch.syspath_prepend(Path.cwd())
    Path("broken.py").write_text("import no_such_package")
    with pytest.raises(ModuleNotFoundError, match="no_such_package") as found:  # not broken itself
        extras.need("broken", "speech")
    assert not isinstance(found.value, extras.MissingPackage)


# --- training -----------------------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    x: np.ndarray
    y: np.ndarray


PAIRS = [Pair(np.array([[n % 5 - 2.0]], np.float32), np.array([[2.0 * (n % 5) - 4]], np.float32)) for n in range(8)]


def line(params, batch, key):
    return Mean(jnp.square(params["w"] * batch.x - batch.y).sum(), jnp.asarray(batch.x.size, jnp.float32))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Steps(supervised.StepsConfig):
    steps: Count = 6
    every: Count | None = 3
    learning_rate: float = 0.1


def trained(config, **options):
    run = Run("mine", config, Path("run"))
    run.start({"names.json": ["a", "b"]})
    best, fitted = supervised.train(run, config, params={"w": jnp.zeros(())}, unit="squared error", **options)
    supervised.finish(run, fitted, "done", metrics={"mine": 1}, floors={"nothing": 2.0})
    return best, fitted


@pytest.mark.parametrize("kind", ["passes", "stream"])
def test_whatever_is_learned_the_best_is_restored(kind, capsys):
    dataset = grain.MapDataset.source(range(4)).map(lambda place: PAIRS[place])
    if kind == "passes":
        config, batches = Config(epochs=3, learning_rate=0.1), dataset
    else:
        config, batches = Steps(), dataset.repeat().to_iter_dataset()
    evaluate = supervised.mean_loss(line, PAIRS)
    best, fitted = trained(config, loss=line, batches=batches, evaluate=evaluate)
    steps, every = (12, 4) if kind == "passes" else (6, 3)
    assert [record.step for record in fitted.records] == list(range(every, steps + 1, every))
    assert evaluate(best) == pytest.approx(min(record.valid for record in fitted.records))
    assert evaluate(best) < evaluate({"w": jnp.zeros(())})
    run, again = open_finished(Path("run"), "mine", type(config))
    assert again == config
    assert run.read("names.json") == ["a", "b"]
    assert supervised.restore(run, {"w": jnp.zeros(())}) == best
    result = run.read("result.json")
    assert result["versions"]["jrnn"] == jrnn.__version__
    assert result["metrics"]["mine"] == 1
    assert result["metrics"]["steps"] == steps
    assert "done\n" in capsys.readouterr().out


def test_a_carry_goes_from_batch_to_batch():
    """The state is the sum of all inputs so far: with a carry that is lost the targets could not be met."""

    def loss(params, carry, batch, key):
        carry = carry + batch.x[:, 0]
        return Mean(jnp.square(params["w"] - carry).sum(), jnp.asarray(carry.size, jnp.float32)), carry

    def carry(params):
        return jnp.zeros(1)

    ones = [Pair(np.ones((1, 1), np.float32), np.ones((1, 1), np.float32))] * 6
    found = supervised.mean_loss(loss, ones, batch_axes=0, carry=carry)({"w": jnp.zeros(())})
    assert found == pytest.approx(np.mean(np.square([1, 2, 3, 4, 5, 6])))
    axes = {"batch_axes": 0, "carry": carry}
    best, fitted = trained(Steps(every=6), loss=loss, batches=ones, evaluate=lambda params: float(params["w"]), **axes)
    assert fitted.state.carry == 6
    run, _ = open_finished(Path("run"), "mine", Steps)
    assert supervised.restore(run, {"w": jnp.zeros(())}, carry) == best


class Clock:
    """Seconds that pass when they are told to."""

    now = 0.0

    def perf_counter(self):
        return self.now


def test_the_name_of_an_axis_fits_the_picture(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(pictures, "save", lambda figure, path: drawn.append(figure))
    unit = "% of words wrong, the likeliest phoneme at each step"
    curves = watch.Curves(tmp_path, unit="nats per phoneme", floors={"a floor": 2.0}, done=0, valid_unit=unit)
    curves.draw([Record(1, 2.0, 50.0), Record(2, 1.0, 30.0)])
    FigureCanvasAgg(drawn[0]).draw()
    names = [axes.yaxis.label for axes in drawn[0].axes]
    assert [" ".join(name.get_text().split()) for name in names] == [
        "training: nats per phoneme",
        f"validation: {unit}",
    ]
    for name in names:
        box = name.get_window_extent()
        assert 0 <= box.x0 < box.x1 <= drawn[0].bbox.x1
        assert 0 <= box.y0 < box.y1 <= drawn[0].bbox.y1


def test_a_look_inside_takes_its_share_of_the_time(tmp_path, monkeypatch):
    """The first compiles and does not count; those after it wait until they are a twentieth; clipping is counted at every step."""
    clock, written, looked = Clock(), [], []
    monkeypatch.setattr(watch, "time", clock)

    def look(params):
        clock.now += 60.0 if not looked else 2.0
        looked.append(clock.now)
        return {"a number": jnp.float32(params), "many": jnp.arange(3.0)}

    inside = watch.Inside(tmp_path, look, every=1, clip=0.5, done=0)
    monkeypatch.setattr(
        inside._writer, "add_scalar", lambda name, value, step: written.append((name, float(value), step))
    )
    for step in range(1, 101):
        clock.now += 1.0
        inside.on_gradient(step, step % 4 / 4)  # 0, 1/4, 1/2, 3/4
        if step % 4 == 0:
            inside.on_state(step, TrainState(step, step, None, None, None))
    # The first two tell how long a look takes; the next needs 80 seconds, and one more 120.
    assert inside.looks == len(looked) == 3
    assert inside.seconds == 4 <= 0.05 * (clock.now - inside._began)
    shares = [value for name, value, _ in written if name == "inside/share of steps clipped"]
    assert shares == [0.25] * 25
    assert [step for name, _, step in written if name == "inside/a number"][:2] == [4, 8]


def test_what_is_seen_inside_a_stack():
    layer = jrnn.rnn(jrnn.LSTM, input_size=2, hidden_size=3, num_layers=2)
    params = {"mine": layer.init(jax.random.key(0))}
    xs = jnp.ones((12, 2, 2))
    look = watch.look_inside(lambda ys: ys[-1].sum(), layer, xs, lambda params: params["mine"])
    found = look(params)
    reach = diagnostics.gradient_by_lag(lambda ys: ys[-1].sum(), layer, params["mine"], xs)
    np.testing.assert_allclose(found["gradient, factor a step"], reach.factor[0], rtol=1e-4)
    np.testing.assert_allclose(found["gradient at lag 10 over lag 1"], reach.norms[9, 0] / reach.norms[0, 0], rtol=1e-4)
    assert "gradient at lag 100 over lag 1" not in found
    forget = diagnostics.saturation(layer, params["mine"], xs)["1.f"]
    np.testing.assert_allclose(found["1.f of each unit"], forget.mean, rtol=1e-5)
    np.testing.assert_allclose(found["1.f high"], forget.high.mean(), rtol=1e-5)


def test_a_run_of_another_kind_is_explained():
    run = Run("mine", RunConfig(), Path("run"))
    run.start()
    with pytest.raises(ValueError, match="is not a run of yours"):
        open_finished(Path("run"), "yours", RunConfig)
    with pytest.raises(ValueError, match="is not a run directory"):
        open_finished(Path("nowhere"), "mine", RunConfig)
