"""Damaged files: every reader of a user's files reads them or refuses them by name, and neither crashes nor hangs.

    python -m experiments.campaigns.damaged_files --examples 10000

damages good files of every kind so many times (bits flipped, cut short, bytes or lines deleted, repeated, inserted or swapped,
another encoding), each by a generator that knows nothing but the reader's name and the example's number, reads each, and counts
what comes of it. It exits with status 1 where a reader crashed or hung, and says by which examples.
"""

import collections
import contextlib
import dataclasses
import importlib.metadata
import platform
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.campaigns.damage import damaged
from experiments.campaigns.valid_files import READERS, Reader
from experiments.common.command import command
from experiments.common.extras import MissingPackage
from experiments.common.options import Count, check
from experiments.common.run import console, write_json

NAME = "campaigns.damaged_files"
PACKAGES = ("numpy", "soundfile", "pillow", "mido", "conllu", "sacremoses")
OUTCOMES = ("read", "refused", "crashed", "hung")
"""Refused is a ValueError or an OSError that names the file or its folder; any other error is a crash."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Damage files, and read them."""

    examples: Count = 1000
    """Of each reader."""
    first: int = 0
    """The number of the first one, to come back to one that is in the results."""
    readers: tuple[str, ...] = tuple(READERS)
    """Which of them."""
    seconds: float = 10.0
    """In which one has to be read."""
    out: Path = Path(__file__).parent / "results" / "damaged_files.json"
    """Results; what is there is overwritten."""

    def __post_init__(self) -> None:
        check(self)
        if unknown := sorted(set(self.readers) - set(READERS)):
            raise ValueError(f"--readers has {unknown[0]!r}; expected some of {', '.join(READERS)}")


class Hang(BaseException):
    """Raised in a reader whose time is over; not one of the errors that readers catch."""


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raises `Hang` in the main thread after so long, or when what runs then, in C, comes back."""

    def ring(*_: Any) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def example(name: str, number: int, files: dict[str, bytes]) -> tuple[str, bytes]:
    """Which of `files` is damaged, and its content then."""
    random = np.random.default_rng([zlib.crc32(name.encode()), number])
    path = sorted(files)[int(random.integers(len(files)))]
    return path, damaged(files[path], random)


def outcome(reader: Reader, folder: Path, path: str, seconds: float) -> tuple[str, str]:
    """One of `OUTCOMES`, and what the error was of those that should not be: its place and what it said."""
    try:
        with limited(seconds), warnings.catch_warnings(action="ignore"):
            reader.read(folder)
    except Hang:
        return "hung", f"after {seconds:g} seconds"
    except Exception as error:
        named = any(name in str(error) for name in (*Path(path).parts, str(folder)))
        if isinstance(error, ValueError | OSError) and named:
            return "refused", ""
        last = next(
            (f for f in reversed(traceback.extract_tb(error.__traceback__)) if "experiments" in f.filename),
            traceback.extract_tb(error.__traceback__)[-1],
        )
        return "crashed", f"{Path(last.filename).name}:{last.name}: {type(error).__name__}"
    return "read", ""


def campaign(name: str, numbers: Sequence[int], seconds: float) -> dict[str, Any]:
    """How often each came of the examples `numbers` of a reader; those that should not be, by what they were."""
    reader = READERS[name]
    files = dict(reader.write())
    counts: dict[str, int] = dict.fromkeys(OUTCOMES, 0)
    wrong: dict[str, list[int]] = collections.defaultdict(list)
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="damaged-") as made:
        folder = Path(made)
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        reader.read(folder)  # good files are read
        for number in numbers:
            path, content = example(name, number, files)
            (folder / path).write_bytes(content)
            what, why = outcome(reader, folder, path, seconds)
            counts[what] += 1
            if why:
                wrong[f"{what}: {why}"].append(number)
            (folder / path).write_bytes(files[path])
    found = {why: {"count": len(places), "examples": places[:5]} for why, places in sorted(wrong.items())}
    return {**counts, "wrong": found, "seconds": round(time.perf_counter() - begin, 1)}


def run(config: Config) -> None:
    """Every reader in turn; results as they come."""
    results: dict[str, Any] = {
        "examples": config.examples,
        "first": config.first,
        "python": platform.python_version(),
        "versions": {package: version(package) for package in PACKAGES},
        "readers": {},
    }
    config.out.parent.mkdir(parents=True, exist_ok=True)
    for name in config.readers:
        try:
            found = campaign(name, range(config.first, config.first + config.examples), config.seconds)
        except MissingPackage as error:
            console.print(f"{name}: left out, as it {error}", markup=False)
            continue
        results["readers"][name] = found
        write_json(config.out, results)
        console.print(
            f"{name:20}" + "  ".join(f"{found[what]:>6,} {what}" for what in OUTCOMES) + f"  {found['seconds']} s"
        )
        for why, places in found["wrong"].items():
            console.print(f"    {places['count']} {why}; examples {places['examples']}", markup=False)
    console.print(config.out)
    if any(found["wrong"] for found in results["readers"].values()):
        sys.exit(1)


def version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


main = command(NAME, Config, run, prepare=lambda: None)

if __name__ == "__main__":
    main()
