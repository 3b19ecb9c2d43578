"""What an option may be, said by its type and checked once, for every experiment."""

import dataclasses
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any


@dataclasses.dataclass(frozen=True)
class Limit:
    """Part of the type of an option: `Annotated[int, Limit(...)]`."""

    words: str  # what is expected
    holds: Callable[[Any], bool]  # of any value but None


def _is_encoding(name: str) -> bool:
    """Whether it is the name of an encoding of text."""
    try:
        "".encode(name)
    except LookupError:
        return False
    return True


Count = Annotated[int, Limit("at least 1", lambda value: value >= 1)]
Share = Annotated[float, Limit("a share in [0, 1]", lambda value: 0 <= value <= 1)]
Rate = Annotated[float, Limit("a share in [0, 1)", lambda value: 0 <= value < 1)]
NotNegative = Annotated[float, Limit("at least 0", lambda value: value >= 0)]
Encoding = Annotated[str, Limit("an encoding of text, such as utf-8, latin-1 or cp1252", _is_encoding)]
NewFile = Annotated[
    Path,
    Limit("a file in a folder that is there: make it, or choose another", lambda path: path.absolute().parent.is_dir()),
    Limit("another name: this one exists, and nothing is overwritten", lambda path: not path.exists()),
]


def check(config: Any) -> None:
    """ValueError where an option of the dataclass `config` is not what its type says."""
    for name, kind in typing.get_type_hints(type(config), include_extras=True).items():
        check_value(name, getattr(config, name), kind)


def check_value(name: str, value: Any, kind: Any) -> None:
    """ValueError, naming the option of the field `name`, where `value` is not what the type `kind` says."""
    for limit in _limits(kind):
        if value is not None and not limit.holds(value):
            raise ValueError(f"{flag(name)} is {value}; expected {limit.words}")


def check_one(config: Any, *names: str) -> None:
    """ValueError where more than one of these options, which exclude each other, is given."""
    given = [f"{flag(name)} is {getattr(config, name)}" for name in names if getattr(config, name)]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)}; expected one of them: leave the other out")


def flag(name: str) -> str:
    """The option of a field: "--learning-rate" of learning_rate."""
    return f"--{name.replace('_', '-')}"


def _limits(kind: Any) -> Iterator[Limit]:
    """The limits in a type, such as those of Count | None."""
    yield from (one for one in getattr(kind, "__metadata__", ()) if isinstance(one, Limit))
    for part in typing.get_args(kind):
        yield from _limits(part)
