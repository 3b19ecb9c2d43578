"""Cures for gradients that vanish or explode, side by side on one task: how many steps does it take to learn to add?

The adding problem (Hochreiter & Schmidhuber 1997): of a sequence of numbers two are marked, one in each half, and at the end their
sum is asked for. A gradient has to come back over half of the sequence and more. What is tried, each beside what it cures:

- gradients that explode: clipping by value, or by norm (Pascanu, Mikolov & Bengio 2013), of a network of rectified units that
  starts as the identity;
- gradients that vanish: a start of the recurrent weights as an orthogonal matrix (Saxe et al. 2014) or as the identity (IRNN, Le
  et al. 2015), and the gradient-norm regularisation of Pascanu et al., `jrnn.regularizers.gradient_norm`;
- gates that forget: an LSTM whose forget gate starts open (Gers et al. 2000), or for memories of all lengths (chrono, Tallec &
  Ollivier 2018).

    python -m experiments.cures

tries each on 100 and 200 steps, in about two minutes of two cores. With the norm clipped the identity solves them in 300 and 750
training steps and without clipping never; an LSTM takes 700 and 1,400, with chrono's start 200 and 200.
"""

import concurrent.futures
import dataclasses
import functools
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jrnn
from experiments.common import pictures
from experiments.common.command import command, cores
from experiments.common.options import Count
from experiments.common.run import Run, RunConfig, console
from jrnn import initializers, losses, regularizers

NAME = "cures"
SOLVED = 0.1  # mean squared error over the variance of the sums
EVERY = 50  # steps between two tests
TESTED = 512  # sequences


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """Train a small network for each cure and each length of the adding problem."""

    lengths: tuple[int, ...] = (100, 200)
    """Steps of a sequence."""
    steps: Count = 1500
    """Training steps after which one gives up."""
    hidden: Count = 32
    """Units."""
    batch: Count = 32
    """Sequences side by side, new ones in every step."""
    only: tuple[str, ...] = ()
    """The cures to try, by the names in the table; by default all."""

    SMOKE: ClassVar[dict[str, Any]] = {"lengths": (10,), "steps": 50, "hidden": 4}

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.lengths, default=0) < 4:
            raise ValueError(f"--lengths is {self.lengths}; expected one or more of at least 4 steps")
        if unknown := set(self.only) - set(CURES):
            raise ValueError(f"--only is {sorted(unknown)}; expected some of {', '.join(CURES)}")


Start = Callable[[jax.Array, jrnn.Cell, Any, int], Any]  # key, cell, params, steps of a sequence -> params


@dataclasses.dataclass(frozen=True)
class Cure:
    """One way to train."""

    family: str
    about: str
    cell: Callable[[int, int], jrnn.Cell]
    start: Start
    rate: Callable[[int], float]  # of a length: Adam's learning rate
    clipping: optax.GradientTransformation
    regularisation: float = (
        0.0  # times the mean of Omega over a sequence, at first; it falls to 0 over `REGULARISED` steps
    )


def rectified(inputs: int, hidden: int) -> jrnn.Cell:
    return jrnn.Elman(inputs, hidden, activation="relu")


def orthogonal(key: jax.Array, cell: jrnn.Cell, params: Any, length: int, scale: float = 1.0) -> Any:
    inputs, recurrent = jax.random.split(key)
    return initializers.orthogonal(recurrent, cell, initializers.uniform(inputs, cell, params, 0.4), scale)


def identity(key: jax.Array, cell: jrnn.Cell, params: Any, length: int) -> Any:
    return initializers.identity(cell, initializers.uniform(key, cell, params, 0.4))


def plain(key: jax.Array, cell: jrnn.Cell, params: Any, length: int) -> Any:
    """As PyTorch has it: forget gates start half open."""
    return initializers.uniform(key, cell, params)


def open_gates(key: jax.Array, cell: jrnn.Cell, params: Any, length: int) -> Any:
    return initializers.forget_bias(cell, plain(key, cell, params, length), 1.0)


def chrono(key: jax.Array, cell: jrnn.Cell, params: Any, length: int) -> Any:
    drawn, gates = jax.random.split(key)
    return initializers.chrono(gates, cell, plain(drawn, cell, params, length), longest=length)


def of_powers(length: int) -> float:
    """The learning rate of weights that are multiplied by themselves as often as a sequence is long."""
    return min(0.003, 0.6 / length)


def of_gates(length: int) -> float:
    return 0.01


