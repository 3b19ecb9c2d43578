"""Whole layers and models of Keras, read in one call."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jrnn
from jrnn.interop import keras as interop

pytestmark = [
    pytest.mark.usefixtures("keras_at_home"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # of Keras's own arrays
]
BATCH, TIME, INPUT = 2, 6, 3


@pytest.fixture(scope="module")
def keras(keras_at_home):
    return pytest.importorskip("keras")


def drawn(model, shape, dtype="float32"):
    """The model built, with weights of which nothing is zero; an input, and what Keras makes of it."""
    random = np.random.default_rng(0)
    xs = random.integers(0, 7, shape) if dtype == "int32" else random.standard_normal(shape).astype("float32")
    model(xs)
    model.set_weights([0.5 * random.standard_normal(w.shape).astype("float32") for w in model.get_weights()])
    return xs, np.asarray(model(xs))


@pytest.fixture(autouse=True)
def as_keras_computes():
    """Its own arithmetic, where it runs on JAX."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def close(found, wanted):
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=2e-6)


def leaky_relu(x):
    return jax.numpy.where(x > 0, x, 0.7 * x)


OPTIONS = {"activation": "softsign", "recurrent_activation": "hard_sigmoid", "use_bias": False}
SEQUENCES = {
    "lstm": lambda k: k.LSTM(4, return_sequences=True),
    "lstm-options": lambda k: k.LSTM(4, **OPTIONS, return_sequences=True),
    "gru": lambda k: k.GRU(4, return_sequences=True),
    "gru-before": lambda k: k.GRU(4, reset_after=False, activation="leaky_relu", return_sequences=True),
    "simple": lambda k: k.SimpleRNN(4, activation="relu", return_sequences=True),
    "both-ways": lambda k: k.Bidirectional(k.LSTM(4, return_sequences=True)),
    "both-ways-unlike": lambda k: k.Bidirectional(
        k.LSTM(4, return_sequences=True), backward_layer=k.GRU(2, return_sequences=True, go_backwards=True)
    ),
    "cell": lambda k: k.RNN(k.GRUCell(4), return_sequences=True),
    "cells": lambda k: k.RNN([k.LSTMCell(4), k.SimpleRNNCell(3, activation="gelu"), k.GRUCell(2)], return_sequences=True),
    "cells-both-ways": lambda k: k.Bidirectional(
        k.RNN(k.StackedRNNCells([k.LSTMCell(4), k.GRUCell(2)]), return_sequences=True)
    ),
    # A function that is softmax's where one entry is large; and one under the name of Keras's own.
    "sparsemax": lambda k: k.LSTM(4, activation="sparsemax", return_sequences=True),
    "own-name": lambda k: k.GRU(4, activation=leaky_relu, return_sequences=True),
    "dropped": lambda k: k.Bidirectional(k.LSTM(4, dropout=0.2, recurrent_dropout=0.3, return_sequences=True)),
}  # fmt: skip


@pytest.mark.parametrize("name", SEQUENCES)
def test_a_layer(keras, name):
    model = SEQUENCES[name](keras.layers)
    xs, wanted = drawn(model, (BATCH, TIME, INPUT))
    layer, params = interop.load(model)
    assert isinstance(layer, jrnn.BatchFirst)
    close(layer.apply(params, jnp.asarray(xs))[1], wanted)


CONVOLUTIONS = {
    1: lambda k: k.ConvLSTM1D(4, 3, dilation_rate=2, padding="valid", return_sequences=True),
    2: lambda k: k.ConvLSTM2D(4, (3, 2), strides=(2, 1), padding="same", use_bias=False, return_sequences=True),
    3: lambda k: k.Bidirectional(
        k.ConvLSTM3D(2, 2, padding="same", recurrent_activation="hard_sigmoid", return_sequences=True)
    ),
}


@pytest.mark.parametrize("rank", CONVOLUTIONS)
def test_convolutions(keras, rank):
    model = CONVOLUTIONS[rank](keras.layers)
    xs, wanted = drawn(model, (BATCH, 4, *(7, 5, 4)[:rank], INPUT))
    layer, params = interop.load(model)
    close(layer.apply(params, jnp.asarray(xs))[1], wanted)


