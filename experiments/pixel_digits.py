"""Handwritten digits read pixel by pixel: a recurrent network is given one number a step and says which digit it was.

    python -m experiments.pixel_digits

gets 98.1 to 98.6 % of 360 test images of scikit-learn's digits right after 64 steps (seeds 0 to 2), in about two minutes on two
cores and without a download. Of the other 1,437 images 144 are held out, on which the checkpoint is chosen.
`unfolding.png` shows what the network makes of some images while it reads them. MNIST row by row, 28 steps of 28 pixels,

    python -m experiments.pixel_digits --data mnist --order rows --hidden 128 --batch 128 --epochs 10 --learning-rate 0.003 \\
        --every 430

gets 99.2 to 99.3 % of the 10,000 test images right (seeds 0 to 2), in about three minutes.
"""

import dataclasses
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

import jrnn
from experiments.common import pictures, supervised
from experiments.common.classification import HeldOut, report
from experiments.common.command import command
from experiments.common.options import Count, NotNegative, Share
from experiments.common.recurrent import POOLINGS, Cell, Pooling, RecurrentConfig
from experiments.common.run import Run, console
from experiments.data import digits
from jrnn import initializers, losses
from jrnn.data import Batch, batch_axes
from jrnn.models import Classifier

NAME = "pixel_digits"
TARGETS = {("sklearn", "pixels"): 0.95, ("mnist", "rows"): 0.985, ("mnist", "pixels"): 0.97}
PUBLISHED = {
    ("mnist", "pixels"): [{"system": "GRU (Bai et al. 2018)", "accuracy": 0.962}],
    ("mnist", "permuted"): [{"system": "GRU (Bai et al. 2018)", "accuracy": 0.873}],
}
COLOURS = matplotlib.colormaps["tab10"].colors  # type: ignore[attr-defined]
GREYS = matplotlib.colormaps["Greys"].with_extremes(bad="#cfe3f5")  # not read yet
SHOWN = 500  # test images that are classified again after every step, for the picture


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RecurrentConfig, supervised.TrainingConfig):
    """Train a classifier of digits."""

    data: digits.Data = "sklearn"
    """scikit-learn's digits, 8 x 8 pixels, or MNIST, 28 x 28."""
    folder: Path | None = None
    """Any folder of four IDX files named as MNIST's (Fashion-MNIST, say), in place of --data."""
    order: digits.Order = "pixels"
    """One pixel a step from the top left, the same in a fixed random order, or one row a step."""
    cell: Cell = "gru"
    hidden: Count = 64
    """Units in each layer."""
    pooling: Pooling = "last"
    """What is classified: the output after the last step, or the mean, the largest, or a weighted mean of all."""
    chrono: bool = False
    """Begin with memories of all lengths up to that of a sequence: slower to learn 64 steps, meant for hundreds."""
    warp: NotNegative = 1.0
    """In training each image is moved by up to so many pixels, and turned and stretched by about a tenth as much; 0: it is not."""
    early: Share = 0.25
    """Share of training images of which only a beginning is read, so that the network has something to say at every step."""
    epochs: Count = 200
    learning_rate: float = 0.005
    every: Count | None = 100

    SMOKE: ClassVar[dict[str, Any]] = {"hidden": 8, "epochs": 1, "batch": 16}


class Example(NamedTuple):
    """An image and what it shows."""

    rows: np.ndarray  # float32 [height, width]
    label: np.ndarray  # int32 []


def build(config: Config, features: int, classes: int) -> Classifier:
    """Recurrent layers with dropout after each, pooling, output."""
    stack = jrnn.Layered(config.make_stack(features))
    return Classifier(stack, classes, pooling=POOLINGS[config.pooling](config.hidden))


def chrono(model: Classifier, params: Any, key: jax.Array, steps: int) -> Any:
    """`params` whose cells remember for 1 to `steps` steps from the start; ValueError for cells without a gate for it."""
    stack: Any = model.layer
    recurrent = [layer for layer in stack.layers if isinstance(layer, jrnn.Recurrent)]
    keys = jax.random.split(key, len(recurrent))
    each = zip(keys, recurrent, params.layer, strict=True)
    return params._replace(layer=tuple(initializers.chrono(k, layer.cell, own, steps) for k, layer, own in each))