EXPLODE, VANISH, FORGET = "Gradients that explode", "Gradients that vanish", "Gates that forget"
CLIP = optax.clip_by_global_norm(1.0)
small = functools.partial(orthogonal, scale=0.1)
CURES = {
    "no clipping": Cure(EXPLODE, "identity start, no clipping", rectified, identity, of_powers, optax.identity()),
    "clipping by value": Cure(
        EXPLODE, "identity start, each entry clipped", rectified, identity, of_powers, optax.clip(0.1)
    ),
    "clipping by norm": Cure(EXPLODE, "identity start, norm clipped", rectified, identity, of_powers, CLIP),
    "small start": Cure(VANISH, "small start", rectified, small, of_powers, CLIP),
    "small start, regularised": Cure(
        VANISH, "small start, gradient norm regularised", rectified, small, of_powers, CLIP, 0.3
    ),
    "orthogonal start": Cure(VANISH, "orthogonal start", rectified, orthogonal, of_powers, CLIP),
    "identity start": Cure(VANISH, "identity start (IRNN)", rectified, identity, of_powers, CLIP),
    "LSTM": Cure(FORGET, "LSTM, forget gates half open", jrnn.LSTM, plain, of_gates, CLIP),
    "LSTM, forget bias 1": Cure(FORGET, "LSTM, forget bias 1", jrnn.LSTM, open_gates, of_gates, CLIP),
    "LSTM, chrono start": Cure(FORGET, "LSTM, chrono start", jrnn.LSTM, chrono, of_gates, CLIP),
}


class Params(NamedTuple):
    cell: Any  # of the cell
    w: jax.Array  # [hidden]
    b: jax.Array  # []


def sequences(key: jax.Array, count: int, length: int) -> tuple[jax.Array, jax.Array]:
    """Numbers in ±1 and marks, xs [length, count, 2], and the sums [count] of the marked ones, of variance 1."""
    drawn, first, second = jax.random.split(key, 3)
    numbers = jax.random.uniform(drawn, (length, count), minval=-1.0, maxval=1.0)
    places = (
        jax.random.randint(first, (count,), 0, length // 2),
        jax.random.randint(second, (count,), length // 2, length),
    )
    marks = sum(jax.nn.one_hot(place, length, axis=0) for place in places)
    return jnp.stack([numbers, marks], -1), (numbers * marks).sum(0) * math.sqrt(1.5)


class Found(NamedTuple):
    """How one went."""

    errors: list[float]  # after every `EVERY` steps; the last is the first below SOLVED, if any is
    seconds: float

    @property
    def solved(self) -> int | None:
        """The steps it took; None: more than there were."""
        return EVERY * len(self.errors) if self.errors[-1] < SOLVED else None


def make_optimizer(cure: Cure, length: int) -> optax.GradientTransformation:
    return optax.chain(cure.clipping, optax.adam(cure.rate(length)))


def learn(config: Config, cure: Cure, length: int) -> Found:
    """Train on fresh sequences until it is solved."""
    began = time.perf_counter()
    cell = cure.cell(2, config.hidden)
    weights, start, output, drawing, testing = jax.random.split(jax.random.key(config.seed), 5)
    optimizer = make_optimizer(cure, length)
    params = Params(
        cell=cure.start(start, cell, cell.init(weights), length),
        w=jax.random.uniform(output, (config.hidden,), minval=-1, maxval=1) / math.sqrt(config.hidden),
        b=jnp.zeros(()),
    )

    def error(params: Params, h: jax.Array, sums: jax.Array) -> jax.Array:
        return losses.squared_error(h @ params.w + params.b, sums, None).value

    def loss(params: Params, key: jax.Array) -> jax.Array:
        xs, sums = sequences(key, config.batch, length)
        state: Any = jrnn.unroll(cell, params.cell, xs)[0]
        value = error(params, state.h, sums)
        if cure.regularisation:
            omega = regularizers.gradient_norm(cell, params.cell, xs, lambda states: error(params, states.h[-1], sums))
            value += cure.regularisation * omega.value / length
        return value

    @jax.jit
    def several(params: Params, state: Any, done: jax.Array) -> tuple[Params, Any]:
        """Some steps in one program: one by one they would wait for Python."""

        def step(carry: Any, number: jax.Array) -> tuple[Any, None]:
            params, state = carry
            gradient = jax.grad(loss)(params, jax.random.fold_in(drawing, number))
            updates, state = optimizer.update(gradient, state, params)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, state), done + jnp.arange(EVERY))[0]

    @jax.jit
    def test(params: Params) -> jax.Array:
        xs, sums = sequences(testing, TESTED, length)
        return error(params, jrnn.unroll(cell, params.cell, xs)[0].h, sums)

    state, errors = optimizer.init(params), []
    for done in range(0, config.steps, EVERY):
        params, state = several(params, state, jnp.int32(done))
        errors.append(float(test(params)))
        if not errors[-1] >= SOLVED:  # NaN too
            break
    return Found([one if math.isfinite(one) else math.inf for one in errors], time.perf_counter() - began)


