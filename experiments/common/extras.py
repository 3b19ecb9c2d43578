"""Packages that single experiments need: imported where they are needed, and named with their extra where they are not there."""

import importlib
from typing import Any


class MissingPackage(ImportError):
    """A package that is not installed, and the command that installs it."""


def need(module: str, extra: str) -> Any:
    """`module`, imported; MissingPackage where its package is not installed, which the extra `extra` of pyproject.toml brings."""
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise MissingPackage(f"needs {package}: pip install -e '.[{extra}]'") from error
