"""What online learners cost: a step of learning with each trace beside one without, in processor time.

    python -m experiments.benchmarks.online

Prints, for each cell and learner, the processor time of one step (forward, gradient, trace) over that of the same step without a
trace, truncated back-propagation, and the floats of the trace; for windows of one step and, of an LSTM, of several. These are
compiled as a loop over 20 windows; one row is of 20 calls of a training step, with AdamW. All run in turn.
Writes result.json.
"""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

import jrnn
from experiments.benchmarks import measure
from experiments.common.command import explained, open_run
from experiments.common.run import RunConfig, console, write_json
from jrnn.losses import Mean, squared_error
from jrnn.online import RTRL, UORO, EProp, Method, Online, SnAp, Truncated
from jrnn.train import init_state, make_step

NAME = "benchmarks.online"
WINDOWS = 20
METHODS: dict[str, Method | None] = {
    "none": None,
    "UORO": UORO(),
    "EProp": EProp(),
    "SnAp": SnAp(),
    "Truncated(16)": Truncated(16),
    "RTRL": RTRL(),
}
LARGEST = 2**27
"""Floats of a trace, above which a learner is left out."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """How often each learner runs."""

    data_dir: tyro.conf.Suppress[Path | None] = None
    keep: tyro.conf.Suppress[int] = 2
    rounds: int = 7
    """The least of so many times counts."""

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError(f"--rounds is {self.rounds}; expected at least 1")


Run = Callable[[], Any]


def compiled(layer: jrnn.Layer, params: Any, state: Any, xs: jax.Array) -> Run:
    """Forward, gradient and trace of all windows, as one program."""

    def learn(state: Any, xs: jax.Array) -> tuple[Any, Any]:
        def loss(params: Any) -> tuple[jax.Array, Any]:
            new, ys = layer.apply(params, xs, state)
            return jnp.sum(jnp.square(ys)), new

        gradient, new = jax.grad(loss, has_aux=True)(params)
        return new, jax.tree.map(jnp.sum, gradient)

    run = jax.jit(lambda state, xs: jax.lax.scan(learn, state, xs)).lower(state, xs).compile()
    return lambda: jax.block_until_ready(run(state, xs))


def trained(layer: jrnn.Layer, params: Any, state: Any, xs: jax.Array) -> Run:
    """A call of a training step, with AdamW, for each window."""

    def loss(params: Any, carry: Any, xs: jax.Array, key: jax.Array | None) -> tuple[Mean, Any]:
        carry, ys = layer.apply(params, xs, carry)
        return squared_error(ys, jnp.zeros_like(ys), None), carry

    optimizer, windows = optax.adamw(1e-3), list(xs)
    now, step = init_state(params, optimizer, jax.random.key(2), state), make_step(loss, optimizer)

    def run() -> Any:
        nonlocal now  # each step takes the memory of the state it is given
        for window in windows:
            now, _ = step(now, window)
        return jax.block_until_ready(now)

    return run


class Point(NamedTuple):
    """What is measured."""

    cell: jrnn.Cell
    rows: int
    window: int = 1  # steps
    run: Callable[..., Run] = compiled


POINTS = {
    "Elman 32, 1 row": Point(jrnn.Elman(32, 32), 1),
    "GRU 128, 16 rows": Point(jrnn.GRU(32, 128), 16),
    "LSTM 128, 16 rows": Point(jrnn.LSTM(32, 128), 16),
    "the same, windows of 4": Point(jrnn.LSTM(32, 128), 16, 4),
    "the same, windows of 16": Point(jrnn.LSTM(32, 128), 16, 16),
    "LSTM 128, 16 rows, training steps": Point(jrnn.LSTM(32, 128), 16, run=trained),
}


def learner(point: Point, method: Method | None) -> tuple[Run | None, int]:
    """A run of `WINDOWS` windows of learning, and the floats of its trace."""
    (cell, rows, window, run), layer = point, jrnn.Recurrent(point.cell)
    layer = layer if method is None else Online(layer, method)
    params = layer.init(jax.random.key(0))
    shapes = jax.eval_shape(lambda: layer.initial_state(params, (rows,), jax.random.key(1)))
    floats = sum(a.size for a in jax.tree.leaves(shapes.trace)) if method else 0
    if floats > LARGEST:
        return None, floats
    state = layer.initial_state(params, (rows,), jax.random.key(1))
    xs = jnp.asarray(np.random.default_rng(0).standard_normal((WINDOWS, window, rows, cell.input_size)), jnp.float32)
    return run(layer, params, state, xs), floats


def measured(point: Point, rounds: int) -> dict[str, dict[str, float]]:
    """Processor time of a step in milliseconds and floats of the trace, by learner."""
    made = {name: learner(point, method) for name, method in METHODS.items()}
    runs = {name: run for name, (run, _) in made.items() if run is not None}
    best = dict.fromkeys(runs, np.inf)
    for _ in range(rounds + 1):  # the first warms up
        for name, run in runs.items():
            before = time.process_time()
            run()
            best[name] = min(best[name], time.process_time() - before)
    steps = WINDOWS * point.window
    return {name: {"milliseconds": 1e3 * best[name] / steps, "floats": made[name][1]} for name in runs}


def main(arguments: list[str] | None = None) -> None:
    with explained(NAME):
        run, config = open_run(NAME, Config, arguments)
        run.start()
        result = {}
        console.print(f"| cell | {' | '.join(METHODS)} |\n|---|{'---|' * len(METHODS)}", markup=False)
        for name, point in POINTS.items():
            found = result[name] = measured(point, config.rounds)
            plain = found["none"]["milliseconds"]
            cells = [f"{plain:.3f} ms"]
            for method in list(METHODS)[1:]:
                one = found.get(method)
                cells.append(f"{one['milliseconds'] / plain:.1f}, {one['floats']:,.0f} floats" if one else "too large")
            console.print(f"| {name} | {' | '.join(cells)} |", markup=False)
        path = run.directory / "result.json"
        write_json(path, {"machine": measure.machine(), "steps": result})
        console.print(f"{path}")


if __name__ == "__main__":
    main()
