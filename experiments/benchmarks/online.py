"""What online learners cost: a step of learning with each trace beside one without, in processor time.

    python -m experiments.benchmarks.online

Prints, for each cell and learner, the processor time of one step (forward, gradient, trace) over that of the same step without a
trace, truncated back-propagation, and the floats of the trace; for windows of one step and, of an LSTM, of several. These are
compiled as a loop over 20 windows; one row is of 20 calls of a training step, with a read-out and AdamW. All run in turn.
Writes result.json.
"""

import dataclasses
import time
from pathlib import Path
from typing import Any

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
POINTS = {  # cell, rows, steps of a window, whether each is a call of a training step
    "Elman 32, 1 row": (jrnn.Elman(32, 32), 1, 1, False),
    "GRU 128, 16 rows": (jrnn.GRU(32, 128), 16, 1, False),
    "LSTM 128, 16 rows": (jrnn.LSTM(32, 128), 16, 1, False),
    "the same, windows of 4": (jrnn.LSTM(32, 128), 16, 4, False),
    "the same, windows of 16": (jrnn.LSTM(32, 128), 16, 16, False),
    "LSTM 128, 16 rows, training steps": (jrnn.LSTM(32, 128), 16, 1, True),
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


def learner(cell: jrnn.Cell, rows: int, window: int, called: bool, method: Method | None) -> tuple[Any, int]:
    """A run of `WINDOWS` windows of learning, one program or as many calls of a training step; and the floats of its trace."""
    layer = jrnn.Recurrent(cell) if method is None else Online(jrnn.Recurrent(cell), method)
    params = layer.init(jax.random.key(0))
    shapes = jax.eval_shape(lambda: layer.initial_state(params, (rows,), jax.random.key(1)))
    floats = sum(a.size for a in jax.tree.leaves(shapes.trace)) if method else 0
    if floats > LARGEST:
        return None, floats
    state = layer.initial_state(params, (rows,), jax.random.key(1))
    xs = jnp.asarray(np.random.default_rng(0).standard_normal((WINDOWS, window, rows, cell.input_size)), jnp.float32)

    if called:
        return trainer(cell.output_size, layer, params, state, xs[0]), floats

    def learn(state: Any, xs: jax.Array) -> tuple[Any, Any]:
        def loss(params: Any) -> tuple[jax.Array, Any]:
            new, ys = layer.apply(params, xs, state)
            return jnp.sum(jnp.square(ys)), new

        gradient, new = jax.grad(loss, has_aux=True)(params)
        return new, jax.tree.map(jnp.sum, gradient)

    run = jax.jit(lambda state, xs: jax.lax.scan(learn, state, xs)).lower(state, xs).compile()
    return (lambda: jax.block_until_ready(run(state, xs))), floats


def trainer(outputs: int, layer: jrnn.Layer, params: Any, state: Any, xs: jax.Array) -> Any:
    """`WINDOWS` calls of a training step: a read-out whose square should be small, AdamW."""
    head, optimizer = jrnn.Dense(outputs, 1), optax.adamw(1e-3)

    def loss(params: Any, carry: Any, xs: jax.Array, key: jax.Array | None) -> tuple[Mean, Any]:
        carry, ys = layer.apply(params["layer"], xs, carry)
        _, made = head.apply(params["head"], ys)
        return squared_error(made, jnp.zeros_like(made), None), carry

    both = {"layer": params, "head": head.init(jax.random.key(2))}
    trained = [init_state(both, optimizer, jax.random.key(3), state)]
    step = make_step(loss, optimizer)

    def run() -> None:
        for _ in range(WINDOWS):
            trained[0], _ = step(trained[0], xs)
        jax.block_until_ready(trained[0])

    return run


def measured(cell: jrnn.Cell, rows: int, window: int, called: bool, rounds: int) -> dict[str, dict[str, float]]:
    """Processor time of a step in milliseconds and floats of the trace, by learner."""
    made = {name: learner(cell, rows, window, called, method) for name, method in METHODS.items()}
    runs = {name: run for name, (run, _) in made.items() if run is not None}
    best = dict.fromkeys(runs, np.inf)
    for _ in range(rounds + 1):  # the first warms up
        for name, run in runs.items():
            before = time.process_time()
            run()
            best[name] = min(best[name], time.process_time() - before)
    return {name: {"milliseconds": 1e3 * best[name] / WINDOWS / window, "floats": made[name][1]} for name in runs}


def main(arguments: list[str] | None = None) -> None:
    with explained(NAME):
        run, config = open_run(NAME, Config, arguments)
        run.start()
        result = {}
        console.print(f"| cell | {' | '.join(METHODS)} |\n|---|{'---|' * len(METHODS)}", markup=False)
        for name, (cell, rows, window, called) in POINTS.items():
            found = result[name] = measured(cell, rows, window, called, config.rounds)
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
