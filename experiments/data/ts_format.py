"""The .ts format of timeseriesclassification.com, as aeon and sktime document it.

A header of lines such as `@classLabel true low high`, ended by `@data`; then a series a line, its dimensions and at last its label
with colons between them, and the values of a dimension with commas between them. Lines that begin with # or % and empty ones are
left out anywhere. `?` or `NaN` is a missing value. With `@timeStamps true` each value is a pair `(time,value)`.

aeon 1.6 reads the format too, but writes labels in small letters, so that two may become one, and of values with times takes only
those that look like 1.5: no sign, no exponent, no whole number. So it is read here, and tested against aeon where that reads right.
"""

import datetime
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.data.files import check_file, decoded

_MISSING = ("?", "nan", "")
_PAIR = re.compile(r"\(\s*([^(),]*),([^(),]*)\)")
_FORMAT = "expected a header that ends in @data, then a series a line"


class Labelled(NamedTuple):
    """What a file holds."""

    source: str  # its name, for the errors
    series: list[np.ndarray]  # float32 [time, features] each
    labels: np.ndarray  # strings [count]
    filled: int = 0  # missing values that were filled in


class _Header(NamedTuple):
    """What the lines before the data say; None, or no classes, where they do not."""

    classes: tuple[str, ...]
    times: bool
    univariate: bool | None
    dimensions: int | None
    equal: bool | None
    length: int | None


def read_ts(path: Path) -> Labelled:
    """The series of a .ts file and their labels, as the header spells them.

    Series may be of unequal lengths. A missing value is filled in on the line between those before and after it, at an end as the
    nearest one; a step at the end that misses all its values is padding, and left out. ValueError and FileNotFoundError say which
    file and line, what was found there, what was expected and what to do; so for targets of regression, and for times that are not
    at equal steps, which a network that counts steps cannot know.
    """
    path = Path(path)
    if path.suffix != ".ts":
        raise ValueError(f"{path} does not end in .ts; expected a .ts file, as timeseriesclassification.com has them")
    check_file(path, "a .ts file")
    lines = enumerate(decoded(path.read_bytes(), path).split("\n"), 1)
    kept = [(number, line.strip()) for number, line in lines if line.strip() and line.lstrip()[0] not in "#%"]
    begin = next((place for place, (_, line) in enumerate(kept) if line.lower().split()[0] == "@data"), None)
    if begin is None or begin + 1 == len(kept):
        raise ValueError(f"{path} holds no series; {_FORMAT}")
    header = _header(kept[:begin], path)
    series, labels, filled = [], [], 0
    for number, line in kept[begin + 1 :]:
        where = f"{path}:{number}"
        *fields, label = _fields(line, where, times=header.times)
        values = np.stack([*_equally_long(fields, where)], axis=1)
        values, missing = _filled(values, where)
        filled += missing
        _check(values, series, header, where)
        series.append(values)
        labels.append(_spelled(label, header.classes, where))
    return Labelled(str(path), series, np.array(labels), filled)


def _header(lines: Sequence[tuple[int, str]], path: Path) -> _Header:
    found: dict[str, list[str]] = {}
    for number, line in lines:
        if not line.startswith("@"):
            raise ValueError(
                f"{path}:{number}: {line[:40]!r} before @data; {_FORMAT}: begin each line of the header with @"
            )
        key, *values = line[1:].split() or [""]
        found[key.lower()] = values

    def boolean(key: str) -> bool | None:
        value = found.get(key, [""])[0:1] or [""]
        return {"true": True, "false": False}.get(value[0].lower())

    def count(*keys: str) -> int | None:
        return next((int(found[key][0]) for key in keys if found.get(key) and found[key][0].isdecimal()), None)

    if boolean("targetlabel"):
        raise ValueError(f"{path} has targets of regression (@targetLabel true); expected classes: use another file")
    if boolean("classlabel") is False:
        raise ValueError(f"{path} has no classes; expected a line '@classLabel true' and the classes in its header")
    return _Header(
        tuple(found.get("classlabel", [])[1:]),
        bool(boolean("timestamps")),
        boolean("univariate"),
        count("dimensions", "dimension"),
        boolean("equallength"),
        count("serieslength"),
    )


def _fields(line: str, where: str, *, times: bool) -> list:
    """The values [time] of each dimension, and the label."""
    if times:
        return _with_times(line, where)
    *dimensions, label = line.split(":")
    if not dimensions:
        remedy = " (with times, the header says @timeStamps true)" if line.startswith("(") else ""
        raise ValueError(
            f"{where}: no colon in {line[:40]!r}; expected values, a colon and a label: complete it{remedy}"
        )
    return [*(_numbers(one.split(","), where) for one in dimensions), label]


