"""A context, which a row sees at every step: its gradient, chunks, devices, memory, and one that does not fit."""

import jax
import jax.numpy as jnp
import pytest
from cases import normal, same
from laws import weighted
from own_cells import INPUT, ROWS, TIME, WAYS, Attending, Context, Hidden, Simple, Weights, attended, cell

import jrnn
from jrnn import Autodiff, Scan


@pytest.mark.parametrize("way", WAYS)
def test_a_context_is_seen_at_every_step_and_has_a_gradient(way):
    model, context = Attending(), attended()
    params, xs = model.init(None), normal(3, TIME, ROWS, INPUT)
    marks = {"lengths": jnp.array([5, 3, 0]), "reset": jnp.zeros((TIME, ROWS), bool).at[2, 0].set(True)}

    def loss(params, memory, xs, gradient, marks):
        bound = jrnn.Bound(params, context._replace(memory=memory))
        return weighted(jrnn.unroll(model, bound, xs, engine=Scan(gradient=gradient), **marks))

    def looped(params, memory, xs):
        bound, state, ys = jrnn.Bound(params, context._replace(memory=memory)), None, []
        state = model.initial_state(bound, (ROWS,))
        for x in xs:
            state, y = model.step(bound, state, x)
            ys.append(y)
        return weighted((state, jnp.stack(ys)))

    given = params, context.memory, xs

    def gradients(way, some):
        return jax.jit(jax.value_and_grad(lambda *a: loss(*a, way, some), (0, 1, 2)))(*given)

    same(gradients(WAYS[way], marks), gradients(Autodiff(), marks))
    same(gradients(WAYS[way], {}), jax.jit(jax.value_and_grad(looped, (0, 1, 2)))(*given))


def test_a_context_under_vmap_and_in_chunks():
    model, context = Attending(), attended()
    params, xs = model.init(None), normal(3, TIME, ROWS, INPUT)
    final, ys = jrnn.unroll(model, jrnn.Bound(params, context), xs)

    def row(context, xs):
        return jrnn.unroll(model, jrnn.Bound(params, context), xs)

    same(jax.vmap(row, (0, 1), (0, 1))(context, xs), (final, ys))
    half, first = jrnn.unroll(model, jrnn.Bound(params, context), xs[:2])
    end, second = jrnn.unroll(model, jrnn.Bound(params, context), xs[2:], half)
    same((end, jnp.concatenate([first, second])), (final, ys))


def test_a_context_divided_over_devices():
    model, context = Attending(), attended(4)
    params, xs = model.init(None), normal(3, TIME, 4, INPUT)

    def gradient(params, context, xs):
        def loss(params, memory):
            bound = jrnn.Bound(params, context._replace(memory=memory))
            return jnp.sum(jrnn.unroll(model, bound, xs)[1] ** 2)

        return jax.grad(loss, (0, 1))(params, context.memory)

    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    P = jax.sharding.PartitionSpec
    rows = P("data")
    sharded = jax.shard_map(gradient, mesh=mesh, in_specs=(P(), rows, P(None, "data")), out_specs=(P(), rows))
    same(jax.jit(sharded)(params, context, xs), gradient(params, context, xs))


def test_a_context_is_not_kept_per_step():
    """With each step the bytes of a gradient grow by less than a quarter of what is attended to."""

    @cell
    class Wide(Attending):
        output_size: int = 64

        def init(self, key):
            return Weights(normal(1, INPUT, 64), normal(2, 64, 64))

        def initial_state(self, params, batch=(), key=None):
            return Hidden(jnp.zeros((*batch, 64)))

    model = Wide()
    params = model.init(None)

    def bytes_of(time):
        def loss(params, memory, xs):
            bound = jrnn.Bound(params, Context(memory, jnp.ones(memory.shape[:2], bool)))
            return jnp.sum(jrnn.unroll(model, bound, xs)[1])

        given = params, jnp.zeros((8, 100, 64)), jnp.zeros((time, 8, INPUT))
        return jax.jit(jax.grad(loss, (0, 1, 2))).lower(*given).compile().memory_analysis().temp_size_in_bytes

    assert (bytes_of(64) - bytes_of(32)) / 32 < 8 * 100 * 64 * 4 / 4


@pytest.mark.parametrize(
    ("bound", "words"),
    [
        (lambda p: p, r"params is a Weights; Attending.* expects Bound\(params, context\)"),
        (
            lambda p: jrnn.Bound(p, attended(2)),
            r"params\.context\.memory is float32\[2, 6, 4\]; expected the batch axes \[3\]",
        ),
    ],
)
def test_a_context_that_does_not_fit(bound, words):
    model = Attending()
    params = model.init(None)
    with pytest.raises((TypeError, ValueError), match=words):
        jrnn.unroll(model, bound(params), normal(3, TIME, ROWS, INPUT))
    with pytest.raises(TypeError, match=r"params is a Bound; Simple.* expects its own parameters"):
        jrnn.unroll(Simple(), jrnn.Bound(params, attended()), normal(3, TIME, ROWS, INPUT))
