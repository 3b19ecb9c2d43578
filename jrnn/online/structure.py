"""Which parameters and states of a cell belong to one unit."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .. import initializers
from ..arrays import at_least_float32, differentiable, halves_to_float32, match_varying_axes, with_differentiable
from ..cell import Cell, fit_state
from ..cells.wrapper import Wrapper


class Structure(NamedTuple):
    """What is known of a cell, whatever its parameters are."""

    units: int  # the size of every leaf of the state
    own: tuple[bool, ...]  # for each leaf of the parameters: each entry moves one unit, which its last axis counts
    recurrent: bool  # a unit's way to itself through `recur` is the diagonal of its recurrent weights


class Ready(NamedTuple):
    """What `Apart` makes of parameters, once a run."""

    all: Any
    own: Any  # without the recurrent weights between units; None: nothing goes through `recur`


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Apart(Wrapper):
    """`cell`, in whose derivative units are apart: through `recur` the state of one reaches its own next one alone, or none."""

    cell: Cell
    itself: bool  # whether a unit reaches itself by its own recurrent weights

    inner_params = None

    def init(self, key: jax.Array) -> Any:
        return self.cell.init(key)

    def prepare(self, params: Any) -> Any:
        if isinstance(params, Ready):
            return params
        if not self.itself:
            return Ready(self.cell.prepare(params), None)
        own = initializers.diagonal(self.cell, params) if self.cell.recurrent else params
        return Ready(self.cell.prepare(params), lax.stop_gradient(self.cell.prepare(own)))

    def initial_state(self, params: Any, batch: tuple[int, ...] = (), key: jax.Array | None = None) -> Any:
        return self.cell.initial_state(self.prepare(params).all, batch, key)

    def project(self, params: Any, x: jax.Array) -> Any:
        return self.cell.project(self.prepare(params).all, x)

    def recur(self, params: Any, state: Any) -> Any:
        ready = self.prepare(params)
        r = self.cell.recur(ready.all, lax.stop_gradient(state))
        if not self.itself:
            return r
        to_itself = self.cell.recur(ready.own, state)
        return jax.tree.map(lambda r, a: r + (a - lax.stop_gradient(a)), r, to_itself)

    def update(self, params: Any, state: Any, z: Any, r: Any) -> Any:
        return self.cell.update(self.prepare(params).all, state, z, r)

    def readout(self, params: Any, state: Any, x: jax.Array) -> Any:
        return self.cell.readout(self.prepare(params).all, state, x)


def along_leaves(
    found: Structure, made: list[jax.Array], back: Callable[[list[jax.Array]], Any]
) -> list[tuple[Any, Any]]:
    """What parameters, and what each leaf of a state before, did to each leaf `made` of the state after, unit by unit.

    `back` is the transposed derivative: cotangents of `made` -> those of the parameters and of the leaves before. As each entry
    moves one unit, one pass back for all units tells each one's.
    """

    def along(leaf: int, v: jax.Array) -> tuple[list[jax.Array], Any]:
        return jax.tree.map(lambda d: d.astype(at_least_float32(d.dtype)), back(_at(made, leaf, v)))

    def one(leaf: int) -> tuple[list[jax.Array], Any]:
        at_once, factors = along(leaf, jnp.ones(found.units))
        each = at_once if all(found.own) else jax.vmap(lambda v: along(leaf, v)[0])(jnp.eye(found.units))
        return [a if own else b for own, a, b in zip(found.own, at_once, each, strict=True)], factors

    return [one(leaf) for leaf in range(len(made))]


def per_unit(factors: jax.Array, e: jax.Array, own: bool) -> jax.Array:
    """A number for each unit [n] times a trace: [*param], whose last axis is blocks of units, where `own`, else [n, *param].

    The numbers are repeated by a concatenation, which XLA's CPU backend does not make part of the product: of a reshape it would,
    and divide for each entry, to find its unit. With a trace in blocks a step of an LSTM of 128 units took 1.6 times as long.
    """
    repeated = (
        jnp.concatenate([factors] * (e.shape[-1] // factors.size)) if own else factors.reshape(-1, *(1,) * (e.ndim - 1))
    )
    return e * jnp.broadcast_to(repeated, e.shape)


def sum_per_unit(a: jax.Array, units: int) -> jax.Array:
    """For each unit [n] the sum of an array [*param], whose last axis is blocks of units. Its transpose concatenates."""
    return functools.reduce(jnp.add, jnp.split(a.sum(tuple(range(a.ndim - 1))), a.shape[-1] // units))


@functools.lru_cache(maxsize=256)
def structure(cell: Cell) -> Structure | str:
    """Found by trying: what moves one unit alone takes that unit's random number, and nothing else does. Or why there is none."""
    params = jax.eval_shape(cell.init, jax.random.key(0))
    state = jax.eval_shape(cell.initial_state, params)
    floats = differentiable(state)
    if any(jnp.iscomplexobj(a) for a in floats):
        return "its state is complex"
    if len(shapes := {a.shape for a in floats}) != 1 or len(shape := shapes.pop()) != 1:
        return f"its state has arrays of {[list(a.shape) for a in floats]}, where each should have one entry a unit"
    rng, (units,) = np.random.default_rng(0), shape

    def draw(a: Any) -> np.ndarray:
        return np.asarray(rng.standard_normal(a.shape) if jnp.issubdtype(a.dtype, jnp.inexact) else 0, a.dtype)

    x = np.abs(draw(jax.ShapeDtypeStruct(cell.input_shape, floats[0].dtype))) + 0.1  # positive: a time step, maybe
    arguments = *jax.tree.map(draw, (params, state)), x.astype(floats[0].dtype), draw(floats[0])
    with jax.ensure_compile_time_eval():
        pointwise, own = jax.jit(functools.partial(_try_pieces, cell))(*arguments)
        if not pointwise:
            return "its update mixes units"
        try:
            recurrent = jax.jit(functools.partial(_try_diagonal, cell))(*arguments[:3])
        except ValueError:  # the recurrent weights are not square blocks
            recurrent = False
        return Structure(units, tuple(map(bool, own)), bool(recurrent))


