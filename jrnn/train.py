"""Training: an Optax loop as functions. The batch is sharded over local devices; a killed run resumes bit for bit."""

import contextlib
import functools
import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from .checkpoint import Checkpoints
from .losses import Mean

Loss = Callable[[Any, Any, Any, Any], tuple[Mean, Any]]
"""`loss(params, carry, batch, key) -> (Mean, carry)`. `carry` is what lasts from one batch to the next: for truncated
back-propagation through time the recurrent state, of which every leaf has the batch as its first axis; () for nothing.
Gradients stop at it, since it is an argument. Without a key there is no dropout."""


class TrainState(NamedTuple):
    """All that changes in training."""

    step: jax.Array  # int32 []: steps taken
    params: Any
    opt_state: Any
    carry: Any  # leaves [batch, ...]: see `Loss`
    key: jax.Array  # typed key []; step t uses fold_in(key, t)


class Info(NamedTuple):
    """What a step reports."""

    loss: jax.Array  # []: before the update
    gradient_norm: jax.Array  # []: global, before clipping


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
    """Watches a run: a progress bar, curves, samples. Override what is of interest."""

    def on_step(self, step: int, loss: float) -> None:
        """After each step."""

    def on_record(self, records: list[Record], state: TrainState) -> None:
        """After each evaluation; the last record is the new one."""


def init_state(params: Any, optimizer: optax.GradientTransformation, key: jax.Array, carry: Any = ()) -> TrainState:
    """The state before the first step."""
    return TrainState(jnp.int32(0), params, optimizer.init(params), carry, key)


def make_step(
    loss: Loss, optimizer: optax.GradientTransformation, *, batch_axes: Any = 1
) -> Callable[[TrainState, Any], tuple[TrainState, Info]]:
    """A compiled training step `(state, batch) -> (state, info)`, sharded over the local devices.

    Each device takes its share of the rows (as many devices as divide their number), and one sum over devices gives the
    gradient: the same numbers as on one device, up to rounding and dropout. `batch_axes` says which axis of the batch's
    arrays counts rows, as `jax.vmap`'s in_axes does: 1 for time-first arrays; None for what every row shares.
    The state given is donated: use the one returned. Clip by `optax.clip_by_global_norm` in the optimizer.
    """

    def update(mesh: Mesh, state: TrainState, batch: Any) -> tuple[TrainState, Info]:
        key = jax.random.fold_in(state.key, state.step)

        def shard(params: Any, carry: Any, batch: Any) -> tuple[Any, jax.Array, Any]:
            params = jax.tree.map(lambda a: lax.pcast(a, "rows", to="varying"), params)

            def total(params: Any) -> tuple[jax.Array, tuple[jax.Array, Any]]:
                mean, new = loss(params, carry, batch, jax.random.fold_in(key, lax.axis_index("rows")))
                return mean.total, (mean.weight, new)

            (sum_, (weight, new)), grads = jax.value_and_grad(total, has_aux=True)(params)
            sum_, weight, grads = lax.psum((_vary(sum_), _vary(weight), grads), "rows")
            weight = jnp.maximum(weight, 1)
            return jax.tree.map(lambda g: g / weight.astype(g.dtype), grads), sum_ / weight, jax.tree.map(_vary, new)

        specs = (P(), _specs(0, state.carry), _specs(batch_axes, batch))
        sharded = jax.shard_map(shard, mesh=mesh, in_specs=specs, out_specs=(P(), P(), specs[1]))
        grads, value, carry = sharded(state.params, state.carry, batch)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        info = Info(loss=value, gradient_norm=optax.tree.norm(grads))
        return TrainState(state.step + 1, params, opt_state, carry, state.key), info

    compiled = jax.jit(update, static_argnums=0, donate_argnums=1)

    def step(state: TrainState, batch: Any) -> tuple[TrainState, Info]:
        mesh = _mesh(_rows(batch_axes, batch))
        return compiled(mesh, _place(mesh, _settled(state)), batch)

    return step


