"""What holds for every cell and every layer, whatever it computes. Each law takes a model and raises if it is broken."""

import dataclasses
import functools
import pickle
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from cases import apply, cast, floats, key, random_inputs, random_params, random_state, run, same
from cases import step as step_
from jax.core import Tracer
from jax.extend.core import jaxprs_in_params
from jax.flatten_util import ravel_pytree
from jax.sharding import PartitionSpec as P

import jrnn
from jrnn.arrays import is_key

TIME = 5


def example(model: Any, batch: tuple[int, ...] = (2,), noise: bool = True) -> tuple[Any, jax.Array, Any]:
    params = random_params(model)
    return params, random_inputs(model, TIME, *batch), random_state(model, params, batch, noise=noise)


def by_numpy(tree: Any) -> Any:
    """Its arrays as NumPy's, which has nothing to compile; keys and what is traced as they are."""
    return jax.tree.map(lambda a: a if is_key(a) or isinstance(a, Tracer) else np.asarray(a), tree)


def row(tree: Any, index: Any) -> Any:
    return jax.tree.map(lambda a: a[index], by_numpy(tree))


def weighted(tree: Any) -> jax.Array:
    """A scalar to which every entry of every floating array contributes differently."""
    leaves, _ = floats(tree)
    return sum(jnp.sum(a * jnp.cos(jnp.arange(a.size, dtype=a.dtype)).reshape(a.shape)) for a in leaves)


# Running


def compiled_is_eager(model: Any) -> None:
    params, xs, state = example(model)
    options = {} if isinstance(model, jrnn.Cell) else {"key": key(9)}
    same(run(model, params, xs, state, **options), apply(model, params, xs, state, **options))


def unroll_is_a_loop(model: Any) -> None:
    params, xs, state = example(model)
    final, ys = run(model, params, xs, state)
    outputs = []
    for x in xs:
        state, y = step_(model, params, state, x)
        outputs.append(y)
    same((final, ys), (state, np.stack(outputs)))


def chunks_are_the_whole(model: Any) -> None:
    params, xs, state = example(model)
    final, ys = run(model, params, xs, state)
    half, first = run(model, params, xs[:2], state)
    end, second = run(model, params, xs[2:], half)
    same((end, np.concatenate([first, second])), (final, ys))


def no_state_is_the_initial_state(model: Any) -> None:
    params, xs, _ = example(model)
    same(run(model, params, xs), run(model, params, xs, model.initial_state(params, (2,))))


def models_are_plain_values(model: Any) -> None:
    copy = pickle.loads(pickle.dumps(model))
    assert copy == model
    assert hash(copy) == hash(model)
    assert eval(repr(model), vars(jrnn) | vars(jrnn.activations) | vars(jrnn.parametrizations)) == model
    assert jax.tree.leaves(model) == []
    params = random_params(model)
    same(pickle.loads(pickle.dumps(params)), params, tolerance=0)
    with_field = next(field.name for field in dataclasses.fields(model))
    try:
        setattr(model, with_field, None)
    except dataclasses.FrozenInstanceError:
        return
    raise AssertionError(f"{model} can be changed")


def equal_models_compile_once(model: Any) -> None:
    traces = 0

    @jax.jit
    def count(model: Any, params: Any, xs: jax.Array) -> jax.Array:
        nonlocal traces
        traces += 1
        return apply(model, params, xs)[1]

    params, xs, _ = example(model)
    count(model, params, xs)
    count(dataclasses.replace(model), params, xs)
    assert traces == 1
    count(model, params, xs[1:])
    assert traces == 2


# Batches


def vmap_is_a_batch_axis(model: Any) -> None:
    params, xs, state = example(model)
    lengths = jnp.array([5, 2])
    want = run(model, params, xs, state, lengths=lengths)

    def time_first(xs: jax.Array, state: Any, length: jax.Array) -> Any:
        return apply(model, params, xs, state, lengths=length)

    mapped = jax.jit(jax.vmap(time_first, in_axes=(1, 0, 0), out_axes=(0, 1)))
    same(mapped(xs, state, lengths), want)
    batch_first = jax.jit(jax.vmap(time_first))
    final, ys = batch_first(jnp.swapaxes(xs, 0, 1), state, lengths)
    same((final, jnp.swapaxes(ys, 0, 1)), want)


def vmap_over_parameters(model: Any) -> None:
    _, xs, state = example(model)
    two = [random_params(model, seed) for seed in (1, 2)]
    stacked = jax.tree.map(lambda *a: jnp.stack(a), *two)
    got = jax.jit(jax.vmap(lambda p: apply(model, p, xs, state)))(stacked)
    for index, params in enumerate(two):
        same(row(got, index), run(model, params, xs, state))


