"""Times of several programs, interleaved in one process; the machine, and its rate of matrix products."""

import importlib.metadata
import json
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from experiments.common.command import cores

PACKAGES = ("jrnn", "jax", "jaxlib", "numpy", "torch", "flax", "dm-haiku", "equinox", "keras")

TOLERANCE = {"float32": 1e-4, "bfloat16": 0.2, "float16": 0.05}
"""Largest distance from the float64 reference, relative to its norm; a wrong gate is off by about 1. In bfloat16 gradients
over 512 steps are 0.03 off, with ReLU 0.065."""
TF32 = 1e-2
"""In place of float32's on a GPU, where JAX and cuDNN multiply float32 with 10 bits of mantissa by default."""


SETTLE, LONG = 0.005, 0.05
"""Seconds before a time is taken; a program that takes LONG hides what goes on in them."""


class Program(NamedTuple):
    """One peer in one mode, compiled."""

    call: Callable[[], Any]  # runs it and waits until it is done
    read: Callable[[Any], Mapping[str, np.ndarray]]  # what `call` returned, as the reference names it
    compile_seconds: float | None = None  # None where nothing is compiled
    temporary_bytes: int | None = None  # None where nobody says


def measured_before(path: Path, machine: Mapping[str, Any]) -> Any:
    """What a killed run wrote to `path`, to go on with; None where it wrote nothing. ValueError where its machine was another."""
    if not path.exists():
        return None
    result = json.loads(path.read_text())
    if result["machine"] != machine:
        raise ValueError(f"--resume: {path} was measured on another machine or with other versions; start anew")
    return result


def tolerance(dtype: str) -> float:
    return TF32 if dtype == "float32" and jax.default_backend() == "gpu" else TOLERANCE[dtype]


def distance(got: Mapping[str, np.ndarray], want: Mapping[str, np.ndarray]) -> tuple[float, str]:
    """The largest |got - want| / |want| (Euclidean norms) over the arrays that both have, and whose it is."""

    def one(name: str) -> float:
        a, b = np.asarray(got[name], np.float64), want[name]
        if a.shape != b.shape:
            return float("inf")
        return float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-30))

    worst = {name: one(name) for name in got}
    # NaN is the worst of all.
    name = max(worst, key=lambda name: worst[name] if np.isfinite(worst[name]) else float("inf"))
    return worst[name], name


def interleave(programs: Mapping[str, Program], *, rounds: int, seconds: float, seed: int) -> dict[str, list[float]]:
    """Seconds of each program, one timed call a round, in a new order every round; all are run once before, to warm up.

    A short program is called for 5 ms before its time is taken: until then the threads of the library before it may wait in a
    loop and hold a core, as OpenMP's can. Where `rounds` rounds would take more than `seconds`,
    there are fewer, but at least five.
    """
    order = list(programs)
    lasts = {name: _timed(programs[name]) for name in order}
    once = sum(max(last, SETTLE) + last if last < LONG else last for last in lasts.values())
    rng, times = np.random.default_rng(seed), {name: [] for name in order}
    for _ in range(max(min(rounds, int(seconds / once)), min(rounds, 5))):
        rng.shuffle(order)
        for name in order:
            settled = time.perf_counter() + SETTLE
            while lasts[name] < LONG and time.perf_counter() < settled:
                programs[name].call()
            times[name].append(_timed(programs[name]))
    return times


def _timed(program: Program) -> float:
    """Seconds of one call."""
    before = time.perf_counter()
    out = program.call()
    seconds = time.perf_counter() - before
    del out  # not in the time
    return seconds


def matrix_rates(size: int = 2048, repeats: int = 7) -> dict[str, float]:
    """Best FLOP per second of float32 products of `size` x `size`, on one device and on all at once."""
    rates = {}
    for name, devices in (("one device", jax.local_devices()[:1]), ("all devices", jax.local_devices())):
        mesh = jax.make_mesh((len(devices),), ("device",), axis_types=(AxisType.Auto,), devices=devices)
        each = NamedSharding(mesh, PartitionSpec("device"))
        a = jax.device_put(np.ones((len(devices), size, size), np.float32), each)
        product = jax.jit(jax.shard_map(jnp.matmul, mesh=mesh, in_specs=PartitionSpec("device"), out_specs=each.spec))
        program = Program(lambda product=product, a=a: jax.block_until_ready(product(a, a)), lambda out: {})
        best = min(interleave({name: program}, rounds=repeats, seconds=60, seed=0)[name])
        rates[name] = 2 * size**3 * len(devices) / best
    return rates


def machine() -> dict[str, Any]:
    """What the times depend on."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "processor": _processor(),
        "cores": cores(),
        "devices": f"{jax.local_device_count()} JAX devices ({jax.local_devices()[0].device_kind})",
        "system": platform.platform(),
        "versions": {"python": platform.python_version(), **versions},
    }


def _processor() -> str:
    """The CPU's name; Linux alone tells it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
