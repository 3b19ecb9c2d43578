"""Layers that take each step on its own: Dense, LayerNorm; where the run of a stack ends that has them after both directions."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import cast, key, normal, random_inputs, random_params, same

import jrnn
from jrnn.layers.base import is_pointwise

TIME, ROWS = 5, 4
LENGTHS = jnp.array([5, 3, 1, 0])
BOTH = jrnn.Bidirectional(jrnn.Recurrent(jrnn.GRU(3, 4)), jrnn.Recurrent(jrnn.Elman(3, 2), reverse=True))


def test_dense_is_a_linear_map_of_each_step():
    layer = jrnn.Dense(3, 2)
    params, xs = random_params(layer), random_inputs(layer, TIME, ROWS)
    state, ys = layer.apply(params, xs)
    w, b, x = (np.asarray(a, np.float64) for a in (*params, xs))
    np.testing.assert_allclose(ys, np.einsum("tbi,io->tbo", x, w) + b, rtol=1e-5, atol=1e-6)
    assert state == ()
    same(layer.step(params, (), xs[0]), ((), ys[0]))
    without = jrnn.Dense(3, 2, bias=False)
    assert without.init(key(0)).b is None
    same(without.apply(params._replace(b=None), xs)[1], ys - jnp.broadcast_to(params.b, ys.shape))


def test_dense_starts_as_glorot_has_it():
    params = jrnn.Dense(300, 200).init(key(0))
    bound = np.sqrt(6 / 500)
    assert np.abs(params.w).max() <= bound
    # Of a uniform distribution over n draws the standard deviation is bound / sqrt(3), up to 0.45 / sqrt(n) of itself.
    assert np.std(params.w) == pytest.approx(bound / np.sqrt(3), rel=4 * 0.45 / np.sqrt(60000))
    assert not params.b.any()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_gradients_of_dense_are_summed_in_float32(dtype):
    """1500 ones: a sum kept in bfloat16 stops at 256."""
    layer = jrnn.Dense(1, 1)
    params, xs = cast((layer.init(key(0)), jnp.ones((500, 3, 1))), dtype)
    gradient = jax.jit(jax.grad(lambda params: layer.apply(params, xs)[1].astype(jnp.float32).sum()))(params)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {jnp.dtype(dtype)}
    np.testing.assert_allclose([float(gradient.w[0, 0]), float(gradient.b[0])], 1500, rtol=0.004)


def test_layer_norm_is_what_the_paper_says():
    layer = jrnn.LayerNorm(6, epsilon=1e-3)
    params, xs = random_params(layer), normal(0, TIME, ROWS, 6)
    g, b, x = (np.asarray(a, np.float64) for a in (*params, xs))
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    np.testing.assert_allclose(
        layer.apply(params, xs)[1], g * (x - mean) / np.sqrt(variance + 1e-3) + b, rtol=1e-4, atol=1e-5
    )
    same(layer.step(params, (), xs[0])[1], layer.apply(params, xs)[1][0])


def test_layer_norm_starts_with_mean_0_and_variance_1_whatever_the_scale():
    layer = jrnn.LayerNorm(50)
    ys = np.asarray(layer.apply(layer.init(key(0)), 1000 + 30 * normal(0, TIME, ROWS, 50))[1])
    np.testing.assert_allclose(ys.mean(-1), 0, atol=1e-4)
    np.testing.assert_allclose(ys.var(-1), 1, rtol=1e-3)


def test_layer_norm_of_16_bits_is_computed_in_float32():
    """The variance of 300 and -300 is beyond float16, which ends at 65504."""
    layer = jrnn.LayerNorm(2)
    params, xs = cast((layer.init(key(0)), jnp.array([[[300.0, -300.0]]])), jnp.float16)
    ys = layer.apply(params, xs)[1]
    assert ys.dtype == jnp.float16
    np.testing.assert_array_equal(ys, [[[1, -1]]])


@pytest.mark.parametrize("layer", [jrnn.Dense(3, 2), jrnn.LayerNorm(3), jrnn.Dropout(0.5)], ids=str)
def test_padding_reaches_nothing(layer):
    params, xs = random_params(layer), normal(0, TIME, ROWS, 3)
    mask = jnp.arange(TIME)[:, None] < jnp.broadcast_to(LENGTHS, (TIME, ROWS))
    dirty = jnp.where(mask[..., None], xs, jnp.nan)

    def total(params, xs):
        ys = layer.apply(params, xs, lengths=LENGTHS, key=key(1))[1]
        return jnp.square(ys).sum(), ys

    (_, ys), (of_params, of_xs) = jax.value_and_grad(total, argnums=(0, 1), has_aux=True)(params, dirty)
    (_, want), clean = jax.value_and_grad(total, argnums=(0, 1), has_aux=True)(params, xs)
    same((ys, of_params, of_xs), (want, *clean))
    assert not ys[~mask].any()
    assert not of_xs[~mask].any()


# Where a run ends


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Gain(jrnn.Layer):
    """A gain for each feature, written by a user who declares nothing and overrides `apply`."""

    size: int

    @property
    def input_size(self):
        return self.size

    @property
    def output_size(self):
        return self.size

    def init(self, key):
        return jnp.ones(self.size)

    def initial_state(self, params, batch=(), key=None):
        return ()

    def apply(self, params, xs, state=None, *, lengths=None, mask=None, reset=None, key=None):
        return (), xs * jnp.broadcast_to(params, xs.shape)

    def step(self, params, state, x, *, key=None):
        return (), x * jnp.broadcast_to(params, x.shape)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Centred(jrnn.Layer):
    """Without its mean over time: no state and no parameters, but every step sees all others. Written with `run`."""

    input_size = None
    output_size = None

    def init(self, key):
        return ()

    def initial_state(self, params, batch=(), key=None):
        return ()

    def run(self, params, xs, state, segments, key):
        mask = jnp.ones(xs.shape[:-1], bool) if segments.mask is None else segments.mask
        xs = jnp.where(mask[..., None], xs, 0)
        count = jnp.maximum(mask.sum(0), 1).astype(xs.dtype)[..., None]
        mean = xs.sum(0) / jnp.broadcast_to(count, xs.shape[1:])
        return (), jnp.where(mask[..., None], xs - jnp.broadcast_to(mean, xs.shape), 0)

    def step(self, params, state, x, *, key=None):
        raise TypeError("Centred needs the whole sequence")


def of_both(params, xs, row):
    """The outputs of both directions for one row, [time, 6]: each where it ends, by hand."""
    n = int(LENGTHS[row])
    ys = BOTH.apply(params, xs[:n, row])[1]
    return jnp.concatenate([ys[-1, :4], ys[0, 4:]])


TAILS = {
    "dense": (jrnn.Dense(6, 3),),
    "layer-norm": (jrnn.LayerNorm(6),),
    "gain": (Gain(6),),
    "dropout-dense": (jrnn.Dropout(0.5), jrnn.Dense(6, 3)),
    "dense-dense": (jrnn.Dense(6, 3), jrnn.Dense(3, 2)),
    "residual-dense": (jrnn.Residual(jrnn.Dense(6, 6)),),
    "nested": (jrnn.Layered((jrnn.LayerNorm(6), jrnn.Dropout(0.5), jrnn.Dense(6, 3))),),
    "residual-nested-gain": (jrnn.Residual(jrnn.Layered((Gain(6), jrnn.Dropout(0.5)))),),
}


@pytest.mark.parametrize("around", ["stack", "nested", "batch-first"])
@pytest.mark.parametrize("tail", TAILS.values(), ids=TAILS)
def test_pointwise_layers_after_both_directions_go_where_each_direction_ends(tail, around):
    stack = jrnn.Layered((BOTH, *tail))
    params, xs = random_params(stack), random_inputs(BOTH, TIME, ROWS).at[4, 1].set(jnp.nan)
    layer, given, turned = {
        "stack": (stack, params, xs),
        "nested": (jrnn.Layered((jrnn.Layered((BOTH,)), *tail)), ((params[0],), *params[1:]), xs),
        "batch-first": (jrnn.BatchFirst(stack), params, jnp.swapaxes(xs, 0, 1)),
    }[around]
    state, found = layer.last(given, turned, lengths=LENGTHS)
    same(jax.tree.leaves(state), jax.tree.leaves(stack.apply(params, xs, lengths=LENGTHS)[0]))
    rest = jrnn.Layered(tail)
    for row in range(3):
        _, want = rest.step(params[1:], rest.initial_state(params[1:]), of_both(params[0], xs, row))
        same(found[row], want)
    assert not found[3].any()  # a row without real steps, whatever the bias


def test_a_layer_over_time_after_both_directions_ends_at_its_last_step():
    for after in (jrnn.Recurrent(jrnn.GRU(6, 2)), Centred()):
        stack = jrnn.Layered((BOTH, after))
        params, xs = random_params(stack), random_inputs(BOTH, TIME, ROWS)
        _, ys = stack.apply(params, xs, lengths=LENGTHS)
        _, found = stack.last(params, xs, lengths=LENGTHS)
        same(found[:3], jnp.stack([ys[int(n) - 1, row] for row, n in enumerate(LENGTHS[:3])]))


def test_the_sum_of_a_stack_and_its_input_where_the_directions_are_mixed():
    """Each half where its direction ends if nothing mixes them; else the input of the last real step."""
    square = jrnn.Bidirectional(jrnn.Recurrent(jrnn.GRU(3, 2)), jrnn.Recurrent(jrnn.Elman(3, 1), reverse=True))
    for tail, ends in (((jrnn.Dropout(0.5),), (-1, -1, 0)), ((jrnn.Dense(3, 3),), (-1, -1, -1))):
        layer = jrnn.Residual(jrnn.Layered((square, *tail)))
        params, xs = random_params(layer), random_inputs(square, TIME)
        inner = layer.layer.last(params, xs)[1]
        same(layer.last(params, xs)[1], inner + xs[jnp.array(ends), jnp.arange(3)])


def test_what_is_pointwise():
    own = [jrnn.Dense(3, 3), jrnn.LayerNorm(3), jrnn.Dropout(0.1), jrnn.Embedding(3, 3), jrnn.OneHot(3), Gain(3)]
    for layer in own:
        assert is_pointwise(layer), layer
        assert is_pointwise(jrnn.Layered((layer, jrnn.Dropout(0.1))))
    for layer in (BOTH, jrnn.Recurrent(jrnn.GRU(3, 3)), jrnn.Recurrent(jrnn.GRU(3, 3), reverse=True), Centred()):
        assert not is_pointwise(layer), layer
        assert not is_pointwise(jrnn.Layered((layer, jrnn.Dropout(0.1))))
    assert is_pointwise(jrnn.Residual(Gain(3)))
    assert not is_pointwise(jrnn.Residual(jrnn.Recurrent(jrnn.GRU(3, 3))))


# Layers of a user's own


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Seen(jrnn.Layer):
    """Passes on what it is given and shows, in its outputs, the mask and the resets it was told of; it overrides `apply`."""

    input_size = 2
    output_size = 2

    def init(self, key):
        return ()

    def initial_state(self, params, batch=(), key=None):
        return jnp.zeros(batch)

    def apply(self, params, xs, state=None, *, lengths=None, mask=None, reset=None, key=None):
        assert lengths is None
        told = [jnp.zeros(xs.shape[:-1], bool) if a is None else a for a in (mask, reset)]
        return jnp.zeros(xs.shape[1:-1]), jnp.stack(told, -1).astype(xs.dtype)

    def step(self, params, state, x, *, key=None):
        return state, x


@pytest.mark.parametrize("around", ["stack", "both", "residual", "batch-first"])
def test_a_layer_that_overrides_apply_works_inside_others(around):
    xs = normal(0, TIME, ROWS, 2)
    mask = jnp.arange(TIME)[:, None] < jnp.broadcast_to(LENGTHS, (TIME, ROWS))
    reset = jnp.zeros((TIME, ROWS), bool).at[1].set(True)
    told = jnp.stack([mask, reset], -1).astype(xs.dtype)
    marks = {"lengths": LENGTHS, "reset": reset}
    if around == "both":
        ys = jrnn.Bidirectional(Seen(), Seen()).apply(jrnn.Directions((), ()), xs, **marks)[1]
        same(ys, jnp.concatenate([told, told], -1))
    elif around == "residual":
        ys = jrnn.Residual(Seen()).apply((), xs, **marks)[1]
        same(ys, told + jnp.where(mask[..., None], xs, 0))
    elif around == "batch-first":
        layer = jrnn.BatchFirst(jrnn.Layered((Seen(),)))
        ys = layer.apply(((),), jnp.swapaxes(xs, 0, 1), lengths=LENGTHS, reset=reset.T)[1]
        same(ys, jnp.swapaxes(told, 0, 1))
    else:
        stack = jrnn.Layered((jrnn.Dropout(0.5), Seen()))
        same(stack.apply(((),), xs, **marks)[1], told)
        last = jnp.stack([told[max(int(n) - 1, 0), row] * int(n > 0) for row, n in enumerate(LENGTHS)])
        same(stack.last(((),), xs, **marks)[1], last)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Wrapped(jrnn.Layer):
    """A layer inside one that overrides `apply` and `last`."""

    layer: jrnn.Layer

    @property
    def input_size(self):
        return self.layer.input_size

    @property
    def output_size(self):
        return self.layer.output_size

    def init(self, key):
        return self.layer.init(key)

    def initial_state(self, params, batch=(), key=None):
        return self.layer.initial_state(params, batch, key)

    def apply(self, params, xs, state=None, **options):
        return self.layer.apply(params, xs, state, **options)

    def last(self, params, xs, state=None, **options):
        return self.layer.last(params, xs, state, **options)

    def step(self, params, state, x, *, key=None):
        return self.layer.step(params, state, x, key=key)


def test_a_layer_that_overrides_last_ends_where_it_says():
    stack = jrnn.Layered((Wrapped(BOTH), jrnn.Dense(6, 3)))
    params, xs = random_params(stack), random_inputs(BOTH, TIME, ROWS)
    plain = jrnn.Layered((BOTH, jrnn.Dense(6, 3)))
    same(stack.last(params, xs, lengths=LENGTHS), plain.last(params, xs, lengths=LENGTHS))


def test_a_layer_with_neither_run_nor_apply_is_named():
    @jax.tree_util.register_static
    @dataclasses.dataclass(frozen=True)
    class Nothing(jrnn.Layer):
        input_size = output_size = None

        def init(self, key):
            return ()

        def initial_state(self, params, batch=(), key=None):
            return ()

        def step(self, params, state, x, *, key=None):
            return (), x

    with pytest.raises(NotImplementedError, match="Nothing has neither run nor apply"):
        Nothing().apply((), jnp.ones((2, 3)))
