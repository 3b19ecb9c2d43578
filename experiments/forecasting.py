"""Forecasting: several variables at once, from the past few days to the next few, with how sure the forecast is.

SegRNN (Lin et al. 2023): every variable is a row of its own with the weights shared; its past is cut into segments, so that a
recurrent network takes few steps over it; and from the state it ends in, each segment ahead is read by one more step of the same
cell, whose input says which segment and which variable is meant. All segments ahead are read at once, not one from another. The
last value is taken off first and put back at the end. Unlike SegRNN, the network forecasts quantiles, by the pinball loss (Koenker
& Bassett 1978); the median is the forecast.

    python -m experiments.forecasting

forecasts the CO2 in the air above Mauna Loa a year ahead from the two years before, week by week, with no download: on the last
fifth of the years an MSE of 0.0057 to 0.0060 and an MAE of 0.058 to 0.060, which is 0.5 ppm (seeds 0 to 2; the year before and its
change, repeated: 0.0140 and 0.092; without its change: 0.0471 and 0.196), in about a minute and a half of one core.
With a data folder, or by `--data etth1`, it forecasts 96 hours of ETTh1 from the 96 before: an MSE of 0.374 and an MAE of 0.397
(the day before, repeated: 0.512 and 0.433) in about two minutes of one core.
"""

import dataclasses
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import grain
import jax
import jax.numpy as jnp
import numpy as np

import jrnn
from experiments.common import pictures
from experiments.common.command import command
from experiments.common.options import Count, Encoding, Rate, check_one
from experiments.common.recurrent import Cell, CellConfig
from experiments.common.run import Run, console
from experiments.common.supervised import TrainingConfig, finish, mean_loss, train
from experiments.data import forecasting as data
from experiments.data.files import folder_given
from experiments.data.forecasting import Data
from jrnn import losses
from jrnn.arrays import affine, broadcast_like

NAME = "forecasting"
QUANTILES = (0.1, 0.5, 0.9)
MEDIAN = QUANTILES.index(0.5)
FLOORS = {"the season before, repeated": data.repeated, "the season before and its change, repeated": data.drifted}
PUBLISHED = {"DLinear": 0.386, "iTransformer": 0.386, "SegRNN": 0.368}  # MSE, ETTh1, look-back 96, horizon 96


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(CellConfig, TrainingConfig):
    """Train a forecaster."""

    data: Data | None = None
    """The weekly CO2 above Mauna Loa, which needs no download, or ETTh1; by default ETTh1 where a data folder is given."""
    file: Path | None = None
    """A csv file in their place: a header, times in the first column at equal steps, numbers in all others. Commas, semicolons or
    tabs between them."""
    encoding: Encoding = "utf-8"
    """Of --file: latin-1, cp1252 and so on."""
    lookback: int | None = None
    """Rows that a forecast is made from; by default 104 of co2 and 96 of others."""
    horizon: int | None = None
    """Rows that are forecast; by default 52 of co2 and 96 of others."""
    segment: Count | None = None
    """Rows that the network takes in one step; look-back and horizon are multiples of it. By default 26 of co2, 24 of others."""
    cell: Cell = "gru"
    hidden: Count = 128
    """Units, an even number."""
    dropout: Rate = 0.5
    """Share of features dropped before the output."""
    batch: Count = 256
    """Windows side by side, each with all its variables."""
    epochs: Count | None = None
    """Passes over the training windows; by default 100 over co2's 1,215 and 10 over others."""
    learning_rate: float = 0.004

    SMOKE: ClassVar[dict[str, Any]] = {"hidden": 8, "epochs": 1}

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one(self, "data", "file")
        if self.hidden % 2:
            raise ValueError(f"--hidden is {self.hidden}; expected an even number, at least 2")
        if self.segment is None:
            return  # `resolved` fills it in, which comes through here again
        for name in ("lookback", "horizon"):
            rows = getattr(self, name)
            if rows is not None and (rows < 1 or rows % self.segment):
                raise ValueError(f"--{name} is {rows}; expected a multiple of --segment, {self.segment}")

    def resolved(self) -> Self:
        """With the data that are read and what suits them."""
        name = self.data
        if name is None and self.file is None:
            name = "etth1" if folder_given(self.data_dir) else "co2"
        return dataclasses.replace(self.filled(TASKS.get(name or "", ANY_OTHER)._asdict()), data=name)


