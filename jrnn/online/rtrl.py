"""RTRL: the whole influence, exact."""

import dataclasses

import jax
import jax.numpy as jnp

from ..arrays import at_least_float32, differentiable, vector
from .method import Method, contract, from_initial_state, identity, transition


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class RTRL(Method[list[jax.Array]]):
    """Real-time recurrent learning (Williams & Zipser 1989): the influence itself, and with it the exact gradient.

        M_t = J_t M_{t-1} + I_t
        J_t = d s_t / d s_{t-1}
        I_t = d s_t / d params

    The trace holds n x P floats a row, for n floats of state and P parameters, and a window costs n backward passes and the
    product J M, n^2 P: for small networks. With windows of k steps it is the hybrid of Schmidhuber (1992), at a k-th of the cost a
    step.
    """

    def init(self, layer, params, state, key):
        return jax.vmap(from_initial_state(layer, params))(identity(vector(state)))

    def push(self, layer, params, state, trace, dparams):
        return sum(map(contract, trace, dparams), jnp.zeros_like(vector(state)))

    def advance(self, layer, params, state, trace, window):
        _, from_params, from_state = jacobians(layer, params, state, window)
        return [jnp.tensordot(from_state, m, 1) + i for m, i in zip(trace, from_params, strict=True)]


def jacobians(layer, params, state, window):
    """The state after the window, and its derivative: [n, *param] for each of the parameters, and [n, n] for the state before."""
    run = transition(layer, params, state, window)
    v, back, new = jax.vjp(run, differentiable(params), vector(state), has_aux=True)
    from_params, from_state = jax.vmap(back)(identity(v))
    return new, [d.astype(at_least_float32(d.dtype)) for d in from_params], from_state
