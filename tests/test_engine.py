"""What an engine is: a third one, defined here, for any cell, goes through the laws that `Scan` passes."""

import dataclasses

import jax
import jax.numpy as jnp
import laws
import numpy as np
import pytest
from cases import CELLS, KINDS, apply, random_inputs, random_params, random_state, same
from jax import lax

import jrnn
from jrnn.arrays import differentiable, with_differentiable
from jrnn.engines.implicit import Found, implicit
from jrnn.engines.linear_system import Unknowns, linearised
from jrnn.engines.solver import Solver
from jrnn.engines.system import shift, traced

# The third engine: from here ...


def vectors(leaves, axes):
    """Leaves [time, *batch, ...] as one array [time, *batch, features], and the way back."""
    flat = [a.reshape(*a.shape[:axes], -1) for a in leaves]
    ends = np.cumsum([a.shape[-1] for a in flat])[:-1]
    return jnp.concatenate(flat, -1), lambda v: [
        part.reshape(a.shape) for part, a in zip(jnp.split(v, ends, -1), leaves, strict=True)
    ]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class ParallelScan(Solver):
    """The linear system by `lax.associative_scan`, in log2(time) passes."""

    def solve(self, linear, first, b):
        axes, at = 1 + linear.system.batch_axes, linear.at
        steps = jax.vmap(linear.advance)
        no_state = [jnp.zeros_like(a) for a in differentiable(at.before)]
        zero, back = vectors(no_state, axes)
        none = Unknowns(None, None, None)

        def column(unit):
            return vectors(steps(at, back(jnp.broadcast_to(unit, zero.shape)), none).state, axes)[0]

        jacobians = jnp.moveaxis(jax.vmap(column)(jnp.eye(zero.shape[-1], dtype=zero.dtype)), 0, -1)
        contributed = vectors(steps(at, no_state, b).state, axes)[0]
        begin = -1 if linear.reverse else 0
        start = jnp.einsum("...ij,...j->...i", jacobians[begin], vectors(first, axes - 1)[0])
        contributed = contributed.at[begin].add(start)

        def join(p, q):
            return q[0] @ p[0], jnp.einsum("...ij,...j->...i", q[0], p[1]) + q[1]

        ds = back(lax.associative_scan(join, (jacobians, contributed), reverse=linear.reverse)[1])
        return steps(at, shift(first, ds, linear.reverse), b)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Newton(jrnn.Engine):
    """All states at once, by Newton's method over all times (Lim et al. 2024): exact after as many rounds as there are steps."""

    def run(self, system):
        states = implicit(self.find, ParallelScan(), traced(system))
        return system.final(states), states

    def find(self, system):
        steps = system.steps()
        guess = jax.tree.map(lambda s: jnp.broadcast_to(s, (system.xs.shape[0], *s.shape)), system.state)

        def closer(_, guess):
            made = jax.vmap(system.step)(system.shifted(guess), steps)[0]
            off = [a - b for a, b in zip(differentiable(made), differentiable(guess), strict=True)]
            first = [jnp.zeros_like(a) for a in differentiable(system.state)]
            moves = ParallelScan().solve(linearised(system, guess, steps), first, Unknowns(None, None, off)).state
            return with_differentiable(made, [a + b for a, b in zip(differentiable(guess), moves, strict=True)])

        return Found(lax.fori_loop(0, system.xs.shape[0], closer, guess), steps)


# ... to here.

LAYER = jrnn.Recurrent(CELLS["gru-before"], engine=Newton())


@pytest.mark.parametrize("law", [*laws.EVERY, *laws.STREAMED, *laws.DERIVATIVES], ids=lambda law: law.__name__)
def test_a_third_engine_passes_the_laws(law, monkeypatch):
    monkeypatch.setattr(jrnn, "Newton", Newton, raising=False)  # for the law that reads a model's repr back
    law(LAYER)


@pytest.mark.parametrize("name", KINDS)
def test_a_third_engine_takes_any_cell(name):
    cell = CELLS[name]
    params, xs, state = random_params(cell), random_inputs(cell, 4, 2), None
    state = random_state(cell, params, (2,))
    marks = {"lengths": jnp.array([4, 2]), "reset": jnp.zeros((4, 2), bool).at[1, 0].set(True)}

    def loss(params, engine):
        return laws.weighted(apply(cell, params, xs, state, engine=engine, **marks))

    value_and_grad = jax.jit(jax.value_and_grad(loss), static_argnums=1)
    same(value_and_grad(params, Newton()), value_and_grad(params, jrnn.Scan(gradient=jrnn.Autodiff())), 1e-4)
