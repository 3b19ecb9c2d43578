"""The derivative of a loop as one linear solve.

With r_t = recur(params, s_{t-1}) and s_t = update(params, s_{t-1}, z_t, r_t), the tangents obey

    dr_t - R ds_{t-1} = b_t          ds_t - U_s ds_{t-1} - U_z dz_t - U_r dr_t = c_t

where b, c and dz are what parameters and inputs contribute: a bidiagonal system. Substitution forwards is forward mode;
substitution backwards in the transpose is back-propagation through time, and leaves behind the cotangents of z and r at all
times, so that the gradients of the parameters follow by one large product per weight. R and U are JAX's own derivatives of
`recur` and `update`, taken inside the loop where the state, z and r are known.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.custom_derivatives import SymbolicZero

from ..arrays import (
    by_rows,
    cast_like,
    differentiable,
    halves_to_float32,
    is_half,
    match_varying_axes,
    select,
    with_differentiable,
)
from ..cell import Cell
from . import loops
from .engine import Sequence, Steps, restarted
from .gradient import Made, project, projected, stepped, substitute
from .inside import Inside
from .programs import accumulated, closed, gathered


class Loop(NamedTuple):
    """What is known of the loop beforehand."""

    cell: Cell
    axes: int  # of time and batch
    gates: bool  # z and r are kept
    reverse: bool
    unroll: int


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def solved(loop: Loop, params: Any, state: Any, initial: Any, sequence: Sequence) -> Any:
    """The states after every step."""
    return _run(loop, params, state, initial, sequence)[1][0]


def _run(loop: Loop, params: Any, state: Any, initial: Any, sequence: Sequence) -> tuple[Steps, tuple[Any, Made]]:
    """What the loop reads, and what it leaves behind."""
    cell, _, _, reverse, unroll = loop
    z = named(projected(cell, params, sequence.xs), "gates")
    steps = Steps(z, sequence.real, sequence.restart)
    return steps, substitute(cell, params, state, initial, steps, reverse=reverse, unroll=unroll)[1]


def named(tree: Any, name: str) -> Any:
    """Marked as what may be kept between the passes."""
    return jax.tree.map(lambda a: checkpoint_name(a, name), tree)


class Given(NamedTuple):
    """What a derivative is taken of, but for the state at the start."""

    params: Any
    xs: jax.Array
    initial: Any


@solved.defjvp
def _(loop: Loop, primals: Any, tangents: Any) -> tuple[Any, Any]:
    cell, axes, gates, reverse, unroll = loop
    params, state, initial, sequence = primals
    dparams, dstate, dinitial, dsequence = tangents
    steps, (states, made) = _run(loop, params, state, initial, sequence)
    states = cast_like(named(halves_to_float32(states), "states"), states)  # tiles stack them: see `substitute`
    before = restarted(_shift(state, states, reverse), initial, steps)
    if gates:
        r, inside = named(made, "gates")
    else:
        r = _recur(loop, params, before)
        inside = stepped(cell, params, before, steps.z, r)[1]
    at = At(before, steps, r, inside)
    given = Given(params, sequence.xs, initial)
    dgiven = Given(dparams, dsequence.xs, differentiable(initial, dinitial))
    contributed = closed(functools.partial(_contributed, loop, given, at), dgiven)

    # Depends on all that the system does, so that its derivative has a part in each equation, as `custom_linear_solve` needs it
    # to be transposed; XLA drops it.
    one = jnp.where(False, _any_of((given, differentiable(state))), 1.0)

    # The unknowns: what is given, the state's tangent before the first step, and those of z, r and the state at each.
    def matvec(x: Any) -> Any:
        given, first, *at_each = x
        dz, dr, states = at_each
        ds = _carried(at.steps, _shift(first, states, reverse))
        from_past = jax.vmap(functools.partial(_dr, cell, params))(at, ds)
        from_step = jax.vmap(functools.partial(_ds, cell, params))(at, ds, dz, dr)
        through = jax.tree.map(jnp.zeros_like, dz), from_past, from_step
        at_each = jax.tree.map(lambda a, b, c: a - b - c, tuple(at_each), through, contributed(given))
        return jax.tree.map(lambda a: a * one.astype(a.dtype), (given, first, *at_each))

    def solve(_: Any, b: Any) -> Any:
        def body(params: Any, ds: Any, at_t: Any) -> tuple[Any, Any]:
            at, dz, b, c = at_t
            ds = _carried(at.steps, ds)
            dr = jax.tree.map(jnp.add, _dr(cell, params, at, ds), b)
            ds = jax.tree.map(jnp.add, _ds(cell, params, at, ds, dz, dr), c)
            return ds, (dr, ds)

        given, first, *at_each = b
        dz, b, c = jax.tree.map(jnp.add, tuple(at_each), accumulated(contributed, given))
        options = {"reverse": reverse, "unroll": unroll}
        after = loops.scan(body, params, first, (at, dz, b, c), loops.undifferentiated, **options)[1]
        return given, first, dz, *after

    def transpose_solve(_: Any, g: Any) -> Any:
        def through_update(params: Any, at: At, new: Any) -> Any:
            update = functools.partial(_ds, cell, params, at)
            return jax.linear_transpose(update, differentiable(at.before), at.steps.z, at.r)(new)

        def through_recur(params: Any, at: At, dr: Any) -> Any:
            recur = functools.partial(_dr, cell, params, at)
            return jax.linear_transpose(recur, differentiable(at.before))(dr)[0]

        g_given, g_first, g_z, g_r, g_s = g
        example = loops.one_step(at)
        known, to_all = loops.hoisted(through_update, params, example, loops.one_step(g_s))
        weights, to_past = loops.hoisted(through_recur, params, example, loops.one_step(g_r))
        weights = _transposed_once(weights, rows=math.prod(jax.tree.leaves(state)[0].shape[: axes - 1]))
        shared = Shared()

        def body(ds: Any, at_t: Any) -> tuple[Any, Any]:
            at, g_r, g_s = at_t
            new = lax.optimization_barrier(jax.tree.map(jnp.add, ds, g_s))
            ds, dz, dr = to_all(known, at, new)
            distinct = lax.optimization_barrier(shared.pack((dz, dr)))
            dr = jax.tree.map(jnp.add, shared.unpack(distinct)[1], g_r)
            past = to_past(weights(), at, dr)
            return _carried(at.steps, jax.tree.map(jnp.add, ds, past)), (new, distinct)

        zeros = match_varying_axes(jax.tree.map(jnp.zeros_like, differentiable(state)), state)[0]
        options = {"reverse": not reverse, "unroll": unroll}
        ds, (states, distinct) = loops.undifferentiated(body, zeros, (at, g_r, g_s), **options)
        at_each = *jax.tree.map(jnp.add, shared.unpack(distinct), (g_z, g_r)), states
        (through,) = gathered(jax.linear_transpose(contributed, g_given), at_each)
        return *jax.tree.map(jnp.add, (through, ds), (g_given, g_first)), *at_each

    none = jax.tree.map(jnp.zeros_like, (steps.z, r, differentiable(states)))
    b = _all_alike((dgiven, differentiable(state, dstate), *none))
    dstates = lax.custom_linear_solve(matvec, b, solve, transpose_solve)[-1]
    return states, jax.tree.map(_tangent, with_differentiable(states, dstates))


def _all_alike(tangents: Any) -> Any:
    """The same, but each depends on what any depends on, as `custom_linear_solve` needs it to be transposed; XLA drops it.

    It does so in the default float: XLA's CPU backend would spend seconds on a sum of zeros in a shorter one.
    """
    any_of = _any_of(tangents)
    return jax.tree.map(lambda a: jnp.where(False, any_of, a.astype(float)).astype(a.dtype), tangents)


def _any_of(tree: Any) -> jax.Array:
    """A number that depends on all of it."""
    return functools.reduce(jnp.add, [jnp.sum(jnp.asarray(a).astype(float)) for a in differentiable(tree)])


def _tangent(a: jax.Array) -> Any:
    """A tangent as it is; none, where what it belongs to cannot be differentiated."""
    return a if jnp.issubdtype(a.dtype, jnp.floating) else SymbolicZero(jax.typeof(a).to_tangent_aval())


class At(NamedTuple):
    """Where a step is linearised; leaves [time, *batch, ...], or [*batch, ...] for one step."""

    before: Any  # the state that the step starts from
    steps: Steps
    r: Any  # recur(params, before)
    inside: Inside  # of `update`


def _carried(steps: Steps, ds: Any) -> Any:
    """What of the state's tangent reaches the step: nothing through a restart."""
    return ds if steps.restart is None else select(steps.restart, jax.tree.map(jnp.zeros_like, ds), ds)


