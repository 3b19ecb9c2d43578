"""What the site does besides Sphinx: one part a file."""

from . import mathjax, times


def setup(app):
    for part in (mathjax, times):
        part.setup(app)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
