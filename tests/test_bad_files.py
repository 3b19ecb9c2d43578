"""A bad safetensors file is refused whole, by its name; any bytes are refused or a model."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import cast, key, random_params, same_bits
from hypothesis import given
from hypothesis import strategies as st

import jrnn
from jrnn import interop

safetensors = pytest.importorskip("safetensors")
from safetensors.numpy import load_file, save_file  # noqa: E402, after the question whether it is there

CELL = jrnn.GRU(3, 4)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("good") / "model.safetensors"
    interop.save(path, CELL, random_params(CELL))
    return path.read_bytes()


def split(data):
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def joined(header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def with_header(change):
    def made(good):
        header, data = split(good)
        change(header)
        return joined(header, data)

    return made


def configured(change):
    """A file whose configuration went through `change`: text -> text."""
    return with_header(lambda header: header["__metadata__"].update(jrnn=change(header["__metadata__"]["jrnn"])))


def replaced(old, new):
    def change(text):
        assert old in text
        return text.replace(old, new)

    return configured(change)


def renamed(old, new):
    return with_header(lambda header: header.update({new: header.pop(old)}))


def twice(good):
    """Safetensors itself takes the last of two entries of one name."""
    header, data = split(good)
    return joined(json.dumps(header).encode()[:-1] + b', "w_x": ' + json.dumps(header["w_x"]).encode() + b"}", data)


FILES = {
    "empty": (lambda good: b"", ["header too small"]),
    "truncated-header": (lambda good: good[:40], ["header"]),
    "truncated-data": (lambda good: good[:-1], ["not fully covered"]),
    "longer": (lambda good: good + b"0", ["not fully covered"]),
    "text": (lambda good: b"import os; os.remove('everything')", ["header"]),
    "pickle": (lambda good: b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00}\x94.", ["header"]),
    "header-too-large": (lambda good: (2**63).to_bytes(8, "little") + good[8:], ["header too large"]),
    "header-not-json": (lambda good: joined(b"{" * 100, b""), ["JSON"]),
    "header-deep": (lambda good: joined(b'{"a":' + b"[" * 100_000, b""), ["recursion limit"]),
    "shape-lies": (with_header(lambda h: h["w_x"].update(shape=[3, 13])), ["w_x|Invalid|invalid"]),
    "shape-overflows": (with_header(lambda h: h["w_x"].update(shape=[2**40, 2**40])), ["overflow"]),
    "shape-negative": (with_header(lambda h: h["w_x"].update(shape=[-3, -12])), ["JSON"]),
    "overlapping": (with_header(lambda h: h["w_x"].update(data_offsets=h["w_h"]["data_offsets"])), ["w_x|w_h|offset"]),
    "past-the-end": (with_header(lambda h: h["w_x"].update(data_offsets=[10**6, 10**6 + 144])), ["offset|covered"]),
    "twice": (twice, ["'w_x' twice"]),
    "path": (renamed("w_x", "../../etc/w_x"), ["lacks 'w_x'", "'../../etc/w_x' besides"]),
    "escape": (renamed("w_x", "\x1b[2Jw_x"), ["lacks 'w_x'", r"\\x1b\[2Jw_x"]),
    "shape": (with_header(lambda h: h["w_x"].update(shape=[12, 3])), ["w_x", r"\[12, 3\]", r"\[3, 12\]"]),
    "mixed-dtype": (with_header(lambda h: h["b"].update(dtype="BF16", shape=[24])), ["b has shape", r"\[24\]"]),
    "integers": (with_header(lambda h: h["b"].update(dtype="I32")), ["'b' has dtype I32", "F32"]),
    "no-configuration": (with_header(lambda h: h.pop("__metadata__")), ["no configuration", "interop.save"]),
    "other-configuration": (configured(lambda text: "[]"), ["configuration is", "version 1"]),
    "later-version": (replaced('"version": 1', '"version": 2'), ["version 1"]),
    "configuration-not-json": (configured(lambda text: text[:-2]), ["Expecting"]),
    "configuration-deep": (configured(lambda text: "[" * 100_000), ["recursion"]),
    "any-class": (replaced("GRU", "subprocess.Popen"), ["class 'subprocess.Popen'", "not one of jrnn's own"]),
    "abstract-class": (replaced("GRU", "Cell"), ["class 'Cell'"]),
    "no-class": (configured(lambda text: '{"version": 1, "model": {"GRU": [3, 4]}}'), ["one class"]),
    "two-classes": (configured(lambda text: '{"version": 1, "model": {"GRU": {}, "LSTM": {}}}'), ["one class"]),
    "not-a-model": (configured(lambda text: '{"version": 1, "model": {"Scan": {}}}'), ["init"]),
    "only-a-number": (configured(lambda text: '{"version": 1, "model": 3}'), ["init"]),
    "no-parameters": (
        configured(lambda text: '{"version": 1, "model": {"Dropout": {"rate": 0.5}}}'),
        ["no parameters"],
    ),
    "unknown-option": (replaced('"bias"', '"biases"'), ["GRU has no option 'biases'"]),
    "missing-option": (replaced('"hidden_size": 4, ', ""), ["hidden_size"]),
    "option-of-another-type": (
        replaced('"reset_after": true', '"reset_after": "yes"'),
        [r"model\.reset_after", "'yes'"],
    ),
    "size-as-text": (replaced('"hidden_size": 4', '"hidden_size": "4"'), [r"model\.hidden_size", "'4'"]),
    "size-negative": (replaced('"hidden_size": 4', '"hidden_size": -4'), ["hidden_size is -4"]),
    "size-huge": (replaced('"hidden_size": 4', '"hidden_size": 1000000000000'), ["1000000000000"]),
    "another-size": (replaced('"hidden_size": 4', '"hidden_size": 5'), ["w_x", r"\[3, 12\]", r"\[3, 15\]"]),
    "another-cell": (
        configured(lambda text: '{"version": 1, "model": {"Elman": {"input_size": 3, "hidden_size": 12}}}'),
        ["has 'b_n' besides", "Elman"],
    ),
    "without-bias": (replaced('"bias": true', '"bias": false'), ["'b', 'b_n' besides"]),
}


@pytest.mark.parametrize(("made", "words"), FILES.values(), ids=FILES)
def test_a_bad_file_is_refused_by_name(made, words, good, tmp_path):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(made(good))
    with pytest.raises(ValueError, match=r"(?s)bad\.safetensors cannot be loaded: .*" + ".*".join(words)):
        interop.load(path)


def test_one_tensor_of_another_dtype(tmp_path):
    path = tmp_path / "a"
    interop.save(path, CELL, random_params(CELL))
    with safetensors.safe_open(path, "np") as file:
        metadata = file.metadata()
    save_file(load_file(path) | {"b": np.zeros(12, np.float16)}, path, metadata)
    with pytest.raises(ValueError, match=r"w_x has dtype float32 but b has float16|b has dtype float16.*float32"):
        interop.load(path)


def test_float64_is_not_rounded(tmp_path):
    with jax.enable_x64(True):
        interop.save(tmp_path / "a", CELL, cast(random_params(CELL), jnp.float64))
    with pytest.raises(ValueError, match=r"float64.*jax_enable_x64"):
        interop.load(tmp_path / "a")


def check_refused_or_whole(path, data):
    """Either a ValueError with the file's name, or a model with parameters that fit it."""
    path.write_bytes(data)
    try:
        model, params = interop.load(path)
    except ValueError as error:
        if "fuzzed.safetensors cannot be loaded" not in str(error):
            raise
        return
    assert jax.tree.structure(params) == jax.tree.structure(jax.eval_shape(model.init, key(0)))
    interop.save(path, model, params, overwrite=True)
    again, back = interop.load(path)
    assert again == model
    same_bits(back, params)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "fuzzed.safetensors"


