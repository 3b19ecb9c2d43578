"""Images of digits: the split, the orders in which they are read, and every error a file of one's own can give."""

import gzip
import hashlib
import struct

import numpy as np
import pytest
from data_sets import needs

pytest.importorskip("sklearn", reason="the experiments extra is not installed")

from experiments.data import digits
from experiments.data.digits import Images, load, parse_idx, reading_order, steps

pytestmark = pytest.mark.usefixtures("isolated")

TRAIN, TEST = "train-images-idx3-ubyte", "t10k-images-idx3-ubyte"
LABELS = {TRAIN: "train-labels-idx1-ubyte", TEST: "t10k-labels-idx1-ubyte"}


def idx(values):
    """An array of bytes as an IDX file."""
    values = np.asarray(values, np.uint8)
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


def write(folder, *, train=24, test=5, size=(3, 4), classes=4, compress=()):
    """The four files of a small MNIST, and what is in them."""
    random = np.random.default_rng(1)
    folder.mkdir(exist_ok=True)
    found = {}
    for name, count in ((TRAIN, train), (TEST, test)):
        found[name] = random.integers(0, 256, (count, *size)), np.arange(count) % classes
        for file, values in zip((name, LABELS[name]), found[name], strict=True):
            packed = file in compress
            path = folder / (file + ".gz" * packed)
            path.write_bytes(gzip.compress(idx(values)) if packed else idx(values))
    return found


# --- scikit-learn's -----------------------------------------------------------------------------------------------------


