"""Vanishing and exploding gradients: what of an error reaches the states before it, network by network.

    python -m experiments.vanishing

measures |d loss / d state| against the number of steps between the two, for networks of 64 units as they are before training, in
15 seconds of one core. Without tanh a simple network multiplies it in every step by the spectral radius of its weights: 0.50, 0.90,
1.10 and 1.50. With tanh and inputs it is 0.49, 0.85, 0.97 and 1.00: a radius above 1 need not explode. An LSTM's factor is 0.70,
0.91 and 1.02 with forget biases of 0, 1 and 3, and 0.99 with chrono initialisation; a GRU's 0.71, an IRNN's 0.99. The picture is
`vanishing.png`.
"""

import dataclasses
import time
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import jrnn
from experiments.common import pictures
from experiments.common.command import command
from experiments.common.options import Count
from experiments.common.run import Run, RunConfig, console
from jrnn import initializers
from jrnn.diagnostics import gradient_by_lag, weight_spectra

NAME = "vanishing"
RADII = {0.5: "#6baed6", 0.9: "#2171b5", 1.1: "#fb6a4a", 1.5: "#a50f15"}
LOWEST, HIGHEST = 1e-12, 1e9


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """Measure gradients by lag, and draw them."""

    hidden: Count = 64
    """Units of each network."""
    inputs: Count = 8
    """Features of the inputs, which are normal noise."""
    time: Count = 120
    """Steps of a sequence."""
    batch: Count = 16
    """Sequences, of which the median is drawn."""

    SMOKE: ClassVar[dict[str, Any]] = {"hidden": 6, "time": 12, "batch": 2}


class Network(NamedTuple):
    """A network as it is before training."""

    name: str
    cell: jrnn.Cell
    params: Any
    colour: str
    dashed: bool = False


class Reach(NamedTuple):
    """How far back its gradients go."""

    network: Network
    norms: np.ndarray  # [time]: over that of lag 1, the median of the rows
    factor: float  # of a step


def simple(config: Config, radius: float, activation: str) -> Network:
    """An Elman network of random weights with that spectral radius."""
    cell = jrnn.Elman(config.inputs, config.hidden, activation=activation)
    params = cell.init(jax.random.key(config.seed))
    w = jax.random.normal(jax.random.key(config.seed + 1), params.w_h.shape) / np.sqrt(config.hidden)
    params = initializers.spectral_radius(cell, params._replace(w_h=w, w_x=0.3 * params.w_x), radius)
    plain = activation == "identity"
    return Network(f"radius {radius}{', no tanh' if plain else ''}", cell, params, RADII[radius], dashed=plain)


def cures(config: Config) -> list[Network]:
    """What has been found against it, with the parameters that each starts from."""
    key, size = jax.random.key(config.seed), (config.inputs, config.hidden)
    elman, gru, lstm = jrnn.Elman(*size), jrnn.GRU(*size), jrnn.LSTM(*size)
    irnn = jrnn.Elman(*size, activation="relu")
    longest = max(config.time, 3)
    biases = {0.0: "#bcbddc", 1.0: "#807dba", 3.0: "#54278f"}
    return [
        Network("Elman, orthogonal", elman, elman.init(key), "#2171b5"),
        Network("IRNN: ReLU, identity", irnn, initializers.identity(irnn, irnn.init(key)), "#41ab5d"),
        Network("GRU", gru, gru.init(key), "#fe9929"),
        *(
            Network(f"LSTM, forget bias {bias:g}", lstm, initializers.forget_bias(lstm, lstm.init(key), bias), colour)
            for bias, colour in biases.items()
        ),
        Network(
            f"LSTM, chrono to {longest}",
            lstm,
            initializers.chrono(jax.random.fold_in(key, 1), lstm, lstm.init(key), longest),
            "k",
        ),
    ]


