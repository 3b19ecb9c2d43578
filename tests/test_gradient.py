"""Every way to differentiate the loop gives the derivatives that JAX itself gives, and keeps less."""

import functools

import jax
import jax.numpy as jnp
import pytest
from cases import CELLS, KINDS, cast, floats, random_inputs, random_params, random_state, run, same
from laws import weighted

import jrnn
from jrnn import Autodiff, Checkpointed, LinearSolve, Scan

TIME = 7
WAYS = {
    "checkpointed": Checkpointed(every=3),
    "checkpointed-autodiff": Checkpointed(every=3, gradient=Autodiff()),
    "checkpointed-root": Checkpointed(),
    "states": LinearSolve(tile=3, save="states"),
    "states-one-tile": LinearSolve(tile=16, save="states"),
    "gates": LinearSolve(tile=3, save="gates"),
    "own-choice": LinearSolve(),
}


def given(cell, dtype=jnp.float64):
    """Parameters, inputs and a state.

    For `derivatives` to take as arguments: of a constant and a concatenation, XLA's CPU backend in jax 0.12 makes products of
    few 16-bit floats that it cannot run.
    """
    params, xs = random_params(cell), random_inputs(cell, TIME, 4)
    return cast((params, xs, random_state(cell, params, (4,))), dtype)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def derivatives(cell, gradient, reverse, given):
    """Value, gradient, tangent, and a Hessian-vector product, through lengths, resets and both ends of the state."""
    leaves, put_back = floats(given)
    marks = {"lengths": jnp.array([7, 4, 0, 1]), "reset": jnp.eye(TIME, 4, k=-2, dtype=bool), "reverse": reverse}

    def loss(leaves):
        params, xs, state = put_back(leaves)
        return weighted(jrnn.unroll(cell, params, xs, state, engine=Scan(gradient=gradient), **marks))

    direction = [jnp.cos(jnp.arange(a.size, dtype=float)).astype(a.dtype).reshape(a.shape) for a in leaves]
    value, slope = jax.jvp(loss, (leaves,), (direction,))
    return value, slope, jax.grad(loss)(leaves), jax.jvp(jax.grad(loss), (leaves,), (direction,))[1]


@pytest.mark.parametrize(
    ("name", "way", "reverse"),
    [(name, "states", index % 2 == 0) for index, name in enumerate(KINDS)]
    + [("gru-before", way, False) for way in WAYS if way != "states"]
    + [("lstm-peephole", way, True) for way in ("own-choice", "checkpointed")],
)
def test_every_way_gives_the_same_derivatives(name, way, reverse):
    with jax.enable_x64(True):
        cell = CELLS[name]
        want = derivatives(cell, Autodiff(), reverse, given(cell))
        same(derivatives(cell, WAYS[way], reverse, given(cell)), want, 1e-11)


@pytest.mark.parametrize(("name", "way"), [("lstm-projected", "own-choice"), ("gru-after", "gates")])
def test_derivatives_in_16_bits_are_those_in_32_but_for_rounding(name, way):
    cell = CELLS[name]
    want = derivatives(cell, Autodiff(), False, given(cell, jnp.float32))
    got = cast(derivatives(cell, WAYS[way], False, given(cell, jnp.bfloat16)), jnp.float32)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert jnp.linalg.norm(a - b) < 0.1 * jnp.linalg.norm(b)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("time", [1, 4, 6])
def test_any_number_of_steps_fits_any_tile(way, time):
    cell = CELLS["gru-after"]
    params, xs = random_params(cell), random_inputs(cell, time, 2)
    for reverse in (False, True):
        got = run(cell, params, xs, reverse=reverse, engine=Scan(gradient=way))
        same(got, run(cell, params, xs, reverse=reverse, engine=Scan(gradient=Autodiff())))


def test_vmap_over_parameters_and_forward_jacobian():
    cell = CELLS["lstm"]
    xs = random_inputs(cell, TIME)
    params = jax.tree.map(lambda *a: jnp.stack(a), *[random_params(cell, seed) for seed in (1, 2, 3)])

    def by(gradient):
        def outputs(params):
            return jnp.sum(jnp.square(jrnn.unroll(cell, params, xs, engine=Scan(gradient=gradient))[1]), 0)

        return jax.jit(jax.vmap(jax.jacfwd(outputs)))(params), jax.jit(jax.vmap(jax.jacrev(outputs)))(params)

    forward, backward = by(LinearSolve(tile=3))
    same(forward, backward)
    same(forward, by(Autodiff())[0])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LinearSolve(tile=0), "tile is 0"),
        (lambda: LinearSolve(save="everything"), "save is 'everything'; expected 'states', 'gates' or None"),
        (lambda: Checkpointed(every=0), "every is 0"),
    ],
)
def test_bad_options(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("make", [Scan, Checkpointed])
def test_a_gradient_is_one_of_ours(make):
    with pytest.raises(TypeError, match=f"{make.__name__}: gradient is 'autodiff'; expected LinearSolve"):
        make(gradient="autodiff")
