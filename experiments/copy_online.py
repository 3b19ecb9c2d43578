"""Copying ever longer words, learnt online: how far each learner gets with the same number of tokens.

A word of bits is shown, then a sign, and must then be written from memory. Words grow by one bit whenever fewer than 0.15 bits a
bit are lost (the curriculum of Mujika, Meier & Steger 2018 and Menick et al. 2021). Online learners change their parameters at
every step, inside words too; back-propagation through time waits for the end of each word. All read as many tokens.

    python -m experiments.copy_online

trains a GRU of 32 units by six learners on 640,000 tokens each, in a minute and a quarter of one core. Words of 12 bits by BPTT;
9 by SnAp-1, e-prop and truncation that looks 8 steps back; 5 by UORO and without a trace. None beats BPTT here.
"""

import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jrnn
from experiments.common import pictures
from experiments.common.command import command
from experiments.common.options import Count, Limit
from experiments.common.run import Run, RunConfig, console
from jrnn.online import RTRL, UORO, EProp, Online, SnAp, Truncated

NAME = "copy_online"
LONGEST = 40
SIGN, BLANK = 2, 3  # after the bits 0 and 1: the word ends; what is read while it is written
SOLVED = 0.15  # bits lost a bit, at which words grow
GROWTH = 5  # a word is up to so many bits shorter than the longest of its time

LEARNERS: dict[str, Callable[[jrnn.Layer], jrnn.Layer]] = {
    "BPTT": lambda layer: layer,  # the one that waits
    "SnAp-1": lambda layer: Online(layer, SnAp()),
    "e-prop": lambda layer: Online(layer, EProp()),
    "8 steps back": lambda layer: Online(layer, Truncated(8)),
    "UORO": lambda layer: Online(layer, UORO()),
    "no trace": lambda layer: layer,
    "RTRL": lambda layer: Online(layer, RTRL()),
}
COLOURS = dict(zip(LEARNERS, ("black", "#d62728", "#ff9f1c", "#2171b5", "#2ca02c", "#8c8c8c", "#9467bd"), strict=True))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """Learn to copy words online, by several learners."""

    learners: tuple[str, ...] = tuple(name for name in LEARNERS if name != "RTRL")
    """Which; RTRL as well, for few units."""
    hidden: Count = 32
    """Units of the GRU."""
    rows: Count = 16
    """Words that are read side by side."""
    tokens: Count = 640_000
    """How many each learner reads."""
    learning_rate: Annotated[float, Limit("more than 0", lambda value: value > 0)] = 10**-2.5
    """Of Adam."""

    SMOKE: ClassVar[dict[str, Any]] = {"tokens": 6_400, "learners": ("BPTT", "SnAp-1", "UORO"), "hidden": 8, "rows": 4}

    def __post_init__(self) -> None:
        super().__post_init__()
        unknown = [name for name in self.learners if name not in LEARNERS]
        if unknown or not self.learners:
            raise ValueError(f"--learners is {' '.join(self.learners)!r}; expected some of {', '.join(LEARNERS)}")


class Word(NamedTuple):
    """What is read, one row each."""

    length: jax.Array  # int32 [rows]
    bits: jax.Array  # int32 [rows, LONGEST]
    place: jax.Array  # int32 [rows]: of the next token


class Level(NamedTuple):
    """How far a learner is."""

    longest: jax.Array  # int32 []: bits of the longest word
    lost: jax.Array  # []: bits a bit, a running mean
    tokens: jax.Array  # int32 []: read so far


def draw_words(key: jax.Array, longest: jax.Array, rows: int) -> Word:
    """Words of any bits, and of longest - 5 to longest bits."""
    of_length, of_bits = jax.random.split(key)
    length = jax.random.randint(of_length, (rows,), jnp.maximum(longest - GROWTH, 1), longest + 1)
    bits = jax.random.bernoulli(of_bits, shape=(rows, LONGEST)).astype(jnp.int32)
    return Word(length, bits, jnp.zeros(rows, jnp.int32))


def read(word: Word, place: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """At `place` [rows] of each word: the token, one-hot, the bit to write, and whether there is one."""

    def bit(place: jax.Array) -> jax.Array:
        return jnp.take_along_axis(word.bits, jnp.clip(place, 0, LONGEST - 1)[:, None], 1)[:, 0]

    token = jnp.where(place < word.length, bit(place), jnp.where(place == word.length, SIGN, BLANK))
    writes = (place > word.length) & (place <= 2 * word.length)
    return jax.nn.one_hot(token, 4), bit(place - word.length - 1), writes


def lost_bits(logits: jax.Array, bits: jax.Array, writes: jax.Array) -> jax.Array:
    """The sum over all bits to write."""
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, bits) / np.log(2).astype(np.float32)
    return jnp.sum(jnp.where(writes, loss, 0))


def grown(level: Level, lost: jax.Array, count: jax.Array, share: float, tokens: jax.Array) -> Level:
    """After so many bits were lost of `count` that were to be written."""
    mean = level.lost + share * (lost / jnp.maximum(count, 1) - level.lost)
    mean = jnp.where(count > 0, mean, level.lost)
    solved = mean < SOLVED
    longest = jnp.where(solved, jnp.minimum(level.longest + 1, LONGEST), level.longest)
    return Level(longest, jnp.where(solved, 1.0, mean), level.tokens + tokens)


