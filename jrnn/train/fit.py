"""The loop: train until it is enough, evaluate and save on the way, watch, stop and resume."""

import collections
import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from ..checkpoint import Checkpoints
from .placement import own_part
from .processes import everywhere, is_first, losing_none, of_any, of_first
from .step import Info, TrainState


class Record(NamedTuple):
    """One evaluation."""

    step: int
    loss: float  # mean over the training steps since the record before
    valid: float


class Fitted(NamedTuple):
    """How a run ended."""

    state: TrainState
    records: list[Record]
    stopped: str  # "finished", "early" or "interrupted"
    seconds: float  # in training, evaluation and saving, over all resumptions


class NonFiniteLoss(FloatingPointError):
    """The loss or its gradient became NaN or infinite; the checkpoints saved before are good."""


class Observer:
    """Watches a run: a progress bar, curves, samples, the network itself. Override what is of interest."""

    every: int | None = None
    """Steps between two calls of `on_state`; None: there are none."""

    def on_step(self, step: int, loss: float) -> None:
        """After each step."""

    def on_gradient(self, step: int, norm: float) -> None:
        """After each step: the global norm of its gradient, before clipping."""

    def on_state(self, step: int, state: TrainState) -> None:
        """After every `every` steps. The next step waits for it, and takes the memory of the state."""

    def on_record(self, records: list[Record], state: TrainState) -> None:
        """After each evaluation; the last record is the new one."""


class Batches(Protocol):
    """Training data by step, so that a resumed run sees the same: a `grain.MapDataset`, repeated, is one."""

    def __getitem__(self, step: int, /) -> Any: ...


class Stream(Protocol):
    """Training data one after the other; its state, which JSON can hold, is saved with the run: an iterator of grain's is one."""

    def __next__(self) -> Any: ...
    def get_state(self) -> Any: ...
    def set_state(self, state: Any, /) -> None: ...


