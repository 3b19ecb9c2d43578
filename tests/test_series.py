"""Time series with classes: the split, .ts files of one's own, and every error they can give."""

import numpy as np
import pytest

pytest.importorskip("aeon", reason="the series extra is not installed")

from experiments.data.series import HELD_OUT, load

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


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "bad.ts holds no series; expected a header"),
        (["1,2:3,4:low", "1,2:high"], "bad.ts is not a .ts file that can be read .*dimensions in case 2"),
        (["1,2:3:low"], "bad.ts is not a .ts file that can be read .*different number of observations"),
        (["1,x:3,4:low"], "bad.ts is not a .ts file that can be read .*'x'"),
        (["1,2:3,4:low", "1,?:3,4:low"], "bad.ts: series 2 has missing or infinite values"),
    ],
)
def test_errors_name_the_file(tmp_path, good, lines, message):
    bad = ts(tmp_path / "bad.ts", *lines)
    for pair in ((bad, good), (good, bad)):
        with pytest.raises(ValueError, match=message):
            load(*pair)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("bad.csv", b"1,2,3\n", "bad.csv does not end in .ts; expected a .ts file"),
        ("bad.ts", b"", "bad.ts holds no series"),
        ("bad.ts", b"1,2,3\n4,5,6\n", "bad.ts holds no series; expected a header that ends in @data"),
        ("bad.ts", b"\xff\xfe\x00", "bad.ts is not a .ts file that can be read .*utf-8"),
        ("bad.ts", HEADER.replace("true low high", "false").encode() + b"1,2:3,4\n", "has no classes; expected a line"),
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
    other = ts(tmp_path / "other.ts", "1,2:3,4:low", "1,2:3,4:middle")
    with pytest.raises(ValueError, match=r"other\.ts has classes that .*good\.ts lacks: middle; .*high, low"):
        load(good, other)


def test_too_little_to_train_on(tmp_path):
    one = ts(tmp_path / "one.ts", *["1,2:3,4:low"] * 6)
    with pytest.raises(ValueError, match=r"one\.ts has one class, low; expected at least two"):
        load(one, one)
    few = ts(tmp_path / "few.ts", *["1,2:3,4:low", "1,2:3,4:high"] * 5)
    with pytest.raises(ValueError, match=r"few\.ts has fewer than 6 series of each class"):
        load(few, few)
