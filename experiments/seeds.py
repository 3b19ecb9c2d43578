"""One experiment with several seeds: mean and spread of what it measures.

    python -m experiments.seeds time_series --seeds 0 1 2 --out runs/time_series/three -- --hidden 64

runs `python -m experiments.time_series --hidden 64 --seed S --out runs/time_series/three/seed-S` for each seed, one after the
other, and writes runs/time_series/three/seeds.json. A seed that is done already is not run again; one that was killed is resumed.
"""

import dataclasses
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import tyro

from experiments.common.command import explained, parse
from experiments.common.processes import heard_from_first, part
from experiments.common.run import console, write_json


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Run an experiment with several seeds; what comes after -- are its own options."""

    name: tyro.conf.Positional[str]
    """The experiment: the NAME of `python -m experiments.NAME`."""
    out: Path
    """Directory of the runs, one in it for each seed."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """The seeds."""

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"--seeds is {self.seeds}; expected at least one seed, each once")


def numbers(metrics: Any, name: str = "") -> dict[str, float]:
    """The numbers in nested dictionaries, by their path; what lies in lists is left out."""
    if isinstance(metrics, bool) or not isinstance(metrics, dict | int | float):
        return {}
    if not isinstance(metrics, dict):
        return {name: float(metrics)}
    parts = [numbers(value, f"{name}.{key}" if name else key) for key, value in metrics.items()]
    return {path: value for part in parts for path, value in part.items()}


def summary(results: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """Of every number that all runs have: mean, standard deviation (over n - 1; None of one run) and each seed's own."""
    by_seed = {seed: {**numbers(r["metrics"]), "seconds": r["seconds"]} for seed, r in results.items()}
    shared = [name for name in next(iter(by_seed.values())) if all(name in found for found in by_seed.values())]
    values = {name: {seed: found[name] for seed, found in by_seed.items()} for name in shared}
    return {
        name: {
            "mean": statistics.fmean(seeds.values()),
            "spread": statistics.stdev(seeds.values()) if len(seeds) > 1 else None,
            "seeds": seeds,
        }
        for name, seeds in values.items()
    }


def run(config: Config, options: list[str]) -> Path:
    results = {}
    for seed in config.seeds:
        directory = config.out / f"seed-{seed}"
        if not (directory / "result.json").exists():
            command = [
                sys.executable,
                "-m",
                f"experiments.{config.name}",
                *options,
                "--seed",
                str(seed),
                "--out",
                str(directory),
            ]
            command += ["--resume"] if (directory / "config.json").exists() else []
            console.print(f"seed {seed}: {' '.join(command[2:])}")
            if status := subprocess.run(command).returncode:
                raise SystemExit(status)
        results[seed] = json.loads((directory / "result.json").read_text())
    found = summary(results)
    for name, value in found.items():
        spread = "" if value["spread"] is None else f" ± {value['spread']:.4g}"
        console.print(f"{name}: {value['mean']:.4f}{spread}")
    path = config.out / "seeds.json"
    write_json(path, found)
    return path


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    with explained("seeds"):
        config = parse(Config, arguments[:cut], "seeds", description=__doc__)
        part()
        with heard_from_first():
            console.print(run(config, arguments[cut + 1 :]))


if __name__ == "__main__":
    main()
