"""Time series of one or several variables to forecast, and windows over them.

| `data` | rows, variables | step | train / valid / test | season |
|---|---|---|---|---|
| `co2` | 2,284, 1 | 1 week | 1,370 / 457 / 457 | 52 |
| `etth1` | 17,420, 7 | 1 h | 8,640 / 2,880 / 2,880 | 24 |

`co2` is the CO2 in the air above Mauna Loa, Hawaii, in parts per million: weekly means from March 1958 to December 2001 (Keeling &
Whorf 2004; public domain), which come with statsmodels and need no download. It rises, and rises faster, so that most of what is to
be forecast is above all that was seen in training. 59 weeks are missing, 47 of them before 1965 and none in the test part;
they are filled linearly, as is customary.

`etth1` is an electricity transformer's oil temperature (OT) and six loads, hourly over two years (Zhou et al. 2021, "Informer";
CC BY-ND 4.0), cut into 12, 4 and 4 months of 30 days as everyone does; the rows after them are left out. It is read from
`ett/ETTh1.csv` in `data_dir`, else in the folder that the environment variable JRNN_DATA names, else downloaded.

Any csv file with a header, a first column of times at equal steps and numbers in all others will do as well (see `time_table`); its
rows, as those of `co2`, are cut into 60, 20 and 20 %, the same proportions.
"""

from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np

from experiments.common.extras import need
from experiments.data.files import File, check_file, read
from experiments.data.time_table import read_table

Data = Literal["co2", "etth1"]

ETTH1 = File(
    "ett/ETTh1.csv",
    "https://raw.githubusercontent.com/zhouhaoyi/ETDataset/1d16c8f4f943005d613b5bc962e9eeb06058cf07/ETT-small/ETTh1.csv",
    "f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066",
)
PARTS = ("train", "valid", "test")
_MONTH = 30 * 24  # rows of ETTh1
_DAY = 24 * 3600.0  # seconds
_SHARES = (0.6, 0.8)  # of the rows of all but ETTh1: where the validation and the test part begin


class Series(NamedTuple):
    """A time series in the units of its file."""

    name: str
    columns: tuple[str, ...]
    times: np.ndarray  # datetime64[us] [rows]: UTC where the file gives an offset, else as it has them
    values: np.ndarray  # float64 [rows, variables]
    ends: dict[str, int]  # where the parts "train", "valid" and "test" end; each begins where the one before it ends
    notes: tuple[str, ...] = ()  # what was done to the file, for the user


class Windows(NamedTuple):
    """Every window of a part, one step apart."""

    past: np.ndarray  # float32 [windows, lookback, variables], standardised; views, not copies
    future: np.ndarray  # float32 [windows, horizon, variables]
    first: np.ndarray  # int [windows]: the row of the series that future begins at


class Scale(NamedTuple):
    """Mean and standard deviation of each variable over the training rows."""

    mean: np.ndarray  # [variables]
    deviation: np.ndarray  # [variables]; 1 for a variable that is constant there


def load(
    data: Data = "co2", *, file: Path | None = None, encoding: str = "utf-8", data_dir: Path | None = None
) -> Series:
    """One of the data sets above, or, with `file`, any csv file as described there.

    Raises:
      FileNotFoundError: where it was looked for, and how to provide it.
      ValueError: path, line and column of what is wrong, what was expected and what to do.
    """
    if file is not None:
        return _read_csv(Path(file), encoding)
    if data == "co2":
        return _co2()
    if data != "etth1":
        raise ValueError(f"data is {data!r}; expected one of {', '.join(get_args(Data))}, or pass file=")
    table = read_table(read(ETTH1, data_dir), ETTH1.name)
    return Series(
        "ETTh1", table.columns, table.times, table.values, dict(zip(PARTS, (12 * _MONTH, 16 * _MONTH, 20 * _MONTH)))
    )


def scale(series: Series) -> Scale:
    """What standardises every part: statistics of the training rows alone."""
    train = series.values[: series.ends["train"]]
    deviation = train.std(0)
    return Scale(train.mean(0), np.where(deviation > 0, deviation, 1.0))


def windows(series: Series, part: str, *, lookback: int, horizon: int) -> Windows:
    """Every window whose future rows lie in `part`, one step apart; its past rows may lie in the part before.

    So the standard 2,785 windows of ETTh1's test part at a horizon of 96 (2,880 - 96 + 1), as in Informer and after it.
    """
    starts = dict(zip(series.ends, (0, *series.ends.values())))
    begin = max(starts[part] - lookback, 0)
    rows = series.ends[part] - begin
    if rows < lookback + horizon:
        raise ValueError(
            f"{series.name} has {series.ends[part] - starts[part]} {part} rows; look-back {lookback} and horizon {horizon} need "
            f"{lookback + horizon if part == 'train' else horizon}: use a longer series, or shorten look-back or horizon"
        )
    mean, deviation = scale(series)
    values = ((series.values[begin : series.ends[part]] - mean) / deviation).astype(np.float32)
    whole = np.lib.stride_tricks.sliding_window_view(values, lookback + horizon, 0).swapaxes(1, 2)
    return Windows(whole[:, :lookback], whole[:, lookback:], begin + lookback + np.arange(len(whole)))


def season(series: Series) -> int:
    """Rows after which the series is likely to repeat: a day's where a day has several rows; else a week's, or a year's."""
    step = float(np.median(np.diff(series.times) / np.timedelta64(1, "s")))
    return next((round(span * _DAY / step) for span in (1, 7, 365.25) if span * _DAY >= 1.9 * step), 1)


def repeated(series: Series, windows: Windows, horizon: int) -> np.ndarray:
    """The floor [windows, horizon, variables]: the last season of each past, again and again; the last row, where it holds none."""
    rows = season(series)
    rows = rows if rows <= windows.past.shape[1] else 1
    return windows.past[:, np.arange(horizon) % rows - rows]


def drifted(series: Series, windows: Windows, horizon: int) -> np.ndarray:
    """A higher floor, for what rises or falls: as `repeated`, and every repetition moved on by the change over the last season.

    This is the forecast of the seasonal random walk ARIMA(0, 1, 0)(0, 1, 0). A past of a season or less has no such change.
    """
    rows, floor = season(series), repeated(series, windows, horizon)
    if rows >= windows.past.shape[1]:
        return floor
    change = windows.past[:, -1:] - windows.past[:, -1 - rows, None]
    return floor + change * (1 + np.arange(horizon, dtype=np.float32) // rows)[:, None]


def _co2() -> Series:
    table = need("statsmodels.datasets.co2", "forecasting").load_pandas().data  # slow to import
    weeks = table["co2"].interpolate()
    values = weeks.to_numpy(np.float64)[:, None]
    return Series("co2", ("CO2, ppm",), weeks.index.to_numpy("datetime64[us]"), values, _cut(len(values)))


def _cut(rows: int) -> dict[str, int]:
    """Where the parts end."""
    return dict(zip(PARTS, [*(int(share * rows) for share in _SHARES), rows]))


def _read_csv(path: Path, encoding: str) -> Series:
    check_file(path, "a csv file")
    table = read_table(path.read_bytes(), str(path), encoding)
    return Series(path.stem, table.columns, table.times, table.values, _cut(len(table.values)), table.notes)
