"""BatchFirst: the same numbers with the first two axes in each other's place."""

import jax
import jax.numpy as jnp
import pytest
from cases import key, normal, random_inputs, random_params, random_state, same

import jrnn
from jrnn import interop, pooling
from jrnn.layers import Spelled
from jrnn.models import Classifier

TIME, ROWS = 5, 3
STACK = jrnn.rnn(jrnn.LSTM, input_size=3, hidden_size=4, num_layers=2, bidirectional=True, dropout=0.5)
TURNED = jrnn.rnn(
    jrnn.LSTM, input_size=3, hidden_size=4, num_layers=2, bidirectional=True, dropout=0.5, batch_first=True
)
PARAMS = random_params(STACK)
XS = random_inputs(STACK, TIME, ROWS)
MASK = jnp.array([[True, True, True, True, False], [True, False, True, False, False], [False] * 5])
RESET = jnp.zeros((ROWS, TIME), bool).at[0, 2].set(True)
MARKS = {
    "none": ({}, {}),
    "lengths": ({"lengths": jnp.array([5, 2, 0])}, {"lengths": jnp.array([5, 2, 0])}),
    "mask": ({"mask": MASK}, {"mask": MASK.T}),
    "reset": ({"reset": RESET}, {"reset": RESET.T}),
    "all": (
        {"mask": MASK, "reset": RESET, "lengths": jnp.array([4, 4, 4])},
        {"mask": MASK.T, "reset": RESET.T, "lengths": jnp.array([4, 4, 4])},
    ),
}


def swapped(a):
    return jnp.swapaxes(a, 0, 1)


def test_rnn_builds_it_around_the_same_stack():
    assert jrnn.BatchFirst(STACK) == TURNED
    same(TURNED.init(key(0)), STACK.init(key(0)), tolerance=0)
    assert (TURNED.input_size, TURNED.output_size) == (3, 8)


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("marks", MARKS.values(), ids=MARKS)
def test_the_same_numbers_turned(marks, noisy):
    state = random_state(STACK, PARAMS, (ROWS,))
    options = {"key": key(1)} if noisy else {}
    final, ys = STACK.apply(PARAMS, XS, state, **marks[1], **options)
    same(TURNED.apply(PARAMS, swapped(XS), state, **marks[0], **options), (final, swapped(ys)))
    want = STACK.last(PARAMS, XS, state, **marks[1], **options)
    same(TURNED.last(PARAMS, swapped(XS), state, **marks[0], **options), want)


def test_of_several_batch_axes_the_first_changes_place_with_time():
    layer = jrnn.Recurrent(jrnn.GRU(3, 4))
    params, xs = random_params(layer), random_inputs(layer, TIME, 2, 3)
    lengths = jnp.array([[5, 0, 3], [2, 4, 1]])
    final, ys = layer.apply(params, xs, lengths=lengths)
    found = jrnn.BatchFirst(layer).apply(params, swapped(xs), lengths=lengths)
    same(found, (final, swapped(ys)))
    assert found[1].shape == (2, TIME, 3, 4)


def test_it_is_vmap_over_rows():
    layer = jrnn.rnn(jrnn.GRU, input_size=3, hidden_size=4, batch_first=True)
    params, xs = random_params(layer), normal(0, ROWS, TIME, 3)
    same(layer.apply(params, xs), jax.vmap(lambda x: layer.layer.apply(params, x))(xs))


def test_a_step_has_no_time_axis_to_turn():
    layer = jrnn.rnn(jrnn.GRU, input_size=3, hidden_size=4, batch_first=True)
    params, xs = random_params(layer), normal(0, ROWS, TIME, 3)
    final, ys = layer.apply(params, xs)
    state, outputs = layer.initial_state(params, (ROWS,)), []
    for t in range(TIME):
        state, y = layer.step(params, state, xs[:, t])
        outputs.append(y)
    same((state, jnp.stack(outputs, 1)), (final, ys))


