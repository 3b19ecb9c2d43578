"""Training to the best checkpoint, whatever is learned; the loss of what is held out; predictions in the examples' order.

Several processes (`experiments.common.processes`) all have the whole of every batch: of those that are trained on each takes its
rows here, and what is held out each evaluates by itself.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np
import optax

from experiments.common.options import Count
from experiments.common.run import Run, RunConfig, console
from experiments.common.watch import Bar, Curves, Inside
from jrnn import data
from jrnn.data import Batch
from jrnn.train import (
    Fitted,
    Loss,
    Observer,
    TrainState,
    fit,
    init_state,
    is_first,
    make_evaluate,
    make_step,
    own_mesh,
    own_part,
    own_rows,
)

bucketed = functools.partial(data.bucketed, shard=(0, 1))
"""`jrnn.data.bucketed`, the batches whole."""

Carry = Callable[[Any], Any]
"""`carry(params)`: what the first batch is given of those before it, such as the initial state of each row."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitConfig(RunConfig):
    """Options of all that is trained."""

    batch: Count = 32
    """Examples read side by side."""
    learning_rate: float = 0.002
    """Peak of AdamW's learning rate: it rises over the first 2 % of the steps and falls to 0 along a cosine."""
    weight_decay: float = 0.01
    """AdamW's decay of every matrix."""
    clip: float = 1.0
    """Largest global norm of a gradient."""
    every: Count | None = None
    """Evaluate and save a checkpoint every so many steps; by default once a pass."""
    patience: int | None = None
    """Stop after so many evaluations without a new best."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig(FitConfig):
    """Options of what is trained for some passes over its data."""

    epochs: Count = 20
    """Passes over the training data."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepsConfig(FitConfig):
    """Options of what is trained for some steps, such as on one long text."""

    steps: Count = 2000
    """Training steps, one batch each."""


