"""The cliff: why gradients explode, and what clipping them is good for, in one picture.

One sigmoid unit that sees itself alone, a_t = sigmoid(w a_{t-1} + b), 50 times, shall end at 0.7. Its loss over (w, b) has a cliff
(Pascanu, Mikolov & Bengio 2013, figure 6): on both sides of it the gradient is small, on it hundreds of times larger.

    python -m experiments.cliff

draws the surface and two runs of gradient descent from the same place in five seconds of one core. Of 120 steps the plain run meets
a gradient of length 23 at the cliff, is thrown 6.8 away to where all gradients are 0, and its loss stays at 0.09; the run whose
gradients are clipped to length 0.2 bounces off the cliff by 0.06 at most, with a loss of 0.0003 to 0.005 in its last 20 steps.
"""

import dataclasses
import functools
import time
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

NAME = "cliff"
Positive = Annotated[float, Limit("more than 0", lambda value: value > 0)]
UNIT = jrnn.Elman(1, 1, activation="sigmoid")
FIRST, TARGET = 0.5, 0.7  # the unit starts as sigmoid(FIRST)
LEVELS = 0.45  # of the loss, that colours tell apart
PLAIN, CLIPPED = "#d62728", "#0050b3"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """Draw the cliff, and gradient descent with and without clipping."""

    time: Count = 50
    """Steps of the unit."""
    w: float = 5.0
    """Where descent starts: the recurrent weight."""
    b: float = -1.5
    """Where descent starts: the bias."""
    learning_rate: Positive = 0.3
    """Of plain gradient descent."""
    clip: Positive = 0.2
    """Largest length of a gradient, of the run that is clipped."""
    steps: Count = 120
    """Of gradient descent."""
    resolution: Count = 240
    """Points of the map along each side."""

    SMOKE: ClassVar[dict[str, Any]] = {"resolution": 30}


class Descent(NamedTuple):
    """Gradient descent; each [steps + 1], the start first."""

    w: np.ndarray
    b: np.ndarray
    loss: np.ndarray
    gradient: np.ndarray  # its length, before clipping


def end(point: jax.Array, steps: int) -> jax.Array:
    """a_T of the unit with `point` [2]: w and b."""
    w, b = point
    params = jrnn.ElmanParams(w_x=jnp.zeros((1, 1)), w_h=w.reshape(1, 1), b=b.reshape(1))
    start = jrnn.ElmanState(jax.nn.sigmoid(jnp.full(1, FIRST)))
    state, _ = jrnn.unroll(UNIT, params, jnp.zeros((steps, 1)), start)
    return state.h[0]


def loss(point: jax.Array, steps: int) -> jax.Array:
    """(a_T - 0.7)²."""
    return jnp.square(end(point, steps) - TARGET)


def descend(config: Config, clip: float | None) -> Descent:
    """Gradient descent from (w, b)."""
    clipping = optax.identity() if clip is None else optax.clip_by_global_norm(clip)
    optimizer = optax.chain(clipping, optax.sgd(config.learning_rate))

    def step(carry: Any, _: None) -> tuple[Any, Any]:
        point, state = carry
        value, gradient = jax.value_and_grad(loss)(point, config.time)
        updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(point, updates), state), (*point, value, optax.tree.norm(gradient))

    start = jnp.array([config.w, config.b])
    found = jax.jit(lambda: jax.lax.scan(step, (start, optimizer.init(start)), None, config.steps + 1)[1])()
    return Descent(*map(np.asarray, found))


@functools.partial(jax.jit, static_argnums=2)
def surface(w: jax.Array, b: jax.Array, steps: int) -> jax.Array:
    """The loss at every w [...] and b [...]."""
    return jnp.vectorize(lambda w, b: loss(jnp.stack([w, b]), steps))(w, b)


