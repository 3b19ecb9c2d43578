"""What exists for XLA's sake: each workaround leaves the numbers alone, can be switched off, and is left out on other backends."""

import re

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from laws import in_loops

import jrnn
from jrnn import LinearSolve, Scan
from jrnn.online import Online, SnAp
from jrnn.program import Program
from jrnn.xla import WORKAROUNDS, off
from jrnn.xla.choices import MIB, Choice, Sizes, choose, dividing
from jrnn.xla.gates import before_split
from jrnn.xla.loops import hoist, loop
from jrnn.xla.products import mapped_over_rows


def one_step(cell):
    def body(params, state, x):
        state = cell.update(params, state, cell.project(params, x), cell.recur(params, state))
        return state, cell.readout(params, state, x)

    return body


def drawn(cell, *shape):
    params = cases.random_params(cell)
    return params, cases.random_inputs(cell, *shape), cases.random_state(cell, params, shape)


def gradient_program(cell, dtype=jnp.float32, time=7, rows=2, gradient=LinearSolve()):  # noqa: B008
    params, xs = cases.cast((cases.random_params(cell), cases.random_inputs(cell, time, rows)), dtype)

    def loss(params, xs):
        return jnp.sum(jrnn.unroll(cell, params, xs, engine=Scan(gradient=gradient))[1])

    return jax.jit(jax.grad(loss, (0, 1))).lower(params, xs).as_text()


# Switches


@pytest.mark.parametrize(
    ("name", "dtype"), [(name, jnp.bfloat16 if "halves" in name else jnp.float32) for name in WORKAROUNDS]
)
def test_a_workaround_changes_the_program_and_not_the_numbers(name, dtype):
    own = {
        "one_tanh": jrnn.Recurrent(jrnn.LSTM(3, 4)),
        "ordered_convolutions": jrnn.Recurrent(jrnn.ConvGRU((4, 3, 2), 2, (3, 2), strides=2, dilation=2)),
        "rows_in_turn": Online(jrnn.Recurrent(jrnn.LSTM(3, 4)), SnAp()),
    }
    layer = own.get(name, jrnn.Recurrent(jrnn.GRU(3, 4)))
    params, xs = cases.cast((cases.random_params(layer), cases.random_inputs(layer, 6, 2)), dtype)

    def run():
        def loss(params, xs):
            state, first = layer.apply(params, xs[:3])
            _, second = layer.apply(params, xs[3:], state)
            return sum(jnp.sum(jnp.square(ys.astype(jnp.float32))) for ys in (first, second))

        return jax.jit(jax.value_and_grad(loss, (0, 1)))(params, xs)

    with off(name):
        without = run()
    for a, b in zip(jax.tree.leaves(without), jax.tree.leaves(run()), strict=True):
        a, b = (np.asarray(x, np.float32) for x in (a, b))
        tolerance = 1e-5 if dtype == jnp.float32 else 0.05
        np.testing.assert_allclose(a, b, atol=tolerance * max(1, np.abs(b).max()))


@pytest.mark.parametrize(
    ("name", "cell", "dtype"),
    [
        ("one_tanh", jrnn.LSTM(3, 4), jnp.float32),
        ("barriers", jrnn.GRU(3, 4), jnp.float32),
        ("transposed_weights", jrnn.GRU(3, 4), jnp.float32),
        ("distinct_stacks", jrnn.LSTM(3, 4), jnp.float32),
        ("hoisting", jrnn.GRU(3, 4, reset_after=False), jnp.float32),
        ("weight_gradients", jrnn.GRU(3, 4), jnp.bfloat16),
        ("ordered_convolutions", jrnn.ConvGRU((4, 2), 2, 3), jnp.float32),
        ("halves_as_integers", jrnn.GRU(3, 4), jnp.bfloat16),
        ("halves_stacked_as_float32", jrnn.GRU(3, 4), jnp.bfloat16),
        ("halves_summed_in_float32", jrnn.GRU(3, 4), jnp.bfloat16),
    ],
)
def test_a_switch_does_something(name, cell, dtype):
    with off(name):
        without = gradient_program(cell, dtype)
    assert without != gradient_program(cell, dtype)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3), (0,)])
def test_rows_in_turn_are_rows_at_once(batch):
    rng = np.random.default_rng(0)
    matrix, rows, weights = (jnp.asarray(rng.standard_normal(shape)) for shape in ((5, 2), (*batch, 5, 2), (*batch, 2)))

    def run():
        def f(matrix, rows):
            return mapped_over_rows(lambda matrix, row: (matrix * row).sum(0), len(batch), matrix, rows)

        made, back = jax.vjp(f, matrix, rows)
        return made, back(weights)

    by_numpy = np.einsum("kn,...kn->...n", matrix, rows)
    of_matrix = np.einsum("rn,rkn->kn", weights.reshape(-1, 2), rows.reshape(-1, 5, 2))
    gradients = of_matrix, np.einsum("...n,kn->...kn", weights, matrix)
    with off("rows_in_turn"):
        cases.same(run(), (by_numpy, gradients))
        assert "scan" not in str(jax.make_jaxpr(run)())
    cases.same(run(), (by_numpy, gradients))
    assert ("scan" in str(jax.make_jaxpr(run)())) == bool(batch)


