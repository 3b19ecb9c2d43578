"""What watches a run: a progress bar, curves, and a look inside the network."""

import textwrap
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from tensorboardX import SummaryWriter

from experiments.common.run import console
from jrnn.diagnostics import gradient_by_lag, saturation
from jrnn.train import Observer, Record, TrainState


class Bar(Observer):
    """A progress bar with loss and tokens per second, and a line for each evaluation."""

    def __init__(self, steps: int, *, done: int, tokens: int, unit: str):
        self._tokens, self._unit = tokens, unit
        self._seconds, self._steps, self._before = 0.0, 0, time.perf_counter()
        columns = (
            TextColumn("step {task.completed}/{task.total}"),
            BarColumn(),
            TextColumn("loss {task.fields[loss]}  {task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
        )
        self.progress = Progress(*columns, console=console)
        self._task = self.progress.add_task("", total=steps, completed=done, loss="", rate="")

    def on_step(self, step: int, loss: float) -> None:
        now = time.perf_counter()
        if self._steps:  # the first step compiles
            self._seconds += now - self._before
        self._before = now
        self._steps += 1
        rate = (self._steps - 1) * self._tokens / self._seconds if self._seconds else 0.0
        self.progress.update(self._task, completed=step, loss=f"{loss:.3f}", rate=f"{rate:,.0f} {self._unit}/s")

    def on_record(self, records: list[Record], state: TrainState) -> None:
        new, best = records[-1], min(record.valid for record in records)
        mark = "  best so far" if new.valid == best else ""
        self._before = time.perf_counter()
        console.print(f"step {new.step:>6}  training {new.loss:.4f}  validation {new.valid:.4f}{mark}")


class Curves(Observer):
    """Training and validation loss, to TensorBoard and to curves.png; with `valid_unit`, validation on an axis of its own."""

    def __init__(
        self, directory: Path, *, unit: str, floors: Mapping[str, float], done: int, valid_unit: str | None = None
    ):
        self._directory, self._unit, self._floors, self._valid_unit = directory, unit, floors, valid_unit
        # What was logged after the checkpoint that a run resumes from is hidden, as it comes again.
        self._writer = SummaryWriter(str(directory / "tensorboard"), purge_step=done + 1)

    def on_step(self, step: int, loss: float) -> None:
        self._writer.add_scalar("loss/step", loss, step)

    def on_record(self, records: list[Record], state: TrainState) -> None:
        self._writer.add_scalar("loss/training", records[-1].loss, records[-1].step)
        self._writer.add_scalar("loss/validation", records[-1].valid, records[-1].step)
        self._writer.flush()
        self.draw(records)

    def draw(self, records: list[Record]) -> None:
        from matplotlib.figure import Figure  # slow to import; needs no display

        from experiments.common import pictures

        figure = Figure(figsize=(7, 4.2), layout="constrained")
        axes = figure.subplots()
        valid_axes = axes if self._valid_unit is None else axes.twinx()
        steps = [record.step for record in records]
        axes.plot(steps, [record.loss for record in records], label="training", color="#8c8c8c")
        valid_axes.plot(steps, [record.valid for record in records], label="validation", color="#1f77b4")
        for (label, value), style in zip(self._floors.items(), ("--", ":", "-.")):
            valid_axes.axhline(value, label=f"{label} {value:.3f}", color="#d62728", linestyle=style, linewidth=1)
        axes.set(xlabel="step", ylabel=self._unit if self._valid_unit is None else f"training: {self._unit}")
        if self._valid_unit is not None:
            # A longer line would be higher than the picture.
            valid_axes.set(ylabel=textwrap.fill(f"validation: {self._valid_unit}", 45))
        axes.grid(alpha=0.3)
        handles = {label: handle for ax in (axes, valid_axes) for handle, label in zip(*ax.get_legend_handles_labels())}
        valid_axes.legend(handles.values(), handles.keys(), frameon=False)
        pictures.save(figure, self._directory / "curves.png")


class Inside(Observer):
    """What goes on inside a network, to TensorBoard, every so many steps.

    `look(params)` gives numbers and arrays by name, which become curves and histograms; `look_inside` makes one. Where a look would
    take the time of all but the first, which compiles, above `share` of that of the run it is left out: 20 looks at 64 sequences of
    60 steps and a GRU of 24 units (`flip_flop`) took 0.5 of 40 seconds. Whether gradients were clipped is counted over every step.
    """

    def __init__(
        self,
        directory: Path,
        look: Callable[[Any], Mapping[str, Any]],
        *,
        every: int,
        clip: float,
        done: int,
        share: float = 0.05,
    ):
        self.every = every
        self._look, self._clip, self._share = look, clip, share
        self._writer = SummaryWriter(str(directory / "tensorboard"), purge_step=done + 1, filename_suffix=".inside")
        self._norms: list[float] = []
        self._began, self.seconds, self.looks = time.perf_counter(), 0.0, 0

    def on_gradient(self, step: int, norm: float) -> None:
        self._norms.append(norm)

    def on_state(self, step: int, state: TrainState) -> None:
        norms = np.array(self._norms)
        self._writer.add_scalar("inside/gradient norm", float(np.median(norms)), step)
        self._writer.add_scalar("inside/share of steps clipped", float(np.mean(norms > self._clip)), step)
        self._norms = []
        before = time.perf_counter()
        next_one = self.seconds / max(self.looks - 1, 1)
        if self.seconds + next_one > self._share * (before - self._began):
            return
        for name, value in self._look(state.params).items():
            value = np.asarray(value)
            if value.ndim:
                self._writer.add_histogram(f"inside/{name}", value[np.isfinite(value)], step)
            else:
                self._writer.add_scalar(f"inside/{name}", value, step)
        after = time.perf_counter()
        if self.looks == 0:
            self._began += after - before
        else:
            self.seconds += after - before
        self.looks += 1


def look_inside(
    loss: Callable[[jax.Array], jax.Array], layer: Any, xs: Any, params_of: Callable[[Any], Any] = lambda params: params
) -> Callable[[Any], dict[str, Any]]:
    """For `Inside`: gradients by lag of `loss(ys)`, and gates, of a causal layer that reads `xs` [time, batch, ...].

    `params_of` takes the layer's parameters out of those of the model.
    """

    @jax.jit
    def look(params: Any, xs: Any) -> dict[str, Any]:
        lags, norms, factor = gradient_by_lag(loss, layer, params_of(params), xs)
        first = norms[0]
        found = {"gradient, factor a step": jnp.exp(jnp.nanmean(jnp.log(factor)))}
        for lag in (10, 100):
            if lag < len(lags):
                found[f"gradient at lag {lag} over lag 1"] = jnp.nanmean(norms[lag - 1] / first)
        for name, gate in saturation(layer, params_of(params), xs).items():
            found |= {
                f"{name} low": gate.low.mean(),
                f"{name} high": gate.high.mean(),
                f"{name} of each unit": gate.mean,
            }
        return found

    return lambda params: look(params, xs)
