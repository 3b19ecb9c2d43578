"""What a cell may be: a default engine takes every cell that a plain loop takes, with the same derivatives."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import cast, floats, normal, same
from jax import lax
from jax.experimental import checkify
from laws import weighted

import jrnn
from jrnn import Autodiff, Checkpointed, LinearSolve, Scan

TIME, ROWS, INPUT, HIDDEN = 5, 3, 3, 4

WAYS = {
    "default": LinearSolve(),
    "states-in-tiles": LinearSolve(tile=2, save="states"),
    "gates-in-tiles": LinearSolve(tile=2, save="gates"),
    "checkpointed": Checkpointed(every=2),
}


def cell(kind: type) -> type:
    return jax.tree_util.register_static(dataclasses.dataclass(frozen=True)(kind))


class Weights(NamedTuple):
    w_x: Any
    w_h: Any


class Hidden(NamedTuple):
    h: Any


@cell
class Simple(jrnn.Cell):
    """h_t = f(x_t W_x + h_{t-1} W_h): the cells below change one piece of it."""

    input_size: int = INPUT
    output_size: int = HIDDEN

    def init(self, key):
        return Weights(normal(1, INPUT, HIDDEN), normal(2, HIDDEN, HIDDEN))

    def initial_state(self, params, batch=(), key=None):
        return Hidden(jnp.zeros((*batch, HIDDEN), params.w_h.dtype))

    def project(self, params, x):
        return x @ params.w_x

    def recur(self, params, state):
        return state.h @ params.w_h

    def update(self, params, state, z, r):
        return state._replace(h=self.squash(z + r))

    def readout(self, params, state, x):
        return state.h

    def squash(self, v):
        return jnp.tanh(v)


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


def by_hand(model, params, xs, state=None):
    """A Python loop over `step`."""
    state = model.initial_state(params, xs.shape[1:-1]) if state is None else state
    ys = []
    for x in xs:
        state, y = model.step(params, state, x)
        ys.append(jax.tree.map(lambda a: jnp.broadcast_to(a, (*xs.shape[1:-1], *a.shape[a.ndim - 1 :])), y))
    return state, jax.tree.map(lambda *a: jnp.stack(a), *ys)


def differentiated(run, params, xs):
    def loss(params, xs):
        final, ys = run(params, xs)
        return weighted(
            jax.tree.leaves((final, ys))
            and [a for a in jax.tree.leaves((final, ys)) if jnp.issubdtype(a.dtype, jnp.inexact)]
        )

    return jax.jit(jax.value_and_grad(loss, (0, 1)))(params, xs)


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


# Complex states


class RotorParams(NamedTuple):
    nu: Any
    theta: Any
    w_x: Any


@cell
class Rotor(jrnn.Cell):
    """h_t = exp(-exp(nu) + i theta) h_{t-1} + x_t W, y = Re h: real parameters, a complex state (Orvieto et al. 2023)."""

    input_size: int = INPUT
    output_size: int = HIDDEN

    def init(self, key):
        return RotorParams(normal(1, HIDDEN), normal(2, HIDDEN), normal(3, INPUT, HIDDEN))

    def initial_state(self, params, batch=(), key=None):
        dtype = jnp.complex64 if params.nu.dtype == jnp.float32 else jnp.complex128
        return Hidden(jnp.zeros((*batch, HIDDEN), dtype))

    def project(self, params, x):
        return lax.complex(x @ params.w_x, jnp.zeros_like(x @ params.w_x))

    def recur(self, params, state):
        turn = jnp.exp(lax.complex(-jnp.exp(params.nu), params.theta))
        return state.h * jnp.broadcast_to(turn, state.h.shape)

    def update(self, params, state, z, r):
        return Hidden(z + r)

    def readout(self, params, state, x):
        return state.h.real


@cell
class Unitary(Rotor):
    """A complex matrix that is unitary, exp(i A) with A = A', and a modulus-rectified state: products of complex matrices."""

    def init(self, key):
        return RotorParams(normal(1, HIDDEN), normal(2, HIDDEN, HIDDEN), normal(3, INPUT, HIDDEN))

    def recur(self, params, state):
        a = params.theta + params.theta.T
        return state.h @ jax.scipy.linalg.expm(lax.complex(jnp.zeros_like(a), a))

    def update(self, params, state, z, r):
        h = z + r
        size = jnp.sqrt(h.real**2 + h.imag**2 + 0.1)
        scale = jnp.maximum(size + jnp.broadcast_to(params.nu, size.shape), 0) / size
        return Hidden(h * lax.complex(scale, jnp.zeros_like(scale)))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("model", [Rotor(), Unitary()], ids=repr)
