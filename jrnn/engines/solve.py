"""The fast derivative of a loop: in how many tiles of time its linear system is solved, and what is kept for it."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax

from ..arrays import differentiable, is_half
from ..cell import Cell
from ..checks import check_positive
from .engine import Sequence, Steps
from .gradient import Gradient, dividing, read_late, stepped, substitute, tiled
from .inside import Inside
from .system import Loop, solved


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class LinearSolve(Gradient):
    """Back-propagation as a linear solve, tile by tile of time, so that a tile's arrays stay in the cache.

    - `tile`: the number of steps in a tile; None: all of them, except on a CPU where that is slower: where a derivative would
      keep more than 7 MiB (or than the weights take), or a run without one would make a z of more than 8 MiB. Then as many as
      keep z within 1.5 MiB, or half of what the weights take.
    - `save`: what is kept between the passes. `"gates"`: z and r (their sum, where `update` only adds the two), the products
      inside `update` and the states. `"states"`: the states alone, a quarter to a half of the memory; the rest is computed
      again by large products. None: the gates, except on a CPU where the fresh memory that they need would cost more time
      than the products: many steps of less than about 200 units.
    """

    tile: int | None = None
    save: str | None = None

    def __post_init__(self) -> None:
        if self.tile is not None:
            check_positive("LinearSolve", tile=self.tile)
        if self.save not in ("states", "gates", None):
            raise ValueError(f"LinearSolve: save is {self.save!r}; expected 'states', 'gates' or None")

    def states(self, cell, params, state, initial, sequence, *, reverse, unroll):
        without, tile, gates = self._choose(cell, params, sequence.xs)

        def plain(params: Any, state: Any, initial: Any, sequence: Sequence) -> tuple[Any, Any]:
            def part(state: Any, part: Sequence) -> tuple[Any, Any]:
                stacks, read = read_late(cell, params, part.xs)
                steps = Steps(stacks, part.real, part.restart)
                options = {"reverse": reverse, "unroll": unroll, "read": read}
                state, (states, _) = substitute(cell, params, state, initial, steps, **options)
                return state, states

            return tiled(part, state, sequence, without, reverse=reverse)

        def differentiated(params: Any, state: Any, initial: Any, sequence: Sequence) -> tuple[Any, Any]:
            def part(params: Any, state: Any, initial: Any, sequence: Sequence) -> tuple[Any, Any]:
                loop = Loop(cell, sequence.xs.ndim - 1, gates, reverse, unroll)
                states = solved(loop, params, state, initial, sequence)
                return jax.tree.map(lambda a: a[0 if reverse else -1], states), states

            # Where nothing is to be computed again it would only copy what is kept; but what has no derivative (a key) needs it.
            if not (tile is None and gates and len(differentiable(state)) == len(jax.tree.leaves(state))):
                kept = jax.checkpoint_policies.save_only_these_names("states", *(["gates"] if gates else []))
                part = jax.checkpoint(part, policy=kept, prevent_cse=False)
            return tiled(lambda s, q: part(params, s, initial, q), state, sequence, tile, reverse=reverse)

        return _unless_differentiated(plain, differentiated, params, state, initial, sequence)

    def _choose(self, cell: Cell, params: Any, xs: jax.Array) -> tuple[int | None, int | None, bool]:
        """The steps in a tile (None: all) without and with a derivative, and whether the gates are kept for that."""
        time = xs.shape[0]
        if jax.default_backend() != "cpu" or not isinstance(xs.size, int):
            return self.tile, self.tile, self.save != "states"
        step = jax.ShapeDtypeStruct(xs.shape[1:], xs.dtype)
        z, r, inside = jax.eval_shape(functools.partial(_one_step, cell), params, step)
        kept = _bytes((z, r, inside)) - 2 * sum(a.size * _width(xs.dtype) for a in inside.sums)  # in place of two
        z = _bytes(z)
        weights = _bytes([w for w in jax.tree.leaves(params) if w.ndim > 1])
        # Calls that took 34 MiB were a quarter slower than those of 29: as if they got fresh pages each time. All steps at once
        # take up to four and a quarter times what a derivative keeps, tiles twice what it keeps. Above, keeping it was slower
        # than computing it again at 64 FLOP per byte of z and r, and faster at 128.
        whole = time * kept <= max(7 * 2**20, weights)
        again = weights / _width(xs.dtype) * math.prod(xs.shape[1:-1]) / z  # FLOP per byte of z and r, made once more
        gates = self.save == "gates" if self.save else whole or 5 * time * kept < 2**26 or again > 100
        if self.tile or (whole and gates):
            return self.tile, self.tile, gates
        # Where only the states are kept, the tile itself should not take much either.
        most = max(4, min(max(3 * 2**19, weights // 2) // z, time if gates else time // 16))
        tile = dividing(time, most)
        # Without a derivative all steps at once were 1.02 to 1.26 times as fast for a z of 6 to 8 MiB, 0.9 to 1.07 above.
        return None if time * z <= 2**23 else tile, tile, gates


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _unless_differentiated(plain: Callable[..., Any], differentiated: Callable[..., Any], *arguments: Any) -> Any:
    """`plain(*arguments)`; `differentiated(*arguments)`, which gives the same, where a derivative is taken."""
    return plain(*arguments)


@_unless_differentiated.defjvp
def _(plain: Any, differentiated: Any, primals: Any, tangents: Any) -> Any:
    return jax.jvp(differentiated, primals, tangents)


def _one_step(cell: Cell, params: Any, x: jax.Array) -> tuple[Any, Any, Inside]:
    """z, r, and what is inside the update."""
    state = cell.initial_state(params, x.shape[:-1])
    z, r = cell.project(params, x), cell.recur(params, state)
    return z, r, stepped(cell, params, state, z, r)[1]


def _bytes(tree: Any) -> int:
    """At least 1."""
    return max(1, sum(a.size * _width(a.dtype) for a in jax.tree.leaves(tree)))


def _width(dtype: Any) -> int:
    """Bytes; a CPU has 16-bit floats twice, as they are and as the float32 that it computes with."""
    return dtype.itemsize + 4 * is_half(dtype)