def test_tokens_and_spelled_words():
    words = jnp.arange(ROWS * TIME).reshape(ROWS, TIME) % 7
    stack = jrnn.Layered((jrnn.Embedding(7, 3), jrnn.Recurrent(jrnn.GRU(3, 4))))
    params, lengths = random_params(stack), jnp.array([5, 2, 0])
    want = stack.apply(params, words.T, lengths=lengths)
    same(jrnn.BatchFirst(stack).apply(params, words, lengths=lengths), (want[0], swapped(want[1])))

    both = jrnn.WordsAndCharacters(jrnn.Embedding(7, 3), jrnn.Layered((jrnn.Embedding(9, 2), *STACK.layers[:0], jrnn.Recurrent(
        jrnn.GRU(2, 3)))))  # fmt: skip
    letters = jnp.arange(ROWS * TIME * 2).reshape(ROWS, TIME, 2) % 9
    params = random_params(both)
    _, ys = both.apply(params, Spelled(words.T, swapped(letters)), lengths=lengths)
    same(jrnn.BatchFirst(both).apply(params, Spelled(words, letters), lengths=lengths)[1], swapped(ys))


def test_gradients_are_the_same():
    def loss(layer, xs, turn):
        return lambda params: (turn(layer.apply(params, xs)[1]) * weights).sum()

    weights = normal(7, TIME, ROWS, 8)
    turned = jax.jit(jax.grad(loss(TURNED, swapped(XS), swapped)))(PARAMS)
    same(turned, jax.jit(jax.grad(loss(STACK, XS, lambda ys: ys)))(PARAMS))


def test_weights_for_pytorch_are_those_of_the_stack():
    found, want = (interop.torch.to_state_dict(layer, PARAMS) for layer in (TURNED, STACK))
    assert list(found) == list(want)
    same(found, want, tolerance=0)
    same(interop.torch.from_state_dict(TURNED, found), PARAMS)


BAD = {
    "no-batch": (lambda: TURNED.apply(PARAMS, XS[:, 0]), ValueError, r"float32\[5, 3\].*expects \[batch, time"),
    "no-batch-tokens": (
        lambda: jrnn.BatchFirst(jrnn.Embedding(7, 3)).apply((), jnp.zeros(5, int)),
        ValueError,
        r"int32\[5\].*expects \[batch, time",
    ),
    "mask-time-first": (
        lambda: TURNED.apply(PARAMS, swapped(XS), mask=MASK.T),
        ValueError,
        r"mask is bool\[5, 3\]; expected bool\[3, 5\]",
    ),
    "reset-time-first": (
        lambda: TURNED.last(PARAMS, swapped(XS), reset=RESET.T),
        ValueError,
        r"reset is bool\[5, 3\]; expected bool\[3, 5\]",
    ),
    "lengths": (
        lambda: TURNED.apply(PARAMS, swapped(XS), lengths=jnp.ones(5, int)),
        ValueError,
        r"lengths is int32\[5\]; expected integers of shape \[3\]",
    ),
    "cell": (lambda: jrnn.BatchFirst(jrnn.LSTM(3, 4)), TypeError, r"BatchFirst: layer is LSTM.*Recurrent\(cell\)"),
    "twice": (lambda: jrnn.BatchFirst(TURNED), TypeError, "goes around the outermost layer"),
    "in-a-stack": (lambda: jrnn.Layered((TURNED,)), TypeError, r"layers\[0\] is BatchFirst.*time first"),
    "in-a-pair": (
        lambda: jrnn.Bidirectional(TURNED, jrnn.Recurrent(jrnn.GRU(3, 4), reverse=True)),
        TypeError,
        "forward is BatchFirst.*time first",
    ),
    "in-a-sum": (
        lambda: jrnn.Residual(jrnn.BatchFirst(jrnn.Dense(3, 3))),
        TypeError,
        r"layer is BatchFirst.*swapaxes\(xs, 0, 1\)",
    ),
    "exported": (lambda: interop.stablehlo.export(TURNED, PARAMS), TypeError, "model is BatchFirst.*model.layer"),
    "in-a-model": (
        lambda: Classifier(TURNED, 2, pooling=pooling.Mean()),
        TypeError,
        "Classifier: layer is BatchFirst.*time first",
    ),
}


@pytest.mark.parametrize(("call", "error", "words"), BAD.values(), ids=BAD)
def test_bad_input(call, error, words):
    with pytest.raises(error, match=words):
        call()
