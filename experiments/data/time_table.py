"""Tables of numbers over time, as csv files that people have.

A header; a first column of times at equal steps; numbers in all others. Between the columns are commas, semicolons or tabs,
whichever makes the most of them; where it is no comma, numbers may have decimal commas. Times are ISO 8601, from years alone to
microseconds, or dates such as 28.02.2020, 28/02/2020 or 2/28/2020, with or without a time of day: which of the last two is what all
rows say.
"""

import csv
import datetime
import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.data.files import decoded

MISSING = ("", "?", "-", "na", "n/a", "nan", "null", "none")
_YEAR_OR_MONTH = re.compile(r"[0-9]{4}(-[0-9]{2})?")
_DATE = re.compile(r"([0-9]{1,4})([./])([0-9]{1,2})\2([0-9]{1,4})(?:[ T]+([0-9].*))?")
_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs"}


class Table(NamedTuple):
    """What a file holds."""

    columns: tuple[str, ...]  # names of the variables
    times: np.ndarray  # datetime64[us] [rows]: UTC where the file gives an offset, else as it has them
    values: np.ndarray  # float64 [rows, variables]
    notes: tuple[str, ...]  # what was done to it, for the user


def read_table(content: bytes, path: str, encoding: str = "utf-8") -> Table:
    """The table in a csv file; errors call it `path`.

    Missing values are filled in on the line between those before and after them, at an end as the nearest one. Rows are put in the
    order of their times. ValueError says path, line and column of what is wrong, what was expected and what to do: among others for
    two rows of one time, for a missing row and for a file without a header.
    """
    text = decoded(content, path, encoding)
    between = _separator(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=between)
    rows = _rows(reader, path)
    _, header = next(rows, (1, []))
    if len(header) < 2:
        raise ValueError(
            f"{path}:1: the header is {header}; expected the names of a time column and of at least one column of numbers, "
            "with commas, semicolons or tabs between them: write one above the rows"
        )
    _check_header(header, path)
    lines, cells = [], []
    for line, row in rows:
        if len(row) != len(header):
            raise ValueError(
                f"{path}:{line}: {len(row)} columns; expected {len(header)}, as in the header: complete the row"
            )
        lines.append(line)
        cells.append(row)
    if len(cells) < 2:
        raise ValueError(f"{path} has {len(cells)} rows below its header; expected a time series: use another file")
    if not any(row[-1].strip() for row in [header, *cells]) and len(header) > 2:
        header, cells = header[:-1], [row[:-1] for row in cells]  # a separator at the end of every line
    times = _times([row[0] for row in cells], [f"{path}:{line}" for line in lines], header[0])
    comma = between != "," and any("," in cell for row in cells for cell in row[1:])
    values = np.array(
        [
            [_number(cell, f"{path}:{line}", name, comma=comma) for cell, name in zip(row[1:], header[1:])]
            for line, row in zip(lines, cells)
        ]
    )
    notes = [f"columns are read with {_NAMES[between]} between them"] * (between != ",")
    notes += ["numbers are read with decimal commas"] * comma
    order = np.argsort(times, kind="stable")
    if (order != np.arange(len(order))).any():
        notes.append("rows are put in the order of their times")
        times, values, lines = times[order], values[order], [lines[place] for place in order]
    _check_steps(times, lines, path)
    missing = int(np.isnan(values).sum())
    notes += [f"{missing:,} missing values are filled in from those before and after them"] * (missing > 0)
    return Table(_unique(header[1:]), times, _filled(values, header[1:], path), tuple(notes))


def _separator(text: str) -> str:
    """What splits the first two rows into most columns, as many in each; a comma where nothing does."""

    def columns(between: str) -> int:
        try:
            reader = csv.reader(io.StringIO(text[:100_000], newline=""), delimiter=between)
            counts = [len(row) for row, _ in zip(filter(None, reader), range(2))]
        except csv.Error:
            return 0
        return counts[0] if counts and min(counts) == max(counts) else 0

    return max(_NAMES, key=columns)


def _rows(reader: Any, path: str) -> Iterator[tuple[int, list[str]]]:
    """Those that are not empty, each with its line."""
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield reader.line_num, row
    except csv.Error as error:
        raise ValueError(f"{path}:{reader.line_num}: {error}; expected a csv file: use another") from error


def _check_header(header: Sequence[str], path: str) -> None:
    """ValueError where the first row is one of times and numbers, which would be lost."""
    try:
        _times(header[:1], [path], "")
        numbers = [float(cell.replace(",", ".")) for cell in header[1:]]
    except ValueError:
        return
    raise ValueError(
        f"{path}:1: {header[0]!r} is a time and {numbers[0]:g} a number; expected a header, the names of the columns: write one "
        "above the rows"
    )


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    """Each name once: of columns without a name their number, of those of one name the number too."""
    found: list[str] = []
    for number, name in enumerate(names, 2):
        shown = name.strip() or f"column {number}"
        found.append(shown if shown not in found else f"{shown} (column {number})")
    return tuple(found)


