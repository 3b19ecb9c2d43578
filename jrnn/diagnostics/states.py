"""States as vectors, and functions of one row for all rows: what every diagnostic is made of."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import arrays
from ..arrays import differentiable, with_vector
from ..cell import Bound, Cell, check_arguments
from ..checks import check_state, describe
from ..layers import Layer


def vector(state: Any) -> jax.Array:
    """`jrnn.arrays.vector` of a state; ValueError where nothing in it has a derivative."""
    if not differentiable(state):
        raise ValueError(
            f"state is {jax.tree.map(describe, state)}, in which nothing has a derivative; expected floats in it"
        )
    return arrays.vector(state)


def begin(model: Any, params: Any, xs: Any, state: Any) -> tuple[tuple[int, ...], Any]:
    """The batch axes of `xs` and the state before the first step, checked: that given, or the model's initial one."""
    if isinstance(model, Cell):
        batch = check_arguments(model, params, xs, "xs", time=True)
        if state is not None:
            check_state(model, params, state, batch)
    else:
        check_causal(model)
        time, *rest = model.time_and_batch(xs) or (0,)
        batch = tuple(rest)
        if time == 0:
            raise ValueError(f"xs is {describe(xs)}; expected [time, *batch, ...] with at least one step")
    return batch, model.initial_state(params, batch) if state is None else state


def check_causal(model: Any) -> None:
    """`model` is a cell, or a layer that takes time first; that it is causal its `step` says."""
    if isinstance(model, Cell):
        return
    if not isinstance(model, Layer):
        raise TypeError(
            f"model is {describe(model)}; expected a cell such as jrnn.GRU(3, 4), or a causal layer such as jrnn.Recurrent(cell)"
        )
    if model.batch_first:
        raise TypeError(
            f"model is {model}; expected a layer that is time first: give its layer, and xs [time, batch, ...]"
        )


def run(model: Any, params: Any, xs: Any, state: Any) -> tuple[Any, Any]:
    """The states before and after every step, leaves [time, *batch, ...]."""

    def body(state: Any, x: Any) -> tuple[Any, Any]:
        new, _ = model.step(params, state, x)
        return new, (state, new)

    return jax.lax.scan(body, state, xs)[1]


def jacobian(model: Any, params: Any, state: Any, x: Any) -> jax.Array:
    """d s' / d s of one step of one row, [n, n]."""
    return jax.jacfwd(lambda v: step_of(model, params, state)(v, x)[0])(vector(state))


def step_of(model: Any, params: Any, like: Any) -> Callable[[jax.Array, Any], tuple[jax.Array, Any]]:
    """`f(v, x) -> (v, state)`: a step of one row as a function of the vector of its state, whose rest is that of `like`."""

    def step(v: jax.Array, x: Any) -> tuple[jax.Array, Any]:
        new, _ = model.step(params, with_vector(like, v), x)
        return vector(new), new

    return step


def over_rows(
    f: Callable[[Any, Any, Any], Any], batch: tuple[int, ...], params: Any, xs: Any, state: Any, out_axes: Any
) -> Any:
    """`f(params, xs, state)`, written for one row, for all of them; `out_axes` says where each output has its batch axes."""

    def per_row(leaf: Any) -> int | None:
        # An array without batch axes is the same for every row.
        return 0 if np.shape(leaf)[: len(batch)] == batch else None

    def spread(leaf: Any) -> Any:
        return jnp.broadcast_to(leaf, (*batch, *np.shape(leaf)[len(batch) :]))

    def is_bound(entry: Any) -> bool:
        return isinstance(entry, Bound)

    def context(entry: Any) -> Any:
        return entry._replace(context=jax.tree.map(spread, entry.context)) if is_bound(entry) else entry

    def context_axes(entry: Any) -> Any:
        return Bound(None, jax.tree.map(lambda _: 0, entry.context)) if is_bound(entry) else None

    axes = jax.tree.map(context_axes, params, is_leaf=is_bound), 1, jax.tree.map(per_row, state)
    params = jax.tree.map(context, params, is_leaf=is_bound)
    for _ in batch:
        f = jax.vmap(f, in_axes=axes, out_axes=out_axes)
    return f(params, xs, state)
