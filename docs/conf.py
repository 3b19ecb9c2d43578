"""The site: Sphinx with MyST-NB. Every page that has code is run when it is built."""

import logging
import os
import sys
from pathlib import Path

import jrnn

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE / "lessons")]
# What the pages run finds the checkout; on the CPU, with two devices, whatever the machine has.
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
# Kernels that read nobody's own IPython profile, and do not say how they talk to the builder.
kernels = HERE / "_build" / "ipython" / "profile_default" / "ipython_kernel_config.py"
kernels.parent.mkdir(parents=True, exist_ok=True)
kernels.write_text('c.IPKernelApp.log_level = "ERROR"\n', encoding="utf-8")
os.environ["IPYTHONDIR"] = str(kernels.parents[1])
logging.getLogger("traitlets").setLevel(logging.WARNING)

project = "jrnn"
author = "the jrnn authors"
copyright = author
version = release = jrnn.__version__
language = "en"
smartquotes_action = "q"  # quotes alone: `--option` and [..., size] stay as they are

extensions = ["myst_nb", "sphinx.ext.mathjax", "sphinx_copybutton", "sphinx_design", "house", "cells"]
exclude_patterns = ["_build", "_ext", "**/.ipynb_checkpoints"]
templates_path: list[str] = []

# Markdown.
myst_enable_extensions = ["amsmath", "dollarmath", "colon_fence", "deflist", "fieldlist", "attrs_inline"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

# Signatures.
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 90

# Execution: each page in a process of its own, kept in a cache while its code stays the same (`python -m docs --fresh` runs all).
nb_execution_mode = "cache"
nb_execution_cache_path = str(HERE / "_build" / "cache")
nb_execution_timeout = (
    180  # seconds a cell, for machines that have other work: a page takes under a minute on two idle cores
)
nb_execution_raise_on_error = False  # a warning with the traceback for each page, and so an error of the build
nb_execution_show_tb = True
nb_execution_in_temp = True
nb_merge_streams = True
nb_number_source_lines = False
page_limit = 300  # seconds; a page over it is a warning, and so an error in CI

# Pages.
html_theme = "furo"
html_title = f"jrnn {release}"
html_static_path = ["_static"]
html_favicon = "_static/icon.svg"
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"sidebar_hide_name": False, "navigation_with_keys": True}
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"
copybutton_prompt_text = r"\$ |>>> "
copybutton_prompt_is_regexp = True
copybutton_exclude = ".linenos, .gp, .go"

# Equations: MathJax in one file, its letters among it, that comes with the site (`house.mathjax`).
mathjax_path = "mathjax.js"
mathjax3_config = {"options": {"enableMenu": False}, "svg": {"fontCache": "global"}}

suppress_warnings = ["mystnb.unknown_mime_type"]
