"""Convolutional cells: the numbers of Keras, of Haiku and of the papers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import cast, key, random_inputs, random_params, run, same
from laws import weighted

import jrnn

TIME, BATCH = 4, 2
SPATIAL = {1: (7,), 2: (6, 5), 3: (4, 3, 5)}


def by_gate(w, gates, order):
    """The blocks of the last axis in another order."""
    blocks = dict(zip(gates, np.split(np.asarray(w), len(gates), -1)))
    return np.concatenate([blocks[gate] for gate in order], -1)


def value_and_gradients(f, *arguments):
    return jax.jit(jax.value_and_grad(lambda *a: weighted(f(*a)), tuple(range(len(arguments)))))(*arguments)


# Keras


def keras_layer(rank, **options):
    keras = pytest.importorskip("keras")
    options = {"padding": "same", "recurrent_activation": "sigmoid", "return_sequences": True} | options
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        layer = getattr(keras.layers, f"ConvLSTM{rank}D")(3, **options)
        layer.build((BATCH, TIME, *SPATIAL[rank], 2))
    return layer


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras with NumPy 2
@pytest.mark.parametrize(
    ("rank", "ours", "theirs"),
    [
        (1, {"kernel_size": 3, "padding": "valid", "dilation": 2}, {"kernel_size": 3, "padding": "valid", "dilation_rate": 2}),
        (2, {"kernel_size": (3, 2), "strides": (2, 1)}, {"kernel_size": (3, 2), "strides": (2, 1)}),
        (2, {"kernel_size": 2, "dilation": 2, "bias": False}, {"kernel_size": 2, "dilation_rate": 2, "use_bias": False}),
        (3, {"kernel_size": 2}, {"kernel_size": 2}),
    ],
)  # fmt: skip
def test_values_and_gradients_are_those_of_keras(rank, ours, theirs):
    """Its gates are i f c o, ours i f g o: the same order, with c for g."""
    layer = keras_layer(rank, **theirs)
    cell = jrnn.ConvLSTM((*SPATIAL[rank], 2), 3, **ours)
    params, xs = random_params(cell), random_inputs(cell, TIME, BATCH)

    def own(params, xs):
        return jrnn.unroll(cell, params, xs)[1]

    def keras(params, xs):
        weights = [a for a in (params.w_x, params.w_h, params.b) if a is not None]
        rest = [variable.value for variable in layer.non_trainable_variables]
        with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
            ys, _ = layer.stateless_call(weights, rest, jnp.swapaxes(xs, 0, 1))
        return jnp.swapaxes(ys, 0, 1)

    assert [tuple(w.shape) for w in layer.get_weights()] == [a.shape for a in params if a is not None]
    same(value_and_gradients(own, params, xs), value_and_gradients(keras, params, xs))


# Haiku


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_values_and_gradients_are_those_of_haiku(rank):
    """Its gates are i g f o, each of its two convolutions has a bias, and 1 is added to that of the forget gate."""
    hk = pytest.importorskip("haiku")
    cell = jrnn.ConvLSTM((*SPATIAL[rank], 2), 3, 3)
    params, xs = random_params(cell), random_inputs(cell, TIME, BATCH)

    def network(xs):
        core = getattr(hk, f"Conv{rank}DLSTM")(SPATIAL[rank], 3, 3)
        return hk.dynamic_unroll(core, xs, core.initial_state(BATCH))[0]

    transformed = hk.without_apply_rng(hk.transform(network))

    def haiku(params, xs):
        def turned(w):
            i, f, g, o = jnp.split(w, 4, -1)
            return jnp.concatenate([i, g, f, o], -1)

        one = jnp.repeat(jnp.array([0.0, 1.0, 0.0, 0.0]), 3)
        names = jax.eval_shape(transformed.init, key(0), xs)
        first, second = (next(name for name in names if way in name) for way in ("input_to_hidden", "hidden_to_hidden"))
        weights = {
            first: {"w": turned(params.w_x), "b": turned(params.b - one)},
            second: {"w": turned(params.w_h), "b": jnp.zeros_like(params.b)},
        }
        with jax.numpy_rank_promotion("allow"):
            return transformed.apply(weights, xs)

    same(
        value_and_gradients(lambda p, xs: jrnn.unroll(cell, p, xs)[1], params, xs),
        value_and_gradients(haiku, params, xs),
    )


# The papers


def sigma(x):
    return 1 / (1 + np.exp(-x))


def convolved(x, w):
    """x [batch, height, width, in] * w [rows, columns, in, out], zeros beyond the edge."""
    rows, columns = w.shape[:2]
    height, width = x.shape[1:3]
    low, high = [(size - 1) // 2 for size in (rows, columns)], [size // 2 for size in (rows, columns)]
    padded = np.pad(x, ((0, 0), (low[0], high[0]), (low[1], high[1]), (0, 0)))
    return sum(
        np.einsum("bhwi,io->bhwo", padded[:, i : i + height, j : j + width], w[i, j])
        for i in range(rows)
        for j in range(columns)
    )


def shi(p, xs):
    """Shi et al. 2015, equation 3: input and forget gates see the old cell, the output gate the new one."""
    h = c = np.zeros((BATCH, 4, 5, 3))
    for x in xs:
        i, f, g, o = np.split(convolved(x, p.w_x) + convolved(h, p.w_h) + p.b, 4, -1)
        c = sigma(f + p.p_f * c) * c + sigma(i + p.p_i * c) * np.tanh(g)
        h = sigma(o + p.p_o * c) * np.tanh(c)
        yield h


def ballas(p, xs):
    """Ballas et al. 2016, equations 1 to 4 of their section 3, whose z is one minus ours."""
    w_r, w_z, w_n = np.split(p.w_x, 3, -1)
    u_r, u_z, u_n = np.split(p.w_h, 3, -1)
    b_r, b_z, b_n = np.split(p.b, 3)
    h = np.zeros((BATCH, 4, 5, 3))
    for x in xs:
        z = sigma(-(convolved(x, w_z) + convolved(h, u_z) + b_z))
        r = sigma(convolved(x, w_r) + convolved(h, u_r) + b_r)
        new = np.tanh(convolved(x, w_n) + convolved(r * h, u_n) + b_n)
        h = (1 - z) * h + z * new
        yield h


def reset_after(p, xs):
    h = np.zeros((BATCH, 4, 5, 3))
    for x in xs:
        (x_r, x_z, x_n), (h_r, h_z, h_n) = (np.split(convolved(a, w), 3, -1) for a, w in ((x, p.w_x), (h, p.w_h)))
        b_r, b_z, b_n = np.split(p.b, 3)
        r, z = sigma(x_r + h_r + b_r), sigma(x_z + h_z + b_z)
        h = (1 - z) * np.tanh(x_n + b_n + r * (h_n + p.b_n)) + z * h
        yield h


@pytest.mark.parametrize(
    ("cell", "paper"),
    [
        (jrnn.ConvLSTM((4, 5, 2), 3, (3, 4), peepholes=True), shi),
        (jrnn.ConvLSTM((4, 5, 2), 3, 3, recurrent_kernel_size=(5, 2), peepholes=True), shi),
        (jrnn.ConvGRU((4, 5, 2), 3, 3), ballas),
        (jrnn.ConvGRU((4, 5, 2), 3, (2, 3), reset_after=True), reset_after),
    ],
    ids=["lstm", "two-kernels", "gru", "gru-after"],
)
def test_outputs_are_those_of_the_papers(cell, paper):
    with jax.enable_x64(True):
        params, xs = cast((random_params(cell), random_inputs(cell, TIME, BATCH)), jnp.float64)
        _, ys = run(cell, params, xs)
        want = list(paper(jax.tree.map(np.asarray, params), np.asarray(xs)))
        np.testing.assert_allclose(ys, want, rtol=0, atol=1e-10)