def test_rows_in_turn_are_summed_in_32_bits():
    """1 added to 256 as bfloat16 is 256."""
    gradient = jax.grad(lambda a: mapped_over_rows(lambda a, row: a * row, 1, a, jnp.ones(300)).sum())(jnp.bfloat16(1))
    assert gradient.dtype == jnp.bfloat16
    assert gradient == 300


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_rows_in_turn_divided_among_devices(kind):
    mesh = jax.make_mesh((2,), ("data",), axis_types=(kind,))
    rows = jnp.arange(12.0).reshape(4, 3)
    divided = jax.device_put(rows, NamedSharding(mesh, P("data")))

    def gradient(a, rows):
        return jax.grad(lambda a: jnp.sin(mapped_over_rows(lambda a, row: (a * row).sum(), 1, a, rows)).sum())(a)

    want = gradient(jnp.ones(3), rows)
    with jax.set_mesh(mesh):
        cases.same(jax.jit(gradient)(jnp.ones(3), divided), want)
        by_hand = jax.shard_map(gradient, in_specs=(P(), P("data")), out_specs=P())
        compiled = jax.jit(by_hand).lower(jnp.ones(3), divided).compile()
        cases.same(compiled(jnp.ones(3), divided), want)
    assert compiled.as_text().count("all-reduce(") == 1
    assert not [line for line in in_loops(compiled.as_text()) if "all-reduce" in line]


def test_an_unknown_switch():
    with pytest.raises(ValueError, match=r"names holds \['unroll'\]; expected some of hoisting"), off("unroll"):
        pass


# Other backends


