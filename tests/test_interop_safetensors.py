"""Models in safetensors files: what comes back is what went."""

import dataclasses
import json
import subprocess
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_encoder_decoder
from cases import ALL, cast, key, random_params, same_bits

import jrnn
from jrnn import interop
from jrnn.models import Classifier, LanguageModel, Tagger, bio_scheme

safetensors = pytest.importorskip("safetensors")
from safetensors.numpy import load_file  # noqa: E402, after the question whether it is there

STACK = jrnn.rnn(jrnn.LSTM, input_size=3, hidden_size=4, num_layers=2, bidirectional=True, dropout=0.3)
CELL = jrnn.GRU(3, 4)


@pytest.mark.parametrize("model", ALL.values(), ids=ALL)
def test_every_cell_and_layer_comes_back(model, tmp_path):
    params = random_params(model)
    interop.save(tmp_path / "model.safetensors", model, params)
    again, back = interop.load(tmp_path / "model.safetensors")
    assert again == model
    assert type(again) is type(model)
    same_bits(back, params)


WORDS = jrnn.WordsAndCharacters(
    jrnn.Embedding(9, 2, frozen=True), jrnn.Layered((jrnn.OneHot(5), jrnn.Recurrent(jrnn.GRU(5, 1))))
)
READER = jrnn.Layered((WORDS, jrnn.Recurrent(jrnn.LSTM(3, 4))))
MODELS = {
    "last": Classifier(STACK, 2),
    "attention": Classifier(READER, 2, pooling=jrnn.pooling.Attention(3)),
    "max": Classifier(STACK, 2, pooling=jrnn.pooling.Max()),
    "tagger": Tagger(READER, 3),
    "crf": Tagger(READER, 3, crf=True),
    "allowed": Tagger(READER, 3, crf=True, allowed=bio_scheme(["O", "B-a", "I-a"])),
    "language-model": LanguageModel(7, STACK),
    "tied": LanguageModel(7, jrnn.Recurrent(jrnn.GRU(3, 3)), tied=True),
    **{f"translator: {name}": model for name, model in test_encoder_decoder.MODELS.items()},
    **{f"captioner: {name}": model for name, model in test_encoder_decoder.CAPTIONERS.items()},
}


@pytest.mark.parametrize("name", MODELS)
def test_models_come_back(name, tmp_path):
    params = random_params(MODELS[name])
    interop.save(tmp_path / "model.safetensors", MODELS[name], params)
    again, back = interop.load(tmp_path / "model.safetensors")
    assert again == MODELS[name]
    same_bits(back, params)


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float16, jnp.bfloat16], ids=lambda d: d.__name__)
def test_every_floating_dtype_comes_back(dtype, tmp_path):
    with jax.enable_x64(dtype == jnp.float64):
        params = cast(random_params(STACK), dtype)
        params = jax.tree.map(lambda a: a.at[0].set(-0.0).at[1].set(jnp.nan), params)
        interop.save(tmp_path / "a", STACK, params)
        same_bits(interop.load(tmp_path / "a")[1], params)


def test_names_and_configuration_are_plain_to_read(tmp_path):
    path = tmp_path / "model.safetensors"
    interop.save(path, STACK, random_params(STACK))
    assert {*load_file(path)} == {
        f"layers.{i}.{way}.{name}" for i in (0, 1) for way in ("forward", "backward") for name in ("w_x", "w_h", "b")
    }
    with safetensors.safe_open(path, "np") as file:
        stored = json.loads(file.metadata()["jrnn"])
    assert stored["version"] == 1
    assert stored["model"]["Layered"]["layers"][0]["Bidirectional"]["forward"]["Recurrent"]["cell"] == {
        "LSTM": {
            "input_size": 3,
            "hidden_size": 4,
            "activation": "tanh",
            "gate_activation": "sigmoid",
            "cell_activation": None,
            "forget_bias": 1.0,
            "bias": True,
        }
    }


def test_a_language_model(tmp_path):
    model = LanguageModel(vocabulary_size=5, layer=jrnn.rnn(jrnn.GRU, input_size=3, hidden_size=4))
    params = model.init(key(0))
    interop.save(tmp_path / "a", model, params)
    assert "layer.layers.0.w_h" in load_file(tmp_path / "a")
    again, back = interop.load(tmp_path / "a")
    assert again == model
    same_bits(back, params)


