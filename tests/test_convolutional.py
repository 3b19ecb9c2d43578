"""Convolutional cells: a cell at each place; what stands around them. Their values: test_oracle_convolutional."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import apply, key, random_inputs, random_params, random_state, run, same, step
from laws import weighted

import jrnn
from jrnn import Autodiff, Scan, initializers

TIME, BATCH = 4, 2
SPATIAL = {1: (7,), 2: (6, 5), 3: (4, 3, 5)}


# The mechanism


INSIDE = {
    "elman": jrnn.Elman(3, 4, activation="relu"),
    "jordan": jrnn.Jordan(3, 4, 2),
    "lstm-projected": jrnn.ProjectedLSTM(3, 4, 2),
    "gru-before": jrnn.GRU(3, 4, reset_after=False),
    "gru-without-bias": jrnn.GRU(3, 4, bias=False),
    "ctrnn-everything": jrnn.CTRNN(3, 4, tau=2.0, learn_tau=True, dt=None, noise=0.3),
}


@pytest.mark.parametrize("name", INSIDE)
def test_a_window_of_one_is_the_cell_at_each_place(name):
    """Places are batch axes then, with noise of their own."""
    cell = INSIDE[name]
    around = jrnn.Convolutional(cell, (2, 3), 1)
    params, xs = random_params(cell), random_inputs(cell, TIME, BATCH, 2, 3)
    spread = params._replace(w_x=params.w_x[None, None], w_h=params.w_h[None, None])
    assert jax.tree.map(jnp.shape, spread) == jax.tree.map(jnp.shape, around.init(key(0)))
    state = random_state(cell, params, (BATCH, 2, 3))
    same(run(around, spread, xs, state), run(cell, params, xs, state))


def test_an_edge_does_not_wrap_and_the_middle_is_where_it_was():
    """One bright place spreads by one place a step, the window's reach, from where it is."""
    cell = jrnn.Convolutional(jrnn.Elman(1, 1, activation="relu", bias=False), (7, 6), 3)
    params = jax.tree.map(jnp.ones_like, cell.init(key(0)))
    xs = jnp.zeros((3, 7, 6, 1)).at[0, 1, 4].set(1.0)
    _, ys = run(cell, params, xs)
    for reach, y in enumerate(ys[..., 0], 1):
        lit = np.zeros((7, 6), bool)
        lit[max(0, 1 - reach) : 2 + reach, max(0, 4 - reach) : 5 + reach] = True
        np.testing.assert_array_equal(np.asarray(y) > 0, lit)


def test_a_whole_sequence_is_projected_by_one_convolution():
    cell = jrnn.ConvLSTM((4, 5, 2), 3, 3)
    params, xs = random_params(cell), random_inputs(cell, TIME, BATCH)
    program = jax.jit(lambda params, xs: jrnn.unroll(cell, params, xs)[1]).lower(params, xs).as_text()
    lines = [line for line in program.splitlines() if "stablehlo.convolution" in line]
    made = sorted(line.rsplit("tensor<", 1)[1].partition(">")[0] for line in lines)
    assert made == ["2x4x5x12xf32", "8x4x5x12xf32"]  # of a step's rows; of those of all steps


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_16_bit_floats_are_summed_in_float32(dtype):
    """Of 9 x 256 ones a 16-bit sum stops short, at 256 or 2048. So it would for a kernel's gradient, over all places and times."""
    cell = jrnn.Convolutional(jrnn.Elman(256, 1, activation="identity", bias=False), (4, 4), 3)
    params = jax.tree.map(lambda a: jnp.ones(a.shape, dtype), cell.init(key(0)))
    xs = jnp.ones((1, 1, 4, 4, 256), dtype)
    assert run(cell, params, xs)[1][0, 0, 1, 1, 0] == 9 * 256
    small = jrnn.Convolutional(jrnn.Elman(1, 1, activation="identity", bias=False), (16, 16), 1)
    params = jax.tree.map(lambda a: jnp.zeros(a.shape, dtype), small.init(key(0)))
    xs = jnp.ones((6, 2, 16, 16, 1), dtype)

    @jax.jit
    def gradient(params, xs):
        return jax.grad(lambda params: jnp.sum(jrnn.unroll(small, params, xs)[1].astype(jnp.float32)))(params)

    assert gradient(params, xs).w_x.item() == 6 * 2 * 16 * 16


