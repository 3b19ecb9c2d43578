"""The derivative of a loop as one linear solve.

With s_t = f(params, s_{t-1}, z_t), a tangent obeys ds_t - J_t ds_{t-1} = b_t, where b_t is what parameters and inputs
contribute at t: a bidiagonal system. Substitution forwards is forward mode; substitution backwards in the transpose is
back-propagation through time. b is one map over all times at once, so its transpose is one large product per weight, and the
backward loop carries the state's cotangent alone.

For a cell whose `update` is pointwise, J_t is the product of `recur` and of a few factors per unit, which one vectorised
sweep computes for all times before the loop; other cells are differentiated by JAX inside it.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import Literal

from ..cell import Cell
from ..checks import positive, select, vary_alike
from .engine import Sequence, Steps, restarted
from .gradient import Autodiff, Gradient, substitute, tiled


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class LinearSolve(Gradient):
    """Back-propagation as a linear solve, tile by tile of time, so that a tile's arrays stay in the cache.

    Between the passes the states are kept, and a tile's z and r are computed again by large products; with `save="gates"` z
    and r are kept too. States that are not differentiable throughout (noise keys) fall back to `Autodiff`.
    """

    tile: int = 8
    save: str = "states"

    def __post_init__(self) -> None:
        positive("LinearSolve", tile=self.tile)
        if self.save not in ("states", "gates"):
            raise ValueError(f"LinearSolve: save is {self.save!r}; expected 'states' or 'gates'")

    def states(self, cell, params, state, initial, sequence, *, reverse, unroll):
        if not all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(state)):
            return Autodiff().states(cell, params, state, initial, sequence, reverse=reverse, unroll=unroll)

        def part(params: Any, state: Any, initial: Any, sequence: Sequence) -> tuple[Any, Any]:
            steps = Steps(cell.project(params, sequence.xs), sequence.real, sequence.restart)
            steps = steps._replace(z=_named(steps.z, "gates"))
            states = _states(cell, self.save == "gates", reverse, unroll, params, state, initial, steps)
            return jax.tree.map(lambda a: a[0 if reverse else -1], states), states

        kept = jax.checkpoint_policies.save_only_these_names("states", *(["gates"] if self.save == "gates" else []))
        part = jax.checkpoint(part, policy=kept, prevent_cse=False)
        return tiled(lambda s, q: part(params, s, initial, q), state, sequence, self.tile, reverse=reverse)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2, 3))
def _states(
    cell: Cell, gates: bool, reverse: bool, unroll: int, params: Any, state: Any, initial: Any, steps: Steps
) -> Any:
    """The states after every step."""
    return substitute(cell, params, state, initial, steps, reverse=reverse, unroll=unroll)[1][0]


def _named(tree: Any, name: str) -> Any:
    """Marked as what may be kept between the passes."""
    return jax.tree.map(lambda a: checkpoint_name(a, name), tree)


@_states.defjvp
def _(cell: Cell, gates: bool, reverse: bool, unroll: int, primals: Any, tangents: Any) -> tuple[Any, Any]:
    params, state, initial, steps = primals
    dparams, dstate, dinitial, dsteps = tangents
    _, (states, r) = substitute(cell, params, state, initial, steps, reverse=reverse, unroll=unroll)
    states = _named(states, "states")
    before = restarted(_shift(state, states, reverse), initial, steps)
    r = _named(r, "gates") if gates else cell.recur(params, before)

    def step(params: Any, before: Any, z: Any, r: Any) -> Any:
        new = cell.update(params, before, z, r)
        return new if steps.real is None else select(steps.real, new, before)

    # What parameters and inputs contribute at each time, the state given; a restart contributes through `initial`.
    dbefore = restarted(jax.tree.map(jnp.zeros_like, before), dinitial, steps)
    dr = jax.jvp(cell.recur, (params, before), (dparams, dbefore))[1]
    b = jax.jvp(step, (params, before, steps.z, r), (dparams, dbefore, dsteps.z, dr))[1]
    local = Step(before, steps, _linearised(cell, params, before, steps.z, r))
    push = functools.partial(_push, cell, params)
    zeros = vary_alike(jax.tree.map(jnp.zeros_like, state), state)[0]

    def matvec(x: Any) -> Any:
        return jax.tree.map(jnp.subtract, x, jax.vmap(push)(local, _shift(zeros, x, reverse)))

    def solve(_: Any, b: Any) -> Any:
        def body(x: Any, at: Any) -> tuple[Any, Any]:
            x = jax.tree.map(jnp.add, push(at[0], x), at[1])
            return x, x

        return lax.scan(body, zeros, (local, b), reverse=reverse)[1]

    def transpose_solve(_: Any, g: Any) -> Any:
        def body(x: Any, at: Any) -> tuple[Any, Any]:
            cotangent = lax.optimization_barrier(jax.tree.map(jnp.add, x, at[1]))
            (x,) = jax.linear_transpose(functools.partial(push, at[0]), zeros)(cotangent)
            return x, cotangent

        return lax.scan(body, zeros, (local, g), reverse=not reverse)[1]

    first = -1 if reverse else 0
    carried = push(jax.tree.map(lambda a: a[first], local), dstate)
    b = jax.tree.map(lambda b, c: b.at[first].add(c), b, carried)
    return states, lax.custom_linear_solve(matvec, b, solve, transpose_solve)


class Step(NamedTuple):
    """What a tangent meets at each step; leaves [time, *batch, ...], or [*batch, ...] for one step."""

    before: Any  # the state that the step starts from
    steps: Steps
    update: Any  # the linearised update: see `_linearised`


def _push(cell: Cell, params: Any, at: Step, ds: Any) -> Any:
    """J_t ds."""
    if at.steps.restart is not None:
        ds = select(at.steps.restart, jax.tree.map(jnp.zeros_like, ds), ds)
    r, dr = jax.jvp(lambda s: cell.recur(params, s), (at.before,), (ds,))
    if at.update is None:
        new = jax.jvp(lambda s, r: cell.update(params, s, at.steps.z, r), (at.before, r), (ds, dr))[1]
    else:
        new = at.update(ds, dr)
    return new if at.steps.real is None else select(at.steps.real, new, ds)


def _shift(first: Any, states: Any, reverse: bool) -> Any:
    """The states before each step."""
    if reverse:
        return jax.tree.map(lambda a, s: jnp.concatenate([s[1:], a[None]]), first, states)
    return jax.tree.map(lambda a, s: jnp.concatenate([a[None], s[:-1]]), first, states)


@functools.partial(jax.tree_util.register_dataclass, data_fields=["factors"], meta_fields=["inputs", "structure"])
@dataclasses.dataclass(frozen=True)
class Pointwise:
    """A pointwise linear map from (ds, dr) to ds: for each output the inputs that it depends on, and a factor for each."""

    factors: tuple[tuple[jax.Array, ...], ...]  # [..., hidden], or [..., blocks, hidden] for an input of several blocks
    inputs: tuple[tuple[int, ...], ...]
    structure: Any

    def __call__(self, ds: Any, dr: Any) -> Any:
        leaves = jax.tree.leaves((ds, dr))
        outputs = []
        for factors, inputs in zip(self.factors, self.inputs, strict=True):
            terms = [_scaled(factor, leaves[index]) for factor, index in zip(factors, inputs, strict=True)]
            outputs.append(functools.reduce(jnp.add, terms))
        return jax.tree.unflatten(self.structure, outputs)


def _scaled(factor: jax.Array, tangent: jax.Array) -> jax.Array:
    # A sum over a blocks axis, since its transpose is one broadcast product; that of slices is padding and adding.
    return factor * tangent if factor.ndim == tangent.ndim else (factor * tangent.reshape(factor.shape)).sum(-2)


def _linearised(cell: Cell, params: Any, state: Any, z: Any, r: Any) -> Pointwise | None:
    """`update` linearised around all times at once; None where it is not pointwise."""
    if not cell.pointwise:
        return None
    inputs, structure = jax.tree.flatten((state, r))

    def update(*inputs: jax.Array) -> list[jax.Array]:
        state, r = jax.tree.unflatten(structure, inputs)
        return jax.tree.leaves(cell.update(params, state, z, r))

    outputs, linear = jax.linearize(update, *inputs)
    depends = _dependence(jax.make_jaxpr(update)(*inputs).jaxpr)
    factors: list[list[jax.Array]] = [[] for _ in outputs]
    used: list[list[int]] = [[] for _ in outputs]
    zeros = [jnp.zeros_like(a) for a in inputs]
    for index, a in enumerate(inputs):
        users = [o for o, on in enumerate(depends) if index in on]
        hidden = outputs[users[0]].shape[-1] if users else a.shape[-1]
        blocks = a.shape[-1] // hidden
        columns = []
        for block in range(blocks):
            ones = jnp.zeros_like(a).at[..., block * hidden : (block + 1) * hidden].set(1)
            tangents = vary_alike([*zeros[:index], ones, *zeros[index + 1 :]], a)[0]
            columns.append(linear(*tangents))
        for o in users:
            used[o].append(index)
            factors[o].append(columns[0][o] if blocks == 1 else jnp.stack([column[o] for column in columns], -2))
    return Pointwise(tuple(map(tuple, factors)), tuple(map(tuple, used)), jax.tree.structure(state))


def _dependence(jaxpr: Any) -> list[set[int]]:
    """For each output of a program the inputs it may depend on."""
    found = {variable: {index} for index, variable in enumerate(jaxpr.invars)}

    def of(variable: Any) -> set[int]:
        return set() if isinstance(variable, Literal) else found.get(variable, set())

    for equation in jaxpr.eqns:
        together = set().union(*map(of, equation.invars))
        found |= dict.fromkeys(equation.outvars, together)
    return [of(variable) for variable in jaxpr.outvars]
