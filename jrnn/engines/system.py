"""One unroll as a recurrence: s_t = step(θ, s_{t-1}, t), restarts and padding included."""

import dataclasses
import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..arrays import halves_to_float32, select, select_values
from ..cell import Cell, fit_state
from ..program import Program, is_straight, largest, multiplications, shapes
from .residuals import Recur, Update


class Steps(NamedTuple):
    """What the steps read; leaves [time, *batch, ...], or [*batch, ...] for one step."""

    z: Any  # project(params, x)
    mask: jax.Array | None  # False where a step is padded: it leaves the state alone
    restart: jax.Array | None  # True where the initial state is put back before the step, in the order of the loop


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["params", "state", "initial", "xs", "mask", "restart"],
    meta_fields=["cell", "reverse", "batch_axes"],
)
@dataclasses.dataclass(frozen=True)
class System:
    """A cell over one sequence, checked and made plain by `unroll`.

    An engine finds the states s_1 .. s_T with s_t = step(s_{t-1}, t), where s_0 is `state`; reversed, time runs
    backwards. It is a pytree of its arrays, so that `jax.jvp`, `jax.vmap` and the like apply to functions of a system.
    """

    cell: Cell
    params: Any  # of the cell
    state: Any  # before the first step, [*batch, ...]
    initial: Any  # what a restart puts back, [*batch, ...]
    xs: jax.Array  # [time, *batch, ...]
    mask: jax.Array | None  # bool [time, *batch], as in Steps
    restart: jax.Array | None
    reverse: bool
    batch_axes: int

    def steps(self) -> Steps:
        """What the steps read, at all times: the projection as one product for all of them."""
        return Steps(jax.vmap(functools.partial(self.cell.project, self.params))(self.xs), self.mask, self.restart)

    def step(self, state: Any, now: Steps) -> tuple[Any, Any]:
        """One step in the form that `jax.lax.scan` takes: the new state, and again as what is stacked."""
        before = self.before(state, now)
        r = self.cell.recur(self.params, before)
        new = self.cell.update(*halves_to_float32((self.params, before, now.z, r)))
        new = fit_state(self.cell, new, before, self.batch_axes)
        new = new if now.mask is None else select(now.mask, new, before)
        return new, new

    def before(self, state: Any, now: Steps) -> Any:
        """The state that a step starts from: the initial one where it restarts.

        A noise key runs on, or the noise would repeat.
        """
        return state if now.restart is None else select_values(now.restart, self.initial, state)

    def shifted(self, states: Any) -> Any:
        """The state before each step, restarts left aside, from the states after every step."""
        return shift(self.state, states, self.reverse)

    def final(self, states: Any) -> Any:
        """The state after the last step of the loop."""
        return jax.tree.map(lambda s: s[0 if self.reverse else -1], states)


def shift(first: Any, states: Any, reverse: bool) -> Any:
    """What was there before each step, from what was there before the first and after every one."""
    if reverse:
        return jax.tree.map(lambda a, s: jnp.concatenate([s[1:], a[None]]), first, states)
    return jax.tree.map(lambda a, s: jnp.concatenate([a[None], s[:-1]]), first, states)


class Arguments(NamedTuple):
    """The parameters of a traced cell."""

    params: Any  # of the cell
    closed_over: tuple[list[Any], list[Any], list[Any]]  # by project, recur and update: values of an outer trace


class TracedCell:
    """A cell whose pieces were traced, once, for one step: programs that can be read, divided and differentiated."""

    def __init__(self, cell: Cell, project: Program, recur: Program, update: Program):
        self.cell = cell
        self.project_program, self.recur_program, self.update_program = project, Recur(recur), Update(update)

    def __repr__(self) -> str:
        return repr(self.cell)

    @property
    def is_straight(self) -> bool:
        """Whether derivatives may be taken piece by piece; see `program.is_straight`."""
        programs = self.project_program, self.recur_program.program, self.update_program.program
        return all(is_straight(program.jaxpr) for program in programs)

    @property
    def is_wide(self) -> bool:
        """Whether a step makes an array more than four times as large as its state, z and r together.

        Made again for the state and for all parameters, as a linear solve does, it would cost more than it takes to
        keep it (attention with a hidden layer over 50 positions: 1.8 times the time).
        """
        programs = self.recur_program.program, self.update_program.program
        made = (largest(program.jaxpr, itertools.chain(*program.inputs[1:])) for program in programs)
        state, z, r = self.update_program.program.inputs[1:]
        return max(made) > 4 * sum(variable.aval.size for variable in (*state, *z, *r))

    @property
    def multiplications(self) -> int:
        """How many the products of one step take, those of its projection included."""
        programs = self.project_program, self.recur_program.program, self.update_program.program
        return sum(multiplications(program.jaxpr) for program in programs)

    def project(self, params: Arguments, x: Any) -> Any:
        return self.project_program(params.closed_over[0], params.params, x)

    def recur(self, params: Arguments, state: Any) -> Any:
        return self.recur_with_residuals(params, state)[0]

    def recur_with_residuals(self, params: Arguments, state: Any, residuals: Any = None) -> Any:
        """`(r, residuals)`; see `residuals.Recur`."""
        return self.recur_program(params.closed_over[1], params.params, state, residuals=residuals)

    def update(self, params: Arguments, state: Any, z: Any, r: Any) -> Any:
        return self.update_with_residuals(params, state, z, r)[0]

    def update_with_residuals(self, params: Arguments, state: Any, z: Any, r: Any, residuals: Any = None) -> Any:
        """`(new state, residuals)`; see `residuals.Update`."""
        program = self.update_program.program
        closed_over = [
            a.astype(variable.aval.dtype) if a.dtype != variable.aval.dtype else a
            for a, variable in zip(params.closed_over[2], program.jaxpr.invars)
        ]
        return self.update_program(closed_over, params.params, state, z, r, residuals=residuals)


def traced(system: System) -> System:
    """The same system, of a traced cell."""
    cell, params, state = system.cell, system.params, system.state
    x = shapes(lambda xs: xs[0], system.xs)
    project, recur = Program(cell.project, params, x), Program(cell.recur, params, state)
    update = Program(cell.update, *_float32_shapes((params, state, project.out, recur.out)))
    closed_over = project.closed_over, recur.closed_over, update.closed_over
    return dataclasses.replace(
        system,
        cell=TracedCell(cell, project, recur, update),  # type: ignore[arg-type]
        params=Arguments(params, closed_over),
    )


def _float32_shapes(tree: Any) -> Any:
    return shapes(halves_to_float32, tree)