def _recur(loop: Loop, params: Any, before: Any) -> Any:
    """r at all times."""
    return by_rows(functools.partial(loop.cell.recur, params), loop.axes, before)


def _contributed(loop: Loop, given: Given, at: At, dgiven: Given) -> tuple[Any, Any, Any]:
    """What parameters and inputs contribute to z, r and the state at each time, the states given.

    A restart contributes through `initial`.
    """
    cell, before = loop.cell, differentiable(at.before)
    dbefore = restarted(jax.tree.map(jnp.zeros_like, before), dgiven.initial, at.steps)
    values, dvalues = (given.params, before), (dgiven.params, dbefore)

    def recur(params: Any, values: Any) -> Any:
        return _recur(loop, params, with_differentiable(at.before, values))

    def update(params: Any, values: Any) -> Any:
        return _update(cell, params, at, values, at.steps.z, at.r)

    return (
        jax.jvp(functools.partial(project, cell), (given.params, given.xs), (dgiven.params, dgiven.xs))[1],
        jax.jvp(recur, values, dvalues)[1],
        jax.jvp(update, values, dvalues)[1],
    )


def _update(cell: Cell, params: Any, at: At, values: Any, z: Any, r: Any) -> Any:
    """What of the new state is differentiable, from the same of the old one."""
    before = with_differentiable(at.before, values)
    new, _ = stepped(cell, params, before, z, r, at.inside)
    return differentiable(new if at.steps.real is None else select(at.steps.real, new, before))


