"""Flax, Keras, Haiku, Equinox: the same outputs as their own cells on the same weights, in both directions."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import cast, random_params
from hypothesis import given
from hypothesis import strategies as st

import jrnn
from jrnn import interop

TIME, BATCH, INPUT, HIDDEN = 6, 2, 3, 4

ELMAN, RELU = jrnn.Elman(INPUT, HIDDEN), jrnn.Elman(INPUT, HIDDEN, activation="relu")
LSTM, GRU = jrnn.LSTM(INPUT, HIDDEN), jrnn.GRU(INPUT, HIDDEN)
BEFORE = jrnn.GRU(INPUT, HIDDEN, reset_after=False)
SOFT_GRU = jrnn.GRU(INPUT, HIDDEN, activation="soft_sign", gate_activation="hard_sigmoid")
SOFT = jrnn.LSTM(INPUT, HIDDEN, activation="soft_sign", gate_activation="hard_sigmoid")
RELU_OUT = jrnn.LSTM(INPUT, HIDDEN, cell_activation="relu")


def without_bias(cell):
    return dataclasses.replace(cell, bias=False)


class Case(NamedTuple):
    """How one library runs one cell: its own random weights, its own outputs on given weights, and the two conversions."""

    cell: jrnn.Cell
    make: Any  # () -> the library's weights
    run: Any  # (weights, xs [time, batch, input]) -> ys [time, batch, hidden]
    take: Any  # (cell, weights) -> params
    give: Any  # (cell, params) -> weights


def drawn(tree, seed=0):
    """The same structure with no entry zero, so that biases matter."""
    leaves, structure = jax.tree.flatten(tree)
    rng = np.random.default_rng(seed)
    return jax.tree.unflatten(structure, [jnp.asarray(0.5 * rng.standard_normal(a.shape), a.dtype) for a in leaves])


def linen(cell, name, **options):
    from flax import linen as nn

    rnn = nn.RNN(getattr(nn, name)(HIDDEN, **options), time_major=True)

    def make():
        return drawn(jax.eval_shape(rnn.init, jax.random.key(0), jnp.ones((TIME, BATCH, INPUT)))["params"]["cell"])

    def run(weights, xs):
        return rnn.apply({"params": {"cell": weights}}, xs)

    return Case(cell, make, run, interop.flax.from_linen, interop.flax.to_linen)


def nnx(cell, name, *, as_state=True, **options):
    from flax import nnx

    def module():
        return getattr(nnx, name)(INPUT, HIDDEN, rngs=nnx.Rngs(0), **options)

    def make():
        state = drawn(nnx.state(module(), nnx.Param))
        return state if as_state else nnx.to_pure_dict(state)

    def run(weights, xs):
        own = module()
        nnx.update(own, weights)
        return nnx.RNN(own, time_major=True, rngs=nnx.Rngs(0))(xs)

    def give(cell, params):
        optimized = {"optimized": True} if name == "OptimizedLSTMCell" else {}
        return interop.flax.to_nnx(cell, params, **optimized)

    return Case(cell, make, run, interop.flax.from_nnx, give)


def haiku(cell, name, *, module=None, **options):
    hk = pytest.importorskip("haiku")

    def network(xs):
        core = getattr(hk, name)(HIDDEN, **options)
        return hk.dynamic_unroll(core, xs, core.initial_state(BATCH))[0]

    def scoped(xs):
        with hk.name_scope("agent"):
            return network(xs) + 0 * hk.Linear(1, name="head")(xs)

    run = hk.without_apply_rng(hk.transform(scoped if module else network))

    def make():
        return drawn(jax.eval_shape(run.init, jax.random.key(0), jnp.ones((TIME, BATCH, INPUT))))

    def apply(weights, xs):
        return run.apply({**(make() if module else {}), **weights}, xs)

    def take(cell, weights):
        return interop.haiku.from_params(cell, weights, module=module)

    def give(cell, params):
        return interop.haiku.to_params(cell, params, module=module)

    return Case(cell, make, apply, take, give)


def equinox(cell, name, **options):
    eqx = pytest.importorskip("equinox")

    def make():
        return drawn(getattr(eqx.nn, name)(INPUT, HIDDEN, key=jax.random.key(0), **options))

    def run(module, xs):
        def step(state, x):
            state = module(x, state)
            return state, state[0] if isinstance(state, tuple) else state

        zero = jnp.zeros(HIDDEN)
        start = (zero, zero) if name == "LSTMCell" else zero
        return jax.vmap(lambda xs: jax.lax.scan(step, start, xs)[1], in_axes=1, out_axes=1)(xs)

    return Case(cell, make, run, interop.equinox.from_module, interop.equinox.to_module)


def keras(cell, name, **options):
    library = pytest.importorskip("keras")

    def layer():
        made = getattr(library.layers, name)(HIDDEN, return_sequences=True, **options)
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            made.build((BATCH, TIME, INPUT))
        return made

    def make():
        rng = np.random.default_rng(0)
        return [0.5 * rng.standard_normal(w.shape).astype(np.float32) for w in layer().get_weights()]

    def run(weights, xs):
        made = layer()
        made.set_weights(weights)
        return np.asarray(made(np.swapaxes(xs, 0, 1))).swapaxes(0, 1)

    return Case(cell, make, run, interop.keras.from_weights, interop.keras.to_weights)


CASES = {
    "linen-simple": lambda: linen(ELMAN, "SimpleCell"),
    "linen-simple-relu": lambda: linen(RELU, "SimpleCell", activation_fn=jax.nn.relu),
    "linen-lstm": lambda: linen(LSTM, "LSTMCell"),
    "linen-lstm-soft": lambda: linen(SOFT, "LSTMCell", activation_fn=jax.nn.soft_sign, gate_fn=jax.nn.hard_sigmoid),
    "linen-optimized-lstm": lambda: linen(LSTM, "OptimizedLSTMCell"),
    "linen-gru": lambda: linen(GRU, "GRUCell"),
    "linen-gru-soft": lambda: linen(SOFT_GRU, "GRUCell", activation_fn=jax.nn.soft_sign, gate_fn=jax.nn.hard_sigmoid),
    "nnx-simple": lambda: nnx(ELMAN, "SimpleCell"),
    "nnx-lstm": lambda: nnx(LSTM, "LSTMCell"),
    "nnx-lstm-pure": lambda: nnx(LSTM, "LSTMCell", as_state=False),
    "nnx-optimized-lstm": lambda: nnx(LSTM, "OptimizedLSTMCell"),
    "nnx-gru": lambda: nnx(GRU, "GRUCell"),
    "keras-simple": lambda: keras(ELMAN, "SimpleRNN"),
    "keras-simple-without-bias": lambda: keras(without_bias(RELU), "SimpleRNN", activation="relu", use_bias=False),
    "keras-lstm": lambda: keras(LSTM, "LSTM"),
    "keras-lstm-soft": lambda: keras(SOFT, "LSTM", activation="softsign", recurrent_activation="hard_sigmoid"),
    "keras-lstm-without-bias": lambda: keras(without_bias(LSTM), "LSTM", use_bias=False),
    "keras-gru-after": lambda: keras(GRU, "GRU"),
    "keras-gru-soft": lambda: keras(SOFT_GRU, "GRU", activation="softsign", recurrent_activation="hard_sigmoid"),
    "keras-gru-before": lambda: keras(BEFORE, "GRU", reset_after=False),
    "keras-gru-without-bias": lambda: keras(without_bias(GRU), "GRU", use_bias=False),
    "haiku-vanilla": lambda: haiku(RELU, "VanillaRNN"),
    "haiku-vanilla-one-bias": lambda: haiku(RELU, "VanillaRNN", double_bias=False),
    "haiku-lstm": lambda: haiku(LSTM, "LSTM"),
    "haiku-lstm-in-a-model": lambda: haiku(LSTM, "LSTM", module="agent/lstm"),
    "haiku-gru": lambda: haiku(BEFORE, "GRU"),
    "equinox-lstm": lambda: equinox(LSTM, "LSTMCell"),
    "equinox-lstm-without-bias": lambda: equinox(without_bias(LSTM), "LSTMCell", use_bias=False),
    "equinox-gru": lambda: equinox(GRU, "GRUCell"),
    "equinox-gru-without-bias": lambda: equinox(without_bias(GRU), "GRUCell", use_bias=False),
}


def outputs_agree(case, weights, params):
    xs = jnp.asarray(np.random.default_rng(1).standard_normal((TIME, BATCH, INPUT)), jnp.float32)
    got = jrnn.unroll(case.cell, params, xs)[1]
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        want = np.asarray(case.run(weights, xs))
    assert np.abs(want).max() > 0.1
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)


def params_for(name, case):
    params = random_params(case.cell)
    # nnx's GRU has no second bias of n.
    return params._replace(b_n=jnp.zeros_like(params.b_n)) if name == "nnx-gru" else params


# Keras 3.15 converts arrays in a way that NumPy 2 warns of.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("name", CASES)
def test_both_ways_compute_what_the_library_computes(name):
    case = CASES[name]()
    weights = case.make()
    outputs_agree(case, weights, case.take(case.cell, weights))
    params = params_for(name, case)
    given = case.give(case.cell, params)
    outputs_agree(case, given, params)
    back = case.take(case.cell, given)
    assert jax.tree.structure(back) == jax.tree.structure(params)
    for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(params)):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-7)  # Haiku's forget gate: b - 1 + 1


# Mistakes: each conversion refuses what the library does not have, and weights that do not fit.

LINEN, NNX = interop.flax.to_linen, interop.flax.to_nnx
KERAS, HAIKU, EQUINOX = interop.keras.to_weights, interop.haiku.to_params, interop.equinox.to_module
PEEPHOLE = jrnn.PeepholeLSTM(INPUT, HIDDEN)
OPTIONS = {
    "linen-bias": (LINEN, without_bias(LSTM), ["LSTM: bias is False", "Flax", "True"]),
    "linen-reset": (LINEN, BEFORE, ["GRU: reset_after is False", "Flax", "True"]),
    "linen-cell": (LINEN, PEEPHOLE, ["PeepholeLSTM", "no counterpart in Flax", "Elman, LSTM, GRU"]),
    "nnx-bias": (NNX, without_bias(GRU), ["GRU: bias is False", "Flax"]),
    "nnx-second-bias": (NNX, GRU, [r"b_n of GRU.*not zero", "nnx.GRUCell"]),
    "keras-cell": (KERAS, PEEPHOLE, ["PeepholeLSTM", "no counterpart in Keras"]),
    "haiku-cell": (HAIKU, PEEPHOLE, ["PeepholeLSTM", "no counterpart in Haiku"]),
    "haiku-tanh": (HAIKU, ELMAN, ["Elman: activation is 'tanh'", "Haiku", "'relu'"]),
    "haiku-gates": (HAIKU, SOFT, ["LSTM: activation is 'soft_sign'", "Haiku"]),
    "haiku-gru-gates": (
        HAIKU,
        dataclasses.replace(SOFT_GRU, reset_after=False),
        ["GRU: activation is 'soft_sign'", "Haiku"],
    ),
    "equinox-gru-gates": (EQUINOX, SOFT_GRU, ["GRU: activation is 'soft_sign'", "Equinox"]),
    "haiku-reset": (HAIKU, GRU, ["GRU: reset_after is True", "Haiku", "False"]),
    "haiku-bias": (HAIKU, without_bias(LSTM), ["LSTM: bias is False", "Haiku"]),
    "equinox-cell": (EQUINOX, ELMAN, ["Elman", "no counterpart in Equinox", "LSTM, GRU"]),
    "equinox-gates": (EQUINOX, SOFT, ["LSTM: activation is 'soft_sign'", "Equinox"]),
    **{
        f"{library}-cell-activation": (give, RELU_OUT, ["LSTM: cell_activation is 'relu'", library.title(), "'tanh'"])
        for library, give in {"flax": LINEN, "keras": KERAS, "haiku": HAIKU, "equinox": EQUINOX}.items()
    },
    "equinox-reset": (EQUINOX, BEFORE, ["GRU: reset_after is False", "Equinox"]),
}


@pytest.mark.parametrize(("give", "cell", "words"), OPTIONS.values(), ids=OPTIONS)
def test_what_the_library_does_not_have_is_named(give, cell, words):
    if give is EQUINOX:
        pytest.importorskip("equinox")
    with pytest.raises((ValueError, TypeError), match=".*".join(words)):
        give(cell, random_params(cell))


@pytest.mark.parametrize("give", [LINEN, NNX, KERAS, HAIKU])
def test_params_of_another_cell_are_refused(give):
    with pytest.raises(TypeError, match=r"GRUParams.*LSTM"):
        give(LSTM, random_params(GRU))


class Module(NamedTuple):
    """What `from_module` reads of an Equinox cell."""

    weight_ih: Any
    weight_hh: Any
    bias: Any


FROM = interop.flax.from_linen, interop.flax.from_nnx, interop.keras.from_weights
FROM_LINEN, FROM_NNX, FROM_KERAS = FROM
FROM_HAIKU, FROM_EQUINOX = interop.haiku.from_params, interop.equinox.from_module
IN_LINEN, IN_KERAS, IN_HAIKU = (
    LINEN(LSTM, random_params(LSTM)),
    KERAS(LSTM, random_params(LSTM)),
    HAIKU(LSTM, random_params(LSTM)),
)
WEIGHTS = {
    "linen-missing": (FROM_LINEN, {k: w for k, w in IN_LINEN.items() if k != "hf"}, ["params lacks 'hf/kernel'", "LSTM"]),
    "linen-surplus": (FROM_LINEN, IN_LINEN | {"hx": {"kernel": np.ones(3)}}, ["'hx/kernel' besides"]),
    "linen-shape": (FROM_LINEN, IN_LINEN | {"ig": {"kernel": np.ones((4, 3))}}, ["ig/kernel", r"\[4, 3\]", r"\[3, 4\]"]),
    "linen-outer": (FROM_LINEN, {"params": IN_LINEN}, ["params lacks 'ii/kernel'", "'params/"]),
    "linen-gru": (FROM_LINEN, LINEN(GRU, random_params(GRU)), ["lacks 'ii/kernel'", "LSTM"]),
    "linen-array": (FROM_LINEN, np.ones(3), ["params is float64", "nested dictionary"]),
    "nnx-of-linen": (FROM_NNX, IN_LINEN, ["state lacks 'if_/kernel'", "'if/kernel' besides"]),
    "nnx-gru": (FROM_NNX, {"dense_i": {"kernel": np.ones((3, 12), "f4")}}, ["state lacks 'dense_h/kernel'"]),
    "keras-few": (FROM_KERAS, IN_KERAS[:2], ["weights is 2 arrays", r"list of 3: kernel \[3, 16\]"]),
    "keras-order": (FROM_KERAS, IN_KERAS[::-1], ["weights: kernel has shape", r"\[16\]", r"\[3, 16\]"]),
    "keras-gru": (FROM_KERAS, KERAS(GRU, random_params(GRU)), ["kernel", r"\[3, 12\]", r"\[3, 16\]"]),
    "keras-dtype": (FROM_KERAS, [w.astype(int) for w in IN_KERAS], ["kernel has dtype int64", "floating"]),
    "keras-array": (FROM_KERAS, np.ones(3), ["weights is float64", "expects a list of 3"]),
    "haiku-module": (FROM_HAIKU, {"lstm_1/linear": IN_HAIKU["lstm/linear"]}, ["params lacks 'lstm/linear/w'"]),
    "haiku-shape": (FROM_HAIKU, {"lstm/linear": {"w": np.ones((7, 15)), "b": np.ones(16)}}, ["w has shape", r"\[7, 16\]"]),
    "haiku-flat": (FROM_HAIKU, IN_HAIKU["lstm/linear"], ["lacks 'lstm/linear/w'"]),
    "haiku-list": (FROM_HAIKU, [1], ["params is list", "dictionary of modules"]),
    "haiku-not-nested": (FROM_HAIKU, {"lstm/linear": 3}, ["lstm/linear", "int 3", "dictionary"]),
    "equinox-else": (FROM_EQUINOX, object(), ["module lacks 'weight_ih'"]),
    "equinox-shape": (FROM_EQUINOX, Module(np.ones((16, 3)), np.ones((16, 5)), np.ones(16)), ["weight_hh", r"\[16, 4\]"]),
    "equinox-bias": (FROM_EQUINOX, Module(np.ones((16, 3)), np.ones((16, 4)), None), ["module lacks 'bias'"]),
}  # fmt: skip


@pytest.mark.parametrize(("take", "weights", "words"), WEIGHTS.values(), ids=WEIGHTS)
def test_weights_that_do_not_fit_are_named(take, weights, words):
    with pytest.raises((ValueError, TypeError), match=".*".join(words)):
        take(LSTM, weights)


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.bfloat16, jnp.float16], ids=lambda d: d.__name__)
@pytest.mark.parametrize(
    ("cell", "give", "take"),
    [
        (GRU, LINEN, FROM_LINEN),
        (LSTM, NNX, FROM_NNX),
        (GRU, KERAS, FROM_KERAS),
        (BEFORE, HAIKU, FROM_HAIKU),
        (RELU, HAIKU, FROM_HAIKU),
    ],
)
def test_dtypes_are_kept(cell, give, take, dtype):
    with jax.enable_x64(dtype == jnp.float64):
        params = cast(random_params(cell), dtype)
        back = take(cell, give(cell, params))
        assert jax.tree.structure(back) == jax.tree.structure(params)
        for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(params)):
            assert a.dtype == b.dtype == dtype
            np.testing.assert_array_equal(a, b)


def test_optimized_is_of_lstms_alone():
    with pytest.raises(ValueError, match=r"optimized is True.*GRU"):
        NNX(GRU, random_params(GRU), optimized=True)


names = st.sampled_from(
    ["lstm", "lstm/linear", "linear", "w", "b", "ii", "hf", "if_", "dense_i", "dense_h", "kernel", "bias", ""]
)
anything = st.recursive(
    st.none()
    | st.floats()
    | st.text(max_size=2)
    | st.sampled_from([np.ones((3, 4), "f4"), np.ones(16, "f4"), np.ones(4, int)]),
    lambda inner: st.dictionaries(names | st.integers(), inner, max_size=4) | st.lists(inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("take", [FROM_LINEN, FROM_NNX, FROM_KERAS, FROM_HAIKU, FROM_EQUINOX])
@given(drawn=anything)
def test_anything_else_is_refused(take, drawn):
    with pytest.raises((ValueError, TypeError), match=r"params|state|weights|module"):
        take(LSTM, drawn)


@given(st.dictionaries(st.sampled_from(sorted(IN_LINEN)), anything, min_size=1), st.booleans())
def test_a_tree_with_any_part_replaced_is_refused_or_read(replaced, inside):
    parts = {name: {**IN_LINEN[name], "kernel": part} if inside else part for name, part in replaced.items()}
    try:
        params = FROM_LINEN(LSTM, IN_LINEN | parts)
    except (ValueError, TypeError) as error:
        if "params" not in str(error):
            raise
        return
    assert {a.shape for a in params} == {(3, 16), (4, 16), (16,)}
