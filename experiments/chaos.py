"""Chaos: random tanh networks forget where they began or never do, and Lyapunov exponents say which.

    python -m experiments.chaos

runs h = tanh(W h), W of independent normal numbers with variance g^2 / n, in half a minute of one core. As mean field theory has it
(Sompolinsky, Crisanti & Sommers 1988), it falls silent for gains g below 1 and is chaotic above: of 500 units the largest exponent
is 0.151, 0.306 and 0.425 a step at gains of 2, 3 and 4, the mean of three networks, where theory has 0.155, 0.310 and 0.434. The
picture is `chaos.png`.
"""

import dataclasses
import time
from pathlib import Path
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from numpy.polynomial.hermite_e import hermegauss

import jrnn
from experiments.common import pictures
from experiments.common.command import command
from experiments.common.options import Count, Limit
from experiments.common.run import Run, RunConfig, console
from jrnn.diagnostics import Lyapunov, kaplan_yorke, lyapunov

NAME = "chaos"
SHOWN = {0.8: "#2171b5", 1.5: "#fb6a4a", 3.0: "#a50f15"}
"""Gains of which single runs are drawn."""
APART = 1e-8  # of two runs at first
Sizes = Annotated[tuple[int, ...], Limit("one size or more, each at least 1", lambda value: min(value, default=0) >= 1)]
Gains = Annotated[tuple[float, ...], Limit("one gain or more, each above 0", lambda value: min(value, default=0) > 0)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """Find the largest Lyapunov exponent of random networks of several gains."""

    hidden: Sizes = (50, 500)
    """Units, of each size its own series."""
    gains: Gains = (0.5, 0.7, 0.9, 1.0, 1.1, 1.3, 1.5, 2.0, 2.5, 3.0, 4.0)
    """Of the weights."""
    networks: Count = 3
    """Random networks of each size and gain."""
    steps: Count = 1000
    """Of each run, a third of which are not counted."""
    spectrum: Count = 100
    """Units of the network at the largest gain whose exponents are all found."""

    SMOKE: ClassVar[dict[str, Any]] = {"hidden": (5,), "gains": (0.5, 3.0), "networks": 2, "steps": 60, "spectrum": 4}


def mean_field(gain: float) -> float:
    """The largest exponent with n without bound: log g up to 1; above, 1/2 log g^2 <(1 - tanh(x)^2)^2> of a normal x.

    The variance of x is what it is in the network: d = g^2 <tanh(x)^2>, by iteration and quadrature.
    """
    if gain <= 1:
        return float(np.log(gain))
    z, weights = hermegauss(201)
    weights = weights / weights.sum()
    variance = gain**2
    for _ in range(2000):
        variance = gain**2 * np.sum(weights * np.tanh(np.sqrt(variance) * z) ** 2)
    slopes = 1 - np.tanh(np.sqrt(variance) * z) ** 2
    return float(np.log(gain**2 * np.sum(weights * slopes**2)) / 2)


def draw_network(units: int, gain: float, seed: int) -> tuple[jrnn.Elman, jrnn.ElmanParams, jrnn.ElmanState]:
    """A network without inputs, and where it starts."""
    draws = np.random.default_rng((seed, units))
    w = gain * draws.standard_normal((units, units)) / np.sqrt(units)
    params = jrnn.ElmanParams(jnp.zeros((1, units)), jnp.asarray(w, float), jnp.zeros(units))
    return jrnn.Elman(1, units), params, jrnn.ElmanState(jnp.asarray(draws.standard_normal(units), float))


def largest(config: Config, units: int, gain: float, seed: int) -> Lyapunov:
    """The largest exponent of one network."""
    network = draw_network(units, gain, seed)
    return _followed(*network, steps=config.steps, skip=config.steps // 3, exponents=1)


def _run(
    cell: Any, params: Any, state: Any, *, steps: int, skip: int, exponents: int | None, every: int = 1
) -> Lyapunov:
    xs = jnp.zeros((steps, 1), params.w_h.dtype)
    return lyapunov(cell, params, xs, state, skip=skip, exponents=exponents, every=every)


_followed = jax.jit(_run, static_argnames=("steps", "skip", "exponents", "every"))


def separation(config: Config, gain: float) -> np.ndarray:
    """How far apart two runs are, [steps + 1], that began almost alike, once the network is on its way."""
    cell, params, state = draw_network(max(config.hidden), gain, config.seed)
    xs = jnp.zeros((config.steps // 3, 1), params.w_h.dtype)
    state, _ = jrnn.unroll(cell, params, xs, state)
    aside = jax.random.normal(jax.random.key(config.seed), state.h.shape, state.h.dtype)
    both = jrnn.ElmanState(jnp.stack([state.h, state.h + APART * aside / jnp.linalg.norm(aside)]))
    xs = jnp.zeros((config.steps // 4, 2, 1), params.w_h.dtype)
    _, ys = jrnn.unroll(cell, params, xs, both)
    ys = np.concatenate([both.h[None], ys])
    return np.linalg.norm(ys[:, 0] - ys[:, 1], axis=-1)


def draw(path: Path, config: Config, found: dict[int, np.ndarray]) -> None:
    """The exponents against the gain, what they mean, and whether they have settled."""
    figure = Figure(figsize=(16, 6), layout="constrained")
    figure.suptitle("h = tanh(W h), a network that drives itself: from forgetting to chaos at a gain of 1", fontsize=13)
    exponents, apart, settled = figure.subplots(1, 3)
    draw_exponents(exponents, config, found)
    for gain, colour in SHOWN.items():
        distance = separation(config, gain)
        steps = np.arange(len(distance))
        apart.semilogy(steps, distance, color=colour, linewidth=2, label=f"g = {gain:g}")
        line = distance[0] * np.exp(mean_field(gain) * steps)
        fits = (line < 30) & (line > 1e-16)
        apart.semilogy(steps[fits], line[fits], ":", color=colour)
        running = np.asarray(
            _followed(
                *draw_network(max(config.hidden), gain, config.seed), steps=config.steps, skip=0, exponents=1
            ).running
        )
        settled.plot(np.arange(1, len(running) + 1), running[:, 0], color=colour, linewidth=2, label=f"g = {gain:g}")
        settled.axhline(mean_field(gain), color=colour, linestyle=":")
    apart.set(
        title="What it means: two runs that begin 1e-8 apart",
        xlabel="steps",
        ylabel="distance between the two states",
        ylim=(1e-16, 300),
    )
    powers = range(-16, 3, 3)
    apart.set_yticks([10.0**power for power in powers], [f"1e{power}" for power in powers])
    apart.minorticks_off()
    settled.set(
        title="Has the exponent settled?",
        xlabel="steps",
        ylabel="largest exponent so far",
        ylim=(-0.6, 0.6),
    )
    for axes in (apart, settled):
        axes.plot([], [], "k:", label="theory: exp(exponent × steps)" if axes is apart else "theory")
        axes.legend(fontsize=9, loc="lower right")
        axes.grid(alpha=0.25)
    pictures.save(figure, path)


def draw_exponents(axes: Any, config: Config, found: dict[int, np.ndarray]) -> None:
    """Measured, and theory."""
    low, high = min(config.gains), max(config.gains)
    fine = np.linspace(low * 0.9, high * 1.05, 200)
    axes.axhspan(0, 0.6, color="#fdebe6", zorder=0)
    axes.axhspan(-1, 0, color="#e9f1f9", zorder=0)
    axes.text(high, 0.03, "chaos: gradients explode", ha="right", color="#a50f15")
    axes.text(high, -0.03, "forgetting: gradients vanish", ha="right", va="top", color="#2171b5")
    axes.plot(fine, [mean_field(gain) for gain in fine], "k:", label="theory, infinitely many units")
    for (units, values), marker, colour in zip(found.items(), "soD^v", ("0.6", "k", "#41ab5d", "#fe9929", "#54278f")):
        spread = values.std(1)
        axes.errorbar(
            config.gains,
            values.mean(1),
            spread,
            fmt=marker,
            markersize=5,
            capsize=3,
            color=colour,
            label=f"{units} units, {config.networks} networks",
        )
    axes.set(
        title="Largest Lyapunov exponent",
        xlabel="gain g of the weights, N(0, g²/n)",
        ylabel="growth of small differences a step, in nats",
        ylim=(-0.8, 0.6),
    )
    axes.legend(fontsize=9, loc="lower right", bbox_to_anchor=(1, 0.06))


def experiment(run: Run, config: Config) -> None:
    """Measure, draw, write result.json."""
    began = time.perf_counter()
    run.start()
    seeds = range(config.seed, config.seed + config.networks)
    with jax.enable_x64(True):
        found = {
            units: np.array(
                [[float(largest(config, units, gain, seed).exponents[0]) for seed in seeds] for gain in config.gains]
            )
            for units in config.hidden
        }
        picture = run.directory / "chaos.png"
        draw(picture, config, found)
        gain = max(config.gains)
        network = draw_network(config.spectrum, gain, config.seed)
        options = {"steps": config.steps, "skip": config.steps // 3, "exponents": None, "every": 2}
        spectrum = np.asarray(_followed(*network, **options).exponents)
    theory = {f"{gain:g}": mean_field(gain) for gain in config.gains}
    means = {f"{units} units": dict(zip(theory, values.mean(1).tolist())) for units, values in found.items()}
    whole = {
        "gain": gain,
        "units": config.spectrum,
        "above 0": int((spectrum > 0).sum()),
        "dimension": kaplan_yorke(spectrum),
    }
    metrics = {"largest exponent": {"theory": theory, **means}, "spectrum": whole}
    path = run.write_result(metrics=metrics, floors={}, seconds=time.perf_counter() - began)
    for gain, value in theory.items():
        console.print(
            f"g = {gain:4} theory {value:7.3f}  " + "  ".join(f"{name} {of[gain]:7.3f}" for name, of in means.items())
        )
    console.print(
        f"{whole['units']} units, g = {whole['gain']:g}: {whole['above 0']} exponents above 0, an attractor of dimension "
        f"{whole['dimension']:.1f} (Kaplan & Yorke)\n{path}; the picture is {picture}"
    )


main = command(NAME, Config, experiment)

if __name__ == "__main__":
    main()