def test_wrappers_go_around():
    """With resets and padding: the gradients of a plain loop; and the same noise step by step."""
    cell = jrnn.Zoneout(
        jrnn.RecurrentDropout(jrnn.LearnedState(jrnn.ConvLSTM((3, 4, 2), 2, 2, strides=2)), 0.4), (0.2, 0.5)
    )
    params, xs = random_params(cell), random_inputs(cell, TIME, BATCH)
    state = random_state(cell, params, (BATCH,))
    marks = {"lengths": jnp.array([4, 2]), "reset": jnp.zeros((TIME, BATCH), bool).at[2, 0].set(True), "reverse": True}

    def loss(params, xs, engine):
        return weighted(apply(cell, params, xs, state, engine=engine, **marks))

    gradient = jax.jit(jax.value_and_grad(loss, (0, 1)), static_argnums=2)
    same(gradient(params, xs, Scan()), gradient(params, xs, Scan(gradient=Autodiff())))
    _, ys = run(cell, params, xs, state)
    for x, y in zip(xs, ys, strict=True):
        state, here = step(cell, params, state, x)
        same(here, y)


# Layers


def test_a_stack_in_both_directions_batch_first():
    layer = jrnn.rnn(
        jrnn.ConvLSTM, input_size=(6, 4, 2), hidden_size=3, num_layers=2, bidirectional=True, batch_first=True, kernel_size=3,
        dropout=0.3,
    )  # fmt: skip
    assert (layer.input_size, layer.output_size) == ((6, 4, 2), (6, 4, 6))
    params, xs = random_params(layer), random_inputs(layer, BATCH, TIME)
    lengths = jnp.array([4, 2])
    _, ys = jax.jit(lambda params, xs: layer.apply(params, xs, lengths=lengths))(params, xs)
    assert ys.shape == (BATCH, TIME, 6, 4, 6)

    def direction(cell, params, xs, reverse):
        return run(cell, params, xs, lengths=lengths, reverse=reverse)[1]

    want = jnp.swapaxes(xs, 0, 1)
    for pair in params:
        cell = jrnn.ConvLSTM((6, 4, want.shape[-1]), 3, 3)
        both = [direction(cell, pair.forward, want, False), direction(cell, pair.backward, want, True)]
        want = jnp.concatenate(both, -1)
    same(ys, jnp.swapaxes(want, 0, 1))
    last = jax.jit(lambda params, xs: layer.last(params, xs, lengths=lengths))(params, xs)[1]
    ends = jnp.concatenate([want[lengths - 1, jnp.arange(2)][..., :3], want[0, ..., 3:]], -1)
    same(last, ends)


def test_both_directions_in_one_loop():
    cell = jrnn.ConvGRU((3, 4, 2), 2, 3)
    one, two = (
        jrnn.Bidirectional(jrnn.Recurrent(cell), jrnn.Recurrent(cell, reverse=True), one_loop=one_loop)
        for one_loop in (True, False)
    )
    params, xs = random_params(two), random_inputs(two, TIME, BATCH)

    same(run(one, params, xs), run(two, params, xs))
    chosen = dataclasses.replace(two, one_loop=None)  # for a row alone, by all its features
    same(run(chosen, params, xs[:, :1]), run(two, params, xs[:, :1]))


def test_a_stack_whose_pictures_shrink_streams():
    first, second = jrnn.ConvLSTM((8, 6, 1), 2, 3, strides=2), jrnn.ConvGRU((4, 3, 2), 3, 3)
    layer = jrnn.Layered((jrnn.Recurrent(first), jrnn.Dropout(0.5), jrnn.Residual(jrnn.Recurrent(
        dataclasses.replace(second, cell=dataclasses.replace(second.cell, hidden_size=2))
    ))))  # fmt: skip
    params, xs = random_params(layer), random_inputs(layer, TIME, BATCH)
    final, ys = run(layer, params, xs)
    assert ys.shape == (TIME, BATCH, 4, 3, 2)
    state = layer.initial_state(params, (BATCH,))
    for x, y in zip(xs, ys, strict=True):
        state, here = step(layer, params, state, x)
        same(here, y)
    same(state, final)