def learn(name: str, config: Config) -> tuple[np.ndarray, float]:
    """The length reached after each 200th of the tokens, and the seconds of processor time."""
    rows, whole = config.rows, name == "BPTT"
    recurrent = LEARNERS[name](jrnn.Recurrent(jrnn.GRU(4, config.hidden)))
    model = jrnn.Layered((recurrent, jrnn.Dense(config.hidden, 2)))
    optimizer = optax.adam(config.learning_rate)
    of_params, of_state, of_words = jax.random.split(jax.random.key(config.seed), 3)
    params = model.init(of_params)

    def update(carry: Any, loss: Any) -> Any:
        params, opt_state, state = carry
        gradient, (state, lost) = jax.grad(loss, has_aux=True)(params, state)
        updates, opt_state = optimizer.update(gradient, opt_state)
        return (optax.apply_updates(params, updates), opt_state, state), lost

    def one_step(carry: Any) -> Any:
        """One token of every row; a new word where the last one is written."""
        trained, word, level, key = carry
        key, use = jax.random.split(key)
        ended = word.place > 2 * word.length
        word = jax.tree.map(functools.partial(select_rows, ended), draw_words(use, level.longest, rows), word)
        x, bits, writes = read(word, word.place)

        def loss(params: Any, state: Any) -> Any:
            state, logits = model.apply(params, x[None], state, reset=ended[None])
            lost = lost_bits(logits[0], bits, writes)
            return lost / rows, (state, lost)

        trained, lost = update(trained, loss)
        count = writes.sum().astype(jnp.float32)
        level = grown(level, lost, count, 0.01, jnp.int32(rows))
        return trained, word._replace(place=word.place + 1), level, key

    def one_word(carry: Any) -> Any:
        """One word of every row, of one length, so that none waits."""
        trained, word, level, key = carry
        key, use = jax.random.split(key)
        word = draw_words(use, level.longest, rows)
        word = word._replace(length=jnp.broadcast_to(word.length[0], (rows,)))
        places = jnp.broadcast_to(jnp.arange(2 * LONGEST + 1)[:, None], (2 * LONGEST + 1, rows))
        xs, bits, writes = jax.vmap(functools.partial(read, word))(places)

        def loss(params: Any, state: Any) -> Any:
            _, logits = model.apply(params, xs, lengths=2 * word.length + 1)
            lost = lost_bits(logits, bits, writes)
            return lost / writes.sum().astype(jnp.float32), (state, lost)

        trained, lost = update(trained, loss)
        level = grown(level, lost, writes.sum().astype(jnp.float32), 0.2, (2 * word.length + 1).sum())
        return trained, word, level, key

    part = config.tokens // 200

    @functools.partial(jax.jit, donate_argnums=0)
    def run(carry: Any, until: jax.Array) -> Any:
        return jax.lax.while_loop(lambda carry: carry[2].tokens < until, one_word if whole else one_step, carry)

    state = () if whole else model.initial_state(params, (rows,), of_state)
    level = Level(jnp.int32(1), jnp.float32(1), jnp.int32(0))
    word = draw_words(of_words, jnp.int32(1), rows)
    word = word._replace(place=3 * jnp.ones_like(word.place))  # at their ends: new ones are drawn
    carry = (params, optimizer.init(params), state), word, level, jax.random.fold_in(of_words, 1)
    began, reached = time.process_time(), []
    for index in range(200):
        carry = run(carry, jnp.int32((index + 1) * part))
        reached.append(int(carry[2].longest))
    return np.array(reached), time.process_time() - began


def select_rows(condition: jax.Array, yes: jax.Array, no: jax.Array) -> jax.Array:
    """`where`, of rows."""
    return jnp.where(jnp.broadcast_to(condition.reshape(-1, *(1,) * (yes.ndim - 1)), yes.shape), yes, no)


def draw(path: Path, config: Config, reached: dict[str, np.ndarray]) -> None:
    """Length against tokens."""
    from matplotlib.figure import Figure  # slow to import

    figure = Figure(figsize=(10, 5.4), layout="constrained")
    axes = figure.subplots()
    tokens = np.arange(1, 201) * (config.tokens // 200) / 1000
    ends = sorted(reached, key=lambda name: reached[name][-1])
    last = -np.inf
    for name in ends:
        axes.step(tokens, reached[name], where="post", color=COLOURS[name], linewidth=2)
        last = max(float(reached[name][-1]), last + 0.045 * max(1, max(r[-1] for r in reached.values())))
        axes.annotate(
            f"{name}: {reached[name][-1]}", (1, last), xycoords=("axes fraction", "data"), xytext=(8, 0),
            textcoords="offset points", color=COLOURS[name], va="center",
        )  # fmt: skip
    axes.spines[["top", "right"]].set_visible(False)
    axes.set(
        xlabel="thousands of tokens read", ylabel="longest word it has come to, bits", xlim=(0, tokens[-1]),
        ylim=(0, None),
        title=f"Copying words, a GRU of {config.hidden} units: online learners change at every step, BPTT at the end of a word",
    )  # fmt: skip
    pictures.save(figure, path)


def experiment(run: Run, config: Config) -> None:
    """Learn by each learner, draw, write result.json."""
    began = time.perf_counter()
    run.start()
    reached, metrics = {}, {}
    for name in config.learners:
        reached[name], seconds = learn(name, config)
        metrics[name] = {"bits": int(reached[name][-1]), "cpu_seconds": round(seconds, 1)}
        console.print(f"{name:14} words of {reached[name][-1]:2} bits; {seconds:.0f} s of processor time")
    draw(run.directory / "copy.png", config, reached)
    path = run.write_result(metrics=metrics, floors={}, seconds=time.perf_counter() - began)
    console.print(f"{path}; the picture is {run.directory / 'copy.png'}")


main = command(NAME, Config, experiment)

if __name__ == "__main__":
    main()
