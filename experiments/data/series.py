"""Time series with a class each.

`JapaneseVowels` (Kudo, Toyama & Shimbo 1999; UCI), which comes with aeon and needs no download: nine men say two vowels, twelve
coefficients of a linear prediction of each frame, 7 to 29 frames; who speaks? 270 series to train on, 30 from each, and 370 to
test on, in which the largest class, speaker 3, makes up 23.8 %. Any other pair of .ts files (the format of
timeseriesclassification.com, see `ts_format`) is read by `data` and `test`.

Neither has a validation part: one series in `HELD_OUT` of the training part is held out, stratified by class, always the same.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.common.extras import need
from experiments.data.ts_format import Labelled, read_ts

HELD_OUT = 6


class Part(NamedTuple):
    """Series and their classes."""

    series: list[np.ndarray]  # float32 [time, features] each
    labels: np.ndarray  # int32 [count]: places in `classes`


class SeriesSet(NamedTuple):
    """A data set and its parts."""

    name: str
    classes: tuple[str, ...]
    train: Part
    valid: Part
    test: Part
    filled: int = 0  # missing values that were filled in

    @property
    def features(self) -> int:
        """Of each step of a series."""
        return self.train.series[0].shape[1]


def load(data: Path | None = None, test: Path | None = None) -> SeriesSet:
    """JapaneseVowels or, with `data` and `test`, two .ts files of one's own: to train on and to test on.

    ValueError and FileNotFoundError say which file was read, what was found there, what was expected and what to do.
    """
    if (data is None) != (test is None):
        given, missing = ("test", "data") if data is None else ("data", "test")
        raise ValueError(f"{given} is given and {missing} is not; expected two .ts files or none: pass both")
    if data is not None and test is not None:
        return _together(Path(data).stem, read_ts(data), read_ts(test))

    load_japanese_vowels = need("aeon.datasets", "series").load_japanese_vowels  # slow to import: it compiles

    def part(split: str) -> Labelled:
        found, labels = load_japanese_vowels(split)
        return Labelled(f"aeon's {split}", _time_first(found), labels)

    return _together("JapaneseVowels", part("train"), part("test"))


def _time_first(found: Any) -> list[np.ndarray]:
    return [np.ascontiguousarray(one.T, np.float32) for one in found]


def _together(name: str, train: Labelled, test: Labelled) -> SeriesSet:
    """Checks that two parts fit, numbers the classes, holds a part of the first out."""
    features = {part.source: part.series[0].shape[1] for part in (train, test)}
    if len(set(features.values())) > 1:
        listed = ", ".join(f"{count} in {source}" for source, count in features.items())
        raise ValueError(f"the series have different numbers of dimensions: {listed}; expected one number")
    classes, labels = np.unique(train.labels, return_inverse=True)
    if unseen := sorted(set(test.labels) - set(classes)):
        raise ValueError(
            f"{test.source} has classes that {train.source} lacks: {', '.join(unseen)}; expected those trained on, "
            f"{', '.join(classes)}"
        )
    if len(classes) < 2:
        raise ValueError(f"{train.source} has one class, {classes[0]}; expected at least two to tell apart")
    held_out = _held_out(labels)
    if not held_out.any():
        raise ValueError(
            f"{train.source} has fewer than {HELD_OUT} series of each class; expected more, to hold some out"
        )

    def part(chosen: np.ndarray) -> Part:
        series = [one for one, use in zip(train.series, chosen, strict=True) if use]
        return Part(series, labels[chosen].astype(np.int32))

    last = Part(test.series, np.searchsorted(classes, test.labels).astype(np.int32))
    filled = train.filled + test.filled
    return SeriesSet(name, tuple(map(str, classes)), part(~held_out), part(held_out), last, filled)


def _held_out(labels: np.ndarray) -> np.ndarray:
    """Which series are for validation, bool [count]: one in `HELD_OUT` of each class, drawn by a seed that is always the same."""
    random = np.random.default_rng(0)
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        chosen[random.permutation(of_class)[: len(of_class) // HELD_OUT]] = True
    return chosen