def _dr(cell: Cell, params: Any, at: At, ds: Any) -> Any:
    """The tangent of r, from the state's."""
    return jax.jvp(
        lambda s: cell.recur(params, with_differentiable(at.before, s)), (differentiable(at.before),), (ds,)
    )[1]


def _ds(cell: Cell, params: Any, at: At, ds: Any, dz: Any, dr: Any) -> Any:
    """The tangent of the new state, from those of the old one, z and r."""
    update = functools.partial(_update, cell, params, at)
    return jax.jvp(update, (differentiable(at.before), at.steps.z, at.r), (ds, dz, dr))[1]


class Shared:
    """Stacks an array once that occurs twice in a tree, as the cotangents of z and r do where a cell adds the two."""

    def pack(self, tree: Any) -> list[jax.Array]:
        leaves, self.structure = jax.tree.flatten(tree)
        distinct = {id(leaf): leaf for leaf in leaves}
        self.places = [list(distinct).index(id(leaf)) for leaf in leaves]
        return list(distinct.values())

    def unpack(self, distinct: list[jax.Array]) -> Any:
        return jax.tree.unflatten(self.structure, [distinct[place] for place in self.places])


def _transposed_once(weights: list[jax.Array], rows: int) -> Any:
    """`weights` again, for a loop that multiplies by their transposes: transposed once, before it.

    A product that contracts the weight's last axis is 1.2 to 3 times as slow in a loop; a lone row is the exception, and so are
    16-bit floats, which are multiplied as such only where the weight is as it was.
    """
    if rows == 1 or any(is_half(w.dtype) for w in weights):
        return lambda: weights
    turned = lax.optimization_barrier(jax.tree.map(lambda w: w.swapaxes(-1, -2) if w.ndim > 1 else w, weights))
    return lambda: jax.tree.map(lambda w: w.swapaxes(-1, -2) if w.ndim > 1 else w, turned)


def _shift(first: Any, states: Any, reverse: bool) -> Any:
    """The states before each step."""
    if reverse:
        return jax.tree.map(lambda a, s: jnp.concatenate([s[1:], a[None]]), first, states)
    return jax.tree.map(lambda a, s: jnp.concatenate([a[None], s[:-1]]), first, states)
