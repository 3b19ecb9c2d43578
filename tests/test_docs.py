"""The site: every public name on a page, docstrings as the pages have them, every page reached, what is recorded."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

import jrnn

ROOT = Path(jrnn.__file__).parents[1]
DOCS = ROOT / "docs"
pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="no docs beside the package")


def load(name):
    """A part of the site's extension, without Sphinx, which only some of them need."""
    where = DOCS / "_ext" / "house" / f"{name}.py"
    package = sys.modules.setdefault("house_parts", type(sys)("house_parts"))
    package.__path__ = [str(where.parent)]
    spec = importlib.util.spec_from_file_location(f"house_parts.{name}", where)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


docstrings = load("docstrings")
names = load("names")
api = load("api")


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    pytest.importorskip("onnx", reason="jrnn.interop.onnx needs onnx: pip install 'jrnn[interop]'")
    folder = tmp_path_factory.mktemp("api")
    api.write(folder)
    return {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("*.md")}


def test_every_public_name_has_an_entry(pages):
    entries = re.findall(r"^`{3,}\{py:\w+\} ([\w.]+)", "\n".join(pages.values()), re.MULTILINE)
    at_the_top = {name for name in names.public(jrnn) if name != "__version__"}
    assert len(at_the_top) > 60
    assert {f"jrnn.{name}" for name in at_the_top} <= set(entries)
    dotted = [name for name in entries if name.startswith("jrnn.")]
    assert len(dotted) == len(set(dotted))


def test_every_module_that_is_not_internal_has_a_page(pages):
    parts = {path.stem for path in Path(jrnn.__file__).parent.glob("[a-z]*") if path.is_dir() or path.suffix == ".py"}
    parts -= {"__pycache__", "py"}
    shown = {name.partition(".")[0] for name in pages} | {"cell", "index"}
    assert parts - set(names.INTERNAL) <= shown
    for name in (
        "jrnn.models.Tagger",
        "jrnn.train.fit",
        "jrnn.decode.beam_search",
        "jrnn.interop.torch.from_state_dict",
    ):
        assert any(f"}} {name}" in text for text in pages.values())


def test_entries_have_signatures_shapes_equations_and_sources(pages):
    cells = pages["cells"]
    entry = cells[cells.index("{py:class} jrnn.PeepholeLSTM(") :]
    entry = entry[: entry.index("{py:class}", 20)]
    assert "forget_bias: float = 1.0" in entry
    assert r"c_{t} &= \sigma (f + p_{f}\, c_{t-1})\, c_{t-1}" in entry
    assert "Gers, Schraudolph & Schmidhuber 2002" in entry
    assert "| `w_x` | \\[input, 4 hidden\\], gates i f g o |" in cells
    assert "- `lengths`: integers \\[\\*batch\\]" in pages["unroll"]


@pytest.mark.parametrize(
    ("equation", "expected"),
    [
        ("y_t = σ(o) φ(c_t)", r"y_{t} &= \sigma (o)\, \varphi (c_{t})"),
        ("h_t = sqrt(2 dt/τ) ξ_t", r"h_{t} &= \sqrt{2\, \mathrm{d}t/\tau }\, \xi_{t}"),
        ("r_t = recur(s_{t-1})   m ~ p", r"r_{t} &= \mathrm{recur}(s_{t-1}) && \text{m ~ p}"),
        ("m = Σ weights value", r"m &= \sum \, \text{weights value}"),
    ],
)
def test_equations_are_typeset(equation, expected):
    assert docstrings.is_equations(equation)
    assert expected in docstrings.latex(equation)


@pytest.mark.parametrize(
    "program", ['cell = jrnn.LSTM(3, 4, activation="σ")', "python -m experiments.char_lm", "a -> b_t"]
)
def test_programs_are_not_taken_for_equations(program):
    assert not docstrings.is_equations(program)


def test_prose_is_escaped_and_names_become_links():
    text = docstrings.markdown(
        "Of `LSTM`: [time, *batch], <pad> and `x * y`.\n\nArgs:\n  xs: what\n    is read", {"LSTM": "jrnn.LSTM"}
    )
    assert text.startswith(r"Of {py:obj}`LSTM <jrnn.LSTM>`: \[time, \*batch\], \<pad> and `x * y`.")
    assert text.endswith("**Arguments**\n\n- `xs`: what is read")


