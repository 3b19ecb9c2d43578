"""Pages that are made from the code, before Sphinx reads them."""

from pathlib import Path


def write_changed(path: Path, text: str) -> None:
    """Write a page; one that is the same stays untouched, so that Sphinx does not read it again."""
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
