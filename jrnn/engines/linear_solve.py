"""The fast derivative of a loop: back-propagation through time as a linear solve."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.custom_derivatives import SymbolicZero

from ..arrays import cast_like, differentiable, is_half, select
from ..cell import Bound
from ..checks import check_positive
from ..xla import on
from ..xla.choices import Choice, Sizes, choose
from ..xla.gates import late_gates
from ..xla.loops import loop, made_once, stackable
from ..xla.products import sums_in_float32
from .gradient import Autodiff, Gradient
from .implicit import Found, implicit
from .linear_system import recurred, updated
from .residuals import Kept
from .solver import Substitution
from .system import Steps, System, traced
from .tiles import tiled


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class LinearSolve(Gradient):
    """Back-propagation as a linear solve, tile by tile of time, so that a tile's arrays stay in the cache.

    - `tile`: steps in a tile; None: chosen on a CPU from the table in `jrnn/xla/choices.py`, all of them elsewhere.
    - `save`: what is kept between the passes. `"gates"`: z and r (their sum, where `update` only adds the two), the
      products inside `update`, those inside `recur` that something nonlinear is made of, and the states. `"states"`: the
      states alone, a quarter to a half of the memory; the rest is computed again by large products. None: chosen on a CPU
      from the same table, the gates elsewhere.

    A cell whose pieces are not a straight line of primitives (control flow, `jax.custom_vjp`, callbacks, checks) is
    differentiated by `Autodiff`, whatever the options say.
    """

    tile: int | None = None
    save: str | None = None

    def __post_init__(self) -> None:
        if self.tile is not None:
            check_positive("LinearSolve", tile=self.tile)
        if self.save not in ("states", "gates", None):
            raise ValueError(f"LinearSolve: save is {self.save!r}; expected 'states', 'gates' or None")

    def states(self, system: System, *, unroll: int) -> tuple[Any, Any]:
        programs = traced(system)
        cell: Any = programs.cell
        if not cell.is_straight or (self == LinearSolve() and cell.is_wide):
            return Autodiff().states(system, unroll=unroll)
        choice = self._choose(programs)
        plain, differentiated = (functools.partial(run, choice, unroll) for run in (_plain, _differentiated))
        return _unless_differentiated(plain, differentiated, programs)

    def _choose(self, system: System) -> Choice:
        time = system.xs.shape[0]
        if not on("tiles") or not isinstance(math.prod(system.xs.shape), int):
            return Choice(self.tile, self.tile, self.save != "states")
        cell: Any = system.cell
        z, r, avals = cell.project_program.out, cell.recur_program.program.out, cell.update_program.avals
        summed = 2 * sum(a.size * _width(system.xs.dtype) for a in avals.sums)
        z, kept = _bytes(z), _bytes((z, r, avals, cell.recur_program.avals)) - summed
        params = system.params.params
        weights = [w for w in jax.tree.leaves(params.params if isinstance(params, Bound) else params) if w.ndim > 1]
        return choose(Sizes(time, z, max(1, kept), _bytes(weights), cell.multiplications), self.tile, self.save)


def _plain(choice: Choice, unroll: int, system: System) -> tuple[Any, Any]:
    """The loop where no derivative is taken."""

    def part(system: System) -> tuple[Any, Any]:
        cell: Any = system.cell
        stacks, read = late_gates(cell.project_program, system.params.closed_over[0], system.params.params, system.xs)
        state, (states,) = _loop(system, Steps(stacks, system.mask, system.restart), unroll, read)
        return state, states

    return _mapped_in_front(tiled(part, system, choice.plain))


def _differentiated(choice: Choice, unroll: int, system: System) -> tuple[Any, Any]:
    """The loop where one is taken."""

    def part(system: System) -> tuple[Any, Any]:
        states = implicit(functools.partial(_find, choice.gates, unroll), Substitution(unroll), system)
        return system.final(states), states

    # Where all is kept a checkpoint would only copy it. A state with noise keys needs one: else JAX asks for the tangents of keys.
    if (
        choice.tile is not None
        or not choice.gates
        or len(differentiable(system.state)) < len(jax.tree.leaves(system.state))
    ):
        names = "states", *(["gates"] if choice.gates else [])
        policy = jax.checkpoint_policies.save_only_these_names(*names)
        part = jax.checkpoint(part, policy=policy, prevent_cse=False)
    return _mapped_in_front(tiled(part, system, choice.tile))


def _mapped_in_front(tree: Any) -> Any:
    """The same, with the axis that `jax.vmap` adds first, as a checkpoint returns it.

    A function with a rule of its own and the rule must agree where it is; JAX does not see to it where it traces one
    and then the other.
    """
    return jax.checkpoint(lambda tree: tree, prevent_cse=False)(tree)


def _find(gates: bool, unroll: int, system: System) -> Found:
    """The states, by a loop, and with `gates` what it made on the way."""
    project = jax.vmap(functools.partial(system.cell.project, system.params))
    steps = Steps(_named(sums_in_float32(project, system.xs), "gates"), system.mask, system.restart)
    states, *made = _loop(system, steps, unroll, gates=gates)[1]
    states = cast_like(_named(stackable(states), "states"), states)  # stacked as float32 by the loop
    return Found(states, steps, *_named(made, "gates"))


def _loop(
    system: System, steps: Steps, unroll: int, read: Callable[[Any], Any] = lambda z: z, *, gates: bool = False
) -> Any:
    """The final state, and after every step the state, with `gates` r and the residuals too.

    A step's z is `read(steps.z)`.
    """

    def body(system: System, state: Any, now: Steps) -> Any:
        before, z = system.before(state, now), read(now.z)
        r, of_recur = recurred(system, before)
        new, of_update = updated(system, before, z, r)
        new = made_once(new if now.mask is None else select(now.mask, new, before), on_any_backend=True)
        return new, (new, r, Kept(of_recur, of_update)) if gates else (new,)

    options: Any = {"reverse": system.reverse, "unroll": unroll, "differentiable": True}
    return loop(body, system, system.state, steps, **options)


def _named(tree: Any, name: str) -> Any:
    """Marked as what may be kept between the passes; a complex number as two real ones, for JAX marks no other."""

    def one(a: jax.Array) -> jax.Array:
        if jax.numpy.iscomplexobj(a):
            return lax.complex(checkpoint_name(a.real, name), checkpoint_name(a.imag, name))
        return checkpoint_name(a, name)

    return jax.tree.map(one, tree)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _unless_differentiated(
    plain: Callable[[System], Any], differentiated: Callable[[System], Any], system: System
) -> Any:
    """`plain(system)`; `differentiated(system)`, which gives the same, where a derivative is taken."""
    return plain(system)


@functools.partial(_unless_differentiated.defjvp, symbolic_zeros=True)
def _(plain: Any, differentiated: Any, primals: Any, tangents: Any) -> Any:
    leaves, structure = jax.tree.flatten(primals[0])
    slopes = jax.tree.leaves(tangents[0])
    moved = [index for index, slope in enumerate(slopes) if not isinstance(slope, SymbolicZero)]

    def states(values: list[Any]) -> Any:
        at = list(leaves)
        for index, value in zip(moved, values, strict=True):
            at[index] = value
        return differentiated(jax.tree.unflatten(structure, at))

    return jax.jvp(states, ([leaves[index] for index in moved],), ([slopes[index] for index in moved],))


def _bytes(tree: Any) -> int:
    """At least 1."""
    return max(1, sum(a.size * _width(a.dtype) for a in jax.tree.leaves(tree)))


def _width(dtype: Any) -> int:
    """Bytes; a CPU has 16-bit floats twice, as they are and as the float32 that it computes with."""
    return dtype.itemsize + 4 * is_half(dtype)
