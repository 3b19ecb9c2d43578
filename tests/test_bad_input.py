"""A mistake is named before JAX meets it: the argument, what was given, what was expected."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CELLS, cast, floats, key, run

import jrnn
from jrnn import models

CELL = jrnn.LSTM(3, 4)
PARAMS = CELL.init(key(0))
STATE = CELL.initial_state(PARAMS, (2,))
XS = jnp.ones((5, 2, 3))
STACK = jrnn.rnn(jrnn.GRU, input_size=3, hidden_size=4, num_layers=2, dropout=0.5)
STACK_PARAMS = STACK.init(key(0))
BOTH = jrnn.rnn(jrnn.GRU, input_size=3, hidden_size=4, bidirectional=True).layers[0]


def go(params=PARAMS, xs=XS, state=None, **options):
    return lambda: jrnn.unroll(CELL, params, xs, state, **options)


HALF = cast(PARAMS, jnp.float16)
MIXED = PARAMS._replace(b=PARAMS.b.astype(jnp.float16))
OTHER = jrnn.GRU(3, 4)
GRU_PARAMS = OTHER.init(key(0))

UNROLL = {
    "xs-rank": (go(xs=XS[0, 0]), ValueError, [r"xs has shape \[3\]", "time", "at least 2"]),
    "xs-features": (go(xs=jnp.ones((5, 2, 7))), ValueError, ["xs has 7 features", "expects 3"]),
    "xs-no-time": (go(xs=XS[:0]), ValueError, ["xs has no time steps", "at least one"]),
    "xs-integers": (go(xs=XS.astype(int)), TypeError, ["xs has dtype int32", "float32", "one_hot"]),
    "xs-half": (go(xs=XS.astype(jnp.float16)), TypeError, ["xs has dtype float16", "params has float32", "astype"]),
    "params-half": (go(params=HALF), TypeError, ["xs has dtype float32", "params has float16"]),
    "params-mixed": (go(params=MIXED), TypeError, ["params", r"\.b float16", "one floating dtype"]),
    "params-integers": (go(params=cast(PARAMS, int)), TypeError, ["params", "int32", "floating"]),
    "params-of-another": (go(params=GRU_PARAMS), TypeError, ["params is a GRUParams", "LSTMParams", "init"]),
    "params-bare-tuple": (go(params=tuple(PARAMS)), TypeError, ["params is a tuple", "LSTMParams"]),
    "params-missing": (go(params=PARAMS._replace(b=None)), TypeError, ["params", "None", "LSTMParams"]),
    "params-shape": (
        go(params=PARAMS._replace(w_h=jnp.ones((5, 16)))),
        ValueError,
        [r"params\.w_h", r"\[5, 16\]", r"expects \[4, 16\]"],
    ),
    "state-of-another": (
        go(state=OTHER.initial_state(GRU_PARAMS, (2,))),
        TypeError,
        ["state is a GRUState", "LSTMState", "initial_state"],
    ),
    "state-bare-tuple": (go(state=tuple(STATE)), TypeError, ["state is a tuple", "LSTMState"]),
    "state-batch": (
        go(state=CELL.initial_state(PARAMS, (1,))),
        ValueError,
        [r"state\.h", r"float32\[1, 4\]", r"float32\[2, 4\]"],
    ),
    "state-half": (go(state=cast(STATE, jnp.float16)), ValueError, [r"state\.h", r"float16\[2, 4\]", "float32"]),
    "state-key-without-noise": (
        lambda: jrnn.unroll(
            jrnn.CTRNN(3, 4),
            jrnn.CTRNN(3, 4).init(key(0)),
            XS,
            jrnn.CTRNN(3, 4, noise=0.1).initial_state(jrnn.CTRNN(3, 4).init(key(0)), (2,), key(1)),
        ),
        TypeError,
        ["state", "CTRNNState", "initial_state"],
    ),
    "lengths-shape": (
        go(lengths=jnp.array([1, 2, 3])),
        ValueError,
        ["lengths", r"int32\[3\]", r"\[2\]", "one per row"],
    ),
    "lengths-scalar": (go(lengths=3), ValueError, ["lengths", r"int32\[\]", r"\[2\]"]),
    "lengths-dtype": (go(lengths=jnp.array([1.0, 2.0])), TypeError, ["lengths has dtype float32", "integers"]),
    "lengths-bool": (go(lengths=jnp.array([True, True])), TypeError, ["lengths has dtype bool", "integers"]),
    "lengths-too-long": (go(lengths=jnp.array([5, 6])), ValueError, ["lengths holds 6", "5 time steps", r"0\.\.5"]),
    "lengths-negative": (go(lengths=jnp.array([-1, 5])), ValueError, ["lengths holds -1", r"0\.\.5"]),
    "mask-shape": (go(mask=jnp.ones((2, 5), bool)), ValueError, ["mask", r"bool\[2, 5\]", r"bool\[5, 2\]"]),
    "mask-dtype": (go(mask=jnp.ones((5, 2))), TypeError, ["mask has dtype float32", "bool", "mask != 0"]),
    "reset-shape": (go(reset=jnp.ones(5, bool)), ValueError, ["reset", r"bool\[5\]", r"bool\[5, 2\]"]),
    "reset-dtype": (go(reset=jnp.ones((5, 2), int)), TypeError, ["reset has dtype int32", "bool", "reset != 0"]),
}

STEP = {
    "step-x-features": (lambda: CELL.step(PARAMS, STATE, jnp.ones((2, 7))), ValueError, ["x has 7 features", "3"]),
    "step-x-dtype": (lambda: CELL.step(PARAMS, STATE, jnp.ones((2, 3), jnp.float16)), TypeError, ["x has", "float16"]),
    "step-x-scalar": (lambda: CELL.step(PARAMS, STATE, jnp.ones(())), ValueError, [r"x has shape \[\]", "at least 1"]),
    "step-state-batch": (lambda: CELL.step(PARAMS, STATE, jnp.ones((9, 3))), ValueError, [r"state\.h", r"\[9, 4\]"]),
    "step-params": (lambda: CELL.step(GRU_PARAMS, STATE, XS[0]), TypeError, ["params is a GRUParams", "LSTMParams"]),
    "step-reverse": (
        lambda: jrnn.Recurrent(CELL, reverse=True).step(PARAMS, STATE, XS[0]),
        TypeError,
        ["cannot be streamed", "apply"],
    ),
    "step-both": (
        lambda: BOTH.step(BOTH.init(key(0)), BOTH.initial_state(BOTH.init(key(0)), (2,)), XS[0]),
        TypeError,
        ["Bidirectional cannot be streamed", "apply"],
    ),
}

HYPERPARAMETERS = {
    "size-zero": (lambda: jrnn.LSTM(3, 0), ValueError, ["LSTM: hidden_size is 0", "at least 1"]),
    "size-negative": (lambda: jrnn.GRU(-1, 4), ValueError, ["GRU: input_size is -1", "at least 1"]),
    "size-float": (lambda: jrnn.Elman(3, 4.0), TypeError, ["Elman: hidden_size is 4.0", "integer"]),
    "size-bool": (lambda: jrnn.Elman(True, 4), TypeError, ["Elman: input_size is True", "integer"]),
    "size-proj": (lambda: jrnn.ProjectedLSTM(3, 4, 0), ValueError, ["proj_size is 0", "at least 1"]),
    "size-output": (lambda: jrnn.Jordan(3, 4, None), TypeError, ["output_size is None", "integer"]),
    "activation": (lambda: jrnn.Elman(3, 4, activation="tahn"), ValueError, ["Elman: activation is 'tahn'", "'tanh'"]),
    "activation-gate": (lambda: jrnn.LSTM(3, 4, gate_activation="x"), ValueError, ["LSTM: gate_activation is 'x'"]),
    "activation-module": (lambda: jrnn.Elman(3, 4, activation="initializers"), ValueError, ["activation is 'init"]),
    "activation-number": (lambda: jrnn.Elman(3, 4, activation=3), ValueError, ["activation is 3", "expected"]),
    "tau-count": (lambda: jrnn.CTRNN(3, 4, tau=(1.0, 2.0)), ValueError, ["tau has 2 values", r"per unit \(4\)"]),
    "tau-negative": (lambda: jrnn.CTRNN(3, 4, tau=-1.0), ValueError, ["tau is -1.0", "positive"]),
    "dt-zero": (lambda: jrnn.CTRNN(3, 4, dt=0.0), ValueError, ["dt is 0.0", "positive"]),
    "dt-alone": (lambda: jrnn.CTRNN(1, 4, dt=None), ValueError, ["input_size is 1", "dt is None", "at least 2"]),
    "noise": (lambda: jrnn.CTRNN(3, 4, noise=-0.1), ValueError, ["noise is -0.1", "at least 0"]),
    "scan": (lambda: jrnn.Scan(unroll=0), ValueError, ["Scan: unroll is 0", "at least 1"]),
}

LAYERS = {
    "layered-sizes": (
        lambda: jrnn.Layered((jrnn.Recurrent(CELL), jrnn.Recurrent(CELL))),
        ValueError,
        [r"layers\[1\] takes 3 features", "given 4"],
    ),
    "layered-sizes-across-dropout": (
        lambda: jrnn.Layered((jrnn.Recurrent(CELL), jrnn.Dropout(0.1), jrnn.Recurrent(CELL))),
        ValueError,
        [r"layers\[2\] takes 3 features", "given 4"],
    ),
    "layered-cell": (lambda: jrnn.Layered((CELL,)), TypeError, [r"layers\[0\] is LSTM", r"Recurrent\(cell\)"]),
    "layered-empty": (lambda: jrnn.Layered(()), TypeError, [r"layers is \(\)", "at least one"]),
    "layered-list": (lambda: jrnn.Layered([jrnn.Recurrent(CELL)]), TypeError, [r"layers is \[", "tuple"]),
    "layered-params": (lambda: STACK.apply(PARAMS, XS), TypeError, ["params is a LSTMParams of 3", "tuple of 2"]),
    "layered-params-few": (lambda: STACK.apply(STACK_PARAMS[:1], XS), TypeError, ["params is a tuple of 1", "of 2"]),
    "layered-state": (lambda: STACK.apply(STACK_PARAMS, XS, STATE), TypeError, ["state is a LSTMState", "tuple of 2"]),
    "layered-xs": (lambda: STACK.apply(STACK_PARAMS, XS[..., :2]), ValueError, ["xs has 2 features", "expects 3"]),
    "both-sizes": (
        lambda: jrnn.Bidirectional(jrnn.Recurrent(CELL), jrnn.Recurrent(jrnn.GRU(5, 4), reverse=True)),
        ValueError,
        ["forward takes 3 features", "backward 5", "same"],
    ),
    "both-one-loop": (
        lambda: jrnn.Bidirectional(jrnn.Recurrent(CELL), jrnn.Recurrent(OTHER, reverse=True), one_loop=True),
        ValueError,
        ["one_loop is True", "reverse=True", "one_loop=None"],
    ),
    "both-one-loop-option": (
        lambda: jrnn.Bidirectional(jrnn.Recurrent(CELL), jrnn.Recurrent(CELL, reverse=True), one_loop="yes"),
        TypeError,
        ["one_loop is 'yes'", "True, False or None"],
    ),
    "both-params": (lambda: BOTH.apply(GRU_PARAMS, XS), TypeError, ["params is a GRUParams", "Directions"]),
    "both-state": (
        lambda: BOTH.apply(BOTH.init(key(0)), XS, OTHER.initial_state(GRU_PARAMS, (2,))),
        TypeError,
        ["state is a GRUState", "Directions"],
    ),
    "residual": (lambda: jrnn.Residual(jrnn.Recurrent(CELL)), ValueError, ["takes 3 features and gives 4", "same"]),
    "dropout-one": (lambda: jrnn.Dropout(1.0), ValueError, ["rate is 1.0", r"\[0, 1\)"]),
    "dropout-negative": (lambda: jrnn.Dropout(-0.1), ValueError, ["rate is -0.1", r"\[0, 1\)"]),
    "dropout-nan": (lambda: jrnn.Dropout(float("nan")), ValueError, ["rate is nan", r"\[0, 1\)"]),
    "dropout-rate": (lambda: jrnn.Dropout("0.5"), TypeError, ["Dropout: rate is '0.5'", "number"]),
    "dropout-true": (lambda: jrnn.Dropout(True), TypeError, ["Dropout: rate is True", "number"]),
    "dropout-flag": (
        lambda: jrnn.Dropout(0.5, variational="no"),
        TypeError,
        ["Dropout: variational is 'no'", "True or False"],
    ),
    "recurrent-flag": (lambda: jrnn.Recurrent(CELL, reverse=1), TypeError, ["reverse is 1", "True or False"]),
    "recurrent-cell": (lambda: jrnn.Recurrent("lstm"), TypeError, ["cell is 'lstm'", r"Cell such as jrnn\.LSTM"]),
    "recurrent-class": (lambda: jrnn.Recurrent(jrnn.LSTM), TypeError, ["cell is <class", r"Cell such as jrnn\.LSTM"]),
    "recurrent-engine": (
        lambda: jrnn.Recurrent(CELL, engine="scan"),
        TypeError,
        ["engine is 'scan'", r"jrnn\.Scan\(\)"],
    ),
    "both-cell": (
        lambda: jrnn.Bidirectional(CELL, jrnn.Recurrent(CELL, reverse=True)),
        TypeError,
        ["Bidirectional: forward is LSTM", r"Recurrent\(cell\)"],
    ),
    "residual-cell": (lambda: jrnn.Residual(CELL), TypeError, ["Residual: layer is LSTM", r"Recurrent\(cell\)"]),
    "embedding-flag": (lambda: jrnn.Embedding(3, 4, frozen=0), TypeError, ["Embedding: frozen is 0", "True or False"]),
    "dense-size": (lambda: jrnn.Dense(3, 0), ValueError, ["Dense: output_size is 0", "at least 1"]),
    "dense-flag": (lambda: jrnn.Dense(3, 4, bias="no"), TypeError, ["Dense: bias is 'no'", "True or False"]),
    "dense-xs": (
        lambda: jrnn.Dense(2, 4).apply(jrnn.Dense(2, 4).init(key(0)), XS),
        ValueError,
        ["xs has 3 features", "expects 2"],
    ),
    "dense-x": (
        lambda: jrnn.Dense(2, 4).step(jrnn.Dense(2, 4).init(key(0)), (), XS[0]),
        ValueError,
        ["x has 3 features", "expects 2"],
    ),
    "dense-params": (lambda: jrnn.Dense(3, 4).apply(PARAMS, XS), TypeError, ["params is a LSTMParams", "DenseParams"]),
    "norm-size": (lambda: jrnn.LayerNorm(2.0), TypeError, ["LayerNorm: size is 2.0", "integer"]),
    "norm-epsilon": (lambda: jrnn.LayerNorm(2, epsilon=0), ValueError, ["epsilon is 0", "positive"]),
    "norm-epsilon-text": (lambda: jrnn.LayerNorm(2, epsilon="0.1"), TypeError, ["epsilon is '0.1'", "number"]),
    "no-steps": (lambda: jrnn.Dropout(0.5).last((), XS[:0]), ValueError, [r"float32\[0, 2, 3\]", "no time steps"]),
    "no-time": (lambda: jrnn.Embedding(7, 3).apply((), 3), ValueError, ["xs is int 3", "no time axis"]),
    "rnn-name": (
        lambda: jrnn.rnn("lstm", input_size=3, hidden_size=4),
        TypeError,
        ["rnn: cell is 'lstm'", r"class of cells such as jrnn\.LSTM"],
    ),
    "rnn-cell": (
        lambda: jrnn.rnn(CELL, input_size=3, hidden_size=4),
        TypeError,
        ["rnn: cell is LSTM", "class of cells", r"rnn\(LSTM", r"Recurrent\(cell\)"],
    ),
    "rnn-class": (
        lambda: jrnn.rnn(int, input_size=3, hidden_size=4),
        TypeError,
        ["cell is <class 'int'>", "class of cells"],
    ),
    "rnn-option": (
        lambda: jrnn.rnn(jrnn.LSTM, input_size=3, hidden_size=4, dropuot=0.5),
        TypeError,
        ["LSTM has no option dropuot", "expected any of activation, gate_activation"],
    ),
    "rnn-both": (
        lambda: jrnn.rnn(jrnn.LSTM, input_size=3, hidden_size=4, bidirectional="False"),
        TypeError,
        ["rnn: bidirectional is 'False'", "True or False"],
    ),
    "rnn-batch-first": (
        lambda: jrnn.rnn(jrnn.LSTM, input_size=3, hidden_size=4, batch_first=1),
        TypeError,
        ["rnn: batch_first is 1", "True or False"],
    ),
    "rnn-dropout": (
        lambda: jrnn.rnn(jrnn.LSTM, input_size=3, hidden_size=4, dropout=1.5),
        ValueError,
        ["rate is 1.5", r"\[0, 1\)"],
    ),
    "rnn-layers": (
        lambda: jrnn.rnn(jrnn.LSTM, input_size=3, hidden_size=4, num_layers=0),
        ValueError,
        ["rnn: num_layers is 0", "at least 1"],
    ),
    "key-legacy": (
        lambda: jrnn.Dropout(0.5).apply((), XS, key=jax.random.PRNGKey(0)),
        TypeError,
        [r"key is uint32\[2\]", r"jax\.random\.key"],
    ),
    "key-legacy-in-a-stack": (
        lambda: STACK.apply(STACK_PARAMS, XS, key=jax.random.PRNGKey(0)),
        TypeError,
        [r"key is uint32\[2\]", r"jax\.random\.key"],
    ),
    "key-seed": (lambda: STACK.apply(STACK_PARAMS, XS, key=0), TypeError, ["key is int 0", r"jax\.random\.key"]),
    "key-many": (
        lambda: STACK.apply(STACK_PARAMS, XS, key=jax.random.split(key(0))),
        TypeError,
        [r"key is key<fry>\[2\]", "one typed key"],
    ),
}

INITS = {
    "recurrent": jrnn.Recurrent(CELL),
    "stack": STACK,
    "both": BOTH,
    "residual": jrnn.Residual(jrnn.Recurrent(jrnn.GRU(3, 3))),
    "embedding": jrnn.Embedding(7, 3),
    "dense": jrnn.Dense(3, 4),
    "norm": jrnn.LayerNorm(3),
    "batch-first": jrnn.BatchFirst(STACK),
    "words": jrnn.WordsAndCharacters(jrnn.Embedding(7, 3), jrnn.Layered((jrnn.Embedding(7, 3), jrnn.Recurrent(CELL)))),
    "classifier": models.Classifier(STACK, 2),
    "tagger": models.Tagger(STACK, 2),
    "language-model": models.LanguageModel(7, STACK),
}
LAYERS |= {
    f"init-{name}": (lambda layer=layer: layer.init(0), TypeError, ["key is int 0", r"jax\.random\.key\(0\)"])
    for name, layer in INITS.items()
}
LAYERS |= {
    "model-cell": (lambda: models.Classifier(CELL, 2), TypeError, ["Classifier: layer is LSTM", r"Recurrent\(cell\)"]),
    "tagger-flag": (lambda: models.Tagger(STACK, 2, crf=1), TypeError, ["Tagger: crf is 1", "True or False"]),
}

MISTAKES = UNROLL | STEP | HYPERPARAMETERS | LAYERS


@pytest.mark.parametrize(("mistake", "error", "words"), MISTAKES.values(), ids=MISTAKES)
def test_the_message_names_what_was_given_and_what_was_expected(mistake, error, words):
    with pytest.raises(error, match="(?s)" + ".*".join(words)):
        mistake()


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_every_cell_names_its_own_parameters_and_features(cell):
    params = cell.init(key(0))
    *axes, size = cell.input_shape
    with pytest.raises(TypeError, match=f"params.*{type(params).__name__}"):
        jrnn.unroll(cell, (), jnp.ones((5, *axes, size)))
    given, expected = (str([*axes, n] if axes else n) for n in (size + 1, size))
    with pytest.raises(ValueError, match=f"xs has {re.escape(given)} features.*expects {re.escape(expected)}"):
        jrnn.unroll(cell, params, jnp.ones((5, *axes, size + 1)))


def test_a_mistake_is_named_under_jit_too():
    with pytest.raises(ValueError, match=r"mask.*expected bool"):
        run(CELL, PARAMS, XS, mask=jnp.ones((4, 2), bool))


def test_numpy_arrays_are_as_good():
    got = jrnn.unroll(CELL, jax.tree.map(np.asarray, PARAMS), np.asarray(XS), lengths=np.array([1, 5]))
    want = jrnn.unroll(CELL, PARAMS, XS, lengths=jnp.array([1, 5]))
    for a, b in zip(floats(got)[0], floats(want)[0]):
        np.testing.assert_array_equal(a, b)
