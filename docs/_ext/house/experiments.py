"""A page for each experiment: its docstring, its results from experiments/README.md, its own options, what was recorded of it."""

import ast
import json
import re
from pathlib import Path

from . import recorded
from .docstrings import markdown
from .written import write_changed

ROOT = Path(__file__).parents[3]
SCRIPTS = ROOT / "experiments"
README = SCRIPTS / "README.md"
PICTURES = {
    "curves.png": "loss while it learns", "attention.png": "where each step of the decoder looks",
    "confusion.png": "what is taken for what", "unfolding.png": "what it makes of an input while it reads",
    "captions.png": "what it writes about pictures that were held out", "frames.png": "frames and what is said of them",
    "sentences.png": "sentences and their labels", "roll.png": "a piece", "surprise.png": "how surprising each word is",
    "forecasts.png": "forecasts, and what came", "cliff.png": "the loss and two ways down",
    "influence.png": "loss by step of each learner",
    "score.png": "what `score --picture` makes of a sentence of yours",
    "copy.png": "words learnt by each learner", "vanishing.png": "gradients by lag", "chaos.png": "exponents by gain",
    "fixed_points.png": "states and fixed points", "cures.png": "error by training steps, with each cure and without",
    "perceptual.png": "what it answers, how, and by which weights",
}  # fmt: skip


def scripts() -> dict[str, ast.Module]:
    return {
        path.stem: ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(SCRIPTS.glob("*.py"))
        if not path.stem.startswith("_")
    }


def results() -> dict[str, list[tuple[str, list[str]]]]:
    """Of each experiment the rows of the README's tables that are its own, each with the head of its table.

    A row that names no experiment ("the same", "see below") belongs to that of the row before.
    """
    found: dict[str, list[tuple[str, list[str]]]] = {}
    head, name = "", ""
    for line in README.read_text(encoding="utf-8").splitlines():
        if not line.startswith("|"):
            head = ""
        elif not head:
            head = line
        elif not line.startswith("|---") and "| command |" in head:
            named = re.search(r"python -m experiments\.(\w+)", line)
            name = named[1] if named else name
            tables = found.setdefault(name, [])
            if not tables or tables[-1][0] != head:
                tables.append((head, []))
            tables[-1][1].append(line)
    return found


def options(tree: ast.Module) -> list[tuple[str, str, str]]:
    """The options that a script has of its own: name, default, what it is."""
    found = []
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == "Config":
            for field, after in zip(node.body, node.body[1:]):
                if (
                    isinstance(field, ast.AnnAssign)
                    and isinstance(after, ast.Expr)
                    and isinstance(after.value, ast.Constant)
                ):
                    default = ast.unparse(field.value) if field.value else ""
                    name = ast.unparse(field.target).replace("_", "-")
                    found.append((f"--{name}", default, " ".join(str(after.value.value).split())))
    return found


def title(tree: ast.Module) -> str:
    headline = (ast.get_docstring(tree) or "").partition("\n")[0]
    return re.split(r"[:,.?]", headline)[0]


def page(name: str, tree: ast.Module, tables: list[tuple[str, list[str]]]) -> str:
    about = ast.get_docstring(tree) or ""
    parts = [f"# {title(tree)}", markdown(about)]
    if tables:
        parts.append("## Results")
        for head, rows in tables:
            parts.append("\n".join([head, "|---" * (head.count("|") - 1) + "|", *rows]))
        parts.append(
            "Training, held-out and test parts are a / b / c; ± is the standard deviation over seeds; the floor is what a count or "
            "a repetition comes to. [All results](index.md#results) says how each was measured."
        )
    parts.append(_recorded(name))
    rows = options(tree)
    if rows:
        table = ["| option | default | what |", "|---|---|---|"]
        table += [
            f"| `{option}` | {f'`{default}`' if default else ''} | {_cell(what)} |" for option, default, what in rows
        ]
        parts += ["## Options", "Of its own; `--help` lists those that all experiments share too.", "\n".join(table)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _cell(text: str) -> str:
    """Prose in a table, options in it as programs."""
    text = re.sub(r"([|$<*])", r"\\\1", text)
    return re.sub(r"(?<![\w`-])(--[a-z][a-z-]*)(?![\w`-])", r"`\1`", text)


def _recorded(name: str) -> str:
    folder = recorded.RESULTS / name
    if not folder.is_dir():
        return ""
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    parts = ["## A recorded run", recorded.said(name, result)]
    for path in sorted(folder.glob("*.png"), key=lambda path: path.name != "curves.png"):
        about = PICTURES[path.name]
        where = f"../../experiments/results/{name}/{path.name}"
        parts.append(f"```{{figure}} {where}\n:alt: {about}\n:class: recorded\n\n`{path.name}`: {about}\n```")
    return "\n\n".join(parts)


def write(folder: Path) -> None:
    found, tables = scripts(), results()
    for name, tree in found.items():
        write_changed(folder / f"{name}.md", page(name, tree, tables.get(name, [])))
    rows = [f"| [{title(tree)}]({name}.md) | `{name}` | {_headline(tree)} |" for name, tree in found.items()]
    write_changed(
        folder / "index.md",
        "# Experiments\n\nEach is one script: a command, a result, what it is compared with. From the root of a checkout:\n\n"
        "```sh\npip install -e '.[experiments]' && python -m experiments  # lists them\n```\n\n"
        + "\n".join(["| page | name | what |", "|---|---|---|", *rows])
        + "\n\n"
        + README.read_text(encoding="utf-8").partition("# lists them\n```\n")[2]
        + "\n"
        + "\n".join(["```{toctree}", ":hidden:", "", *found, "```"])
        + "\n",
    )


def _headline(tree: ast.Module) -> str:
    return _cell((ast.get_docstring(tree) or "").partition("\n")[0])


def setup(app):
    app.connect("builder-inited", lambda app: write(Path(app.srcdir) / "experiments"))
