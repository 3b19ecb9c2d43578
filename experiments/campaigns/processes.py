"""Every experiment on two processes: it ends as on one that has as many devices, and only the first one is heard and writes.

    python -m experiments.campaigns.processes

runs what `python -m experiments` lists, with --smoke, on one process of two cores and on two processes of one core each (Linux),
one after the other. The two must end with status 0, the second one in silence, and leave the files and
the metrics of the one, these up to rounding. Then the result is taken away, and the newest checkpoint where it is not the only one,
and the two go on by --resume to the same end. Five starts of a Python each, nearly all of it compiling. Prints a line each and
writes processes.json; exits with status 1 where one was otherwise. What cannot run here, for want of data or of a package, is left
out and named.
"""

import dataclasses
import json
import math
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.__main__ import listing
from experiments.benchmarks import measure
from experiments.campaigns import runs
from experiments.common.command import command
from experiments.common.options import NewFile
from experiments.common.processes import VARIABLES
from experiments.common.run import console, write_json

NAME = "campaigns.processes"
ROUNDING = 1e-3
"""By how much a number may differ, relative to its size: what becomes of rounding in the steps of a run."""
SECONDS = 600
"""After which processes are taken to wait for each other in vain."""
RUN = "{run}"  # in the options: the run directory of char_lm
OTHERWISE = {
    "quantize": [["--run", RUN]],
    "streaming": [["--hidden", "8", "--samples", "100"]],
    "seeds": [["time_series", "--seeds", "0", "1"]],
    "slot_filling": [["--smoke"], ["--smoke", "--compare"]],
    "frames": [["--smoke"], ["--smoke", "--task", "predict"]],
    "ctrnn": [["--smoke"], ["--smoke", "--task", "match"]],
}
"""Options of those that have no --smoke, or that take another way with others."""
SILENT = {"quantize", "streaming"}  # write no run directory
TIMES = {"seconds", "cpu_seconds"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Run experiments on two processes."""

    only: tuple[str, ...] = ()
    """Which; by default all."""
    out: NewFile = Path("processes.json")
    """What is written; it must not exist yet."""

    def __post_init__(self) -> None:
        if unknown := set(self.only) - set(listing()):
            raise ValueError(f"--only is {' '.join(sorted(unknown))}; expected some of {', '.join(listing())}")


class Ended(NamedTuple):
    """One process, once it is over."""

    status: int | None  # None: it was ended, as it took too long
    said: str
    error: str


def together(command: Sequence[str], count: int) -> list[Ended]:
    """Run it on `count` processes that share two cores."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    with socket.socket() as one:
        one.bind(("localhost", 0))
        port = one.getsockname()[1]
    started = []
    for which in range(count):
        values = (f"localhost:{port}", str(count), str(which))
        variables = dict(zip(VARIABLES, values, strict=True)) if count > 1 else {}
        pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(process := subprocess.Popen(command, env={**os.environ, **variables}, **pipes))
        os.sched_setaffinity(process.pid, cores[which::count])  # before it asks: Python takes longer to start
    until, found = time.monotonic() + SECONDS, []
    for process in started:
        try:
            said, error = process.communicate(timeout=max(until - time.monotonic(), 1))
            found.append(Ended(process.returncode, _own_words(said), error.strip()))
        except subprocess.TimeoutExpired:
            process.kill()
            found.append(Ended(None, *process.communicate()))
    return found


def _own_words(said: str) -> str:
    """Without those of XLA."""
    return "\n".join(line for line in said.splitlines() if not line.startswith("[Gloo] ")).strip()


def numbers(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The values in nested dictionaries and lists, by their paths; times are left out."""
    parts = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else None
    if parts is None:
        yield name, value
        return
    for key, part in parts:
        if key not in TIMES:
            yield from numbers(part, f"{name}.{key}" if name else str(key))


def difference(one: Any, two: Any) -> tuple[float, str]:
    """The largest between two results, relative to the number or to a thousandth, and where it is; infinite where they are no
    numbers."""
    a, b = dict(numbers(one)), dict(numbers(two))
    if a.keys() != b.keys():
        return math.inf, ", ".join(sorted(a.keys() ^ b.keys())[:4])
    return max(((_apart(a[name], b[name]), name) for name in a), default=(0.0, ""))


def _apart(a: Any, b: Any) -> float:
    if a == b or (a != a and b != b):
        return 0.0
    if not all(isinstance(x, int | float) and math.isfinite(x) for x in (a, b)):
        return math.inf
    return abs(a - b) / max(abs(a), abs(b), 1e-3)


def results(directory: Path) -> dict[str, Any]:
    """What the runs in a directory came to, on how many devices, and the names of the files."""
    found = {
        path.parent.relative_to(directory): json.loads(path.read_text()) for path in directory.rglob("result.json")
    }
    metrics = {str(path): {**one["metrics"], "devices": len(one["machine"]["devices"])} for path, one in found.items()}
    return {"metrics": metrics, "files": files(directory)}


def files(directory: Path) -> list[str]:
    """But those of checkpoints, and those of TensorBoard by their number, as there is a time in their names."""
    found = [path.relative_to(directory) for path in directory.rglob("*") if path.is_file()]
    kept = sorted(str(path) for path in found if not {"checkpoints", "tensorboard"} & set(path.parts))
    return [*kept, f"{sum('tensorboard' in path.parts for path in found)} files of TensorBoard"]


def check_ended(ended: Sequence[Ended]) -> list[str]:
    """What is wrong with how two processes ended."""
    errors = []
    for which, one in enumerate(ended):
        if one.status != 0 or "Traceback" in one.error:
            how = "it hung" if one.status is None else f"status {one.status}"
            errors.append(f"process {which}: {how}: {(one.error.splitlines() or [''])[-1]:.200}")
    heard = "\n".join(text for one in ended[1:] for text in (one.said, one.error) if text)
    return errors or ([f"the second one is heard: {heard:.200}"] if heard else [])


def take_newest_away(directory: Path) -> None:
    """The result of every run, and its newest checkpoint where there are others."""
    for result in directory.rglob("result.json"):
        result.unlink()
        steps = sorted(int(path.name) for path in result.parent.glob("checkpoints/*") if path.name.isdecimal())
        if len(steps) > 1:
            shutil.rmtree(result.parent / "checkpoints" / str(steps[-1]))


def trial(name: str, options: Sequence[str], parent: Path) -> dict[str, Any]:
    """One experiment, on one process and on two, and on two again from the checkpoint before the last."""

    def command(directory: Path, *more: str) -> list[str]:
        out = [] if name in SILENT else ["--out", str(directory)]
        after = ["--", "--smoke"] if name == "seeds" else []
        return [sys.executable, "-m", f"experiments.{name}", *options, *out, *more, *after]

    one, two = (parent / which for which in ("one", "two"))
    found: dict[str, Any] = {
        "experiment": name,
        "options": " ".join(options).replace(str(parent.parent), ""),
        "errors": [],
    }
    [alone] = together(command(one), 1)
    if alone.status:
        return found | {"left out": (alone.error.splitlines() or [""])[-1]}
    found["errors"] = check_ended(together(command(two), 2))
    if not found["errors"] and name not in SILENT:
        wanted = results(one)
        found["difference"] = compare(wanted, results(two), found["errors"], "")
        take_newest_away(two)
        resumed = [] if name == "seeds" else ["--resume"]
        errors = check_ended(together(command(two, *resumed), 2))
        found["errors"] += [f"resumed, {error}" for error in errors]
        if not errors:
            found["difference, resumed"] = compare(wanted, results(two), found["errors"], "resumed: ")
    return found


def compare(one: dict[str, Any], two: dict[str, Any], errors: list[str], when: str) -> float:
    """The largest difference of their numbers; what is wrong goes to `errors`."""
    apart, where = difference(one["metrics"], two["metrics"])
    if apart > ROUNDING:
        errors.append(f"{when}{where} differs by {apart:.1g}")
    mine, others = (set(each["files"]) for each in (one, two))
    if not when and mine != others:
        errors.append(f"files {', '.join(sorted(mine ^ others))}")
    return apart


def campaign(config: Config) -> None:
    found = []
    with tempfile.TemporaryDirectory() as folder:
        trained = Path(folder) / "trained"
        for name in config.only or listing():
            for number, options in enumerate(OTHERWISE.get(name, [["--smoke"]])):
                if RUN in options and not trained.exists():
                    together([*runs.command("char_lm", trained)], 1)
                own = [str(trained) if option == RUN else option for option in options]
                found.append(one := trial(name, own, Path(folder) / f"{name}-{number}"))
                apart = f", differs by {one['difference']:.1g}" if "difference" in one else ""
                left_out = f"left out: {one['left out']}" if "left out" in one else ""
                console.print(
                    f"{name} {one['options']}: {'; '.join(one['errors']) or left_out or f'as on one{apart}'}",
                    markup=False,
                )
                write_json(config.out, {"machine": measure.machine(), "trials": found})
    runs.finish(found, f"{len(found)} experiments", config.out)


main = command(NAME, Config, campaign, prepare=lambda: None)

if __name__ == "__main__":
    main()
