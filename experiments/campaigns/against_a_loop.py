"""`unroll` and layers against a plain Python loop over `step`, on random shapes, lengths, masks, resets, dtypes and states.

    python -m experiments.campaigns.against_a_loop --examples 100000

Hypothesis draws and shrinks what differs. The loop takes one step at a time: a step that is padded leaves the state alone and gives
zeros, one that is reset begins from the initial state. Outputs, states and, for floats, the gradient of the inputs are compared.
Most of the time is compiling two thousand combinations, once each: 98 minutes of two cores beside other work. Prints what was tried
and writes against_a_loop.json.
"""

import concurrent.futures
import dataclasses
import functools
import multiprocessing
import sys
from pathlib import Path
from time import perf_counter as clock
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jrnn
from experiments.benchmarks import measure
from experiments.common.command import command, cores
from experiments.common.extras import need
from experiments.common.options import Count, NewFile
from experiments.common.run import console, write_json

NAME = "campaigns.against_a_loop"
INPUT, HIDDEN = 3, 4
MODELS: dict[str, Any] = {
    "Elman": jrnn.Recurrent(jrnn.Elman(INPUT, HIDDEN)),
    "Jordan": jrnn.Recurrent(jrnn.Jordan(INPUT, HIDDEN, 2)),
    "LSTM": jrnn.Recurrent(jrnn.LSTM(INPUT, HIDDEN)),
    "PeepholeLSTM": jrnn.Recurrent(jrnn.PeepholeLSTM(INPUT, HIDDEN)),
    "ProjectedLSTM": jrnn.Recurrent(jrnn.ProjectedLSTM(INPUT, HIDDEN, 2)),
    "GRU": jrnn.Recurrent(jrnn.GRU(INPUT, HIDDEN)),
    "GRU, reset before": jrnn.Recurrent(jrnn.GRU(INPUT, HIDDEN, reset_after=False)),
    "CTRNN": jrnn.Recurrent(jrnn.CTRNN(INPUT, HIDDEN, tau=3.0)),
    "LearnedState": jrnn.Recurrent(jrnn.LearnedState(jrnn.GRU(INPUT, HIDDEN))),
    "two layers": jrnn.rnn(jrnn.LSTM, input_size=INPUT, hidden_size=HIDDEN, num_layers=2),
    "residual": jrnn.Residual(jrnn.Recurrent(jrnn.GRU(INPUT, INPUT))),
    "tiles of 2": jrnn.Recurrent(jrnn.LSTM(INPUT, HIDDEN), engine=jrnn.Scan(gradient=jrnn.LinearSolve(tile=2))),
    "checkpointed": jrnn.Recurrent(jrnn.GRU(INPUT, HIDDEN), engine=jrnn.Scan(gradient=jrnn.Checkpointed(every=2))),
}
TIMES, BATCHES, PADDED = (1, 2, 5), ((), (3,), (2, 2)), (None, "lengths", "mask")
DTYPES = {"float32": 3e-5, "float16": 2e-2, "bfloat16": 1e-1}
"""And how far the two may be apart: 16-bit products are summed in another order, and states are rounded at each step."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Compare with a loop."""

    examples: Count = 100_000
    """How many, as many of each model."""
    seed: int = 0
    """Of the draws."""
    out: NewFile = Path("against_a_loop.json")
    """What is written; it must not exist yet."""


@functools.cache
def parameters(name: str, dtype: str) -> Any:
    """Of which nothing is zero, so that biases matter."""
    shapes = jax.eval_shape(MODELS[name].init, jax.random.key(0))
    random = np.random.default_rng(0)
    return jax.tree.map(lambda a: jnp.asarray(0.5 * random.standard_normal(a.shape), dtype), shapes)


@functools.partial(jax.jit, static_argnames="name")
def whole(name: str, params: Any, xs: Any, state: Any, weights: Any, marks: Any) -> Any:
    """State, outputs, and the gradient by `xs` of the outputs' sum, weighed."""

    def loss(xs: Any) -> Any:
        found = MODELS[name].apply(params, xs, state, **marks)
        return (found[1] * weights).astype(jnp.float32).sum(), found

    gradient, found = jax.grad(loss, has_aux=True)(xs)
    return *found, gradient


@functools.partial(jax.jit, static_argnames="name")
def one_step(name: str, params: Any, state: Any, x: Any, real: Any, fresh: Any) -> Any:
    model = MODELS[name]
    batch = x.shape[:-1]

    def chosen(which: Any, a: Any, b: Any) -> Any:
        return jax.tree.map(
            lambda a, b: jnp.where(which.reshape(which.shape + (1,) * (a.ndim - which.ndim)), a, b), a, b
        )

    begun = chosen(fresh, model.initial_state(params, batch), state)
    new, y = model.step(params, begun, x)
    # A reset counts at a padded step, too.
    return chosen(real, new, begun), chosen(real, y, jnp.zeros_like(y))


