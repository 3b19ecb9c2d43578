"""UORO: an unbiased estimate of rank one."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ..arrays import differentiable, vector
from .method import Method, contract, from_initial_state, pull, transition


class RankOne(NamedTuple):
    state: jax.Array  # [n]
    params: list[jax.Array]  # [*param] each; the influence is estimated by the outer product of the two
    key: jax.Array  # of the signs to come


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class UORO(Method[RankOne]):
    """Unbiased online recurrent optimisation (Tallec & Ollivier 2018): a random influence of rank one whose mean is the true one.

    A trace of n + P floats a row and one more forward and backward pass a window, for any layer; the noise of its gradients calls
    for a smaller learning rate. `initial_state(params, batch, key)` needs a key, for the signs that are drawn.
    """

    def init(self, layer, params, state, key):
        if key is None:
            raise ValueError("key is None; UORO draws random signs: expected initial_state(params, batch, key)")
        signs, key = _signs(key, vector(state))
        return RankOne(signs, from_initial_state(layer, params)(signs), key)

    def push(self, layer, params, state, trace, dparams):
        return trace.state * sum(map(contract, trace.params, dparams), jnp.zeros((), trace.state.dtype))

    def advance(self, layer, params, state, trace, window):
        run, v = transition(layer, params, state, window), vector(state)
        signs, key = _signs(trace.key, v)
        _, moved = jax.jvp(lambda v: run(differentiable(params), v)[0], (v,), (trace.state,))
        made = pull(lambda p: run(p, v)[0], params)(signs)
        # The scales that give the least variance; the paper's epsilon keeps them finite.
        past = jnp.sqrt((_norm(trace.params) + EPSILON) / (_norm([moved]) + EPSILON))
        now = jnp.sqrt((_norm(made) + EPSILON) / (_norm([signs]) + EPSILON))
        kept = [a / past.astype(a.dtype) + b / now.astype(b.dtype) for a, b in zip(trace.params, made, strict=True)]
        return RankOne(past * moved + now * signs, kept, key)


EPSILON = 1e-7


def _signs(key: jax.Array, like: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Random signs like a vector, and the key of those to come."""
    use, key = jax.random.split(key)
    return jax.random.rademacher(use, like.shape, like.dtype), key


def _norm(arrays: list[jax.Array]) -> jax.Array:
    return jnp.sqrt(sum(jnp.sum(jnp.abs(a) ** 2) for a in arrays))