@given(st.binary(max_size=200))
def test_any_bytes(fuzzed, data):
    check_refused_or_whole(fuzzed, data)
    check_refused_or_whole(fuzzed, joined(data, data))


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=3), st.floats(0.5, 1))
def test_any_bytes_changed_and_any_end_cut_off(fuzzed, good, changes, kept):
    for limit in (len(good), len(good) - len(split(good)[1])):  # anywhere, or in the header alone
        data = bytearray(good)
        for place, byte in changes:
            data[int(place * (limit - 1))] = byte
        check_refused_or_whole(fuzzed, bytes(data))
    check_refused_or_whole(fuzzed, good[: int(kept * len(good))])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2**40) | st.floats() | st.sampled_from(["GRU", "tanh", "é", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["LSTM", "cell", "Dropout"]), inner),
    max_leaves=5,
)


@given(st.sampled_from(["input_size", "hidden_size", "reset_after", "bias", "cell"]), json_values)
def test_any_option(fuzzed, good, option, value):
    def change(text):
        stored = json.loads(text)
        stored["model"]["GRU"][option] = value
        return json.dumps(stored)

    check_refused_or_whole(fuzzed, configured(change)(good))


@given(json_values)
def test_any_model(fuzzed, good, value):
    check_refused_or_whole(fuzzed, configured(lambda text: json.dumps({"version": 1, "model": value}))(good))


@given(
    st.sampled_from(["w_x", "w_h", "b", "b_n", "__metadata__"]),
    st.sampled_from(["dtype", "shape", "data_offsets"]),
    json_values,
)
def test_any_header(fuzzed, good, name, part, value):
    check_refused_or_whole(fuzzed, with_header(lambda header: header[name].update({part: value}))(good))
    check_refused_or_whole(fuzzed, with_header(lambda header: header.update({name: value}))(good))