@pytest.mark.parametrize("library", ["linen", "nnx"])
def test_in_flax(library):
    """As a module, and as a cell in Flax's own RNN: batch first, rows of different length, from the end."""
    cell = jrnn.ConvLSTM((3, 4, 2), 2, 3)
    params, xs = random_params(cell), random_inputs(cell, BATCH, TIME)
    lengths, options = jnp.array([4, 2]), {"reverse": True, "keep_order": True}
    state, ys = run(cell, params, jnp.swapaxes(xs, 0, 1), lengths=lengths, reverse=True)
    _, forwards = run(cell, params, jnp.swapaxes(xs, 0, 1))
    if library == "linen":
        from flax import linen as nn

        from jrnn.flax.linen import RNN, Cell

        variables = {"params": {"cell": params._asdict()}}
        got = RNN(cell, return_carry=True, **options).apply(variables, xs, seq_lengths=lengths)
        theirs = nn.RNN(Cell(cell)).apply(variables, xs)
    else:
        from flax import nnx

        from jrnn.flax.nnx import RNN, Cell

        def filled(owner):
            inside = getattr(owner, "cell", owner)
            inside = inside if hasattr(inside, "w_x") else owner
            for name, value in params._asdict().items():
                setattr(inside, name, nnx.Param(value))
            return owner

        module = filled(RNN(cell, return_carry=True, rngs=nnx.Rngs(0), **options))
        got = module(xs, seq_lengths=lengths)
        theirs = nnx.RNN(filled(Cell(cell, rngs=nnx.Rngs(0))))(xs)
    same(got, (state, jnp.swapaxes(ys, 0, 1)))
    same(theirs, jnp.swapaxes(forwards, 0, 1))


# Initialisers


def test_kernels_start_orthogonal_per_gate_and_as_glorot_has_them():
    cell = jrnn.ConvLSTM((5, 6, 8), 16, (3, 2), peepholes=True)
    params = cell.init(key(0))
    assert params.w_x.shape == (3, 2, 8, 64)
    assert params.w_h.shape == (3, 2, 16, 64)
    for q in np.split(np.asarray(params.w_h).reshape(-1, 64), 4, -1):
        np.testing.assert_allclose(q.T @ q, np.eye(16), atol=1e-5)
    bound = np.sqrt(6 / (6 * 8 + 6 * 16))
    largest = np.abs(params.w_x).max()
    assert 0.98 * bound < largest <= bound
    i, f, g, o = np.split(np.asarray(params.b), 4)
    assert (f == 1).all()
    assert not np.any([i, g, o])
    assert params.p_i.shape == (5, 6, 16)
    assert not np.any([params.p_i, params.p_f, params.p_o])


def test_peepholes_along_one_axis_are_no_matrix():
    cell = jrnn.ConvLSTM((5, 2), 3, 3, peepholes=True)
    params = initializers.standard(key(1), jrnn.Zoneout(cell, 0.1), cell.init(key(0)))
    assert not np.any([params.p_i, params.p_f, params.p_o])
    assert params.p_i.shape == (5, 3)


@pytest.mark.parametrize("kernel_size", [3, 2, (4, 1)])
def test_the_identity_keeps_a_picture_where_it_is(kernel_size):
    cell = jrnn.Convolutional(jrnn.Elman(2, 2, activation="relu"), (4, 5), kernel_size)
    params = initializers.identity(cell, cell.init(key(0)))
    state = jax.tree.map(jnp.abs, random_state(cell, params, (BATCH,)))
    final, _ = run(cell, params, jnp.zeros((3, BATCH, 4, 5, 2)), state)
    same(final, state)


def test_other_initialisers_on_kernels():
    cell = jrnn.ConvLSTM((5, 2), 4, 3)
    params = initializers.chrono(key(0), cell, initializers.uniform(key(1), cell, cell.init(key(0))), longest=9)
    assert np.abs(params.w_h).max() <= 0.5
    i, f, *_ = np.split(np.asarray(params.b), 4)
    np.testing.assert_array_equal(i, -f)
    with pytest.raises(
        ValueError, match=r"w_h of .* is float32\[3, 4, 16\], a kernel; a spectral radius is one of a matrix"
    ):
        initializers.spectral_radius(cell, params, 0.9)


def test_biases_of_their_own_at_each_place():
    cell = jrnn.Convolutional(jrnn.GRU(2, 3), (2, 4), 3, untied=("b",))
    params = random_params(cell)
    assert params.b.shape == (2, 4, 9)
    alike = params._replace(b=jnp.tile(params.b[0, 0], (2, 4, 1)))
    tied, xs = dataclasses.replace(cell, untied=()), random_inputs(cell, TIME)
    same(run(cell, alike, xs), run(tied, params._replace(b=params.b[0, 0]), xs))
    assert np.abs(run(cell, params, xs)[1] - run(cell, alike, xs)[1]).max() > 0.1
    forgetting = initializers.forget_bias(cell, params, 2.0)
    assert (np.split(np.asarray(forgetting.b), 3, -1)[1] == 2).all()


