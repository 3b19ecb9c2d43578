"""The wheel: what is in it, what it says of itself, and what a user's type checker sees of it."""

import json
import pathlib
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser

import pytest

import jrnn

ROOT = pathlib.Path(jrnn.__file__).parents[1]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="not a checkout")]

USER = """
import jax
import jrnn
from jrnn import decode, interop, losses, models, train

cell = jrnn.LSTM(5, 10, forget_bias=0.5)
params = cell.init(jax.random.key(0))
reveal_type(params)
reveal_type(params.w_h)
reveal_type(cell.initial_state(params, (3,)))
state, ys = jrnn.unroll(cell, params, jax.numpy.ones((7, 3, 5)), reverse=True)
reveal_type(ys)
layer = jrnn.rnn(jrnn.GRU, input_size=5, hidden_size=10, num_layers=2, bidirectional=True, engine=jrnn.Scan(unroll=4))
reveal_type(layer)
reveal_type(losses.cross_entropy(ys, ys[..., 0], None))
reveal_type(interop.torch.to_state_dict(layer, layer.init(jax.random.key(0))))
"""
SEEN = ["LSTMParams", "Array", "LSTMState", "Array", "Layer", "Mean"]
WRONG = {
    "jrnn.LSTM(5)": "hidden_size",
    "jrnn.LSTM(5, '10')": "hidden_size",
    "jrnn.GRU(5, 10, reset_afterwards=True)": "reset_afterwards",
    "jrnn.unroll(cell, params)": "xs",
    "jrnn.unroll(cell, params, xs, length=3)": "length",
    "jrnn.unroll(cell, params, xs, engine='scan')": "engine",
    "cell.step(params, params, xs)": "LSTMState",
    "jrnn.nothing": "nothing",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, so that nothing is left in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("jrnn", "experiments"):
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source" / name)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(folder / "source")]
    made = subprocess.run(command, capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no wheel can be built here: {made.stderr.strip().splitlines()[-1]}")
    return next(folder.glob("*.whl"))


def test_it_holds_the_library_and_its_types_alone(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    files = {name for name in names if not name.split("/")[0].endswith(".dist-info")}
    assert files == {
        path.relative_to(ROOT).as_posix() for path in (ROOT / "jrnn").rglob("*") if path.suffix in (".py", ".typed")
    }
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_it_says_what_it_is(wheel):
    archive = zipfile.ZipFile(wheel)
    text = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    about = Parser().parsestr(archive.read(text).decode())
    assert (about["Name"], about["Version"]) == ("jrnn", jrnn.__version__)
    assert about["License-Expression"] == "Apache-2.0"
    assert about["Author"] == "the jrnn authors"
    assert about["Requires-Python"] == ">=3.11"
    assert about["Description-Content-Type"] == "text/markdown"
    assert {"Python :: 3.11", "Python :: 3.13"} <= {
        line.removeprefix("Programming Language :: ") for line in about.get_all("Classifier") or []
    }


def checked(wheel, folder, text):
    """What pyright says of a user's file, beside which nothing of the checkout is seen."""
    pyright = shutil.which("pyright")
    if pyright is None:
        pytest.skip("no pyright: pip install 'jrnn[dev]'")
    site = folder / "site"
    zipfile.ZipFile(wheel).extractall(site)
    (folder / "user.py").write_text(text)
    settings = {"extraPaths": ["site"], "include": ["user.py"], "typeCheckingMode": "standard"}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [pyright, "--outputjson", "--pythonpath", sys.executable, "-p", str(folder)]
    found = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    return json.loads(found.stdout)["generalDiagnostics"]


def test_a_type_checker_sees_what_a_user_calls(wheel, tmp_path):
    messages = checked(wheel, tmp_path, USER)
    assert [m["message"] for m in messages if m["severity"] == "error"] == []
    seen = [m["message"].split(' is "', 1)[1].rstrip('"') for m in messages if m["severity"] == "information"]
    assert seen[:-1] == SEEN
    assert seen[-1].startswith("dict[str, ")


def test_a_type_checker_sees_mistakes(wheel, tmp_path):
    start = "import jax\nimport jrnn\ncell = jrnn.LSTM(5, 10)\nparams = cell.init(jax.random.key(0))\nxs = jax.numpy.ones((7, 5))\n"
    messages = checked(wheel, tmp_path, start + "\n".join(WRONG) + "\n")
    errors = {m["range"]["start"]["line"]: m["message"] for m in messages if m["severity"] == "error"}
    for number, (line, name) in enumerate(WRONG.items(), start.count("\n")):
        assert name in errors.get(number, ""), line
