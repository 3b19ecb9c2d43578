"""Time series: their windows and parts, the floor, and every error that a user's csv file can meet."""

import csv
import datetime
import os

import numpy as np
import pooch
import pytest

from experiments.data import forecasting as data

HOUR = datetime.timedelta(hours=1)
START = datetime.datetime(2020, 2, 28)


def lines(rows=100, step=HOUR, columns=2):
    values = np.random.default_rng(0).normal(5, 3, (rows, columns)).round(4)
    names = [f"v{place}" for place in range(columns)]
    return [
        ",".join(["date", *names]),
        *(",".join([str(START + i * step), *map(str, row)]) for i, row in enumerate(values.tolist())),
    ]


@pytest.fixture
def write(tmp_path):
    def write(content):
        path = tmp_path / "mine.csv"
        path.write_bytes(content if isinstance(content, bytes) else "\n".join(content).encode())
        return path

    return write


def test_a_file_of_ones_own(write):
    content = lines()
    series = data.load(file=write(content))
    assert (series.name, series.columns) == ("mine", ("v0", "v1"))
    assert series.ends == {"train": 60, "valid": 80, "test": 100}
    assert series.times[0] == np.datetime64("2020-02-28T00:00:00")
    assert (np.diff(series.times) == np.timedelta64(1, "h")).all()  # over the leap day
    assert series.values[41].tolist() == [float(cell) for cell in content[42].split(",")[1:]]


def test_what_spreadsheets_write(write):
    """A byte order mark, carriage returns, quotes, empty lines, offsets from UTC."""
    rows = [f'"2020-01-01T{hour:02}:30:00+01:00","{hour}.5"' for hour in range(9)]
    series = data.load(file=write("\r\n".join(['\ufeff"time","v"', *rows[:4], "", *rows[4:], ""]).encode()))
    assert series.columns == ("v",)
    assert series.times[0] == np.datetime64("2019-12-31T23:30:00")
    assert series.values[:, 0].tolist() == [hour + 0.5 for hour in range(9)]


def test_months_are_equal_steps(write):
    rows = [f"{2000 + month // 12}-{month % 12 + 1:02}-01,{month}" for month in range(40)]
    series = data.load(file=write(["month,v", *rows]))
    assert len(series.values) == 40
    assert data.season(series) == 12


def test_months_and_years_alone(write):
    months = data.load(file=write(["month,v", *(f"{2000 + n // 12}-{n % 12 + 1:02},{n}" for n in range(40))]))
    assert months.times[14] == np.datetime64("2001-03-01")
    assert data.season(months) == 12
    years = data.load(file=write(["year,v", *(f"{1990 + n},{n}" for n in range(9))]))
    assert years.times[-1] == np.datetime64("1998-01-01")


@pytest.mark.parametrize("between", [";", "\t"])
def test_decimal_commas(write, between):
    """As spreadsheets write them where people have decimal commas; a point among them would mean thousands."""
    rows = [["Datum", "Last, MW", "Öl"], *([f"0{n}.02.2020", f"-{n},25", f"{n}"] for n in range(1, 10))]
    series = data.load(file=write([between.join(row) for row in rows]))
    assert series.columns == ("Last, MW", "Öl")
    assert series.values[:, 0].tolist() == [-n - 0.25 for n in range(1, 10)]
    assert str(series.times[3]) == "2020-02-04T00:00:00.000000"
    assert len(series.notes) == 2
    assert "decimal commas" in series.notes[1]
    for cell in ("1.234", "1.234,5"):
        rows[4][1] = cell
        with pytest.raises(
            ValueError, match=f"mine.csv:5: Last, MW is '{cell}'; expected a finite number with a decimal comma"
        ):
            data.load(file=write([between.join(row) for row in rows]))


def test_decimal_points_between_semicolons(write):
    series = data.load(file=write(["date;v", *(f"2020-01-0{n};{n}.5" for n in range(1, 10))]))
    assert series.values[:, 0].tolist() == [n + 0.5 for n in range(1, 10)]