@pytest.fixture
def on_a_gpu(monkeypatch):
    """By name alone: programs are made for a GPU, and run on the CPU."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    jax.clear_caches()
    yield
    jax.clear_caches()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_program_for_a_gpu_has_none_of_it(on_a_gpu, dtype):
    program = gradient_program(jrnn.LSTM(3, 4), dtype, time=16)
    assert "ui16" not in program  # 16-bit stacks stay what they are
    assert program.count("optimization_barrier") <= 8  # of the forward loop alone, one for each of eight steps
    stacked = re.findall(r"dynamic_update_slice .*tensor<2x8x2x4x(\w+)>,", program)  # two turns of eight steps
    assert set(stacked) == {"f32" if dtype == jnp.float32 else "bf16"}


@pytest.mark.parametrize("name", ["lstm", "gru-before", "ctrnn-everything"])
def test_the_numbers_of_a_gpu_are_those_of_a_cpu(name, monkeypatch):
    cell = cases.CELLS[name]
    params, xs, state = drawn(cell, 2)
    xs = cases.random_inputs(cell, 11, 2)
    marks = {"lengths": jnp.array([11, 4]), "reset": jnp.zeros((11, 2), bool).at[5].set(True)}

    def run():
        leaves, put_back = cases.floats((params, xs, state))

        def loss(leaves):
            params, xs, state = put_back(leaves)
            final, ys = jrnn.unroll(cell, params, xs, state, **marks)
            return sum(jnp.sum(a**2) for a in cases.floats((final, ys))[0])

        return jax.jit(jax.value_and_grad(loss))(leaves)

    want = run()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    jax.clear_caches()
    cases.same(run(), want)
    jax.clear_caches()


def test_both_directions_in_one_loop_on_a_gpu(on_a_gpu):
    layer = jrnn.rnn(jrnn.GRU, input_size=3, hidden_size=4, bidirectional=True)
    params, xs = layer.init(cases.key(0)), cases.random_inputs(layer, 5, 2)
    got = jax.jit(layer.apply)(params, xs)
    apart = jrnn.Layered(tuple(jrnn.Bidirectional(one.forward, one.backward, one_loop=False) for one in layer.layers))
    cases.same(got, apart.apply(params, xs))


# Thresholds: numbers in, numbers out


def test_what_fits_is_taken_at_once_with_its_gates():
    assert choose(Sizes(128, 8192, 20000, 65536, 1e6), None, None) == Choice(None, None, True)


def test_what_does_not_fit_is_cut_into_tiles_that_do():
    sizes = Sizes(time=512, z=64 * 1024, kept=192 * 1024, weights=256 * 1024, flop=1e6)
    choice = choose(sizes, None, None)
    assert choice.tile is not None
    assert choice.tile * sizes.z <= 3 * MIB // 2
    assert sizes.time % choice.tile == 0
    assert not choice.gates  # 15 FLOP a byte: cheaper to make again
    assert choose(sizes._replace(flop=200 * sizes.z), None, None).gates
    assert choose(sizes, None, "gates").gates
    assert not choose(sizes._replace(time=8), None, "states").gates


def test_a_run_without_a_derivative_takes_up_to_8_mib_of_z_at_once():
    large = Sizes(time=1024, z=8 * 1024, kept=64 * 1024, weights=1024, flop=1.0)
    assert choose(large, None, None).plain is None
    assert choose(large._replace(time=1025), None, None).plain is not None


def test_a_tile_that_is_given_is_taken():
    assert choose(Sizes(1024, 8192, 65536, 1024, 1.0), 7, None)[:2] == (7, 7)


@pytest.mark.parametrize(
    ("time", "most", "want"), [(512, 43, 32), (100, 20, 20), (97, 20, 20), (60, 16, 15), (7, 4, 4)]
)
def test_tiles_divide_time_where_they_can(time, most, want):
    assert dividing(time, most) == want


# Loops


@pytest.mark.parametrize("name", cases.KINDS)
def test_the_body_without_what_left_it_gives_the_same(name):
    cell = cases.CELLS[name]
    params, x, state = drawn(cell, 5)
    program = Program(one_step(cell), params, state, x)
    hoisted, step = hoist(program, params)
    got = jax.tree.unflatten(program.structure, jax.jit(step)(hoisted, jax.tree.leaves((state, x))))
    want = jax.jit(one_step(cell))(params, state, x)
    cases.same(cases.floats(got)[0], cases.floats(want)[0], tolerance=1e-6)


def test_columns_of_a_weight_are_cut_out_before_the_loop():
    cell = jrnn.GRU(3, 4, reset_after=False)
    params, _, state = drawn(cell, 2)
    hoisted, _ = hoist(Program(cell.recur, params, state), params)
    assert sorted(a.shape for a in hoisted) == [(4,), (4,), (4, 8)]


def test_what_grows_stays():
    program = Program(lambda b, x: x + jnp.broadcast_to(2 * b, x.shape), jnp.arange(3.0), jnp.ones((5, 3)))
    hoisted, step = hoist(program, jnp.arange(3.0))
    assert [a.shape for a in hoisted] == [(3,)]
    np.testing.assert_array_equal(step(hoisted, [jnp.ones((5, 3))])[0], np.tile([1.0, 3.0, 5.0], (5, 1)))


def test_what_is_seen_happens_at_every_step(capfd):
    def body(w, carry, x):
        jax.debug.print("seen {}", w)
        return carry, w * x

    loop(body, jnp.ones(()), 0, jnp.ones(3), reverse=False, unroll=1, differentiable=False)
    jax.effects_barrier()
    assert capfd.readouterr().out.count("seen 1.0") == 3


@pytest.mark.parametrize("differentiable", [False, True])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_the_loop_is_a_scan(dtype, differentiable):
    """What is returned twice, and what is read by its last axis, included."""
    w, h, xs = cases.cast((cases.normal(1, 4, 4), cases.normal(2, 3, 4), cases.normal(3, 6, 3, 4)), dtype)

    def body(w, h, x):
        new = jnp.tanh(h @ w.T + x)
        return new, (new, x, new)

    for reverse in (False, True):
        got = loop(body, w, h, xs, reverse=reverse, unroll=2, differentiable=differentiable)
        want = lax.scan(lambda h, x: body(w, h, x), h, xs, reverse=reverse)
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            assert a.dtype == b.dtype
        cases.same(cases.cast(got, jnp.float32), cases.cast(want, jnp.float32), 1e-5 if dtype == jnp.float32 else 0.02)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_16_bit_floats_are_not_stacked_as_such(dtype):
    """XLA's CPU backend may convert the whole stack at every step."""
    name = {jnp.bfloat16: "bf16", jnp.float16: "f16"}[dtype]
    program = gradient_program(jrnn.LSTM(3, 4), dtype)
    stacked = re.findall(r"dynamic_update_slice .*tensor<7x2x\d+x(\w+)>,", program)
    assert len(stacked) > 2
    assert name not in stacked


