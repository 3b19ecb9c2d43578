"""Pictures of every form and mode as arrays, and every file that is none."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("PIL", reason="the experiments extra is not installed")
pytest.importorskip("pooch", reason="the experiments extra is not installed")

from PIL import Image

from experiments.data.pixels import decode_image, read_image

pytestmark = pytest.mark.usefixtures("isolated")

RED, BLUE = (200, 0, 0), (0, 0, 200)


def encoded(image, form="png", **options):
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def half_and_half(size=(8, 4)):
    """Red on the left, blue on the right; `size` is Pillow's, (width, height)."""
    image = Image.new("RGB", size, RED)
    image.paste(BLUE, (size[0] // 2, 0, *size))
    return image


def pixel(content, channels=3):
    """The value of an image of one colour, from 0 to 255."""
    found = decode_image(content, "file", (2, 2), channels)
    assert found.dtype == np.float32
    assert found.shape == (2, 2, channels)
    assert (found == found[0, 0]).all()
    return (255 * found[0, 0]).round().astype(int).tolist()


@pytest.mark.parametrize("form", ["png", "bmp", "gif", "tiff", "webp"])
def test_an_image_of_the_size_stays_as_it_is(tmp_path, form):
    values = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    image = Image.fromarray(values)
    options = {"webp": {"lossless": True}}.get(form, {})
    if form == "gif":
        image = image.convert("P", palette=Image.Palette.ADAPTIVE)
        values = np.asarray(image.convert("RGB"))
    path = tmp_path / f"image.{form}"
    path.write_bytes(encoded(image, form, **options))
    found = read_image(path, (5, 7))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, values / np.float32(255))


@pytest.mark.parametrize(
    ("mode", "colour", "form", "expected"),
    [
        ("RGB", RED, "png", [200, 0, 0]),
        ("L", 90, "png", [90] * 3),
        ("1", 1, "png", [255] * 3),
        ("LA", (90, 255), "png", [90] * 3),
        ("LA", (0, 0), "png", [255] * 3),
        ("RGBA", (0, 0, 200, 255), "png", [0, 0, 200]),
        ("RGBA", (0, 0, 200, 0), "png", [255] * 3),
        ("CMYK", (0, 0, 0, 255), "tiff", [0] * 3),
        ("CMYK", (255, 0, 0, 0), "tiff", [0, 255, 255]),
        ("YCbCr", (76, 85, 255), "tiff", [254, 0, 0]),
        ("I;16", 65_535, "png", [255] * 3),
        ("I;16", 257 * 90, "png", [90] * 3),
        ("F", 0.5, "tiff", [0] * 3),
        ("I", 7, "tiff", [0] * 3),
    ],
)
def test_modes(mode, colour, form, expected):
    found = pixel(encoded(Image.new(mode, (6, 5), colour), form))
    assert np.abs(np.subtract(found, expected)).max() <= 1


def test_half_transparent_is_laid_on_white():
    found = pixel(encoded(Image.new("RGBA", (3, 3), (0, 0, 0, 51))))
    assert found == [204] * 3  # 4/5 of white


def test_palettes_with_and_without_a_transparent_colour():
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, *BLUE, *RED])
    assert pixel(encoded(image)) == [*BLUE]
    assert pixel(encoded(image, transparency=2)) == [*BLUE]
    assert pixel(encoded(image, transparency=1)) == [255] * 3


def test_deep_greys_without_a_range_of_their_own_go_from_darkest_to_lightest():
    image = Image.fromarray(np.array([[-1, 0], [1, np.nan]], np.float32))
    found = decode_image(encoded(image, "tiff"), "file", (2, 2), 1)[..., 0]
    np.testing.assert_allclose(found, [[0, 0.5], [1, 0.5]], atol=1 / 255)


def test_shades_of_grey():
    assert pixel(encoded(Image.new("RGB", (3, 3), (255, 255, 255))), 1) == [255]
    assert pixel(encoded(Image.new("RGB", (3, 3), RED)), 1) == [60]  # 0.299 of 200, ITU-R 601


def test_the_middle_is_cut_out():
    wide = Image.new("RGB", (80, 10), BLUE)
    wide.paste(RED, (25, 0, 55, 10))  # wider than what is cut out, as resampling reaches a little beyond
    tall = wide.transpose(Image.Transpose.ROTATE_90)
    for image in (wide, tall):
        assert pixel(encoded(image)) == [*RED]
    found = decode_image(encoded(half_and_half((80, 40))), "file", (4, 8))
    np.testing.assert_allclose(
        255 * found[:, [0, 1, 6, 7]].transpose(1, 0, 2), np.repeat([[RED], [RED], [BLUE], [BLUE]], 4, 1)
    )


def test_an_image_is_turned_as_the_camera_says():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    found = 255 * decode_image(encoded(half_and_half(), "png", exif=exif), "file", (8, 4))
    np.testing.assert_allclose(found[[0, 3, 4, 7]], np.repeat([[RED], [RED], [BLUE], [BLUE]], 4, 1))


def test_the_first_of_several_frames():
    frames = [Image.new("L", (4, 4), value) for value in (10, 200)]
    assert pixel(encoded(frames[0], "gif", save_all=True, append_images=frames[1:])) == [10] * 3


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1)])
def test_images_of_extreme_shapes(size):
    assert pixel(encoded(Image.new("RGB", size, RED))) == [*RED]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"image file cannot be read \(the file is empty\); expected a whole JPEG, PNG or .*: replace it"),
        (b"<html>", r"image file cannot be read \(it is none that Pillow knows\)"),
        (encoded(half_and_half())[:-30], r"image file cannot be read"),
        (encoded(half_and_half((80, 80)), "jpeg")[:-30], r"image file cannot be read \(image file is truncated"),
    ],
)
def test_what_is_no_image(content, message):
    with pytest.raises(ValueError, match=message):
        decode_image(content, "file", (2, 2))


@given(
    form=st.sampled_from(["png", "jpeg", "gif", "bmp", "tiff", "webp", "ppm"]),
    place=st.floats(0, 1),
    byte=st.integers(0, 255),
)
@pytest.mark.filterwarnings("ignore")
def test_a_damaged_image_is_read_or_named(form, place, byte):
    content = bytearray(encoded(half_and_half(), form))
    content[int(place * (len(content) - 1))] = byte
    for damaged in (bytes(content), bytes(content[: int(place * len(content))])):
        with contextlib.suppress(ValueError):  # any other error fails
            assert decode_image(damaged, "file", (2, 2)).shape == (2, 2, 3)


@pytest.mark.parametrize(("size", "channels"), [((0, 2), 3), ((2, 2), 2)])
def test_sizes_that_are_none(size, channels):
    with pytest.raises(
        ValueError, match=r"size is .* and channels .; expected \(height, width\) of at least 1, and 1 or 3"
    ):
        decode_image(encoded(half_and_half()), "file", size, channels)


def test_an_image_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.png does not exist; expected an image file"):
        read_image(tmp_path / "nowhere.png", (2, 2))
    with pytest.raises(FileNotFoundError, match=r"is a folder; expected an image file"):
        read_image(tmp_path, (2, 2))
