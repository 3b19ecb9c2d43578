"""Recurrent: a cell over time."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ..arrays import select, select_values
from ..cell import Cell, check_arguments, check_cell
from ..checks import check_key_or_legacy, check_state, check_switches
from ..engines import Engine, Scan
from ..segments import Segments
from ..unroll import run
from .base import Layer, at_step, first_step, last_step


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Recurrent(Layer):
    """A cell unrolled over time; its parameters and state are the cell's own.

    With a `key`, `apply` draws the noise of cells that have some: from that key where the state given holds none, from the
    state's own keys where it does.
    """

    cell: Cell
    reverse: bool = dataclasses.field(default=False, kw_only=True)
    engine: Engine = dataclasses.field(default=Scan(), kw_only=True)

    pointwise = False

    def __post_init__(self) -> None:
        if not isinstance(self.cell, Cell):
            raise TypeError(f"Recurrent: cell is {self.cell!r}; expected a Cell such as jrnn.LSTM(3, 4)")
        check_cell(self.cell)
        if not isinstance(self.engine, Engine):
            raise TypeError(f"Recurrent: engine is {self.engine!r}; expected an Engine such as jrnn.Scan()")
        check_switches("Recurrent", reverse=self.reverse)

    @property
    def input_size(self) -> Any:
        return self.cell.input_size

    @property
    def output_size(self) -> Any:
        return self.cell.output_size

    @property
    def takes_context(self) -> bool:  # type: ignore[override]
        return self.cell.takes_context

    def bind(self, params: Any, ys: Any, *, lengths: Any = None, mask: Any = None) -> Any:
        return self.cell.bind(params, ys, lengths=lengths, mask=mask) if self.takes_context else params

    def spread(self, params: Any, batch: tuple[int, ...]) -> Any:
        return self.cell.spread(params, batch) if self.takes_context else params  # type: ignore[attr-defined]

    def attention_weights(self, params: Any, before: Any, after: Any) -> tuple[jax.Array, ...]:
        return (self.cell.weights(params, before, after),) if self.takes_context else ()  # type: ignore[attr-defined]

    def init(self, key: jax.Array) -> Any:
        check_key_or_legacy(key)
        return self.cell.init(key)

    def initial_state(self, params: Any, batch: tuple[int, ...] = (), key: jax.Array | None = None) -> Any:
        return self.cell.initial_state(params, batch, key)

    def run(self, params, xs, state, segments, key):
        xs = jnp.asarray(xs)
        batch = check_arguments(self.cell, params, xs, "xs", time=True)
        if state is not None:
            check_state(self.cell, params, state, batch)
        if key is not None:
            state = _completed(state, self.cell.initial_state(params, batch, key))
        return run(self.cell, params, xs, state, segments, reverse=self.reverse, engine=self.engine)

    def run_last(self, params, xs, state, segments, key):
        xs, mask = jnp.asarray(xs), segments.mask
        segments, over = self._until_the_end(segments)
        state, _ = self.run(params, xs, state, segments, key)
        x = self._at_end(xs, mask)
        if mask is None:
            return state, self.cell.readout(params, state, x)
        some = mask.any(0)
        x = select(some, x, jnp.ones_like(x))  # not zeros: log |x| has no derivative there
        y = self.cell.readout(params, state, x)
        if over is not None:
            state = select_values(over, self.cell.initial_state(params, mask.shape[1:]), state)
        return state, select(some, y, jax.tree.map(jnp.zeros_like, y))

    def _until_the_end(self, segments: Segments) -> tuple[Segments, jax.Array | None]:
        """The segments without resets after the last real step of the run, and the rows that have one.

        The output is read from the state at that step; such a reset puts back the state that is returned.
        """
        mask, reset = segments
        if mask is None or reset is None:
            return segments, None
        steps = lax.broadcasted_iota(jnp.int32, mask.shape, 0)
        if self.reverse:
            late = reset & (steps <= jnp.broadcast_to(first_step(mask), mask.shape)) & (steps > 0)
        else:
            late = reset & (steps > jnp.broadcast_to(last_step(mask), mask.shape))
        return Segments(mask, reset & ~late), late.any(0)

    def _at_end(self, ys, mask):
        return at_step(first_step if self.reverse else last_step, ys, mask)

    def step(self, params, state, x, *, key=None):
        if self.reverse:
            raise TypeError(f"{self} runs from the last step to the first and cannot be streamed; use apply")
        return self.cell.step(params, state, x)


def _completed(state: Any, fresh: Any) -> Any:
    """`fresh`, a state with keys for its noise, with all that `state` holds in its place."""
    given = dict(jax.tree_util.tree_leaves_with_path(state))
    return jax.tree_util.tree_map_with_path(lambda path, leaf: given.get(path, leaf), fresh)
