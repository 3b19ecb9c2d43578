"""A model in one safetensors file: its parameters as tensors, its configuration as JSON beside them. No pickle anywhere.

Tensors are named by their place in the parameters, `w_h` for a cell and `layers.0.forward.w_h` for a stack; the number counts
the layers that have parameters. The configuration names classes, and only jrnn's own and those given to `load` are made.
"""

import contextlib
import json
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..arrays import copied
from ..checks import check_params
from .arrays import checked
from .configuration import decode, encode

KEY = "jrnn"
VERSION = 1
DTYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": jnp.bfloat16}


def save(path: str | os.PathLike[str], model: Any, params: Any, *, overwrite: bool = False) -> None:
    """Write a cell, layer or model and its parameters to `path`, all of it or nothing.

    Raises FileExistsError where `path` exists, unless `overwrite`; TypeError or ValueError where `params` is not `model`'s or
    where an option cannot be written, such as an activation that is a function.
    """
    from safetensors.numpy import save as serialise

    path = Path(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists, and nothing is overwritten: choose another, or pass overwrite=True")
    named = _named(params)
    check_params(model, params)
    configuration = json.dumps({"version": VERSION, "model": encode(model)}, allow_nan=False)
    tensors = {name: np.array(array, order="C") for name, array in named.items()}
    _write(path, serialise(tensors, {KEY: configuration}))


def load(path: str | os.PathLike[str], *, known: Iterable[type] = ()) -> tuple[Any, Any]:
    """The model and the parameters that `save` wrote: `(model, params)`, bit for bit.

    `known` holds your own classes, if the model has any: frozen dataclasses, found by their names. Raises OSError where `path`
    cannot be read, and ValueError, naming the file and what is wrong with it, where it is damaged, of another kind, or does
    not fit its own configuration. Loading a file runs no code from it.
    """
    path = Path(path)
    data = path.read_bytes()
    try:
        return _parsed(data, tuple(known))
    except Exception as error:
        raise ValueError(f"{path} cannot be loaded: {error!s:.1000}") from error


def _parsed(data: bytes, known: tuple[type, ...]) -> tuple[Any, Any]:
    from safetensors import deserialize

    found = deserialize(data)  # checks the header: sizes, overlaps, gaps, shapes against bytes
    model = decode(_configuration(data), known)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    arrays = checked(
        {name: _array(name, tensor) for name, tensor in found},
        {name: want.shape for name, want in _named(shapes).items()},
        model,
        "the file",
    )
    params = jax.tree.unflatten(jax.tree.structure(shapes), copied(list(arrays.values())))
    check_params(model, params)
    return model, params


def _array(name: str, tensor: dict[str, Any]) -> np.ndarray:
    if tensor["dtype"] not in DTYPES:
        raise ValueError(f"the file: {name!r:.80} has dtype {tensor['dtype']}; expected one of {', '.join(DTYPES)}")
    return np.frombuffer(tensor["data"], DTYPES[tensor["dtype"]]).reshape(tensor["shape"])


def _configuration(data: bytes) -> Any:
    """The model's part of a valid header: its length in the first 8 bytes, then JSON."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")], object_pairs_hook=_unique)
    text = header.get("__metadata__", {}).get(KEY)
    if text is None:
        raise ValueError(
            "it has no configuration of jrnn's; expected a file that jrnn.interop.save wrote: read another by "
            "safetensors.numpy.load_file and convert its arrays"
        )
    stored = json.loads(text, object_pairs_hook=_unique)
    if not isinstance(stored, dict) or stored.get("version") != VERSION or "model" not in stored:
        raise ValueError(f"its configuration is {stored!r:.80}; expected version {VERSION} and a model")
    return stored["model"]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON allows a name twice and safetensors takes the last."""
    entries = dict(pairs)
    if len(entries) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"its header has the name {twice!r:.80} twice")
    return entries


def _named(params: Any) -> dict[str, Any]:
    """Leaves by their place: fields by name, the entries of a stack's tuple as `layers.N`."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    if not leaves:
        raise ValueError("the model has no parameters; expected one with a recurrent layer")
    names = [".".join(_word(key) for key in path) or "value" for path, _ in leaves]
    if len(set(names)) < len(names):
        raise ValueError(f"params has two leaves of one name among {names}; expected names without dots")
    return dict(zip(names, (leaf for _, leaf in leaves), strict=True))


def _word(key: Any) -> str:
    if isinstance(key, jax.tree_util.SequenceKey):
        return f"layers.{key.idx}"
    return str(getattr(key, "name", getattr(key, "key", key)))


def _write(path: Path, data: bytes) -> None:
    """Beside the target first, then renamed: a process killed at any moment leaves the old file or the new one."""
    partial = path.with_name(f"{path.name}.{secrets.token_hex(8)}.partial")
    try:
        with partial.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()
