"""One step of training, on one device or two: gradients, means, the carry, optimisers, 16 bits; evaluation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from training import ADAM, MODEL, ROWS, Batches, close, loss, no_dropout, run, start

from jrnn.losses import Mean
from jrnn.train import init_state, make_evaluate, make_step

pytestmark = pytest.mark.usefixtures("standard_promotion")


def test_a_step_is_the_gradient_of_the_whole_batch():
    """Over two devices, each with half of the rows: the same update as on one, by hand."""
    optimizer = optax.sgd(0.5)
    state, batch = start(optimizer), Batches()[0]
    assert len(jax.local_devices()) == 2

    def whole(params):
        mean, carry = no_dropout(params, state.carry, batch, None)
        return mean.value, carry

    (value, carry), gradient = jax.value_and_grad(whole, has_aux=True)(state.params)
    expected = jax.tree.map(lambda p, g: p - 0.5 * g, state.params, gradient)
    norm = optax.tree.norm(gradient)
    new, info = make_step(no_dropout, optimizer)(state, batch)
    close(new.params, expected)
    close(new.carry, carry)
    close((info.loss, info.gradient_norm), (value, norm))


def test_unequal_shares_are_weighed_by_what_is_real():
    """Masked rows: the mean is over real entries of all devices, not a mean of each device's mean."""

    def masked(params, carry, batch, key):
        wide = jnp.broadcast_to(params, batch["x"].shape)
        entries = jnp.where(batch["mask"], (wide - batch["x"]) ** 2, 0.0)
        return Mean(entries.sum(), batch["mask"].sum(dtype=jnp.float32)), carry

    batch = {"x": np.arange(4, dtype=np.float32), "mask": np.array([True, True, True, False])}
    optimizer = optax.sgd(0.5)
    state = init_state(jnp.zeros(()), optimizer, jax.random.key(0))
    new, info = make_step(masked, optimizer, batch_axes=0)(state, batch)
    np.testing.assert_allclose(info.loss, 5 / 3, rtol=1e-6)
    np.testing.assert_allclose(new.params, 1.0, rtol=1e-6)


def test_rows_that_two_devices_cannot_share_run_on_one():
    state = start(ADAM, rows=3)
    new, _ = make_step(loss, ADAM)(state, Batches()[0][:, :3])
    assert len(jax.tree.leaves(new.params)[0].sharding.device_set) == 1


def test_the_state_is_carried_and_no_gradient_flows_through_it():
    """Truncated back-propagation: the second window's gradient is that with the carried state as a constant."""
    optimizer = optax.sgd(1.0)
    step, state = make_step(no_dropout, optimizer), start(optimizer)
    params = jax.tree.map(jnp.array, state.params)
    middle, _ = step(state, Batches()[0])
    carry = no_dropout(params, MODEL.initial_state(params, (ROWS,)), Batches()[0], None)[1]
    close(middle.carry, carry)
    middle = jax.tree.map(np.asarray, middle._replace(key=None))
    constant = jax.grad(lambda p: no_dropout(p, carry, Batches()[1], None)[0].value)(middle.params)
    expected = jax.tree.map(lambda p, g: p - g, middle.params, constant)
    again = start(optimizer)._replace(params=middle.params, carry=carry)
    close(step(again, Batches()[1])[0].params, expected)


def test_evaluation_pools_batches_of_any_size_and_carries_the_state():
    params = MODEL.init(jax.random.key(0))
    long = Batches()[0]
    carry = MODEL.initial_state(params, (ROWS,))
    parts = [long[:3], long[2:6], long[5:]]
    np.testing.assert_allclose(
        make_evaluate(loss)(params, carry, parts), loss(params, carry, long, None)[0].value, rtol=1e-5
    )
    with pytest.raises(ValueError, match="batches is empty"):
        make_evaluate(loss)(params, carry, [])


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (lambda total: total, r"returned float32\[\]; expected a pair"),
        (lambda total: (total, ()), r"returned \('float32\[\]', \(\)\); expected a pair"),
        (
            lambda total: Mean(total, total),
            r"returned Mean\(total='float32\[\]', weight='float32\[\]'\); expected a pair",
        ),
    ],
)
def test_a_loss_that_is_no_mean(returned, said):
    def loss(params, carry, batch, key):
        return returned(jnp.sum(batch @ params["w"]))

    params, batch, optimizer = {"w": jnp.ones(2)}, jnp.ones((4, 2)), optax.sgd(0.1)
    with pytest.raises(TypeError, match=said):
        make_step(loss, optimizer, batch_axes=0)(init_state(params, optimizer, jax.random.key(0)), batch)
    with pytest.raises(TypeError, match=said):
        make_evaluate(loss, batch_axes=0)(params, (), [batch])


def test_bad_arguments():
    with pytest.raises(ValueError, match="steps is 0 and every is 5"):
        run(ADAM, steps=0)
    with pytest.raises(ValueError, match=r"batch has \[3, 4\] rows"):
        make_step(loss, ADAM)(start(ADAM), (np.zeros((7, 4), int), np.zeros((7, 3), int)))


