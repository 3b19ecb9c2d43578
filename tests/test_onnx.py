"""ONNX: the standard operators, and in onnxruntime the numbers of jrnn, for every size with one file."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_encoder_decoder
from cases import ALL, CANNOT_STREAM, HIDDEN, INPUT, cast, normal, random_inputs, random_params, random_state, run, same

import jrnn
from jrnn.decode import generate
from jrnn.interop.int8 import dequantize, quantize
from jrnn.models import Classifier, LanguageModel, Tagger

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install jrnn[interop]")
runtime = pytest.importorskip("onnxruntime", reason="the oracle is onnxruntime, which is not installed")

from jrnn.interop.onnx import ACTIVATIONS, export  # noqa: E402, needs onnx

OPERATORS = {jrnn.Elman: "RNN", jrnn.LSTM: "LSTM", jrnn.PeepholeLSTM: "LSTM", jrnn.CoupledLSTM: "LSTM", jrnn.GRU: "GRU"}


def cells_of(model):
    """Every cell inside a model."""
    if isinstance(model, jrnn.Cell):
        return [model]
    parts = model if isinstance(model, tuple) else [getattr(model, f.name) for f in dataclasses.fields(model)]
    return [cell for part in parts if isinstance(part, tuple | jrnn.Layer | jrnn.Cell) for cell in cells_of(part)]


SUPPORTED = {
    **{name: model for name, model in ALL.items() if all(type(cell) in OPERATORS for cell in cells_of(model))},
    **{f"elman-{name}": jrnn.Elman(INPUT, HIDDEN, activation=name) for name in ACTIVATIONS},
    "lstm-hard-both-ways": jrnn.rnn(
        jrnn.LSTM,
        input_size=INPUT,
        hidden_size=HIDDEN,
        bidirectional=True,
        gate_activation="hard_sigmoid",
        activation="relu",
    ),
    "peephole-both-ways": jrnn.rnn(jrnn.PeepholeLSTM, input_size=INPUT, hidden_size=HIDDEN, bidirectional=True),
    "gru-before-both-ways": jrnn.rnn(
        jrnn.GRU, input_size=INPUT, hidden_size=HIDDEN, num_layers=2, bidirectional=True, reset_after=False
    ),
    "residual-in-a-stack": jrnn.Layered(
        (
            jrnn.Recurrent(jrnn.Elman(INPUT, HIDDEN)),
            jrnn.Residual(jrnn.Recurrent(jrnn.LSTM(HIDDEN, HIDDEN), reverse=True)),
        )
    ),
    "residual-around-dropout": jrnn.Layered(
        (jrnn.Recurrent(jrnn.GRU(INPUT, HIDDEN)), jrnn.Residual(jrnn.Dropout(0.5)))
    ),
}
STREAMED = {
    n: m for n, m in SUPPORTED.items() if n not in CANNOT_STREAM and not n.endswith(("both-ways", "in-a-stack"))
}


def session(proto):
    return runtime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])


def call(running, xs, state, lengths=None):
    """(state, ys) of a running model: inputs and outputs by name, states in the order of their leaves."""
    leaves, structure = jax.tree.flatten(state)
    names = [i.name.removeprefix("state.") for i in running.get_inputs() if i.name.startswith("state.")]
    feed = {"xs" if running.get_outputs()[0].name == "ys" else "x": np.asarray(xs)}
    feed |= {f"state.{name}": np.asarray(leaf) for name, leaf in zip(names, leaves, strict=True)}
    feed |= {} if lengths is None else {"lengths": np.asarray(lengths, np.int32)}
    y, *new = running.run([running.get_outputs()[0].name, *(f"new_state.{name}" for name in names)], feed)
    return jax.tree.unflatten(structure, new), y


@pytest.mark.parametrize("int8", [False, True], ids=["float", "int8"])
@pytest.mark.parametrize("name", SUPPORTED)
def test_whole_sequences_in_onnxruntime(name, int8):
    model = SUPPORTED[name]
    params = quantize(random_params(model)) if int8 else random_params(model)
    plain, ragged = (session(export(model, params, lengths=lengths)) for lengths in (False, True))
    xs, state = random_inputs(model, 5, 3), random_state(model, dequantize(params), (3,))
    same(call(plain, xs, state), run(model, dequantize(params), xs, state))
    lengths = jnp.array([3, 0, 5])
    padded = jnp.where(np.arange(5)[:, None, None] < np.asarray(lengths)[:, None], xs, jnp.nan)
    want, want_ys = run(model, dequantize(params), padded, state, lengths=lengths)
    same(call(ragged, padded, state, lengths), (want, want_ys))
    first, state, want = (jax.tree.map(lambda a: a[:1], tree) for tree in (lengths, state, want))
    same(call(ragged, xs[:3, :1], state, first), (want, want_ys[:3, :1]))  # without the padding, by the same files
    same(call(plain, xs[:3, :1], state), (want, want_ys[:3, :1]))


@pytest.mark.parametrize("name", STREAMED)
def test_steps_in_onnxruntime_are_the_whole_sequence(name):
    model = STREAMED[name]
    params = random_params(model)
    running = session(export(model, params, step=True))
    xs, first = random_inputs(model, 4, 2), random_state(model, params, (2,))
    state, ys = first, []
    for x in xs:
        state, y = call(running, x, state)
        ys.append(y)
    same((state, np.stack(ys)), run(model, params, xs, first))


@pytest.mark.parametrize("name", SUPPORTED)
def test_standard_operators_in_a_file_that_others_read(name, tmp_path):
    model = SUPPORTED[name]
    onnx.save(export(model, random_params(model), lengths=True), tmp_path / "model.onnx")
    proto = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(proto, full_check=True)
    used = [node for node in proto.graph.node if node.op_type in OPERATORS.values()]
    directions = [onnx.helper.get_node_attr_value(node, "direction").decode() for node in used]
    assert len(used) + directions.count("bidirectional") == len(cells_of(model))
    assert {node.op_type for node in used} == {OPERATORS[type(cell)] for cell in cells_of(model)}
    assert {node.domain for node in proto.graph.node} == {""}
    assert not {"Scan", "Loop", "If"} & {node.op_type for node in proto.graph.node}


@pytest.mark.parametrize("tied", [False, True], ids=["", "tied"])
@pytest.mark.parametrize("int8", [False, True], ids=["float", "int8"])
def test_a_language_model_takes_tokens(int8, tied):
    size = HIDDEN if tied else INPUT
    layer = jrnn.rnn(jrnn.LSTM, input_size=size, hidden_size=HIDDEN, num_layers=2, dropout=0.5)
    model = LanguageModel(11, layer, tied=tied)
    params = quantize(model.init(jax.random.key(0))) if int8 else model.init(jax.random.key(0))
    weights = dequantize(params)
    tokens = jnp.array([[1, 2, 10], [6, 0, 3]], jnp.int32)
    state, lengths = random_state(model.layer, weights.layer, (3,)), jnp.array([2, 0, 1])
    whole = session(export(model, params, lengths=True))
    same(call(whole, tokens, state, lengths), model.apply(weights, tokens, state, lengths=lengths))
    same(call(session(export(model, params, step=True)), tokens[0], state), model.step(weights, state, tokens[0]))


def test_int8_weights_make_a_quarter_of_the_file():
    model = LanguageModel(64, jrnn.rnn(jrnn.GRU, input_size=64, hidden_size=128))
    params = model.init(jax.random.key(0))
    whole, small = (len(export(model, p).SerializeToString()) for p in (params, quantize(params)))
    assert whole < 1.1 * sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    assert small < 0.3 * whole


def test_requests_that_cannot_be_met():
    def fails(error, words, model, params=None, **options):
        with pytest.raises(error, match=words):
            export(model, random_params(model) if params is None else params, **options)

    for cell in (jrnn.ProjectedLSTM(INPUT, HIDDEN, 2), jrnn.Jordan(INPUT, HIDDEN, 2), jrnn.CTRNN(INPUT, HIDDEN)):
        words = (
            rf"{type(cell).__name__}\(.*has no ONNX operator; ONNX has Elman, LSTM, .*CoupledLSTM and GRU.*stablehlo"
        )
        fails(TypeError, words, cell)
        fails(TypeError, words, jrnn.Layered((jrnn.Dropout(0.1), jrnn.Recurrent(cell))))
    fails(
        ValueError,
        r"activation of Elman\(.* is 'gelu'; ONNX has 'tanh', 'sigmoid'",
        jrnn.Elman(2, 3, activation="gelu"),
    )
    clipped = jrnn.activations.Clipped("tanh", 2)
    both = jrnn.LSTM(2, 3, activation=clipped, gate_activation=jrnn.activations.Clipped("sigmoid", 2))
    fails(ValueError, r"the cell of LSTM\(.* is activated by Clipped.*expected cell_activation='tanh'", both)
    fails(ValueError, r"gate_activation of LSTM\(.* is <", jrnn.LSTM(2, 3, gate_activation=jax.nn.sigmoid))
    gru = jrnn.GRU(INPUT, HIDDEN)
    fails(TypeError, r"params has dtype bfloat16;.*float32", gru, cast(random_params(gru), jnp.bfloat16))
    fails(TypeError, r"params is a LSTMParams", gru, random_params(jrnn.LSTM(INPUT, HIDDEN)))
    fails(TypeError, r"step=True.*cannot be streamed", ALL["rnn-gru-both-ways"], step=True)
    fails(ValueError, r"lengths=True is of whole sequences", gru, step=True, lengths=True)

    @jax.tree_util.register_static
    @dataclasses.dataclass(frozen=True)
    class Doubled(jrnn.Layer):
        input_size: int = 2
        output_size: int = 2

        def init(self, key):
            return jnp.ones(2)

        def initial_state(self, params, batch=(), key=None):
            return ()

        def apply(self, params, xs, state=None, **marks):
            return (), 2 * xs

        def step(self, params, state, x, *, key=None):
            return (), 2 * x

    fails(TypeError, r"Doubled\(.*has no ONNX operator; expected Recurrent", Doubled(), jnp.ones(2))


TOKENS = np.array([[1, 2, 3], [4, 5, 6], [3, 1, 0], [2, 2, 5]], np.int32)
MARKS = {"lengths": np.array([4, 2, 1], np.int32)}


@pytest.mark.parametrize("marks", [{}, MARKS], ids=["whole", "lengths"])
@pytest.mark.parametrize("pooled", ["last", "mean", "max", "attention", "tagger"])
def test_models_that_give_labels(pooled, marks):
    poolings = {"mean": jrnn.pooling.Mean(), "max": jrnn.pooling.Max(), "attention": jrnn.pooling.Attention(3)}
    layer = jrnn.Layered(
        (jrnn.Embedding(7, INPUT), ALL["rnn-gru-both-ways"], jrnn.Dropout(0.1), jrnn.Dense(2 * HIDDEN, 3))
    )
    model = Tagger(layer, 5) if pooled == "tagger" else Classifier(layer, 5, pooling=poolings.get(pooled))
    params = random_params(model)
    marks = marks and {"lengths": np.array([4, 2, 0], np.int32)}
    (logits,) = session(export(model, params, lengths=bool(marks))).run(None, {"xs": TOKENS, **marks})
    same(jnp.asarray(logits), jnp.asarray(model.apply(params, TOKENS, **{n: jnp.asarray(a) for n, a in marks.items()})))


WRITERS = {name: test_encoder_decoder.MODELS[name] for name in test_encoder_decoder.MODELS} | {
    f"captioner: {name}": model for name, model in test_encoder_decoder.CAPTIONERS.items()
}


@pytest.mark.parametrize("name", WRITERS)
def test_greedy_decoding_step_by_step(name):
    """In onnxruntime: the tokens that `generate` writes, and the logits of each step."""
    model = WRITERS[name]
    params = random_params(model)
    features = name.startswith("captioner")
    marks = {} if features else MARKS
    source = np.asarray(normal(1, 3, 2, 3) if name.endswith("grid") else normal(1, 3, 3)) if features else TOKENS
    start, step = (session(export(model, params, step=step, lengths=bool(marks))) for step in (False, True))
    state = dict(zip([end.name for end in start.get_outputs()], start.run(None, {"source": source, **marks})))
    begin, advance = model.start(params, source, **{n: jnp.asarray(a) for n, a in marks.items()})
    written = generate(advance, begin, jnp.zeros(3, jnp.int32), jax.random.key(0), length=5, temperature=0)
    token = np.zeros(3, np.int32)
    for want in np.asarray(written.tokens):
        begin, logits = advance(begin, jnp.asarray(token))
        found = dict(zip([end.name for end in step.get_outputs()], step.run(None, {**state, "token": token})))
        same(jnp.asarray(found.pop("logits")), logits)
        state |= {name.removeprefix("new_"): value for name, value in found.items()}
        token = np.asarray(logits.argmax(-1), np.int32)
        np.testing.assert_array_equal(token, want)


def test_models_without_operators():
    model = Classifier(jrnn.Recurrent(jrnn.CTRNN(INPUT, HIDDEN)), 3)
    with pytest.raises(TypeError, match="has no ONNX operator"):
        export(model, random_params(model))
    model = Classifier(jrnn.Residual(jrnn.Recurrent(jrnn.GRU(INPUT, INPUT))), 3)
    with pytest.raises(TypeError, match=r"the last output of Residual.* has no ONNX operators"):
        export(model, random_params(model))
    with pytest.raises(TypeError, match="params has dtypes"):
        export(WRITERS["bridge"], cast(random_params(WRITERS["bridge"]), jnp.bfloat16))