def test_complex_states(model, way):
    with jax.enable_x64(True):
        params, xs = cast((model.init(None), normal(4, TIME, ROWS, INPUT)), jnp.float64)
        start = cast((normal(5, ROWS, HIDDEN), normal(6, ROWS, HIDDEN)), jnp.float64)
        marks = {"lengths": jnp.array([5, 2, 0]), "reset": jnp.zeros((TIME, ROWS), bool).at[3, 0].set(True)}

        def loss(leaves, gradient):
            params, xs, (re, im) = leaves
            final, ys = jrnn.unroll(
                model, params, xs, Hidden(lax.complex(re, im)), engine=Scan(gradient=gradient), **marks
            )
            return weighted((final.h.real, final.h.imag, ys))

        given = params, xs, start
        gradient = jax.jit(jax.grad(loss), static_argnums=1)
        slopes = gradient(given, Autodiff())
        assert all(jnp.any(a != 0) for a in jax.tree.leaves(slopes))
        same(gradient(given, WAYS[way]), slopes, 1e-12)

        @functools.partial(jax.jit, static_argnums=0)
        def directional(way, given):
            return jax.jvp(lambda g: jax.grad(loss)(g, way), (given,), (given,))

        if way in ("default", "states-in-tiles"):
            same(directional(WAYS[way], given), directional(Autodiff(), given), 1e-11)


def test_complex64_states_in_float32():
    model = Rotor()
    params, xs = model.init(None), normal(4, TIME, ROWS, INPUT)

    def slope(way):
        return jax.grad(lambda p: jnp.sum(jrnn.unroll(model, p, xs, engine=Scan(gradient=way))[1] ** 2))(params)

    for way in WAYS.values():
        same(slope(way), slope(Autodiff()))


# Pieces without rows, rows of several axes


@cell
class Summing(Simple):
    """Asks for sums in float32 itself: products of 16-bit floats whose result is float32."""

    def project(self, params, x):
        return jnp.matmul(x, params.w_x, preferred_element_type=jnp.float32)

    def recur(self, params, state):
        return jnp.matmul(state.h, params.w_h, preferred_element_type=jnp.float32)


def test_products_of_16_bit_floats_that_are_float32():
    model = Summing()
    params, xs = jax.tree.map(lambda a: a.astype(jnp.bfloat16), (model.init(None), normal(3, TIME, ROWS, INPUT)))

    def gradient(engine):
        return jax.grad(lambda *a: jnp.sum(jrnn.unroll(model, *a, engine=engine)[1].astype(jnp.float32)), (0, 1))(
            params, xs
        )

    found, want = gradient(Scan()), gradient(Scan(gradient=Autodiff()))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(want), strict=True):
        a, b = a.astype(jnp.float32), b.astype(jnp.float32)
        np.testing.assert_allclose(a, b, atol=0.02 * max(1, float(jnp.abs(b).max())))


def test_a_counter_without_rows_is_refused_where_rows_differ():
    model = CELLS["counting"]
    params, xs = model.init(None), normal(3, TIME, ROWS, INPUT)
    for marks in ({"lengths": jnp.array([1, 2, 3])}, {"reset": jnp.zeros((TIME, ROWS), bool)}):
        with pytest.raises(ValueError, match=r"state\.count of Counting.* is int32\[\], without the batch axes \[3\]"):
            jrnn.unroll(model, params, xs, **marks)
    same(jrnn.unroll(model, params, xs[:, 0], lengths=jnp.array(TIME)), by_hand(model, params, xs[:, 0]))


@pytest.mark.parametrize("gradient", [LinearSolve(), Autodiff()], ids=repr)
def test_a_state_of_another_shape_is_refused_by_name(gradient):
    @cell
    class Growing(Simple):
        def update(self, params, state, z, r):
            return Hidden(jnp.concatenate([z, r], -1))

    model = Growing()
    with pytest.raises(
        ValueError, match=r"update of .*Growing.* returns float32\[3, 8\] for state\.h; expected float32\[3, 4\]"
    ):
        jrnn.unroll(model, model.init(None), normal(3, TIME, ROWS, INPUT), engine=Scan(gradient=gradient))

    @cell
    class Renamed(Simple):
        def update(self, params, state, z, r):
            return (z,)

    with pytest.raises(TypeError, match=r"update of .*Renamed.* returns a state of structure"):
        jrnn.unroll(Renamed(), model.init(None), normal(3, TIME, ROWS, INPUT), engine=Scan(gradient=gradient))