class OwnParams(NamedTuple):
    w: jax.Array  # [input, hidden]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Own(jrnn.Cell[OwnParams, tuple[jax.Array]]):
    """A user's cell: a leaky sum."""

    input_size: int
    hidden_size: int
    leak: float = 0.5
    note: Any = None  # what a file may hold here is not known

    @property
    def output_size(self):
        return self.hidden_size

    def init(self, key):
        return OwnParams(jax.random.normal(key, (self.input_size, self.hidden_size)))

    def initial_state(self, params, batch=(), key=None):
        return (jnp.zeros((*batch, self.hidden_size), params.w.dtype),)

    def project(self, params, x):
        return x @ params.w

    def recur(self, params, state):
        return self.leak * state[0]

    def update(self, params, state, z, r):
        return (z + r,)

    def readout(self, params, state, x):
        return state[0]


def test_a_cell_of_ones_own_is_passed_to_load(tmp_path):
    layer = jrnn.Layered((jrnn.Recurrent(Own(3, 4, leak=0.25, note=("of", 2))),))
    params = layer.init(key(0))
    interop.save(tmp_path / "a", layer, params)
    with pytest.raises(ValueError, match=r"cell is of class 'Own'.*known="):
        interop.load(tmp_path / "a")
    again, back = interop.load(tmp_path / "a", known=(Own,))
    assert again == layer
    same_bits(back, params)


def test_a_class_of_ones_own_may_not_take_the_name_of_another(tmp_path):
    @jax.tree_util.register_static
    @dataclasses.dataclass(frozen=True)
    class LSTM(Own):
        pass

    model = LSTM(3, 4)
    with pytest.raises(TypeError, match="same name as one of jrnn's own"):
        interop.save(tmp_path / "a", model, model.init(key(0)))
    interop.save(tmp_path / "a", CELL, random_params(CELL))
    with pytest.raises(ValueError, match="same name as one of jrnn's own"):
        interop.load(tmp_path / "a", known=(LSTM,))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (jrnn.Elman(3, 4, activation=jnp.tanh), [r"model\.activation is the function", "'relu'"]),
        (jrnn.Recurrent(jrnn.LSTM(3, 4, gate_activation=jnp.sin)), [r"model\.cell\.gate_activation is the function"]),
    ],
)
def test_functions_cannot_be_saved(model, words, tmp_path):
    with pytest.raises(TypeError, match=".*".join(words)):
        interop.save(tmp_path / "a", model, model.init(key(0)))
    assert not any(tmp_path.iterdir())


def test_a_model_without_parameters_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match="no parameters"):
        interop.save(tmp_path / "a", jrnn.Dropout(0.5), ())
    assert not any(tmp_path.iterdir())


def test_sizes_from_numpy_are_numbers(tmp_path):
    model = jrnn.Elman(np.int64(3), np.int32(4))
    interop.save(tmp_path / "a", model, model.init(key(0)))
    assert interop.load(tmp_path / "a")[0] == model


# Files


def test_nothing_is_overwritten_unless_told(tmp_path):
    path = tmp_path / "a"
    interop.save(path, CELL, random_params(CELL, 1))
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match=r"exists.*overwrite=True"):
        interop.save(path, CELL, random_params(CELL, 2))
    assert path.read_bytes() == before
    interop.save(path, CELL, random_params(CELL, 2), overwrite=True)
    same_bits(interop.load(path)[1], random_params(CELL, 2))
    assert [*tmp_path.iterdir()] == [path]


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a"
    interop.save(path, CELL, random_params(CELL, 1))
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jrnn.interop.weights.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        interop.save(path, CELL, random_params(CELL, 2), overwrite=True)
    assert path.read_bytes() == before
    assert [*tmp_path.iterdir()] == [path]


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing-here"):
        interop.load(tmp_path / "nothing-here")
    with pytest.raises(FileNotFoundError):
        interop.save(tmp_path / "no-folder" / "a", CELL, random_params(CELL))


def test_params_of_another_model_are_not_written(tmp_path):
    with pytest.raises(TypeError, match=r"GRUParams.*LSTM"):
        interop.save(tmp_path / "a", jrnn.LSTM(3, 4), random_params(CELL))
    assert not any(tmp_path.iterdir())


def test_importing_needs_no_other_library():
    code = "import sys, jrnn.interop; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "jrnn" in found.stdout.split()
    assert not {*found.stdout.split()} & {"torch", "flax", "keras", "haiku", "equinox", "onnx", "safetensors"}
