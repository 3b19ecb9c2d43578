"""What each of jrnn's workarounds for XLA's CPU backend gains with the jax at hand: a layer with it and without, interleaved.

    python -m experiments.benchmarks.workarounds --quick

Prints, for each of `jrnn.xla.WORKAROUNDS`, the time and the temporary memory without it over those with it, forward and in
training: above 1 it gains. The first row switches nothing off and shows the noise. What gains nothing anywhere is a candidate for
deletion. `--quick` takes about three minutes on two cores, the whole about fifteen with `--rounds 9 --seconds 3`; a killed run goes
on by --resume. Writes result.json.
"""

import contextlib
import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import jrnn
from experiments.benchmarks import measure
from experiments.common.command import explained, open_run
from experiments.common.run import RunConfig, console, write_json
from jrnn.arrays import feature_shape
from jrnn.online import Online, SnAp
from jrnn.xla import WORKAROUNDS, off

NAME = "benchmarks.workarounds"
NOTHING = "nothing"
LAYERS: dict[str, Callable[[int], jrnn.Layer]] = {
    "lstm": lambda units: jrnn.Recurrent(jrnn.LSTM(units, units)),
    "gru": lambda units: jrnn.Recurrent(jrnn.GRU(units, units)),
    "gru_before": lambda units: jrnn.Recurrent(jrnn.GRU(units, units, reset_after=False)),
    "conv_gru": lambda units: jrnn.Recurrent(jrnn.ConvGRU((8, 8, max(1, units // 16)), max(1, units // 16), 3)),
    "lstm_online": lambda units: Online(jrnn.Recurrent(jrnn.LSTM(units, units)), SnAp()),
}
OF_ONE = {"ordered_convolutions": "conv_gru", "rows_in_turn": "lstm_online"}
"""Workarounds for one of the layers alone; all others are measured without these."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """Which workarounds are switched off, and at which points."""

    data_dir: tyro.conf.Suppress[Path | None] = None
    keep: tyro.conf.Suppress[int] = 2

    seed: int = 0
    """Of weights, inputs and the order of the calls."""
    quick: bool = False
    """64 units alone, and the LSTM and the GRU."""
    names: tuple[Literal[tuple(WORKAROUNDS)], ...] = tuple(WORKAROUNDS)  # type: ignore[valid-type]
    """The workarounds."""
    cells: tuple[Literal[tuple(LAYERS)], ...] = tuple(LAYERS)  # type: ignore[valid-type]
    """Recurrent layers; the input size is the hidden size. The convolutional one has a sixteenth of the units at each of 8 x 8
    places, the one that learns online (SnAp-1) a window of one step."""
    hidden: tuple[int, ...] = (64, 256)
    """Units."""
    batch: int = 16
    """Rows."""
    time: int = 128
    """Steps."""
    dtypes: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")
    """Of weights and inputs."""
    rounds: int = 11
    """How often each program runs."""
    seconds: float = 5.0
    """Fewer rounds, but at least five, where they would take longer than this for one pair of programs."""

    def __post_init__(self) -> None:
        if min((*self.hidden, self.batch, self.time, self.rounds)) < 1:
            raise ValueError("--hidden, --batch, --time and --rounds are sizes; expected at least 1 of each")
        if self.quick:
            object.__setattr__(self, "hidden", self.hidden[:1])
            object.__setattr__(self, "cells", tuple(cell for cell in self.cells if cell != "gru_before"))


def program(
    layer: jrnn.Layer, params: Any, xs: jax.Array, state: Any, weights: jax.Array, mode: str
) -> tuple[str, measure.Program]:
    """The text and the compiled program of a run, or of its gradients."""

    def forward(params: Any, xs: jax.Array, state: Any) -> tuple[Any, jax.Array]:
        return layer.apply(params, xs, state)

    def train(params: Any, xs: jax.Array, state: Any) -> Any:
        def loss(params: Any, xs: jax.Array) -> tuple[jax.Array, Any]:
            final, ys = forward(params, xs, state)
            return jnp.sum((ys * weights).astype(jnp.float32)), final

        return jax.grad(loss, (0, 1), has_aux=True)(params, xs)

    lowered = jax.jit(forward if mode == "forward" else train).lower(params, xs, state)
    compiled = lowered.compile()

    def read(out: Any) -> dict[str, np.ndarray]:
        return {str(i): np.asarray(a, np.float64) for i, a in enumerate(jax.tree.leaves(out))}

    memory = compiled.memory_analysis()

    def call() -> Any:
        return jax.block_until_ready(compiled(params, xs, state))

    return lowered.as_text(), measure.Program(call, read, None, memory.temp_size_in_bytes if memory else None)


def compared(config: Config, name: str, layer: jrnn.Layer, dtype: str, mode: str) -> dict[str, float] | None:
    """Time and memory without the workaround over those with it; None where it changes nothing in the program."""
    rng = np.random.default_rng(config.seed)
    params = jax.tree.map(lambda a: a.astype(dtype), layer.init(jax.random.key(config.seed)))
    steps = 1 if isinstance(layer, Online) else config.time
    xs, weights = (
        jnp.asarray(rng.standard_normal((steps, config.batch, *size)), dtype)
        for size in map(feature_shape, (layer.input_size, layer.output_size))
    )
    state = layer.initial_state(params, (config.batch,))
    with off(name) if name != NOTHING else contextlib.nullcontext():
        without_text, without = program(layer, params, xs, state, weights, mode)
    text, plain = program(layer, params, xs, state, weights, mode)
    if text == without_text and name != NOTHING:
        return None
    off_by, which = measure.distance(without.read(without.call()), plain.read(plain.call()))
    if off_by > 2 * measure.tolerance(dtype):
        raise ValueError(f"{name} changes the numbers of {layer} in {dtype}: result {which} by {off_by:.1e}")
    pair = {"on": plain, "off": without}
    times = measure.interleave(pair, rounds=config.rounds, seconds=config.seconds, seed=config.seed)
    memory = [(p.temporary_bytes or 0) + 1 for p in (without, plain)]
    return {"time": float(np.median(times["off"]) / np.median(times["on"])), "memory": memory[0] / memory[1]}


def measured(config: Config, name: str) -> dict[str, dict[str, float] | None]:
    """Of every point, by its name."""
    found = {}
    cells = [cell for cell in config.cells if (cell == OF_ONE[name] if name in OF_ONE else cell not in OF_ONE.values())]
    for cell, hidden, dtype in itertools.product(cells, config.hidden, config.dtypes):
        for mode in ("forward", "train"):
            found[f"{cell} {hidden} {dtype} {mode}"] = compared(config, name, LAYERS[cell](hidden), dtype, mode)
    return found


def line(name: str, points: dict[str, dict[str, float] | None]) -> str:
    """The geometric means of both modes, and the best and the worst point."""
    cells = []
    for mode in ("forward", "train"):
        some = {point: ratios for point, ratios in points.items() if ratios and point.endswith(mode)}
        if not some:
            cells.append("same program")
            continue
        times = {point: ratios["time"] for point, ratios in some.items()}
        mean, memory = (float(np.exp(np.mean(np.log([r[of] for r in some.values()])))) for of in ("time", "memory"))
        best = max(times, key=times.__getitem__)
        cells.append(
            f"{mean:.2f} ({min(times.values()):.2f} to {times[best]:.2f}, {best.removesuffix(mode).strip()}), memory {memory:.2f}"
        )
    return f"| {name} | {cells[0]} | {cells[1]} | {WORKAROUNDS.get(name, 'the same program twice: the noise')} |"


def useless(result: dict[str, Any]) -> list[str]:
    """The workarounds that gain at no point more than the noise, in time or memory."""
    noise = max([ratios["time"] for ratios in result[NOTHING].values() if ratios], default=1.0)
    gains = {
        name: [r for r in points.values() if r and (r["time"] > max(noise, 1.02) or r["memory"] > 1.02)]
        for name, points in result.items()
        if name != NOTHING
    }
    return [name for name, some in gains.items() if not some]


def main(arguments: list[str] | None = None) -> None:
    with explained(NAME):
        run, config = open_run(NAME, Config, arguments)
        run.start()
        machine = measure.machine()
        console.print(f"{machine['processor']}, jax {machine['versions']['jax']}; run directory: {run.directory}")
        console.print("| off | time and memory, forward | training | what it does |\n|---|---|---|---|", markup=False)
        path = run.directory / "result.json"
        before = measure.measured_before(path, machine) if config.resume else None
        result: dict[str, Any] = before["workarounds"] if before else {}
        for name in (NOTHING, *config.names):
            if name not in result:
                result[name] = measured(config, name)
                write_json(path, {"machine": machine, "workarounds": result})
            console.print(line(name, result[name]), markup=False, soft_wrap=True)
        console.print(f"Nothing gained anywhere: {', '.join(useless(result)) or 'none of them'}", markup=False)


if __name__ == "__main__":
    main()
