"""What a cell may be: a default engine takes every cell that a plain loop takes, with the same derivatives."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import floats, normal, same
from jax import lax
from jax.experimental import checkify
from laws import weighted
from own_cells import HIDDEN, INPUT, ROWS, TIME, WAYS, Hidden, Simple, by_hand, cell, differentiated

import jrnn
from jrnn import Autodiff, Checkpointed, LinearSolve, Scan


@jax.custom_vjp
def spike(v):
    return (v > 0).astype(v.dtype)


spike.defvjp(lambda v: (spike(v), v), lambda v, g: (g / (1 + jnp.abs(v)) ** 2,))


@jax.custom_jvp
def straight_through(v):
    return jnp.round(v)


straight_through.defjvp(lambda primals, tangents: (straight_through(primals[0]), tangents[0]))


@cell
class Spiking(Simple):
    def squash(self, v):
        return spike(v)


@cell
class SpikingInput(Simple):
    def project(self, params, x):
        return spike(x) @ params.w_x


@cell
class Rounded(Simple):
    def squash(self, v):
        return straight_through(jnp.tanh(v))


@cell
class Branching(Simple):
    def update(self, params, state, z, r):
        v = z + r
        return Hidden(lax.cond(jnp.sum(state.h) > 0, jnp.tanh, jnp.sin, v))


@cell
class Switching(Simple):
    def recur(self, params, state):
        branches = [jnp.tanh, jnp.sin, lambda h: 0.5 * h]
        return lax.switch(jnp.sum(state.h > 0).astype(int) % 3, branches, state.h) @ params.w_h


@cell
class Iterating(Simple):
    """A fixed number of Euler steps inside a step."""

    def update(self, params, state, z, r):
        def euler(_, h):
            return h + 0.2 * (jnp.tanh(z + h @ params.w_h) - h)

        return Hidden(lax.fori_loop(0, 3, euler, state.h))


@cell
class Remembered(Simple):
    def update(self, params, state, z, r):
        return Hidden(jax.checkpoint(lambda z, r: jnp.tanh(jnp.sin(z) + r))(z, r))


@cell
class Solving(Simple):
    """An implicit step: h_t solves (I + W W' / 10) h = z + r."""

    def update(self, params, state, z, r):
        m = jnp.eye(HIDDEN, dtype=z.dtype) + 0.1 * params.w_h @ params.w_h.T
        rows = (z + r).reshape(-1, HIDDEN)
        return Hidden(jnp.tanh(jnp.linalg.solve(m, rows.T).T.reshape(z.shape)))


@cell
class Printing(Simple):
    def update(self, params, state, z, r):
        jax.debug.callback(lambda v: None, z[..., 0])
        return Hidden(jnp.tanh(z + r))


class Counted(NamedTuple):
    h: Any
    count: Any


@cell
class Counting(Simple):
    """A counter without batch axes, which a step reads."""

    def initial_state(self, params, batch=(), key=None):
        return Counted(jnp.zeros((*batch, HIDDEN), params.w_h.dtype), jnp.zeros((), jnp.int32))

    def update(self, params, state, z, r):
        slower = 0.9 ** state.count.astype(z.dtype)
        return Counted(slower * jnp.tanh(z + r), state.count + 1)


@cell
class Leaking(Simple):
    """`project` takes a decay from the parameters alone: it has no batch axes."""

    def project(self, params, x):
        return x @ params.w_x, jax.nn.sigmoid(params.w_h[0])

    def update(self, params, state, z, r):
        decay = jnp.broadcast_to(z[1], state.h.shape)
        return Hidden(decay * state.h + (1 - decay) * jnp.tanh(z[0] + r))


@cell
class Forgetful(Simple):
    """A new state without batch axes: it depends on the parameters alone."""

    def update(self, params, state, z, r):
        return Hidden(params.w_h[1])

    def recur(self, params, state):
        return ()


@cell
class Indexed(Simple):
    """`project` makes integers beside floats."""

    def project(self, params, x):
        return x @ params.w_x, jnp.argmax(x, -1)

    def update(self, params, state, z, r):
        return Hidden(jnp.tanh(z[0] + r) * jax.nn.one_hot(z[1], HIDDEN, dtype=r.dtype))


@cell
class Everything(Simple):
    """Reads its whole state out, and the step's input."""

    def readout(self, params, state, x):
        return {"state": state, "moved": 2 * state.h, "x": x}


@cell
class Constant(Simple):
    """A readout that depends on no row."""

    def readout(self, params, state, x):
        return params.w_h[0]


CELLS = {kind.__name__.lower(): kind() for kind in (
    Simple, Spiking, SpikingInput, Rounded, Branching, Switching, Iterating, Remembered, Solving, Printing, Counting, Leaking,
    Forgetful, Indexed, Everything, Constant,
)}  # fmt: skip
WITHOUT_ROWS = ("counting",)


@pytest.mark.parametrize(
    ("name", "way"),
    [(name, "default") for name in CELLS] + [(name, way) for name in ("spiking", "leaking", "indexed") for way in WAYS],
)
def test_a_cell_of_any_kind_has_the_derivatives_of_a_loop(name, way):
    model = CELLS[name]
    params, xs = model.init(None), normal(3, TIME, ROWS, INPUT)
    engine = Scan(gradient=WAYS[way])
    unroll = jax.jit(functools.partial(jrnn.unroll, model, engine=engine))
    same(unroll(params, xs), jax.jit(functools.partial(by_hand, model))(params, xs))
    got = differentiated(functools.partial(jrnn.unroll, model, engine=engine), params, xs)
    same(got, differentiated(functools.partial(by_hand, model), params, xs))


@pytest.mark.parametrize(
    ("name", "reverse"), [(name, index % 2 == 1) for index, name in enumerate(CELLS) if name not in WITHOUT_ROWS]
)
def test_a_cell_of_any_kind_takes_lengths_and_resets(name, reverse):
    model = CELLS[name]
    params, xs = model.init(None), normal(3, TIME, ROWS, INPUT)
    marks = {"lengths": jnp.array([5, 3, 0]), "reset": jnp.zeros((TIME, ROWS), bool).at[2, 0].set(True)}
    got, want = (
        differentiated(
            functools.partial(jrnn.unroll, model, engine=Scan(gradient=way), reverse=reverse, **marks), params, xs
        )
        for way in (LinearSolve(), Autodiff())
    )
    same(got, want)


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_of_any_kind_under_jit_vmap_and_forward_mode(name):
    model = CELLS[name]
    params, xs = model.init(None), normal(3, TIME, ROWS, INPUT)

    def run(gradient):
        def f(xs):
            return floats(jrnn.unroll(model, params, xs, engine=Scan(gradient=gradient))[1])[0]

        mapped = jax.jit(jax.vmap(f, 1, 1))(xs)
        return mapped if "spiking" in name else (mapped, jax.jit(lambda xs: jax.jvp(f, (xs,), (xs,)))(xs))

    same(run(LinearSolve()), run(Autodiff()))


def test_a_loop_of_unknown_length_in_forward_mode():
    """JAX has no other derivative of it."""

    def act(v):
        return lax.while_loop(lambda c: jnp.sum(c[1]) > 1, lambda c: (c[0] + 1, 0.9 * jnp.sin(c[1])), (0, v))[1]

    model = jrnn.Elman(INPUT, HIDDEN, activation=act)
    params, xs = model.init(jax.random.key(0)), normal(3, TIME, ROWS, INPUT)
    slopes = [
        jax.jvp(lambda p, way=way: jrnn.unroll(model, p, xs, engine=Scan(gradient=way))[1], (params,), (params,))
        for way in (LinearSolve(), Checkpointed(every=2), Autodiff())
    ]
    same(slopes[0], slopes[2])
    same(slopes[1], slopes[2])


def test_checks_inside_a_cell_reach_their_reader():
    @cell
    class Checked(Simple):
        def update(self, params, state, z, r):
            checkify.check(jnp.all(z < 100), "z is too large")
            return Hidden(jnp.tanh(z + r))

    model = Checked()
    params = model.init(None)
    run = checkify.checkify(lambda xs: jrnn.unroll(model, params, xs)[1])
    assert run(jnp.ones((TIME, ROWS, INPUT)))[0].get() is None
    assert "z is too large" in run(jnp.full((TIME, ROWS, INPUT), 1e4).at[:2].set(0))[0].get()
    slope = checkify.checkify(jax.grad(lambda xs: jnp.sum(jrnn.unroll(model, params, xs)[1])))
    want = jax.grad(lambda xs: jnp.sum(jrnn.unroll(Simple(), params, xs)[1]))
    xs = normal(3, TIME, ROWS, INPUT)
    same(slope(xs)[1], want(xs))


@pytest.mark.parametrize("way", WAYS)
def test_gradients_reach_what_a_cell_closes_over(way):
    params, xs = jrnn.Elman(INPUT, HIDDEN).init(jax.random.key(0)), normal(3, TIME, ROWS, INPUT)

    def loss(gradient, slope):
        model = jrnn.Elman(INPUT, HIDDEN, activation=lambda v: jnp.where(v > 0, jnp.tanh(v), slope * v))
        return jnp.sum(jrnn.unroll(model, params, xs, engine=Scan(gradient=gradient))[1] ** 2)

    want = jax.grad(functools.partial(loss, Autodiff()))(0.2)
    step = 1e-2
    slope = (loss(Autodiff(), 0.2 + step) - loss(Autodiff(), 0.2 - step)) / (2 * step)
    np.testing.assert_allclose(want, slope, rtol=1e-2)
    for transform in (lambda f: f, jax.jit):
        np.testing.assert_allclose(transform(jax.grad(functools.partial(loss, WAYS[way])))(0.2), want, rtol=1e-5)
        batch = jax.vmap(transform(jax.grad(functools.partial(loss, WAYS[way]))))(jnp.array([0.2, 0.3]))
        np.testing.assert_allclose(batch[0], want, rtol=1e-5)


@pytest.mark.parametrize(
    ("implementation", "way"),
    [(implementation, LinearSolve()) for implementation in ("threefry2x32", "rbg", "unsafe_rbg")]
    + [("threefry2x32", LinearSolve(tile=2, save="states")), ("rbg", Checkpointed(every=2))],
)
def test_keys_of_any_implementation_anywhere_in_a_state(implementation, way):
    class Noisy(NamedTuple):
        keys: Any  # first in the state, in a dictionary
        h: Any

    @cell
    class Noise(Simple):
        def initial_state(self, params, batch=(), key=None):
            key = jax.random.key(0, impl=implementation) if key is None else key
            keys = jax.random.split(key, batch) if batch else key
            return Noisy({"noise": keys}, jnp.zeros((*batch, HIDDEN), params.w_h.dtype))

        def update(self, params, state, z, r):
            keys = state.keys["noise"]
            flat = keys.reshape(-1)
            drawn = jnp.stack([jax.random.normal(flat[i], (HIDDEN,), z.dtype) for i in range(flat.size)])
            nxt = jnp.stack([jax.random.split(flat[i])[0] for i in range(flat.size)]).reshape(keys.shape)
            return Noisy({"noise": nxt}, jnp.tanh(z + r + 0.1 * drawn.reshape(z.shape)))

    model = Noise()
    params, xs = model.init(None), normal(3, 4, 2, INPUT)
    marks = {"lengths": jnp.array([4, 2]), "reset": jnp.zeros((4, 2), bool).at[2, 0].set(True)}
    state = model.initial_state(params, (2,), jax.random.key(1, impl=implementation))

    def loss(params, xs, way):
        final, ys = jrnn.unroll(model, params, xs, state, engine=Scan(gradient=way), **marks)
        return weighted((final.h, ys)), jax.random.key_data(final.keys["noise"])

    gradient = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True), static_argnums=2)
    same(gradient(params, xs, way), gradient(params, xs, Autodiff()))
