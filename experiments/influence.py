"""Influence balancing: a parameter that helps at once and harms in the long run, and who finds that out.

23 units pass half of what they hold to the unit before them. One parameter pushes 10 of them up and 13 down, and the first one
shall rise to 1 (Tallec & Ollivier 2018, section 5). At once a larger parameter raises it; after as many steps as there are units,
it lowers it. Truncated back-propagation sees the first alone, goes the wrong way and never comes back, unless it looks far enough
behind; learners that keep the influence of the parameter, exactly (RTRL) or at random (UORO), find the minimum. All learn at
every step.

    python -m experiments.influence

draws the losses of five learners over 200,000 steps, in ten seconds of one core. From 1.1, that of truncation to 1 step ends at
1,100 and to 10 steps at 8e26, both growing; to 100 steps and RTRL at 8e-8, UORO at 7e-12, with the parameter at -1/6.
"""

import dataclasses
import time
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jrnn
from experiments.common import pictures
from experiments.common.command import command
from experiments.common.options import Count, Limit
from experiments.common.run import Run, RunConfig, console
from jrnn.online import RTRL, UORO, Online, Truncated

NAME = "influence"
UP, DOWN = 10, 13  # units that the parameter pushes up and down
SHOWN = 400  # points of each curve


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """Learn one parameter online, by five learners."""

    steps: Count = 200_000
    """Of time; the parameter changes at each."""
    learning_rate: Annotated[float, Limit("more than 0", lambda value: value > 0)] = 2e-5
    """At first; after t steps divided by sqrt(1 + t / 1000)."""

    SMOKE: ClassVar[dict[str, Any]] = {"steps": 2_000}


class Params(NamedTuple):
    theta: jax.Array  # []


class State(NamedTuple):
    x: jax.Array  # [*batch, 23]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Balance(jrnn.Cell[Params, State]):
    """x_t = (x_{t-1} + shifted x_{t-1}) / 2 + theta s, where s is 1 for 10 units and -1 for 13, and y_t the first unit.

    Its input is a clock: it counts for nothing.
    """

    input_size: int = 1
    output_size: int = 1

    def init(self, key: jax.Array) -> Params:
        return Params(jnp.float32(-0.5))

    def initial_state(self, params: Params, batch: tuple[int, ...] = (), key: jax.Array | None = None) -> State:
        return State(jnp.zeros((*batch, UP + DOWN), params.theta.dtype))

    def project(self, params: Params, x: jax.Array) -> jax.Array:
        signs = jnp.asarray([1] * UP + [-1] * DOWN, params.theta.dtype)
        push = signs * jnp.broadcast_to(params.theta, signs.shape)
        return jnp.broadcast_to(push, (*x.shape[:-1], *signs.shape))

    def recur(self, params: Params, state: State) -> jax.Array:
        passed = jnp.concatenate([state.x[..., 1:], jnp.zeros_like(state.x[..., :1])], -1)
        return (state.x + passed) / 2

    def update(self, params: Params, state: State, z: jax.Array, r: jax.Array) -> State:
        return State(z + r)

    def readout(self, params: Params, state: State, x: jax.Array) -> jax.Array:
        return state.x[..., :1]


LAYER = jrnn.Recurrent(Balance())
LEARNERS: dict[str, jrnn.Layer] = {
    "truncated to 1 step": LAYER,
    "truncated to 10 steps": Online(LAYER, Truncated(9)),
    "truncated to 100 steps": Online(LAYER, Truncated(99)),
    "UORO": Online(LAYER, UORO()),
    "RTRL": Online(LAYER, RTRL()),
}
STYLES = (("#6baed6", "-"), ("#2171b5", "-"), ("#08306b", "-"), ("#d62728", "-"), ("#ff9f1c", "--"))


class Curve(NamedTuple):
    loss: np.ndarray  # [steps]
    theta: np.ndarray  # [steps]


def learn(layer: jrnn.Layer, config: Config) -> Curve:
    """One update at every step, of (x_1 - 1)² / 2."""
    params = layer.init(jax.random.key(config.seed))
    state = layer.initial_state(params, (), jax.random.key(config.seed))

    def loss(params: Params, state: Any) -> tuple[jax.Array, Any]:
        state, y = layer.step(params, state, jnp.zeros(1))
        return jnp.square(y[0] - 1) / 2, state

    def step(carry: Any, t: jax.Array) -> Any:
        params, state = carry
        (value, state), gradient = jax.value_and_grad(loss, has_aux=True)(params, state)
        rate = config.learning_rate / jnp.sqrt(1 + t / 1000)
        return (Params(params.theta - rate * gradient.theta), state), (value, params.theta)

    times = jnp.arange(config.steps, dtype=jnp.float32)
    return Curve(*map(np.asarray, jax.jit(lambda: jax.lax.scan(step, (params, state), times)[1])()))


def draw(path: Path, curves: dict[str, Curve]) -> None:
    """Losses over time."""
    from matplotlib.figure import Figure  # slow to import

    figure = Figure(figsize=(11, 5.6), layout="constrained")
    axes = figure.subplots()
    low, high = 1e-13, 1e7
    for (name, curve), (colour, style) in zip(curves.items(), STYLES, strict=True):
        every = max(len(curve.loss) // SHOWN, 1)
        seen = np.clip(np.where(np.isfinite(curve.loss), curve.loss, np.inf)[::every], low, 2 * high)
        last = seen[-1] if seen[-1] < high else high
        axes.semilogy(np.arange(len(seen)) * every, seen, color=colour, linestyle=style, linewidth=2)
        near = 8 * (name == "RTRL") - 8 * (name == "truncated to 100 steps")  # the two curves lie on each other
        axes.annotate(
            f"{name}: {curve.loss[-1]:.1g}" + (", and growing" if last > curve.loss[0] else ""), (1, last),
            xycoords=("axes fraction", "data"), xytext=(8, near), textcoords="offset points", color=colour, va="center",
        )  # fmt: skip
    axes.yaxis.set_major_formatter("{x:g}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set(
        xlabel="time step, one update at each", ylabel="loss", ylim=(low, high), xlim=(0, len(curves["RTRL"].loss)),
        title="A parameter that helps at once and harms later: which learners find out?",
    )  # fmt: skip
    axes.text(
        0.02, 0.03, "The level ends of the curves are those of float32: it has no smaller step than the last.",
        transform=axes.transAxes, fontsize=9, color="#555555",
    )  # fmt: skip
    pictures.save(figure, path)


def experiment(run: Run, config: Config) -> None:
    """Learn by each learner, draw, write result.json."""
    began = time.perf_counter()
    run.start()
    curves = {}
    for name, layer in LEARNERS.items():
        curves[name] = learn(layer, config)
        last = curves[name]
        console.print(
            f"{name:24} loss {last.loss[0]:.3g} at first, {last.loss[-1]:.2g} in the end, theta {last.theta[-1]:.5g}"
        )
    draw(run.directory / "influence.png", curves)
    metrics = {name: {"loss": float(c.loss[-1]), "theta": float(c.theta[-1])} for name, c in curves.items()}
    path = run.write_result(metrics=metrics, floors={}, seconds=time.perf_counter() - began)
    console.print(f"{path}; the picture is {run.directory / 'influence.png'}")


main = command(NAME, Config, experiment)

if __name__ == "__main__":
    main()
