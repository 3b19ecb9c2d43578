"""Flip-flops: a network learns to remember bits, and the fixed points that it remembers them by are found.

    python -m experiments.flip_flop

Each of two inputs is silent but for a pulse of 1 or -1 now and then, and each of two outputs shall be the last pulse of its input
(Sussillo & Barak 2013). A GRU of 24 units learns it in 800 steps, within a minute of one core. With silent inputs 9 = 3^2 states
then stay where they are: 4 attract, one for each pair of bits; 4 are saddles between two of these, where one bit is decided; and
the last divides both bits. With three bits,

    python -m experiments.flip_flop --bits 3

they are 27 = 8 + 12 + 6 + 1: the vertices, edges and faces of a cube, and its centre. The picture is `fixed_points.png`;
TensorBoard has gradients by lag, gates and clipping while it learns.
"""

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import jrnn
from experiments.common import pictures, supervised
from experiments.common.command import command
from experiments.common.options import Count, Rate
from experiments.common.recurrent import Cell, CellConfig
from experiments.common.run import Run
from experiments.common.watch import look_inside
from jrnn import losses
from jrnn.diagnostics import FixedPoints, fixed_points, mixtures, vector

NAME = "flip_flop"
COLOURS = ("k", "#d62728", "#fe9929", "#ffd92f")  # by how many directions are unstable
SHOWN = 24  # rows whose paths are drawn


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(CellConfig, supervised.StepsConfig):
    """Train a network to remember bits, find its fixed points, and draw them."""

    bits: Count = 2
    """To remember, one input and one output each."""
    cell: Cell = "gru"
    hidden: Count = 24
    """Units."""
    time: Count = 60
    """Steps of a sequence."""
    rate: Rate = 0.08
    """Share of steps with a pulse, of each input."""
    batch: Count = 64
    """Sequences read side by side."""
    steps: Count = 800
    """Training steps, on new sequences each."""
    every: Count | None = 100
    learning_rate: float = 0.01
    starts: Count = 512
    """States from which fixed points are looked for, of a run and between them."""

    SMOKE: ClassVar[dict[str, Any]] = {"hidden": 4, "time": 12, "batch": 4, "steps": 4, "every": 2, "starts": 6}


class Pulses(NamedTuple):
    """Sequences and what shall be made of them."""

    x: np.ndarray  # float32 [time, batch, bits]: 1, -1 or 0
    y: np.ndarray  # float32 [time, batch, bits]: the last that was not 0


@dataclasses.dataclass(frozen=True)
class Sequences:
    """New sequences for every step."""

    config: Config
    length: int
    of: int = 0  # another number, other sequences

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, step: int) -> Pulses:
        config = self.config
        draws = np.random.default_rng((config.seed, self.of, step))
        shape = (config.time, config.batch, config.bits)
        pulse = draws.random(shape) < config.rate
        pulse[0] = True
        x = np.where(pulse, draws.choice([-1.0, 1.0], shape), 0.0).astype(np.float32)
        last = np.maximum.accumulate(np.where(pulse, np.arange(config.time)[:, None, None], 0))
        return Pulses(x, np.take_along_axis(x, last, 0))


def build(config: Config) -> jrnn.Layered:
    """A recurrent layer and a linear output."""
    layer = config.make_layer(config.bits)
    return jrnn.Layered((layer, jrnn.Dropout(config.dropout), jrnn.Dense(layer.output_size or 0, config.bits)))


def make_loss(model: jrnn.Layer) -> Any:
    """Mean squared error of all steps and bits."""

    def loss(params: Any, batch: Pulses, key: jax.Array | None) -> losses.Mean:
        return losses.squared_error(model.apply(params, batch.x, key=key)[1], jnp.asarray(batch.y), None)

    return loss


def find(config: Config, model: jrnn.Layer, params: Any, xs: jax.Array) -> FixedPoints:
    """The fixed points with silent inputs, from states of a run over `xs` and between them. In float64."""
    starts = mixtures(jax.random.key(config.seed), model, params, xs, count=config.starts)
    return fixed_points(model, params, jnp.zeros(config.bits, xs.dtype), starts, tolerance=1e-9, distinct=1e-2)


def train(run: Run, config: Config) -> None:
    """Train, find the fixed points of the best checkpoint, write result.json and the picture."""
    model = build(config)
    held_out = Sequences(config, 4, of=1)
    run.start()
    watched = Sequences(config, 1, of=3)[0]

    def last_error(ys: jax.Array) -> jax.Array:
        return jnp.sum(jnp.square(ys[-1] - watched.y[-1]))

    best, fitted = supervised.train(
        run,
        config,
        params=model.init(jax.random.key(config.seed)),
        loss=make_loss(model),
        batches=Sequences(config, config.steps),
        evaluate=supervised.mean_loss(make_loss(model), held_out),
        unit="mean squared error",
        counted=(config.batch, "sequences"),
        look=look_inside(last_error, model, jnp.asarray(watched.x)),
    )
    with jax.enable_x64(True):
        params = jax.tree.map(lambda a: jnp.asarray(np.asarray(a, np.float64)), best)
        test = Pulses(*(np.asarray(a, np.float64) for a in Sequences(config, 1, of=2)[0]))
        xs = jnp.asarray(test.x)
        points = find(config, model, params, xs)
        _, ys = model.apply(params, xs)
        right = float(np.mean(np.sign(ys) == test.y))
        picture = run.directory / "fixed_points.png"
        draw(picture, config, model, params, test, points)
    unstable = Counter(points.unstable.tolist())
    metrics = {
        "right": right,
        "fixed points": len(points.speeds),
        "by unstable directions": {str(count): unstable[count] for count in sorted(unstable)},
        "starts that led to one": int(points.counts.sum()),
    }
    found = " + ".join(str(unstable[count]) for count in sorted(unstable))
    said = (
        f"{right:.2%} of bits right\n{len(points.speeds)} fixed points{f' = {found}' if len(unstable) > 1 else ''}, by how many "
        f"directions are unstable; 3^{config.bits} = {3**config.bits}\n{picture}"
    )
    supervised.finish(run, fitted, said, metrics=metrics, floors={})