def batch_axes_do_not_matter(model: Any) -> None:
    params, xs, state = example(model, batch=(2, 3))
    lengths = jnp.array([[5, 0, 3], [2, 4, 1]])
    final, ys = run(model, params, xs, state, lengths=lengths)

    def flat(tree: Any) -> Any:
        return jax.tree.map(lambda a: a.reshape((6, *a.shape[2:])), by_numpy(tree))

    xs_flat, ys_flat = (np.reshape(a, (TIME, 6, *a.shape[3:])) for a in (xs, ys))
    same((flat(final), ys_flat), run(model, params, xs_flat, flat(state), lengths=lengths.reshape(6)))
    alone = run(model, params, xs[:, 1, 0], row(state, (1, 0)), lengths=jnp.array(2))
    same(alone, (row(final, (1, 0)), ys[:, 1, 0]))


# Derivatives


def derivatives_agree(model: Any) -> None:
    """grad, jvp, jacfwd, both Hessian-vector products, and central differences of value and gradient."""
    with jax.enable_x64(True):
        params, xs, state = cast(example(model), jnp.float64)
        leaves, put_back = floats((params, xs[:3], state))
        flat, unflatten = ravel_pytree(leaves)
        direction = jnp.cos(jnp.arange(flat.size, dtype=flat.dtype))
        lengths = jnp.array([3, 2])

        def loss(flat: jax.Array) -> jax.Array:
            return weighted(apply(model, *put_back(unflatten(flat)), lengths=lengths))

        def along(f: Any) -> Any:
            return lambda at: jax.jvp(f, (at,), (direction,))[1]

        value_and_gradient = jax.jit(jax.value_and_grad(loss))

        @jax.jit
        def every_way(at: jax.Array) -> Any:
            directional, reverse_over_forward = jax.value_and_grad(along(loss))(at)
            return directional, jax.jacfwd(loss)(at), reverse_over_forward, along(jax.grad(loss))(at)

        _, gradient = value_and_gradient(flat)
        directional, forward, reverse_over_forward, forward_over_reverse = every_way(flat)
        same(forward, gradient, 1e-12)
        same(directional, gradient @ direction, 1e-12)
        same(reverse_over_forward, forward_over_reverse, 1e-12)

        step = 1e-5
        ahead, behind = (value_and_gradient(flat + sign * step * direction) for sign in (1, -1))
        value, slope = jax.tree.map(lambda a, b: (a - b) / (2 * step), ahead, behind)
        same((value, slope), (directional, forward_over_reverse), 1e-7)


def vmap_of_grad_is_grad_of_rows(model: Any) -> None:
    params, xs, state = example(model)

    def loss(params: Any, xs: jax.Array, state: Any) -> jax.Array:
        return jnp.sum(jnp.square(apply(model, params, xs, state)[1]))

    each = jax.jit(jax.vmap(jax.grad(loss), in_axes=(None, 1, 0)))(params, xs, state)
    same(jax.tree.map(lambda a: a.sum(0), each), jax.jit(jax.grad(loss))(params, xs, state))


def dtypes_are_kept(model: Any) -> None:
    with jax.enable_x64(True):
        assert len({a.dtype for a in jax.tree.leaves(jax.eval_shape(model.init, key(0)))}) == 1
    params, xs, state = example(model, noise=False)
    typed = cast((params, xs, state), jnp.bfloat16)
    same(cast(run(model, *typed), jnp.float32), run(model, params, xs, state), 0.15)

    _, _, noisy = example(model)
    marks = {"lengths": jnp.array([5, 2]), "reset": jnp.zeros((TIME, 2), bool)}
    if isinstance(model, jrnn.Layer):
        marks["key"] = key(1)
    for dtype, start in ((jnp.float64, noisy), (jnp.bfloat16, None), (jnp.float16, noisy)):
        with jax.enable_x64(dtype == jnp.float64):
            leaves, put_back = floats(cast((params, xs, start), dtype))
            function = functools.partial(_result_and_gradient, model, put_back, marks)
            fresh = functools.partial(model.initial_state, batch=(2,), key=key(1))
            made = jax.eval_shape(function, leaves), jax.eval_shape(fresh, cast(params, dtype))
            for leaf in floats(made)[0]:
                assert leaf.dtype == dtype, leaf


def _result_and_gradient(model: Any, put_back: Any, marks: Any, leaves: list[jax.Array]) -> Any:
    def loss(leaves: list[jax.Array]) -> jax.Array:
        return weighted(apply(model, *put_back(leaves), **marks))

    return apply(model, *put_back(leaves), **marks), jax.grad(loss)(leaves)


# Devices


