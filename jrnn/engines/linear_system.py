"""The derivative of the states as one linear system, which any engine can use.

With r_t = recur(params, s_{t-1}) and s_t = update(params, s_{t-1}, z_t, r_t), the tangents obey

    dr_t - R ds_{t-1} = b_t          ds_t - U_s ds_{t-1} - U_z dz_t - U_r dr_t = c_t

where b, c and dz are what parameters, inputs and the initial state contribute: a bidiagonal system. Substitution
forwards is forward mode; substitution backwards in the transpose is back-propagation through time, and leaves behind
the cotangents of z and r at all times, so that the gradients of the parameters follow by one large product per weight.
R and U are JAX's own derivatives of `recur` and `update`, where the states are known.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..arrays import differentiable, halves_to_float32, match_varying_axes, select, with_differentiable
from ..cell import fit_state
from ..xla.loops import made_once
from ..xla.products import sums_in_float32
from .residuals import Kept, Residuals
from .system import Steps, System


class At(NamedTuple):
    """Where a step is linearised; leaves [time, *batch, ...], or [*batch, ...] for one step."""

    before: Any  # the state that the step starts from
    now: Steps
    r: Any
    residuals: Kept


class Unknowns(NamedTuple):
    """The leaves with a derivative of what a step makes, as tangents or cotangents; None: zero."""

    z: list[Any] | None
    r: list[Any] | None
    state: list[Any] | None


@functools.partial(jax.tree_util.register_dataclass, data_fields=["system", "at"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class LinearSystem:
    """What of a system is linear, around its states."""

    system: System
    at: At

    @property
    def reverse(self) -> bool:
        return self.system.reverse

    def advance(self, at: At, ds: list[Any], b: Unknowns) -> Unknowns:
        """One step: from the tangent of the state before it, and what is contributed, to the tangents after it."""
        dz = [jnp.zeros_like(a) for a in differentiable(at.now.z)] if b.z is None else b.z
        # Zeros vary over no axis of a mesh; what they are added to in `shard_map` does.
        (ds, dz), _ = match_varying_axes((self._through_restart(at, ds), dz), at)
        point = differentiable(at.before), differentiable(at.now.z), differentiable(at.r)
        dr = _plus(jax.jvp(functools.partial(self._recur, at), point[:1], (ds,))[1], b.r)
        new = jax.jvp(functools.partial(self._update, at), point, (ds, dz, dr))[1]
        return Unknowns(dz, dr, _plus(new, b.state))

    def advance_transposed(self, at: At, g: Unknowns) -> tuple[list[Any], Unknowns]:
        """`(cotangent of the state before the step, cotangents of what was contributed)`."""
        point = differentiable(at.before), differentiable(at.now.z), differentiable(at.r)
        ds, dz, dr = jax.vjp(functools.partial(self._update, at), *point)[1](g.state)
        dz, dr = made_once((_plus(dz, g.z), dr))
        dr = _plus(dr, g.r)
        past = jax.vjp(functools.partial(self._recur, at), point[0])[1](dr)[0]
        return self._through_restart(at, _plus(ds, past)), Unknowns(dz, dr, g.state)

    def through(self, at: At, ds: list[Any], dz: list[Any], dr: list[Any]) -> tuple[list[Any], list[Any]]:
        """What tangents of the state before the step, of z and r add to those of r and of the new state."""
        ds = self._through_restart(at, ds)
        point = differentiable(at.before), differentiable(at.now.z), differentiable(at.r)
        from_past = jax.jvp(functools.partial(self._recur, at), point[:1], (ds,))[1]
        return from_past, jax.jvp(functools.partial(self._update, at), point, (ds, dz, dr))[1]

    def contributions(self, params: Any, xs: Any, initial: Any) -> Unknowns:
        """z, r and the new states at all times, given the states: linearised in these three, what they contribute."""
        system = dataclasses.replace(self.system, params=params, xs=xs, initial=initial)
        moves_states = self.moves_states

        def one(x: Any, at: At) -> Unknowns:
            before = system.before(at.before, at.now)
            z, (r, _) = system.cell.project(params, x), recurred(system, before, at.residuals.recur)
            new = LinearSystem(system, at)._new(at, before, at.now.z, at.r) if moves_states else ()
            return Unknowns(differentiable(z), differentiable(r), differentiable(new) if moves_states else None)

        return jax.vmap(one)(xs, self.at)

    @property
    def moves_states(self) -> bool:
        """Whether parameters or initial state contribute to a new state other than by z and r."""
        program = self.system.cell.update_program.program  # type: ignore[attr-defined]
        return self.at.now.restart is not None or bool(program.closed_over) or program.reads(0)

    def _through_restart(self, at: At, ds: list[Any]) -> list[Any]:
        restart = at.now.restart
        return ds if restart is None else select(restart, jax.tree.map(jnp.zeros_like, ds), ds)

    def _recur(self, at: At, values: list[Any]) -> list[Any]:
        return differentiable(recurred(self.system, with_differentiable(at.before, values), at.residuals.recur)[0])

    def _update(self, at: At, values: list[Any], z: list[Any], r: list[Any]) -> list[Any]:
        before = with_differentiable(at.before, values)
        return differentiable(self._new(at, before, with_differentiable(at.now.z, z), with_differentiable(at.r, r)))

    def _new(self, at: At, before: Any, z: Any, r: Any) -> Any:
        new = updated(self.system, before, z, r, at.residuals.update)[0]
        return new if at.now.mask is None else select(at.now.mask, new, before)


def recurred(system: System, before: Any, residuals: Residuals | None = None) -> tuple[Any, Residuals]:
    """A step's r and its residuals."""
    cell: Any = system.cell
    return cell.recur_with_residuals(system.params, before, residuals)


def updated(system: System, before: Any, z: Any, r: Any, residuals: Residuals | None = None) -> tuple[Any, Residuals]:
    """A step's new state, padding left aside, and its residuals."""
    arguments = halves_to_float32((system.params, before, z, r))
    cell: Any = system.cell
    new, found = cell.update_with_residuals(*arguments, residuals)
    return fit_state(cell, new, before, system.batch_axes), found


def _plus(a: list[Any], b: list[Any] | None) -> list[Any]:
    return a if b is None else jax.tree.map(jnp.add, a, b)


def linearised(system: System, states: Any, steps: Steps, r: Any = None, residuals: Any = None) -> LinearSystem:
    """The linear system around states, at all times; `r` and `residuals` are made again where they are None."""
    before = jax.vmap(system.before)(system.shifted(states), steps)
    if r is None or residuals is None:
        made, of_recur = sums_in_float32(jax.vmap(functools.partial(recurred, system)), before)
        r = made if r is None else r
        residuals = Kept(of_recur, jax.vmap(functools.partial(updated, system))(before, steps.z, r)[1])
    return LinearSystem(system, At(before, steps, r, residuals))
