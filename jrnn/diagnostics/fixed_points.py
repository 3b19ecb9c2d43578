"""Fixed points: the states that a constant input leaves where they are, and what a network does around them."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..arrays import is_differentiable, is_key, with_vector
from ..cell import Cell
from ..checks import check_key, check_positive, check_state, describe
from .states import begin, jacobian, run, step_of, vector


class FixedPoints(NamedTuple):
    """Fixed points F(s) = s of one step F with a constant input, each once: those with the fewest unstable directions first."""

    states: Any  # leaves [points, ...]
    speeds: np.ndarray  # [points]: |F(s) - s|, what is left to move
    jacobians: np.ndarray  # [points, n, n]: d F / d s, the n numbers of a state in the order of `vector`
    eigenvalues: np.ndarray  # complex [points, n]: of the Jacobian, largest modulus first; above 1 a direction grows
    directions: np.ndarray  # complex [points, n, n]: its eigenvectors, the columns, in the same order
    time_constants: np.ndarray  # [points, n]: steps in which a direction shrinks e-fold; where negative it grows e-fold
    unstable: np.ndarray  # int [points]: how many directions grow
    kind: np.ndarray  # str [points]: "stable", "saddle" (some directions grow) or "unstable" (all do)
    counts: np.ndarray  # int [points]: how many of the starts ended there


def fixed_points(
    model: Any,
    params: Any,
    x: Any,
    starts: Any,
    *,
    steps: int = 200,
    tolerance: float = 1e-6,
    distinct: float = 1e-3,
    slow: float | None = None,
) -> FixedPoints:
    """The states that the constant input `x` leaves where they are (Sussillo & Barak 2013), and the linear flow around them.

    |F(s) - s|^2 is made smaller by Levenberg-Marquardt from each of the starts, all at once.

    Args:
      model: a cell or a causal layer, of which F is the step.
      x: one input [input_size], without time and batch.
      starts: states to begin from, leaves [starts, ...]; `mixtures` draws some from a run. What they do not lead to is not found:
        unstable points lie between the states of a run, not on it.
      steps: of the descent, at most.
      tolerance: the largest speed of a fixed point. In float32 a state of many numbers may not come so near: a network is best
        looked at in float64 (`jax_enable_x64`, and parameters cast to it).
      distinct: two ends are one point where no number of theirs differs by more.
      slow: where given, ends up to that speed are kept too: local minima of the speed, such as what is left of two points
        that have just met.

    Integers and booleans of a state stay as they are in each start. So do keys, as those of a dropout mask that lasts; a step
    that draws from them anew has no fixed points, which is a ValueError. A complex number counts as two. Not under `jit`.

    Each step of the descent takes n^2 numbers and n^3 operations for each start.
    """
    check_positive("fixed_points", steps=steps)
    batch, initial = begin(model, params, jax.tree.map(lambda a: jnp.asarray(a)[None], x), None)
    if batch:
        raise ValueError(f"x is {jax.tree.map(describe, x)}, with batch axes {list(batch)}; expected one input without")
    one = _first(model, params, initial, starts)
    _check_lasting(model, params, x, one)
    size = vector(one).size
    at_once = max(1, 2**22 // size**2)
    ends, speeds = map(np.asarray, _descended(model, params, x, starts, steps=steps, at_once=at_once))
    chosen, counts = _distinct(ends, speeds, tolerance if slow is None else slow, distinct)
    points = jax.tree.map(lambda leaf: leaf[jnp.asarray(chosen)], starts)
    points = jax.vmap(with_vector)(points, jnp.asarray(ends[chosen]))
    matrices = np.asarray(_linearised(model, params, x, points), np.float64).reshape(-1, size, size)
    values, directions = np.linalg.eig(matrices)
    order = np.argsort(-np.abs(values), axis=-1)
    values = np.take_along_axis(values, order, -1).astype(complex)
    directions = np.take_along_axis(directions, order[:, None], -1).astype(complex)
    unstable = (np.abs(values) > 1).sum(-1)
    with np.errstate(divide="ignore"):
        constants = -1 / np.log(np.abs(values))
    kind = np.where(unstable == 0, "stable", np.where(unstable == size, "unstable", "saddle"))
    rank = np.lexsort((-counts, unstable))
    states = jax.tree.map(lambda leaf: leaf[jnp.asarray(rank)], points)
    others = speeds[chosen], matrices, values, directions, constants, unstable, kind, counts
    return FixedPoints(states, *(array[rank] for array in others))


def mixtures(
    key: jax.Array, model: Any, params: Any, xs: Any, state: Any = None, *, count: int = 512, mixed: float = 0.75
) -> Any:
    """States to look for fixed points from, leaves [count, ...]: of a run over `xs` and, a share `mixed`, between two of them.

    On a straight line from one state of a run to another lies what divides them, where there is something. Integers and keys
    are those of the first of the two. All states of the run, before every step and of every row, are as likely.
    """
    check_key(key)
    check_positive("mixtures", count=count)
    if not 0 <= mixed <= 1:
        raise ValueError(f"mixed is {mixed}; expected a share in [0, 1]")
    batch, state = begin(model, params, xs, state)
    state = jax.tree.map(
        lambda a: a if a.shape[: len(batch)] == batch else jnp.broadcast_to(a, (*batch, *a.shape)), state
    )
    states, _ = run(model, params, xs, state)
    pool = jax.tree.map(lambda a: a.reshape(-1, *a.shape[1 + len(batch) :]), states)
    size = jax.tree.leaves(pool)[0].shape[0]
    first, second, share, which = jax.random.split(key, 4)
    one, other = (jax.random.randint(k, (count,), 0, size) for k in (first, second))
    shares = jnp.where(jax.random.uniform(which, (count,)) < mixed, jax.random.uniform(share, (count,)), 0.0)

    def mix(a: jax.Array) -> jax.Array:
        if not is_differentiable(a):
            return a[one]
        t = shares.reshape(count, *(1,) * (a.ndim - 1)).astype(a.dtype)
        return a[one] + jnp.broadcast_to(t, a[one].shape) * (a[other] - a[one])

    return jax.tree.map(mix, pool)


def _first(model: Any, params: Any, initial: Any, starts: Any) -> Any:
    """The first start, with a check of all."""
    counts = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(starts)}
    if len(counts) != 1 or counts & {(), (0,)}:
        raise ValueError(
            f"starts is {jax.tree.map(describe, starts)}; expected states with one axis of starts first in every leaf, at least one"
        )
    one = jax.tree.map(lambda leaf: leaf[0], starts)
    if isinstance(model, Cell):
        check_state(model, params, one, (), "starts without their first axis")
    return one


def _check_lasting(model: Any, params: Any, x: Any, one: Any) -> None:
    """A step leaves the keys of a state as they are."""
    after, _ = model.step(params, one, x)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(one), jax.tree.leaves(after), strict=True):
        if is_key(a) and not np.array_equal(jax.random.key_data(a), jax.random.key_data(b)):
            raise ValueError(
                f"starts{jax.tree_util.keystr(path)} holds keys from which every step draws anew, so that none is like the one "
                f"before and no point is fixed; expected states without noise, as {model}.initial_state(params, batch) has them"
            )


@functools.partial(jax.jit, static_argnames=("steps", "at_once"))
def _descended(
    model: Any, params: Any, x: Any, starts: Any, *, steps: int, at_once: int
) -> tuple[jax.Array, jax.Array]:
    """Where Levenberg-Marquardt ends from each start, [starts, n], and the speed there."""

    def from_one(start: Any) -> tuple[jax.Array, jax.Array]:
        step = step_of(model, params, start)

        def residual(v: jax.Array) -> jax.Array:
            return step(v, x)[0] - v

        v = vector(start)
        eye, eps = jnp.eye(v.size, dtype=v.dtype), jnp.finfo(v.dtype).eps

        def goes_on(carry: Any) -> jax.Array:
            number, _, f, damping = carry
            return (number < steps) & (jnp.linalg.norm(f) > eps) & (damping < 1e8)

        def move(carry: Any) -> Any:
            number, v, f, damping = carry
            a = jax.jacfwd(residual)(v)
            by = jax.scipy.linalg.solve(a.T @ a + damping * eye, a.T @ f, assume_a="pos")
            new = v - by
            g = residual(new)
            better = g @ g < f @ f  # not where either is NaN
            damping = jnp.where(better, jnp.maximum(damping / 5, eps * eps), damping * 4)
            return number + 1, jnp.where(better, new, v), jnp.where(better, g, f), damping

        first = 0, v, residual(v), jnp.asarray(1e-2, v.dtype)
        _, v, f, _ = jax.lax.while_loop(goes_on, move, first)
        return v, jnp.linalg.norm(f)

    return jax.lax.map(from_one, starts, batch_size=at_once)


@jax.jit
def _linearised(model: Any, params: Any, x: Any, points: Any) -> jax.Array:
    """d F / d s at each point."""
    return jax.lax.map(lambda state: jacobian(model, params, state, x), points)


def _distinct(ends: np.ndarray, speeds: np.ndarray, slowest: float, distance: float) -> tuple[np.ndarray, np.ndarray]:
    """The places of ends that are points, each once at its slowest, and how many ended there."""
    chosen: list[int] = []
    counts: list[int] = []
    order = np.argsort(speeds)
    for place in order[speeds[order] <= slowest]:
        near = np.flatnonzero(np.abs(ends[chosen] - ends[place]).max(-1, initial=0) <= distance)
        if near.size:
            counts[near[0]] += 1
        else:
            chosen.append(int(place))
            counts.append(1)
    return np.array(chosen, int), np.array(counts, int)