class Task(NamedTuple):
    """What is forecast from what, and how long that takes to learn; each is an option too."""

    lookback: int
    horizon: int
    segment: int
    epochs: int


TASKS = {"co2": Task(lookback=104, horizon=52, segment=26, epochs=100)}
ANY_OTHER = Task(lookback=96, horizon=96, segment=24, epochs=10)


class Window(NamedTuple):
    """Windows side by side, time first."""

    past: Any  # float32 [lookback, batch, variables]
    future: Any  # float32 [horizon, batch, variables]


BATCH_AXES = Window(past=1, future=1)


class ForecasterParams(NamedTuple):
    w_in: jax.Array  # [segment, hidden]
    b_in: jax.Array  # [hidden]
    cell: Any  # the cell's own
    place: jax.Array  # [segments ahead, hidden / 2]: which segment is asked for
    variable: jax.Array  # [variables, hidden / 2]: of which variable
    w_out: jax.Array  # [hidden, segment * quantiles]
    b_out: jax.Array  # [segment * quantiles]


@dataclasses.dataclass(frozen=True)
class Forecaster:
    """Segments in, segments out, as described above; `cell` has as many inputs as outputs."""

    cell: jrnn.Cell
    variables: int
    horizon: int
    segment: int
    dropout: float

    def init(self, key: jax.Array) -> ForecasterParams:
        keys = jax.random.split(key, 5)
        glorot, hidden = jax.nn.initializers.glorot_uniform(), self.cell.input_size
        outputs = self.segment * len(QUANTILES)
        return ForecasterParams(
            w_in=glorot(keys[0], (self.segment, hidden)),
            b_in=jnp.zeros(hidden),
            cell=self.cell.init(keys[1]),
            place=jax.random.normal(keys[2], (self.horizon // self.segment, hidden // 2)),
            variable=jax.random.normal(keys[3], (self.variables, hidden // 2)),
            w_out=glorot(keys[4], (self.cell.output_size, outputs)),
            b_out=jnp.zeros(outputs),
        )

    def apply(self, params: ForecasterParams, past: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """past [lookback, batch, variables] -> quantiles [horizon, batch, variables, quantiles]."""
        _, batch, variables = past.shape
        segments = (past - past[-1:]).reshape(-1, self.segment, batch, variables)
        xs = jax.nn.relu(affine(jnp.moveaxis(segments, 1, -1), params.w_in, params.b_in))
        state, _ = jrnn.unroll(self.cell, params.cell, xs)  # xs [segments, batch, variables, hidden]
        ahead = len(params.place)
        each = (ahead, batch, variables, params.place.shape[-1])
        place = jnp.broadcast_to(params.place[:, None, None], each)
        variable = jnp.broadcast_to(params.variable[None, None], each)
        state = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (ahead, *leaf.shape)), state)
        _, ys = self.cell.step(params.cell, state, jnp.concatenate([place, variable], -1))
        _, ys = jrnn.Dropout(self.dropout).apply((), ys, key=key)
        rows = affine(ys, params.w_out, params.b_out).reshape(*each[:-1], self.segment, len(QUANTILES))
        rows = jnp.moveaxis(rows, -2, 1).reshape(self.horizon, batch, variables, len(QUANTILES))
        return rows + past[-1:, ..., None]


def pinball(quantiles: jax.Array, truth: jax.Array) -> losses.Mean:
    """Mean pinball loss of `quantiles` [..., quantiles] against `truth` [...]: the absolute error for the median alone."""
    over = truth[..., None] - quantiles
    shares = broadcast_like(jnp.asarray(QUANTILES, over.dtype), over)
    cost = 2 * jnp.maximum(shares * over, (shares - 1) * over)
    return losses.Mean(total=cost.sum(), weight=jnp.asarray(cost.size, cost.dtype))


def take(windows: data.Windows, places: Any) -> Window:
    """A batch of the windows at `places`, indices or a slice."""
    return Window(past=windows.past[places].swapaxes(0, 1), future=windows.future[places].swapaxes(0, 1))


def shuffled(windows: data.Windows, batch: int, seed: int) -> grain.MapDataset:
    """One pass over windows in random order; what does not fill a batch is left out."""
    source = grain.MapDataset.source(range(len(windows.past))).shuffle(seed=seed)
    size = min(batch, len(windows.past))
    return source.batch(size, drop_remainder=True, batch_fn=lambda places: take(windows, np.asarray(places)))


def in_order(windows: data.Windows, batch: int = 256) -> list[Window]:
    """All windows; the last batch may be shorter."""
    return [take(windows, slice(start, start + batch)) for start in range(0, len(windows.past), batch)]


def in_rising_order(model: Forecaster, params: Any, past: jax.Array) -> jax.Array:
    """Quantiles, which training does not keep from crossing, [horizon, batch, variables, quantiles]."""
    return jnp.sort(model.apply(params, past), -1)


def forecast(model: Forecaster, params: Any, windows: data.Windows) -> np.ndarray:
    """Quantiles [windows, horizon, variables, quantiles], standardised."""
    f = jax.jit(lambda params, past: in_rising_order(model, params, past))
    return np.concatenate([np.asarray(f(params, one.past)).swapaxes(0, 1) for one in in_order(windows)])


def experiment(run: Run, config: Config) -> None:
    """Train, test the best checkpoint, write result.json and the picture."""
    task = Task(*(getattr(config, name) for name in Task._fields))
    series = data.load(config.data or "co2", file=config.file, encoding=config.encoding, data_dir=config.data_dir)
    for note in series.notes:
        console.print(f"{series.name}: {note}", style="dim")
    parts = {part: data.windows(series, part, lookback=task.lookback, horizon=task.horizon) for part in data.PARTS}
    if config.smoke:
        parts = {part: data.Windows(*(field[:512] for field in windows)) for part, windows in parts.items()}
    model = Forecaster(config.make_cell(config.hidden), len(series.columns), task.horizon, task.segment, config.dropout)

    def squared_error(params: Any, window: Window, key: None) -> losses.Mean:
        median = in_rising_order(model, params, window.past)[..., MEDIAN]
        return losses.squared_error(median, window.future, None)

    naive = {
        name: {part: floor(series, windows, task.horizon) for part, windows in parts.items()}
        for name, floor in FLOORS.items()
    }
    run.start()
    console.print(
        f"{series.name}: {len(series.columns)} variables, {task.lookback} rows in, {task.horizon} out; windows: "
        + ", ".join(f"{len(windows.past):,} {part}" for part, windows in parts.items())
    )
    params, fitted = train(
        run,
        config,
        params=model.init(jax.random.key(config.seed)),
        loss=lambda params, window, key: pinball(model.apply(params, window.past, key), window.future),
        batches=shuffled(parts["train"], config.batch, config.seed),
        batch_axes=BATCH_AXES,
        evaluate=mean_loss(squared_error, in_order(parts["valid"])),
        unit="pinball loss",
        valid_unit="MSE",
        floors={name: errors(found["valid"], parts["valid"].future)["mse"] for name, found in naive.items()},
    )
    found = {part: forecast(model, params, parts[part]) for part in ("valid", "test")}
    report(run, config, series, fitted, parts, found, naive)


def errors(predicted: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Mean squared and mean absolute error over everything."""
    difference = predicted.astype(np.float64) - truth
    return {"mse": float(np.square(difference).mean()), "mae": float(np.abs(difference).mean())}


def report(run: Run, config: Config, series: data.Series, fitted: Any, parts: Any, found: Any, naive: Any) -> None:
    """Errors of the best checkpoint beside the floor; result.json and the picture."""
    truth, quantiles = parts["test"].future, found["test"]
    median = quantiles[..., MEDIAN]
    test = errors(median, truth)
    below = {name: errors(each["test"], truth) for name, each in naive.items()}
    standard = config.data == "etth1" and (config.lookback, config.horizon) == (96, 96) and not config.smoke
    metrics = {
        "test": test,
        "valid": errors(found["valid"][..., MEDIAN], parts["valid"].future),
        "test_by_variable": {
            name: errors(median[..., place], truth[..., place]) for place, name in enumerate(series.columns)
        },
        "share_of_truth_between_quantiles": {
            f"{QUANTILES[0]} and {QUANTILES[-1]}": float(
                ((truth >= quantiles[..., 0]) & (truth <= quantiles[..., -1])).mean()
            )
        },
        "windows": {part: len(windows.past) for part, windows in parts.items()},
        "published_mse": PUBLISHED if standard else {},
    }
    floors = {f"{name}: {unit}": value for name, each in below.items() for unit, value in each.items()}
    better = min(naive, key=lambda name: errors(naive[name]["valid"], parts["valid"].future)["mse"])
    draw(run.directory / "forecasts.png", series, parts["test"], quantiles, {better: naive[better]["test"]})
    said = (
        f"test MSE {test['mse']:.4f}, MAE {test['mae']:.4f} over {len(truth):,} windows (standardised by the training rows); "
        + "; ".join(f"{name}: {each['mse']:.4f}, {each['mae']:.4f}" for name, each in below.items())
        + "".join(f"; {name} {value}" for name, value in metrics["published_mse"].items())
    )
    finish(run, fitted, said, metrics=metrics, floors=floors)


def draw(path: Path, series: data.Series, windows: data.Windows, quantiles: np.ndarray, naive: Any) -> None:
    """Every variable (up to 8), over three windows of the test part, in the units of the file; `naive` is a floor by its name."""
    from matplotlib.figure import Figure  # slow to import

    names = series.columns[:8]
    shown = [len(windows.past) * place // 6 for place in (1, 3, 5)]
    figure = Figure(figsize=(12, 1.1 + max(1.35 * len(names), 2.7)), layout="constrained")
    grid = figure.subplots(len(names), len(shown), sharex=True, sharey="row", squeeze=False)
    lookback, horizon = windows.past.shape[1], windows.future.shape[1]
    before, after = np.arange(-lookback, 0), np.arange(horizon)
    mean, deviation = data.scale(series)
    for (row, column), axes in np.ndenumerate(grid):
        place = shown[column]

        def units(standardised: np.ndarray, row: int = row) -> np.ndarray:
            return standardised * deviation[row] + mean[row]

        low, middle, high = (units(quantiles[place, :, row, index]) for index in (0, MEDIAN, -1))
        axes.plot(before, units(windows.past[place, :, row]), color="#8c8c8c", linewidth=1)
        axes.plot(after, units(windows.future[place, :, row]), color="black", linewidth=1.2, label="truth")
        for name, floor in naive.items():
            axes.plot(after, units(floor[place, :, row]), color="#d62728", linewidth=0.8, linestyle=":", label=name)
        axes.fill_between(after, low, high, color="#1f77b4", alpha=0.2, linewidth=0, label="10 to 90 %")
        axes.plot(after, middle, color="#1f77b4", linewidth=1.6, label="forecast")
        axes.axvline(-0.5, color="#8c8c8c", linewidth=0.6)
        if row == 0:
            axes.set_title(
                f"from {str(series.times[windows.first[place]]).replace('T', ' ')[:16].removesuffix(' 00:00')}",
                fontsize=10,
            )
        if column == 0:
            axes.set_ylabel(names[row])
    for axes in grid[-1]:
        axes.set_xlabel("rows ahead")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=4, frameon=False)
    pictures.save(figure, path)


main = command(NAME, Config, experiment)

if __name__ == "__main__":
    main()
