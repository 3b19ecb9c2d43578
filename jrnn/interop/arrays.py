"""What the conversions share: weights by name, checked before any is used; gates in another order."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..cell import Cell
from ..checks import Activation, activation_function, describe


def checked(
    weights: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], owner: Any, name: str
) -> dict[str, np.ndarray]:
    """`weights` as NumPy arrays: exactly the names and shapes of `shapes`, one floating dtype throughout.

    `name` is what the caller's argument is called, `owner` the cell or layer that expects these weights.
    """
    if not isinstance(weights, Mapping):
        raise TypeError(f"{name} is {describe(weights)}; expected a dictionary of arrays by name")
    missing = [key for key in shapes if key not in weights]
    surplus = sorted((key for key in weights if key not in shapes), key=str)
    if missing or surplus:
        raise ValueError(
            f"{name} lacks {some(missing)} and has {some(surplus)} besides; expected "
            f"{', '.join(f'{key} {list(shape)}' for key, shape in shapes.items())} of {owner}"
        )
    arrays = {key: to_numpy(weights[key], f"{name}: {key}") for key in shapes}
    for key, shape in shapes.items():
        if arrays[key].shape != shape:
            raise ValueError(f"{name}: {key} has shape {list(arrays[key].shape)}; expected {list(shape)} of {owner}")
    check_dtypes({key: array.dtype for key, array in arrays.items()}, name)
    return arrays


def check_dtypes(dtypes: Mapping[str, np.dtype], name: str) -> None:
    """One floating dtype throughout, which JAX has switched on."""
    first, dtype = next(iter(dtypes.items()))
    for key, other in dtypes.items():
        if not jnp.issubdtype(other, jnp.floating):
            raise TypeError(f"{name}: {key} has dtype {other}; expected floating numbers")
        if other != dtype:
            raise TypeError(
                f"{name}: {key} has dtype {other} but {first} has {dtype}; expected the same: cast one of the two"
            )
    if jnp.asarray(np.empty(0, dtype)).dtype != dtype:
        raise TypeError(
            f"{name}: {first} has dtype {dtype}, which JAX would round to float32: "
            'call jax.config.update("jax_enable_x64", True) first, or cast the weights yourself'
        )


def some(names: Sequence[str]) -> str:
    """The first few of `names`, none too long, for an error."""
    shown = ", ".join(f"{name!r:.80}" for name in names[:4])
    return (shown or "nothing") + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def to_numpy(value: Any, name: str) -> np.ndarray:
    """`value` as a NumPy array; a tensor of PyTorch's without importing PyTorch."""
    try:
        if hasattr(value, "detach"):
            tensor = value.detach().cpu()
            # NumPy has no bfloat16 of its own, and PyTorch does not know JAX's; float32 holds each of its numbers.
            half = str(tensor.dtype) == "torch.bfloat16"
            value = tensor.float().numpy().astype(jnp.bfloat16) if half else tensor.numpy()
        array = np.asarray(value)
        if array.dtype == object:
            raise TypeError("of no numbers")
        return array
    except Exception as error:
        raise TypeError(f"{name} is {describe(value)}; expected an array ({error!s:.120})") from error


def template(cell: Cell) -> Any:
    """The cell's parameters without their values: None where there is no array, to be filled by `_replace`."""
    return jax.eval_shape(cell.init, jax.random.key(0))


def regroup(array: np.ndarray, order: Iterable[str], wanted: Iterable[str]) -> np.ndarray:
    """The blocks along the last axis, one per gate in `order`, in the order `wanted`."""
    gates = tuple(order)
    blocks = dict(zip(gates, np.split(array, len(gates), -1), strict=True))
    return np.concatenate([blocks[gate] for gate in wanted], -1)


def require(cell: Cell, library: str, **options: tuple[Any, ...]) -> None:
    """Each option of `cell` has one of the values that `library` can express."""
    for option, allowed in _with_cell_activation(cell, options).items():
        value = getattr(cell, option)
        if not any(_same(value, choice) for choice in allowed):
            raise ValueError(
                f"{type(cell).__name__}: {option} is {value!r}, which {library} has no counterpart of; "
                f"expected {' or '.join(map(repr, allowed))}"
            )


def check_alike(cell: Cell, where: str, **options: tuple[Any, Any]) -> None:
    """Each option of `cell` is what the module that is converted has: (what the module calls it, its value).

    Activations, which are functions there, are compared by what they give.
    """
    for option, (name, theirs) in _with_cell_activation(cell, options).items():
        ours = getattr(cell, option)
        if callable(theirs):
            alike, theirs = agree(ours, theirs, option), getattr(theirs, "__name__", theirs)
        else:
            alike = _same(ours, theirs)
        if not alike:
            raise ValueError(
                f"{type(cell).__name__}: {option} is {ours!r}, and {where} has {name} {theirs!r}; expected the same in both"
            )


POINTS: Any = np.concatenate([np.linspace(-8, 8, 65), [-1e4, -100, -20, 20, 100, 1e4]]).astype(np.float32)
"""Where activations are compared: most differ near 0, those that are clipped far from it."""

ROWS: Any = np.linspace(-1, 2, 12, dtype=np.float32).reshape(3, 4) ** 3
"""And where those are that make one number of several, such as softmax: several of a size, on an axis each."""


def agree(ours: Activation, theirs: Callable[[Any], Any], name: str = "activation") -> bool:
    """Whether another library's activation gives what ours does. It may promote and broadcast as it likes."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        functions = activation_function(ours, name), theirs
        pairs = [[to_numpy(f(points), name) for f in functions] for points in (POINTS, ROWS)]
    return all(a.shape == b.shape and np.allclose(a, b, atol=1e-5, equal_nan=True) for a, b in pairs)


def _with_cell_activation(cell: Any, options: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    """Where an LSTM opens on another activation of its cell than its candidate's, which no library but ONNX has: that, too."""
    apart = getattr(cell, "cell_activation", None) is not None and "activation" in options
    return {**options, "cell_activation": options["activation"]} if apart else options


def is_kind(module: Any, *names: str) -> bool:
    """Whether the class of `module`, or one that it is made from, has one of these names: its library need not be imported."""
    return any(kind.__name__ in names for kind in type(module).__mro__)


def is_own(module: Any, library: str, *names: str) -> bool:
    """Whether `module` is of one of these classes of `library` itself: one made from them may compute anything."""
    kind = type(module)
    return kind.__name__ in names and f"{kind.__module__}.".startswith(f"{library}.")


def _same(value: Any, choice: Any) -> bool:
    return value == choice or (callable(value) and isinstance(choice, str) and value is activation_function(choice))


def unsupported(cell: Any, library: str, kinds: Sequence[type[Cell]]) -> TypeError:
    """The error for a cell that `library` does not have."""
    names = ", ".join(kind.__name__ for kind in kinds)
    return TypeError(f"{cell} has no counterpart in {library}; expected one of {names}")