def _try_pieces(cell: Cell, params: Any, state: Any, x: jax.Array, numbers: jax.Array) -> tuple[jax.Array, list[Any]]:
    """Whether `update` keeps units apart, and for each leaf of the parameters whether each entry moves one unit."""
    floats, z, r = differentiable(state), cell.project(params, x), cell.recur(params, state)
    parts, units = jax.tree.leaves(r), numbers.size

    def update(v: list[jax.Array], parts: list[jax.Array]) -> list[jax.Array]:
        return _updated(
            cell, params, with_differentiable(state, v), z, jax.tree.unflatten(jax.tree.structure(r), parts)
        )

    ways = [lambda v, leaf=leaf: (_at(floats, leaf, v), _at(parts, None, v)) for leaf in range(len(floats))]
    pointwise = all(a.ndim == 1 and a.size % units == 0 for a in parts)
    for leaf, a in enumerate(parts if pointwise else ()):
        ways.append(lambda v, leaf=leaf, a=a: (_at(floats, None, v), _at(parts, leaf, jnp.tile(v, a.size // units))))
    kept = [jnp.array(pointwise)]
    for way in ways:
        once, drawn = (jax.jvp(update, (floats, parts), way(v))[1] for v in (jnp.ones_like(numbers), numbers))
        kept += [_alike(numbers * a, b) for a, b in zip(once, drawn, strict=True)]

    own = [jnp.array(a.ndim > 0 and a.shape[-1] % units == 0) for a in differentiable(params)]
    for f in (lambda p: cell.step(p, state, x)[0], cell.initial_state):
        _, back = jax.vjp(lambda p, f=f: differentiable(f(with_differentiable(params, p))), differentiable(params))
        for leaf in range(len(floats)):
            once, drawn = (back(_at(floats, leaf, v))[0] for v in (jnp.ones_like(numbers), numbers))
            for i, (a, b) in enumerate(zip(once, drawn, strict=True)):
                if a.ndim and a.shape[-1] % units == 0:
                    own[i] &= _alike(per_unit(numbers, a, True), b)
    return jnp.stack(kept).all(), own


SAMPLED = 64
"""Units of which the derivative with respect to themselves is computed in full."""


def _try_diagonal(cell: Cell, params: Any, state: Any, x: jax.Array) -> jax.Array:
    """Whether the factors are those on the diagonal of the full derivative of a step."""
    floats = differentiable(state)
    sampled = np.random.default_rng(1).permutation(floats[0].size)[:SAMPLED]
    basis = jnp.eye(floats[0].size, dtype=floats[0].dtype)[sampled]

    def step(v: list[jax.Array]) -> list[jax.Array]:
        return differentiable(cell.step(params, with_differentiable(state, v), x)[0])

    def factors(step: Any, v: jax.Array, source: int) -> list[jax.Array]:
        return jax.jvp(step, (floats,), (_at(floats, source, v),))[1]

    def apart(v: list[jax.Array]) -> list[jax.Array]:
        return differentiable(Apart(cell, True).step(params, with_differentiable(state, v), x)[0])

    found = []
    for source, like in enumerate(floats):
        of_units = factors(apart, jnp.ones_like(like), source)
        full = jax.vmap(lambda v, source=source: factors(step, v, source))(basis)
        for a, rows in zip(of_units, full, strict=True):
            found.append(_alike(a[sampled], jnp.take_along_axis(rows, sampled[:, None], 1)[:, 0]))
    return jnp.stack(found).all()


def _updated(cell: Cell, params: Any, state: Any, z: Any, r: Any) -> list[jax.Array]:
    return differentiable(fit_state(cell, cell.update(*halves_to_float32((params, state, z, r))), state, 0))


def _at(like: list[jax.Array], leaf: int | None, v: jax.Array) -> list[jax.Array]:
    """Zeros like these, but `v` at one of them; varying over the axes of a mesh as they do."""
    made = [v.astype(a.dtype) if i == leaf else jnp.zeros_like(a) for i, a in enumerate(like)]
    return match_varying_axes(made, like)[0]


def _alike(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.max(jnp.abs(a - b), initial=0) <= 1e-4 * jnp.max(jnp.abs(b), initial=0)
