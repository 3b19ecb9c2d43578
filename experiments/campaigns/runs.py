"""Short runs of experiments that are disturbed, and what they must come to."""

import hashlib
import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from experiments.common.run import console

RUNS = {
    "time_series": ["--hidden", "8", "--epochs", "12", "--every", "8"],
    "char_lm": ["--hidden", "16", "--embedding", "8", "--steps", "120", "--every", "10"],
    "pixel_digits": ["--hidden", "8", "--epochs", "2", "--every", "4", "--batch", "128"],
}
"""Experiments, and options with which they are through in less than half a minute."""


def command(name: str, directory: Path, *, resume: bool = False) -> list[str]:
    more = ["--resume"] if resume else []
    return [sys.executable, "-m", f"experiments.{name}", *RUNS[name], "--out", str(directory), *more]


def undisturbed(name: str, directory: Path) -> dict[str, Any]:
    """What a run comes to that nothing disturbs; it is made anew."""
    shutil.rmtree(directory, ignore_errors=True)
    subprocess.run(command(name, directory), check=True, capture_output=True)
    return outcome(directory)


def outcome(directory: Path) -> dict[str, Any]:
    """The metrics, the loss of every record among them, and every number of the checkpoints that are kept."""
    metrics = json.loads((directory / "result.json").read_text())["metrics"]
    return {"metrics": metrics, "checkpoints": {path.name: _digest(path) for path in _steps(directory)}}


def _steps(directory: Path) -> list[Path]:
    return sorted(path for path in (directory / "checkpoints").iterdir() if path.name.isdecimal())


def _digest(step: Path) -> str:
    """Of parameters, optimiser state, carry and key. (The record beside them has seconds in it.)"""
    logging.getLogger("absl").setLevel(logging.ERROR)  # it misses a file that only a whole checkpoint has
    reader = ocp.PyTreeCheckpointer()
    saved: Any = reader.metadata(step / "state").item_metadata
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), saved.tree)
    state = reader.restore(step / "state", restore_args=as_numpy)
    leaves = [
        (jax.tree_util.keystr(path), np.asarray(leaf)) for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    ]
    digest = hashlib.sha256()
    for name, leaf in sorted(leaves, key=lambda one: one[0]):
        digest.update(f"{name} {leaf.dtype} {leaf.shape}".encode() + leaf.tobytes())
    return digest.hexdigest()


def was_begun(directory: Path) -> bool:
    """Whether there is a run to go on with."""
    return (directory / "config.json").exists()


def finish(found: Sequence[Mapping[str, Any]], tried: str, out: Path) -> None:
    """Say how it went; exit status 1 where something of what was `tried` was otherwise."""
    wrong = sum(bool(one["errors"]) for one in found)
    console.print(f"{tried}, {wrong} of them otherwise; {out}")
    if wrong:
        raise SystemExit(1)
