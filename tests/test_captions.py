"""Captioned images: the names of digits against num2words, and every line that may be wrong."""

import collections
import gzip
import hashlib
import json
import zipfile

import numpy as np
import pytest
from data_sets import needs

pytest.importorskip("sklearn", reason="the experiments extra is not installed")
pytest.importorskip("PIL", reason="the experiments extra is not installed")

from PIL import Image
from test_pixels import encoded

from experiments.data import captions
from experiments.data.captions import LANGUAGES, NAMES, Caption, load, parse, words_of

pytestmark = pytest.mark.usefixtures("isolated")


# --- digits -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spelled():
    return load()


def test_digits_are_spelled_in_each_language(spelled):
    from experiments.data import digits

    known = digits.load()
    assert (spelled.languages, spelled.size, spelled.channels) == (LANGUAGES, (8, 8), 1)
    for part, images in zip(spelled[2:], known[1:], strict=True):
        np.testing.assert_array_equal(part.images, images.pixels[..., None])
        assert len(part.names) == len(images.labels)
        assert len(part.captions) == 6 * len(images.labels)
        for image, language, tokens in part.captions:
            assert "".join(tokens) == NAMES[LANGUAGES[language]].split()[images.labels[image]]
        assert collections.Counter((image, language) for image, language, _ in part.captions).most_common(1)[0][1] == 1
    assert [len(part.names) for part in spelled[2:]] == [1293, 144, 360]


@pytest.mark.parametrize("language", LANGUAGES)
def test_names_are_those_of_num2words(language):
    num2words = pytest.importorskip("num2words", reason="the translation extra is not installed").num2words
    assert NAMES[language].split() == [num2words(digit, lang=language) for digit in range(10)]


def test_languages_are_chosen():
    found = load(languages=["nl", "en"])
    assert found.languages == ("nl", "en")
    first = found.test.captions[:2]
    assert [(one.image, one.language) for one in first] == [(0, 0), (0, 1)]
    digit = NAMES["en"].split().index("".join(first[1].tokens))
    assert "".join(first[0].tokens) == NAMES["nl"].split()[digit]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": "coco"}, r"data is 'coco'; expected one of digits, flickr, or pass folder= and captions="),
        ({"languages": ["en", "xx"]}, r"languages holds 'xx'; expected some of en, de, fr, es, it, nl, each once"),
        ({"languages": ["en", "en"]}, r"languages is \('en', 'en'\); expected some of"),
        ({"languages": []}, r"languages is \(\); expected some of"),
        ({"folder": "a"}, r"folder is given without captions; expected both"),
        ({"captions": "a"}, r"captions is given without folder; expected both"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        load(**options)


# --- captions -----------------------------------------------------------------------------------------------------------


def test_words_are_in_lower_case_without_punctuation():
    assert words_of('A man\'s T-shirt , "red" (or Blue) ... Größe 5!') == [
        "a",
        "man's",
        "t-shirt",
        "red",
        "or",
        "blue",
        "größe",
        "5",
    ]


def test_two_ways_to_write_captions():
    lines = "a.jpg\tA dog\n\na.jpg#1\tTwo\tdogs \r\nb c.jpg\tNothing"
    expected = [("a.jpg", "A dog"), ("a.jpg", "Two\tdogs "), ("b c.jpg", "Nothing")]
    found = parse(("\ufeff" + lines).encode(), "file")
    assert [(one.image, one.text) for one in found] == expected
    assert [one.where for one in found] == ["file:1", "file:3", "file:4"]
    for indent, ascii_ in ((None, True), (1, False)):
        written = json.dumps({"é.jpg": ["Ein Bär", "a"], "b.jpg": "Zwei"}, indent=indent, ensure_ascii=ascii_)
        found = parse(written.encode(), "mine.json")
        assert [(one.image, one.text) for one in found] == [("é.jpg", "Ein Bär"), ("é.jpg", "a"), ("b.jpg", "Zwei")]
        places = [1, 1, 1] if indent is None else [3, 4, 6]
        assert [one.where for one in found] == [f"mine.json:{place}" for place in places]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("file", "", r"^file has no captions; expected one for each image at least"),
        ("file", "a.jpg\tA dog\na.jpg A dog\n", r"^file:2: no tab in 'a\.jpg A dog'; expected an image's name, a tab"),
        ("file", "a.jpg\tA dog\n\tA dog\n", r"^file:2: no name before the tab"),
        ("file", "a.jpg\tA dog\n\nb.jpg\t \n", r"^file:3: the caption of b\.jpg is empty; expected a sentence"),
        ("file", "a.jpg\t...\n", r"^file:1: the caption of a\.jpg is '\.\.\.', which has no word"),
        ("file", b"a.jpg\tA dog\nb.jpg\tcaf\xe9\n", r"^file:2: byte 0xe9 is not UTF-8 .*--encoding.*convert the file"),
        ("a.json", "", r'^a\.json:1: Expecting value; expected \{"image": \["caption", \.\.\.\], \.\.\.\}'),
        ("a.json", '{"a": ["x"],\n "b": [}', r"^a\.json:2: Expecting value; expected"),
        ("a.json.gz", "{}", r"^a\.json\.gz has no captions"),
        ("a.json", '[{"image": "a"}]', r"^a\.json: a list on top; expected"),
        ("a.json", "5", r"^a\.json: a int on top; expected"),
        ("a.json", '{"a": ["x"],\n\n"b": 5}', r"^a\.json:3: the captions of b are 5; expected"),
        ("a.json", '{"a": ["x"],\n"b": []}', r"^a\.json:2: the captions of b are \[\]; expected"),
        ("a.json", '{"a": ["x"],\n"b": {"c": "d"}}', r"^a\.json:2: the captions of b are .*; expected"),
        ("a.json", '{"a": ["x",\n"y", 1]}', r'^a\.json:1: the captions of a are \["x", "y", 1\]; expected'),
        ("a.json", '{"a": ["a",\n""]}', r"^a\.json:2: the caption of a is empty"),
    ],
)
def test_a_bad_line_is_named(name, content, message):
    with pytest.raises(ValueError, match=message):
        parse(content if isinstance(content, bytes) else content.encode(), name)


