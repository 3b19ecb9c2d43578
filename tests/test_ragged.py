"""lengths, mask, reset and reverse, drawn at random, against plain Python that visits the real steps one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CELLS, KINDS, apply, key, random_inputs, random_params, random_state, run, same, step
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import jrnn

TIME = 5
ROWS = 3  # other batch axes are the concern of a law
SOME = {name: CELLS[name] for name in ("lstm", "ctrnn-everything")}
each_cell = pytest.mark.parametrize("cell", SOME.values(), ids=SOME)
# unroll turns lengths and mask into one array before it meets any cell.
one_cell = pytest.mark.parametrize("cell", [CELLS["gru-after"]], ids=["gru-after"])

last = jax.jit(lambda layer, *arguments, **marks: layer.last(*arguments, **marks), static_argnums=0)


@st.composite
def ragged(draw, resets: bool = False):
    batch = (ROWS,)
    mask = draw(arrays(bool, (TIME, *batch)))
    if draw(st.booleans()):
        mask = np.arange(TIME).reshape(TIME, *(1 for _ in batch)) < mask.sum(0)
    reset = draw(arrays(bool, (TIME, *batch))) if resets else np.zeros((TIME, *batch), bool)
    return mask, reset, draw(st.booleans())


def visit(cell, params, xs, state, mask, reset, reverse):
    """Row by row, step by step: a document starts anew at its end that the run meets first, and padding does nothing."""
    ys = np.zeros((*xs.shape[:-1], cell.output_size), np.float32)
    final = jax.tree.map(lambda a: a.copy(), state)
    for row in np.ndindex(mask.shape[1:]):
        s = jax.tree.map(lambda a, row=row: a[row], state)
        for t in reversed(range(TIME)) if reverse else range(TIME):
            first = t + 1 if reverse else t  # the step that a document would start with, had another one ended here
            if first < TIME and reset[(first, *row)]:
                s = cell.initial_state(params)
            if mask[(t, *row)]:
                s, y = step(cell, params, s, xs[(t, *row)])
                ys[(t, *row)] = y
        final = jax.tree.map(lambda a, b, row=row: a.at[row].set(b), final, s)
    return final, jnp.asarray(ys)


@each_cell
@given(case=ragged(resets=True))
def test_ragged_rows_are_visited_step_by_step(cell, case):
    mask, reset, reverse = case
    params, xs = random_params(cell), random_inputs(cell, *mask.shape)
    state = random_state(cell, params, mask.shape[1:], noise=False)
    garbage = jnp.where(jnp.asarray(mask)[..., None], xs, jnp.nan)
    got = run(cell, params, garbage, state, mask=mask, reset=reset, reverse=reverse)
    same(got, visit(cell, params, xs, state, mask, reset, reverse))


@one_cell
@given(case=ragged())
def test_lengths_are_a_mask_without_holes(cell, case):
    lengths = case[0].sum(0)
    mask = np.arange(TIME).reshape(TIME, *(1 for _ in lengths.shape)) < lengths
    params, xs = random_params(cell), random_inputs(cell, *mask.shape)
    state = random_state(cell, params, lengths.shape)
    got = run(cell, params, xs, state, lengths=jnp.asarray(lengths), reverse=case[2])
    same(got, run(cell, params, xs, state, mask=mask, reverse=case[2]), tolerance=0)


@each_cell
@given(case=ragged())
def test_reverse_is_each_row_flipped(cell, case):
    """Noise included: its keys are used up in the order of the loop."""
    lengths = case[0].sum(0)
    params, xs = random_params(cell), random_inputs(cell, TIME, *lengths.shape)
    state = random_state(cell, params, lengths.shape)

    def flipped(a):
        out = np.array(a)
        for row in np.ndindex(lengths.shape):
            n = lengths[row]
            out[(slice(0, n), *row)] = out[(slice(0, n), *row)][::-1]
        return jnp.asarray(out)

    lengths_ = jnp.asarray(lengths)
    final, ys = run(cell, params, xs, state, lengths=lengths_, reverse=True)
    want, zs = run(cell, params, flipped(xs), state, lengths=lengths_)
    same((final, ys), (want, flipped(zs)))


@one_cell
@given(case=ragged(resets=True))
def test_lengths_and_mask_together(cell, case):
    mask, reset, reverse = case
    lengths = jnp.full(mask.shape[1:], 3)
    params, xs = random_params(cell), random_inputs(cell, *mask.shape)
    both = mask & (np.arange(TIME) < 3).reshape(TIME, *(1 for _ in mask.shape[1:]))
    got = run(cell, params, xs, mask=mask, lengths=lengths, reset=reset, reverse=reverse)
    same(got, run(cell, params, xs, mask=both, reset=reset, reverse=reverse), tolerance=0)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", [CELLS[name] for name in KINDS], ids=KINDS)
def test_a_document_starts_from_the_initial_state_and_not_from_the_state_given(cell, reverse):
    params, xs = random_params(cell), random_inputs(cell, TIME, 2)
    state = random_state(cell, params, (2,), noise=False)
    reset = jnp.zeros((TIME, 2), bool).at[2].set(True)
    final, ys = run(cell, params, xs, state, reset=reset, reverse=reverse)
    parts = (xs[:2], state if not reverse else None), (xs[2:], None if not reverse else state)
    (first, before), (second, after) = (run(cell, params, part, start, reverse=reverse) for part, start in parts)
    same((final, ys), (first if reverse else second, jnp.concatenate([before, after])))


@pytest.mark.parametrize("reverse", [False, True])
def test_a_reset_in_the_padding_takes_effect_at_the_next_real_step(reverse):
    cell = CELLS["gru-after"]
    params, xs = random_params(cell), random_inputs(cell, TIME, 1)
    mask = jnp.array([[True, True, False, True, True]]).T
    flags = jnp.zeros((TIME, 1), bool)
    at_padding, at_next = (
        run(cell, params, xs, mask=mask, reset=flags.at[t].set(True), reverse=reverse) for t in (2, 3)
    )
    same(at_padding, at_next, tolerance=0)
    assert not np.allclose(at_next[1], run(cell, params, xs, mask=mask, reverse=reverse)[1])


@each_cell
@given(case=ragged(resets=True), cut=st.integers(1, TIME - 1))
def test_chunks_are_the_whole_with_padding_and_resets(cell, case, cut):
    """A reset at a padded step is not lost where the call ends there."""
    mask, reset, _ = case
    params, xs = random_params(cell), random_inputs(cell, *mask.shape)
    state = random_state(cell, params, mask.shape[1:])
    half, first = run(cell, params, xs[:cut], state, mask=mask[:cut], reset=reset[:cut])
    end, second = run(cell, params, xs[cut:], half, mask=mask[cut:], reset=reset[cut:])
    same((end, jnp.concatenate([first, second])), run(cell, params, xs, state, mask=mask, reset=reset))


@pytest.mark.parametrize("reverse", [False, True])
@each_cell
@given(case=ragged(resets=True))
def test_the_last_output_is_the_one_at_the_last_real_step_of_the_run(cell, reverse, case):
    mask, reset, _ = case
    layer = jrnn.Recurrent(cell, reverse=reverse)
    params, xs = random_params(cell), random_inputs(cell, *mask.shape)
    state = random_state(cell, params, mask.shape[1:], noise=False)
    final, ys = run(layer, params, xs, state, mask=mask, reset=reset)
    at_end = np.zeros_like(ys[0])
    for row in np.ndindex(mask.shape[1:]):
        steps = np.flatnonzero(mask[(slice(None), *row)])
        if steps.size:
            at_end[row] = ys[(steps[0 if reverse else -1], *row)]
    same(last(layer, params, xs, state, mask=mask, reset=reset), (final, at_end))


def test_a_reset_at_the_first_step_discards_the_state_given():
    cell = CELLS["lstm"]
    params, xs = random_params(cell), random_inputs(cell, TIME, 2)
    reset = jnp.zeros((TIME, 2), bool).at[0].set(True)
    same(run(cell, params, xs, random_state(cell, params, (2,)), reset=reset), run(cell, params, xs))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "uint32"])
def test_lengths_of_any_integer_type_count_more_steps_than_the_type_holds(dtype):
    cell = jrnn.Elman(1, 1)
    xs = jnp.ones((300, 2, 1))
    lengths = jnp.array([3, 127], dtype)
    _, ys = run(cell, random_params(cell), xs, lengths=lengths)
    np.testing.assert_array_equal((ys[..., 0] != 0).sum(0), [3, 127])


def test_traced_lengths_are_clipped():
    cell = CELLS["lstm"]
    params, xs = random_params(cell), random_inputs(cell, TIME, 2)
    same(
        run(cell, params, xs, lengths=jnp.array([TIME + 7, -2])), run(cell, params, xs, lengths=jnp.array([TIME, 0])), 0
    )


def test_marks_need_no_jit():
    cell = CELLS["ctrnn-everything"]
    params, xs, state = random_params(cell), random_inputs(cell, TIME, 2), None
    state = cell.initial_state(params, (2,), key(1))
    marks = {"lengths": np.array([4, 2]), "reset": np.eye(TIME, 2, dtype=bool)}
    same(apply(cell, params, xs, state, **marks), run(cell, params, xs, state, **marks))


def test_gradients_stop_at_the_start_of_a_document():
    cell = CELLS["gru-after"]
    params, xs = random_params(cell), random_inputs(cell, TIME)
    reset = jnp.arange(TIME) == 3
    slope = jax.jit(jax.grad(lambda xs: jnp.sum(run(cell, params, xs, reset=reset)[1][3:])))(xs)
    assert not np.any(slope[:3])
    assert np.all(np.any(slope[3:], -1))


@each_cell
@given(case=ragged(resets=True), continued=st.booleans())
def test_both_directions_in_one_loop_are_two_loops(cell, case, continued):
    """Noise included: each direction has its own keys."""
    mask, reset, noisy = case
    one, two = (
        jrnn.Bidirectional(jrnn.Recurrent(cell), jrnn.Recurrent(cell, reverse=True), one_loop=one)
        for one in (True, False)
    )
    params, xs = random_params(one), random_inputs(one, *mask.shape)
    state = random_state(one, params, mask.shape[1:], noise=noisy) if continued else None
    marks = {"mask": mask, "reset": reset, "key": key(1) if noisy and not continued else None}
    got, want = (run(layer, params, xs, state, **marks) for layer in (one, two))
    same(got, want)
    got, want = (last(layer, params, xs, state, **marks) for layer in (one, two))
    same(got, want)
