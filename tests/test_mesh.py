"""Rows and weights divided over devices, by the compiler or explicitly: the same numbers as on one device."""

import functools

import jax
import jax.numpy as jnp
import pytest
from cases import CELLS, LAYERS, apply, floats, random_inputs, random_params, random_state, same
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jrnn
from jrnn import Autodiff, Checkpointed, LinearSolve, Scan

SEVEN = ("elman-tanh", "jordan", "lstm", "lstm-projected", "gru-after", "gru-before", "ctrnn-noise")
GRADIENTS = {
    "default": LinearSolve(),
    "states-in-tiles": LinearSolve(tile=2, save="states"),
    "checkpointed": Checkpointed(every=2),
    "autodiff": Autodiff(),
}
MARKS = {
    "plain": {},
    "marks": {"lengths": jnp.array([4, 2, 0, 3]), "reset": jnp.eye(4, 4, k=-1, dtype=bool)},
}
TIME, ROWS = 4, 4
OF_LAYERS = ("bidirectional", "layered", "rnn-gru-both-ways", "residual")


def value_and_gradients(model, params, xs, state, marks, options):
    in_state, put_back = floats(state)

    def loss(params, xs, in_state):
        final, ys = apply(model, params, xs, put_back(in_state), **marks, **options)
        return sum(jnp.sum(a**2) for a in floats((final, ys))[0]), ys

    (_, ys), slopes = jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(params, xs, in_state)
    return ys, slopes


def divided(kind, params, xs, state, marks, column=False):
    """The arguments with rows (or else columns of the weights) over two devices."""
    mesh = jax.make_mesh((2,), ("data",), axis_types=(kind,))

    def put(tree, spec):
        return jax.tree.map(lambda a: jax.device_put(a, NamedSharding(mesh, spec)), tree)

    if column:
        params = jax.tree.map(
            lambda a: jax.device_put(a, NamedSharding(mesh, P(*[None] * (a.ndim - 1), "data"))), params
        )
        return mesh, (params, put(xs, P()), put(state, P()), put(marks, P()))
    placed = {name: put(a, P("data") if name == "lengths" else P(None, "data")) for name, a in marks.items()}
    return mesh, (put(params, P()), put(xs, P(None, "data")), put(state, P("data")), placed)


def given(model):
    params = random_params(model)
    return params, random_inputs(model, TIME, ROWS), random_state(model, params, (ROWS,))


@functools.cache
def on_one_device(model, mark):
    return jax.jit(lambda *a: value_and_gradients(model, *a, MARKS[mark], {}))(*given(model))


def case(name, way, mark):
    some = way == "default" or (name == "gru-before" and mark == "marks")
    options = {"engine": Scan(gradient=GRADIENTS[way])}
    return pytest.param(CELLS[name], options, mark, id=f"{name}-{way}-{mark}", marks=() if some else pytest.mark.slow)


TABLE = [case(name, way, mark) for name in SEVEN for way in GRADIENTS for mark in MARKS]
TABLE += [pytest.param(LAYERS[name], {}, "marks", id=name) for name in OF_LAYERS]


@pytest.mark.parametrize(("model", "options", "mark"), TABLE)
def test_rows_over_an_explicit_mesh(model, options, mark):
    mesh, placed = divided(AxisType.Explicit, *given(model), MARKS[mark])
    with jax.set_mesh(mesh):
        ys, slopes = jax.jit(lambda *a: value_and_gradients(model, *a, options))(*placed)
        assert jax.typeof(ys).sharding.spec[:2] == (None, "data")
    same((ys, slopes), on_one_device(model, mark))


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("name", ["lstm", "gru-before", "ctrnn-noise"])
@pytest.mark.parametrize("eager", [False, True])
def test_columns_of_weights_and_eager_calls(name, kind, eager):
    model = CELLS[name]
    for column in (False, True):
        mesh, placed = divided(kind, *given(model), {}, column=column)
        with jax.set_mesh(mesh):
            function = value_and_gradients if eager else jax.jit(value_and_gradients, static_argnums=(0, 5))
            got = function(model, *placed, jrnn_options())
        same(got, on_one_device(model, "plain"))


class jrnn_options(dict):
    """Options that can be a static argument."""

    def __hash__(self):
        return 0


def test_no_state_given_and_no_mesh_set():
    """As `jax.make_mesh` makes a mesh, with nothing but the inputs placed on it."""
    model = CELLS["gru-after"]
    params, xs, _ = given(model)
    mesh = jax.make_mesh((2,), ("data",))
    placed = jax.device_put(xs, NamedSharding(mesh, P(None, "data")))
    want = jrnn.unroll(model, params, xs)
    same(jrnn.unroll(model, params, placed), want)
    same(jax.jit(lambda xs: jrnn.unroll(model, params, xs))(placed), want)
    with jax.set_mesh(mesh):
        same(jrnn.unroll(model, params, placed), want)
        one, two = jax.vmap(lambda xs: jrnn.unroll(model, params, xs)[1], 1, 1)(xs), want[1]
        same(one, two)
