"""StableHLO: what was exported gives the numbers of jrnn, for any batch and time, and in a process without jrnn."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_encoder_decoder
from cases import (
    CANNOT_STREAM,
    HIDDEN,
    INPUT,
    LAYERS,
    OF_EACH_KIND,
    cast,
    normal,
    random_inputs,
    random_params,
    random_state,
    run,
    same,
    step,
)

import jrnn
from jrnn.interop import stablehlo
from jrnn.interop.int8 import dequantize, quantize
from jrnn.models import Classifier, LanguageModel, Tagger

pytest.importorskip("flatbuffers", reason="JAX writes exported functions with flatbuffers, which is not installed")
STREAMED = {name: model for name, model in OF_EACH_KIND.items() if name not in CANNOT_STREAM}
READER = """
import sys
import jax, numpy as np
import jax.export

folder = sys.argv[1]
for name in sys.argv[2:]:
    given = dict(np.load(f"{folder}/{name}.npz"))
    call = jax.export.deserialize(open(f"{folder}/{name}.bin", "rb").read()).call
    xs, lengths = given.pop("xs"), [given.pop("lengths")] if "lengths" in given else []
    state, ys = call(given, xs, *lengths)
    np.savez(f"{folder}/{name}-out.npz", ys=ys, **state)
assert "jrnn" not in sys.modules
"""


def flat(state):
    """As an exported function takes it, written down here a second time."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path).replace("[", ".").replace("]", "").strip("."): leaf for path, leaf in leaves}


@pytest.mark.parametrize("name", OF_EACH_KIND)
def test_a_whole_sequence_of_any_size(name):
    model = OF_EACH_KIND[name]
    params = random_params(model)
    call = jax.export.deserialize(stablehlo.export(model, params, lengths=True)).call
    xs, lengths = random_inputs(model, 5, 3), jnp.array([3, 0, 5], jnp.int32)
    state = random_state(model, params, (3,), noise=False)
    want, want_ys = run(model, params, xs, state, lengths=lengths)
    same(call(flat(state), xs, lengths), (flat(want), want_ys))
    first, state, want = (jax.tree.map(lambda a: a[:1], tree) for tree in (lengths, state, want))
    same(
        call(flat(state), xs[:3, :1], first), (flat(want), want_ys[:3, :1])
    )  # without the padding, by the same function


@pytest.mark.parametrize("name", STREAMED)
def test_one_step(name):
    model = STREAMED[name]
    params = random_params(model)
    call = jax.export.deserialize(stablehlo.export(model, params, step=True)).call
    x = random_inputs(model, 3)
    state = random_state(model, params, (3,), noise=False)
    want, want_y = step(model, params, state, x)
    same(call(flat(state), x), (flat(want), want_y))
    state, want = (jax.tree.map(lambda a: a[:1], tree) for tree in (state, want))
    same(call(flat(state), x[:1]), (flat(want), want_y[:1]))


def test_a_fresh_process_needs_no_jrnn(tmp_path):
    cell = jrnn.LSTM(INPUT, HIDDEN)
    stack = jrnn.rnn(jrnn.GRU, input_size=INPUT, hidden_size=HIDDEN, num_layers=2, bidirectional=True)
    lengths = jnp.array([6, 0], jnp.int32)
    rows = {"cell": (cell, {}), "stack": (stack, {"lengths": lengths}), "int8": (cell, {}), "step": (cell, {})}
    wanted = {}
    for name, (model, marks) in rows.items():
        params = random_params(model)
        weights = quantize(params) if name == "int8" else params
        options = {"lengths": bool(marks), "step": name == "step"}
        (tmp_path / f"{name}.bin").write_bytes(stablehlo.export(model, weights, **options))
        xs = random_inputs(model, *((2,) if name == "step" else (6, 2)))
        state = random_state(model, params, (2,))
        np.savez(tmp_path / f"{name}.npz", xs=xs, **flat(state), **marks)
        apply = step if name == "step" else run
        arguments = (state, xs) if name == "step" else (xs, state)
        wanted[name] = apply(model, dequantize(weights), *arguments, **marks)
    command = [sys.executable, "-c", READER, str(tmp_path), *rows]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name, (state, ys) in wanted.items():
        same(dict(np.load(tmp_path / f"{name}-out.npz")), {"ys": ys, **flat(state)})


def test_lowered_for_what_is_not_here():
    cell = jrnn.LSTM(INPUT, HIDDEN)
    params = random_params(cell)
    for options in ({}, {"step": True}, {"lengths": True}):
        platforms = ("cpu", "cuda", "tpu")
        exported = jax.export.deserialize(stablehlo.export(cell, params, platforms=platforms, **options))
        assert exported.platforms == platforms
        assert jax.export.deserialize(stablehlo.export(cell, params, platforms=("tpu",), **options)).platforms == (
            "tpu",
        )
    state, xs = random_state(cell, params, (2,)), random_inputs(cell, 4, 2)
    exported = jax.export.deserialize(stablehlo.export(cell, params, platforms=("cpu", "tpu")))
    same(exported.call(flat(state), xs)[1], run(cell, params, xs, state)[1])


def test_a_language_model_takes_tokens():
    model = LanguageModel(7, jrnn.rnn(jrnn.LSTM, input_size=INPUT, hidden_size=HIDDEN, dropout=0.5, num_layers=2))
    params = model.init(jax.random.key(0))
    tokens = jnp.array([[1, 2], [6, 0], [3, 3]], jnp.int32)
    call = jax.export.deserialize(stablehlo.export(model, params)).call
    state = model.initial_state(params, (2,))
    same(call(flat(state), tokens)[1], model.apply(params, tokens)[1])
    one = jax.export.deserialize(stablehlo.export(model, params, step=True)).call
    same(one(flat(state), tokens[0])[1], model.apply(params, tokens)[1][0])