def sharded_is_unsharded(model: Any) -> None:
    """On two devices with the batch divided: values, gradients, and the number of sums over devices."""
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    params, xs, state = example(model, batch=(4,))
    lengths = jnp.array([5, 2, 0, 4])
    leaves, _ = floats(params)
    in_state, put_back = floats(state)

    def value_and_grads(params: Any, xs: jax.Array, in_state: Any, keys: Any, lengths: jax.Array) -> Any:
        def loss(params: Any, xs: jax.Array, in_state: Any) -> Any:
            state = _with_keys(put_back(in_state), keys)
            final, ys = apply(model, params, xs, state, lengths=lengths)
            return sum(jnp.sum(jnp.square(a)) for a in floats((final, ys))[0]), (floats(final)[0], ys)

        (_, aux), grads = jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)(params, xs, in_state)
        return aux, grads

    rows, times = P("data"), P(None, "data")
    sharded = jax.shard_map(
        value_and_grads,
        mesh=mesh,
        in_specs=(P(), times, rows, rows, rows),
        out_specs=((rows, times), (P(), times, rows)),
    )
    arguments = (params, xs, in_state, _keys(state), lengths)
    traced = jax.jit(sharded).trace(*arguments)
    compiled = traced.lower().compile()
    same(compiled(*arguments), jax.jit(value_and_grads)(*arguments))

    sums = [equation for equation in _equations(traced.jaxpr.jaxpr) if equation.primitive.name.startswith("psum")]
    summed = [atom.aval.size for equation in sums for atom in equation.invars]
    stacked = 2 if getattr(model, "one_loop", None) else 1  # both directions of a pair share a sum
    assert len(summed) == len(leaves) // stacked
    assert sum(summed) == sum(leaf.size for leaf in leaves)
    assert not [line for line in in_loops(compiled.as_text()) if "all-reduce" in line]


def _keys(state: Any) -> list[jax.Array]:
    return [a for a in jax.tree.leaves(state) if is_key(a)]


def _with_keys(state: Any, keys: list[jax.Array]) -> Any:
    remaining = iter(keys)
    return jax.tree.map(lambda a: next(remaining) if is_key(a) else a, state)


def _equations(jaxpr: Any) -> Any:
    """Every equation, those of inner programs too."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from _equations(inner)


def in_loops(program: str) -> list[str]:
    """The instructions that a compiled program runs in its loops."""
    computations = {
        name: body.splitlines()
        for name, body in re.findall(r"^(?:ENTRY )?(%\S+) .*?\{\n(.*?)^\}", program, re.M | re.S)
    }
    waiting, found = re.findall(r"body=(%[\w.\-]+)", program), set()
    while waiting:
        name = waiting.pop()
        if name not in found and name in computations:
            found.add(name)
            waiting += re.findall(r"(?:calls|to_apply|body)=(%[\w.\-]+)", "\n".join(computations[name]))
    return [line for name in found for line in computations[name]]


# Padding and documents


def padding_is_absent(model: Any) -> None:
    """Rows of 3, 3 and 0 steps, then NaN: outputs, states and gradients as if only the steps were there."""
    params, xs, state = example(model, batch=(3,))
    lengths = jnp.array([3, 3, 0])
    in_state, put_back = floats(state)

    def padded(params: Any, xs: jax.Array, in_state: Any) -> Any:
        final, ys = result = apply(model, params, xs, put_back(in_state), lengths=lengths)
        return weighted((row(final, slice(0, 2)), ys[:3, :2])), result

    def short(params: Any, xs: jax.Array, in_state: Any) -> Any:
        result = apply(model, params, xs[:3, :2], row(put_back(in_state), slice(0, 2)))
        return weighted(result), result

    def both(f: Any, xs: jax.Array) -> Any:
        (value, result), grads = jax.jit(jax.value_and_grad(f, argnums=(0, 1, 2), has_aux=True))(params, xs, in_state)
        return value, result, grads

    hidden = np.array(xs)
    hidden[3:] = hidden[:, 2] = np.nan
    value, (final, ys), grads = both(padded, hidden)
    same((value, (row(final, slice(0, 2)), ys[:3, :2]), grads), both(short, xs))
    same(row(final, 2), row(state, 2), tolerance=0)
    assert not np.any(ys[3:])
    assert not np.any(ys[:, 2])


def holes_are_absent(model: Any) -> None:
    params, xs, state = example(model)
    mask = np.array([[True, True, False, False, True], [False, True, True, True, False]]).T
    xs = np.array(xs)
    xs[~mask] = np.nan
    final, ys = by_numpy(run(model, params, xs, state, mask=mask))
    for i in range(2):
        steps = np.flatnonzero(mask[:, i])
        same((row(final, i), ys[steps, i]), run(model, params, xs[steps, i], row(state, i)))
        assert not np.any(np.delete(ys[:, i], steps, 0))


def packed_is_separate(model: Any) -> None:
    """Documents one after the other in a row, of 2 and 3 steps or of 3 and 2, as if each ran alone."""
    params, xs, _ = example(model)
    xs, starts, reset = np.asarray(xs), [2, 3], np.zeros((TIME, 2), bool)
    reset[starts, [0, 1]] = True
    ys = np.asarray(run(model, params, xs, reset=reset)[1])
    for i, start in enumerate(starts):
        for document in (slice(0, start), slice(start, TIME)):
            same(ys[document, i], run(model, params, xs[document, i])[1])


EVERY = [
    compiled_is_eager,
    no_state_is_the_initial_state,
    models_are_plain_values,
    equal_models_compile_once,
    vmap_is_a_batch_axis,
    vmap_over_parameters,
    batch_axes_do_not_matter,
    dtypes_are_kept,
    sharded_is_unsharded,
    padding_is_absent,
    holes_are_absent,
    packed_is_separate,
]
STREAMED = [unroll_is_a_loop, chunks_are_the_whole]
DERIVATIVES = [vmap_of_grad_is_grad_of_rows, derivatives_agree]
