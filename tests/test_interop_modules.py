"""A layer or module of another library in place of its weights: its options are compared with the cell's."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import random_params
from test_interop_libraries import (
    BATCH,
    BEFORE,
    ELMAN,
    FROM_LINEN,
    FROM_NNX,
    GRU,
    HIDDEN,
    INPUT,
    LINEN,
    LSTM,
    RELU,
    SOFT,
    SOFT_GRU,
    TIME,
)  # fmt: skip

import jrnn
from jrnn import interop


def same_params(got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want)):
        np.testing.assert_array_equal(a, b)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(
    ("cell", "name", "options", "words"),
    [
        (SOFT_GRU, "GRU", {}, "GRU: activation is 'soft_sign', and keras.layers.GRU has activation 'tanh'"),
        (
            jrnn.GRU(INPUT, HIDDEN, activation="soft_sign"),
            "GRU",
            {"activation": "softsign", "recurrent_activation": "hard_sigmoid"},
            "GRU: gate_activation is 'sigmoid', and keras.layers.GRU has recurrent_activation 'hard_sigmoid'",
        ),
        (BEFORE, "GRU", {}, "GRU: reset_after is False, and keras.layers.GRU has reset_after True"),
        (LSTM, "LSTM", {"use_bias": False}, "LSTM: bias is True, and keras.layers.LSTM has use_bias False"),
        (RELU, "SimpleRNN", {}, "Elman: activation is 'relu', and keras.layers.SimpleRNN has activation 'tanh'"),
        (ELMAN, "LSTM", {}, r"weights is a layer LSTM; Elman.* expects keras.layers.SimpleRNN"),
    ],
)
def test_a_layer_of_keras_is_compared_with_the_cell(cell, name, options, words):
    library = pytest.importorskip("keras")
    layer = getattr(library.layers, name)(HIDDEN, **options)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        layer.build((BATCH, TIME, INPUT))
        with pytest.raises((ValueError, TypeError), match=words):
            interop.keras.from_weights(cell, layer)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_layer_of_keras_in_place_of_its_weights():
    library = pytest.importorskip("keras")
    soft = {"activation": "softsign", "recurrent_activation": "hard_sigmoid"}
    function = dataclasses.replace(
        SOFT_GRU, activation=lambda x: x / (1 + jnp.abs(x))
    )  # the same function by another name
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for cell, layer in [
            (SOFT_GRU, library.layers.GRU(HIDDEN, **soft)),
            (function, library.layers.GRU(HIDDEN, **soft)),
            (SOFT, library.layers.LSTM(HIDDEN, **soft)),
            (RELU, library.layers.SimpleRNN(HIDDEN, activation="relu")),
        ]:
            layer.build((BATCH, TIME, INPUT))
            same_params(interop.keras.from_weights(cell, layer), interop.keras.from_weights(cell, layer.get_weights()))


def test_a_module_of_flax_is_compared_with_the_cell():
    from flax import linen as nn
    from flax import nnx

    module = nnx.GRUCell(INPUT, HIDDEN, activation_fn=jax.nn.soft_sign, gate_fn=jax.nn.hard_sigmoid, rngs=nnx.Rngs(0))
    same_params(interop.flax.from_nnx(SOFT_GRU, module), interop.flax.from_nnx(SOFT_GRU, nnx.state(module, nnx.Param)))
    linen_cell = nn.GRUCell(HIDDEN, activation_fn=jax.nn.soft_sign, gate_fn=jax.nn.hard_sigmoid)
    variables = {"params": LINEN(SOFT_GRU, random_params(SOFT_GRU))}
    same_params(interop.flax.from_linen(SOFT_GRU, linen_cell.bind(variables)), random_params(SOFT_GRU))
    residual = nnx.SimpleCell(INPUT, HIDDEN, residual=True, rngs=nnx.Rngs(0))
    for attempt, words in [
        (lambda: FROM_NNX(GRU, module), "GRU: gate_activation is 'sigmoid', and Flax's GRUCell has gate_fn"),
        (lambda: FROM_LINEN(GRU, linen_cell.bind(variables)), "GRU: gate_activation is 'sigmoid', and Flax's GRUCell"),
        (
            lambda: FROM_LINEN(SOFT_GRU, linen_cell),
            "params is a GRUCell without its parameters; expected these, or the cell",
        ),
        (lambda: FROM_NNX(LSTM, module), "state is a GRUCell; LSTM.* expects LSTMCell or OptimizedLSTMCell"),
        (lambda: FROM_NNX(ELMAN, residual), "Flax's SimpleCell has residual True"),
    ]:
        with pytest.raises((ValueError, TypeError), match=words):
            attempt()
