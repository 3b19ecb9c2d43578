"""What the experiments with labelled examples share: training to the best checkpoint, and predictions in the examples' order."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import grain
import jax
import numpy as np
import optax

from experiments.run import Bar, Curves, Run, RunConfig, console
from jrnn.data import Batch
from jrnn.losses import Mean
from jrnn.train import Fitted, fit, init_state, make_step


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig(RunConfig):
    """Options of every experiment with labelled examples."""

    batch: int = 32
    """Examples read side by side."""
    epochs: int = 20
    """Passes over the training data."""
    learning_rate: float = 0.002
    """Peak of AdamW's learning rate: it rises over the first 2 % of the steps and falls to 0 along a cosine."""
    weight_decay: float = 0.01
    """AdamW's decay of every matrix."""
    clip: float = 1.0
    """Largest global norm of a gradient."""
    every: int | None = None
    """Evaluate and save a checkpoint every so many steps; by default once a pass."""
    patience: int | None = None
    """Stop after so many evaluations without a new best."""

    def __post_init__(self) -> None:
        for name in ("batch", "epochs", "every", "keep"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"--{name} is {getattr(self, name)}; expected at least 1")


def adamw(steps: int, learning_rate: float, *, weight_decay: float, clip: float) -> optax.GradientTransformation:
    """AdamW with clipping by global norm, warm-up over 2 % of the steps and a cosine to 0; only matrices decay."""
    warmup = max(steps // 50, 1)
    rate = optax.warmup_cosine_decay_schedule(0.0, learning_rate, warmup, max(steps, warmup + 1))

    def matrices(params: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf.ndim > 1, params)

    return optax.chain(
        optax.clip_by_global_norm(clip), optax.adamw(rate, b2=0.99, weight_decay=weight_decay, mask=matrices)
    )


def train(
    run: Run,
    config: TrainingConfig,
    *,
    params: Any,
    loss: Callable[[Any, Any, Any], Mean],
    batches: grain.MapDataset,
    batch_axes: Any,
    evaluate: Callable[[Any], float],
    unit: str,
    valid_unit: str | None = None,
    floors: Mapping[str, float] | None = None,
) -> tuple[Any, Fitted]:
    """Train a started run and return the best parameters by `evaluate(params)`, which falls as they get better (an error rate).

    `loss(params, batch, key)` is without dropout where there is no key; `batches` is one pass. `unit` is of the loss, `valid_unit`
    of what `evaluate` gives where that is another, and `floors` are lines of the latter in the picture of the curves. Exits with
    status 130, everything saved, when interrupted.
    """
    steps = config.epochs * len(batches)
    optimizer = adamw(steps, config.learning_rate, weight_decay=config.weight_decay, clip=config.clip)
    state = init_state(params, optimizer, jax.random.key(config.seed + 1))
    checkpoints = run.open_checkpoints()
    done = max(checkpoints.steps(), default=0)
    weights = sum(leaf.size for leaf in jax.tree.leaves(params))
    console.print(
        f"{weights:,} weights, {len(jax.devices())} devices; {steps} steps are {config.epochs} passes of {len(batches)}\n"
        f"{'going on at step ' + str(done) + ' in' if done else 'run directory:'} {run.directory}"
    )
    bar = Bar(steps, done=done, tokens=config.batch, unit="examples")
    curves = Curves(run.directory, unit=unit, valid_unit=valid_unit, floors=floors or {}, done=done)
    with bar.progress:
        fitted = fit(
            make_step(
                lambda params, carry, batch, key: (loss(params, batch, key), ()), optimizer, batch_axes=batch_axes
            ),
            state,
            batches.repeat(),
            steps=steps,
            every=config.every or len(batches),
            evaluate=evaluate,
            checkpoints=checkpoints,
            patience=config.patience,
            observers=(bar, curves),
        )
    if fitted.stopped == "interrupted":
        console.print(f"stopped and saved at step {int(fitted.state.step)}; go on by --resume --out {run.directory}")
        raise SystemExit(130)
    best = checkpoints.restore(fitted.state, checkpoints.best()).state.params
    checkpoints.close()
    return jax.device_put(best, jax.devices()[0]), fitted


def restore(run: Run, config: TrainingConfig, params: Any) -> Any:
    """The best parameters of a finished run, like `params`."""
    checkpoints = run.open_checkpoints()
    optimizer = adamw(1, config.learning_rate, weight_decay=config.weight_decay, clip=config.clip)
    like = init_state(params, optimizer, jax.random.key(0))
    best = checkpoints.restore(like, checkpoints.best()).state.params
    checkpoints.close()
    return best


def predict(
    f: Callable[[Any, Batch], jax.Array], params: Any, batches: Iterable[Batch], *, time: bool = False
) -> list[np.ndarray]:
    """`f(params, batch)` of each example, in the order of the examples that `bucketed` was given.

    `f`, compiled here unless it is already, gives [batch, ...]; with `time`, [time, batch, ...], of which each example gets its
    real steps.
    """
    found: dict[int, np.ndarray] = {}
    compiled = jax.jit(f)
    params = jax.device_put(params, jax.devices()[0])
    for batch in batches:
        outputs = np.asarray(compiled(params, batch))
        for row, (place, length) in enumerate(zip(batch.places, batch.lengths, strict=True)):
            if place >= 0:
                found[int(place)] = outputs[:length, row] if time else outputs[row]
    return [found[place] for place in sorted(found)]


def result_metrics(fitted: Fitted, **metrics: Any) -> dict[str, Any]:
    """What every result.json has beside the experiment's own `metrics`."""
    records = [record._asdict() for record in fitted.records]
    return {**metrics, "steps": int(fitted.state.step), "stopped": fitted.stopped, "records": records}
