"""Pages that need another library say so: `requires: [torch]` at their top. Where it is missing they are shown and not run."""

import importlib.util
import re
from pathlib import Path


def missing(text: str) -> list[str]:
    """What a page requires and is not installed."""
    found = re.match(r"---\n.*?^requires: \[([\w, ]*)\]$.*?^---$", text, re.DOTALL | re.MULTILINE)
    names = [name.strip() for name in found[1].split(",")] if found else []
    return [name for name in names if importlib.util.find_spec(name) is None]


def leave_out(app, config):
    for path in sorted(Path(app.srcdir).rglob("*.md")):
        if lacks := missing(path.read_text(encoding="utf-8")):
            page = path.relative_to(app.srcdir).as_posix()
            config.nb_execution_excludepatterns.append(page)
            print(
                f"{page}: {', '.join(lacks)} is not installed, so its code is shown and NOT RUN: pip install -e '.[oracle]'"
            )


def say_so(app, page, source):
    if lacks := missing(source[0]):
        note = f"```{{warning}}\nBuilt without {', '.join(lacks)}: the code on this page was not run.\n```\n"
        source[0] = re.sub(r"^(# .*)$", rf"\1\n\n{note}", source[0], count=1, flags=re.MULTILINE)


def setup(app):
    app.connect("config-inited", leave_out)
    app.connect("source-read", say_so)