def make_logits(model: Classifier, config: Config) -> Any:
    """Logits [batch, classes] of a batch of images; where there is a key, warped and some of them cut short."""

    def logits(params: Any, batch: Batch, key: jax.Array | None = None) -> jax.Array:
        if key is None:
            return model.apply(params, digits.steps(batch.data.rows, config.order))
        warp, cut, key = jax.random.split(key, 3)
        xs = digits.steps(warped(warp, batch.data.rows, config.warp) if config.warp else batch.data.rows, config.order)
        lengths = beginnings(cut, config.early, *xs.shape[:2]) if config.early else None
        return model.apply(params, xs, lengths=lengths, key=key)

    return logits


def beginnings(key: jax.Array, share: float, time: int, batch: int) -> jax.Array:
    """How much is read of each image, int [batch]: of a `share` of them any number of steps, of the others all."""
    which, where = jax.random.split(key)
    return jnp.where(
        jax.random.bernoulli(which, share, (batch,)), jax.random.randint(where, (batch,), 1, time + 1), time
    )


def make_loss(logits: Any) -> Any:
    """Cross-entropy of a batch; rows that fill it up do not count."""

    def loss(params: Any, batch: Batch, key: jax.Array | None) -> losses.Mean:
        return losses.cross_entropy(logits(params, batch, key), batch.data.label, batch.lengths > 0)

    return loss


