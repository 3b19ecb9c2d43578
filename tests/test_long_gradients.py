"""What the cures are for: gradients that come back over many steps, and steps of training that no cliff makes too long."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import key, normal

import jrnn
from jrnn import initializers
from jrnn.losses import Mean
from jrnn.train import init_state, make_step

STEPS, UNITS = 60, 16


def uniform(cell, params):
    return initializers.uniform(key(1), cell, params)


STARTS = {
    "tanh, uniform": ("tanh", uniform, 0, 1e-8),
    "tanh, orthogonal": ("tanh", lambda c, p: initializers.orthogonal(key(1), c, p), 0.1, 1),
    "relu, uniform": ("relu", uniform, 0, 1e-8),
    "relu, identity": ("relu", lambda c, p: initializers.identity(c, uniform(c, p)), 0.1, 1.001),
    "lstm, uniform": (None, uniform, 0, 1e-8),
    "lstm, forget bias": (None, lambda c, p: initializers.forget_bias(c, uniform(c, p), 3.0), 1e-2, 10),
    "lstm, chrono": (None, lambda c, p: initializers.chrono(key(1), c, uniform(c, p), 2 * STEPS), 1e-2, 10),
}


@pytest.mark.parametrize(("activation", "start", "least", "most"), STARTS.values(), ids=STARTS)
def test_how_much_of_a_gradient_comes_back_over_sixty_steps(activation, start, least, most):
    """The length of the gradient by the state before the first step, over that by the last state; an LSTM's by c."""
    cell = jrnn.LSTM(2, UNITS) if activation is None else jrnn.Elman(2, UNITS, activation=activation)
    params = start(cell, cell.init(key(0)))
    xs = normal(2, STEPS, 2, scale=0.02)

    def end(state):
        return jrnn.unroll(cell, params, xs, state)[0][-1].sum()

    slope = jax.grad(end)(jax.tree.map(lambda a: a + 0.01, cell.initial_state(params)))
    assert least <= np.linalg.norm(slope[-1]) / np.sqrt(UNITS) <= most


@pytest.mark.parametrize(
    ("clipping", "longest"),
    [(optax.clip_by_global_norm(0.2), 0.2), (optax.clip(0.2), 0.2 * np.sqrt(2)), (optax.identity(), None)],
)
def test_clipping_in_the_optimizer_bounds_a_training_step(clipping, longest):
    """One sigmoid unit over 50 steps just above the cliff of its loss (Pascanu et al. 2013), by `make_step`."""
    cell = jrnn.Elman(1, 1, activation="sigmoid")
    params = jrnn.ElmanParams(w_x=jnp.zeros((1, 1)), w_h=jnp.full((1, 1), 4.353), b=jnp.full(1, -2.2195))

    def loss(params, carry, batch, key):
        state = jrnn.ElmanState(jax.nn.sigmoid(jnp.full((batch.shape[1], 1), 0.5)))
        end, _ = jrnn.unroll(cell, params, batch, state)
        return Mean(jnp.square(end.h - 0.7).sum(), jnp.float32(batch.shape[1])), carry

    optimizer = optax.chain(clipping, optax.sgd(1.0))
    state, info = make_step(loss, optimizer)(init_state(params, optimizer, key(0)), jnp.zeros((50, 2, 1)))
    moved = np.sqrt(sum(float(np.square(a - b).sum()) for a, b in zip(state.params, params, strict=True)))
    assert info.gradient_norm > 2  # what is reported is before clipping
    if longest is None:
        assert moved == pytest.approx(float(info.gradient_norm), rel=1e-3)
    else:
        assert moved == pytest.approx(longest, rel=1e-3)
