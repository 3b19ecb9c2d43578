"""An online learner as a layer: rows, resets and padding, devices, checkpoints, dtypes, Flax, mistakes."""

import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import HIDDEN, INPUT, cast, key, normal, random_inputs, random_params, run, step
from online import ROWS, STACK, TIME, distance, online

import jrnn
from jrnn.arrays import is_key
from jrnn.checkpoint import Checkpoints
from jrnn.flax import linen
from jrnn.losses import Mean
from jrnn.online import RTRL, UORO, EProp, Online, SnAp, Truncated, feedback_product, pattern
from jrnn.train import init_state, make_step

LEARNERS = {
    "rtrl": Online(STACK, RTRL()),
    "snap": online(jrnn.LSTM(INPUT, HIDDEN), SnAp()),
    "eprop": online(jrnn.CTRNN(INPUT, HIDDEN, tau=3.0, noise=0.2), EProp()),
    "eprop-local": online(jrnn.GRU(INPUT, HIDDEN), EProp(), local=True),
    "uoro": online(jrnn.GRU(INPUT, HIDDEN), UORO()),
    "truncated": online(jrnn.GRU(INPUT, HIDDEN), Truncated(2)),
}


def gradient(layer, params, state, xs, **segments):
    """Of one window, and the state after it."""

    def loss(params):
        new, ys = layer.apply(params, xs, state, **segments)
        return jnp.sum(ys**2 + ys), new

    return jax.grad(loss, has_aux=True)(params)


compiled = jax.jit(gradient, static_argnums=0)


@functools.partial(jax.jit, static_argnums=0)
def state_after(layer, params, xs, key):
    return layer.apply(params, xs, layer.initial_state(params, xs.shape[1:-1], key))[0]


def window(layer, *batch, steps=2):
    """Parameters, a state that has run some steps, and the inputs of the next ones."""
    params, xs = random_params(layer), random_inputs(layer, 4 + steps, *batch)
    return params, state_after(layer, params, xs[:4], key(5)), xs[4:]


def close(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if is_key(x):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        assert x.dtype == y.dtype
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer", LEARNERS.values(), ids=LEARNERS)
def test_rows_are_alone(layer):
    """Each row's gradient and trace are those of the row by itself, whatever the batch axes; `step` is a window of one."""
    params, state, xs = window(layer, 2, 2)
    found, new = compiled(layer, params, state, xs)
    rows = jax.jit(jax.vmap(jax.vmap(functools.partial(gradient, layer, params))))(state, jnp.moveaxis(xs, 0, 2))
    close(new, rows[1])
    close(found, jax.tree.map(lambda a: a.sum((0, 1)), rows[0]))
    one, y = step(layer, params, state, xs[0])
    again, ys = run(layer, params, xs[:1], state)
    close((one, y), (again, ys[0]))


@pytest.mark.parametrize("layer", LEARNERS.values(), ids=LEARNERS)
def test_what_lies_behind_a_reset_has_no_influence(layer):
    """A reset makes a row's state, trace and gradient those of a fresh start; a padded step leaves all as they are, NaN or not."""
    params, state, xs = window(layer, 3)
    reset = jnp.zeros((2, 3), bool).at[0, 1].set(True)
    mask = jnp.ones((2, 3), bool).at[:, 2].set(False)
    holes = xs.at[:, 2].set(jnp.nan)
    found, new = compiled(layer, params, state, holes, reset=reset, mask=mask)
    first, third = (jax.tree.map(lambda a, i=i: a[i], state) for i in (0, 2))
    fresh = layer.initial_state(params, (3,), key(5))
    fresh = jax.tree.map(lambda a, b: b[1] if is_key(b) else a[1], fresh, state)  # keys of noise run on
    alone = [compiled(layer, params, s, xs[:, i]) for i, s in enumerate((first, fresh))]
    close(found, jax.tree.map(jnp.add, alone[0][0], alone[1][0]))
    for i, want in enumerate((alone[0][1], alone[1][1], third)):
        close(jax.tree.map(lambda a, i=i: a[i], new.state), want.state)
    if not isinstance(layer.method, (Truncated, UORO)):
        close(
            jax.tree.map(lambda a: a[1:], new.trace),
            jax.tree.map(lambda *a: jnp.stack(a), alone[1][1].trace, third.trace),
        )


def test_two_devices_make_one_step():
    """`make_step` divides rows, states and traces."""
    optimizer = optax.sgd(1e-2)
    for layer in (LEARNERS["rtrl"], LEARNERS["snap"], LEARNERS["uoro"]):
        params, state, xs = window(layer, 4, steps=1)

        def loss(params, carry, batch, key, layer=layer):
            carry, ys = layer.apply(params, batch, carry)
            return Mean(jnp.sum(ys**2), jnp.float32(batch.shape[1])), carry

        both = []
        for devices in (jax.devices()[:1], jax.devices()[:2]):
            mesh = jax.sharding.Mesh(np.array(devices), ("rows",))
            trained = init_state(params, optimizer, key(0), state)
            train = make_step(loss, optimizer, mesh=mesh)
            for x in xs:
                trained, _ = train(trained, x[None])
            both.append((trained.params, trained.carry))
        close(*both)


@pytest.mark.parametrize("name", ["snap", "uoro"])
def test_a_run_goes_on_bit_for_bit(name, tmp_path):
    layer = LEARNERS[name]
    params, state, xs = window(layer, 3)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(0, state, {})
    restored = checkpoints.restore(layer.initial_state(params, (3,), key(9))).state
    checkpoints.close()
    same = [jax.tree.leaves(compiled(layer, params, s, xs)) for s in (state, restored)]
    for a, b in zip(*same, strict=True):
        assert np.array_equal(*((jax.random.key_data(k) if is_key(k) else k) for k in (a, b)))
    assert pickle.loads(pickle.dumps(layer)) == layer
    assert hash(pickle.loads(pickle.dumps(layer))) == hash(layer)


def test_forward_mode_is_reverse_mode():
    layer = LEARNERS["snap"]
    params, state, xs = window(layer, 2)
    found, _ = compiled(layer, params, state, xs)
    along = random_params(layer, seed=7)

    def loss(params):
        ys = layer.apply(params, xs, state)[1]
        return jnp.sum(ys**2 + ys)

    slope = jax.jvp(loss, (params,), (along,))[1]
    want = sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(along), strict=True))
    np.testing.assert_allclose(slope, want, rtol=1e-5)