@pytest.mark.parametrize(
    ("cells", "first", "step"),
    [
        (["28/02/2020", "29/02/2020", "01/03/2020"], "2020-02-28", "D"),
        (["2/28/2020", "2/29/2020", "3/1/2020"], "2020-02-28", "D"),
        (["10/02/2020 9:30", "10/02/2020 10:30", "10/02/2020 11:30"], None, None),
        (["12/31/2020 11:30 PM", "1/1/2021 12:30 AM", "1/1/2021 1:30 AM"], "2020-12-31T23:30", "h"),
        (["12/31/2020 9:30:00.5", "12/31/2020 9:30:01.5", "12/31/2020 9:30:02.5"], "2020-12-31T09:30:00.5", "s"),
        (["2020/02/28 00:00", "2020/02/29 00:00", "2020/03/01 00:00"], "2020-02-28", "D"),
        (["31.12.2020 23:00", "1.1.2021 0:00", "1.1.2021 1:00"], "2020-12-31T23:00", "h"),
        (["01/02/2020", "01/03/2020", "01/04/2020"], None, None),
        (["01/01/2020", "01/02/2020", "01/03/2020", "01/05/2020"], None, None),
        (["01/02/2020", "02/02/2020", "03/02/2020"], None, None),
        (["20200228", "20200229", "20200301"], "2020-02-28", "D"),
    ],
)
def test_dates_as_people_write_them(write, cells, first, step):
    """Where the rows do not say whether the day or the month comes first, it is an error, but never a guess."""
    path = write(["when,v", *(f"{cell},{n}" for n, cell in enumerate(cells))])
    if first is None:
        with pytest.raises(
            ValueError, match=r"mine.csv:2: when is .*, which may be day, month, year or month, day, year"
        ):
            data.load(file=path)
        return
    series = data.load(file=path)
    assert (series.times == np.datetime64(first) + np.arange(3) * np.timedelta64(1, step)).all()


@pytest.mark.parametrize(
    "text", ["when,v\n13/02/2020,1\n14/02/2020,1\n16/13/2020,1\n", "when,v\n2/13/2020,1\n2/14/2020,1\nx,1\n"]
)
def test_the_row_that_is_no_date_is_named(write, text):
    with pytest.raises(ValueError, match=r"mine.csv:4: when is '(16/13/2020|x)'; expected a time"):
        data.load(file=write(text.encode()))


def test_missing_values_are_filled_in(write):
    cells = ["", "1", "NaN", " ", "4", "n/a", "?"]
    series = data.load(file=write(["day,v,w", *(f"2020-01-0{n},{cell},{n}" for n, cell in enumerate(cells, 1))]))
    assert series.values[:, 0].tolist() == [1, 1, 2, 3, 4, 4, 4]
    assert series.values[:, 1].tolist() == list(range(1, 8))
    assert series.notes == ("5 missing values are filled in from those before and after them",)
    assert data.load(file=write(lines())).notes == ()


@pytest.mark.parametrize("order", [range(9, 0, -1), [3, 1, 2, 9, 8, 4, 5, 7, 6]])
def test_rows_in_any_order(write, order):
    series = data.load(file=write(["day,v", *(f"2020-01-0{n},{n}" for n in order)]))
    assert series.values[:, 0].tolist() == list(range(1, 10))
    assert (np.diff(series.times) == np.timedelta64(1, "D")).all()
    assert series.notes == ("rows are put in the order of their times",)


def test_columns_without_a_name_or_with_one_name(write):
    series = data.load(file=write([",v,v,", *(f"2020-01-0{n},1,2,3" for n in range(1, 5))]))
    assert series.columns == ("v", "v (column 3)", "column 4")
    trailing = data.load(file=write(["day,v,", *(f"2020-01-0{n},{n}," for n in range(1, 5)), ",,"]))
    assert trailing.columns == ("v",)
    assert trailing.values[:, 0].tolist() == [1, 2, 3, 4]


def test_a_cell_may_hold_lines_and_an_encoding_be_any(write):
    text = '\ufeff"Zeit","a\r\nb"\r\n' + "".join(f'"2020-01-0{n}","{n}"\r\n' for n in range(1, 5))
    series = data.load(file=write(text.encode("utf-16")), encoding="utf-16")
    assert series.columns == ("a\nb",)
    assert len(series.values) == 4


@pytest.mark.parametrize("step", [datetime.timedelta(milliseconds=4), datetime.timedelta(microseconds=1)])
def test_steps_below_a_second(write, step):
    series = data.load(file=write(lines(step=step)))
    assert (np.diff(series.times) == np.timedelta64(step)).all()
    assert data.season(series) == datetime.timedelta(days=1) // step
    with pytest.raises(ValueError, match=f"comes {2 * step} after line 6, the row before it; expected {step}: fill"):
        data.load(file=write([*lines(step=step)[:6], *lines(step=step)[7:]]))


@pytest.mark.parametrize(
    ("step", "rows"),
    [
        (datetime.timedelta(minutes=15), 96),
        (HOUR, 24),
        (12 * HOUR, 2),
        (24 * HOUR, 7),
        (7 * 24 * HOUR, 52),
        (366 * 24 * HOUR, 1),
    ],
)
def test_season(write, step, rows):
    assert data.season(data.load(file=write(lines(step=step)))) == rows


