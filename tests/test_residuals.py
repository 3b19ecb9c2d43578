"""What of a step is kept for its derivative is not computed twice, and nothing is kept that the derivative does not need."""

import functools

import cases
import jax
import jax.numpy as jnp
import pytest
from test_xla import drawn

import jrnn
from jrnn import attention
from jrnn.engines.residuals import Recur, Update
from jrnn.program import Program


@functools.partial(jax.jit, static_argnums=0)
def forwards_and_back(f, given, tangent, cotangent):
    return jax.jvp(f, given, tangent), jax.vjp(f, *given)[1](cotangent)


@pytest.mark.parametrize(
    ("name", "products", "sums"),
    [
        ("gru-before", 2, 2),
        ("conv-gru", 2, 2),
        ("gru-after", 0, 2),
        ("lstm-projected", 2, 1),
        ("lstm", 0, 1),
    ],
)
def test_what_is_inside_an_update_is_computed_once(name, products, sums):
    """Given its residuals it needs no weight and nothing that was only summed, and has the derivatives that it had."""
    cell = cases.CELLS[name]
    params, x, state = drawn(cell, 5)
    z, r = cell.project(params, x), cell.recur(params, state)
    update = Update(Program(cell.update, params, state, z, r))
    plain, found = jax.jit(functools.partial(update, []))(params, state, z, r)
    cases.same(plain, cell.update(params, state, z, r), tolerance=1e-6)
    assert [len(part) for part in found] == [products, sums]  # of a product's factors one, for the other is a weight
    assert [[a.shape for a in part] for part in found] == [[a.shape for a in part] for part in update.avals]

    @jax.jit
    def again(params, state, z, r):
        return update([], params, state, z, r, residuals=found)[0]

    def nothing(tree):
        return jax.tree.map(lambda a: jnp.full_like(a, jnp.nan), tree)

    without = jax.tree.map(lambda w: w if w.ndim == 1 else nothing(w), params)
    gone = (nothing(z), nothing(r)) if name.startswith("lstm") else (z._replace(r=nothing(z.r), z=nothing(z.z)), r)
    cases.same(again(without, state, *gone), plain, tolerance=1e-6)
    given = params, state, z, r
    tangent = jax.tree.map(jnp.ones_like, given)
    cotangent = jax.tree.map(jnp.ones_like, plain)
    cases.same(*(forwards_and_back(f, given, tangent, cotangent) for f in (again, cell.update)))


def test_a_sum_of_what_is_read_again_is_not_kept_in_its_place():
    ones = jnp.ones(3)
    update = Update(Program(lambda params, state, z, r: z * (z + r), (), (), ones, ones))
    assert update([], (), (), ones, ones)[1] == ([], [])


@pytest.mark.parametrize("name", cases.CELLS)
def test_of_a_product_of_the_state_alone_nothing_is_kept(name):
    cell = cases.CELLS[name]
    params, _, state = drawn(cell, 5)
    assert Recur(Program(cell.recur, params, state)).avals == ([], [])


@pytest.mark.parametrize(("kind", "shapes"), [("general", [(3, 7)]), ("additive", [(3, 5), (3, 7)])])
def test_the_scores_of_an_attention_are_computed_once(kind, shapes):
    """Given what is kept, the derivative of looking back reads the keys no more than its transpose must."""
    score = {"general": attention.General(4, 6), "additive": attention.Additive(4, 6, 5)}[kind]
    cell = jrnn.AttentionBefore(jrnn.GRU(2 + 6, 4), score)
    params = cell.bind(cases.random_params(cell), cases.normal(1, 7, 3, 6))
    state = cases.random_state(cell, params, (3,))
    recur = Recur(Program(cell.recur, params, state))
    plain, found = recur([], params, state)
    cases.same(plain, cell.recur(params, state), tolerance=1e-6)
    assert [a.shape for a in found.products] == [a.shape for a in recur.avals.products] == shapes

    def again(params, state):
        return recur([], params, state, residuals=found)[0]

    given = params, state
    tangent = jax.tree.map(jnp.ones_like, given)
    cotangent = jax.tree.map(jnp.ones_like, plain)
    cases.same(*(forwards_and_back(f, given, tangent, cotangent) for f in (again, cell.recur)))

    def back(recur):
        compiled = jax.jit(lambda state, cotangent: jax.vjp(functools.partial(recur, params), state)[1](cotangent))
        return compiled.lower(state, cotangent).compile().cost_analysis()["flops"]

    assert back(again) < back(cell.recur)