def test_every_page_is_reached():
    """From a toctree: what is generated is named by its generator."""
    reached = set()
    for path in DOCS.rglob("*.md"):
        for block in re.findall(r"```\{toctree\}\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
            lines = [line.strip() for line in block.splitlines() if line.strip() and not line.startswith(":")]
            reached |= {(path.parent / f"{line}.md").resolve() for line in lines}
    written = {
        p.resolve() for p in DOCS.rglob("*.md") if not {"_build", "api", "experiments"} & set(p.relative_to(DOCS).parts)
    }
    assert len(written) > 20
    assert written - {(DOCS / "index.md").resolve()} <= reached


def test_recorded_results_say_their_command_and_no_path_of_a_machine():
    found = sorted((ROOT / "experiments" / "results").glob("*/result.json"))
    assert found
    for path in found:
        result = json.loads(path.read_text(encoding="utf-8"))
        assert result["command"].startswith(f"python -m experiments.{path.parent.name}")
        assert {"config", "versions", "machine", "metrics"} <= result.keys()
        assert not re.search(r"/(tmp|home|work|root)/", path.read_text(encoding="utf-8"))


def test_pages_of_experiments_have_their_results():
    experiments = ROOT / "experiments" / "README.md"
    commands = re.findall(
        r"^\| .* \| `python -m experiments\.(\w+)", experiments.read_text(encoding="utf-8"), re.MULTILINE
    )
    pytest.importorskip("sphinx", reason="the pages are made with Sphinx: pip install 'jrnn[docs]'")
    load("recorded")
    results = load("experiments").results()
    assert set(commands) == set(results)
    assert sum(len(rows) for tables in results.values() for _, rows in tables) >= len(commands)


def test_every_recorded_picture_has_its_caption_and_every_caption_a_picture():
    pytest.importorskip("sphinx", reason="the pages are made with Sphinx: pip install 'jrnn[docs]'")
    recorded = load("recorded")
    assert {path.name for path in recorded.RESULTS.glob("*/*.png")} == set(load("experiments").PICTURES)


def test_a_page_whose_library_is_missing_is_shown_and_not_run():
    requires = load("requires")
    page = "---\nfile_format: mystnb\nrequires: [{}]\n---\n\n# Title\n\nText.\n"
    assert requires.missing(page.format("json")) == []
    assert requires.missing(page.format("json, no_such_library")) == ["no_such_library"]
    source = [page.format("no_such_library")]
    requires.say_so(None, "page", source)
    assert source[0].index("# Title") < source[0].index("Built without no_such_library") < source[0].index("Text.")


def test_pages_that_use_another_library_require_it():
    for path in (DOCS / "coming_from").glob("*.md"):
        text = path.read_text(encoding="utf-8")
        used = set(re.findall(r"^(?:import|from) (torch|keras|haiku|equinox|flax)\b", text, re.MULTILINE))
        required = re.search(r"^requires: \[(\w+)\]$", text, re.MULTILINE)
        assert used <= ({required[1]} if required else set()), path


def test_what_is_said_of_the_version_agrees():
    read = {
        name: (ROOT / name).read_text(encoding="utf-8") for name in ("CITATION.cff", "CHANGELOG.md", "pyproject.toml")
    }
    assert f"\nversion: {jrnn.__version__}\n" in read["CITATION.cff"]
    assert re.search(rf"^## {re.escape(jrnn.__version__)}\b", read["CHANGELOG.md"], re.MULTILINE)
    ruff = re.search(r"ruff==([\d.]+)", read["pyproject.toml"])
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert ruff is not None
    assert f"rev: v{ruff[1]}" in hooks


def test_code_fits_its_page():
    """A page shows 88 columns or so; the lessons' code is linted for it."""
    wide = []
    for path in [*DOCS.glob("*.md"), *DOCS.glob("guides/*.md")]:
        for code in re.findall(
            r"^```(?:\{code-cell\}|python)\n(.*?)^```", path.read_text("utf-8"), re.MULTILINE | re.DOTALL
        ):
            wide += [f"{path.name}: {line}" for line in code.splitlines() if len(line) > 90]
    assert not wide
