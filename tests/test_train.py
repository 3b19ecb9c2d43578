import functools
import os
import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import jrnn
from jrnn import losses
from jrnn.checkpoint import Checkpoints
from jrnn.losses import Mean
from jrnn.models import LanguageModel
from jrnn.train import NonFiniteLoss, Observer, fit, init_state, make_evaluate, make_step

MODEL = LanguageModel(5, jrnn.Layered((jrnn.Dropout(0.2, variational=True), jrnn.Recurrent(jrnn.GRU(4, 8)))))
ROWS = 4


@pytest.fixture(autouse=True)
def standard_promotion():
    """Optax's own arithmetic mixes integers and floats."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def loss(params, carry, batch, key):
    state, logits = MODEL.apply(params, batch[:-1], carry, key=key)
    return losses.cross_entropy(logits, batch[1:], None), state


def no_dropout(params, carry, batch, key):
    return loss(params, carry, batch, None)


class Batches:
    """Rows that count up, so that there is something to learn."""

    def __getitem__(self, step):
        return (step * 6 + np.arange(7)[:, None] + np.arange(ROWS)) % 5


def start(optimizer, rows=ROWS):
    params = MODEL.init(jax.random.key(0))
    return init_state(params, optimizer, jax.random.key(1), MODEL.initial_state(params, (rows,)))


def same(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert np.array_equal(
            *(jax.random.key_data(k) if jnp.issubdtype(k.dtype, jax.dtypes.prng_key) else k for k in (x, y))
        )


def close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-5, atol=1e-6), a, b)


compiled = functools.lru_cache(make_step)
evaluate = make_evaluate(loss)


def run(optimizer, *, steps=20, every=5, observers=(), patience=None, checkpoints=None, one_loss=loss):
    return fit(
        compiled(one_loss, optimizer),
        start(optimizer),
        Batches(),
        steps=steps,
        every=every,
        evaluate=lambda params: evaluate(params, MODEL.initial_state(params, (ROWS,)), [Batches()[0]]),
        checkpoints=checkpoints,
        patience=patience,
        observers=observers,
    )


ADAM = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.01))


def test_it_learns():
    fitted = run(ADAM, steps=60, every=20)
    assert fitted.stopped == "finished"
    assert [record.step for record in fitted.records] == [20, 40, 60]
    assert fitted.records[0].valid > 2 * fitted.records[-1].valid
    assert int(fitted.state.step) == 60


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


def test_compiles_once():
    traces = []

    def counted(params, carry, batch, key):
        traces.append(1)
        return loss(params, carry, batch, key)

    run(ADAM, steps=6, every=3, one_loss=counted)
    assert len(traces) == 1


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


class StopAt(Observer):
    def __init__(self, step, action):
        self.step, self.action = step, action

    def on_step(self, step, loss):
        if step == self.step:
            self.action()


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("at", [1, 5, 7, 13])
def test_interrupted_and_resumed_is_bit_identical(tmp_path, at):
    whole = run(ADAM)
    first = run(ADAM, checkpoints=Checkpoints(tmp_path), observers=[StopAt(at, interrupt)])
    assert (first.stopped, int(first.state.step)) == ("interrupted", at)
    spent = Checkpoints(tmp_path).restore(start(ADAM)).record["seconds"]
    second = run(ADAM, checkpoints=Checkpoints(tmp_path))
    assert second.records == whole.records
    same(second.state, whole.state)
    assert second.seconds > spent > 0


def test_a_crash_resumes_from_the_last_record(tmp_path):
    def crash():
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        run(ADAM, checkpoints=Checkpoints(tmp_path), observers=[StopAt(13, crash)])
    assert Checkpoints(tmp_path).steps()[-1] == 10
    whole, second = run(ADAM), run(ADAM, checkpoints=Checkpoints(tmp_path))
    assert second.records == whole.records
    same(second.state, whole.state)


def test_a_finished_run_resumed_does_nothing(tmp_path):
    first = run(ADAM, checkpoints=Checkpoints(tmp_path))
    seen = []
    second = run(ADAM, checkpoints=Checkpoints(tmp_path), observers=[StopAt(21, lambda: seen.append(1))])
    assert second.records == first.records
    same(second.state, first.state)
    assert not seen


def test_signal_handlers_are_put_back():
    before = signal.getsignal(signal.SIGINT)
    run(ADAM, steps=2, every=1)
    assert signal.getsignal(signal.SIGINT) is before


def test_runs_outside_the_main_thread():
    ended = []

    def target():
        with jax.numpy_dtype_promotion("standard"):
            ended.append(run(ADAM, steps=1, every=1).stopped)

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    assert ended == ["finished"]


class Heard(Observer):
    def __init__(self):
        self.steps, self.losses = [], []

    def on_step(self, step, loss):
        self.steps.append(step)
        self.losses.append(loss)

    def on_record(self, records, state):
        assert self.steps[-1] == records[-1].step == int(state.step)  # nothing is unread where a record is made


def test_an_accelerator_reads_a_step_while_the_next_one_runs(tmp_path, monkeypatch):
    """The same numbers, each step heard of once; the next batch is asked for before the loss is read."""
    at_once, late = Heard(), Heard()
    one = run(ADAM, steps=8, every=4, observers=[at_once])
    asked = []

    class Asked(Batches):
        def __getitem__(self, step):
            asked.append((step, len(late.steps)))
            return super().__getitem__(step)

    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setitem(globals(), "Batches", Asked)
    two = run(ADAM, steps=8, every=4, observers=[late], checkpoints=Checkpoints(tmp_path))
    assert at_once.steps == late.steps == list(range(1, 9))
    assert [step - heard for step, heard in asked if step % 4] == [1] * 6
    np.testing.assert_allclose(late.losses, at_once.losses, rtol=1e-5)
    close([record[1:] for record in two.records], [record[1:] for record in one.records])


def test_an_interrupt_is_late_by_a_step_on_an_accelerator_and_loses_nothing(tmp_path, monkeypatch):
    whole = run(ADAM)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    first = run(ADAM, checkpoints=Checkpoints(tmp_path), observers=[heard := Heard(), StopAt(7, interrupt)])
    assert first.stopped == "interrupted"
    assert heard.steps == list(range(1, int(first.state.step) + 1))
    second = run(ADAM, checkpoints=Checkpoints(tmp_path))
    close([record[1:] for record in second.records], [record[1:] for record in whole.records])


def test_early_stopping(tmp_path):
    """Training away from the optimum: no evaluation after the first is better."""
    uphill = optax.sgd(-0.5)
    fitted = run(uphill, steps=100, every=2, patience=3, checkpoints=Checkpoints(tmp_path, keep=1))
    assert fitted.stopped == "early"
    assert [record.step for record in fitted.records] == [2, 4, 6, 8]
    assert Checkpoints(tmp_path).best() == 2
    assert run(uphill, steps=100, every=2, patience=3, checkpoints=Checkpoints(tmp_path)).stopped == "early"


@pytest.mark.parametrize("what", ["loss is nan at step 7", "gradient's norm is inf .* at step 7"])
def test_a_non_finite_loss_stops_and_keeps_the_good_checkpoint(tmp_path, what):
    class Poisoned(Batches):
        def __getitem__(self, step):
            return {"x": np.zeros((2, ROWS), np.float32), "bad": np.asarray(step == 7)}

    def poisoned(params, carry, batch, key):
        if "nan" in what:
            value = params**2 + jnp.where(batch["bad"], jnp.nan, 0.0)
        else:  # a finite value of infinite slope
            slope = jnp.where(batch["bad"], 1e30, 0.0)
            value = params**2 + (params - jax.lax.stop_gradient(params)) * slope * slope
        return Mean(value * batch["x"].size, jnp.float32(batch["x"].size)), carry

    optimizer = optax.sgd(0.1)
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(NonFiniteLoss, match=what) as caught:
        fit(
            make_step(poisoned, optimizer, batch_axes={"x": 1, "bad": None}),
            init_state(jnp.float32(1.0), optimizer, jax.random.key(0)),
            Poisoned(),
            steps=20,
            every=5,
            evaluate=float,
            checkpoints=checkpoints,
        )
    assert "last good checkpoint: step 5" in str(caught.value)
    assert "lower learning rate" in str(caught.value)
    like = init_state(jnp.float32(0.0), optimizer, jax.random.key(0))
    assert np.isfinite(checkpoints.restore(like).state.params)


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


def test_a_step_that_is_left_out_is_no_reason_to_stop(tmp_path):
    def sometimes(params, carry, batch, key):
        return Mean(jnp.square(params - batch).sum(), jnp.float32(batch.size)), carry

    optimizer = optax.apply_if_finite(optax.sgd(0.25), max_consecutive_errors=2)
    step = make_step(sometimes, optimizer, batch_axes=0)
    good, bad = jnp.ones(4), jnp.array([1.0, jnp.nan, 1.0, 1.0])

    def run(batches):
        state = init_state(jnp.float32(0), optimizer, jax.random.key(0))
        return fit(step, state, batches, steps=len(batches), every=len(batches), evaluate=lambda params: 0.0)

    fitted = run([good, bad, good])
    np.testing.assert_allclose(fitted.state.params, 0.75)
    np.testing.assert_allclose(fitted.records[-1].loss, (1 + 0.25) / 2)
    with pytest.raises(NonFiniteLoss):  # after two in a row the third is applied
        run([good, bad, bad, bad])


class Looking(Heard):
    every = 3

    def __init__(self):
        super().__init__()
        self.norms, self.looks = [], []

    def on_gradient(self, step, norm):
        assert step == self.steps[-1]
        self.norms.append(norm)

    def on_state(self, step, state):
        assert self.steps[-1] == step == int(state.step)
        self.looks.append((step, float(optax.tree.norm(state.params))))


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_an_observer_sees_gradients_and_now_and_then_the_state(monkeypatch, backend):
    """Of the step that it was last told of, on an accelerator too; and changes no number."""
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    looking = Looking()
    found = run(ADAM, steps=8, every=4, observers=[looking])
    close(found.records, run(ADAM, steps=8, every=4).records)
    state, step, norms, sizes = start(ADAM), compiled(loss, ADAM), [], {}
    for number in range(8):
        state, info = step(state, Batches()[number])
        norms.append(float(info.gradient_norm))
        sizes[number + 1] = float(optax.tree.norm(state.params))
    np.testing.assert_allclose(looking.norms, norms, rtol=1e-5)
    assert [at for at, _ in looking.looks] == [3, 6]
    for at, size in looking.looks:
        assert size == pytest.approx(sizes[at], rel=1e-6)