def fit(
    step: Callable[[TrainState, Any], tuple[TrainState, Info]],
    state: TrainState,
    batches: Batches | Stream,
    *,
    steps: int,
    every: int,
    evaluate: Callable[[Any], float],
    checkpoints: Checkpoints | None = None,
    patience: int | None = None,
    observers: Iterable[Observer] = (),
) -> Fitted:
    """Train until `steps` steps are taken, evaluating and saving every `every` steps and at the end.

    Args:
      step: from `make_step`.
      state: where to start. Where `checkpoints` holds any, the run goes on from the newest instead, and ends with parameters,
        optimiser state and records bit-identical to those of a run never stopped (on as many devices).
      batches: `batches[t]` is what step t trains on; or an iterator with a state, such as grain's.
      evaluate: `evaluate(params)`, the validation loss; the checkpoint where it is smallest is kept as the best.
      checkpoints: where to save; None: nowhere.
      patience: stop early after so many evaluations in a row without a new best; None: never.
      observers: what watches the run.

    SIGINT (Ctrl-C) and SIGTERM finish the step under way, save and return; a second one interrupts at once. A step that
    `optax.apply_if_finite` left out is none of the mean loss, and no reason to stop.

    After `jax.distributed.initialize()` all processes call it, with checkpoints in one directory that all of them see; they
    stop early at the first one's validation loss, and together where any is interrupted. Observers watch on the first one
    alone, and see of the state what lies there. Where a process is killed the others raise `ProcessLost`, and as many started
    again go on from the newest checkpoint. On an accelerator observers hear of a step while the next one runs.

    Raises:
      NonFiniteLoss: naming the step, the last good checkpoint and what to try.
      ProcessLost: another process ended.
    """
    if steps < 1 or every < 1:
        raise ValueError(f"steps is {steps} and every is {every}; expected at least 1 of each")
    streamed: Any = None if hasattr(batches, "__getitem__") else batches
    observers = tuple(observers) if is_first() else ()
    state = everywhere(state)
    started, spent = time.perf_counter(), 0.0
    records: list[Record] = []
    losses: list[float] = []  # since the last record
    if checkpoints is not None and checkpoints.steps():
        restored = checkpoints.restore(state)
        state, spent = restored.state, restored.record["seconds"]
        records, losses = [Record(*record) for record in restored.record["records"]], restored.record["losses"]
        if streamed is not None:
            streamed.set_state(restored.record["batches"])

    def seconds() -> float:
        return spent + time.perf_counter() - started

    def save(metric: float | None = None) -> None:
        if checkpoints is not None:
            saved = {"records": records, "losses": losses, "seconds": seconds()}
            saved |= {} if streamed is None else {"batches": streamed.get_state()}
            checkpoints.save(taken, state, saved, metric=metric)

    def read(number: int, info: Info) -> None:
        """What a step reports, once it is through."""
        loss = float(info.loss)
        if not info.left_out:
            _check_finite(number - 1, loss, float(info.gradient_norm), checkpoints)
            losses.append(loss)
        for observer in observers:
            observer.on_step(number, loss)
            observer.on_gradient(number, float(info.gradient_norm))

    taken = int(state.step)
    stopped = "early" if _exhausted(records, patience) else "finished"
    # An accelerator starts a step while the host reads the one before; a CPU has no time that would be lost.
    lag = 0 if jax.default_backend() == "cpu" else 1
    unread: collections.deque[tuple[int, Info]] = collections.deque()
    flags = collections.deque([False] * lag)

    def catch_up(left: int) -> None:
        while len(unread) > left:
            read(*unread.popleft())

    with _signals() as interrupted, losing_none(lambda: f"last checkpoint: {_newest(checkpoints)}"):
        while taken < steps and stopped == "finished":
            state, info = step(state, batches[taken] if streamed is None else next(streamed))  # type: ignore[index]
            taken += 1
            unread.append((taken, info))
            recording = taken % every == 0 or taken == steps
            looking = [observer for observer in observers if observer.every and taken % observer.every == 0]
            catch_up(0 if recording or looking else lag)
            for observer in looking:
                observer.on_state(taken, own_part(state))
            if recording:
                valid = of_first(evaluate(state.params))
                _check_finite(taken - 1, valid, 0.0, checkpoints)
                records.append(Record(taken, float(np.mean(losses)) if losses else math.nan, valid))
                losses = []
                save(metric=valid)
                for observer in observers:
                    observer.on_record(records, own_part(state))
                if _exhausted(records, patience):
                    stopped = "early"
            flags.append(of_any(interrupted.is_set(), after=state))
            if flags.popleft() and stopped == "finished" and taken < steps:
                stopped = "interrupted"
                catch_up(0)
                save()
    return Fitted(state, records, stopped, seconds())


def _exhausted(records: list[Record], patience: int | None) -> bool:
    if patience is None or not records:
        return False
    best = min(range(len(records)), key=lambda i: records[i].valid)
    return len(records) - 1 - best >= patience


def _check_finite(step: int, loss: float, gradient_norm: float, checkpoints: Checkpoints | None) -> None:
    if math.isfinite(loss) and math.isfinite(gradient_norm):
        return
    what = f"loss is {loss}" if not math.isfinite(loss) else f"gradient's norm is {gradient_norm} (loss {loss:.4g})"
    raise NonFiniteLoss(
        f"{what} at step {step}; last good checkpoint: {_newest(checkpoints)}. Try a lower learning rate or clip norm, a longer "
        "warm-up, or jax.config.update('jax_debug_nans', True) to find the operation; check the data for NaN."
    )


def _newest(checkpoints: Checkpoints | None) -> str:
    saved = checkpoints.steps() if checkpoints is not None else []
    return f"step {saved[-1]} in {checkpoints.directory}" if checkpoints is not None and saved else "none"


@contextlib.contextmanager
def _signals() -> Iterator[threading.Event]:
    """An event that SIGINT or SIGTERM sets; the second signal acts as it did before. Only in the main thread."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: Any) -> None:
        event.set()
        signal.signal(number, before[signal.Signals(number)])

    try:
        for number in before:
            signal.signal(number, handle)
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