# --- images of one's own ------------------------------------------------------------------------------------------------


@pytest.fixture
def mine(tmp_path):
    """A folder of 21 images of all sorts, one of them without a caption, and a file of two captions each."""
    folder = tmp_path / "mine"
    (folder / "inner").mkdir(parents=True)
    for number in range(20):
        mode = ("RGB", "L", "RGBA", "P")[number % 4]
        image = Image.new("L", (3 + number, 24 - number), 10 * number).convert(mode)
        (folder / f"inner/{number}.png").write_bytes(encoded(image))
    (folder / "other.png").write_bytes(b"no image")
    lines = [f"inner/{number}.png#{i}\tNumber {number}, {i} .\n" for number in range(20) for i in range(2)]
    (tmp_path / "captions.txt").write_text("".join(lines))
    return folder, tmp_path / "captions.txt"


def test_images_of_ones_own(mine):
    folder, file = mine
    found = load(folder=folder, captions=file, size=(4, 6))
    assert (found.name, found.size, found.channels, len(found.languages)) == ("mine, captions.txt", (4, 6), 3, 1)
    assert [len(part.names) for part in found[2:]] == [16, 2, 2]
    assert {name for part in found[2:] for name in part.names} == {f"inner/{number}.png" for number in range(20)}
    for part in found[2:]:
        numbers = [int(name[6:-4]) for name in part.names]
        np.testing.assert_allclose(255 * part.images[:, 2, 3, 1], np.multiply(10, numbers), atol=1)
        expected = [Caption(place, 0, f"number {n} {i}".split()) for place, n in enumerate(numbers) for i in range(2)]
        assert part.captions == expected
    grey = load(folder=folder, captions=file, size=(4, 6), channels=1)
    assert grey.train.images.shape == (16, 4, 6, 1)
    assert grey.train.names == found.train.names
    assert load(folder=folder, captions=file, size=(4, 6), seed=1).test.names != found.test.names


