"""`unroll`: checks what the user passed, makes it plain for the engine, and clears the padding from what comes back."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ..cell import Cell
from ..checks import check_flags, check_input, check_params, check_state, real_steps, select, vary_alike
from .engine import Engine, Sequence
from .scan import Scan


def unroll(
    cell: Cell,
    params: Any,
    xs: jax.Array,
    state: Any = None,
    *,
    lengths: jax.Array | None = None,
    mask: jax.Array | None = None,
    reset: jax.Array | None = None,
    reverse: bool = False,
    engine: Engine = Scan(),  # noqa: B008, frozen
) -> tuple[Any, jax.Array]:
    """Run `cell` over a sequence.

    Args:
      cell: any `Cell`.
      params: its parameters, from `cell.init(key)`.
      xs: inputs [time, *batch, input_size] in the parameters' dtype; any number of batch axes, or none.
      state: the state before the first step, [*batch, ...]; None: `cell.initial_state(params, batch)`.
      lengths: integers [*batch], how many steps of each row are real, counted from the first. 0 is allowed: that row keeps
        its state. Values outside 0..time raise where they are known and are clipped under `jit`.
      mask: bool [time, *batch], which steps are real; with `lengths`, a step is real where both say so. A padded step
        leaves the state alone, outputs zero, and what it holds (NaN too) reaches neither outputs nor gradients.
      reset: bool [time, *batch], True at the first step of each episode or packed document: there the row starts anew from
        `cell.initial_state(params)`, not from the `state` given, which continues the sequence before. A reset at a padded step
        takes effect at the next real one.
      reverse: run from the last real step to the first; outputs stay in input order. `reset` still marks the first step of
        each document in input order: the reversed run starts each document anew at its last step.
      engine: how the loop is run; each returns the same numbers.

    Returns:
      `(state, ys)`: the state after the last real step (the first, if reversed), and outputs [time, *batch, output_size].

    Raises:
      ValueError, TypeError: naming the argument, what was given and what was expected.
    """
    dtype = check_params(cell, params)
    xs = jnp.asarray(xs)
    lengths, mask, reset = (a if a is None else jnp.asarray(a) for a in (lengths, mask, reset))
    check_input(cell, xs, dtype, "xs", time=True)
    time_and_batch = xs.shape[:-1]
    initial = cell.initial_state(params, time_and_batch[1:])
    if state is None:
        state = initial
    else:
        check_state(cell, params, state, time_and_batch[1:])
    real = real_steps(lengths, mask, time_and_batch)
    if reset is not None:
        check_flags(reset, "reset", time_and_batch)
        reset = _restarts(reset, real, reverse)
        reset = reset if real is None else reset & real

    # Padding is cleared before anything is computed from it: a NaN times a zero gradient would be NaN.
    clean = xs if real is None else select(real, xs, jnp.zeros_like(xs))
    params, state, initial, sequence = vary_alike(params, state, initial, Sequence(clean, real, reset))
    state, ys = engine.run(cell, params, state, initial, sequence, reverse)
    return state, ys if real is None else select(real, ys, jnp.zeros_like(ys))


def _restarts(reset: jax.Array, real: jax.Array | None, reverse: bool) -> jax.Array:
    """Before which steps, in the order of the loop, the state is put back.

    Steps are numbered by document; a real step restarts where its document is not that of the real step before it (after
    it, if reversed; the first real step of a reversed loop, after which nothing comes, does not restart).
    """
    document = jnp.cumsum(reset, axis=0, dtype=jnp.int32)
    if reverse:
        after = document if real is None else jnp.where(real, document, jnp.iinfo(jnp.int32).max)
        last = document[-1:] if real is None else jnp.full_like(document[-1:], jnp.iinfo(jnp.int32).max)
        following = jnp.concatenate([lax.cummin(after, axis=0, reverse=True)[1:], last])
        return (following != document) & (following != jnp.iinfo(jnp.int32).max)
    before = document if real is None else jnp.where(real, document, 0)
    previous = jnp.concatenate([jnp.zeros_like(document[:1]), lax.cummax(before, axis=0)[:-1]])
    return previous != document
