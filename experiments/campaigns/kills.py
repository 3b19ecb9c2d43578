"""Runs of three experiments, killed at random moments and resumed until they are through: they end as if never killed.

    python -m experiments.campaigns.kills

SIGKILL 200 times, about 50 minutes on one core. After each kill the run goes on by --resume (or begins, where the kill was too
early for there to be one); each that comes through must have the metrics of an undisturbed run, to the last bit. Prints a line a
run and writes kills.json; exits with status 1 where a run ended otherwise.
"""

import dataclasses
import random
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from experiments.benchmarks import measure
from experiments.campaigns import runs
from experiments.common.command import command
from experiments.common.options import Count, NewFile
from experiments.common.run import console, write_json

NAME = "campaigns.kills"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Kill and resume."""

    kills: Count = 200
    """How many in all."""
    seed: int = 0
    """Of the moments."""
    out: NewFile = Path("kills.json")
    """What is written; it must not exist yet."""


def one_run(name: str, undisturbed: tuple[dict[str, Any], float], draw: random.Random, most: int) -> dict[str, Any]:
    """A run of `name` that is killed up to `most` times, each between its start and the time that it takes undisturbed."""
    (whole, seconds), kills, errors = undisturbed, 0, []
    with tempfile.TemporaryDirectory() as parent:
        directory = Path(parent) / "run"
        while True:
            resume = runs.was_begun(directory)
            process = subprocess.Popen(
                runs.command(name, directory, resume=resume), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            try:
                _, stderr = process.communicate(timeout=draw.uniform(0, seconds) if kills < most else None)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                kills += 1
                continue
            if process.returncode:
                errors.append(stderr.strip().splitlines()[-1] if stderr.strip() else f"status {process.returncode}")
                break
            found = runs.outcome(directory)
            if found != whole:
                errors.append("other numbers than the undisturbed run's")
                shutil.copytree(directory, Path(f"{name}-differs"), dirs_exist_ok=True)
            break
    return {"experiment": name, "kills": kills, "errors": errors}


def campaign(config: Config) -> None:
    draw = random.Random(config.seed)
    known: dict[str, tuple[dict[str, Any], float]] = {}
    with tempfile.TemporaryDirectory() as parent:
        for name in runs.RUNS:
            started = time.perf_counter()
            known[name] = runs.undisturbed(name, Path(parent) / name), time.perf_counter() - started
    found: list[dict[str, Any]] = []
    while (left := config.kills - sum(one["kills"] for one in found)) > 0:
        name = list(runs.RUNS)[len(found) % len(runs.RUNS)]
        one = one_run(name, known[name], draw, most=min(left, 12))
        found.append(one)
        console.print(f"{name}: {one['kills']} kills; {'; '.join(one['errors']) or 'as if never killed'}")
        plain = {"kills": config.kills, "seed": config.seed}
        write_json(config.out, {"machine": measure.machine(), "config": plain, "runs": found})
    runs.finish(found, f"{sum(one['kills'] for one in found)} kills, {len(found)} runs", config.out)


main = command(NAME, Config, campaign, prepare=lambda: None)

if __name__ == "__main__":
    main()
