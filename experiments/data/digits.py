"""Handwritten digits as images, and images as sequences.

| data      | images (train / valid / test)  | size    | classes | chance, largest class |
|-----------|--------------------------------|---------|---------|-----------------------|
| `sklearn` | 1,293 / 144 / 360              | 8 x 8   | 10      | 10.2 %                |
| `mnist`   | 55,000 / 5,000 / 10,000        | 28 x 28 | 10      | 11.4 %                |

`sklearn` is the test part of the UCI set "Optical Recognition of Handwritten Digits" (Alpaydin & Kaynak 1998), which comes
with scikit-learn and needs no download. It has no split of its own: 360 images are drawn for testing and 144 of the rest held
out for validation, stratified by class, always the same.

`mnist` (LeCun, Cortes & Burges 1998) is read from `data_dir`, else from the folder that the environment variable JRNN_DATA
names, else from the download cache, where it is fetched to on first use. Either folder is laid out as

    mnist/train-images-idx3-ubyte  mnist/train-labels-idx1-ubyte
    mnist/t10k-images-idx3-ubyte   mnist/t10k-labels-idx1-ubyte

and any of these files may be gzipped (`.gz` added to its name). A folder of four files of these names with anything else in
them (Fashion-MNIST, Kuzushiji-MNIST) is read by `folder`. The last twelfth of the training part is held out for validation.
"""

from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from experiments.data.files import File, read, unpacked

Data = Literal["sklearn", "mnist"]
Order = Literal["pixels", "permuted", "rows"]

_MIRROR = "https://ossci-datasets.s3.amazonaws.com/"
_SHA256 = {
    "mnist/train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "mnist/train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "mnist/t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "mnist/t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
_FILES = {name: File(name, f"{_MIRROR}{name}.gz", sha256) for name, sha256 in _SHA256.items()}
_AXES = {"images": 3, "labels": 1}


class Images(NamedTuple):
    """Images and what they show."""

    pixels: np.ndarray  # float32 [count, height, width], from 0 to 1
    labels: np.ndarray  # int32 [count]


class Digits(NamedTuple):
    """A data set and its parts."""

    name: str
    train: Images
    valid: Images
    test: Images

    @property
    def classes(self) -> int:
        """How many there are: one more than the largest label."""
        return 1 + int(max(part.labels.max() for part in (self.train, self.valid, self.test)))


def load(data: Data = "sklearn", *, folder: Path | None = None, data_dir: Path | None = None) -> Digits:
    """One of the data sets above or, with `folder`, the four IDX files of a folder (`data` is then ignored).

    ValueError and FileNotFoundError say which file was read, what was found there, what was expected and what to do.
    """
    if folder is not None:
        folder = Path(folder)
        return _from_idx(folder.name, {name: _read_file(folder, Path(name).name) for name in _FILES})
    match data:
        case "sklearn":
            return _scikit_learn()
        case "mnist":
            return _from_idx(data, {name: (name, read(file, data_dir)) for name, file in _FILES.items()})
    raise ValueError(f"data is {data!r}; expected one of {', '.join(get_args(Data))}, or pass folder= with IDX files")


def steps(rows: Any, order: Order) -> Any:
    """Images [height, batch, width], NumPy's or JAX's, as what a network reads: [time, batch, features].

    `pixels` goes row by row from the top left, one pixel a step; `permuted` takes the same pixels in an order that is drawn at
    random once, the same for every image and run (Le, Jaitly & Hinton 2015); `rows` takes one row a step.
    """
    if order == "rows":
        return rows
    one_by_one = rows.swapaxes(1, 2).reshape(-1, rows.shape[1], 1)
    return one_by_one[reading_order(len(one_by_one))] if order == "permuted" else one_by_one


def reading_order(pixels: int) -> np.ndarray:
    """Which pixel `permuted` reads at each step, int [pixels]."""
    return np.random.default_rng(0).permutation(pixels)


def _scikit_learn() -> Digits:
    from sklearn.datasets import load_digits  # slow to import
    from sklearn.model_selection import train_test_split

    found: Any = load_digits()
    pixels, labels = (found.images / 16).astype(np.float32), found.target.astype(np.int32)

    def split(rows: np.ndarray, size: int) -> Any:
        return train_test_split(rows, test_size=size, stratify=labels[rows], random_state=0)

    train, test = split(np.arange(len(labels)), 360)
    train, valid = split(train, 144)
    return Digits("scikit-learn digits", *(Images(pixels[rows], labels[rows]) for rows in (train, valid, test)))


def _from_idx(name: str, files: dict[str, tuple[str, bytes]]) -> Digits:
    train_images, train_labels, test_images, test_labels = files.values()
    train, test = _images(train_images, train_labels), _images(test_images, test_labels)
    if train.pixels.shape[1:] != test.pixels.shape[1:]:
        raise ValueError(
            f"{train_images[0]} holds images of {_size(train.pixels)} pixels, {test_images[0]} of {_size(test.pixels)}; "
            f"expected one size: use files that belong together"
        )
    cut = len(train.labels) - len(train.labels) // 12
    if cut == len(train.labels):
        raise ValueError(
            f"{train_images[0]} holds {cut} images; expected at least 12, to hold a twelfth out for validation"
        )
    return Digits(name, Images(*(a[:cut] for a in train)), Images(*(a[cut:] for a in train)), test)


def _images(images: tuple[str, bytes], labels: tuple[str, bytes]) -> Images:
    """The images of one file and the labels of the other: (name, content) each."""
    pixels, classes = parse_idx(*images, axes=3), parse_idx(*labels, axes=1)
    if len(pixels) != len(classes):
        raise ValueError(
            f"{images[0]} holds {len(pixels)} images but {labels[0]} holds {len(classes)} labels; expected as many: "
            f"use files that belong together"
        )
    if not pixels.size:
        raise ValueError(f"{images[0]} holds {len(pixels)} images of {_size(pixels)} pixels; expected some of each")
    return Images((pixels / 255).astype(np.float32), classes.astype(np.int32))


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[1]} x {pixels.shape[2]}"