def changed(line, cells):
    content = lines()
    content[line - 1] = cells
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"mine.csv:1: the header is \[\]; expected the names of a time column"),
        (["date v0", "2020-01-01 1"], r"mine.csv:1: the header is \['date v0'\].*commas, semicolons or tabs between"),
        (["2020-01-01,1", "2020-01-02,2"], r"mine.csv:1: '2020-01-01' is a time and 1 a number; expected a header"),
        (["v0,v1", "1.5,2", "2.5,3"], r"mine.csv:2: v0 is '1.5'; expected a time"),
        (["date,v0", "2020-01-01,", "2020-01-02,NA"], r"mine.csv: v0 has no values; expected at least one"),
        (["date,v0"], "has 0 rows below its header"),
        (["date,v0", "2020-01-01,1"], "has 1 rows below its header"),
        (b"\xff\xfe\x00", "mine.csv:1: byte 0xff is not UTF-8 .*--encoding, such as utf-16, or convert"),
        (b"PK\x03\x04 " + b"x" * 200_000, r"mine.csv:1: field larger than field limit"),
        (changed(7, "2020-02-28 05:00:00,1"), "mine.csv:7: 2 columns; expected 3, as in the header"),
        (changed(7, "2020-02-28 05:00:00,1,2,3"), "mine.csv:7: 4 columns; expected 3"),
        (changed(7, "5,1,2"), "mine.csv:7: date is '5'; expected a time such as 2016-07-01 00:00:00 in the first"),
        (changed(7, "28/02/2020 05:00,1,2"), "mine.csv:7: date is '28/02/2020 05:00'; expected a time"),
        (changed(7, "2020-02-28 05:00:00,1,high"), "mine.csv:7: v1 is 'high'; expected a finite number"),
        (changed(7, "2020-02-28 05:00:00,inf,2"), "mine.csv:7: v0 is 'inf'"),
        (
            changed(7, "2020-02-28 04:00:00,1,2"),
            "mine.csv:7: 2020-02-28 04:00:00 is the time of line 6 too; expected each",
        ),
        (
            changed(7, "2019-02-28 05:00:00,1,2"),
            "mine.csv:2: .* comes 364 days, 19:00:00 after line 7, the row before it",
        ),
        (
            changed(7, "2020-02-28T05:00:00Z,1,2"),
            "mine.csv:7: date is '2020-02-28T05:00:00Z' and .* before that; expected an off",
        ),
        (changed(7, '2020-02-28 05:00:00,"1,5",2'), "mine.csv:7: v0 is '1,5'; expected a finite number, or nothing"),
        (
            [*lines()[:6], *lines()[7:]],
            "mine.csv:7: 2020-02-28 06:00:00 comes 2:00:00 after line 6, .* expected 1:00:00: fill",
        ),
    ],
)
def test_errors_name_the_line_and_the_remedy(write, content, message):
    with pytest.raises(ValueError, match=message):
        data.load(file=write(content))


