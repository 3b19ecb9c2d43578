"""Frames of moving digits: what each one shows, or what the next ones are.

    python -m experiments.frames --task label

reads clips of one digit that goes about, turns and changes, and says for every frame which digit it is and which way it came: a
convolutional reader (Flax) shared over time, a recurrent layer in both directions, two heads.

    python -m experiments.frames --task predict
    python -m experiments.frames --task predict --model lstm

sees ten frames of two bouncing digits and predicts the next ten, by a ConvLSTM encoder and decoder (Shi et al. 2015) or by
LSTMs over whole frames with as many parameters. Clips are made endlessly from scikit-learn's digits, which need no download; from
MNIST by `--data mnist`, where `--task predict` is Moving MNIST (Srivastava et al. 2015). What was trained is tried on other clips:

    python -m experiments.frames label --run DIR --seed 3
    python -m experiments.frames continue --run DIR --seed 3 --ahead 20 --out clip.gif
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import grain
import jax
import numpy as np

import jrnn
from experiments.clips import strips
from experiments.clips.models import Labeller, Predictor, Reader, convolutional, parameters, plain
from experiments.clips.reports import SHOWN, continued, labels, report_frames, report_labels, show_labels, words
from experiments.common import supervised
from experiments.common.classification import most_frequent
from experiments.common.command import command
from experiments.common.options import Count, Limit, NewFile
from experiments.common.recurrent import Cell, RecurrentConfig
from experiments.common.run import Run, Trained, console, open_finished
from experiments.common.supervised import StepsConfig
from experiments.data import digits, moving_digits
from experiments.data.digits import Images
from experiments.data.moving_digits import SEEN
from jrnn.losses import Mean

NAME = "frames"
VALID, TEST, TRIED = 1_000_001, 1_000_002, 1_000_003  # seeds of clips, so that no path is one of training
CELLS = {"convlstm": jrnn.ConvLSTM, "convgru": jrnn.ConvGRU}
DEFAULTS: dict[str, dict[str, Any]] = {
    "label": {"cell": "gru", "hidden": 64, "layers": 1, "batch": 16, "steps": 1500, "learning_rate": 0.004},
    "predict": {
        "model": "convlstm", "hidden": 32, "layers": 1, "patch": 2, "batch": 16, "steps": 600, "learning_rate": 0.005,
    },
}  # fmt: skip
LARGER: dict[str, dict[str, Any]] = {  # with --data mnist
    "label": {"steps": 2000},
    "predict": {"hidden": 48, "patch": 4, "steps": 1800, "learning_rate": 0.003},
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RecurrentConfig, StepsConfig):
    """Train on clips of moving digits."""

    task: Literal["label", "predict"] = "label"
    """Say what each frame shows, or continue a clip."""
    data: digits.Data = "sklearn"
    """The digits that move."""
    canvas: Count | None = None
    """Height and width of a frame; by default three times those of the digits, for MNIST 64."""
    frames: Annotated[int, Limit("at least 2", lambda value: value >= 2)] = 20
    """Of a clip; to predict are those after the first ten, with --smoke after the first half."""
    directions: Literal["8", "4"] = "8"
    """--task label: ways a digit goes, with the diagonals or without."""
    digits: Count = 2
    """--task predict: how many are in a clip."""
    model: Literal["convlstm", "convgru", "lstm"] | None = None
    """--task predict: convolutional cells (by default convlstm), or LSTMs of as many parameters as the convlstm has."""
    patch: Count | None = None
    """--task predict: the convolutional cells see squares of so many pixels a side as channels; by default 2, for MNIST 4."""
    kernel: Count = 3
    """--task predict: height and width of their kernels."""
    channels: Count = 12
    """--task label: of the reader's first convolution."""
    cell: Cell | None = None
    """--task label: the cell of the layer over the frames; by default gru."""
    hidden: Count | None = None
    """Units, or features at each place of a convolutional cell; by default 64 to label, 32 to predict, on MNIST 48."""
    layers: Count | None = None
    """Recurrent layers; by default 1."""
    batch: Count | None = None
    """Clips side by side; by default 16."""
    steps: Count | None = None
    """Training steps, one batch each; the default depends on the task and the digits."""
    learning_rate: float | None = None
    """Peak of AdamW's learning rate; the default depends on the task."""
    every: Count | None = 100
    held_out: Count = 256
    """Clips to validate on, and as many to test on."""

    SMOKE: ClassVar[dict[str, Any]] = {
        "canvas": 10, "frames": 4, "batch": 4, "steps": 2, "every": 1, "held_out": 8, "channels": 2, "hidden": 3, "layers": 1,
    }  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        other = {"label": ("model", "patch"), "predict": ("cell",)}[self.task]
        for name in other:
            if getattr(self, name) is not None:
                raise ValueError(
                    f"--{name} is {getattr(self, name)} and --task {self.task}; expected it with --task "
                    f"{'predict' if self.task == 'label' else 'label'} alone: leave one of them out"
                )

    def resolved(self) -> Self:
        return self.filled(DEFAULTS[self.task] | (LARGER[self.task] if self.data == "mnist" else {}))

    @property
    def seen(self) -> int:
        """Frames that are shown where the rest is to be predicted."""
        return min(SEEN, self.frames // 2)

    def draw(self, images: Images) -> Callable[[np.random.Generator, int], Any]:
        """`draw(random, count)`: so many clips of these digits."""
        options: Any = {"time": self.frames, "canvas": self.canvas}
        if self.task == "label":
            way = int(self.directions)
            return lambda random, count: moving_digits.labelled(images, random, count, directions=way, **options)
        return lambda random, count: moving_digits.bouncing(images, random, count, digits=self.digits, **options)

    def batches(self, images: Images, *, seed: int, length: int) -> grain.MapDataset:
        """So many batches."""
        draw = self.draw(images)
        return moving_digits.batches(lambda random: draw(random, self.batch or 1), seed=seed, length=length)


def build(config: Config, canvas: int, classes: int) -> Labeller | Predictor:
    """The model of the task, for frames of `canvas` x `canvas` pixels."""
    hidden, layers = config.hidden or 1, config.layers or 1
    if config.task == "label":
        stack = jrnn.Layered(config.make_stack(2 * hidden, both_ways=True, dropout_before=True))
        return Labeller(Reader(config.channels, 2 * hidden), stack, canvas, classes, int(config.directions))
    kind = CELLS.get(config.model or "", jrnn.ConvLSTM)
    model = convolutional(kind, canvas, config.patch or 1, hidden, layers, config.kernel)
    return plain(model, layers) if config.model == "lstm" else model


def make_loss(model: Labeller | Predictor, seen: int) -> Any:
    """Nats a frame: of its labels, or of its pixels."""

    def loss(params: Any, batch: Any, key: jax.Array | None) -> Mean:
        return model.loss(params, batch, key) if isinstance(model, Labeller) else model.loss(params, batch, seen)

    return loss


def train(run: Run, config: Config) -> None:
    """Train, evaluate the best checkpoint on clips of the test part, write result.json and pictures."""
    images = digits.load(config.data, data_dir=config.data_dir)
    steps, batch = config.steps or 1, config.batch or 1
    valid = list(config.batches(images.valid, seed=VALID, length=-(-config.held_out // batch)))
    test = config.draw(images.test)(np.random.default_rng(TEST), config.held_out)
    floors = floors_of(config, test, images)
    model = build(config, jax.tree.leaves(test)[0].shape[2], images.classes)
    loss = make_loss(model, config.seen)
    weights = {config.model or config.cell or "": parameters(model)}
    if config.model == "lstm":
        like = build(dataclasses.replace(config, model="convlstm"), model.canvas, images.classes)
        weights["convlstm"] = parameters(like)
    run.start()
    console.print(
        f"{images.name}, frames of {model.canvas} x {model.canvas}; floors: "
        f"{', '.join(f'{name} {value:.4g}' for name, value in floors.items())}; weights: "
        f"{', '.join(f'{name} {count:,}' for name, count in weights.items())}"
    )
    best, fitted = supervised.train(
        run,
        config,
        params=model.init(jax.random.key(config.seed)),
        loss=loss,
        batches=config.batches(images.train, seed=config.seed, length=steps),
        evaluate=supervised.mean_loss(loss, valid),
        unit="nats a frame",
        floors={} if config.task == "label" else floors,
        counted=(batch * config.frames, "frames"),
    )
    if isinstance(model, Labeller):
        said, metrics = report_labels(run.directory, model, best, test)
    else:
        said, metrics = report_frames(run.directory, model, best, test, config.seen)
    beside = ", ".join(f"{name} {value:.4g}" for name, value in floors.items())
    metrics |= {"parameters": weights}
    supervised.finish(run, fitted, f"test: {said}; floors: {beside}", metrics=metrics, floors=floors)


def floors_of(config: Config, test: Any, images: digits.Digits) -> dict[str, float]:
    """What needs no model: percent of the most frequent labels, or nats a frame without motion."""
    known = config.draw(images.train)(np.random.default_rng(TRIED), 2 * config.held_out)
    if config.task == "predict":
        found = moving_digits.floors(known, test, seen=config.seen)
        return {"last frame": found.last_frame, "mean frame": found.mean_frame}
    return {
        "most frequent digit": 100 * most_frequent(known.digit.ravel(), test.digit.ravel()),
        "most frequent direction": 100 * most_frequent(known.direction[1:].ravel(), test.direction[1:].ravel()),
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Label(Trained):
    """Label the frames of clips of the test part."""

    seed: int = 0
    """Which clips."""
    clips: Count = SHOWN
    """How many."""
    out: NewFile = Path("labels.png")
    """The picture to write; it must not exist yet."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Continue(Trained):
    """Continue clips of the test part, as far as wanted."""

    seed: int = 0
    """Which clips."""
    clips: Count = SHOWN
    """How many."""
    ahead: Count = 10
    """Frames to predict."""
    out: NewFile = Path("clip.gif")
    """The animation to write, the truth above the prediction; it must not exist yet."""


def opened(options: Label | Continue, task: str) -> tuple[Config, Any, Any, Any]:
    """Of a finished run of that task: its config, model and best parameters; clips of the test part, and frames to come."""
    run, config = open_finished(options.run, NAME, Config)
    if config.task != task:
        raise ValueError(f"--run {options.run} was trained with --task {config.task}; expected a run of --task {task}")
    images = digits.load(config.data, data_dir=config.data_dir)
    if isinstance(options, Continue):
        config = dataclasses.replace(config, frames=config.seen + options.ahead)
    clips = config.draw(images.test)(np.random.default_rng([TRIED, options.seed]), options.clips)
    model = build(config, jax.tree.leaves(clips)[0].shape[2], images.classes)
    return config, model, supervised.restore(run, model.init(jax.random.key(0))), clips


def label(options: Label) -> None:
    """Print what is said of each frame, a line for each clip, and write the picture."""
    _, model, params, clips = opened(options, "label")
    digit, direction = labels(model, params, clips.frames)
    truth = words(model, clips.digit, clips.direction)
    for said, true in zip(words(model, digit, direction), truth, strict=True):
        wrong = sum(a != b for a, b in zip(said, true))
        console.print(f"{' '.join(one.replace(' ', '') for one in said)}   {len(said) - wrong} of {len(said)} right")
    show_labels(options.out, model, clips, digit, direction)


def go_on(options: Continue) -> None:
    """Write the animation, and say how far off it is."""
    config, model, params, clips = opened(options, "predict")
    logits = continued(model, params, clips[: config.seen], options.ahead)
    strips.animation(options.out, clips, 1 / (1 + np.exp(-logits.astype(np.float64))))
    console.print(f"{options.out}: {options.clips} clips, {config.seen} frames seen and {options.ahead} predicted")


main = command(NAME, Config, train, also={"label": (Label, label), "continue": (Continue, go_on)})

if __name__ == "__main__":
    main()