def adamw(steps: int, learning_rate: float, *, weight_decay: float, clip: float) -> optax.GradientTransformation:
    """AdamW with clipping by global norm, warm-up over 2 % of the steps and a cosine to 0; only matrices decay."""
    warmup = max(steps // 50, 1)
    rate = optax.warmup_cosine_decay_schedule(0.0, learning_rate, warmup, max(steps, warmup + 1))

    def matrices(params: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf.ndim > 1, params)

    return optax.chain(
        optax.clip_by_global_norm(clip), optax.adamw(rate, b2=0.99, weight_decay=weight_decay, mask=matrices)
    )


def start(
    config: FitConfig, params: Any, carried: Any = (), *, steps: int = 1
) -> tuple[TrainState, optax.GradientTransformation]:
    """The state before the first of `steps` steps, and the optimizer. `carried` is what the first batch is given: see `Carry`."""
    optimizer = adamw(steps, config.learning_rate, weight_decay=config.weight_decay, clip=config.clip)
    return init_state(params, optimizer, jax.random.key(config.seed + 1), carried), optimizer


def train(
    run: Run,
    config: TrainingConfig | StepsConfig,
    *,
    params: Any,
    loss: Callable[..., Any],
    batches: Any,
    evaluate: Callable[[Any], float],
    unit: str,
    batch_axes: Any = 1,
    carry: Carry | None = None,
    valid_unit: str | None = None,
    floors: Mapping[str, float] | None = None,
    counted: tuple[int, str] | None = None,
    observers: Sequence[Observer] = (),
    look: Callable[[Any], Mapping[str, Any]] | None = None,
) -> tuple[Any, Fitted]:
    """Train a started run and return the best parameters by `evaluate(params)`, which falls as they get better (an error rate).

    Args:
      loss: `loss(params, batch, key) -> Mean`, without dropout where there is no key. With `carry` it is
        `loss(params, carry, batch, key) -> (Mean, carry)`: what lasts from one batch to the next, `jrnn.train.Loss`.
      batches: one pass, a `grain.MapDataset`, which is repeated; or `batches[step]` of any step, with a length, that of a pass;
        or a `grain.IterDataset` without an end, with `StepsConfig` and --every.
      batch_axes: which axis of the batch's arrays counts rows: see `jrnn.train.make_step`.
      unit: of the loss; `valid_unit` of what `evaluate` gives where that is another.
      floors: lines in the picture of the curves, in the latter unit.
      counted: what the progress bar counts, how many in a step and its name; by default the examples.
      observers: what watches the run, besides the bar and the curves.
      look: what of `look(params)` is written to TensorBoard 20 times or less in a run, at under 5 % of its time: `look_inside`.

    Exits with status 130, everything saved, when interrupted.
    """
    one_pass = 0 if isinstance(batches, grain.IterDataset) else len(batches)
    steps = config.steps if isinstance(config, StepsConfig) else config.epochs * one_pass
    carried = () if carry is None else own_rows(carry(params), 0)
    state, optimizer = start(config, params, carried, steps=steps)
    checkpoints = run.open_checkpoints()
    done = max(checkpoints.steps(), default=0)
    weights = sum(leaf.size for leaf in jax.tree.leaves(params))
    console.print(
        f"{weights:,} weights, {len(jax.devices())} devices; {steps} steps"
        f"{f' are {steps / one_pass:.3g} passes of {one_pass}' if one_pass else ''}\n"
        f"{'going on at step ' + str(done) + ' in' if done else 'run directory:'} {run.directory}"
    )
    number, things = counted or (config.batch, "examples")
    bar = Bar(steps, done=done, tokens=number, unit=things)
    watching: list[Observer] = [bar, *observers]
    if is_first():
        watching.insert(1, Curves(run.directory, unit=unit, valid_unit=valid_unit, floors=floors or {}, done=done))
        if look is not None:
            watching.append(Inside(run.directory, look, every=max(steps // 20, 1), clip=config.clip, done=done))
    with bar.progress:
        fitted = fit(
            make_step(_carrying(loss, carry), optimizer, batch_axes=batch_axes),
            state,
            _endless(batches, batch_axes),
            steps=steps,
            every=config.every or one_pass or steps,
            evaluate=lambda params: evaluate(own_part(params)),
            checkpoints=checkpoints,
            patience=config.patience,
            observers=watching,
        )
    if fitted.stopped == "interrupted":
        console.print(f"stopped and saved at step {int(fitted.state.step)}; go on by --resume --out {run.directory}")
        raise SystemExit(130)
    best = own_part(checkpoints.restore(fitted.state, checkpoints.best()).state.params)
    checkpoints.close()
    return jax.device_put(best, jax.local_devices()[0]), fitted


def restore(run: Run, params: Any, carry: Carry | None = None) -> Any:
    """The best parameters of a run that `train` trained, like `params`; with the `carry` that it was given."""
    assert isinstance(run.config, FitConfig)
    checkpoints = run.open_checkpoints()
    # Whole, though several processes may each have trained on rows of theirs.
    carried = () if carry is None else carry(params)
    best = checkpoints.restore(start(run.config, params, carried)[0], checkpoints.best()).state.params
    checkpoints.close()
    return best


def mean_loss(
    loss: Callable[..., Any], batches: Any, *, batch_axes: Any = 1, carry: Carry | None = None
) -> Callable[[Any], float]:
    """`evaluate(params)`: the mean loss over `batches`, as many as it is long, without dropout. The rest is as for `train`."""
    evaluate = make_evaluate(_carrying(loss, carry), batch_axes=batch_axes, mesh=own_mesh())

    def mean(params: Any) -> float:
        carried = () if carry is None else carry(params)
        return evaluate(params, carried, (batches[place] for place in range(len(batches))))

    return mean


def predict(
    f: Callable[[Any, Batch], jax.Array], params: Any, batches: Iterable[Batch], *, time: bool = False
) -> list[np.ndarray]:
    """`f(params, batch)` of each example, in the order of the examples that `bucketed` was given.

    `f`, compiled here unless it is already, gives [batch, ...]; with `time`, [time, batch, ...], of which each example gets its
    real steps.
    """
    found: dict[int, np.ndarray] = {}
    compiled = jax.jit(f)
    params = jax.device_put(params, jax.local_devices()[0])
    for batch in batches:
        outputs = np.asarray(compiled(params, batch))
        for row, (place, length) in enumerate(zip(batch.places, batch.lengths, strict=True)):
            if place >= 0:
                found[int(place)] = outputs[:length, row] if time else outputs[row]
    return [found[place] for place in sorted(found)]


def finish(run: Run, fitted: Fitted, said: str, *, metrics: Mapping[str, Any], floors: Mapping[str, float]) -> Path:
    """result.json, with what every training has beside its own `metrics`; what it comes to, in words, on the console."""
    records = [record._asdict() for record in fitted.records]
    every = {"steps": int(fitted.state.step), "stopped": fitted.stopped, "records": records}
    path = run.write_result(metrics={**metrics, **every}, floors=floors, seconds=fitted.seconds)
    console.print(f"{said}\n{fitted.seconds / 60:.1f} minutes; {path}")
    return path


def _carrying(loss: Callable[..., Any], carry: Carry | None) -> Loss:
    """The loss as `jrnn.train` has it."""
    return (lambda params, _, batch, key: (loss(params, batch, key), ())) if carry is None else loss


class _OwnRows:
    def __init__(self, batches: Any, axes: Any):
        self._batches, self._axes = batches, axes

    def __getitem__(self, step: int) -> Any:
        return own_rows(self._batches[step], self._axes)


def _endless(batches: Any, axes: Any) -> Any:
    """This process's rows of each batch, without end."""
    if isinstance(batches, grain.MapDataset):
        return _OwnRows(batches.repeat(), axes)
    if isinstance(batches, grain.IterDataset):
        return iter(batches.map(lambda batch: own_rows(batch, axes)))
    return _OwnRows(batches, axes)