@functools.partial(jax.jit, static_argnums=1)
def edge(w: jax.Array, steps: int) -> jax.Array:
    """Where the cliff is, for every w [...]: the b at which the unit ends at 0.5, by bisection."""

    def halve(_: int, sides: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = sides
        middle = (low + high) / 2
        below = jnp.vectorize(lambda w, b: end(jnp.stack([w, b]), steps))(w, middle) < 0.5
        return jnp.where(below, middle, low), jnp.where(below, high, middle)

    return jax.lax.fori_loop(0, 40, halve, (-2 * jnp.abs(w) - 10, 2 * jnp.abs(w) + 10))[0]


class Story(NamedTuple):
    """What happens to the plain run: the step that falls off, if it falls at all, and where the picture looks."""

    jump: int  # the step with the largest gradient
    w: tuple[float, float]
    b: tuple[float, float]


def story(plain: Descent, clipped: Descent) -> Story:
    """The frame holds the clipped run and the plain one until its longest step."""
    jump = int(plain.gradient.argmax())
    frame = [np.concatenate([getattr(plain, name)[: jump + 1], getattr(clipped, name)]) for name in ("w", "b")]
    w, b = ((float(a.min()) - margin, float(a.max()) + margin) for a, margin in zip(frame, (0.9, 0.7)))
    return Story(jump, w, b)


def mesh(seen: Story, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """w, b and loss [90, 161] of a surface whose lines run along the cliff, close together at it: lines at equal distances would
    step over it."""
    w = np.linspace(*seen.w, 90)
    across = np.sinh(np.linspace(-12, 12, 161)) / np.sinh(12) * (seen.b[1] - seen.b[0])
    b = np.clip(np.asarray(edge(jnp.asarray(w, jnp.float32), steps))[:, None] + across, *seen.b)
    w = np.broadcast_to(w[:, None], b.shape)
    return w, b, np.asarray(surface(jnp.asarray(w, jnp.float32), jnp.asarray(b, jnp.float32), steps))


def draw(path: Path, config: Config, plain: Descent, clipped: Descent) -> None:
    """The surface, the same from above, what each step sees, and what happens, in words."""
    from matplotlib.figure import Figure  # slow to import

    seen = story(plain, clipped)
    figure = Figure(figsize=(15, 7.4))
    grid = figure.add_gridspec(
        2, 3, width_ratios=[1.35, 1.3, 1], left=0.04, right=0.985, bottom=0.25, top=0.875, wspace=0.2, hspace=0.14
    )
    figure.suptitle(
        f"One unit, a ← sigmoid(w a + b), {config.time} times over, shall end at {TARGET}: its loss has a cliff",
        fontsize=15,
    )
    draw_surface(figure.add_subplot(grid[:, 0], projection="3d"), config, seen, plain, clipped)
    draw_map(figure, figure.add_subplot(grid[:, 1]), config, seen, plain, clipped)
    draw_steps([figure.add_subplot(grid[row, 2]) for row in (0, 1)], config, seen, plain, clipped)
    figure.text(0.035, 0.035, words(config, seen, plain, clipped), fontsize=11.5, linespacing=1.55)
    pictures.save(figure, path)


def words(config: Config, seen: Story, plain: Descent, clipped: Descent) -> str:
    """What happens, in four lines."""
    jump, after = seen.jump, min(seen.jump + 1, config.steps)
    thrown = np.hypot(plain.w[after] - plain.w[jump], plain.b[after] - plain.b[jump])
    usual = np.median(plain.gradient[: jump + 1])
    last = clipped.loss[-20:]
    stuck = round(float(jax.nn.sigmoid(plain.w[after] + plain.b[after])))
    return "\n".join(
        [
            f"1  Both runs start at w = {config.w:g}, b = {config.b:g}. The gradient is short there, {plain.gradient[0]:.2g}, and "
            "so are their steps: they slide towards the foot of the cliff.",
            f"2  At step {jump} the run that is not clipped (red) touches the cliff. The gradient is {plain.gradient[jump]:.3g} "
            f"long there, {plain.gradient[jump] / usual:,.0f} times the usual one: it came {config.time} times through w.",
            f"3  One step along it lands {thrown:.2g} away, outside of the picture. There the unit is stuck at {stuck} and the "
            f"gradient is 0: nothing is learned any more, the loss stays at {plain.loss[-1]:.2g}.",
            f"4  A clipped gradient (blue) points the same way and is at most {config.clip:g} long. The cliff is met again and "
            f"again, and the run stays near it: in its last 20 steps the loss is {last.min():.1g} to {last.max():.1g}.",
        ]
    )


def draw_surface(axes: Any, config: Config, seen: Story, plain: Descent, clipped: Descent) -> None:
    w, b, height = mesh(seen, config.time)
    axes.computed_zorder = False
    axes.plot_surface(
        w,
        b,
        height,
        cmap="viridis",
        rcount=90,
        ccount=121,
        vmin=0,
        vmax=LEVELS,
        linewidth=0,
        antialiased=False,
        zorder=1,
    )
    until, lift = slice(seen.jump + 1), 0.008
    axes.plot(clipped.w, clipped.b, clipped.loss + lift, "-o", markersize=2.5, color=CLIPPED, linewidth=1, zorder=3)
    axes.plot(plain.w[until], plain.b[until], plain.loss[until] + lift, "-o", markersize=2.5, color=PLAIN, zorder=4)
    at = plain.w[seen.jump], plain.b[seen.jump], plain.loss[seen.jump] + lift
    after = min(seen.jump + 1, config.steps)
    way = np.array([plain.w[after] - at[0], plain.b[after] - at[1]])
    way = way / max(np.hypot(*way), 1e-9)
    axes.quiver(*at, 0.9 * way[0], 0.9 * way[1], 0.12, color=PLAIN, linewidth=2.5, zorder=5)
    axes.set(xlabel="recurrent weight w", ylabel="bias b", zlabel="loss", xlim=seen.w, ylim=seen.b)
    axes.set_box_aspect((1, 1, 0.75), zoom=1.08)
    axes.view_init(33, 38)
    axes.set_title("The loss for every w and b")


def draw_map(figure: Any, axes: Any, config: Config, seen: Story, plain: Descent, clipped: Descent) -> None:
    w, b = np.meshgrid(*(np.linspace(*frame, config.resolution, dtype=np.float32) for frame in (seen.w, seen.b)))
    colours = axes.pcolormesh(
        w,
        b,
        np.asarray(surface(jnp.asarray(w), jnp.asarray(b), config.time)),
        cmap="viridis",
        vmin=0,
        vmax=LEVELS,
        shading="gouraud",
    )
    figure.colorbar(colours, ax=axes, label="loss", pad=0.02)
    until, jump, after = slice(seen.jump + 1), seen.jump, min(seen.jump + 1, config.steps)
    axes.plot(clipped.w, clipped.b, "-o", markersize=3, linewidth=1, color="white", label=f"clipped to {config.clip:g}")
    axes.plot(clipped.w, clipped.b, "o", markersize=1.8, color=CLIPPED)
    axes.plot(plain.w[until], plain.b[until], "-o", markersize=3, linewidth=1.2, color=PLAIN, label="not clipped")
    start, end = (np.array([plain.w[step], plain.b[step]]) for step in (jump, after))
    way = (end - start) / max(np.hypot(*(end - start)), 1e-9)
    tip = start + way * 0.95
    axes.annotate("", xy=tip, xytext=start, arrowprops={"arrowstyle": "-|>", "color": PLAIN, "lw": 3})
    for number, place, shift in (("1", (config.w, config.b), (10, 4)), ("2", start, (-10, -14)), ("3", tip, (4, 6)),
                                 ("4", (clipped.w[-1], clipped.b[-1]), (-12, 12))):  # fmt: skip
        axes.annotate(
            number, place, xytext=shift, textcoords="offset points", ha="center", va="center", fontsize=10, color="black",
            bbox={"boxstyle": "circle,pad=0.22", "facecolor": "white", "edgecolor": "none"},
        )  # fmt: skip
    axes.set(xlabel="recurrent weight w", ylabel="bias b", xlim=seen.w, ylim=seen.b)
    axes.set_title(f"From above, with {config.steps} steps of gradient descent")
    near = axes.inset_axes((0.03, 0.61, 0.44, 0.36), xticks=[], yticks=[])
    late = slice(len(clipped.w) // 2, None)
    frames = [(float(a[late].min()) - 0.03, float(a[late].max()) + 0.03) for a in (clipped.w, clipped.b)]
    sides = np.meshgrid(*(np.linspace(*frame, config.resolution, dtype=np.float32) for frame in frames))
    height = np.asarray(surface(*map(jnp.asarray, sides), config.time))
    near.pcolormesh(*sides, height, cmap="viridis", vmin=0, vmax=LEVELS, shading="gouraud")
    near.plot(
        clipped.w,
        clipped.b,
        "-o",
        markersize=3,
        linewidth=1,
        color=CLIPPED,
        markeredgecolor="white",
        markeredgewidth=0.5,
    )
    near.set(xlim=frames[0], ylim=frames[1])
    near.spines[:].set_color("white")
    axes.indicate_inset_zoom(near, edgecolor="white", alpha=1)


def draw_steps(rows: list[Any], config: Config, seen: Story, plain: Descent, clipped: Descent) -> None:
    above, below = rows
    for run, colour, label in ((plain, PLAIN, "not clipped"), (clipped, CLIPPED, "clipped")):
        above.semilogy(np.maximum(run.loss, 1e-6), color=colour, label=label)
        below.semilogy(np.maximum(run.gradient, 1e-5), color=colour)
    above.set(ylabel="loss", ylim=(1e-6, 2))
    above.legend(frameon=False, loc="lower left")
    above.set_title("What each step sees")
    above.tick_params(labelbottom=False)
    below.axhline(config.clip, color="black", linewidth=0.9, linestyle=":")
    below.text(1, config.clip * 1.25, f"clipped to {config.clip:g}", fontsize=9)
    below.annotate(
        f"{plain.gradient[seen.jump]:.3g}", (seen.jump, plain.gradient[seen.jump]), xytext=(-6, 5), textcoords="offset points",
        color=PLAIN, ha="right",
    )  # fmt: skip
    for axes in rows:
        axes.yaxis.set_major_formatter("{x:g}")
    below.set(xlabel="step of gradient descent", ylabel="length of the gradient", ylim=(1e-5, 1e3))


def experiment(run: Run, config: Config) -> None:
    """Descend twice, draw, write result.json."""
    began = time.perf_counter()
    run.start()
    found = {"plain": descend(config, None), "clipped": descend(config, config.clip)}
    draw(run.directory / "cliff.png", config, found["plain"], found["clipped"])
    metrics = {
        name: {
            "loss": float(one.loss[-1]),
            "w": float(one.w[-1]),
            "b": float(one.b[-1]),
            "largest_gradient": float(one.gradient.max()),
            "longest_step": float(np.hypot(np.diff(one.w), np.diff(one.b)).max()),
        }
        for name, one in found.items()
    }
    path = run.write_result(metrics=metrics, floors={}, seconds=time.perf_counter() - began)
    for name, one in metrics.items():
        console.print(
            f"{name:8} largest gradient {one['largest_gradient']:8.3g}, longest step {one['longest_step']:6.3g}, in the end "
            f"w = {one['w']:.3g}, b = {one['b']:.3g}, loss {one['loss']:.2g}"
        )
    console.print(f"{path}; the picture is {run.directory / 'cliff.png'}")


main = command(NAME, Config, experiment)

if __name__ == "__main__":
    main()