def experiment(run: Run, config: Config) -> None:
    """Every cure on every length, as many at a time as there are cores; result.json, a table and a picture."""
    began = time.perf_counter()
    run.start()
    chosen = {name: cure for name, cure in CURES.items() if not config.only or name in config.only}
    found: dict[tuple[str, int], Found] = {}
    with concurrent.futures.ThreadPoolExecutor(cores()) as pool:
        waiting = {
            pool.submit(learn, config, cure, length): (name, length)
            for length in config.lengths
            for name, cure in chosen.items()
        }
        for future in concurrent.futures.as_completed(waiting):
            name, length = waiting[future]
            one = found[name, length] = future.result()
            console.print(f"{length:5} steps, {name}: {words(one, config)}, {one.seconds:.0f} s")
    draw(run.directory / "cures.png", config, chosen, found)
    metrics = {
        name: {
            str(length): found[name, length]._asdict() | {"solved": found[name, length].solved}
            for length in config.lengths
        }
        for name in chosen
    }
    path = run.write_result(metrics=metrics, floors={"the mean of all sums": 1.0}, seconds=time.perf_counter() - began)
    console.print(f"\n| steps to solve it | {' | '.join(f'length {length}' for length in config.lengths)} |")
    console.print(f"|{'---|' * (1 + len(config.lengths))}")
    for name, cure in chosen.items():
        console.print(
            f"| {cure.about} | {' | '.join(words(found[name, length], config) for length in config.lengths)} |"
        )
    console.print(f"\n{(time.perf_counter() - began) / 60:.1f} minutes; {path}")


def words(found: Found, config: Config) -> str:
    """The steps it took, or how far it came."""
    if found.solved:
        return f"{found.solved:,}"
    return (
        f"not in {config.steps:,} ({min(found.errors[-1], 99):.2g})" if math.isfinite(found.errors[-1]) else "overflow"
    )


def draw(path: Path, config: Config, chosen: dict[str, Cure], found: dict[tuple[str, int], Found]) -> None:
    """Errors over training: a column for what is wrong, a line for each cure, a row for each length."""
    from matplotlib.figure import Figure  # slow to import

    families = list(dict.fromkeys(cure.family for cure in chosen.values()))
    lengths = config.lengths
    figure = Figure(figsize=(1 + 4.6 * len(families), 1.4 + 3.0 * len(lengths)), layout="constrained")
    grid = figure.subplots(len(lengths), len(families), sharex=True, sharey=True, squeeze=False)
    colours = ("#8c8c8c", "#ff7f0e", "#2ca02c", "#1f77b4")
    for (row, column), axes in np.ndenumerate(grid):
        cures = [(name, cure) for name, cure in chosen.items() if cure.family == families[column]]
        for (name, cure), colour in zip(cures, colours):
            one = found[name, lengths[row]]
            errors = np.minimum(one.errors, 10.0)
            steps = EVERY * np.arange(1, len(errors) + 1)
            axes.semilogy(np.append(0, steps), np.append(1.0, errors), color=colour, linewidth=1.6, label=cure.about)
            if one.solved:
                axes.plot(steps[-1], errors[-1], "o", color=colour, markersize=7)
                axes.annotate(f"{one.solved:,}", (steps[-1], errors[-1]), xytext=(0, -13), textcoords="offset points", color=colour,
                              ha="center", fontsize=8)  # fmt: skip
        axes.axhline(SOLVED, color="black", linewidth=0.8, linestyle=":")
        axes.set_ylim(0.01, 9)
        axes.yaxis.set_major_formatter("{x:g}")
        if row == 0:
            axes.set_title(families[column], fontsize=12)
            axes.legend(fontsize=8, loc="upper right", framealpha=0.9)
        if column == 0:
            axes.set_ylabel(f"{lengths[row]} steps long\n\nerror")
            axes.text(0.01 * config.steps, SOLVED * 0.93, "solved", fontsize=8, va="top")
        if row == len(lengths) - 1:
            axes.set_xlabel("training steps")
    figure.suptitle(
        "Adding two marked numbers of a long sequence: grey is without the cure, a dot is where it is solved",
        fontsize=13,
    )
    pictures.save(figure, path)


main = command(NAME, Config, experiment)

if __name__ == "__main__":
    main()
