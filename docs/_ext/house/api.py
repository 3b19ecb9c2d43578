"""The pages of the API: every public name, with its signature, its shapes and its docstring."""

import ast
import dataclasses
import importlib
import inspect
import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jrnn

from .docstrings import markdown
from .names import LIBRARIES, TOP, contents, said_of
from .written import write_changed

TITLES = {
    "unroll": "Unroll and cell", "cells": "Cells", "layers": "Layers", "engines": "Engines", "activations": "Activations",
    "attention": "Attention", "checkpoint": "Checkpoints", "data": "Data", "decode": "Decoding", "diagnostics": "Diagnostics",
    "distributions": "Distributions", "flax.linen": "Flax linen", "flax.nnx": "Flax nnx", "initializers": "Initial weights",
    "interop": "Files of weights", "losses": "Losses and metrics", "models": "Models", "online": "Online learning",
    "pooling": "Pooling", "train": "Training", "xla": "Switches for XLA",
}  # fmt: skip

PUBLIC: dict[str, str] = {}
"""The public names of classes by those of the modules where they are written, for signatures."""


def write(folder: Path) -> None:
    """The pages, those that changed, into `folder`."""
    pages = contents()
    PUBLIC.update(
        {f"{v.__module__}.{v.__qualname__}": n for p in pages.values() for n, v in p.items() if inspect.isclass(v)}
    )
    links = _links(pages)
    for page, names in pages.items():
        write_changed(folder / f"{page}.md", _page(page, names, links))
    for path in folder.glob("*.md"):
        if path.stem not in pages and path.name != "index.md":
            path.unlink()
    write_changed(folder / "index.md", _index(pages))