def test_no_file(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.csv does not exist; expected a csv file"):
        data.load(file=tmp_path / "nowhere.csv")
    with pytest.raises(FileNotFoundError, match="is a folder"):
        data.load(file=tmp_path)

    def retrieve(url, **_):
        raise OSError("no network")

    monkeypatch.delenv("JRNN_DATA", raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    monkeypatch.setattr(pooch, "retrieve", retrieve)
    with pytest.raises(FileNotFoundError, match=r"ett/ETTh1\.csv was not found .*no network.*--data-dir"):
        data.load("etth1", data_dir=tmp_path)
    with pytest.raises(ValueError, match=r"data is 'etth2'; expected one of co2, etth1, or pass file="):
        data.load("etth2")


def test_every_window_once_and_none_ahead_of_its_part(write):
    series = data.load(file=write(lines()))
    mean, deviation = series.values[:60].mean(0), series.values[:60].std(0)
    standardised = (series.values - mean) / deviation
    for part, begin, end in (("train", 8, 60), ("valid", 60, 80), ("test", 80, 100)):
        windows = data.windows(series, part, lookback=8, horizon=5)
        assert windows.first.tolist() == list(range(begin, end - 5 + 1))
        assert windows.past.shape == (len(windows.first), 8, 2)
        assert windows.future.dtype == np.float32
        for past, future, first in zip(*windows, strict=True):
            np.testing.assert_allclose(past, standardised[first - 8 : first], rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(future, standardised[first : first + 5], rtol=1e-5, atol=1e-6)


def test_what_comes_later_changes_nothing_before(write):
    series = data.load(file=write(lines()))
    values = series.values.copy()
    values[60:] = 1e6
    later = series._replace(values=values)
    for one, other in zip(
        data.windows(series, "train", lookback=8, horizon=5)[:2], data.windows(later, "train", lookback=8, horizon=5)
    ):
        np.testing.assert_array_equal(one, other)


def test_a_constant_variable_stays_finite(write):
    series = data.load(file=write([f"{line},{'c' if line[0] == 'd' else 3}" for line in lines()]))
    assert not data.windows(series, "test", lookback=8, horizon=5).past[..., 2].any()


@pytest.mark.parametrize(("part", "horizon"), [("train", 60), ("valid", 21), ("test", 21)])
def test_too_few_rows(write, part, horizon):
    series = data.load(file=write(lines()))
    with pytest.raises(ValueError, match=f"{part} rows; look-back 8 and horizon {horizon} need .*use a longer series"):
        data.windows(series, part, lookback=8, horizon=horizon)


def test_the_season_before_is_repeated(write):
    series = data.load(file=write(lines(rows=400)))
    windows = data.windows(series, "test", lookback=30, horizon=50)
    floor = data.repeated(series, windows, 50)
    for step in range(50):
        np.testing.assert_array_equal(floor[:, step], windows.past[:, 30 - 24 + step % 24])
    short = data.windows(series, "test", lookback=10, horizon=50)  # holds no day: the last row
    np.testing.assert_array_equal(data.repeated(series, short, 50), np.repeat(short.past[:, -1:], 50, 1))


@pytest.mark.parametrize("rows", [24, 30, 49])
def test_the_season_before_and_its_change_continue_a_line_and_a_wave(write, rows):
    """What rises evenly and repeats daily is forecast without error, days ahead."""
    hours = np.arange(400)
    values = 3 + 0.2 * hours + np.sin(hours * np.pi / 12)
    series = data.load(file=write(["hour,v", *(f"{START + h * HOUR},{v}" for h, v in zip(hours.tolist(), values))]))
    windows = data.windows(series, "test", lookback=rows, horizon=60)
    found = data.drifted(series, windows, 60)
    if rows == 24:  # a day, but no change over it
        np.testing.assert_array_equal(found, data.repeated(series, windows, 60))
    else:
        np.testing.assert_allclose(found, windows.future, atol=1e-5)


def test_co2(isolated):
    """Against the file that statsmodels carries, read line by line."""
    module = pytest.importorskip("statsmodels.datasets.co2", reason="the forecasting extra is not installed")
    with open(os.path.join(os.path.dirname(module.__file__), "co2.csv"), newline="") as file:
        rows = list(csv.reader(file))[1:]
    series = data.load()
    assert (series.name, series.values.shape) == ("co2", (2284, 1))
    assert series.ends == {"train": 1370, "valid": 1827, "test": 2284}
    assert [str(series.times[place])[:10] for place in (0, -1)] == ["1958-03-29", "2001-12-29"]
    assert series.values[[0, -1], 0].tolist() == [316.1, 371.5]
    assert [str(day)[:10].replace("-", "") for day in series.times] == [day for day, _ in rows]
    known = np.array([value != "" for _, value in rows])
    assert series.values[known, 0].tolist() == [float(value) for _, value in rows if value]
    missing = np.flatnonzero(~known)
    assert len(missing) == 59
    assert (missing < np.flatnonzero(series.times < np.datetime64("1965"))[-1]).sum() == 47
    assert missing[-1] < series.ends["valid"]
    alone = [place for place in missing if known[place - 1] and known[place + 1]]
    np.testing.assert_allclose(
        series.values[alone], (series.values[np.array(alone) - 1] + series.values[np.array(alone) + 1]) / 2
    )
    assert data.season(series) == 52


def test_etth1(data_dir):
    series = data.load("etth1", data_dir=data_dir)
    assert series.columns == ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT")
    assert series.values.shape == (17_420, 7)
    assert data.season(series) == 24
    parts = {part: data.windows(series, part, lookback=96, horizon=96) for part in data.PARTS}
    assert [len(windows.past) for windows in parts.values()] == [8_449, 2_785, 2_785]
    difference = data.repeated(series, parts["test"], 96) - parts["test"].future
    assert round(float(np.square(difference).mean()), 3) == 0.512
    assert round(float(np.abs(difference).mean()), 3) == 0.433
