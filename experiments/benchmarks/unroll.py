"""Times of `jrnn.unroll` beside those of other libraries: full layers, forward and training, same weights, interleaved.

Every peer's outputs and gradients are compared with a float64 reference before it is timed. `--quick` takes about two
minutes on two cores, the whole grid hours; a killed run goes on by --resume. Writes result.json, grid.md and grid.png.
"""

import dataclasses
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import tyro

from experiments.common.command import explained, open_run, use_all_cores
from experiments.common.run import Run, RunConfig, console, write_json

from . import measure, report
from .peers import ENGINES, JAX_PEERS, ours
from .textbook import FUNCTIONS, Data, draw, flop, reference, variant

NAME = "benchmarks.unroll"
PEERS = (*JAX_PEERS, "pytorch")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """Which points of the grid to measure, and how; the input size is the hidden size."""

    data_dir: tyro.conf.Suppress[Path | None] = None
    keep: tyro.conf.Suppress[int] = 2

    seed: int = 0
    """Of weights, inputs and the order of the calls."""
    quick: bool = False
    """About a dozen representative points, of those that the options below leave."""
    cells: tuple[Literal["elman", "lstm", "gru", "projected_lstm"], ...] = ("elman", "lstm", "gru", "projected_lstm")
    """Recurrent layers; the projection has half the hidden size."""
    hidden: tuple[int, ...] = (32, 64, 128, 256, 512)
    """Units."""
    batch: tuple[int, ...] = (1, 8, 32, 128)
    """Rows; where the devices share them evenly there is a sharded run too."""
    time: tuple[int, ...] = (32, 128, 512)
    """Steps."""
    dtypes: tuple[Literal["float32", "bfloat16", "float16"], ...] = ("float32", "bfloat16")
    """Of weights and inputs."""
    modes: tuple[Literal["forward", "train"], ...] = ("forward", "train")
    """Training: the gradients of x and of all weights."""
    peers: tuple[Literal[PEERS], ...] = PEERS  # type: ignore[valid-type]
    """The other libraries; one that is not installed is listed as missing."""
    engines: tuple[Literal[tuple(ENGINES)], ...] = ()  # type: ignore[valid-type]
    """jrnn with these engines too, besides its default one."""
    rounds: int = 21
    """How often each program runs."""
    seconds: float = 20.0
    """Fewer rounds, but at least five, where they would take longer than this at one point."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # JSON has lists
            if isinstance(getattr(self, field.name), list):
                object.__setattr__(self, field.name, tuple(getattr(self, field.name)))
        for name in ("cells", "hidden", "batch", "time", "dtypes", "modes"):
            if not getattr(self, name):
                raise ValueError(f"--{name} is empty; expected at least one")
        for name in ("hidden", "batch", "time"):
            if min(getattr(self, name)) < 1:
                raise ValueError(f"--{name} holds {min(getattr(self, name))}; expected at least 1")
        if self.rounds < 1:
            raise ValueError(f"--rounds is {self.rounds}; expected at least 1")


class Point(NamedTuple):
    cell: str
    hidden: int
    batch: int
    time: int
    dtype: str
    mode: str

    def __str__(self) -> str:
        return f"{self.cell} H={self.hidden} B={self.batch} T={self.time} {self.dtype} {self.mode}"


QUICK = (
    ("lstm", 64, 8, 512, "float32"),
    ("lstm", 128, 1, 128, "float32"),
    ("lstm", 128, 32, 128, "float32"),
    ("lstm", 128, 32, 128, "bfloat16"),
    ("lstm", 256, 32, 128, "float32"),
    ("gru", 128, 32, 128, "float32"),
    ("elman", 128, 32, 128, "float32"),
    ("projected_lstm", 128, 32, 128, "float32"),
)


def grid(config: Config) -> list[tuple[Any, ...]]:
    """The points, without their mode."""
    axes = (config.cells, config.hidden, config.batch, config.time, config.dtypes)
    points = list(itertools.product(*axes))
    return [point for point in QUICK if point in points] if config.quick else points


class Row(NamedTuple):
    """One program of a point."""

    name: str
    kind: str  # jrnn, jax or torch
    layer: Any
    function: str  # what it computes
    against: str  # the row of jrnn that computes the same


def rows(config: Config, cell: str, hidden: int, batch: int, dtype: str, broken: dict[str, str]) -> Iterator[Row]:
    """jrnn's and the peers'; why a peer cannot be built goes into `broken`."""
    functions = {cell: "jrnn"}
    for name in config.peers:
        try:
            layer = build(name, cell, hidden, dtype)
        except ImportError as error:
            broken[name] = f"not installed: {error}"
        except Exception as error:  # a peer may fail in any way, and the others go on
            broken[name] = described(error)
        else:
            if layer is not None:
                function = layer.function or cell
                functions.setdefault(function, f"jrnn ({function})")
                yield Row(name, kind_of(name), layer, function, functions[function])
    for function, name in functions.items():
        yield Row(name, "jrnn", ours(FUNCTIONS[function].cell(hidden)), function, name)
    for engine in config.engines:
        layer = ours(FUNCTIONS[cell].cell(hidden), engine=ENGINES[engine])
        yield Row(f"jrnn {engine}", "jrnn", layer, cell, "jrnn")
    devices = jax.local_device_count()
    if devices > 1 and batch % devices == 0:
        yield Row("jrnn sharded", "jrnn", ours(FUNCTIONS[cell].cell(hidden), sharded=True), cell, "jrnn")


def kind_of(peer: str) -> str:
    return "torch" if peer == "pytorch" else "jax"


def build(name: str, cell: str, hidden: int, dtype: str) -> Any:
    """A peer's layer; None where it has no such cell. Raises ImportError where it is not installed."""
    if name != "pytorch":
        return JAX_PEERS[name](cell, FUNCTIONS[cell].cell(hidden), dtype)
    from .torch_peer import pytorch

    return pytorch(cell, FUNCTIONS[cell].cell(hidden), dtype)


