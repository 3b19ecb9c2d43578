"""Lessons in several languages with one code: a Sphinx extension that puts code where a page says `{cell} name`.

The code of the page `03-batch` stands in `code/03_batch.py`, in cells that begin with `# %% name`, after which tags of MyST-NB may
follow (`hide-input`, `remove-cell`). A page in any language takes each of them, in order:

    ```{cell} name
    ```

A page that leaves one out, or takes them in another order, is an error, so that languages cannot diverge. Before the first
cell the page's language goes into the environment variable `LESSON_LANGUAGE`, by which `pictures.py` chooses its words.

What several pages import stands in files without a number; where a page shows a function of one, it takes it by `literalinclude`.
"""

import hashlib
import re
from pathlib import Path
from typing import Any

from sphinx.errors import SphinxError

HERE = Path(__file__).parent
CODE = HERE / "code"
SHARED = sorted(CODE.glob("[a-z]*.py"))  # what several pages import: pictures.py, training.py
# Most of a page's time is compilation, and the pages of one code compile the same programs: in Chinese they take a quarter.
COMPILED = HERE.parent / "_build" / "xla"
CELL = re.compile(r"^# %% *(.*)$", re.MULTILINE)
PLACE = re.compile(r"^```\{cell\} *(\S+) *\n```$", re.MULTILINE)


def cells(path: Path) -> dict[str, tuple[list[str], str]]:
    """Tags and source of each cell of a file, by name, in order."""
    _, *parts = CELL.split(path.read_text(encoding="utf-8"))
    found = {}
    for heading, source in zip(parts[::2], parts[1::2], strict=True):
        name, *tags = heading.split()
        if name in found:
            raise SphinxError(f"{path} has two cells {name!r}; expected each name once")
        found[name] = tags, source.strip()
    return found


def expanded(page: str, text: str, path: Path, language: str) -> str:
    """The text of a page with the cells of `path` in their places."""
    known = cells(path)
    places = PLACE.findall(text)
    if places != list(known):
        raise SphinxError(f"{page} takes the cells {places}; expected all of {path.name} in order: {list(known)}")
    version = hashlib.sha256(b"".join(file.read_bytes() for file in SHARED)).hexdigest()[:8]
    environment = {
        "LESSON_LANGUAGE": language,
        "JAX_COMPILATION_CACHE_DIR": str(COMPILED),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    }
    setup = f"import os, sys\nos.environ.update({environment})\nsys.path.insert(0, {str(CODE)!r})  # {version}"
    first = True

    def one(match: re.Match[str]) -> str:
        nonlocal first
        tags, source = known[match[1]]
        before = "" if not first else code_cell(["remove-cell"], setup) + "\n\n"
        first = False
        end = ";" if "hide-input" in tags else ""  # a picture shows no value of its last line
        return before + code_cell(tags, source + end)

    return PLACE.sub(one, text)


def code_cell(tags: list[str], source: str) -> str:
    options = f":tags: [{', '.join(tags)}]\n\n" if tags else ""
    return f"```{{code-cell}} ipython3\n{options}{source}\n```"


def read(app: Any, docname: str, content: list[str]) -> None:
    """Sphinx's `source-read`: `content[0]` is the text of the page."""
    if not PLACE.search(content[0]):
        return
    path = CODE / f"{docname.rsplit('/', 1)[-1].replace('-', '_')}.py"
    for file in (path, *SHARED):
        app.env.note_dependency(str(file))
    content[0] = expanded(docname, content[0], path, "zh" if docname.startswith("zh/") else "en")


def setup(app: Any) -> dict[str, Any]:
    app.connect("source-read", read)
    return {"version": "1", "parallel_read_safe": True}