# Values and mistakes


def test_one_number_is_as_many_as_there_are_axes():
    one = jrnn.ConvGRU((4, 3, 2), 5, 3, strides=2)
    assert one == jrnn.ConvGRU((4, 3, 2), 5, (3, 3), strides=(2, 2), dilation=(1, 1))
    assert one == jrnn.Convolutional(jrnn.GRU(2, 5, reset_after=False), spatial=(4, 3), kernel_size=3, strides=2)
    assert (one.input_size, one.output_size) == ((4, 3, 2), (2, 2, 5))
    assert dataclasses.replace(one, kernel_size=5).init(key(0)).w_h.shape == (5, 5, 5, 15)


ELMAN = jrnn.Elman(2, 3)
MISTAKES = {
    "sizes": (lambda: jrnn.ConvLSTM(3, 4, 3), ValueError, r"ConvLSTM: input_size is int 3; expected a tuple \(\*spatial"),
    "many": (lambda: jrnn.ConvGRU((2, 2, 2, 2, 3), 4, 3), ValueError, "ConvGRU: input_size is tuple .*one to three"),
    "switch": (lambda: jrnn.ConvLSTM((4, 3), 4, 3, peepholes=1), TypeError, "ConvLSTM: peepholes is 1; expected True or"),
    "class": (lambda: jrnn.Convolutional(jrnn.LSTM, (4,), 3), TypeError, "cell is .*; expected a Cell such as"),
    "spatial": (lambda: jrnn.Convolutional(ELMAN, 4, 3), ValueError, "spatial is int 4; expected one to three sizes"),
    "no-space": (lambda: jrnn.Convolutional(ELMAN, (4, 0), 3), ValueError, "spatial is 0; expected at least 1"),
    "kernel": (lambda: jrnn.Convolutional(ELMAN, (4, 3), (3,)), ValueError, "kernel_size has 1 numbers; .* spatial axis, 2"),
    "fraction": (lambda: jrnn.Convolutional(ELMAN, (4,), 1.5), TypeError, "kernel_size is 1.5; expected an integer"),
    "strides": (lambda: jrnn.Convolutional(ELMAN, (4,), 3, strides=0), ValueError, "strides is 0; expected at least 1"),
    "padding": (
        lambda: jrnn.Convolutional(ELMAN, (4,), 3, padding="SAME"), ValueError, "padding is 'SAME'; expected 'same' or 'valid'",
    ),
    "large": (
        lambda: jrnn.Convolutional(ELMAN, (4, 3), 4, padding="valid"), ValueError,
        r"kernel_size \(4, 4\) with dilation \(1, 1\) is larger than spatial \(4, 3\); expected a smaller one, or padding",
    ),
    "wrapper": (
        lambda: jrnn.Convolutional(jrnn.Zoneout(ELMAN, 0.1), (4,), 3), TypeError,
        r"cell is Zoneout.*no wrapper: wrap Convolutional\(Elman",
    ),
    "twice": (
        lambda: jrnn.Convolutional(jrnn.Convolutional(ELMAN, (4,), 3), (4,), 3), TypeError, r"cell is Convolutional.*no wrapper",
    ),
    "untied": (
        lambda: jrnn.Convolutional(ELMAN, (4,), 3, untied=("p_i",)).init(key(0)), TypeError,
        r"Elman\(.*has no parameter p_i; expected one of w_x, w_h, b",
    ),
    "untied-kernel": (
        lambda: jrnn.Convolutional(ELMAN, (4,), 3, untied=("w_h",)).init(key(0)),
        ValueError,
        "untied has w_h, a kernel; expected biases",
    ),
    "options": (
        lambda: jrnn.rnn(jrnn.ConvGRU, input_size=(4, 2), hidden_size=3, kernel_size=3, peepholes=True), TypeError,
        "rnn: ConvGRU has no option peepholes; expected any of kernel_size, reset_after",
    ),
    "directions": (
        lambda: jrnn.Bidirectional(
            jrnn.Recurrent(jrnn.ConvGRU((4, 2), 2, 3)), jrnn.Recurrent(jrnn.ConvGRU((4, 2), 2, 3, strides=2), reverse=True)
        ),
        ValueError, r"forward gives \[4, 2\] features, backward \[2, 2\]; expected the same but for the last axis",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("mistake", "error", "words"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_named(mistake, error, words):
    with pytest.raises(error, match=words):
        mistake()