def test_parameters_have_their_own_traces_under_vmap():
    layer = LEARNERS["rtrl"]
    _, state, xs = window(layer, 2)
    several = jax.tree.map(lambda *a: jnp.stack(a), *(random_params(layer, seed) for seed in (1, 2)))
    found, _ = jax.jit(jax.vmap(functools.partial(gradient, layer), in_axes=(0, None, None)))(several, state, xs)
    for i in range(2):
        one, _ = compiled(layer, jax.tree.map(lambda a, i=i: a[i], several), state, xs)
        close(jax.tree.map(lambda a, i=i: a[i], found), one)


def test_half_precision_keeps_traces_in_float32():
    for name in ("rtrl", "snap", "uoro", "truncated"):
        layer = LEARNERS[name]
        params, _, xs = window(layer, 2)
        half, xs = cast((params, xs), jnp.bfloat16)
        state = state_after(layer, half, xs, key(1))
        found, new = compiled(layer, half, state, xs)
        assert {a.dtype for a in jax.tree.leaves((found, new.state))} == {jnp.dtype(jnp.bfloat16)}
        if name != "truncated":
            assert {a.dtype for a in jax.tree.leaves(new.trace) if not is_key(a)} == {jnp.dtype(jnp.float32)}
        full = cast(half, jnp.float32)
        state = state_after(layer, full, cast(xs, jnp.float32), key(1))
        want, _ = compiled(layer, full, state, cast(xs, jnp.float32))
        assert distance(cast(found, jnp.float32), want) < 0.05


def test_feedback_takes_another_way_back():
    x, w, b = normal(1, 4, 3), normal(2, 3, 2), normal(3, 3, 2)
    y, back = jax.vjp(feedback_product, x, w, b)
    np.testing.assert_allclose(y, x @ w, rtol=1e-6)
    dx, dw, db = back(jnp.ones_like(y))
    np.testing.assert_allclose(dx, jnp.ones_like(y) @ b.T, rtol=1e-6)
    np.testing.assert_allclose(dw, x.T @ jnp.ones_like(y), rtol=1e-6)
    assert not db.any()


def test_flax_carries_a_trace():
    """Window by window through a Flax module is the sequence through one."""
    cell = jrnn.GRU(INPUT, HIDDEN)
    whole, each = (
        linen.RNN(layer, time_major=True, return_carry=True)
        for layer in (jrnn.Recurrent(cell), Online(jrnn.Recurrent(cell), RTRL()))
    )
    xs = random_inputs(cell, TIME, ROWS)
    variables = each.init(key(0), xs)

    def loss(variables, module, xs, carry):
        carry, ys = module.apply(variables, xs, initial_carry=carry)
        return jnp.sum(ys**2), carry

    gradient = jax.jit(jax.grad(loss, has_aux=True), static_argnums=1)
    want, _ = gradient(variables, whole, xs, None)
    found, carry = gradient(variables, each, xs[:2], None)
    for start in (2, 4):
        more, carry = gradient(variables, each, xs[start : start + 2], carry)
        found = jax.tree.map(jnp.add, found, more)
    close(found, want)


def test_errors_name_what_was_given():
    cell = jrnn.GRU(INPUT, HIDDEN)
    params, xs = random_params(cell), jnp.ones((2, 3, INPUT))
    with pytest.raises(TypeError, match=r"layer is GRU.*Recurrent\(cell\)"):
        Online(cell, RTRL())
    with pytest.raises(TypeError, match="method is 'rtrl'"):
        Online(jrnn.Recurrent(cell), "rtrl")
    with pytest.raises(TypeError, match=r"local is True for Layered.*Recurrent\(cell\)"):
        Online(STACK, RTRL(), local=True)
    with pytest.raises(ValueError, match="steps is 0"):
        Truncated(0)
    with pytest.raises(ValueError, match=r"key is None; UORO"):
        online(cell, UORO()).apply(params, xs)
    with pytest.raises(TypeError, match="state is a GRUState; expected an OnlineState"):
        online(cell, RTRL()).apply(params, xs, cell.initial_state(params, (3,)))
    with pytest.raises(TypeError, match="expected one that runs step by step"):
        Online(jrnn.Recurrent(cell, reverse=True), RTRL()).apply(params, xs)
    with pytest.raises(TypeError, match=r"SnAp.*one cell.*for each layer of a stack"):
        Online(STACK, SnAp()).apply(random_params(STACK), xs)
    dropped = jrnn.rnn(jrnn.GRU, input_size=INPUT, hidden_size=HIDDEN, num_layers=2, dropout=0.3)
    with pytest.raises(TypeError, match="place Dropout before or after Online"):
        Online(dropped, RTRL()).apply(random_params(dropped), xs, key=key(0))
    with pytest.raises(TypeError, match=r"pattern is 3; expected jrnn.online.pattern"):
        SnAp(3)
    with pytest.raises(TypeError, match="takes tokens"):
        pattern(jrnn.Layered((jrnn.Embedding(5, 2),)), random_params(jrnn.Layered((jrnn.Embedding(5, 2),))), 2)
