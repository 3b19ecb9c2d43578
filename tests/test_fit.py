"""The loop: records, interrupts, resuming, early stopping, observers."""

import os
import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import same
from training import ADAM, ROWS, Batches, close, compiled, loss, run, start

from jrnn.checkpoint import Checkpoints
from jrnn.losses import Mean
from jrnn.train import NonFiniteLoss, Observer, fit, init_state, make_step

pytestmark = pytest.mark.usefixtures("standard_promotion")


def test_it_learns():
    fitted = run(ADAM, steps=60, every=20)
    assert fitted.stopped == "finished"
    assert [record.step for record in fitted.records] == [20, 40, 60]
    assert fitted.records[0].valid > 2 * fitted.records[-1].valid
    assert int(fitted.state.step) == 60


def test_compiles_once():
    traces = []

    def counted(params, carry, batch, key):
        traces.append(1)
        return loss(params, carry, batch, key)

    run(ADAM, steps=6, every=3, one_loss=counted)
    assert len(traces) == 1


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
    same(second.state, whole.state, tolerance=0)
    assert second.seconds > spent > 0


def test_a_crash_resumes_from_the_last_record(tmp_path):
    def crash():
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        run(ADAM, checkpoints=Checkpoints(tmp_path), observers=[StopAt(13, crash)])
    assert Checkpoints(tmp_path).steps()[-1] == 10
    whole, second = run(ADAM), run(ADAM, checkpoints=Checkpoints(tmp_path))
    assert second.records == whole.records
    same(second.state, whole.state, tolerance=0)


def test_a_finished_run_resumed_does_nothing(tmp_path):
    first = run(ADAM, checkpoints=Checkpoints(tmp_path))
    seen = []
    second = run(ADAM, checkpoints=Checkpoints(tmp_path), observers=[StopAt(21, lambda: seen.append(1))])
    assert second.records == first.records
    same(second.state, first.state, tolerance=0)
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
    two = run(ADAM, steps=8, every=4, observers=[late], checkpoints=Checkpoints(tmp_path), batches=Asked())
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
