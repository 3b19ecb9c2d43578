"""Runs of three experiments on a disk that gets full: a clear error, nothing lost, and with room again they go on to the same end.

    python -m experiments.campaigns.disk_full

Each trial mounts a small tmpfs in a namespace of its own (Linux; `unshare` of util-linux), runs an experiment there until the disk
is full, looks at how it ended, makes the disk larger and goes on by --resume, or begins where no run was begun. The end must be an
undisturbed run's, to the last bit. About twenty minutes. Prints a line a trial and writes disk_full.json; exits with status 1 where
one was otherwise.
"""

import dataclasses
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from experiments.benchmarks import measure
from experiments.campaigns import runs
from experiments.common.command import command
from experiments.common.options import Count, NewFile
from experiments.common.run import console, write_json

NAME = "campaigns.disk_full"
ROOM = "size=1g"
MARGIN = 1_000_000  # that a checkpoint wants free besides
INSIDE = "inside"  # the namespace that may mount: how this calls itself


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Fill the disk and go on."""

    sizes: Count = 8
    """How many sizes of the disk for each experiment, from nothing to nearly what a run takes."""
    out: NewFile = Path("disk_full.json")
    """What is written; it must not exist yet."""


def trial(name: str, whole: dict[str, Any], size: int) -> dict[str, Any]:
    """A run on a disk of so many bytes."""
    errors = []
    with tempfile.TemporaryDirectory() as disk:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk], check=True)
        try:
            directory = Path(disk) / "run"
            first = run(runs.command(name, directory))
            said = first.stderr.strip().splitlines()
            if first.returncode == 0:
                return {"experiment": name, "size": size, "said": "there was room", "errors": []}
            full = [line for line in said if line.startswith("error: ") and "No space left" in line]
            if not full:
                errors.append(f"no clear error: {(said or [''])[-1]:.200}")
            subprocess.run(["mount", "-o", f"remount,{ROOM}", disk], check=True)
            second = run(runs.command(name, directory, resume=runs.was_begun(directory)))
            if second.returncode:
                errors.append(f"did not go on: {(second.stderr.strip().splitlines() or [''])[-1]:.200}")
            elif runs.outcome(directory) != whole:
                errors.append("other numbers than the undisturbed run's")
            return {"experiment": name, "size": size, "said": "".join(full).replace(disk, "DISK"), "errors": errors}
        finally:
            subprocess.run(["umount", disk], check=True)


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True)


def campaign(config: Config) -> None:
    """Every size of the disk for each experiment."""
    found = []
    for name in runs.RUNS:
        with tempfile.TemporaryDirectory() as parent:
            directory = Path(parent) / "run"
            whole = runs.undisturbed(name, directory)
            taken = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
        for place in range(config.sizes):
            size = 4096 * max(1, (taken + MARGIN) * place // config.sizes // 4096)
            found.append(one := trial(name, whole, size))
            console.print(f"{name}, {size:,} bytes: {'; '.join(one['errors']) or one['said']:.160}")
            write_json(config.out, {"machine": measure.machine(), "trials": found})
    runs.finish(found, f"{len(found)} trials", config.out)


def enter(config: Config) -> None:
    """The campaign, in a namespace of its own."""
    options = ["--sizes", str(config.sizes), "--out", str(config.out)]
    inside = [sys.executable, "-m", f"experiments.{NAME}", INSIDE, *options]
    raise SystemExit(subprocess.run(["unshare", "--map-root-user", "--mount", *inside]).returncode)


main = command(NAME, Config, enter, also={INSIDE: (Config, campaign)}, prepare=lambda: None)

if __name__ == "__main__":
    main()