@functools.partial(jax.jit, static_argnames="name")
def one_step_back(name: str, params: Any, state: Any, x: Any, real: Any, fresh: Any, cotangents: Any) -> Any:
    """Of the new state's and the output's cotangents: those of the state before and of x."""
    _, pull = jax.vjp(lambda state, x: one_step(name, params, state, x, real, fresh), state, x)
    return pull(cotangents)


def loop(name: str, params: Any, xs: Any, state: Any, weights: Any, real: Any, fresh: Any) -> Any:
    """The same, a step at a time, forwards and back."""
    before, ys = [], []
    for t in range(len(xs)):
        before.append(state)
        state, y = one_step(name, params, state, xs[t], real[t], fresh[t])
        ys.append(y)
    cotangent, gradient = jax.tree.map(jnp.zeros_like, state), []
    for t in reversed(range(len(xs))):
        given = cotangent, weights[t].astype(ys[t].dtype)
        cotangent, slope = one_step_back(name, params, before[t], xs[t], real[t], fresh[t], given)
        gradient.insert(0, slope)
    return state, jnp.stack(ys), jnp.stack(gradient)


def compare(
    name: str, dtype: str, time: int, batch: tuple[int, ...], padded: str | None, resets: bool, seed: int
) -> None:
    """AssertionError where the two differ."""
    random = np.random.default_rng(seed)
    model, params = MODELS[name], parameters(name, dtype)
    xs = jnp.asarray(random.standard_normal((time, *batch, INPUT)) * random.choice([0.1, 1.0, 10.0]), dtype)
    state = model.initial_state(params, batch)
    if random.random() < 0.7:
        state = jax.tree.map(lambda a: jnp.asarray(random.standard_normal(a.shape), a.dtype), state)
    given: dict[str, Any] = {}
    real, fresh = np.ones((time, *batch), bool), np.zeros((time, *batch), bool)
    if padded == "lengths":
        given["lengths"] = random.integers(0, time + 1, batch)
        real &= np.arange(time).reshape(-1, *[1] * len(batch)) < given["lengths"]
    elif padded == "mask":
        given["mask"] = real = random.random((time, *batch)) < 0.7
    if resets:
        given["reset"] = fresh = random.random((time, *batch)) < 0.3
    shape = jax.eval_shape(model.step, params, state, xs[0])[1].shape
    weights = jnp.asarray(random.standard_normal((time, *shape)), jnp.float32)
    found = whole(name, params, xs, state, weights, given)
    wanted = loop(name, params, xs, state, weights, real, fresh)
    for what, one, other in zip(("state", "outputs", "gradient"), found, wanted, strict=True):
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
            a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
            scale = max(1.0, np.abs(b).max(initial=0.0))
            far = np.abs(a - b).max(initial=0.0) / scale
            assert a.shape == b.shape and far <= DTYPES[dtype], f"{what}: {far:.2g} apart"  # noqa: PT018


def differs(name: str, examples: int, seed: int) -> str | None:
    """Where a model and the loop differ, by the smallest example that hypothesis found; None: nowhere."""
    hypothesis = need("hypothesis", "test")
    draw = need("hypothesis.strategies", "test")

    @hypothesis.settings(
        max_examples=examples, database=None, deadline=None, suppress_health_check=list(hypothesis.HealthCheck)
    )
    @hypothesis.seed(seed)
    @hypothesis.given(
        dtype=draw.sampled_from(sorted(DTYPES)),
        time=draw.sampled_from(TIMES),
        batch=draw.sampled_from(BATCHES),
        padded=draw.sampled_from(PADDED),
        resets=draw.booleans(),
        seed=draw.integers(0, 2**32 - 1),
    )
    def run(**example: Any) -> None:
        compare(name, **example)

    try:
        run()
    except AssertionError as failure:
        return str(failure)
    return None


def campaign(config: Config) -> None:
    """Each model in a process of its own: the programs of all of them are more than one process may map into its memory."""
    need("hypothesis", "test")  # or this is said once
    each, started = -(-config.examples // len(MODELS)), clock()
    found: dict[str, str | None] = {}
    minutes = 0.0
    spawned = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(cores(), spawned, max_tasks_per_child=1) as pool:
        waiting = {pool.submit(differs, name, each, config.seed): name for name in MODELS}
        for future in concurrent.futures.as_completed(waiting):
            name = waiting[future]
            found[name] = future.result()
            minutes = (clock() - started) / 60
            console.print(f"{name}: {each:,} examples, {found[name] or 'all equal'}; {minutes:.1f} minutes")
            sys.stdout.flush()
    result = {"machine": measure.machine(), "examples_each": each, "minutes": round(minutes, 1), "differs": found}
    write_json(config.out, result)
    console.print(f"{each * len(MODELS):,} examples in {minutes:.1f} minutes; {config.out}")
    if any(found.values()):
        raise SystemExit(1)


main = command(NAME, Config, campaign, prepare=lambda: None)

if __name__ == "__main__":
    main()
