"""What every experiment shares: the run directory, its config and result, and what watches a run."""

import contextlib
import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import jax
import tyro
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from tensorboardX import SummaryWriter

from jrnn.checkpoint import Checkpoints
from jrnn.train import NonFiniteLoss, Observer, Record, TrainState

console = Console(highlight=False, soft_wrap=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Options of every experiment."""

    out: Path | None = None
    """Run directory to write; by default runs/NAME/TIME. It must not exist yet, except with --resume."""
    resume: bool = False
    """Go on with the run in --out (by default the newest of this experiment), with its own options."""
    data_dir: Path | None = None
    """Where to look for data first; then in the environment variable JRNN_DATA, then it is downloaded."""
    seed: int = 0
    """Of parameters and dropout."""
    keep: int = 2
    """How many of the newest checkpoints to keep, besides the best."""
    smoke: bool = False
    """A tiny run that shows that everything works, and nothing else."""

    SMOKE: ClassVar[dict[str, Any]] = {}  # what --smoke sets


C = TypeVar("C", bound=RunConfig)
UNCOMPARED = {"out", "resume", "data_dir", "keep"}


@dataclasses.dataclass(frozen=True)
class Run:
    """An open run directory: config.json, checkpoints/, curves (TensorBoard, curves.png), result.json."""

    name: str
    config: RunConfig
    directory: Path

    def check_new(self) -> None:
        """ValueError where the directory exists: nothing is overwritten."""
        if self.directory.exists():
            raise ValueError(
                f"--out {self.directory} exists, and nothing is overwritten: choose another, or go on with it by --resume"
            )

    def start(self) -> None:
        """Make the directory of a new run, once its data are read; config.json appears with it."""
        if not self.config.resume:
            self.check_new()
            self.directory.mkdir(parents=True)
            write_json(self.directory / "config.json", {"name": self.name, **_plain(self.config)})

    def open_checkpoints(self) -> Checkpoints:
        """Its checkpoints, of a started run."""
        return Checkpoints(self.directory / "checkpoints", keep=self.config.keep)

    def write_result(self, *, metrics: Mapping[str, Any], floors: Mapping[str, float], seconds: float) -> Path:
        """result.json, with the same keys in every experiment."""
        packages = ("jrnn", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
        result = {
            "config": _plain(self.config),
            "versions": {"python": platform.python_version(), **{package: _version(package) for package in packages}},
            "machine": {
                "system": platform.platform(),
                "cores": os.cpu_count(),
                "devices": [str(device) for device in jax.local_devices()],
            },
            "metrics": dict(metrics),
            "floors": dict(floors),
            "seconds": round(seconds, 1),
        }
        path = self.directory / "result.json"
        write_json(path, result)
        return path


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_all_cores() -> None:
    """One CPU device per core, over which training shards its batch; before JAX starts."""
    with contextlib.suppress(RuntimeError):  # JAX runs already, with the devices it has
        jax.config.update("jax_num_cpu_devices", cores())


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """A user's error as one sentence on stderr and exit status 2, Ctrl-C as status 130; neither with a traceback."""
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(130) from None  # as the shell has it for SIGINT
    except (ValueError, OSError, NonFiniteLoss) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error


def open_run(name: str, config_type: type[C], arguments: Sequence[str] | None = None) -> tuple[Run, C]:
    """Parse the command line; a new run's directory is made by `Run.start`, with --resume it is there already.

    Raises ValueError where the directory exists, where there is nothing to resume, and where options differ from the run's.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    prog = f"python -m experiments.{name}"
    config = tyro.cli(config_type, args=arguments, prog=prog, description=sys.modules[config_type.__module__].__doc__)
    if config.smoke:
        config = dataclasses.replace(config, **config_type.SMOKE)
    if not config.resume:
        stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        run = Run(name, config, config.out or Path("runs") / name / stamp)
        run.check_new()
        return run, config

    directory = config.out or _newest(name)
    stored = read_config(directory, name, config_type)
    given = tyro.cli(config_type, args=arguments, prog=prog, default=stored)  # what is not given is as stored
    differing = [
        f"--{field.name.replace('_', '-')} is {getattr(given, field.name)} (the run has {getattr(stored, field.name)})"
        for field in dataclasses.fields(config_type)
        if field.name not in UNCOMPARED and getattr(given, field.name) != getattr(stored, field.name)
    ]
    if differing:
        raise ValueError(
            f"--resume goes on with the options of {directory}, but {', '.join(differing)}: leave them out"
        )
    return Run(name, given, directory), given


def read_config(directory: Path, name: str, config_type: type[C]) -> C:
    """The config of a run; ValueError where `directory` holds none, or one of another experiment."""
    path = directory / "config.json"
    try:
        stored = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{directory} is not a run directory: {path} cannot be read ({error})") from error
    if stored.pop("name", None) != name:
        raise ValueError(f"{directory} is not a run of {name}: {path} says otherwise")
    try:
        return _from_plain(config_type, stored)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} does not fit {name} of this version: {error}") from error


def _from_plain(config_type: type[C], stored: Mapping[str, Any]) -> C:
    """A config from its JSON: strings become paths where the field is one."""
    paths = {f.name for f in dataclasses.fields(config_type) if "Path" in str(f.type)}
    values: dict[str, Any] = {k: Path(v) if k in paths and v is not None else v for k, v in stored.items()}
    return config_type(**values)


def write_json(path: Path, value: Any) -> None:
    """Whole or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value, indent=2) + "\n")
    partial.replace(path)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed: run from a checkout"


def _newest(name: str) -> Path:
    runs = sorted(path.parent for path in (Path("runs") / name).glob("*/config.json"))
    if not runs:
        raise ValueError(f"--resume found no run in {Path('runs') / name}; name its directory by --out")
    return runs[-1]


def _plain(config: RunConfig) -> dict[str, Any]:
    return {k: str(v) if isinstance(v, Path) else v for k, v in dataclasses.asdict(config).items()}


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
            valid_axes.set(ylabel=f"validation: {self._valid_unit}")
        axes.grid(alpha=0.3)
        handles = {label: handle for ax in (axes, valid_axes) for handle, label in zip(*ax.get_legend_handles_labels())}
        valid_axes.legend(handles.values(), handles.keys(), frameon=False)
        partial = self._directory / "curves.partial"
        figure.savefig(partial, format="png", dpi=120)
        partial.replace(self._directory / "curves.png")