def _times(cells: Sequence[str], where: Sequence[str], column: str) -> np.ndarray:
    """datetime64[us] [rows], by the one way to read them in which all are times."""
    found, furthest, failed = {}, -1, None
    for name, way in _WAYS.items():
        times: list[datetime.datetime] = []
        try:
            times += (way(cell.strip()) for cell in cells)  # as many as can be read
        except ValueError:
            if len(times) > furthest:
                furthest, failed = len(times), cells[len(times)]
            continue
        found[name] = _utc(times, cells, where, column)
    equal = {name: times for name, times in found.items() if _equal(np.sort(times))} or found
    if not equal:
        raise ValueError(
            f"{where[furthest]}: {column} is {failed!r}; expected a time such as 2016-07-01 00:00:00 in the first column: "
            "write it so"
        )
    if len(equal) > 1 and len({times.tobytes() for times in equal.values()}) > 1:
        raise ValueError(
            f"{where[0]}: {column} is {cells[0]!r}, which may be {' or '.join(equal)} in this file; expected dates that can be "
            "told: write them as 2020-02-28"
        )
    return next(iter(equal.values()))


def _utc(times: Sequence[datetime.datetime], cells: Sequence[str], where: Sequence[str], column: str) -> np.ndarray:
    """Without their offsets, which all have or none."""
    for time, cell, place in zip(times, cells, where):
        if (time.tzinfo is None) != (times[0].tzinfo is None):
            raise ValueError(
                f"{place}: {column} is {cell!r} and {cells[0]!r} before that; expected an offset from UTC in all times or in none"
            )
    utc = [time if time.tzinfo is None else time.astimezone(datetime.UTC).replace(tzinfo=None) for time in times]
    return np.asarray(utc, "datetime64[us]")


def _iso(text: str) -> datetime.datetime:
    if _YEAR_OR_MONTH.fullmatch(text):
        text += "-01" if "-" in text else "-01-01"
    return datetime.datetime.fromisoformat(text)


def _date(order: str, marks: str) -> Callable[[str], datetime.datetime]:
    """Year, month and day in the order of the letters of `order`, with one of `marks` between them."""

    def way(text: str) -> datetime.datetime:
        match = _DATE.fullmatch(text)
        if match is None or match[2] not in marks:
            raise ValueError
        parts = dict(zip(order, (match[1], match[3], match[4])))
        if len(parts["y"]) != 4:
            raise ValueError
        day = datetime.date(*(int(parts[letter]) for letter in "ymd"))
        return datetime.datetime.combine(day, _clock(match[5] or "00:00"))

    return way


def _clock(text: str) -> datetime.time:
    """9:30, 09:30:00.5 or 9:30 PM."""
    padded = text.strip() if text[1:2] != ":" else f"0{text.strip()}"
    if padded[-2:].lower() not in ("am", "pm"):
        return datetime.time.fromisoformat(padded)
    form = "%I:%M:%S" if padded.count(":") == 2 else "%I:%M"
    return datetime.datetime.strptime(padded[:-2].strip() + padded[-2:], f"{form}%p").time()


_WAYS = {
    "ISO 8601": _iso,
    "year, month, day": _date("ymd", "./"),
    "day, month, year": _date("dmy", "./"),
    "month, day, year": _date("mdy", "/"),
}


def _number(cell: str, where: str, column: str, *, comma: bool) -> float:
    """NaN where it is missing."""
    text = cell.strip()
    if text.lower() in MISSING:
        return math.nan
    try:
        value = math.nan if comma and "." in text else float(text.replace(",", ".") if comma else text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        mixed = " with a decimal comma, as others have" if comma else ""
        raise ValueError(
            f"{where}: {column} is {cell!r}; expected a finite number{mixed}, or nothing where it is missing, in every column but "
            "the first: correct it, or leave the column out"
        )
    return value


def _filled(values: np.ndarray, columns: Sequence[str], path: str) -> np.ndarray:
    values = values.copy()
    for place, column in enumerate(columns):
        known = np.flatnonzero(~np.isnan(values[:, place]))
        if not len(known):
            raise ValueError(f"{path}: {column} has no values; expected at least one: leave the column out")
        if len(known) < len(values):
            values[:, place] = np.interp(np.arange(len(values)), known, values[known, place])
    return values


def _equal(times: np.ndarray) -> bool:
    """Whether each is after the one before it and none is missing: a step may be half as long again as the usual, as months are."""
    steps = np.diff(times).astype(np.int64)
    return len(steps) == 0 or bool(((steps > 0) & (steps <= 1.5 * np.median(steps))).all())


def _check_steps(times: np.ndarray, lines: Sequence[int], path: str) -> None:
    steps = np.diff(times)
    usual = np.median(steps.astype(np.int64)).astype("timedelta64[us]")
    for index in np.flatnonzero((steps <= np.timedelta64(0)) | (steps > 1.5 * usual))[:1]:
        before, after = times[index].item(), times[index + 1].item()
        where = f"{path}:{lines[index + 1]}: {after}"
        if after == before:
            raise ValueError(
                f"{where} is the time of line {lines[index]} too; expected each time once: leave one of them out"
            )
        raise ValueError(
            f"{where} comes {steps[index].item()} after line {lines[index]}, the row before it; expected {usual.item()}: fill "
            "in the rows between"
        )
