"""What a run found: the machine, the ratios, the Markdown table and the plot."""

import importlib.metadata
import math
import os
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax

from experiments.run import cores

PACKAGES = ("jrnn", "jax", "jaxlib", "numpy", "torch", "flax", "dm-haiku", "equinox", "keras")

Point = Mapping[str, Any]


def machine() -> dict[str, Any]:
    """What the times depend on."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "processor": processor(),
        "cores": cores(),
        "devices": f"{jax.local_device_count()} x {jax.local_devices()[0].device_kind}",
        "system": platform.platform(),
        "versions": {"python": platform.python_version(), **versions},
    }


def processor() -> str:
    """The CPU's name; Linux alone tells it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def ratio(point: Point, name: str, of: str, statistic: str = "median") -> float | None:
    """The time of `name` over that of `of`, or None where one was not measured: above 1, `of` is faster."""
    rows = point["rows"]
    if statistic not in rows.get(name, {}) or statistic not in rows.get(of, {}):
        return None
    return rows[name][statistic] / rows[of][statistic]


def best_jax(point: Point, statistic: str = "median") -> tuple[float, str] | None:
    """The fastest JAX peer, its time over that of jrnn computing the same function."""
    found = [
        (value, name)
        for name, row in point["rows"].items()
        if row["kind"] == "jax" and (value := ratio(point, name, row["against"], statistic)) is not None
    ]
    return min(found, default=None)


def torch(point: Point, statistic: str = "median") -> float | None:
    """PyTorch's time over jrnn's, sharded where the batch can be."""
    return ratio(point, "pytorch", "jrnn sharded" if "jrnn sharded" in point["rows"] else "jrnn", statistic)


def mean(values: Iterable[float | None]) -> float | None:
    """Geometric."""
    known = [value for value in values if value is not None]
    return math.exp(sum(map(math.log, known)) / len(known)) if known else None


def one_line(point: Point) -> str:
    best, beside = best_jax(point), torch(point)
    parts = [f"best JAX peer {best[1]} {best[0]:.2f}x" if best else "no JAX peer"]
    parts += [f"PyTorch {beside:.2f}x"] if beside else []
    failed = [name for name, row in point["rows"].items() if "failed" in row]
    return ", ".join(parts + ([f"not measured: {', '.join(failed)}"] if failed else []))


def write(directory: Path, result: Mapping[str, Any]) -> None:
    (directory / "grid.md").write_text(str(len(result["points"])))
