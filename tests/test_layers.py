"""What layers add to cells: dropout, sums, both directions, stacks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import key, normal, random_inputs, random_params, random_state, same, step

import jrnn

ONES = jnp.ones((50, 4, 100))


def dropped(xs=ONES, **options):
    return np.asarray(jrnn.Dropout(0.3, **options).apply((), xs, key=key(0))[1])


@pytest.mark.parametrize("variational", [False, True])
def test_dropout_keeps_the_mean(variational):
    ys = dropped(variational=variational)
    np.testing.assert_allclose(np.unique(ys), [0, 1 / 0.7], rtol=1e-6)
    # The share of zeros among n draws has the standard deviation sqrt(0.3 * 0.7 / n); four of them are allowed.
    draws = 400 if variational else ys.size
    assert abs(np.mean(ys == 0) - 0.3) < 4 * np.sqrt(0.21 / draws)
    assert abs(np.mean(ys) - 1) < 4 * np.sqrt(0.21 / draws) / 0.7


def test_dropout_without_a_key_or_a_rate_is_the_identity():
    xs = normal(0, 5, 2, 3)
    for layer in (jrnn.Dropout(0.9), jrnn.Dropout(0.9, variational=True)):
        same(layer.apply((), xs)[1], xs, 0)
        same(layer.step((), (), xs[0])[1], xs[0], 0)
    same(jrnn.Dropout(0.0).apply((), xs, key=key(0))[1], xs, 0)


def test_variational_dropout_lasts_over_time_and_differs_by_row():
    ys = dropped(variational=True)
    assert np.all(ys == ys[0])
    assert np.any(ys[:, 0] != ys[:, 1])
    per_step = dropped()
    assert np.any(per_step[0] != per_step[1])


def test_variational_dropout_streams_with_one_key():
    layer = jrnn.Dropout(0.3, variational=True)
    xs = normal(0, 5, 2, 30)
    whole = layer.apply((), xs, key=key(3))[1]
    same(jnp.stack([layer.step((), (), x, key=key(3))[1] for x in xs]), whole)


def test_a_stack_has_the_same_parameters_with_and_without_dropout():
    sizes = {"input_size": 3, "hidden_size": 4, "num_layers": 3}
    with_, without = (jrnn.rnn(jrnn.LSTM, **sizes, dropout=rate) for rate in (0.5, 0.0))
    assert [type(layer) for layer in with_.layers if layer not in without.layers] == [jrnn.Dropout] * 2
    params = random_params(with_)
    xs = random_inputs(with_, 5, 2)
    assert jax.tree.structure(params) == jax.tree.structure(random_params(without))
    same(with_.apply(params, xs), without.apply(params, xs))
    trained, again, other = (with_.apply(params, xs, key=key(seed))[1] for seed in (1, 1, 2))
    same(trained, again, 0)
    assert not np.allclose(trained, other)
    assert not np.allclose(trained, without.apply(params, xs)[1])


def test_each_layer_has_parameters_of_its_own():
    stack = jrnn.rnn(jrnn.GRU, input_size=4, hidden_size=4, num_layers=2, bidirectional=False)
    first, second = stack.init(key(0))
    assert not np.allclose(first.w_h, second.w_h)
    both = jrnn.rnn(jrnn.GRU, input_size=4, hidden_size=4, bidirectional=True).init(key(0))[0]
    assert not np.allclose(both.forward.w_h, both.backward.w_h)


def test_bidirectional_is_both_directions_side_by_side():
    cell, other = jrnn.GRU(3, 4), jrnn.Elman(3, 2)
    layer = jrnn.Bidirectional(jrnn.Recurrent(cell), jrnn.Recurrent(other, reverse=True))
    params, xs, lengths = random_params(layer), random_inputs(layer, 5, 2), jnp.array([5, 3])
    state, ys = layer.apply(params, xs, lengths=lengths)
    forward = jrnn.unroll(cell, params.forward, xs, lengths=lengths)
    backward = jrnn.unroll(other, params.backward, xs, lengths=lengths, reverse=True)
    same((state.forward, ys[..., :4]), forward)
    same((state.backward, ys[..., 4:]), backward)
    assert layer.output_size == 6


@pytest.mark.parametrize(("one_loop", "loops"), [(True, 1), (False, 2)])
def test_both_directions_take_as_many_loops_as_asked(one_loop, loops):
    cell = jrnn.GRU(3, 4)
    layer = jrnn.Bidirectional(jrnn.Recurrent(cell), jrnn.Recurrent(cell, reverse=True), one_loop=one_loop)
    params, xs = random_params(layer), random_inputs(layer, 5, 2)
    compiled = jax.jit(layer.apply).lower(params, xs).compile().as_text()
    assert compiled.count(" while(") == loops


def test_a_state_for_one_direction_alone_may_be_given():
    cell = jrnn.GRU(3, 4)
    params = random_params(jrnn.Bidirectional(jrnn.Recurrent(cell), jrnn.Recurrent(cell, reverse=True)))
    xs, state = random_inputs(cell, 5, 2), random_state(cell, params.forward, (2,))
    first, second = (
        jrnn.Bidirectional(jrnn.Recurrent(cell), jrnn.Recurrent(cell, reverse=True), one_loop=one_loop).apply(
            params, xs, jrnn.layers.Directions(forward=state, backward=None)
        )
        for one_loop in (True, False)
    )
    same(first, second)


def test_a_stack_is_its_layers_in_turn():
    stack = jrnn.Layered((jrnn.Recurrent(jrnn.LSTM(3, 4)), jrnn.Dropout(0.5), jrnn.Recurrent(jrnn.GRU(4, 2))))
    params, xs = random_params(stack), random_inputs(stack, 5, 2)
    states, ys = stack.apply(params, xs)
    first, hs = jrnn.unroll(jrnn.LSTM(3, 4), params[0], xs)
    second, zs = jrnn.unroll(jrnn.GRU(4, 2), params[1], hs)
    same((states, ys), ((first, second), zs))
    assert (stack.input_size, stack.output_size) == (3, 2)


def test_residual_adds_the_input_where_it_is_real():
    cell = jrnn.GRU(3, 3)
    layer = jrnn.Residual(jrnn.Recurrent(cell))
    params, xs, lengths = random_params(layer), random_inputs(layer, 5, 2), jnp.array([5, 2])
    real = (jnp.arange(5)[:, None] < lengths[None])[..., None]
    _, ys = layer.apply(params, xs.at[2:, 1].set(jnp.nan), lengths=lengths)
    _, inner = jrnn.unroll(cell, params, xs)
    same(ys, jnp.where(real, xs + inner, 0))


def test_a_greedy_loop_can_be_streamed():
    """Each output is the next input: what `apply` cannot do and `step` can, checked against `apply` on the result."""
    stack = jrnn.rnn(jrnn.GRU, input_size=4, hidden_size=4, num_layers=2, dropout=0.5)
    params = random_params(stack)
    state, x, fed = stack.initial_state(params), normal(0, 4), []
    for _ in range(6):
        fed.append(x)
        state, x = step(stack, params, state, x)
    final, ys = stack.apply(params, jnp.stack(fed))
    same(ys, jnp.stack([*fed[1:], x]))
    same(final, state)
