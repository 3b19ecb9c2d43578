"""Time series with classes: the split, .ts files of one's own, and every error they can give."""

import pathlib

import numpy as np
import pytest

pytest.importorskip("aeon", reason="the series extra is not installed")

from aeon import datasets as aeon

from experiments.data.series import HELD_OUT, load
from experiments.data.ts_format import read_ts

HEADER = (
    "@problemName mine\n@timeStamps false\n@univariate false\n@equalLength false\n@classLabel true low high\n@data\n"
)


def ts(path, *lines, header=HEADER):
    path.write_text(header + "".join(f"{line}\n" for line in lines))
    return path


@pytest.fixture
def good(tmp_path):
    """Twelve series of two dimensions, 1 to 12 steps, of two classes."""
    lines = [f"{','.join([f'{n}'] * n)}:{','.join([f'-{n}.5'] * n)}:{('low', 'high')[n % 2]}" for n in range(1, 13)]
    return ts(tmp_path / "good.ts", *lines)


def test_japanese_vowels():
    found = load()
    assert found.classes == tuple("123456789")
    assert found.features == 12
    assert [len(part.series) for part in (found.train, found.valid, found.test)] == [225, 45, 370]
    lengths = [len(one) for part in (found.train, found.valid, found.test) for one in part.series]
    assert (min(lengths), max(lengths)) == (7, 29)
    assert np.bincount(found.train.labels).tolist() == [25] * 9
    assert np.bincount(found.valid.labels).tolist() == [5] * 9
    assert np.bincount(found.test.labels).tolist() == [31, 35, 88, 44, 29, 24, 40, 50, 29]
    assert {one.dtype for one in found.test.series} == {np.dtype(np.float32)}


def test_a_pair_of_files(good):
    found = load(good, good)
    assert found.name == "good"
    assert found.classes == ("high", "low")
    assert found.features == 2
    for one, label in zip(found.test.series, found.test.labels, strict=True):
        np.testing.assert_array_equal(one, np.tile(np.float32([[len(one), -len(one) - 0.5]]), (len(one), 1)))
        assert found.classes[label] == ("low", "high")[len(one) % 2]
    assert [len(one) for one in found.test.series] == list(range(1, 13))
    assert sorted(len(one) for part in (found.train, found.valid) for one in part.series) == list(range(1, 13))
    assert np.bincount(found.valid.labels).tolist() == [1, 1]
    assert HELD_OUT == 6
    again = load(good, good)
    for one, other in zip(found.valid.series, again.valid.series, strict=True):
        np.testing.assert_array_equal(one, other)


def test_series_of_equal_length(tmp_path):
    header = HEADER.replace("equalLength false", "equalLength true")
    path = ts(tmp_path / "equal.ts", *["1,2,3:4,5,6:low", "1,2,3:4,5,6:high"] * 6, header=header)
    np.testing.assert_array_equal(load(path, path).train.series[0], [[1, 4], [2, 5], [3, 6]])


# --- the format -------------------------------------------------------------------------------------------------------


def aeons_own():
    return sorted(pathlib.Path(aeon.__file__).parent.glob("data/*/*_TRAIN.ts"))


@pytest.mark.parametrize("path", aeons_own(), ids=lambda path: path.stem)
def test_files_that_come_with_aeon_are_read_as_by_aeon(path):
    """But for the labels, which aeon writes in small letters."""
    expected, labels, header = aeon.load_from_ts_file(str(path), return_meta_data=True)
    if header["targetlabel"]:
        with pytest.raises(ValueError, match=rf"{path.name} has targets of regression"):
            read_ts(path)
        return
    found = read_ts(path)
    assert [label.lower() for label in found.labels] == list(labels)
    for one, other in zip(found.series, expected, strict=True):
        np.testing.assert_array_equal(one, other.T.astype(np.float32))


def test_aeon_carries_files_of_each_kind():
    names = {path.stem.removesuffix("_TRAIN") for path in aeons_own()}
    assert {"UnitTestTimeStamps", "JapaneseVowels", "GunPoint", "BasicMotions", "Covid3Month"} <= names


VALUES = (("-1.5", "2e-3", "7"), ("3", "?", "5"))


