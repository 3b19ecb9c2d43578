"""The picture of gradient descent at a cliff: the loss as a surface and from above, what each step sees, and words."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.pictures import save
from experiments.descents.unit import TARGET, Descent, edge, surface

LEVELS = 0.45  # of the loss, that colours tell apart
PLAIN, CLIPPED = "#d62728", "#0050b3"


class Story(NamedTuple):
    """What happens to the plain run: the step that falls off, if it falls at all, and where the picture looks."""

    time: int  # steps of the unit
    clip: float  # largest length of a gradient of the other run
    jump: int  # the step with the largest gradient
    after: int  # the next one, if there is one
    w: tuple[float, float]
    b: tuple[float, float]


def story(plain: Descent, clipped: Descent, time: int, clip: float) -> Story:
    """The frame holds the clipped run and the plain one until its longest step."""
    jump = int(plain.gradient.argmax())
    frame = [np.concatenate([getattr(plain, name)[: jump + 1], getattr(clipped, name)]) for name in ("w", "b")]
    w, b = ((float(a.min()) - margin, float(a.max()) + margin) for a, margin in zip(frame, (0.9, 0.7)))
    return Story(time, clip, jump, min(jump + 1, len(plain.loss) - 1), w, b)


def mesh(seen: Story) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """w, b and loss [90, 161] of a surface whose lines run along the cliff, close together at it: lines at equal distances would
    step over it."""
    w = np.linspace(*seen.w, 90)
    across = np.sinh(np.linspace(-12, 12, 161)) / np.sinh(12) * (seen.b[1] - seen.b[0])
    b = np.clip(np.asarray(edge(jnp.asarray(w, jnp.float32), seen.time))[:, None] + across, *seen.b)
    w = np.broadcast_to(w[:, None], b.shape)
    return w, b, np.asarray(surface(jnp.asarray(w, jnp.float32), jnp.asarray(b, jnp.float32), seen.time))


def draw(path: Path, plain: Descent, clipped: Descent, *, time: int, clip: float, resolution: int) -> None:
    """The surface after `time` steps of the unit, the same from above at `resolution` points a side, what each step sees, and what
    happens, in words."""
    from matplotlib.figure import Figure  # slow to import

    seen = story(plain, clipped, time, clip)
    figure = Figure(figsize=(15, 7.4))
    grid = figure.add_gridspec(
        2, 3, width_ratios=[1.35, 1.3, 1], left=0.055, right=0.985, bottom=0.25, top=0.875, wspace=0.2, hspace=0.14
    )
    figure.suptitle(
        f"One unit, a ← sigmoid(w a + b), {time} times over, shall end at {TARGET}: its loss has a cliff",
        fontsize=15,
    )
    draw_surface(figure.add_subplot(grid[:, 0], projection="3d"), seen, plain, clipped)
    draw_map(figure, figure.add_subplot(grid[:, 1]), seen, plain, clipped, resolution)
    draw_steps([figure.add_subplot(grid[row, 2]) for row in (0, 1)], seen, plain, clipped)
    figure.text(0.035, 0.035, words(seen, plain, clipped), fontsize=11.5, linespacing=1.55)
    save(figure, path)


def words(seen: Story, plain: Descent, clipped: Descent) -> str:
    """What happens, in four lines."""
    jump, after = seen.jump, seen.after
    thrown = np.hypot(plain.w[after] - plain.w[jump], plain.b[after] - plain.b[jump])
    usual = np.median(plain.gradient[: jump + 1])
    last = clipped.loss[-20:]
    stuck = round(float(jax.nn.sigmoid(plain.w[after] + plain.b[after])))
    return "\n".join(
        [
            f"1  Both runs start at w = {plain.w[0]:g}, b = {plain.b[0]:g}. The gradient is short there, {plain.gradient[0]:.2g}, "
            "and so are their steps: they slide towards the foot of the cliff.",
            f"2  At step {jump} the run that is not clipped (red) touches the cliff. The gradient is {plain.gradient[jump]:.3g} "
            f"long there, {plain.gradient[jump] / usual:,.0f} times the usual one: it came {seen.time} times through w.",
            f"3  One step along it lands {thrown:.2g} away, outside of the picture. There the unit is stuck at {stuck} and the "
            f"gradient is 0: nothing is learned any more, the loss stays at {plain.loss[-1]:.2g}.",
            f"4  A clipped gradient (blue) points the same way and is at most {seen.clip:g} long. The cliff is met again and "
            f"again, and the run stays near it: in its last 20 steps the loss is {last.min():.1g} to {last.max():.1g}.",
        ]
    )


def draw_surface(axes: Any, seen: Story, plain: Descent, clipped: Descent) -> None:
    w, b, height = mesh(seen)
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
    way = np.array([plain.w[seen.after] - at[0], plain.b[seen.after] - at[1]])
    way = way / max(np.hypot(*way), 1e-9)
    axes.quiver(*at, 0.9 * way[0], 0.9 * way[1], 0.12, color=PLAIN, linewidth=2.5, zorder=5)
    axes.set(xlabel="recurrent weight w", ylabel="bias b", zlabel="loss", xlim=seen.w, ylim=seen.b)
    axes.set_box_aspect((1, 1, 0.75), zoom=1.02)
    axes.view_init(33, 38)
    axes.set_title("The loss for every w and b")


def draw_map(figure: Any, axes: Any, seen: Story, plain: Descent, clipped: Descent, resolution: int) -> None:
    w, b = np.meshgrid(*(np.linspace(*frame, resolution, dtype=np.float32) for frame in (seen.w, seen.b)))
    colours = axes.pcolormesh(
        w,
        b,
        np.asarray(surface(jnp.asarray(w), jnp.asarray(b), seen.time)),
        cmap="viridis",
        vmin=0,
        vmax=LEVELS,
        shading="gouraud",
    )
    figure.colorbar(colours, ax=axes, label="loss", pad=0.02)
    until, jump, after = slice(seen.jump + 1), seen.jump, seen.after
    axes.plot(clipped.w, clipped.b, "-o", markersize=3, linewidth=1, color="white", label=f"clipped to {seen.clip:g}")
    axes.plot(clipped.w, clipped.b, "o", markersize=1.8, color=CLIPPED)
    axes.plot(plain.w[until], plain.b[until], "-o", markersize=3, linewidth=1.2, color=PLAIN, label="not clipped")
    start, end = (np.array([plain.w[step], plain.b[step]]) for step in (jump, after))
    way = (end - start) / max(np.hypot(*(end - start)), 1e-9)
    tip = start + way * 0.95
    axes.annotate("", xy=tip, xytext=start, arrowprops={"arrowstyle": "-|>", "color": PLAIN, "lw": 3})
    for number, place, shift in (("1", (plain.w[0], plain.b[0]), (10, 4)), ("2", start, (-10, -14)), ("3", tip, (4, 6)),
                                 ("4", (clipped.w[-1], clipped.b[-1]), (-12, 12))):  # fmt: skip
        axes.annotate(
            number, place, xytext=shift, textcoords="offset points", ha="center", va="center", fontsize=10, color="black",
            bbox={"boxstyle": "circle,pad=0.22", "facecolor": "white", "edgecolor": "none"},
        )  # fmt: skip
    axes.set(xlabel="recurrent weight w", ylabel="bias b", xlim=seen.w, ylim=seen.b)
    axes.set_title(f"From above, with {len(plain.loss) - 1} steps of gradient descent")
    near = axes.inset_axes((0.03, 0.61, 0.44, 0.36), xticks=[], yticks=[])
    late = slice(len(clipped.w) // 2, None)
    frames = [(float(a[late].min()) - 0.03, float(a[late].max()) + 0.03) for a in (clipped.w, clipped.b)]
    sides = np.meshgrid(*(np.linspace(*frame, resolution, dtype=np.float32) for frame in frames))
    height = np.asarray(surface(*map(jnp.asarray, sides), seen.time))
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


def draw_steps(rows: list[Any], seen: Story, plain: Descent, clipped: Descent) -> None:
    above, below = rows
    for run, colour, label in ((plain, PLAIN, "not clipped"), (clipped, CLIPPED, "clipped")):
        above.semilogy(np.maximum(run.loss, 1e-6), color=colour, label=label)
        below.semilogy(np.maximum(run.gradient, 1e-5), color=colour)
    above.set(ylabel="loss", ylim=(1e-6, 2))
    above.legend(frameon=False, loc="lower left")
    above.set_title("What each step sees")
    above.tick_params(labelbottom=False)
    below.axhline(seen.clip, color="black", linewidth=0.9, linestyle=":")
    below.text(1, seen.clip * 1.25, f"clipped to {seen.clip:g}", fontsize=9)
    below.annotate(
        f"{plain.gradient[seen.jump]:.3g}", (seen.jump, plain.gradient[seen.jump]), xytext=(-6, 5), textcoords="offset points",
        color=PLAIN, ha="right",
    )  # fmt: skip
    for axes in rows:
        axes.yaxis.set_major_formatter("{x:g}")
    below.set(xlabel="step of gradient descent", ylabel="length of the gradient", ylim=(1e-5, 1e3))