def square(params, carry, batch, key):
    a = jnp.broadcast_to(params["a"], batch.shape)
    return Mean(jnp.square(a - batch).sum(), jnp.float32(batch.size)), carry


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.chain(optax.sgd(0.5), optax.contrib.reduce_on_plateau(patience=2)),
        optax.polyak_sgd(max_learning_rate=0.5),
        optax.lbfgs(),
        optax.contrib.sam(optax.sgd(0.5), optax.sgd(0.05)),
        optax.contrib.schedule_free_sgd(0.5),
    ],
    ids=["reduce_on_plateau", "polyak_sgd", "lbfgs", "sam", "schedule_free"],
)
def test_optimisers_are_told_what_they_ask_for(optimizer):
    """A bowl whose lowest point is the mean of the rows, 1.5."""
    step = make_step(square, optimizer, batch_axes=0)
    state = init_state({"a": jnp.zeros(3)}, optimizer, jax.random.key(0))
    batch = jnp.broadcast_to(jnp.array([0.0, 1.0, 2.0, 3.0])[:, None], (4, 3))
    values = []
    for _ in range(30):
        state, info = step(state, batch)
        values.append(float(info.loss))
    np.testing.assert_allclose(values[0], 3.5)
    np.testing.assert_allclose(values[-1], 1.25, rtol=0.02)


def test_what_is_held_twice_is_trained_and_what_was_given_stays():
    given, h = jnp.zeros(3), jnp.ones((4, 2))
    optimizer = optax.sgd(0.1)

    def twice(params, carry, batch, key):
        both = jnp.broadcast_to(params["a"] + params["b"], batch.shape)
        return Mean(jnp.square(both - batch).sum(), jnp.float32(batch.size)), carry

    state = init_state({"a": given, "b": given}, optimizer, jax.random.key(0), carry=(h, h))
    step = make_step(twice, optimizer, batch_axes=0)
    for _ in range(2):
        state, _ = step(state, jnp.ones((4, 3)))
    np.testing.assert_array_equal(given, 0)
    np.testing.assert_array_equal(h, 1)
    np.testing.assert_array_equal(state.params["a"], state.params["b"])


def test_a_first_state_shares_no_memory_with_numpy_and_compiles_for_no_shape():
    """1,024 floats from a multiple of 64 bytes: what JAX reads in place on a CPU where it may."""
    raw = np.zeros(1024 * 4 + 64, np.uint8)
    start = -raw.ctypes.data % 64
    given = raw[start : start + 4096].view(np.float32)
    assert jax.device_put(given).unsafe_buffer_pointer() == given.ctypes.data
    compiled, key, _ = [], jax.random.key(0), jnp.int32(0)  # the scalar is a program, once
    arrays = {"numpy": given, "jax": jax.device_put(np.ones((7, 11, 13))), "key": key, "number": 2.5}
    listen = lambda event, _, **options: compiled.append(options) if "backend_compile" in event else None  # noqa: E731
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        params = init_state(arrays, optax.identity(), key).params
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert compiled == []
    given[:] = 3
    np.testing.assert_array_equal(params["numpy"], 0)
    assert params["jax"].unsafe_buffer_pointer() != arrays["jax"].unsafe_buffer_pointer()
    assert params["number"].dtype == jnp.float32


def test_weights_below_one_are_divided_by():
    def weighted(params, carry, batch, key):
        return Mean(0.05 * jnp.square(params - batch).sum(), jnp.asarray(0.05 * batch.size)), carry

    optimizer = optax.sgd(0.5)
    state, info = make_step(weighted, optimizer, batch_axes=0)(
        init_state(jnp.zeros(()), optimizer, jax.random.key(0)), jnp.ones(4)
    )
    np.testing.assert_allclose(info.loss, 1, rtol=1e-6)
    np.testing.assert_allclose(state.params, 1, rtol=1e-6)
    np.testing.assert_allclose(make_evaluate(weighted, batch_axes=0)(jnp.zeros(()), (), [jnp.ones(4)]), 1, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_16_bit_gradients_are_of_the_mean_and_summed_in_float32(dtype):
    """The sum over 70,000 entries is more than float16 holds, and their number more than bfloat16 counts."""

    def slope(params, carry, batch, key):
        return Mean((params.astype(jnp.float32) * batch).sum(), jnp.float32(batch.size)), carry

    optimizer = optax.sgd(1.0)
    batch = jnp.full((4, 17501), 3.0)
    state, info = make_step(slope, optimizer, batch_axes=0)(
        init_state(jnp.zeros((), dtype), optimizer, jax.random.key(0)), batch
    )
    np.testing.assert_allclose(float(state.params), -3, rtol=1e-6)
    np.testing.assert_allclose(info.gradient_norm, 3, rtol=1e-6)
    assert state.params.dtype == dtype


def test_a_scaled_loss_keeps_small_float16_gradients():
    """Below 6e-8 float16 has no numbers: at a scale of 2**15 the product of two small numbers gets through."""

    def small(params, carry, batch, key):
        y = (params * 1e-4).astype(jnp.float16) * batch.astype(jnp.float16)
        return Mean(y.astype(jnp.float32).sum() * 1e-4, jnp.float32(batch.size)), carry

    optimizer = optax.sgd(1.0)
    found = []
    for scale in (1.0, 2.0**15):
        state = init_state(jnp.float32(0), optimizer, jax.random.key(0))
        state, info = make_step(small, optimizer, batch_axes=0, loss_scale=scale)(state, jnp.full((4, 256), 0.5))
        found.append(float(state.params))
        np.testing.assert_allclose(info.loss, 0, atol=1e-9)
    np.testing.assert_allclose(found[1], -5e-9, rtol=2e-2)
    assert abs(found[0] + 5e-9) > 1e-9
    with pytest.raises(ValueError, match="loss_scale"):
        make_step(small, optimizer, loss_scale=0)
