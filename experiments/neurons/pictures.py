"""Pictures of a network on tasks of neuroscience: its answers, how they come about within a trial, and the weights behind them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from experiments.common.pictures import save
from experiments.data import trials
from experiments.data.trials import Setting, Trials


class Answered(NamedTuple):
    """What a network did in trials."""

    logits: np.ndarray  # float32 [count, time, actions]
    choice: np.ndarray  # int [count]: the action at the last step, other than to fixate
    right: np.ndarray  # bool [count]
    fixated: np.ndarray  # float [count]: share of the steps before the choice at which it fixated


class Curve(NamedTuple):
    """How a network answers as one number of the trial changes."""

    at: np.ndarray  # [points]
    share: np.ndarray  # [points]: of answers
    each: int  # trials of a point
    ideal: np.ndarray | None  # [points]: of those of an ideal observer


def draw(
    path: Path,
    setting: Setting,
    test: Trials,
    answered: Answered,
    curve: Curve,
    w: np.ndarray,
    delays: Sequence[int] = (),
) -> None:
    """The answers, how they come about within a trial, and the weights behind them; `delays` are those of training."""
    figure = Figure(figsize=(15.5, 4.9), layout="constrained")
    answers, course, matrix = figure.subplots(1, 3, gridspec_kw={"width_ratios": [1, 1.15, 1]})
    draw_answers(answers, curve, delays)
    draw_course(course, setting, test, answered, dots=curve.ideal is not None)
    largest = np.quantile(np.abs(w), 0.99)
    image = matrix.imshow(w, cmap="RdBu_r", vmin=-largest, vmax=largest, interpolation="nearest")
    figure.colorbar(image, ax=matrix, label="weight: red excites, blue inhibits", shrink=0.85)
    kind = "any sign, any connection" if w.all() else "one sign in each row, most are 0"
    matrix.set(xlabel="to unit", ylabel="from unit")
    matrix.set_title(f"Recurrent weights: {kind}", fontsize=11)
    save(figure, path)


def draw_answers(axes: Any, curve: Curve, delays: Sequence[int]) -> None:
    error = np.sqrt(np.maximum(curve.share * (1 - curve.share), 0.25 / curve.each) / curve.each)
    if curve.ideal is not None:
        axes.plot(
            curve.at, curve.ideal, "s--", color="#8c8c8c", markersize=4, label="an ideal observer, who adds up all"
        )
    axes.errorbar(curve.at, curve.share, error, fmt="o-", color="#1f77b4", label="the network")
    axes.axhline(0.5, color="#bdbdbd", linewidth=0.8)
    if curve.ideal is not None:
        axes.set(xlabel="dots that move together, percent (below 0: to the left)", ylabel="share of answers “right”")
        axes.set_title("The more dots move together, the surer the answer", fontsize=11)
    else:
        for delay in delays:
            label = "delays in training" if delay == delays[0] else None
            axes.axvline(delay, color="#d62728", linestyle=":", label=label)
        axes.set(xlabel="delay between the two stimuli, ms", ylabel="share of answers that are right", ylim=(0.4, 1.03))
        axes.set_title("How long a stimulus is kept in mind", fontsize=11)
    axes.legend(frameon=False, loc="lower left" if curve.ideal is None else "upper left", fontsize=9)
    axes.grid(alpha=0.3)


def draw_course(axes: Any, setting: Setting, test: Trials, answered: Answered, *, dots: bool) -> None:
    """Means over trials of a kind of the log odds between the two choices."""
    told = answered.logits[:, :, 2] - answered.logits[:, :, 1]
    kinds = test.action[:, -1] * 2 - 3.0  # -1 and 1
    if dots:
        kinds = kinds * test.conditions["coh"]
        said, title = "“right” over “left”", "What it holds true as the dots go on"
    else:
        said, title = "“another” over “the same”", "What it holds true as the trial goes on"
    milliseconds, shown = np.arange(told.shape[1]) * setting.dt, np.unique(kinds)
    for number, kind in enumerate(shown):
        label = f"{kind:+g} %" if dots else ("another" if kind > 0 else "the same")
        colour = colormaps["coolwarm"](number / max(len(shown) - 1, 1))
        axes.plot(milliseconds, told[kinds == kind].mean(0), color=colour, label=label)
    for name, (start, stop) in trials.periods(setting).items():
        if stop > start:
            axes.axvline(start * setting.dt, color="#bdbdbd", linewidth=0.8)
            axes.text(
                start * setting.dt, 1.0, f" {name}", transform=axes.get_xaxis_transform(), fontsize=8, va="top", rotation=90
            )  # fmt: skip
    axes.legend(frameon=False, fontsize=8, loc="lower left", ncols=2)
    axes.set(xlabel="time in a trial, ms", ylabel=f"{said}, log odds")
    axes.set_title(title, fontsize=11)