def test_rows_and_units_of_the_same_number_are_not_mixed_up():
    """A decay of four units, for four steps and four rows."""
    model = CELLS["leaking"]
    params = model.init(None)
    for shape in ((4, INPUT), (4, 4, INPUT), (2, 4, 4, INPUT), (4, 4, 4, INPUT)):
        xs = normal(3, *shape)
        same(jrnn.unroll(model, params, xs), by_hand(model, params, xs))


class Kernels(NamedTuple):
    w_x: Any  # [3, 3, channels, hidden]
    w_h: Any  # [3, 3, hidden, hidden]


@cell
class Convolutional(jrnn.Cell):
    """Elman with convolutions in place of products: inputs [*batch, height, width, channels]."""

    input_size: tuple[int, ...] = (6, 5, 2)
    output_size: tuple[int, ...] = (6, 5, 4)

    def init(self, key):
        return Kernels(normal(1, 3, 3, 2, 4, scale=0.3), normal(2, 3, 3, 4, 4, scale=0.3))

    def initial_state(self, params, batch=(), key=None):
        return Hidden(jnp.zeros((*batch, *self.output_size), params.w_h.dtype))

    def project(self, params, x):
        return self.convolve(x, params.w_x)

    def recur(self, params, state):
        return self.convolve(state.h, params.w_h)

    def update(self, params, state, z, r):
        return Hidden(jnp.tanh(z + r))

    def readout(self, params, state, x):
        return state.h

    def convolve(self, x, w):
        assert x.ndim < 6, "time and batch are no axes of a picture"
        rows = x.reshape(-1, *x.shape[-3:])
        made = lax.conv_general_dilated(rows, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return made.reshape(*x.shape[:-1], w.shape[-1])


@pytest.mark.parametrize("way", WAYS)
def test_feature_axes_of_a_picture(way):
    model = Convolutional()
    params = model.init(None)
    marks = {"lengths": jnp.array([4, 2]), "reset": jnp.zeros((4, 2), bool).at[1, 0].set(True)}

    def loss(params, xs, way):
        return weighted(jrnn.unroll(model, params, xs, engine=Scan(gradient=way), **marks))

    xs = normal(3, 4, 2, 6, 5, 2)
    gradient = jax.jit(jax.grad(loss, (0, 1)), static_argnums=2)
    same(gradient(params, xs, WAYS[way]), gradient(params, xs, Autodiff()), 1e-4)
    state, y = model.initial_state(params, (2,)), None
    for x in xs:
        state, y = model.step(params, state, x)
    same(jrnn.unroll(model, params, xs)[1][-1], y)
    with pytest.raises(ValueError, match=r"xs has \[6, 5, 3\] features .*expects \[6, 5, 2\] in the last 3 axes"):
        jrnn.unroll(model, params, jnp.ones((4, 2, 6, 5, 3)))


# A context: what a row sees at every step


class Context(NamedTuple):
    memory: Any  # [*batch, positions, hidden]
    there: Any  # bool [*batch, positions]


@cell
class Attending(Simple):
    """The state before a step looks at a memory, which is added to what the past says."""

    takes_context = True

    def initial_state(self, params, batch=(), key=None):
        return Hidden(jnp.zeros((*batch, HIDDEN), params.params.w_h.dtype))

    def project(self, params, x):
        return x @ params.params.w_x

    def recur(self, params, state):
        (weights, (memory, there)) = params
        scores = jnp.einsum("...h,...sh->...s", state.h @ weights.w_h, memory)
        shares = jax.nn.softmax(jnp.where(there, scores, -1e9), -1)
        return jnp.einsum("...s,...sh->...h", shares, memory)


def attended(rows=ROWS, positions=6):
    lengths = jnp.arange(rows) % positions + 1
    there = jnp.arange(positions)[None] < lengths[:, None]
    return Context(normal(7, rows, positions, HIDDEN), there)


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


# Keys in a state


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
