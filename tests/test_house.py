"""How the package is built: what may import what, and what a cell may be."""

import ast
import inspect
import pathlib
import subprocess
import sys
import tomllib

import cases
import jax
import pytest

import jrnn
from jrnn import attention

ROOT = pathlib.Path(jrnn.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
ORDER = [
    "arrays", "program", "xla", "checks", "activations", "segments",
    "sharding", "distributions", "losses", "regularizers", "attention", "cell", "initializers", "parametrizations",
    "cells", "engines", "unroll", "layers", "pooling", "models", "decode", "online", "diagnostics", "data", "checkpoint", "train",
    "flax", "interop",
]  # fmt: skip
EXPERIMENTS = ROOT.parent / "experiments"
SCRIPTS = {path.stem: path for path in sorted(EXPERIMENTS.glob("*.py")) if not path.stem.startswith("_")}
PROJECT = tomllib.loads((ROOT.parent / "pyproject.toml").read_text(encoding="utf-8"))
PUBLIC = {n: v for n, v in vars(jrnn).items() if not n.startswith("_") and (inspect.isclass(v) or inspect.isroutine(v))}
CELLS = {n: v for n, v in PUBLIC.items() if inspect.isclass(v) and issubclass(v, jrnn.Cell) and v is not jrnn.Cell}


def name_of(path):
    return str(path.relative_to(ROOT)).removesuffix(".py")


def imported(path):
    """The dotted names a module imports, at its top and inside its functions; those of jrnn in full."""
    package = ["jrnn", *path.relative_to(ROOT).parent.parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def part(dotted):
    """The part of jrnn that an import reaches: 'cells' for jrnn.cells.lstm.LSTM; None outside jrnn."""
    names = dotted.split(".")
    return names[1] if names[0] == "jrnn" and len(names) > 1 else None


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_down_the_list_and_never_up(path):
    own = path.relative_to(ROOT).with_suffix("").parts[0]
    reached = {part(name) for name in imported(path)} - {None, own}
    if own == "__init__":
        return
    assert own in ORDER, f"{own} has no place in the order of imports"
    assert reached <= set(ORDER[: ORDER.index(own)])


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_the_library_does_not_import_experiments(path):
    assert not any(name.split(".")[0] in ("experiments", "tests") for name in imported(path))


def test_the_reader_of_imports_reads_them():
    """The two tests above would pass on a reader that sees nothing."""
    assert {part(name) for name in imported(ROOT / "cells" / "lstm.py")} == {
        None,
        "initializers",
        "cell",
        "checks",
        "arrays",
        "xla",
    }
    assert {"unroll", "cell", "checks"} <= {part(name) for name in imported(ROOT / "layers" / "recurrent.py")}


def test_importing_jrnn_needs_jax_alone():
    code = "import sys, jrnn; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, text=True, check=True)
    loaded = set(found.stdout.split())
    assert {"jax", "jrnn"} <= loaded
    assert not loaded & {"flax", "optax", "orbax", "grain", "torch", "matplotlib", "safetensors", "tyro", "experiments"}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_say_what_they_are(name):
    """A docstring of its own, not the signature that Python writes where there is none, or a comment on every field."""
    text = PUBLIC[name].__doc__
    assert text
    if text.startswith(f"{name}("):
        fields = inspect.getsource(PUBLIC[name]).splitlines()[1:]
        assert len(fields) == len(PUBLIC[name]._fields)
        assert all("  # " in field for field in fields)


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_cells_are_final(cell):
    """No cell inherits from another, and none has a step of its own."""
    assert [base for base in cell.__mro__[1:] if not inspect.isabstract(base) and issubclass(base, jrnn.Cell)] == []
    assert "step" not in vars(cell)
    assert cell.step is jrnn.Cell.step


ATTENTIVE = {
    jrnn.AttentionBefore: jrnn.AttentionBefore(jrnn.GRU(3 + 6, 5), attention.General(5, 6)),
    jrnn.AttentionAfter: jrnn.AttentionAfter(jrnn.GRU(3 + 5, 5), attention.General(5, 6), 5),
}
"""Cells that attend to vectors of 6; the others are in the table of cases."""


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_parameters_and_states_are_named_tuples(cell):
    """Of its own name, but for a wrapper that adds none to those of the cell inside."""
    model = ATTENTIVE.get(cell) or next(row for row in cases.CELLS.values() if type(row) is cell)
    params = jax.eval_shape(model.init, jax.random.key(0))
    bound = params
    if model.takes_context:
        bound = jax.eval_shape(model.bind, params, jax.ShapeDtypeStruct((4, 6), "float32"))
    state = jax.eval_shape(model.initial_state, bound)
    own = type(getattr(model, "cell", model)) if model.inner_params is None else cell
    assert type(params).__name__ == f"{own.__name__}Params"
    assert params._fields
    assert state._fields


@pytest.mark.parametrize("path", sorted((ROOT / "engines").glob("*.py")), ids=name_of)
def test_no_engine_knows_a_cell(path):
    tree = ast.parse(path.read_text())
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not names & set(CELLS)
    assert not any(part(name) == "cells" for name in imported(path))


def test_every_cell_is_in_the_table_of_cases():
    """But for those that attend, which have laws of their own (`test_attention`)."""
    alone = {cell for cell in CELLS.values() if cell.takes_context is not True}
    assert alone == {type(cell) for cell in cases.CELLS.values()}


@pytest.mark.parametrize("name", SCRIPTS)
def test_at_the_top_of_the_experiments_are_scripts_alone(name):
    """Each says what it is, by which command, and is run by it; only what takes the runs of another imports that."""
    tree = ast.parse(SCRIPTS[name].read_text(encoding="utf-8"))
    about = ast.get_docstring(tree) or ""
    assert about.partition("\n")[0].endswith((".", "?"))
    assert f"python -m experiments.{name}" in about
    assert any(isinstance(node, ast.ClassDef) and node.name == "Config" for node in tree.body)
    assert ast.unparse(tree.body[-1]) == "if __name__ == '__main__':\n    main()"
    others = {
        alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module == "experiments"
        for alias in node.names
    }
    assert others <= ({"char_lm"} if name == "quantize" else set())


@pytest.mark.parametrize("path", sorted((EXPERIMENTS / "common").glob("*.py")), ids=lambda path: path.stem)
def test_what_experiments_share_knows_none_of_them(path):
    found = {node.module for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)}
    ours = {module for module in found if (module or "").partition(".")[0] == "experiments"}
    assert all(module.startswith("experiments.common") for module in ours)


PINNED = ("ctrnn",)
"""Extras that the tests do without: NeuroGym asks for one minor version of NumPy and one of Matplotlib."""


def test_the_extra_that_an_experiment_asks_for_brings_the_package():
    extras = PROJECT["project"]["optional-dependencies"]
    asked = [
        [argument.value for argument in node.args]
        for path in EXPERIMENTS.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "need"
    ]
    assert {"librosa", "aeon.datasets"} <= {module for module, _ in asked}
    with_others = {"soundfile": "librosa"}  # librosa needs it
    for module, extra in asked:
        package = module.partition(".")[0]
        assert any(line.startswith(with_others.get(package, package)) for line in extras[extra])
        if extra not in ("test", *PINNED):
            assert any(line.startswith("jrnn[") and extra in line for line in extras["test"])


def test_the_package_is_jrnn_alone_with_its_types_and_one_version():
    tools = PROJECT["tool"]["setuptools"]
    assert tools["packages"]["find"]["include"] == ["jrnn*"]
    assert tools["package-data"] == {"jrnn": ["py.typed"]}
    assert (ROOT / "py.typed").is_file()
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert tools["dynamic"]["version"] == {"attr": "jrnn.__version__"}
    assert all(part.isdigit() for part in jrnn.__version__.split("."))