def test_json_and_gzip(mine):
    folder, file = mine
    about = {f"inner/{number}.png": ["A", "B"] for number in range(3)}
    packed = file.with_name("captions.json.gz")
    packed.write_bytes(gzip.compress(json.dumps(about).encode()))
    found = load(folder=folder, captions=packed, size=(2, 2))
    assert [len(part.captions) for part in found[2:]] == [2, 2, 2]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nowhere.png\tA dog", r"captions\.txt:3: no image nowhere\.png in .*mine; expected a file there"),
        ("inner\tA dog", r"captions\.txt:3: no image inner in .*mine"),
        ("other.png\tA dog", r"image .*mine/other\.png cannot be read \(it is none that Pillow knows\)"),
        ("inner/2.png\t", r"captions\.txt:3: the caption of inner/2\.png is empty"),
        ("inner/1.png\tA dog", r"mine, captions.txt has 2 images with captions; expected at least 3"),
    ],
)
def test_what_is_wrong_with_images_of_ones_own(mine, line, message):
    folder, file = mine
    file.write_text(f"inner/0.png\tA dog\ninner/1.png\tA dog\n{line}\n")
    with pytest.raises(ValueError, match=message):
        load(folder=folder, captions=file)


def test_folders_and_files_that_are_not_there(mine):
    folder, file = mine
    with pytest.raises(FileNotFoundError, match=r"captions\.txt is no folder; expected one with images"):
        load(folder=file, captions=file)
    with pytest.raises(FileNotFoundError, match=r"captions .*mine is a folder; expected a file of captions"):
        load(folder=folder, captions=folder)
    with pytest.raises(FileNotFoundError, match=r"captions .*nowhere does not exist; expected a file of captions"):
        load(folder=folder, captions=folder / "nowhere")


# --- Flickr8k -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", ["", ".gz"])
def test_flickr8k_is_read_from_a_data_folder_and_checked(tmp_path, monkeypatch, packed):
    folder = tmp_path / "flickr8k_1000"
    folder.mkdir()
    found = [{"image": f"{number}.jpg", "captions": [f"Image {number} ."] * 5} for number in range(20)]
    content = json.dumps(found).encode()
    (folder / f"captions.json{packed}").write_bytes(gzip.compress(content) if packed else content)
    with zipfile.ZipFile(folder / "images112.zip", "w") as images:
        for number in range(20):
            images.writestr(f"{number}.jpg", encoded(Image.new("RGB", (112, 112), (10 * number,) * 3), "jpeg"))
    with pytest.raises(ValueError, match=rf"captions\.json{packed} is not the expected file: the SHA-256"):
        load("flickr", data_dir=tmp_path)
    known = {"captions.json": content, "images112.zip": (folder / "images112.zip").read_bytes()}
    for name, expected in known.items():
        file = captions._FLICKR[name]._replace(sha256=hashlib.sha256(expected).hexdigest())
        monkeypatch.setitem(captions._FLICKR, name, file)
    monkeypatch.setenv("JRNN_DATA", str(tmp_path))
    loaded = load("flickr")
    assert [part.images.shape for part in loaded[2:]] == [(count, 112, 112, 3) for count in (16, 2, 2)]
    for part in loaded[2:]:
        numbers = [int(name[:-4]) for name in part.names]
        np.testing.assert_allclose(255 * part.images.mean((1, 2, 3)), np.multiply(10, numbers), atol=1)
        assert [one.tokens for one in part.captions] == [["image", str(n)] for n in numbers for _ in range(5)]


def test_flickr8k_is_not_downloaded(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"captions\.json was not found \(no data folder given\).*--data-dir"):
        load("flickr")
    with pytest.raises(FileNotFoundError, match=r"captions\.json was not found \(.*\).* may not be passed on"):
        load("flickr", data_dir=tmp_path)


def test_published_sizes(data_dir):
    needs(data_dir, "flickr8k_1000")
    found = load("flickr", data_dir=data_dir)
    assert [part.images.shape for part in found[2:]] == [(count, 112, 112, 3) for count in (800, 100, 100)]
    assert len({name for part in found[2:] for name in part.names}) == 1000
    for part in found[2:]:
        assert part.images.dtype == np.float32
        assert (part.images.min(), part.images.max()) == (0, 1)
        counts = collections.Counter(one.image for one in part.captions)
        assert counts == dict.fromkeys(range(len(part.names)), 5)
    every = {(part.names[one.image], " ".join(one.tokens)) for part in found[2:] for one in part.captions}
    assert ("1000268201_693b08cb0e.jpg", "a little girl climbing the stairs to her playhouse") in every
