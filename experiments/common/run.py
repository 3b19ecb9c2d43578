"""The directory of a run: its config and result, its checkpoints, and what else it keeps."""

import dataclasses
import importlib.metadata
import json
import os
import platform
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import jax
from rich.console import Console

import jrnn
from experiments.common.options import Count, check
from experiments.common.processes import by_first
from jrnn.checkpoint import Checkpoints
from jrnn.train import of_first

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
    keep: Count = 2
    """How many of the newest checkpoints to keep, besides the best."""
    smoke: bool = False
    """A tiny run that shows that everything works, and nothing else."""

    SMOKE: ClassVar[Mapping[str, Any]] = {}  # what --smoke sets

    def __post_init__(self) -> None:
        check(self)

    def resolved(self) -> Self:
        """With what depends on other options or on the environment filled in, so that --resume and what tries a run know it."""
        return self

    def filled(self, defaults: Mapping[str, Any]) -> Self:
        """With `defaults` for those options of them that were not given, which are None."""
        return dataclasses.replace(self, **{name: defaults[name] for name in defaults if getattr(self, name) is None})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained:
    """Option of what takes a finished run, to mix in."""

    run: Path
    """Run directory of a trained model; its best checkpoint is used."""

    def __post_init__(self) -> None:
        check(self)


C = TypeVar("C", bound=RunConfig)


@dataclasses.dataclass(frozen=True)
class Run:
    """An open run directory: config.json, checkpoints/, curves (TensorBoard, curves.png), result.json."""

    name: str
    config: RunConfig
    directory: Path

    def check_new(self) -> None:
        """ValueError where the directory exists: nothing is overwritten."""
        if of_first(self.directory.exists()):
            raise ValueError(
                f"--out {self.directory} exists, and nothing is overwritten: choose another, or go on with it by --resume"
            )

    def start(self, files: Mapping[str, Any] | None = None) -> None:
        """Make the directory of a new run, once its data are read; config.json appears with it, and `files` of JSON by name."""
        if not self.config.resume:
            self.check_new()
            self._make()
        for name, value in (files or {}).items():
            write_json(self.directory / name, value)

    @by_first
    def _make(self) -> None:
        """The directory with config.json in it, at once: a process killed here leaves no run that can neither begin nor go on."""
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.directory.parent, prefix=f".{self.directory.name}-") as parent:
            made = Path(parent) / "run"
            made.mkdir()
            write_json(made / "config.json", {"name": self.name, **_plain(self.config)})
            made.rename(self.directory)

    def read(self, name: str) -> Any:
        """What a file of JSON in it holds; ValueError where it is not there, as in a run of another version."""
        path = self.directory / name
        if not path.is_file():
            raise ValueError(f"{path} is not there; expected a run of {self.name} of this version: train it again")
        return json.loads(path.read_text())

    def open_checkpoints(self) -> Checkpoints:
        """Its checkpoints, of a started run."""
        return Checkpoints(self.directory / "checkpoints", keep=self.config.keep)

    def write_result(self, *, metrics: Mapping[str, Any], floors: Mapping[str, float], seconds: float) -> Path:
        """result.json, with the same keys in every experiment."""
        packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
        versions = {package: importlib.metadata.version(package) for package in packages}
        result = {
            "config": _plain(self.config),
            "versions": {"python": platform.python_version(), "jrnn": jrnn.__version__, **versions},
            "machine": {
                "system": platform.platform(),
                "cores": os.cpu_count(),
                "devices": [str(device) for device in jax.devices()],
            },
            "metrics": dict(metrics),
            "floors": dict(floors),
            "seconds": round(seconds, 1),
        }
        path = self.directory / "result.json"
        write_json(path, result)
        return path


def open_finished(directory: Path, name: str, config_type: type[C]) -> tuple[Run, C]:
    """A run of experiment `name` and its config; ValueError where `directory` holds none, or one of another experiment.

    `supervised.restore` gives its best parameters.
    """
    path = directory / "config.json"
    try:
        stored = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{directory} is not a run directory: {path} cannot be read ({error})") from error
    if stored.pop("name", None) != name:
        raise ValueError(f"{directory} is not a run of {name}: {path} says otherwise")
    try:
        config = _from_plain(config_type, stored)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} does not fit {name} of this version: {error}") from error
    return Run(name, config, directory), config


@by_first
def write_json(path: Path, value: Any) -> None:
    """Whole or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value, indent=2) + "\n")
    partial.replace(path)


def _from_plain(config_type: type[C], stored: Mapping[str, Any]) -> C:
    """A config from its JSON: strings become paths where the field is one, lists tuples."""
    paths = {f.name for f in dataclasses.fields(config_type) if "Path" in str(f.type)}

    def one(name: str, value: Any) -> Any:
        if isinstance(value, list):
            return tuple(one(name, part) for part in value)
        return Path(value) if name in paths and value is not None else value

    return config_type(**{name: one(name, value) for name, value in stored.items()})


def _plain(config: RunConfig) -> dict[str, Any]:
    def one(value: Any) -> Any:
        if isinstance(value, tuple):
            return [one(part) for part in value]
        return str(value) if isinstance(value, Path) else value

    return {name: one(value) for name, value in dataclasses.asdict(config).items()}