def test_the_split_covers_every_image_once_and_is_stratified():
    from sklearn.datasets import load_digits

    found = load()
    parts = (found.train, found.valid, found.test)
    assert [part.pixels.shape for part in parts] == [(1293, 8, 8), (144, 8, 8), (360, 8, 8)]
    assert found.classes == 10
    rows = np.concatenate([part.pixels.reshape(-1, 64) for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    known = load_digits()
    assert sorted(zip(labels, map(bytes, (16 * rows).astype(np.uint8)))) == sorted(
        zip(known.target, map(bytes, known.data.astype(np.uint8)))
    )
    for part in parts:
        assert part.pixels.dtype == np.float32
        assert part.labels.dtype == np.int32
        assert (part.pixels.min(), part.pixels.max()) == (0, 1)
        counts = np.bincount(part.labels) / len(part.labels)
        np.testing.assert_allclose(counts, np.bincount(known.target) / len(known.target), atol=1 / len(part.labels))


def test_the_split_is_always_the_same():
    for one, other in zip(load()[1:], load()[1:], strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)
        np.testing.assert_array_equal(one.labels, other.labels)


def test_unknown_data():
    with pytest.raises(ValueError, match=r"data is 'emnist'; expected one of sklearn, mnist, or pass folder="):
        load("emnist")


# --- MNIST --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [(), (TRAIN, LABELS[TEST])])
def test_a_folder_of_idx_files(tmp_path, compress):
    known = write(tmp_path / "fashion", compress=compress)
    found = load(folder=tmp_path / "fashion")
    assert found.name == "fashion"
    assert found.classes == 4
    train = Images(*map(np.concatenate, zip(found.train, found.valid, strict=True)))
    assert len(found.valid.labels) == 2
    for part, (pixels, labels) in ((train, known[TRAIN]), (found.test, known[TEST])):
        np.testing.assert_array_equal(part.pixels, (pixels / 255).astype(np.float32))
        np.testing.assert_array_equal(part.labels, labels)


def test_mnist_is_read_from_a_data_folder_and_checked(tmp_path, monkeypatch):
    write(tmp_path / "mnist")
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte is not the expected file: the SHA-256"):
        load("mnist", data_dir=tmp_path)
    for name, file in digits._FILES.items():
        known = file._replace(sha256=hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
        monkeypatch.setitem(digits._FILES, name, known)
    assert load("mnist", data_dir=tmp_path).test.pixels.shape == (5, 3, 4)


def test_no_network_says_where_it_looked(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"mnist/train-images-idx3-ubyte was not found .*no network.*--data-dir"
    ):
        load("mnist", data_dir=tmp_path)


def test_published_sizes(data_dir):
    needs(data_dir, "mnist")
    found = load("mnist", data_dir=data_dir)
    assert [len(part.labels) for part in found[1:]] == [55_000, 5_000, 10_000]
    assert {part.pixels.shape[1:] for part in found[1:]} == {(28, 28)}
    assert found.classes == 10
    assert found.test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]


def broken(folder, name, change):
    """The small MNIST with one file changed."""
    write(folder)
    path = folder / name
    content = change(path.read_bytes())
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("name", "change", "error", "message"),
    [
        (
            TEST,
            lambda _: None,
            FileNotFoundError,
            "holds neither t10k-images-idx3-ubyte nor t10k-.*gz; expected the four",
        ),
        (
            TRAIN,
            lambda _: b"",
            ValueError,
            "train-images-idx3-ubyte begins with the bytes of an empty file; expected 00 00",
        ),
        (
            TRAIN,
            lambda _: idx([1, 2]),
            ValueError,
            "begins with the bytes 00 00 08 01; expected 00 00 08 03.*exchanged",
        ),
        (
            LABELS[TRAIN],
            lambda c: b"<htm" + c,
            ValueError,
            "train-labels.* begins with the bytes 3c 68 74 6d; expected",
        ),
        (TEST, lambda c: c[:12], ValueError, "t10k-images-idx3-ubyte ends within its header, after 12 of 16 bytes"),
        (TEST, lambda c: c[:-1], ValueError, "has 75 bytes; expected 76 for 5 x 3 x 4 values: it is cut short"),
        (TEST, lambda c: c + b"\n", ValueError, "has 77 bytes; expected 76 .* followed by something else"),
        (
            LABELS[TEST],
            lambda _: idx([1, 2]),
            ValueError,
            "t10k-images.* holds 5 images but .*t10k-labels.* holds 2 labels",
        ),
        (
            TEST,
            lambda _: idx(np.zeros((5, 2, 2))),
            ValueError,
            "train-images.* of 3 x 4 pixels, .*t10k-images.* of 2 x 2",
        ),
    ],
)
def test_errors_name_the_file(tmp_path, name, change, error, message):
    with pytest.raises(error, match=message):
        load(folder=broken(tmp_path / "mine", name, change))


def test_a_header_that_promises_more_than_there_is_memory(tmp_path):
    huge = struct.pack(">BBBB3I", 0, 0, 8, 3, *[2**32 - 1] * 3)
    with pytest.raises(ValueError, match=r"huge has 16 bytes; expected 79228162458924105385300197391 .*cut short"):
        parse_idx("huge", huge, axes=3)


def test_a_broken_gzip_file(tmp_path):
    write(tmp_path / "mine", compress=(TRAIN,))
    path = tmp_path / "mine" / f"{TRAIN}.gz"
    for content in (path.read_bytes()[:-9], b"plain text"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz is not a whole gzip file"):
            load(folder=tmp_path / "mine")


@pytest.mark.parametrize(
    ("counts", "message"), [({"train": 11}, "holds 11 images; expected at least 12"), ({"test": 0}, "0 images")]
)
def test_too_few_images(tmp_path, counts, message):
    write(tmp_path / "mine", **counts)
    with pytest.raises(ValueError, match=message):
        load(folder=tmp_path / "mine")


# --- images as sequences ------------------------------------------------------------------------------------------------


def test_orders_of_reading():
    pixels = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    rows, one_by_one, permuted = (steps(pixels.swapaxes(0, 1), order) for order in ("rows", "pixels", "permuted"))
    assert (rows.shape, one_by_one.shape, permuted.shape) == ((3, 2, 4), (12, 2, 1), (12, 2, 1))
    np.testing.assert_array_equal(rows[1, 1], pixels[1, 1])
    np.testing.assert_array_equal(one_by_one[:, 1, 0], pixels[1].ravel())
    np.testing.assert_array_equal(permuted, one_by_one[reading_order(12)])
    assert sorted(permuted[:, 0, 0]) == sorted(pixels[0].ravel())
    assert permuted[:, 0, 0].tolist() != sorted(pixels[0].ravel())
