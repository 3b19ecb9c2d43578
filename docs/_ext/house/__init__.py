"""What the site does besides Sphinx: one part a file."""

from . import api, experiments, languages, mathjax, recorded, requires, times


def setup(app):
    for part in (api, experiments, languages, mathjax, recorded, requires, times):
        part.setup(app)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
