"""What happens inside the cells of a model: each is wrapped in one that keeps something of its update in its state."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ..arrays import halves_to_float32
from ..cell import Cell
from ..cells.wrapper import Wrapper
from ..layers import Layer
from .states import begin, run

Record = Callable[[Cell, Any, Any, Any, Any], tuple[Any, dict[str, jax.Array]]]
"""`record(cell, params, state, z, r)`: the new state, and what is kept of the step, by name."""


@functools.partial(jax.tree_util.register_dataclass, data_fields=["cell", "kept"], meta_fields=["of"])
@dataclasses.dataclass(frozen=True)
class RecordedState:
    cell: Any  # of the cell inside
    kept: dict[str, jax.Array]  # of the last step, [*batch, ...]
    of: Cell  # the cell itself


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Recorded(Wrapper):
    """The cell, which also keeps in its state what `record` makes of each update."""

    cell: Cell
    record: Record

    def init(self, key: jax.Array) -> Any:
        return self.cell.init(key)

    def initial_state(self, params: Any, batch: tuple[int, ...] = (), key: jax.Array | None = None) -> RecordedState:
        state = self.cell.initial_state(params, batch, key)

        def kept(params: Any, state: Any) -> dict[str, jax.Array]:
            x = jnp.zeros((*batch, *self.cell.input_shape), jax.tree.leaves(params)[0].dtype)
            z, r = self.cell.project(params, x), self.cell.recur(params, state)
            return self.record(self.cell, *halves_to_float32((params, state, z, r)))[1]

        zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(kept, params, state))
        return RecordedState(state, zeros, self.cell)

    def project(self, params: Any, x: jax.Array) -> Any:
        return self.cell.project(params, x)

    def recur(self, params: Any, state: RecordedState) -> Any:
        return self.cell.recur(params, state.cell)

    def update_with_gates(
        self, params: Any, state: RecordedState, z: Any, r: Any
    ) -> tuple[RecordedState, dict[str, Any]]:
        new, kept = self.record(self.cell, params, state.cell, z, r)
        return RecordedState(new, kept, self.cell), {}

    def readout(self, params: Any, state: RecordedState, x: jax.Array) -> Any:
        return self.cell.readout(params, state.cell, x)


def recorded(record: Record, model: Any, params: Any, xs: Any, state: Any) -> dict[str, tuple[Cell, str, jax.Array]]:
    """What `record` keeps of every step of a run, [time, *batch, ...], with its cell and its name there, by its name in the model.

    In a layer of several cells that begins with the place of the cell in the state: "0.f", "1.f".
    """
    batch, own = begin(model, params, xs, state)
    around = _around_cells(model, record)
    first = around.initial_state(params, batch)
    # The state given, in the place of that of each cell: it may hold keys that the initial one does not.
    first = jax.tree.map(
        lambda place, given: dataclasses.replace(place, cell=given) if _is_recorded(place) else given,
        first,
        own,
        is_leaf=_is_recorded,
    )
    _, states = run(around, params, xs, first)
    found = {}
    for path, place in jax.tree_util.tree_leaves_with_path(states, is_leaf=_is_recorded):
        if _is_recorded(place):
            at = jax.tree_util.keystr(path, simple=True, separator=".")
            order = [*place.of.gates, *place.kept]  # a dictionary that went through JAX is sorted
            for name in sorted(place.kept, key=order.index):
                found[f"{at}.{name}" if at else name] = (place.of, name, place.kept[name])
    return found


def innermost(cell: Any) -> Cell:
    """The cell inside all wrappers."""
    return innermost(cell.cell) if isinstance(getattr(cell, "cell", None), Cell) else cell


def _is_recorded(place: Any) -> bool:
    return isinstance(place, RecordedState)


def _around_cells(model: Any, record: Record) -> Any:
    """`model`, in which each cell is wrapped."""
    if isinstance(model, Cell):
        return Recorded(model, record)
    if isinstance(model, tuple):
        return tuple(_around_cells(part, record) for part in model)
    if not isinstance(model, Layer) or not dataclasses.is_dataclass(model):
        return model
    parts = {field.name: getattr(model, field.name) for field in dataclasses.fields(model) if field.init}
    changed = {name: _around_cells(part, record) for name, part in parts.items()}
    if all(changed[name] is part for name, part in parts.items()):
        return model
    return dataclasses.replace(model, **changed)
