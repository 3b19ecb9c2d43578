"""What gates do, and how long units remember."""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..arrays import differentiable, is_differentiable, with_differentiable
from ..cell import Cell
from ..checks import activation_function, check_flags
from ..unroll import closes_over_traced_values
from .recording import innermost, recorded
from .states import begin


class Saturation(NamedTuple):
    """What one gate, or another squashed block of a cell, does in a run."""

    mean: jax.Array  # [units]
    low: jax.Array  # [units]: share of steps and rows at the lower end of its range: of a gate, closed
    high: jax.Array  # [units]: at the upper end: of a gate, open


class Memory(NamedTuple):
    """What the units of one array of a state keep of themselves in a step."""

    kept: jax.Array  # [time, *batch, units]
    time_constants: jax.Array  # [units]: steps after which 1 / e is left, -1 / mean of log |kept|; below 0 it grows


def gate_values(model: Any, params: Any, xs: Any, state: Any = None) -> dict[str, jax.Array]:
    """The gates of every cell in every step of a run, activated, [time, *batch, units] each: "i", "f", "g", "o" of an LSTM.

    `model` is a cell or a causal layer, of whose cells the names are preceded by their places in the state: "0.f", "1.f". They are
    what the cell's `update_with_gates` says; TypeError where no cell says anything.
    """
    found = recorded(_update_with_gates, model, params, xs, state)
    if not found:
        raise TypeError(
            f"{model} names no gates; expected a cell with update_with_gates, which gives them beside the new state"
        )
    return {name: value for name, (*_, value) in found.items()}


def saturation(
    model: Any,
    params: Any,
    xs: Any,
    state: Any = None,
    *,
    mask: jax.Array | None = None,
    margin: float = 0.1,
) -> dict[str, Saturation]:
    """How often each unit of each gate is at an end of its range (Karpathy, Johnson & Fei-Fei 2015), by the names of `gate_values`.

    An end is the `margin` of the range beside it: a gate below 0.1 or above 0.9, a candidate or a hidden unit of tanh below -0.8
    or above 0.8. The range is that of the cell's activation: of ReLU the lower end is 0 itself, and there is no upper one. `mask`
    [time, *batch] says which steps are real; the others must come last in their row.
    """
    if not 0 < margin < 0.5:
        raise ValueError(f"margin is {margin}; expected a share in (0, 0.5) of the range at each end, such as 0.1")
    batch, _ = begin(model, params, xs, state)
    time_and_batch = (jax.tree.leaves(xs)[0].shape[0], *batch)
    if mask is not None:
        check_flags(mask, "mask", time_and_batch)
    found = recorded(_update_with_gates, model, params, xs, state)
    if not found:
        gate_values(model, params, xs, state)  # says so

    def share(values: jax.Array) -> jax.Array:
        axes = tuple(range(len(time_and_batch)))
        if mask is None:
            return jnp.mean(values, axis=axes)
        weights = mask.reshape(*time_and_batch, *(1,) * (values.ndim - mask.ndim))
        return jnp.mean(values, axis=axes, where=jnp.broadcast_to(weights, values.shape))

    def one(cell: Cell, name: str, values: jax.Array) -> Saturation:
        low, high = _range(innermost(cell), name)
        within = margin * (high - low) if np.isfinite(high - low) else 0.0
        at_low, at_high = values <= low + within, values >= high - within
        return Saturation(share(values), *(share(at.astype(values.dtype)) for at in (at_low, at_high)))

    return {name: one(*of_cell) for name, of_cell in found.items()}


def _update_with_gates(cell: Cell, *given: Any) -> tuple[Any, dict[str, jax.Array]]:
    return cell.update_with_gates(*given)


def _range(cell: Any, gate: str) -> tuple[float, float]:
    """Between what the activation of a gate lies, as far as it goes for numbers of the size of 1e4."""
    name, default = ("activation", "tanh") if gate == cell.candidate else ("gate_activation", "sigmoid")
    squash = activation_function(getattr(cell, name, default))
    with jax.ensure_compile_time_eval():
        ends = sorted(float(squash(jnp.float32(x))) for x in (-1e4, 1e4))
    low, high = (end if abs(end) < 1e3 else end * np.inf for end in ends)
    return low, high


