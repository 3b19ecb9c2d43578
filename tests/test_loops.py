"""What leaves the body of a loop (what depends on the parameters alone, and does not grow), and 16-bit floats in it."""

import functools
import re

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

import jrnn
from jrnn.engines.inside import once
from jrnn.engines.loops import hoisted
from jrnn.engines.programs import uncut


def one_step(cell):
    def body(params, state, x):
        state = cell.update(params, state, cell.project(params, x), cell.recur(params, state))
        return state, cell.readout(params, state, x)

    return body


def test_what_is_split_last_of_all_is_found_whole():
    def split(x):
        first, second, third = jnp.split(x @ jnp.ones((4, 9)), [2, 5], -1)
        return {"third": third, "first": first, "more": second + 1, "x": x, "rows": jnp.split(x, 3, 0)[1]}

    x = jnp.arange(24.0).reshape(6, 4)
    wholes, cut = uncut(split, x)
    made = cut(wholes, lambda whole, start, size: whole if size is None else whole[..., start : start + size])
    jax.tree.map(np.testing.assert_array_equal, made, split(x))
    assert sorted(whole.shape for whole in wholes) == [(2, 4), (6, 3), (6, 4), (6, 9)]


@pytest.mark.parametrize("name", cases.CELLS)
def test_the_body_without_what_left_it_gives_the_same(name):
    cell = cases.CELLS[name]
    params, x = cases.random_params(cell), cases.random_inputs(cell, 5)
    state = cases.random_state(cell, params, (5,))
    known, rest = hoisted(one_step(cell), params, state, x)
    want, got = one_step(cell)(params, state, x), rest(known, state, x)
    assert jax.tree.structure(got) == jax.tree.structure(want)
    cases.same(cases.floats(got)[0], cases.floats(want)[0], tolerance=1e-6)


def in_loops(jaxpr, inside=False):
    """The equations that a program runs at every step of a loop."""
    for equation in jaxpr.eqns:
        if inside:
            yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from in_loops(inner, inside or equation.primitive.name == "scan")


@pytest.mark.parametrize("gradient", [jrnn.LinearSolve(), jrnn.LinearSolve(tile=7), jrnn.Autodiff()], ids=repr)
def test_columns_of_a_weight_are_cut_out_before_the_loop(gradient):
    cell = jrnn.GRU(3, 4, reset_after=False)

    def loss(params, xs):
        return jnp.sum(jrnn.unroll(cell, params, xs, engine=jrnn.Scan(gradient=gradient))[1])

    params, xs = cell.init(jax.random.key(0)), jnp.ones((7, 2, 3))
    equations = list(in_loops(jax.make_jaxpr(jax.grad(loss, argnums=(0, 1)))(params, xs).jaxpr))
    assert "tanh" in {equation.primitive.name for equation in equations}
    cuts = [equation for equation in equations if equation.primitive.name in ("slice", "split", "dynamic_slice")]
    assert params.w_h.shape not in [equation.invars[0].aval.shape for equation in cuts]


@pytest.mark.parametrize(
    ("name", "products", "sums"), [("gru-before", 2, 2), ("gru-after", 0, 2), ("lstm-projected", 2, 1), ("lstm", 0, 1)]
)
def test_what_is_inside_an_update_is_computed_once(name, products, sums):
    """With that of before it needs no weight and nothing that was only summed, and has the derivatives that it had."""
    cell = cases.CELLS[name]
    params, x = cases.random_params(cell), cases.random_inputs(cell, 5)
    state = cases.random_state(cell, params, (5,))
    z, r = cell.project(params, x), cell.recur(params, state)
    plain, found = once(cell.update, params, state, z, r)
    cases.same(plain, cell.update(params, state, z, r), tolerance=1e-6)
    assert [len(part) for part in found] == [products, sums]  # of a product's factors one, for the other is a weight

    def again(params, state, z, r):
        return once(cell.update, params, state, z, r, found)[0]

    def nothing(tree):
        return jax.tree.map(lambda a: jnp.full_like(a, jnp.nan), tree)

    without = jax.tree.map(lambda w: w if w.ndim == 1 else nothing(w), params)
    gone = (nothing(z), nothing(r)) if name.startswith("lstm") else (z._replace(r=nothing(z.r), z=nothing(z.z)), r)
    cases.same(again(without, state, *gone), plain, tolerance=1e-6)
    given = params, state, z, r
    tangent = jax.tree.map(jnp.ones_like, given)
    cases.same(jax.jvp(again, given, tangent), jax.jvp(cell.update, given, tangent))
    cotangent = jax.tree.map(jnp.ones_like, plain)
    cases.same(jax.vjp(again, *given)[1](cotangent), jax.vjp(cell.update, *given)[1](cotangent))


