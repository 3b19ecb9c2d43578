"""A traced function as a value."""

import jax
import jax.numpy as jnp
import numpy as np
from cases import normal

from jrnn.program import Program


def test_a_value_of_an_outer_trace_beside_a_constant():
    """What a function closes over: the one has a derivative, the other is the program's own."""
    x, there = normal(0, 3, 4), np.arange(12).reshape(3, 4) % 2 == 0

    def f(x, slope):
        return jnp.where(there, jnp.tanh(slope * x), x).sum()

    def by_program(slope):
        program = Program(lambda x: f(x, slope), x)
        assert len(program.closed_over) == 1
        assert len(program.jaxpr.constvars) == len(program.consts)
        return program(program.closed_over, x)

    np.testing.assert_allclose(jax.grad(by_program)(0.7), jax.grad(lambda slope: f(x, slope))(0.7), rtol=1e-6)