@pytest.mark.parametrize("step", ["{}", "{}.5", "2007-01-01 00:0{}:00", "2007-0{}-01", "20{}0-01-01T12:00:00+01:00"])
def test_values_with_times(tmp_path, step):
    """Values with signs, exponents, whole ones, missing ones: aeon 1.6 takes 1.5 alone."""
    header = HEADER.replace("timeStamps false", "timeStamps true")
    spelled = [step.format(n) for n in (1, 2, 3)]
    pairs = [",".join(f"({time}, {value})" for time, value in zip(spelled, values)) for values in VALUES]
    found = read_ts(ts(tmp_path / "times.ts", f"{pairs[0]}:{pairs[1]}:low", header=header))
    np.testing.assert_array_equal(found.series[0], np.float32([[-1.5, 3], [2e-3, 4], [7, 5]]))
    assert found.filled == 1
    assert found.labels.tolist() == ["low"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "(0,1),(1,2),(5,3):(0,1),(1,2),(5,3):low",
            "at steps of 1 to 4, most of 2.5; expected equal steps forward: resample",
        ),
        ("(0,1),(0,2),(1,3):(0,1),(0,2),(1,3):low", "at steps of 0 to 1"),
        ("(2,1),(1,2):(2,1),(1,2):low", "at steps of -1 to -1"),
        ("(0,1),(1,2):(1,1),(2,2):low", "values at different times"),
        ("(0,1),(1,2):(0,1):low", "the dimensions have 2, 1 values"),
        ("(noon,1):(noon,2):low", "'noon' is no time; expected a number, or one such as"),
        ("1,2:3,4:low", "'1,2:3,4' is no list of pairs"),
        ("(0,1),(1,2:(0,1),(1,2):low", "is no list of pairs"),
        ("(0,1),(1,x):(0,1),(1,2):low", "'x' is no number"),
    ],
)
def test_bad_times_name_the_line(tmp_path, line, message):
    header = HEADER.replace("timeStamps false", "timeStamps true")
    with pytest.raises(ValueError, match=rf"bad\.ts:8: .*{message}"):
        read_ts(ts(tmp_path / "bad.ts", "(0,1),(1,2):(0,1),(1,2):low", line, header=header))


def test_missing_values_are_filled_in_and_padding_left_out(tmp_path):
    lines = ["?,1,NaN,nan,4,?:0,0,0,0,0,5:low", "1,2,?,?:?,4,?,NaN:high", "1:2:low"]
    found = read_ts(ts(tmp_path / "gaps.ts", *lines))
    np.testing.assert_array_equal(found.series[0].T, np.float32([[1, 1, 2, 3, 4, 4], [0, 0, 0, 0, 0, 5]]))
    np.testing.assert_array_equal(found.series[1].T, np.float32([[1, 2], [4, 4]]))
    assert found.filled == 4 + 1


@pytest.mark.parametrize(
    ("classes", "written", "labels"),
    [
        ("Walking Running", ("walking", "RUNNING"), ["Walking", "Running"]),
        ("A a", ("a", "A"), ["a", "A"]),
        ("1 2", ("1.0", " 2 "), ["1", "2"]),
        ("1.0 -1.0", ("1", "-1"), ["1.0", "-1.0"]),
        ("", ("nancy", "why?"), ["nancy", "why?"]),
    ],
)
def test_labels_are_as_the_header_spells_them(tmp_path, classes, written, labels):
    header = HEADER.replace("low high", classes)
    found = read_ts(ts(tmp_path / "mine.ts", *(f"1:2:{label}" for label in written), header=header))
    assert found.labels.tolist() == labels


def test_comments_empty_lines_marks_and_any_ends_of_lines(tmp_path):
    text = "# about\n\n% more\n" + HEADER.upper().replace("LOW HIGH", "low high")
    text += "1,2:3,4:low\n# between\n\n5:6:high\n\n"
    for content in (text.encode("utf-8-sig"), text.replace("\n", "\r\n").encode(), text.replace("\n", "\r").encode()):
        (tmp_path / "mine.ts").write_bytes(content)
        found = read_ts(tmp_path / "mine.ts")
        assert found.labels.tolist() == ["low", "high"]
        np.testing.assert_array_equal(found.series[0], [[1, 3], [2, 4]])