def make_evaluate(loss: Loss, *, batch_axes: Any = 1) -> Callable[[Any, Any, Iterable[Any]], float]:
    """`evaluate(params, carry, batches) -> mean loss` over all batches, the carry going from one to the next; no dropout."""

    @functools.partial(jax.jit, static_argnums=0)
    def one(mesh: Mesh, params: Any, carry: Any, batch: Any) -> tuple[Mean, Any]:
        def shard(params: Any, carry: Any, batch: Any) -> tuple[Mean, Any]:
            mean, new = loss(params, carry, batch, None)
            return Mean(*lax.psum(tuple(map(_vary, mean)), "rows")), jax.tree.map(_vary, new)

        specs = (P(), _specs(0, carry), _specs(batch_axes, batch))
        sharded = jax.shard_map(shard, mesh=mesh, in_specs=specs, out_specs=(P(), specs[1]))
        return sharded(params, carry, batch)

    def evaluate(params: Any, carry: Any, batches: Iterable[Any]) -> float:
        means = []
        for batch in batches:
            mesh = _mesh(_rows(batch_axes, batch))
            params, carry = jax.device_put((params, carry), (_whole(mesh), _by_row(mesh)))
            mean, carry = one(mesh, params, _settled(carry), batch)
            means.append(mean)
        if not means:
            raise ValueError("batches is empty; expected at least one batch to evaluate on")
        totals = np.sum([np.asarray([m.total, m.weight], np.float64) for m in means], axis=0)
        return float(totals[0] / max(totals[1], 1))

    return evaluate


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

    SIGINT (Ctrl-C) and SIGTERM finish the step under way, save and return; a second one interrupts at once.

    Raises:
      NonFiniteLoss: naming the step, the last good checkpoint and what to try.
    """
    if steps < 1 or every < 1:
        raise ValueError(f"steps is {steps} and every is {every}; expected at least 1 of each")
    streamed: Any = None if hasattr(batches, "__getitem__") else batches
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

    taken = int(state.step)
    stopped = "early" if _exhausted(records, patience) else "finished"
    with _signals() as interrupted:
        while taken < steps and stopped == "finished":
            state, info = step(state, batches[taken] if streamed is None else next(streamed))  # type: ignore[index]
            loss = float(info.loss)
            _check_finite(taken, loss, float(info.gradient_norm), checkpoints)
            losses.append(loss)
            taken += 1
            for observer in observers:
                observer.on_step(taken, loss)
            if taken % every == 0 or taken == steps:
                valid = evaluate(state.params)
                _check_finite(taken - 1, valid, 0.0, checkpoints)
                records.append(Record(taken, float(np.mean(losses)), valid))
                losses = []
                save(metric=valid)
                for observer in observers:
                    observer.on_record(records, state)
                if _exhausted(records, patience):
                    stopped = "early"
            if interrupted.is_set() and stopped == "finished" and taken < steps:
                stopped = "interrupted"
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
    saved = checkpoints.steps() if checkpoints is not None else []
    kept = f"step {saved[-1]} in {checkpoints.directory}" if checkpoints is not None and saved else "none"
    raise NonFiniteLoss(
        f"{what} at step {step}; last good checkpoint: {kept}. Try a lower learning rate or clip norm, a longer warm-up, "
        "or jax.config.update('jax_debug_nans', True) to find the operation; check the data for NaN."
    )


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


def _specs(axes: Any, tree: Any) -> Any:
    """A partition spec per leaf: rows along the axis that `axes`, a prefix of `tree`, names."""

    def spec(axis: int | None, subtree: Any) -> Any:
        one = P() if axis is None else P(*(None,) * axis, "rows")
        return jax.tree.map(lambda _: one, subtree)

    return jax.tree.map(spec, axes, tree, is_leaf=lambda x: x is None)


def _rows(axes: Any, batch: Any) -> int:
    """How many rows a batch has."""

    def sizes(axis: int | None, subtree: Any) -> Any:
        return [] if axis is None else [np.shape(leaf)[axis] for leaf in jax.tree.leaves(subtree)]

    counts = set(jax.tree.leaves(jax.tree.map(sizes, axes, batch, is_leaf=lambda x: x is None)))
    if len(counts) != 1:
        raise ValueError(
            f"batch has {sorted(counts)} rows along batch_axes={axes}; expected one number for all its arrays"
        )
    return counts.pop()


@functools.lru_cache
def _mesh(rows: int) -> Mesh:
    """As many local devices as divide the rows."""
    devices = jax.local_devices()
    count = max(n for n in range(1, len(devices) + 1) if rows % n == 0)
    return Mesh(np.asarray(devices[:count]), ("rows",))


def _settled(tree: Any) -> Any:
    """`tree`, on CPU once it is computed: XLA's in-process collectives deadlock where a second program with a sum over
    devices starts before the first is through, and the devices are as many as the cores (seen with jaxlib 0.10)."""
    return jax.block_until_ready(tree) if jax.default_backend() == "cpu" else tree


def _place(mesh: Mesh, state: TrainState) -> TrainState:
    """The state where the step leaves it, so that the first step compiles the only program; nothing moves after that."""
    places: Any = TrainState(*[_whole(mesh)] * 5)._replace(carry=_by_row(mesh))  # type: ignore[arg-type]
    return jax.device_put(state, places)


def _whole(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, P())


def _by_row(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, P("rows"))


def _vary(leaf: jax.Array) -> jax.Array:
    """Marked as varying over rows, where it is not already."""
    return leaf if "rows" in jax.typeof(leaf).manual_axis_type.varying else lax.pcast(leaf, "rows", to="varying")
