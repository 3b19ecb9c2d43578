"""Lyapunov exponents: whether small differences between states grow or fade along a run, and how fast."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..checks import check_key, check_positive
from .states import begin, over_rows, step_of, vector


class Lyapunov(NamedTuple):
    """Lyapunov exponents of a run, per step, in nats."""

    exponents: (
        jax.Array
    )  # [*batch, k]: largest first; -inf: a direction that one block loses, to the precision of the dtype
    running: (
        jax.Array
    )  # [blocks, *batch, k]: the estimate after each block of `every` steps, in the order of the directions


def lyapunov(
    model: Any,
    params: Any,
    xs: Any,
    state: Any = None,
    *,
    skip: int = 0,
    exponents: int | None = None,
    every: int = 1,
    key: jax.Array | None = None,
) -> Lyapunov:
    """The Lyapunov exponents along a run (Benettin et al. 1980; Engelken, Wolf & Abbott 2023 for recurrent networks).

    The volumes that k directions span are followed by the derivative of each step, and their growth is read from QR
    decompositions: exp of the sum of the first j exponents is the mean factor of j-dimensional volumes per step. The largest is
    above 0 where the run is chaotic: gradients then explode, as they vanish where it is below.

    Args:
      model: a cell or a causal layer.
      xs: [time, *batch, ...], what drives it; zeros for an autonomous network.
      state: before the first step; by default the initial state, where an autonomous network may stay for ever.
      skip: the first steps, which bring the state onto its attractor and the directions into line, are not counted.
      exponents: how many, k; by default as many as the state has numbers, n. A step takes k products with its Jacobian.
      every: steps between two QR decompositions, of n k^2 operations: more than 1 is faster, as long as the directions do not
        become parallel in between, to the precision of the dtype.
      key: of the directions to begin with.

    `running` shows whether the estimate has settled: its error falls as 1 / steps at best. Where a state holds keys the noise
    is what they draw, alike for the state and for what differs from it; integers likewise stay out of the derivative. A complex
    number counts as two. The steps that `every` leaves over at the end are not counted.
    """
    check_positive("lyapunov", every=every)
    batch, state = begin(model, params, xs, state)
    time = jax.tree.leaves(xs)[0].shape[0]
    blocks, skipped = time // every, -(-skip // every)
    if skip < 0 or skipped >= blocks:
        raise ValueError(
            f"skip is {skip} of {time} steps, {every} a block; expected at least one block of them after it"
        )
    if key is None:
        key = jax.random.key(0)
    check_key(key)
    if exponents is not None:
        check_positive("lyapunov", exponents=exponents)

    def of_row(params: Any, xs: Any, state: Any) -> tuple[jax.Array, jax.Array]:
        v = vector(state)
        k = v.size if exponents is None else exponents
        if k > v.size:
            raise ValueError(f"exponents is {k}; expected at most {v.size}, the numbers in a state of {model}")
        directions = jnp.linalg.qr(jax.random.normal(key, (v.size, k), v.dtype))[0]

        def one(carry: Any, x: Any) -> tuple[Any, None]:
            state, directions = carry
            _, push, new = jax.linearize(lambda v: step_of(model, params, state)(v, x), vector(state), has_aux=True)
            return (new, jax.vmap(push, in_axes=1, out_axes=1)(directions)), None

        def block(carry: Any, xs: Any) -> tuple[Any, jax.Array]:
            (state, moved), _ = jax.lax.scan(one, carry, xs)
            directions, r = jnp.linalg.qr(moved)
            sizes = jnp.abs(jnp.diagonal(r))
            # What rounding leaves of a direction that is lost is not a size.
            lost = sizes <= v.size * jnp.finfo(v.dtype).eps * jnp.max(jnp.abs(moved))
            return (state, directions), jnp.log(jnp.where(lost, jnp.zeros_like(sizes), sizes))

        xs = jax.tree.map(lambda a: a[: blocks * every].reshape(blocks, every, *a.shape[1:]), xs)
        _, logs = jax.lax.scan(block, (state, directions), xs)
        logs = logs[skipped:] / every
        count = jnp.arange(1, logs.shape[0] + 1, dtype=logs.dtype)
        running = jnp.cumsum(logs, axis=0) / jnp.broadcast_to(count[:, None], logs.shape)
        return jnp.sort(running[-1], descending=True), running

    return Lyapunov(*over_rows(of_row, batch, params, xs, state, out_axes=(0, 1)))


def kaplan_yorke(exponents: Any) -> float:
    """The dimension of an attractor by its Lyapunov exponents [k] (Kaplan & Yorke 1979).

    It is the number of directions whose volume does not shrink, with a fraction for the next one; 0 where all shrink, and k where
    none of the exponents given is small enough: give more of them.
    """
    values = -np.sort(-np.asarray(exponents, np.float64))
    if values.ndim != 1 or values.size == 0 or np.isnan(values).any():
        raise ValueError(
            f"exponents is {exponents!r}; expected the numbers [k] of one run, such as lyapunov(...).exponents"
        )
    whole = int((np.cumsum(values) >= 0).sum())
    if whole in (0, len(values)):
        return float(whole)
    return float(whole + values[:whole].sum() / -values[whole])