def test_weights_on_several_devices_are_exported_for_one():
    """As a training run leaves them."""
    cell = jrnn.GRU(INPUT, HIDDEN)
    everywhere = jax.sharding.NamedSharding(jax.make_mesh((2,), ("data",)), jax.sharding.PartitionSpec())
    params = jax.device_put(random_params(cell), everywhere)
    assert len(params.w_x.sharding.device_set) == 2
    for weights in (params, quantize(params)):
        assert jax.export.deserialize(stablehlo.export(cell, weights)).nr_devices == 1


def test_bfloat16_stays():
    cell = jrnn.GRU(INPUT, HIDDEN)
    params = cast(random_params(cell), jnp.bfloat16)
    xs = cast(random_inputs(cell, 4, 2), jnp.bfloat16)
    state, ys = jax.export.deserialize(stablehlo.export(cell, params)).call(flat(cell.initial_state(params, (2,))), xs)
    assert ys.dtype == state["h"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(ys, run(cell, params, xs)[1])


def test_the_state_of_an_exported_step_can_be_donated():
    cell = jrnn.LSTM(INPUT, HIDDEN)
    params = random_params(cell)
    call = jax.jit(jax.export.deserialize(stablehlo.export(cell, params, step=True)).call, donate_argnums=0)
    given = flat(random_state(cell, params, (2,)))
    call(given, random_inputs(cell, 2))
    assert all(leaf.is_deleted() for leaf in given.values())


def test_requests_that_cannot_be_met():
    cell = jrnn.LSTM(INPUT, HIDDEN)
    params = random_params(cell)
    both = LAYERS["rnn-gru-both-ways"]

    def fails(error, words, model, params, **options):
        with pytest.raises(error, match=words):
            stablehlo.export(model, params, **options)

    fails(
        TypeError,
        r"step=True asks for one step.*Bidirectional cannot be streamed",
        both,
        random_params(both),
        step=True,
    )
    fails(
        TypeError, r"step=True.*runs from the last step", LAYERS["reverse"], random_params(LAYERS["reverse"]), step=True
    )
    fails(ValueError, r"lengths=True is of whole sequences", cell, params, step=True, lengths=True)
    fails(ValueError, r"platforms is \('gpu',\).*'cuda'", cell, params, platforms=("gpu",))
    fails(ValueError, r"platforms is 'cpu'; expected a tuple", cell, params, platforms="cpu")
    fails(ValueError, r"platforms is \(\)", cell, params, platforms=())
    fails(TypeError, r"model is a LSTMParams; expected a Cell", params, params)
    fails(ValueError, r"no input_size: it reads anything", jrnn.Dropout(0.5), ())
    fails(TypeError, r"params is a GRUParams.*expects a LSTMParams", cell, random_params(jrnn.GRU(INPUT, HIDDEN)))
    fails(
        ValueError, r"params.w_h has shape \[5, 20\]", cell, random_params(jrnn.LSTM(INPUT, 5))._replace(w_x=params.w_x)
    )


MARKS = {"lengths": jnp.array([4, 2, 1], jnp.int32)}
TOKENS = jnp.array([[1, 2, 3], [4, 5, 6], [3, 1, 0], [2, 2, 5]], jnp.int32)


@pytest.mark.parametrize("marks", [{}, MARKS], ids=["whole", "lengths"])
@pytest.mark.parametrize("kind", [Classifier, Tagger])
def test_models_that_give_labels(kind, marks):
    model = kind(jrnn.Layered((jrnn.Embedding(7, INPUT), LAYERS["rnn-gru-both-ways"])), 5)
    params = random_params(model)
    call = jax.export.deserialize(stablehlo.export(model, params, lengths=bool(marks))).call
    same(call(TOKENS, *marks.values()), model.apply(params, TOKENS, **marks))
    one = {name: lengths[:1] for name, lengths in marks.items()}
    same(call(TOKENS[:, :1], *one.values()), model.apply(params, TOKENS[:, :1], **one))
    with pytest.raises(TypeError, match=f"step=True .* but {kind.__name__} reads whole sequences"):
        stablehlo.export(model, params, step=True)


@pytest.mark.parametrize("name", ["state as it is", "both, and first", "attention in a stack, tied"])
def test_models_that_write_sequences(name):
    """The state from one function, a token at a time from the other, for any batch and source."""
    model = test_encoder_decoder.MODELS[name]
    params = random_params(model)
    start, step = (
        jax.export.deserialize(stablehlo.export(model, params, lengths=True, step=step)).call for step in (False, True)
    )
    for source, lengths in ((TOKENS, MARKS["lengths"]), (TOKENS[:2, 1:], MARKS["lengths"][1:])):
        want = model.apply(params, source, TOKENS[:, : len(lengths)] % 6, source_lengths=lengths)
        state = start(source, lengths)
        for tokens, logits in zip(TOKENS[:, : len(lengths)] % 6, want, strict=True):
            state, got = step(state, tokens)
            same(got, logits)


@pytest.mark.parametrize("name", ["first", "grid"])
def test_models_that_write_about_features(name):
    model = test_encoder_decoder.CAPTIONERS[name]
    params = random_params(model)
    start, step = (jax.export.deserialize(stablehlo.export(model, params, step=step)).call for step in (False, True))
    features = normal(1, 3, 2, 3) if name == "grid" else normal(1, 3, 3)
    want = model.apply(params, features, TOKENS[:1] % 6)
    same(step(start(features), TOKENS[0] % 6)[1], want[0])
