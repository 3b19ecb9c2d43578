"""A cell around another cell: what all wrappers share."""

from typing import Any

import jax

from ..arrays import is_differentiable
from ..cell import Bound, Cell
from ..checks import check_key, describe


class Wrapper(Cell[Any, Any]):
    """A cell around `cell`, with its sizes, gates and context.

    Abstract; a wrapper's pieces call those of the cell inside.
    """

    cell: Cell

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.cell, Cell):
            raise TypeError(
                f"{type(self).__name__}: cell is {describe(self.cell)}; expected a Cell such as jrnn.LSTM(3, 4)"
            )

    input_size = property(lambda self: self.cell.input_size)  # type: ignore[assignment]
    output_size = property(lambda self: self.cell.output_size)  # type: ignore[assignment]
    gates = property(lambda self: self.cell.gates)  # type: ignore[assignment]
    forget_gate = property(lambda self: self.cell.forget_gate)  # type: ignore[assignment]
    input_gate = property(lambda self: self.cell.input_gate)  # type: ignore[assignment]
    recurrent = property(lambda self: self.cell.recurrent)  # type: ignore[assignment]
    takes_context = property(lambda self: self.cell.takes_context)  # type: ignore[assignment]

    def inside(self, params: Any) -> Any:
        """The parameters of the cell inside, bound to the same context."""
        own, name = (params.params if isinstance(params, Bound) else params), self.inner_params
        own = own if name is None else getattr(own, name)
        return Bound(own, params.context) if isinstance(params, Bound) else own


def check_rate(owner: str, rate: Any) -> None:
    """A rate is a share in [0, 1)."""
    if isinstance(rate, bool) or not isinstance(rate, int | float):
        raise TypeError(f"{owner}: rate is {rate!r}; expected a share in [0, 1)")
    if not 0 <= rate < 1:
        raise ValueError(f"{owner}: rate is {rate}; expected a share in [0, 1)")


def keys_of_rows(key: jax.Array, batch: tuple[int, ...]) -> jax.Array:
    """A key for each row."""
    check_key(key)
    return jax.random.split(key, batch) if batch else key


def split_each(keys: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Each key of an array of keys split in two."""
    pairs = jax.vmap(jax.random.split)(keys.reshape(-1)).reshape((*keys.shape, 2))
    return pairs[..., 0], pairs[..., 1]


def chosen_each(keys: jax.Array, share: float, index: int, shape: tuple[int, ...]) -> jax.Array:
    """A mask of `shape`, drawn from each row's key and `index`: True for a share of the entries."""
    features = shape[keys.ndim :]
    draw = jax.vmap(lambda key: jax.random.bernoulli(jax.random.fold_in(key, index), share, features))
    return draw(keys.reshape(-1)).reshape((*keys.shape, *features))


def map_differentiable(f: Any, *trees: Any) -> Any:
    """`f(index, *leaves)` on the leaves that have a derivative; the last tree's leaf where there is none."""
    leaves = list(zip(*map(jax.tree.leaves, trees), strict=True))
    made = [f(i, *row) if is_differentiable(row[-1]) else row[-1] for i, row in enumerate(leaves)]
    return jax.tree.unflatten(jax.tree.structure(trees[-1]), made)