def parse_idx(name: str, content: bytes, *, axes: int) -> np.ndarray:
    """An IDX file's array of unsigned bytes with so many axes, uint8; `name` is for the errors.

    The format, big-endian: the bytes 0 0 8 and the number of axes, the length of each axis in four bytes, the values. 8 stands
    for unsigned bytes. ValueError where the content is anything else, or shorter or longer than it says.
    """
    magic = bytes([0, 0, 8, axes])
    if content[:4] != magic:
        raise ValueError(
            f"{name} begins with the bytes {content[:4].hex(' ') or 'of an empty file'}; expected {magic.hex(' ')}, an IDX file "
            f"of unsigned bytes with {axes} ax{'es' if axes > 1 else 'is'}: are images and labels exchanged?"
        )
    start = 4 + 4 * axes
    if len(content) < start:
        raise ValueError(f"{name} ends within its header, after {len(content)} of {start} bytes: fetch it again")
    shape = tuple(int(length) for length in np.frombuffer(content, ">u4", axes, 4))
    expected = start + int(np.prod(shape, dtype=object))
    if len(content) != expected:
        raise ValueError(
            f"{name} has {len(content)} bytes; expected {expected} for {' x '.join(map(str, shape))} values: it is "
            f"{'cut short' if len(content) < expected else 'followed by something else'}: fetch it again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _read_file(folder: Path, name: str) -> tuple[str, bytes]:
    """The path and the uncompressed content of `name`, or of `name`.gz, in `folder`."""
    if (path := folder / name).is_file():
        return str(path), path.read_bytes()
    if (path := folder / f"{name}.gz").is_file():
        return str(path), unpacked(path)
    raise FileNotFoundError(f"folder {folder} holds neither {name} nor {name}.gz; expected the four files of an MNIST")