def test_a_sum_of_what_is_read_again_is_not_kept_in_its_place():
    def update(params, state, z, r):
        return z * (z + r)

    ones = jnp.ones(3)
    assert once(update, (), (), ones, ones)[1] == ([], [])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_16_bit_floats_are_not_stacked_as_such(dtype):
    """XLA's CPU backend may convert the whole stack at every step."""
    cell = jrnn.LSTM(3, 4)
    params, xs = cases.cast((cell.init(jax.random.key(0)), jnp.ones((7, 2, 3))), dtype)

    def loss(params, xs):
        return jnp.sum(jrnn.unroll(cell, params, xs)[1])

    loops = list(scans(jax.make_jaxpr(jax.grad(loss, argnums=(0, 1)))(params, xs).jaxpr))
    assert len(loops) > 1
    for loop in loops:
        stacked = [variable.aval.dtype for variable in loop.outvars if variable.aval.shape[0] == len(xs)]
        assert stacked
        assert dtype not in stacked


@pytest.mark.parametrize("gradient", [jrnn.LinearSolve(), jrnn.LinearSolve(tile=2, save="states")], ids=repr)
def test_16_bit_floats_are_multiplied_as_such_and_summed_in_32(gradient):
    """In the loops and outside, forward and for the gradients of weights, biases and inputs."""
    cell = jrnn.LSTM(3, 4)
    params, xs = cases.cast((cell.init(jax.random.key(0)), jnp.ones((7, 2, 3))), jnp.bfloat16)

    def loss(params, xs):
        return jnp.sum(jrnn.unroll(cell, params, xs, engine=jrnn.Scan(gradient=gradient))[0].h)

    program = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(params, xs).as_text()
    products = re.findall(r"stablehlo.dot_general .* : \((.*)\) -> (.*)", program)
    assert not [factors for factors, _ in products if "f32" in factors.replace("bf16", "")]
    # With x and h, of them each its gradient (of the weight by way of a transposition, which is a product too), but for those
    # of which nobody reads the result.
    assert len([made for _, made in products if "xf32>" in made]) >= 2 + 2 + 2 * 2
    sums = re.findall(r"stablehlo.reduce.* across .* : \((.*), .*\) -> (.*)", program)
    assert (
        "tensor<14x16xf32>" if gradient.tile is None else "tensor<4x16xf32>",
        "tensor<16xf32>",
    ) in sums  # of the bias
    assert not [terms for terms, _ in sums if "bf16" in terms]


def test_steps_are_laid_out_in_every_loop_of_a_derivative():
    cell = jrnn.GRU(3, 4)
    params, xs = cell.init(jax.random.key(0)), jnp.ones((7, 2, 3))

    def loss(params):
        return jnp.sum(jrnn.unroll(cell, params, xs, engine=jrnn.Scan(unroll=3))[1])

    forward_mode = functools.partial(jax.jvp, loss, (params,))
    for derivative, given in ((jax.grad(loss), params), (forward_mode, (params,))):
        loops = list(scans(jax.make_jaxpr(derivative)(given).jaxpr))
        assert len(loops) > 1
        assert {loop.params["unroll"] for loop in loops} == {3}


def scans(jaxpr):
    """The loops of a program."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "scan":
            yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from scans(inner)


@pytest.mark.parametrize("name", cases.CELLS)
def test_a_step_in_16_bits_is_one_in_32_then_rounded(name):
    cell = cases.CELLS[name]
    params, x, state = cases.cast(
        (params := cases.random_params(cell), cases.random_inputs(cell, 5), cases.random_state(cell, params, (5,))),
        jnp.bfloat16,
    )
    z, r = cell.project(params, x), cell.recur(params, state)
    want = cases.cast(cell.update(*cases.cast((params, state, z, r), jnp.float32)), jnp.bfloat16)
    for a, b in zip(*(cases.floats(tree)[0] for tree in (cell.step(params, state, x)[0], want)), strict=True):
        assert a.dtype == jnp.bfloat16
        np.testing.assert_array_equal(a, b)


def test_what_grows_stays():
    known, rest = hoisted(lambda b, x: x + jnp.broadcast_to(2 * b, x.shape), jnp.arange(3.0), jnp.ones((5, 3)))
    assert [a.shape for a in known] == [(3,)]
    np.testing.assert_array_equal(rest(known, jnp.ones((5, 3))), np.tile([1.0, 3.0, 5.0], (5, 1)))


def test_what_is_seen_happens_at_every_step(capfd):
    def body(w, x):
        jax.debug.print("seen {}", w)
        return w * x

    known, rest = hoisted(body, jnp.ones(()), jnp.ones(()))
    jax.lax.scan(lambda carry, x: (carry, rest(known, x)), 0, jnp.ones(3))
    jax.effects_barrier()
    assert capfd.readouterr().out.count("seen 1.0") == 3
