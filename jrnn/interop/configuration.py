"""A model's hyperparameters as JSON and back: nested frozen dataclasses, each as `{"LSTM": {"input_size": 3, ...}}`."""

import dataclasses
import types
import typing
from typing import Any

import numpy as np

import jrnn

from .. import activations, attention, models, parametrizations, pooling

KINDS: dict[str, type] = {
    name: value
    for module in (jrnn, activations, attention, models, parametrizations, pooling)
    for name, value in vars(module).items()
    if isinstance(value, type) and dataclasses.is_dataclass(value)
}
"""jrnn's own cells, attentions, parametrizations, layers, models and engines by name: the classes that a file may ask for."""


def encode(value: Any, place: str = "model") -> Any:
    """Plain JSON of a dataclass, tuple, string, number, boolean or None; TypeError, naming `place`, of anything else."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        if KINDS.get(kind.__name__, kind) is not kind:
            raise TypeError(f"{place} is a {kind} of the same name as one of jrnn's own; expected another name")
        fields = {field.name: encode(getattr(value, field.name), f"{place}.{field.name}") for field in _fields(kind)}
        return {kind.__name__: fields}
    if isinstance(value, tuple):
        return [encode(part, f"{place}[{index}]") for index, part in enumerate(value)]
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if callable(value):
        raise TypeError(
            f"{place} is the function {value!r:.80}, and a file holds no code; expected a name, such as 'tanh' or 'relu', "
            "or a class of your own around it, to be passed to load(..., known=(...,))"
        )
    raise TypeError(f"{place} is {value!r:.80}; expected a dataclass, tuple, string, number, boolean or None")


def decode(stored: Any, known: tuple[type, ...] = (), place: str = "model") -> Any:
    """What `encode` was given. Only the classes of `KINDS` and `known` are made; ValueError, naming `place`, otherwise."""
    if isinstance(stored, list):
        return tuple(decode(part, known, f"{place}[{index}]") for index, part in enumerate(stored))
    if not isinstance(stored, dict):
        return stored
    if len(stored) != 1 or not isinstance(given := next(iter(stored.values())), dict):
        raise ValueError(f"{place} is {stored!r:.80}; expected one class with its options")
    kind = _kind(next(iter(stored)), known, place)
    hints = _hints(kind)
    names = [field.name for field in _fields(kind)]
    options = {}
    for name, part in given.items():
        if name not in names:
            raise ValueError(
                f"{place}: {kind.__name__} has no option {name!r:.80}; expected some of {', '.join(names)}"
            )
        options[name] = decode(part, known, f"{place}.{name}")
        if name in hints and not _fits(options[name], hints[name]):
            raise ValueError(f"{place}.{name} is {options[name]!r:.80}; {kind.__name__} expects {hints[name]}")
    return kind(**options)


def _kind(name: str, known: tuple[type, ...], place: str) -> type:
    own = {kind.__name__: kind for kind in known}
    for clash in own.keys() & KINDS.keys():
        raise ValueError(f"known has {own[clash]}, of the same name as one of jrnn's own; expected another name")
    kinds = KINDS | own
    if name not in kinds:
        raise ValueError(
            f"{place} is of class {name!r:.80}, which is not one of jrnn's own; if it is yours, pass it: known=(MyCell,)"
        )
    return kinds[name]


def _fields(kind: Any) -> list[dataclasses.Field]:
    return [field for field in dataclasses.fields(kind) if field.init]


def _hints(kind: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(kind)
    except NameError:  # a class made inside a function, whose annotations are out of reach
        return {}


def _fits(value: Any, hint: Any) -> bool:
    """Whether `value` is what a field's annotation asks for; anything fits one that is not made of plain classes."""
    origin = typing.get_origin(hint) or hint
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, part) for part in typing.get_args(hint))
    if origin is Any or not isinstance(origin, type):
        return True
    if isinstance(value, bool):
        return origin in (bool, object)
    return isinstance(value, int | float if origin is float else origin)
