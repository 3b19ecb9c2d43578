"""Image files of any size and mode as arrays of one size."""

import struct
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

_DEEP = ("I", "F")  # modes without a white of their own


def read_image(path: Path, size: tuple[int, int], channels: int = 3) -> np.ndarray:
    """An image file as float32 [height, width, channels] from 0 to 1, of `size` (height, width), as a model saw those it learned.

    The largest part in the middle that has the shape of `size` is cut out and resampled (bicubic, smoothed where it shrinks); an
    image that has the size stays as it is. Turned upright as a camera says; the first of several frames; what is transparent is
    laid on white. `channels` is 3 for colours, 1 for shades of grey. 16 bits of grey go from 0 to 65,535; integers of 32 bits and
    floats, which have no such range, from the darkest to the lightest of the image.

    FileNotFoundError and ValueError name the file, what is wrong with it, what was expected and what to do.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"image {path} {found}; expected an image file: pass the path of one")
    return decode_image(path.read_bytes(), str(path), size, channels)


def decode_image(content: bytes, name: str, size: tuple[int, int], channels: int = 3) -> np.ndarray:
    """The same of the content of a file, which errors call `name`."""
    if min(size) < 1 or channels not in (1, 3):
        raise ValueError(f"size is {size} and channels {channels}; expected (height, width) of at least 1, and 1 or 3")
    try:
        with Image.open(BytesIO(content)) as opened:
            image = ImageOps.exif_transpose(opened)
            return _pixels(image, size, channels)
    # Which error a damaged file gives depends on its format.
    except (
        OSError,
        SyntaxError,
        ValueError,
        TypeError,
        LookupError,
        struct.error,
        Image.DecompressionBombError,
    ) as error:
        unknown = "it is none that Pillow knows" if content else "the file is empty"
        why = unknown if isinstance(error, UnidentifiedImageError) else str(error) or type(error).__name__
        raise ValueError(
            f"image {name} cannot be read ({why}); expected a whole JPEG, PNG or another format of Pillow's: replace it"
        ) from error


def _pixels(image: Any, size: tuple[int, int], channels: int) -> np.ndarray:
    if image.mode.startswith(_DEEP):
        image = _shallow(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB" if channels == 3 else "L")
    pixels = np.asarray(ImageOps.fit(image, (size[1], size[0]), Image.Resampling.BICUBIC), np.float32) / 255
    return pixels.reshape(*size, channels)


def _shallow(image: Any) -> Any:
    """Grey of more than 8 bits, in 8."""
    values = np.asarray(image, np.float64)
    values = np.where(np.isfinite(values), values, 0)
    low, high = (0, 65_535) if image.mode.startswith("I;16") else (values.min(), values.max())
    return Image.fromarray((255 * (values - low) / max(high - low, 1e-30)).round().astype(np.uint8))