def test_dropout_is_drawn_with_a_key(keras):
    k = keras.layers
    model = keras.Sequential([
        k.SimpleRNN(4, dropout=0.2, recurrent_dropout=0.3, return_sequences=True), k.Dropout(0.4),
        k.SpatialDropout1D(0.1), k.GRU(4, recurrent_dropout=0.5),
    ])  # fmt: skip
    xs, wanted = drawn(model, (BATCH, TIME, INPUT))
    layer, params = interop.load(model)
    close(layer.last(params, jnp.asarray(xs))[1], wanted)
    assert layer.layer.layers == (
        jrnn.Dropout(0.2, variational=True),
        jrnn.Recurrent(jrnn.RecurrentDropout(jrnn.Elman(INPUT, 4), 0.3)),
        jrnn.Dropout(0.4),
        jrnn.Dropout(0.1, variational=True),
        jrnn.Recurrent(jrnn.RecurrentDropout(jrnn.GRU(4, 4), 0.5)),
    )
    assert np.abs(layer.last(params, jnp.asarray(xs), key=jax.random.key(0))[1] - wanted).max() > 0.01


LAST = {
    "lstm": lambda k: [k.LSTM(4)],
    "backwards": lambda k: [k.GRU(4, go_backwards=True)],
    # What goes backwards gives its last step first, to a layer that turns it again, or reads it as it is.
    "turned": lambda k: [
        k.GRU(4, go_backwards=True, return_sequences=True),
        k.Bidirectional(k.LSTM(3, return_sequences=True)),
        k.Bidirectional(k.LSTM(3, go_backwards=True, return_sequences=True), backward_layer=k.GRU(3, return_sequences=True)),
        k.LSTM(3, go_backwards=True, return_sequences=True),
        k.SimpleRNN(3),
    ],
    "stack": lambda k: [k.GRU(4, return_sequences=True), k.Dropout(0.5), k.Bidirectional(k.LSTM(3)), k.Dense(2)],
    "normalised-last": lambda k: [k.LSTM(4), k.LayerNormalization(axis=1), k.Dense(2)],
    "normalised": lambda k: [
        k.LSTM(4, return_sequences=True),
        k.LayerNormalization(),
        k.SimpleRNN(3),
        k.Dense(2, use_bias=False),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", LAST)
@pytest.mark.parametrize("functional", [False, True], ids=["sequential", "functional"])
def test_a_model_that_gives_its_last_output(keras, name, functional):
    layers = LAST[name](keras.layers)
    if functional:
        x = start = keras.Input((TIME, INPUT))
        for one in layers:
            x = one(x)
        model = keras.Model(start, x)
    else:
        model = keras.Sequential([keras.Input((TIME, INPUT)), *layers])
    xs, wanted = drawn(model, (BATCH, TIME, INPUT))
    layer, params = interop.load(model)
    close(layer.last(params, jnp.asarray(xs))[1], wanted)


def test_tokens_and_a_label_for_each(keras):
    k = keras.layers
    model = keras.Sequential([k.Embedding(7, 5), k.GRU(4, return_sequences=True), k.TimeDistributed(k.Dense(3))])
    tokens, wanted = drawn(model, (BATCH, TIME), "int32")
    layer, params = interop.load(model)
    close(layer.apply(params, jnp.asarray(tokens))[1], wanted)
    masked = keras.Sequential([k.Embedding(7, 5, mask_zero=True), k.LSTM(4)])
    tokens, wanted = drawn(masked, (BATCH, TIME), "int32")
    with pytest.warns(UserWarning, match="masks tokens of 0"):
        layer, params = interop.load(masked)
    close(layer.last(params, jnp.asarray(tokens), mask=jnp.asarray(tokens != 0))[1], wanted)


def test_a_cell(keras):
    x = np.random.default_rng(0).standard_normal((BATCH, INPUT)).astype("float32")
    theirs = keras.layers.GRUCell(4, activation="relu")
    wanted = np.asarray(theirs(x, [np.zeros((BATCH, 4), "float32")])[0])
    cell, params = interop.load(theirs)
    assert cell == jrnn.GRU(INPUT, 4, activation="relu")
    close(cell.step(params, cell.initial_state(params, (BATCH,)), jnp.asarray(x))[1], wanted)
    with pytest.raises(ValueError, match=r"has dropout 0\.2; expected 0 of a cell alone"):
        interop.load((cell := keras.layers.LSTMCell(4, dropout=0.2), cell.build((None, 3)))[0])
    with pytest.raises(ValueError, match="has no weights yet"):
        interop.load(keras.layers.LSTMCell(4))


def test_weights_and_functions_beside_the_layer(keras):
    """What a layer computes otherwise than its kernel, bias and name say."""
    k = keras.layers

    def refused(words, *layers, change=lambda model: None):
        model = keras.Sequential(layers)
        model(np.zeros((BATCH, TIME) if isinstance(layers[0], k.Embedding) else (BATCH, TIME, INPUT), "float32"))
        change(model)
        with pytest.raises(ValueError, match=words):
            interop.load(model)

    def linear(x):
        return 2 * x

    refused("has activation <ReLU", k.LSTM(4), k.Dense(2, activation=k.ReLU()))
    refused("has activation 'linear'", k.LSTM(4), k.Dense(2, activation=linear))
    adapted = "arrays; expected . of .*without quantization and LoRA"
    refused(adapted, k.LSTM(4), k.Dense(2), change=lambda model: model.layers[1].enable_lora(1))
    refused(adapted, k.LSTM(4), k.Dense(2), change=lambda model: model.layers[1].quantize("int8"))
    refused(adapted, k.Embedding(7, 4), k.LSTM(4), change=lambda model: model.layers[0].enable_lora(1))


def test_what_has_no_counterpart(keras):
    k = keras.layers

    def refused(model, error, words, build=True):
        if build:
            model(np.zeros((BATCH, TIME, INPUT), "float32"))
        with pytest.raises(error, match=words):
            interop.load(model)

    refused(k.LSTM(4), ValueError, "has no weights yet; call it", build=False)
    refused(k.Bidirectional(k.LSTM(4), merge_mode="sum"), ValueError, "merge_mode 'sum'; expected 'concat'")
    refused(k.GRU(4, go_backwards=True, return_sequences=True), ValueError, "goes backwards and returns the sequence")
    refused(keras.Sequential([k.LSTM(4), k.Dense(2, activation="relu")]), ValueError, "has activation 'relu'")
    refused(keras.Sequential([k.Conv1D(4, 2), k.LSTM(4)]), TypeError, "is a Conv1D; expected one of Keras's own LSTM")
    refused(keras.Sequential([k.Dropout(0.2)]), ValueError, "no layer that computes anything")
    start = keras.Input((TIME, INPUT))
    one, two = k.LSTM(4)(start), k.GRU(4)(start)
    refused(keras.Model(start, keras.layers.Add()([one, two])), ValueError, "has branches")
    refused(
        keras.Model(start, keras.ops.flip(k.LSTM(4, return_sequences=True)(start), 1)), TypeError, "is a Flip; expected"
    )
    refused(keras.Model(start, k.LSTM(4)(start, initial_state=[one, two])), ValueError, "has branches at 'gru")
    refused(
        keras.Model([start, keras.Input((2,))], one), ValueError, "has branches: 2 inputs and 1 outputs", build=False
    )
    shared, ended = k.Dense(3), "is not what its last layer .* gives first"
    refused(keras.Model(start, shared(shared(start))), ValueError, f"{ended}.*no layer used twice")
    again = shared(k.LSTM(3, return_sequences=True)(shared(start)))
    refused(keras.Model(start, again), ValueError, f"has branches|{ended}")
    refused(keras.Model(start, k.LSTM(4, return_state=True)(start)[2]), ValueError, f"{ended}.*return_state")
    refused(
        keras.Sequential([k.LSTM(4), k.Dense(2, dtype="float16")]),
        TypeError,
        "has dtypes .*expected one floating dtype",
    )
    before = k.GRU(4, reset_after=False, recurrent_dropout=0.2)
    refused(before, ValueError, "recurrent_dropout and reset_after False.*set recurrent_dropout to 0")

    class Mine(k.LSTM):
        pass

    class MineInside(k.LSTMCell):
        pass

    refused(Mine(4), TypeError, "is a Mine; expected one of Keras's own")
    refused(k.RNN(MineInside(4)), TypeError, "has a cell MineInside; expected Keras's own")
    over_places = keras.Sequential([keras.Input((TIME, 5, 3)), k.ConvLSTM1D(2, 3), k.LSTM(4)])
    refused(over_places, ValueError, "return_sequences False and another recurrent layer after it", build=False)
    with pytest.raises(TypeError, match="expected a layer or model of Keras"):
        interop.load([np.zeros((3, 4))])