def described(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def measured(config: Config, point: Point, candidates: list[Row], data: Data, references: dict[str, Any]) -> dict:
    """Compile, check, then time what is right."""
    results: dict[str, dict[str, Any]] = {}
    programs: dict[str, measure.Program] = {}
    for row in candidates:
        result = results[row.name] = {"kind": row.kind, "against": row.against}
        try:
            program = row.layer.program(point.mode, variant(row.function, data))
            got = program.read(program.call())
        except Exception as error:
            result["failed"] = described(error)
            continue
        result |= {"compile_seconds": program.compile_seconds, "temporary_bytes": program.temporary_bytes}
        distance, where = measure.distance(got, references[row.function][point.mode])
        result["distance"] = distance
        if not distance <= measure.tolerance(point.dtype):
            result["failed"] = f"{where} is {distance:.1e} off the float64 reference"
            continue
        programs[row.name] = program
    times = measure.interleave(programs, rounds=config.rounds, seconds=config.seconds, seed=config.seed)
    for name, each in times.items():
        results[name] |= {"median": float(np.median(each)), "min": min(each), "rounds": len(each)}
    return results


def run_grid(run: Run, config: Config, result: dict[str, Any]) -> None:
    """Measure what `result` does not have yet, and write it after every point."""
    done = {tuple(point[field] for field in Point._fields) for point in result["points"]}
    settings = grid(config)
    total = len(settings) * len(config.modes)
    for setting in settings:
        points = [point for mode in config.modes if (point := Point._make((*setting, mode))) not in done]
        if not points:
            continue
        cell, hidden, batch, steps, dtype = setting
        data = draw(
            cell, hidden=hidden, batch=batch, time=steps, dtype=np.dtype(jax.numpy.dtype(dtype)), seed=config.seed
        )
        broken: dict[str, str] = {}
        candidates = list(rows(config, cell, hidden, batch, dtype, broken))
        references = {f: reference(f, variant(f, data)) for f in {row.function for row in candidates}}
        for point in points:
            before = time.perf_counter()
            found = measured(config, point, candidates, data, references)
            found |= {name: {"kind": kind_of(name), "failed": why} for name, why in broken.items()}
            record = {**point._asdict(), "flop": flop(cell, data, point.mode), "rows": found}
            result["points"].append(record)
            result["seconds"] += time.perf_counter() - before
            write_json(run.directory / "result.json", result)
            line = f"[{len(result['points'])}/{total}] {point}: {report.one_line(record)}"
            console.print(line, markup=False)
        jax.clear_caches()  # nothing of it is run again


def main(arguments: list[str] | None = None) -> None:
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch needs some of a GPU's memory too
    use_all_cores()
    with explained(NAME):
        run, config = open_run(NAME, Config, arguments)
        path = run.directory / "result.json"
        machine = measure.machine()
        result = measure.measured_before(path, machine) if config.resume else None
        if result is None:
            result = {"machine": machine, "rates": measure.matrix_rates(), "seconds": 0.0, "points": []}
        run.start()
        console.print(f"{machine['processor']}, {machine['devices']}; run directory: {run.directory}")
        try:
            run_grid(run, config, result)
        finally:  # what there is of an interrupted run too
            report.write(run.directory, result)
        console.print("\n".join(report.summary(result)), markup=False)


if __name__ == "__main__":
    main()