def draw(path: Path, config: Config, model: Any, params: Any, test: Pulses, points: FixedPoints) -> None:
    """The task, the states, the eigenvalues."""
    figure = Figure(figsize=(16, 6.5), layout="constrained")
    figure.suptitle(
        f"{config.cell.upper()} of {config.hidden} units that remembers {config.bits} bits: with silent inputs "
        f"{len(points.speeds)} states stay where they are",
        fontsize=13,
    )
    panels: Any = figure.subfigures(1, 3, width_ratios=[1, 1.3, 1])
    rows: Any = panels[0].subplots(config.bits, 1, sharex=True, squeeze=False)[:, 0]
    _, ys = model.apply(params, jnp.asarray(test.x))
    row = np.argmax((np.diff(test.y, axis=0) != 0).sum(0).min(-1))  # in which every bit changes
    for bit, axes in enumerate(rows):
        axes.stem(test.x[:, row, bit], linefmt="0.6", markerfmt=" ", basefmt=" ", label="input: pulses")
        axes.plot(test.y[:, row, bit], color="#2171b5", linestyle=":", label="to be remembered")
        axes.plot(ys[:, row, bit], color="#2171b5", linewidth=2, label="output")
        axes.set(ylim=(-1.4, 1.4), yticks=[-1, 0, 1], ylabel=f"bit {bit + 1}")
    rows[0].set_title("The task")
    rows[-1].set(xlabel="step")
    rows[-1].legend(fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.3), ncols=3, frameon=False)
    solid = config.bits > 2 and config.hidden > 2
    draw_states(panels[1].subplots(subplot_kw={"projection": "3d" if solid else None}), model, params, test, points)
    draw_eigenvalues(panels[2].subplots(), points)
    pictures.save(figure, path)


def draw_states(axes: Any, model: Any, params: Any, test: Pulses, points: FixedPoints) -> None:
    """Paths and fixed points, in the plane, or space, of the first principal components of the paths."""

    def body(state: Any, x: jax.Array) -> tuple[Any, jax.Array]:
        state, _ = model.step(params, state, x)
        return state, jax.vmap(vector)(state)

    start = model.initial_state(params, (test.x.shape[1],))
    states = np.asarray(jax.lax.scan(body, start, jnp.asarray(test.x))[1])  # [time, batch, n]
    centre = states.mean((0, 1))
    plane = np.linalg.svd((states - centre).reshape(-1, states.shape[-1]), full_matrices=False)[2]
    plane = plane[: 3 if axes.name == "3d" else 2]
    paths = (states - centre) @ plane.T
    for row in range(min(SHOWN, paths.shape[1])):
        axes.plot(*paths[:, row].T, color="0.8", linewidth=0.7, zorder=1)
    size = 0.12 * np.ptp(paths[..., 0])
    at = (np.asarray(jax.vmap(vector)(points.states)) - centre) @ plane.T
    zeros = jnp.zeros((len(at), test.x.shape[-1]), test.x.dtype)
    held = np.asarray(jax.vmap(lambda state, x: model.step(params, state, x)[1])(points.states, zeros))
    for place in range(len(at)):
        count = int(points.unstable[place])
        colour = COLOURS[min(count, len(COLOURS) - 1)]
        for number in range(count):
            along = plane @ np.real(points.directions[place, :, number])
            ends = at[place] + size * np.array([[-1], [1]]) * along
            axes.plot(*ends.T, color=colour, linewidth=2, zorder=2)
        axes.plot(*at[place], "o", color=colour, markersize=9, markeredgecolor="white", zorder=3)
        if count == 0:
            bits = " ".join("+" if bit > 0 else "−" for bit in held[place])
            axes.text(*at[place], f" {bits}", fontsize=12, fontweight="bold", zorder=4)
    axes.plot([], [], color="0.8", label="paths of the network")
    for count in sorted(set(points.unstable.tolist())):
        what = (
            "attract, and hold these bits" if count == 0 else f"unstable in {count}, along the line{'s'[: count > 1]}"
        )
        colour = COLOURS[min(count, len(COLOURS) - 1)]
        axes.plot([], [], "o", color=colour, label=f"{np.sum(points.unstable == count)} {what}")
    axes.legend(fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2, frameon=False)
    axes.set(title="Its states, and the fixed points among them", xlabel="first principal component", ylabel="second")
    if axes.name == "3d":
        axes.set(zlabel="third")


def draw_eigenvalues(axes: Any, points: FixedPoints) -> None:
    """Of a step around each fixed point."""
    angle = np.linspace(0, 2 * np.pi, 200)
    axes.plot(np.cos(angle), np.sin(angle), color="0.6", linewidth=1)
    for values, count in zip(points.eigenvalues, points.unstable, strict=True):
        axes.plot(values.real, values.imag, ".", color=COLOURS[min(count, len(COLOURS) - 1)], markersize=7)
    axes.set(
        aspect="equal",
        title="Eigenvalues of a step there:\noutside of the circle a direction grows",
        xlabel="real part",
        ylabel="imaginary part",
    )
    axes.grid(alpha=0.25)


main = command(NAME, Config, train)

if __name__ == "__main__":
    main()