def memory(model: Any, params: Any, xs: Any, state: Any = None) -> dict[str, Memory]:
    """What each unit of a state keeps of itself in a step, d s'_j / d s_j at given z and r, by the names of the state's arrays.

    "c" of an LSTM keeps its forget gate, "h" of a GRU its z, "h" of a `CTRNN` 1 - dt / tau. It is what a unit remembers without the
    network: what it writes to itself through the recurrent weights is left out, and so is a memory in an attractor
    (`fixed_points`). `model` is a cell or a causal layer, in which names are preceded by places: "0.c", "1.c".
    """
    found = recorded(_update_with_kept, model, params, xs, state)
    if not found:
        raise ValueError(f"{model} has no state with a derivative; expected a recurrent model")
    time_and_batch = 1 + len(begin(model, params, xs, state)[0])

    def one(kept: jax.Array) -> Memory:
        return Memory(kept, -1 / jnp.mean(jnp.log(jnp.abs(kept)), axis=tuple(range(time_and_batch))))

    return {name: one(kept) for name, (*_, kept) in found.items()}


def _update_with_kept(cell: Cell, params: Any, state: Any, z: Any, r: Any) -> tuple[Any, dict[str, jax.Array]]:
    """The new state, and d s'_j / d s_j for each array of it that has a derivative."""
    given = params, state, z, r
    structure = jax.tree.structure(given)
    pointwise = not closes_over_traced_values(cell) and _is_pointwise(cell, structure, *_shapes(given))
    paths = [path for path, leaf in jax.tree_util.tree_leaves_with_path(state) if is_differentiable(leaf)]
    alone = differentiable(jax.eval_shape(lambda: cell.initial_state(params)))
    kept = {}
    for place, (path, value) in enumerate(zip(paths, differentiable(state), strict=True)):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if pointwise:
            kept[name] = _pushed(cell, given, place, jnp.ones_like(value))
        else:
            kept[name] = _diagonal(cell, given, place, value.shape[value.ndim - alone[place].ndim :])
    return cell.update(*given), kept


def _pushed(cell: Cell, given: Any, place: int, direction: jax.Array) -> jax.Array:
    """The derivative of one array of the new state along `direction` of the same array before."""
    params, state, z, r = given
    values = differentiable(state)

    def new(value: jax.Array) -> jax.Array:
        moved = with_differentiable(state, [*values[:place], value, *values[place + 1 :]])
        return differentiable(cell.update(params, moved, z, r))[place]

    return jnp.broadcast_to(jax.jvp(new, (values[place],), (direction,))[1], values[place].shape)


def _diagonal(cell: Cell, given: Any, place: int, features: tuple[int, ...]) -> jax.Array:
    """The same, of each unit along itself: one derivative for each."""
    value = differentiable(given[1])[place]
    units = jnp.eye(math.prod(features), dtype=value.dtype).reshape(-1, *features)

    def of_unit(unit: jax.Array) -> jax.Array:
        direction = jnp.broadcast_to(unit, value.shape)
        return _pushed(cell, given, place, direction) * direction

    return jnp.sum(jax.lax.map(of_unit, units), axis=0)


def _shapes(tree: Any) -> tuple[tuple[Any, Any], ...]:
    return tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree))


@functools.lru_cache(maxsize=1024)
def _is_pointwise(cell: Cell, structure: Any, *shapes: tuple[Any, Any]) -> bool:
    """Whether each unit of a new state depends on the same unit alone of the array before it, at given z and r.

    Tried on random numbers: along any direction the derivative is then that along ones times the direction, unit by unit.
    """
    draw = np.random.default_rng(0)

    def some(shape: tuple[int, ...], dtype: Any) -> jax.Array:
        if jnp.issubdtype(dtype, jax.dtypes.prng_key):
            return jnp.broadcast_to(jax.random.key(0, impl="threefry2x32"), shape)
        values = draw.standard_normal(shape) if jnp.issubdtype(dtype, jnp.inexact) else np.ones(shape)
        return jnp.asarray(values).astype(dtype)

    with jax.ensure_compile_time_eval():
        given = jax.tree.unflatten(structure, [some(*shape) for shape in shapes])
        for place, value in enumerate(differentiable(given[1])):
            push = jax.jit(functools.partial(_pushed, cell, place=place))
            direction = some(value.shape, value.dtype)
            along_ones, along = (push(given, direction=d) for d in (jnp.ones_like(value), direction))
            if not np.allclose(along, along_ones * direction, rtol=1e-3, atol=1e-3):
                return False
    return True
