"""A network of neurons that excite or inhibit learns what monkeys were taught: which way do the dots move, is it the same again?

Continuous-time units whose rates are never negative; four of five excite and the others inhibit (Dale's law), and each is connected
to a share of the others (Song, Yang & Wang 2016), by `jrnn.Parametrized`. They see trials of NeuroGym (Molano-Mazón et al. 2022),
step by step, and say at each step whether to fixate or what to choose.

    python -m experiments.ctrnn

learns PerceptualDecisionMaking-v0 (Britten et al. 1992), to sum up noisy evidence: 98.9 % right of the trials where dots move
together, where an ideal observer has 99.4 % (89.1 and 89.2 % of all, of which a fifth has no evidence).

    python -m experiments.ctrnn --task match

learns DelayMatchSample-v0 (Miller et al. 1996), to keep a stimulus in mind: 100 % right, after delays twice as long as those of
training too. Either takes a minute and a half of one core.
"""

import dataclasses
from typing import Any, ClassVar, Literal, NamedTuple

import grain
import jax
import jax.numpy as jnp
import numpy as np

import jrnn
from experiments.common.command import command
from experiments.common.options import Count, NotNegative, Share
from experiments.common.run import Run, console
from experiments.common.supervised import TrainingConfig, finish, mean_loss, train
from experiments.data import trials
from experiments.data.trials import Setting, Trials
from experiments.neurons import pictures
from experiments.neurons.pictures import Answered, Curve
from jrnn import losses
from jrnn.parametrizations import DalesLaw, Sparse