@pytest.mark.parametrize(
    ("header", "lines", "message"),
    [
        ("", [], r"bad\.ts holds no series; expected a header"),
        ("", ["1,2:3,4:low", "1,2:high"], r"bad\.ts:8: 1 dimensions; expected 2, as in the first series"),
        ("", ["1,2:3:low"], r"bad\.ts:7: the dimensions have 2, 1 values"),
        ("", ["1,x:3,4:low"], r"bad\.ts:7: 'x' is no number; expected one, or \? where it is missing"),
        ("", ["1,2:3,4:low", "1,inf:3,4:low"], r"bad\.ts:8: the series has infinite values"),
        ("", ["1,2:3,1e39:low"], r"bad\.ts:7: the series has infinite values"),
        ("", ["?,?:NaN,?:low"], r"bad\.ts:7: the series has no values"),
        ("", ["1,2:?,?:low"], r"bad\.ts:7: dimension 2 has no values"),
        ("", ["1,2:3,4:lo"], r"bad\.ts:7: the label is 'lo'; expected one of the classes in the header, low, high"),
        ("", ["1,2:3,4:"], r"bad\.ts:7: no label after the last colon"),
        ("", ["1,2,3"], r"bad\.ts:7: no colon in '1,2,3'; expected values, a colon and a label"),
        ("", ["(0,1),(1,2)"], r"bad\.ts:7: no colon .*@timeStamps true"),
        ("@univariate true", ["1,2:3,4:low"], r"bad\.ts:7: 2 dimensions; expected 1, as in its header"),
        ("@dimensions 3", ["1,2:3,4:low"], r"bad\.ts:8: 2 dimensions; expected 3, as in its header"),
        ("@equalLength true", ["1,2:3,4:low", "1:3:low"], r"bad\.ts:8: 1 values; expected 2, as the header says"),
        ("@equalLength true\n@seriesLength 3", ["1,2:3,4:low"], r"bad\.ts:8: 2 values; expected 3, as the header"),
        ("@targetLabel true", ["1,2:3,4:0.5"], r"bad\.ts has targets of regression \(@targetLabel true\)"),
        ("@classLabel false", ["1,2:3,4"], r"bad\.ts has no classes; expected a line"),
        ("1,2:3,4:low", ["1,2:3,4:low"], r"bad\.ts:6: '1,2:3,4:low' before @data"),
    ],
)
def test_errors_name_the_line(tmp_path, good, header, lines, message):
    """Of lines below the header, or one that has other lines in it; in both places a file is read alike."""
    kept = [line for line in HEADER.splitlines() if line.split()[0] not in header]
    bad = ts(tmp_path / "bad.ts", *lines, header="\n".join([*kept[:-1], *filter(None, [header]), kept[-1], ""]))
    for pair in ((bad, good), (good, bad)):
        with pytest.raises(ValueError, match=message):
            load(*pair)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("bad.csv", b"1,2,3\n", "bad.csv does not end in .ts; expected a .ts file"),
        ("bad.ts", b"", "bad.ts holds no series"),
        ("bad.ts", b"1,2,3\n4,5,6\n", "bad.ts holds no series; expected a header that ends in @data"),
        ("bad.ts", b"\n\xff\xfe\x00", "bad.ts:2: byte 0xff is not UTF-8"),
    ],
)
def test_what_is_no_ts_file(tmp_path, good, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load(tmp_path / name, good)


def test_what_is_not_there(tmp_path, good):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.ts does not exist"):
        load(good, tmp_path / "nowhere.ts")
    (tmp_path / "folder.ts").mkdir()
    with pytest.raises(FileNotFoundError, match=r"folder\.ts is a folder"):
        load(tmp_path / "folder.ts", good)
    with pytest.raises(ValueError, match=r"data is given and test is not; .*pass both"):
        load(good)
    with pytest.raises(ValueError, match=r"test is given and data is not; .*pass both"):
        load(test=good)


def test_files_that_do_not_fit_each_other(tmp_path, good):
    other = ts(tmp_path / "other.ts", "1,2:low", "1,2,3:high")
    with pytest.raises(ValueError, match=r"dimensions: 2 in .*good\.ts, 1 in .*other\.ts; expected one number"):
        load(good, other)
    other = ts(tmp_path / "other.ts", "1,2:3,4:low", "1,2:3,4:middle", header=HEADER.replace("high", "middle"))
    with pytest.raises(ValueError, match=r"other\.ts has classes that .*good\.ts lacks: middle; .*high, low"):
        load(good, other)


def test_too_little_to_train_on(tmp_path):
    one = ts(tmp_path / "one.ts", *["1,2:3,4:low"] * 6)
    with pytest.raises(ValueError, match=r"one\.ts has one class, low; expected at least two"):
        load(one, one)
    few = ts(tmp_path / "few.ts", *["1,2:3,4:low", "1,2:3,4:high"] * 5)
    with pytest.raises(ValueError, match=r"few\.ts has fewer than 6 series of each class"):
        load(few, few)
