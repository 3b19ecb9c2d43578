"""A cell around another cell: what all wrappers share."""

from typing import Any

import jax

from ..arrays import is_differentiable
from ..cell import Bound, Cell
from ..checks import check_key, describe
from .noise import keys_of_rows


class Wrapper(Cell[Any, Any]):
    """A cell around `cell`, with its sizes, gates and context. Abstract."""

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
    candidate = property(lambda self: self.cell.candidate)  # type: ignore[assignment]
    recurrent = property(lambda self: self.cell.recurrent)  # type: ignore[assignment]
    takes_context = property(lambda self: self.cell.takes_context)  # type: ignore[assignment]

    def made(self, params: Any) -> Any:
        """The parameters of the cell inside, from those of the wrapper: what it computes with."""
        return params if self.inner_params is None else getattr(params, self.inner_params)

    def update(self, params: Any, state: Any, z: Any, r: Any) -> Any:
        return self.update_with_gates(params, state, z, r)[0]

    def bind(self, params: Any, ys: Any, *, lengths: Any = None, mask: Any = None) -> Any:
        return self.cell.bind(params, ys, lengths=lengths, mask=mask)

    def prepare(self, params: Any) -> Any:
        if self.inner_params is None:
            return self.cell.prepare(params)
        own = params.params if isinstance(params, Bound) else params
        inner = getattr(own, self.inner_params)
        ready = self.cell.prepare(inner)
        if ready is inner:
            return params
        own = own._replace(**{self.inner_params: ready})
        return params._replace(params=own) if isinstance(params, Bound) else own

    def spread(self, params: Any, batch: tuple[int, ...]) -> Any:
        """Bound parameters for more batch axes, hypotheses of each row, which share its context."""
        return self.cell.spread(params, batch)  # type: ignore[attr-defined]

    def weights(self, params: Any, before: Any, after: Any) -> jax.Array:
        """Where a step attended to, [*batch, source], from the states before and after it."""
        return self.cell.weights(params, before.cell, after.cell)  # type: ignore[attr-defined]


def check_rate(owner: str, rate: Any) -> None:
    """A rate is a share in [0, 1)."""
    if isinstance(rate, bool) or not isinstance(rate, int | float):
        raise TypeError(f"{owner}: rate is {rate!r}; expected a plain number, a share in [0, 1)")
    if not 0 <= rate < 1:
        raise ValueError(f"{owner}: rate is {rate}; expected a share in [0, 1)")


def divide_key(key: jax.Array | None, batch: tuple[int, ...]) -> tuple[jax.Array | None, jax.Array | None]:
    """A key for the cell inside, and one a row for the masks of the wrapper; none of None."""
    if key is None:
        return None, None
    check_key(key)
    return jax.random.fold_in(key, 0), keys_of_rows(jax.random.fold_in(key, 1), batch)


def map_differentiable(f: Any, *trees: Any) -> Any:
    """`f(index, *leaves)` on the leaves that have a derivative; the last tree's leaf where there is none."""
    leaves = list(zip(*map(jax.tree.leaves, trees), strict=True))
    made = [f(i, *row) if is_differentiable(row[-1]) else row[-1] for i, row in enumerate(leaves)]
    return jax.tree.unflatten(jax.tree.structure(trees[-1]), made)
