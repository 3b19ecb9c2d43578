"""Equations without another host: MathJax, from the package `sphinx-mathjax-offline`, becomes one file of the site."""

import importlib.util
import shutil
from pathlib import Path


def copy(app, exception):
    if exception or app.builder.format != "html":
        return
    found = importlib.util.find_spec("sphinx-mathjax-offline")
    source = Path(found.origin).parent / "static" / "mathjax" / "tex-svg.js"
    shutil.copyfile(source, Path(app.outdir) / "_static" / app.config.mathjax_path)


def setup(app):
    app.connect("build-finished", copy)