def _links(pages: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Full names by what docstrings call them: `jrnn.LSTM`, `LSTM`, `decode.generate`; short ones only where there is one."""
    links: dict[str, str] = {}
    clash = set()
    for names in pages.values():
        for full in names:
            short = full.rpartition(".")[2]
            clash |= {short} if short in links else set()
            links[short] = full
            links[full] = full
            links[full.removeprefix("jrnn.")] = full
    # A plain word in backticks, such as an argument, is no link; `unroll` and `rnn` are functions wherever they occur.
    known = {name: full for name, full in links.items() if name not in clash or full == f"jrnn.{name}"}
    return {n: full for n, full in known.items() if "." in n or n[0].isupper() or n in ("unroll", "rnn")}


def _title(page: str) -> str:
    if page.startswith("interop."):
        return LIBRARIES[page.removeprefix("interop.")]
    return TITLES.get(page, page.capitalize())


def _page(page: str, names: dict[str, Any], links: dict[str, str]) -> str:
    where = "jrnn" if page in TOP else f"jrnn.{page}"
    module = importlib.import_module(f"jrnn.{'cell' if page == 'unroll' else page}")
    parts = [
        f"# {_title(page)}",
        f"`{where}`",
        markdown(module.__doc__ or "", links) if page not in ("unroll",) else "",
    ]
    listed = [full for full, value in names.items() if not _is_record(value)]
    if len(listed) > 3:
        rows = [f"| {{py:obj}}`{full.rpartition('.')[2]} <{full}>` | {_first(full, names[full])} |" for full in listed]
        parts.append("\n".join(["| name | what |", "|---|---|", *rows]))
    parts += [_entry(full, value, links) for full, value in names.items()]
    return "\n\n".join(part for part in parts if part) + "\n"


def _index(pages: dict[str, dict[str, Any]]) -> str:
    rows = []
    for page, names in pages.items():
        shown = [f"{{py:obj}}`{full.rpartition('.')[2]} <{full}>`" for full, v in names.items() if not _is_record(v)]
        rows.append(f"| [{_title(page)}]({page}.md) | {', '.join(shown)} |")
    toc = "\n".join(["```{toctree}", ":hidden:", "", *pages, "```"])
    return (
        "# API\n\nEvery public name, from its docstring: signature, shapes, equations, sources. Shapes are written "
        "`[time, *batch, features]`: time first, any batch axes, features last.\n\n"
        + "\n".join(["| part | names |", "|---|---|", *rows])
        + f"\n\n{toc}\n"
    )


def _is_data(value: Any) -> bool:
    return not callable(value) or not hasattr(value, "__name__")


def _is_record(value: Any) -> bool:
    """A NamedTuple of parameters, a state or the like."""
    return inspect.isclass(value) and issubclass(value, tuple)


def _first(full: str, value: Any) -> str:
    """The first sentence of a docstring."""
    said = said_of(full) if _is_data(value) else inspect.getdoc(value)
    text = " ".join((said or "").split("\n\n")[0].split())
    sentence = re.split(r"(?<=[^A-Z].[.:]) (?=[A-Z`])", text)[0].rstrip(":")
    return markdown(sentence).replace("|", "\\|")


def _entry(full: str, value: Any, links: dict[str, str]) -> str:
    if _is_data(value):
        return _directive("data", full, f"{markdown(said_of(full), links)}\n\n{_data(value)}")
    if not inspect.isclass(value):
        return _directive("function", full + _signature(value), markdown(inspect.getdoc(value) or "", links))
    if _is_record(value):
        return _directive("class", full, _record(value, links))
    body = [markdown(_own_doc(value), links)]
    body.append(_own_records(value, links))
    bases = [f"jrnn.{base.__name__}" for base in value.__mro__[1:] if f"jrnn.{base.__name__}" in links.values()]
    if bases:
        shown = ", ".join("{py:obj}`" + base.removeprefix("jrnn.") + f" <{base}>`" for base in bases)
        body.append(f"Is a {shown}, with its methods.")
    body += _fields(value, links)
    for name, method in vars(value).items():
        text = getattr(method, "__doc__", None)
        if name.startswith("_") or not text:
            continue
        if isinstance(method, property):
            body.append(_directive("property", name, markdown(text, links)))
        elif inspect.isfunction(method) or isinstance(method, classmethod | staticmethod):
            plain = method.__func__ if isinstance(method, classmethod | staticmethod) else method
            kind = "classmethod" if isinstance(method, classmethod) else "method"
            body.append(_directive(kind, name + _signature(plain, bound=True), markdown(text, links)))
    return _directive("class", full + _signature(value), "\n\n".join(part for part in body if part))


def _data(value: Any) -> str:
    if isinstance(value, Mapping):
        return "\n".join(
            ["| key | what |", "|---|---|", *(f"| `{k}` | {markdown(str(v))} |" for k, v in value.items())]
        )
    return f"`{_shorten(repr(value))}`"


def _own_records(value: Any, links: dict[str, str]) -> str:
    """Which named tuples a cell has for its parameters and its state."""
    bases = [base for base in getattr(value, "__orig_bases__", ()) if getattr(base, "__origin__", None) is jrnn.Cell]
    names = [links.get(getattr(part, "__name__", "")) for base in bases for part in base.__args__]
    if len(names) != 2 or None in names:
        return ""
    params, state = (f"{{py:obj}}`{str(name).removeprefix('jrnn.')} <{name}>`" for name in names)
    return f"Parameters {params}, state {state}."


def _own_doc(value: Any) -> str:
    text = value.__doc__ or ""
    return "" if text.startswith(f"{value.__name__}(") else text


def _directive(kind: str, name: str, body: str) -> str:
    fence = "`" * (max([2, *(len(run) for run in re.findall(r"^`{3,}", body, re.MULTILINE))]) + 1)
    return f"{fence}{{py:{kind}}} {name}\n\n{body}\n{fence}"


def _record(value: Any, links: dict[str, str]) -> str:
    comments = _comments(value)
    rows = [f"| `{name}` | {markdown(comments.get(name, ''))} |".replace("\\|", "|") for name in value._fields]
    table = "\n".join(["| field | what |", "|---|---|", *rows])
    if not comments:
        table = "Fields: " + ", ".join(f"`{name}`" for name in value._fields) + "."
    methods = []
    for name, method in vars(value).items():
        if isinstance(method, property) and method.__doc__:
            methods.append(_directive("property", name, markdown(method.__doc__, links)))
    return "\n\n".join(part for part in (markdown(_own_doc(value), links), table, *methods) if part)


def _comments(value: Any) -> dict[str, str]:
    """What is said beside each field of a class."""
    try:
        source = textwrap.dedent(inspect.getsource(value))
    except (OSError, TypeError):
        return {}
    found, waiting = {}, None
    for line in source.splitlines()[1:]:
        field = re.match(r"    (\w+): [^#]*", line)
        remark = re.search(r"#\s*(.*)$", line)
        waiting = field[1] if field else waiting
        if waiting and remark:
            found[waiting] = remark[1]
            waiting = None
    return found


def _fields(value: Any, links: dict[str, str]) -> list[str]:
    """What strings below the fields of a class say of them."""
    try:
        node: Any = ast.parse(textwrap.dedent(inspect.getsource(value))).body[0]
    except (OSError, TypeError):
        return []
    entries = []
    for field, after in zip(node.body, node.body[1:]):
        said = (
            isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str)
        )
        if isinstance(field, ast.AnnAssign) and said and isinstance(field.target, ast.Name):
            entries.append(_directive("attribute", field.target.id, markdown(after.value.value, links)))
    return entries


def _signature(value: Any, *, bound: bool = False) -> str:
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return "()"
    parameters = list(signature.parameters.values())[1 if bound else 0 :]
    parameters = [p.replace(default=_Plain(p.default)) if p.default is not p.empty else p for p in parameters]
    parameters = [p for p in parameters if p.name not in ("parent", "name") or not _is_flax(value)]
    returns = inspect.Signature.empty if inspect.isclass(value) else signature.return_annotation
    return _shorten(str(signature.replace(parameters=parameters, return_annotation=returns)))


def _is_flax(value: Any) -> bool:
    return inspect.isclass(value) and value.__module__.startswith("jrnn.flax")


class _Plain:
    """A default as it is written."""

    def __init__(self, value: Any):
        self.value = value

    def __repr__(self) -> str:
        value = self.value
        if isinstance(value, type | dataclasses.Field):
            return getattr(value, "__name__", "...")
        text = (
            getattr(value, "__name__", repr(value))
            if callable(value) and not dataclasses.is_dataclass(value)
            else repr(value)
        )
        return "..." if "object at" in text or "<" in text else text


def _shorten(text: str) -> str:
    def name(found: re.Match[str]) -> str:
        return found[0] if found[0][0].isdigit() else PUBLIC.get(found[0], found[1])

    text = re.sub(r"(?:\w+\.)+(\w+)", name, text)
    text = re.sub(r"str \| Callable\[\[(?:Array|Any|\.\.\.)\], (?:Array|Any)\]", "Activation", text)
    return text.replace("NoneType", "None").replace("~", "")


def setup(app):
    app.connect("builder-inited", lambda app: write(Path(app.srcdir) / "api"))