@pytest.mark.parametrize("gradient", [LinearSolve(), LinearSolve(tile=2, save="states")], ids=repr)
def test_16_bit_floats_are_multiplied_as_such_and_summed_in_32(gradient):
    """In the loops and outside, forward and for the gradients of weights, biases and inputs."""
    program = gradient_program(jrnn.LSTM(3, 4), jnp.bfloat16, gradient=gradient)
    products = re.findall(r"stablehlo.dot_general .* : \((.*)\) -> (.*)", program)
    assert not [factors for factors, _ in products if "f32" in factors.replace("bf16", "")]
    assert len([made for _, made in products if "xf32>" in made]) >= 2 + 2 + 2 * 2
    sums = re.findall(r"stablehlo.reduce.* across .* : \((.*), .*\) -> (.*)", program)
    assert [made for _, made in sums if made == "tensor<16xf32>"]  # of the bias
    assert not [terms for terms, _ in sums if "bf16" in terms]


def test_steps_are_laid_out_in_every_loop_of_a_derivative():
    """With three steps in a turn the compiled program has more products than with one, forward and backward."""
    cell = jrnn.Elman(3, 4)
    params, xs = cell.init(jax.random.key(0)), jnp.ones((9, 2, 3))

    def products(unroll, take):
        def loss(params):
            return jnp.sum(jrnn.unroll(cell, params, xs, engine=Scan(unroll=unroll))[1])

        program = jax.jit(take(loss)).lower(params).compile().as_text()
        return len([line for line in in_loops(program) if re.search(r" dot\(|__ynn|onednn", line)])

    forward, both = (products(3, take) - products(1, take) for take in (lambda f: f, jax.grad))
    assert forward >= 2
    assert both >= forward + 2


@pytest.mark.parametrize("save", ["gates", "states"])
def test_convolutions_of_a_gradient_are_in_the_order_that_the_backend_is_fast_at(save):
    """Those of the loops in particular: the backend puts in order what is outside of them itself."""
    cell = jrnn.ConvGRU((4, 3, 2), 2, 3, strides=2)
    program = gradient_program(cell, gradient=LinearSolve(save=save))
    found = re.findall(r"stablehlo\.convolution.*?dim_numbers = (.*?), window", program)
    assert len(found) >= 8  # of three products forwards, two of their inputs and all three of their weights
    assert set(found) == {"[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]"}


# Gates, steps and sums


def test_what_is_split_last_of_all_is_found_whole():
    def split(x):
        first, second, third = jnp.split(x @ jnp.ones((4, 9)), [2, 5], -1)
        return {"third": third, "first": first, "more": second + 1, "x": x, "rows": jnp.split(x, 3, 0)[1]}

    x = jnp.arange(24.0).reshape(6, 4)
    program = Program(split, x)
    wholes, pieces = before_split(program)
    made = program.returning(wholes)([], x)
    cut = [made[i] if size is None else made[i][..., start : start + size] for i, start, size in pieces]
    jax.tree.map(np.testing.assert_array_equal, jax.tree.unflatten(program.structure, cut), split(x))
    assert sorted(whole.aval.shape for whole in wholes) == [(2, 4), (6, 3), (6, 4), (6, 9)]


@pytest.mark.parametrize("name", cases.KINDS)
def test_a_step_in_16_bits_is_one_in_32_then_rounded(name):
    cell = cases.CELLS[name]
    params, x, state = cases.cast(drawn(cell, 5), jnp.bfloat16)
    z, r = cell.project(params, x), cell.recur(params, state)
    want = cases.cast(cell.update(*cases.cast((params, state, z, r), jnp.float32)), jnp.bfloat16)
    for a, b in zip(*(cases.floats(tree)[0] for tree in (cell.step(params, state, x)[0], want)), strict=True):
        assert a.dtype == jnp.bfloat16
        np.testing.assert_array_equal(a, b)


def test_the_gradient_of_a_bias_in_16_bits_is_rounded_once():
    """Over time and rows at once: h = relu(b), whose slope is the cotangent of each step and row."""
    cell = jrnn.Elman(2, 64, activation="relu")
    params = jax.tree.map(lambda a: jnp.zeros(a.shape, jnp.bfloat16), cell.init(jax.random.key(0)))
    params = params._replace(b=jnp.ones(64, jnp.bfloat16))
    xs = jnp.zeros((40, 7, 2), jnp.bfloat16)
    weights = jnp.asarray(np.random.default_rng(0).uniform(1, 2, (40, 7, 64)), jnp.bfloat16)

    def loss(params):
        return jnp.sum((jrnn.unroll(cell, params, xs)[1] * weights).astype(jnp.float32))

    once = jnp.asarray(np.asarray(weights, np.float64).sum((0, 1)), jnp.bfloat16)
    between = weights.astype(jnp.float32).sum(0).astype(jnp.bfloat16).astype(jnp.float32).sum(0).astype(jnp.bfloat16)
    assert not np.array_equal(once, between)
    np.testing.assert_array_equal(jax.jit(jax.grad(loss))(params).b, once)