NAME = "ctrnn"
STRENGTHS = (-25.6, -12.8, -6.4, -3.2, -1.6, 0, 1.6, 3.2, 6.4, 12.8, 25.6)
DELAYS = (200, 500, 1000, 2000, 3000, 4000)
TASKS = {"perceptual": "PerceptualDecisionMaking-v0", "match": "DelayMatchSample-v0"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(TrainingConfig):
    """Train a network of excitatory and inhibitory units on a task of neuroscience."""

    task: Literal["perceptual", "match"] = "perceptual"
    """Which of two directions a noisy stimulus has; whether a stimulus after a delay is the one before it."""
    hidden: Count = 100
    """Units."""
    excitatory: Share = 0.8
    """Share of the units that excite; the others inhibit."""
    density: Share = 0.3
    """Share of all connections between units that there are."""
    free: bool = False
    """Any weights between any units, to compare."""
    noise: NotNegative = 0.05
    """Standard deviation that noise alone gives a unit."""
    dt: Count = 20
    """Milliseconds of a step; the time constant of the units is 100."""
    trials: Count = 8000
    """To train on."""
    delays: tuple[int, ...] = (500, 1000, 2000)
    """Milliseconds between the stimuli in trials of `match` to train on; the test has the task's own, 1000."""
    each: Count = 400
    """Trials for each point of the curve that is drawn."""
    epochs: Count = 12
    batch: Count = 64
    learning_rate: float = 0.003
    weight_decay: float = 0.0

    SMOKE: ClassVar[dict[str, Any]] = {"hidden": 10, "trials": 128, "each": 20, "epochs": 1, "dt": 100}


class Batch(NamedTuple):
    """Trials side by side, time first."""

    seen: Any  # float32 [time, batch, features]
    action: Any  # int32 [time, batch]


def build(config: Config, features: int, actions: int) -> jrnn.Layered:
    """The network and its output."""
    cell: jrnn.Cell = jrnn.CTRNN(
        features, config.hidden, activation="relu", tau=100.0, dt=float(config.dt), noise=config.noise
    )
    if not config.free:
        sparse = jrnn.Parametrized(cell, Sparse(config.density, config.seed, self_connections=False))
        cell = jrnn.Parametrized(sparse, DalesLaw(config.excitatory))
    return jrnn.Layered((jrnn.Recurrent(cell), jrnn.Dense(config.hidden, actions)))


def weights(model: jrnn.Layered, params: Any) -> np.ndarray:
    """What the units are connected by: [from, to]."""
    cell, own = model.layers[0].cell, params[0]  # type: ignore[attr-defined]
    while isinstance(cell, jrnn.Parametrized):
        own, cell = cell.made(own), cell.cell
    return np.asarray(own.w_h)


def loss(model: jrnn.Layered, params: Any, batch: Batch, key: jax.Array | None) -> losses.Mean:
    """Cross-entropy in nats of the action at every step; fixating counts half, the choice, which takes fewer steps, the other."""
    _, logits = model.apply(params, batch.seen, key=key)
    choosing, fixating = batch.action > 0, batch.action == 0
    parts = (losses.cross_entropy(logits, batch.action, mask, ignore=-1) for mask in (choosing, fixating))
    rows = jnp.asarray(batch.action.shape[1], jnp.float32)
    return losses.Mean(total=rows * sum(part.value for part in parts) / 2, weight=rows)


def take(found: Trials, places: Any) -> Batch:
    return Batch(found.seen[places].swapaxes(0, 1), found.action[places].swapaxes(0, 1))


def shuffled(found: Trials, batch: int, seed: int) -> grain.MapDataset:
    """One pass over the trials in random order."""
    source = grain.MapDataset.source(range(len(found.seen))).shuffle(seed=seed)
    size = min(batch, len(found.seen))
    return source.batch(size, drop_remainder=True, batch_fn=lambda places: take(found, np.asarray(places)))


def answer(model: jrnn.Layered, params: Any, found: Trials, seed: int) -> Answered:
    """With the noise of the units, as in training."""

    run = jax.jit(lambda seen, key: model.apply(params, seen, key=key)[1])
    each = [
        run(found.seen[start : start + 256].swapaxes(0, 1), jax.random.fold_in(jax.random.key(seed), start))
        for start in range(0, len(found.seen), 256)
    ]
    logits = np.concatenate([np.asarray(part) for part in each], 1).swapaxes(0, 1)
    choice = 1 + logits[:, -1, 1:].argmax(-1)
    fixating = found.action == 0
    fixated = ((logits.argmax(-1) == 0) & fixating).sum(1) / fixating.sum(1)
    return Answered(logits, choice, choice == found.action[:, -1], fixated)


def drawn(config: Config, part: str, count: int, seed: int) -> Trials:
    """Trials of a part; those of memory to train on have several delays."""
    setting = Setting(TASKS[config.task], config.dt)
    if config.task == "perceptual" or part == "test":
        return trials.draw(setting, count, seed)
    delays = config.delays
    each = [dataclasses.replace(setting, timing=(("delay", delay),)) for delay in delays]
    return trials.together([trials.draw(one, count // len(each), seed) for one in each])


def experiment(run: Run, config: Config) -> None:
    """Train, test the best checkpoint, write result.json and the picture."""
    setting = Setting(TASKS[config.task], config.dt)
    counts = {"train": config.trials, "valid": max(config.trials // 8, 64), "test": max(config.trials // 4, 64)}
    parts = {part: drawn(config, part, count, seed) for seed, (part, count) in enumerate(counts.items())}
    features, actions = parts["train"].seen.shape[-1], 1 + parts["train"].action.max()
    model = build(config, features, actions)
    run.start()
    console.print(
        f"{setting.name}: {', '.join(f'{len(found.seen):,} {part}' for part, found in parts.items())} trials of up to "
        f"{parts['train'].seen.shape[1]} steps of {config.dt} ms"
    )
    in_order = [take(parts["valid"], slice(start, start + 256)) for start in range(0, len(parts["valid"].seen), 256)]
    params, fitted = train(
        run,
        config,
        params=model.init(jax.random.key(config.seed)),
        loss=lambda params, batch, key: loss(model, params, batch, key),
        batches=shuffled(parts["train"], config.batch, config.seed),
        evaluate=mean_loss(lambda params, batch, key: loss(model, params, batch, key), in_order),
        unit="nats",
        counted=(config.batch, "trials"),
    )
    report(run, config, setting, fitted, model, params, parts["test"])


def ideal(setting: Setting, found: Trials) -> np.ndarray:
    """The direction [count] that an observer chooses who knows the task and sums up all that is seen: none does better."""
    start, stop = trials.periods(setting)["stimulus"]
    evidence = found.seen[:, start:stop, 2] - found.seen[:, start:stop, 1]
    return np.where(evidence.sum(1) > 0, 2, 1)


def by_strength(config: Config, setting: Setting, model: jrnn.Layered, params: Any) -> Curve:
    """How often “right” is chosen, by how many percent of the dots move there (below 0: to the left): a psychometric curve."""
    at = np.array(STRENGTHS if not config.smoke else (-51.2, 0, 51.2))
    shares = []
    for strength in at.tolist():
        found = trials.draw(setting, config.each, 3, ground_truth=int(strength > 0), coh=abs(strength))
        shares.append(
            [np.mean(c == 2) for c in (answer(model, params, found, config.seed).choice, ideal(setting, found))]
        )
    share, best = np.array(shares).T
    return Curve(at, share, config.each, best)


def by_delay(config: Config, setting: Setting, model: jrnn.Layered, params: Any) -> Curve:
    """How often the answer is right, by the delay in milliseconds."""
    at = np.array(DELAYS if not config.smoke else (200, 1000))
    shares = []
    for delay in at.tolist():
        found = trials.draw(dataclasses.replace(setting, timing=(("delay", delay),)), config.each, 3)
        shares.append(answer(model, params, found, config.seed).right.mean())
    return Curve(at, np.array(shares), config.each, None)


def report(
    run: Run, config: Config, setting: Setting, fitted: Any, model: jrnn.Layered, params: Any, test: Trials
) -> None:
    """What the best checkpoint answers; result.json and the picture."""
    answered = answer(model, params, test, config.seed)
    w = weights(model, params)
    metrics: dict[str, Any] = {
        "accuracy": float(answered.right.mean()),
        "fixated": float(answered.fixated.mean()),
        "connections": float((w != 0).mean()),
        "units_that_excite": int((w.sum(1) > 0).sum()),
    }
    said = f"{metrics['accuracy']:.1%} of {len(answered.right):,} test trials right"
    if config.task == "perceptual":
        curve = by_strength(config, setting, model, params)
        best = ideal(setting, test) == test.action[:, -1]
        moving = test.conditions["coh"] > 0
        metrics["accuracy_where_dots_move"] = float(answered.right[moving].mean())
        metrics["ideal_observer"] = {"accuracy": float(best.mean()), "where_dots_move": float(best[moving].mean())}
        said += (
            f" (an ideal observer: {best.mean():.1%}); {answered.right[moving].mean():.1%} of those where dots move together "
            f"({best[moving].mean():.1%})"
        )
    else:
        curve = by_delay(config, setting, model, params)
        each = zip(curve.at, curve.share, strict=True)
        said += "; after delays of " + ", ".join(f"{delay} ms {share:.1%}" for delay, share in each)
    metrics["curve"] = {"at": curve.at.tolist(), "share": curve.share.tolist()}
    picture = run.directory / f"{config.task}.png"
    pictures.draw(picture, setting, test, answered, curve, w, config.delays if config.task == "match" else ())
    said += f"; it fixated at {metrics['fixated']:.1%} of the steps before"
    finish(run, fitted, said, metrics=metrics, floors={"either choice": 0.5})


main = command(NAME, Config, experiment)

if __name__ == "__main__":
    main()
