"""Which names are public, and on which page of the API each stands."""

import ast
import importlib
import inspect
import pkgutil
from typing import Any

import jrnn

INTERNAL = {"arrays", "checks", "program", "segments", "sharding"}
"""Modules that a user has no business with."""
TOP = {  # where the names of `jrnn` itself go, by the module that they come from
    "unroll": ("jrnn.unroll", "jrnn.cell"),
    "cells": ("jrnn.cells",),
    "layers": ("jrnn.layers",),
    "engines": ("jrnn.engines",),
}
LIBRARIES = {
    "torch": "PyTorch", "flax": "Flax's weights", "haiku": "Haiku", "equinox": "Equinox", "keras": "Keras", "onnx": "ONNX",
    "stablehlo": "StableHLO", "int8": "int8",
}  # fmt: skip
DEEPER = {
    "engines": ("jrnn.engines.implicit", "jrnn.engines.solver", "jrnn.engines.system", "jrnn.engines.linear_system")
}
"""What who writes an engine needs, beside what the package gives."""
EXTRAS = {
    "jrnn.layers": ("pretrained",),
    "jrnn.engines.implicit": ("implicit", "Found"),
    "jrnn.engines.solver": ("Solver", "Substitution"),
    "jrnn.engines.system": ("System", "Steps", "traced"),
    "jrnn.engines.linear_system": ("LinearSystem", "Unknowns"),
}


def modules() -> list[str]:
    """The public modules below `jrnn`, by their names without it."""
    found = []
    for path in pkgutil.iter_modules(jrnn.__path__):
        if path.name in INTERNAL or path.name in ("cell", "unroll", "cells", "layers", "engines"):
            continue
        found.append(path.name)
    below = [f"interop.{name}" for name in LIBRARIES] + ["flax.linen", "flax.nnx"]
    return sorted([name for name in found if name != "flax"] + below)


def public(module: Any) -> dict[str, Any]:
    """The public names of a module: those that its `__init__` gives on as `X as X`, or that it defines itself."""
    tree = ast.parse(inspect.getsource(module))
    package = hasattr(module, "__path__")
    names = []
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and package:
            names += [alias.asname for alias in node.names if alias.asname == alias.name]
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names += [t.id for t in targets if isinstance(t, ast.Name) and _described(tree, node)]
    found = {name: getattr(module, name) for name in names if not name.startswith("_")}
    return {name: value for name, value in found.items() if not inspect.ismodule(value)}


def _described(tree: ast.Module, node: ast.AST) -> bool:
    """Whether a string stands after an assignment, which says what it is."""
    after = tree.body[tree.body.index(node) + 1 :][:1]  # type: ignore[arg-type]
    return bool(after) and isinstance(after[0], ast.Expr) and isinstance(after[0].value, ast.Constant)


def contents() -> dict[str, dict[str, Any]]:
    """Of each page the names on it, by their full names."""
    own = public(jrnn)
    pages: dict[str, dict[str, Any]] = {}
    for page, origins in TOP.items():
        pages[page] = {
            f"jrnn.{name}": value
            for origin in origins
            for name, value in own.items()
            if f"{value.__module__}.".startswith(f"{origin}.")
        }
        for name in DEEPER.get(page, ()):
            module = importlib.import_module(name)
            pages[page] |= {f"{name}.{each}": getattr(module, each) for each in EXTRAS[name]}
    pages["layers"] |= {
        f"jrnn.layers.{name}": getattr(jrnn.layers, name)
        for name in EXTRAS["jrnn.layers"]
        if hasattr(jrnn.layers, name)
    }
    for name in modules():
        module = importlib.import_module(f"jrnn.{name}")
        pages[name] = {f"jrnn.{name}.{each}": value for each, value in public(module).items()}
    return pages


def said_of(full: str) -> str:
    """The string that stands after the assignment of a name such as `jrnn.xla.WORKAROUNDS`."""
    module, _, name = full.rpartition(".")
    tree = ast.parse(inspect.getsource(importlib.import_module(module)))
    for node, after in zip(tree.body, tree.body[1:]):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if name in [getattr(target, "id", None) for target in targets] and _described(tree, node):
            return inspect.cleandoc(after.value.value)  # type: ignore[attr-defined]
    return ""
