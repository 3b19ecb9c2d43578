"""The README's example runs as it stands, its links lead somewhere, and each line of the table of other libraries runs."""

import re
import warnings
from pathlib import Path

import jax
import pytest

import jrnn
from jrnn import interop

README = Path(__file__).parents[1] / "README.md"
TABLE = README.parent / "docs" / "coming_from" / "index.md"
ROWS = re.findall(r"^\| ([\w ]+) \| `(.*)` \| `(params = .*)` \|$", TABLE.read_text(encoding="utf-8"), re.MULTILINE)
CELLS = [n for n, v in vars(jrnn).items() if isinstance(v, type) and issubclass(v, jrnn.Cell) and v is not jrnn.Cell]
LIBRARIES = {"torch": "torch", "linen": "flax.linen", "nnx": "flax.nnx", "keras": "keras", "equinox": "equinox"}


def test_examples_run():
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    names = {"__name__": "readme"}
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        for block in blocks:
            exec(compile(block, str(README), "exec"), names)
    assert names["layer"].output_size == 20
    assert names["ys"].shape == (7, 3, 10)
    assert not names["ys"][4:, 1].any()
    assert not names["ys"][:, 2].any()


@pytest.mark.parametrize("words", ["python -m experiments.char_lm", "python -m pytest"])
def test_one_command_to_run_and_one_to_test(words):
    commands = re.findall(r"```sh\n(.*?)\n```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert sum(words in command and command.startswith("pip install") for command in commands) == 1


def test_links_lead_somewhere():
    links = re.findall(r"\]\((?!https:)([^)#]+)\)", README.read_text(encoding="utf-8"))
    assert len(links) > 15
    assert [link for link in links if not (README.parent / link).is_file()] == []


@pytest.mark.parametrize("name", CELLS)
def test_every_cell_is_in_a_table(name):
    assert re.search(rf"^\| `{name}[`(]", README.read_text(encoding="utf-8"), re.MULTILINE)


def test_the_table_has_every_library():
    assert [name for name, *_ in ROWS] == ["PyTorch", "Flax linen", "Flax nnx", "Keras", "Haiku", "Equinox"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_what_others_trained_is_read(row):
    layer = jrnn.rnn(jrnn.LSTM, input_size=5, hidden_size=10, num_layers=2, bidirectional=True)
    names = {"jax": jax, "jnp": jax.numpy, "interop": interop, "layer": layer, "cell": jrnn.LSTM(5, 10)}
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)  # Keras with NumPy 2
        names |= {name: pytest.importorskip(at) for name, at in LIBRARIES.items() if f"{name}." in row[1]}
        for line in row[1:]:
            exec(line, names)
    owner = names["layer"] if row[0] == "PyTorch" else names["cell"]
    assert jax.tree.structure(names["params"]) == jax.tree.structure(owner.init(jax.random.key(0)))