def _with_times(line: str, where: str) -> list:
    body, _, label = line.rpartition(":")
    dimensions = re.split(r"(?<=\))\s*:", body)  # a time such as 12:30 holds colons too
    found: list = []
    first = None
    for dimension in dimensions:
        pairs = _PAIR.findall(dimension)
        if _PAIR.sub("", dimension).strip(", ") or not pairs:
            raise ValueError(
                f"{where}: {dimension[:40]!r} is no list of pairs; expected (time,value),(time,value)... and a label, as the "
                "header says @timeStamps true: correct it"
            )
        instants = [_time(time, where) for time, _ in pairs]
        if first is None:
            _check_steps(instants, where)
        elif instants != first and len(instants) == len(first):
            raise ValueError(
                f"{where}: the dimensions have values at different times; expected the same: resample them"
            )
        first = first or instants
        found.append(_numbers([value for _, value in pairs], where))
    return [*found, label]


def _time(text: str, where: str) -> float:
    """In seconds, or in the file's own unit."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return (
            datetime.datetime.fromisoformat(text.strip()).replace(tzinfo=None) - datetime.datetime.min
        ).total_seconds()
    except ValueError:
        raise ValueError(
            f"{where}: {text!r} is no time; expected a number, or one such as 2016-07-01 00:00:00: write it so"
        ) from None


def _check_steps(times: Sequence[float], where: str) -> None:
    """A step may differ from the usual one by half of it, as months do."""
    steps = np.diff(times)
    usual = np.median(steps) if len(steps) else 1.0
    if usual <= 0 or ((steps < 0.5 * usual) | (steps > 1.5 * usual)).any():
        raise ValueError(
            f"{where}: the times are at steps of {steps.min():g} to {steps.max():g}, most of {usual:g}; expected equal steps "
            "forward: resample the series"
        )


def _numbers(cells: Iterable[str], where: str) -> np.ndarray:
    """float64 [time], NaN where a value is missing."""
    values = []
    for cell in cells:
        text = cell.strip()
        try:
            values.append(np.nan if text.lower() in _MISSING else float(text))
        except ValueError:
            raise ValueError(
                f"{where}: {text[:40]!r} is no number; expected one, or ? where it is missing: correct it"
            ) from None
    return np.array(values)


def _equally_long(fields: Sequence[np.ndarray], where: str) -> Sequence[np.ndarray]:
    lengths = [len(field) for field in fields]
    if len(set(lengths)) > 1:
        raise ValueError(
            f"{where}: the dimensions have {', '.join(map(str, lengths[:8]))} values; expected one number of them, with ? where a "
            "value is missing"
        )
    return fields


def _filled(values: np.ndarray, where: str) -> tuple[np.ndarray, int]:
    """float32 [time, features] without padding and missing values, and how many were missing."""
    real = np.flatnonzero(~np.isnan(values).all(1))
    if not len(real):
        raise ValueError(f"{where}: the series has no values; expected at least one: leave it out")
    values = values[: real[-1] + 1]
    missing = np.isnan(values)
    for dimension in np.flatnonzero(missing.any(0)):
        known = np.flatnonzero(~missing[:, dimension])
        if not len(known):
            raise ValueError(
                f"{where}: dimension {dimension + 1} has no values; expected at least one: leave the series out"
            )
        values[:, dimension] = np.interp(np.arange(len(values)), known, values[known, dimension])
    with np.errstate(over="ignore"):
        single = np.ascontiguousarray(values, np.float32)
    if not np.isfinite(single).all():
        raise ValueError(
            f"{where}: the series has infinite values; expected finite numbers: correct them or leave it out"
        )
    return single, int(missing.sum())


def _check(values: np.ndarray, before: Sequence[np.ndarray], header: _Header, where: str) -> None:
    """Whether a series is what the header says, and like the first."""
    length, dimensions = values.shape
    expected = header.dimensions or (1 if header.univariate else before[0].shape[1] if before else None)
    if expected not in (None, dimensions):
        said = "in its header" if header.dimensions or header.univariate else "in the first series"
        raise ValueError(
            f"{where}: {dimensions} dimensions; expected {expected}, as {said}: correct the line or the header"
        )
    expected = header.length if header.equal else None
    expected = expected or (len(before[0]) if header.equal and before else None)
    if expected not in (None, length):
        raise ValueError(
            f"{where}: {length} values; expected {expected}, as the header says @equalLength true: correct the line, or write "
            "@equalLength false"
        )


def _spelled(label: str, classes: Sequence[str], where: str) -> str:
    """As the header has it; in which capitals, and whether 1 or 1.0, is all one where only one class is like that."""
    label = label.strip()
    if not label:
        raise ValueError(f"{where}: no label after the last colon; expected one of the classes: add it")
    alike = [name for name in classes if _plain(name) == _plain(label)]
    if not classes or label in classes:
        return label
    if len(alike) != 1:
        raise ValueError(
            f"{where}: the label is {label!r}; expected one of the classes in the header, {', '.join(classes)}: correct it or add "
            "it there"
        )
    return alike[0]


def _plain(label: str) -> str | float:
    try:
        return float(label)
    except ValueError:
        return label.casefold()