def warped(key: jax.Array, rows: jax.Array, by: float) -> jax.Array:
    """Images [height, batch, width], each moved by up to `by` pixels, turned, stretched and sheared; zeros move in."""
    height, batch, width = rows.shape
    how, where = jax.random.split(key)
    matrices = jnp.eye(2) + 0.1 * by * jax.random.normal(how, (batch, 2, 2))
    moves = jax.random.uniform(where, (batch, 2), minval=-by, maxval=by)
    centre = jnp.array([(height - 1) / 2, (width - 1) / 2])
    places = jnp.stack(jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij"), -1) - centre

    def warp(image: jax.Array, matrix: jax.Array, move: jax.Array) -> jax.Array:
        sources = jnp.moveaxis(places @ matrix + centre + move, -1, 0)
        return jax.scipy.ndimage.map_coordinates(image, list(sources), order=1)

    return jax.vmap(warp, in_axes=(1, 0, 0), out_axes=1)(rows, matrices, moves)


def examples(images: digits.Images) -> list[Example]:
    """The images of a part, one by one."""
    return [Example(*pair) for pair in zip(images.pixels, images.labels, strict=True)]


def train(run: Run, config: Config) -> None:
    """Train, evaluate the best checkpoint, write result.json and the pictures."""
    data = digits.load(config.data, folder=config.folder, data_dir=config.data_dir)
    parts = {part: examples(getattr(data, part))[: 48 if config.smoke else None] for part in ("train", "valid", "test")}
    labels = {part: np.array([example.label for example in found]) for part, found in parts.items()}
    time, _, features = digits.steps(parts["train"][0].rows[:, None], config.order).shape
    model = build(config, features, data.classes)
    params = model.init(jax.random.key(config.seed))
    if config.chrono:
        params = chrono(model, params, jax.random.fold_in(jax.random.key(config.seed), 1), time)
    logits = make_logits(model, config)
    batches = {part: supervised.bucketed(parts[part], batch=min(500, len(parts[part]))) for part in ("valid", "test")}
    held_out = HeldOut(logits, batches, labels)
    run.start()
    counts = ", ".join(f"{len(found):,} {part}" for part, found in parts.items())
    console.print(
        f"{data.name}: {counts} images, read in {time} steps of {features}; {config.cell}, {config.layers} x {config.hidden}"
    )
    best, fitted = supervised.train(
        run,
        config,
        params=params,
        loss=make_loss(logits),
        batches=supervised.bucketed(parts["train"], batch=config.batch, seed=config.seed),
        batch_axes=batch_axes(parts["train"][0]),
        evaluate=held_out.surprise,
        unit="nats",
    )
    kind = ("" if config.folder or config.smoke else config.data, config.order)
    report(
        run,
        fitted,
        best,
        held_out,
        trained_on=labels["train"],
        names=range(data.classes),
        target=TARGETS.get(kind),
        published=PUBLISHED.get(kind, []),
    )
    unfold(run.directory / "unfolding.png", model, best, data.test, config.order)


def unfold(path: Path, model: Classifier, params: Any, images: digits.Images, order: digits.Order) -> None:
    """The picture: digits as they are read, what the network makes of them meanwhile, and how often it is right by then."""
    pixels, labels = images.pixels[:SHOWN], images.labels[:SHOWN]
    xs = jnp.asarray(digits.steps(pixels.swapaxes(0, 1), order))
    time = len(xs)
    read = np.unique(np.linspace(1, time, min(time, 64)).astype(np.int32))

    @jax.jit
    def after(steps: jax.Array) -> jax.Array:
        return jax.nn.softmax(model.apply(params, xs, lengths=jnp.full(len(labels), steps)))

    probabilities = np.stack([np.asarray(after(steps)) for steps in read])  # [read, images, classes]
    right = probabilities.argmax(-1) == labels
    figure = Figure(figsize=(11, 8.5), layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=[3, 1])
    panels = halves[0].subfigures(2, 2)
    for panel, image in zip(panels.flat, interesting(right[-1], labels)):
        said = probabilities[-1, image].argmax()
        panel.suptitle(f"a {labels[image]}" if right[-1, image] else f"a {labels[image]}, taken for a {said}")
        glimpses = [seen_by(time * part // 8, pixels[image].shape, order) for part in range(1, 9)]
        draw_reading(panel, pixels[image], glimpses, read, probabilities[:, image])
    classes = [Patch(color=COLOURS[digit % 10], label=str(digit)) for digit in range(probabilities.shape[-1])]
    figure.legend(handles=classes, loc="outside upper center", ncols=len(classes), frameon=False)
    axes = halves[1].subplots()
    axes.plot(read, 100 * right.mean(1), color="#1f77b4")
    axes.set(xlim=(0, time), ylim=(0, 100), xlabel="steps read", ylabel=f"% of {len(labels)} right")
    axes.grid(alpha=0.3)
    pictures.save(figure, path)


def draw_reading(
    panel: Any, image: np.ndarray, glimpses: list[np.ndarray], read: np.ndarray, shares: np.ndarray
) -> None:
    """One image: above what is read by each eighth of the steps, below the probability of each class, [read, classes]."""
    grid = panel.add_gridspec(2, len(glimpses), height_ratios=[1, 1.8])
    for place, seen in enumerate(glimpses):
        axes = panel.add_subplot(grid[0, place])
        axes.imshow(np.where(seen, image, np.nan), cmap=GREYS, vmin=0, vmax=1)
        axes.set(xticks=[], yticks=[])
    axes = panel.add_subplot(grid[1, :])
    axes.stackplot(read, shares.T, colors=COLOURS)
    axes.set(xlim=(read[0], read[-1]), ylim=(0, 1), yticks=[])


def interesting(right: np.ndarray, labels: np.ndarray) -> list[int]:
    """Four images: the first three of different classes that are recognised, and the first that is not, if there is one."""
    wrong = np.flatnonzero(~right)[:1].tolist()
    firsts = sorted(int(np.flatnonzero(right & (labels == label))[0]) for label in np.unique(labels[right]))
    return (firsts[: 4 - len(wrong)] + wrong)[:4]


def seen_by(steps: int, shape: tuple[int, int], order: digits.Order) -> np.ndarray:
    """Which pixels of an image are read within so many steps: bool [height, width]."""
    places = np.arange(shape[0] * shape[1], dtype=np.float32).reshape(shape)
    seen = digits.steps(places[:, None], order)[:steps]
    return np.isin(places, seen)


main = command(NAME, Config, train)

if __name__ == "__main__":
    main()