def measure(config: Config, networks: list[Network]) -> list[Reach]:
    """Gradients by lag of each, of the same inputs and the same loss: the last output along a fixed random direction."""
    draws = np.random.default_rng(config.seed)
    xs = jnp.asarray(draws.standard_normal((config.time, config.batch, config.inputs)))
    along = jnp.asarray(draws.standard_normal(config.hidden))
    run = jax.jit(lambda cell, params: gradient_by_lag(lambda ys: jnp.sum(ys[-1] @ along), cell, params, xs))
    found = []
    for network in networks:
        lags = run(network.cell, jax.tree.map(lambda a: jnp.asarray(a, float), network.params))
        norms = np.median(np.asarray(lags.norms / lags.norms[0]), axis=1)
        found.append(Reach(network, norms, float(np.median(lags.factor))))
    return found


def words(reach: Reach) -> str:
    """What the factor of a step comes to."""
    steps = np.log(1000) / np.abs(np.log(reach.factor))
    if steps > 1000:
        return f"× {reach.factor:.2f} a step: neither"
    return f"× {reach.factor:.2f} a step: {'1/1000' if reach.factor < 1 else '1000 times'} after {steps:,.0f}"


def draw(path: Path, simple_ones: list[Reach], cured: list[Reach], time: int) -> None:
    """Both groups side by side."""
    figure = Figure(figsize=(16, 7), layout="constrained")
    figure.suptitle(
        "How much of an error at the last step reaches the states before it?\n"
        "A straight line is a constant factor a step: down it vanishes, up it explodes",
        fontsize=13,
    )
    left, right = figure.subplots(1, 2, sharey=True)
    left.set_title("The simple network, by the spectral radius of its weights")
    right.set_title("The cures, before training: near 1 reaches far")
    for axes, group in ((left, simple_ones), (right, cured)):
        draw_group(axes, group, time)
    note = "vanished: beside the last step's gradient\nfloat32 rounds it away"
    left.text(0.985, 0.02, note, transform=left.transAxes, color="0.35", fontsize=9, ha="right", va="bottom")
    left.set_ylabel("|d loss / d state|; one step before the loss it is 1")
    pictures.save(figure, path)


def draw_group(axes: Any, group: list[Reach], time: int) -> None:
    """Gradients by lag, and the zone where they are of no use."""
    axes.axhspan(LOWEST, 2.0**-24, color="0.92", zorder=0)
    axes.axhline(1, color="0.5", linewidth=0.8, linestyle=":")
    for reach in sorted(group, key=lambda reach: -reach.factor):
        name, _, _, colour, dashed = reach.network
        steps, label = np.arange(1, time + 1), f"{name}\n{words(reach)}"
        axes.semilogy(steps, reach.norms, "--" if dashed else "-", color=colour, linewidth=2, label=label)
    axes.set(xlim=(1, time), ylim=(LOWEST, HIGHEST), xlabel="steps between the state and the loss")
    powers = np.arange(round(np.log10(LOWEST)), np.log10(HIGHEST), 3)
    axes.set_yticks(10.0**powers, [f"1e{power:.0f}" if power else "1" for power in powers])
    axes.minorticks_off()
    axes.grid(alpha=0.25)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9, labelspacing=1.1, frameon=False)


def experiment(run: Run, config: Config) -> None:
    """Measure, draw, write result.json."""
    began = time.perf_counter()
    run.start()
    kinds = [(radius, activation) for activation in ("tanh", "identity") for radius in RADII]
    networks = [simple(config, *kind) for kind in kinds]
    with jax.enable_x64(True):  # float32 has no room for what vanishes
        simple_ones, cured = measure(config, networks), measure(config, cures(config))
    picture = run.directory / "vanishing.png"
    draw(picture, simple_ones, cured, config.time)
    metrics: dict[str, Any] = {"factor": {reach.network.name: reach.factor for reach in simple_ones + cured}}
    metrics["largest singular value"] = {
        network.name: float(weight_spectra(network.cell, network.params)["w_h.h"].norms)
        for network in networks[: len(RADII)]
    }
    path = run.write_result(metrics=metrics, floors={}, seconds=time.perf_counter() - began)
    for reach in simple_ones + cured:
        console.print(f"{reach.network.name:24} {words(reach)}")
    console.print(f"{path}; the picture is {picture}")


main = command(NAME, Config, experiment)

if __name__ == "__main__":
    main()
