"""What a run found: the ratios, in words, as Markdown and as a picture. Every ratio is a peer's time over jrnn's."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Result = Mapping[str, Any]
Point = Mapping[str, Any]
Against = Callable[[Point, str], float | None]  # (point, statistic) -> ratio

COLORS = ("#440154", "#3b528b", "#21918c", "#5ec962", "#e8c61c")  # viridis: small to large
MARKERS = {"float32": "o", "bfloat16": "x", "float16": "+"}


def over(point: Point, name: str, base: str, statistic: str) -> float | None:
    """The `statistic` of row `name` over that of `base`, or None where one was not measured."""
    rows = point["rows"]
    a, b = (rows.get(row, {}).get(statistic) for row in (name, base))
    return a / b if a and b else None


def peer(point: Point, name: str, statistic: str = "median") -> float | None:
    """A peer's time over that of jrnn computing the same function on one device."""
    return over(point, name, point["rows"].get(name, {}).get("against", "jrnn"), statistic)


def best(point: Point, statistic: str = "median") -> float | None:
    """The fastest JAX peer."""
    return min((value for _, value in jax_peers(point, statistic)), default=None)


def jax_peers(point: Point, statistic: str = "median") -> Iterator[tuple[str, float]]:
    for name, row in point["rows"].items():
        value = peer(point, name, statistic) if row["kind"] == "jax" else None
        if value is not None:
            yield name, value


def torch(point: Point, statistic: str = "median") -> float | None:
    """PyTorch, over jrnn with its batch sharded over the devices; None where the point has no sharded run."""
    return over(point, "pytorch", "jrnn sharded", statistic)


def mean(values: Iterable[float | None]) -> float | None:
    """Geometric, of what is known."""
    known = [value for value in values if value is not None]
    return math.exp(sum(map(math.log, known)) / len(known)) if known else None


def label(point: Point) -> str:
    return "{cell} H={hidden} B={batch} T={time} {dtype} {mode}".format_map(point)


def one_line(point: Point) -> str:
    """What the terminal shows of a point."""
    name, value = min(jax_peers(point), key=lambda pair: pair[1], default=("", None))
    parts = [f"best JAX peer ({name}) {value:.2f}x" if value else "no JAX peer"]
    for beside, ratio in (("one device", peer(point, "pytorch")), ("sharded", torch(point))):
        parts += [f"PyTorch {ratio:.2f}x ({beside})"] if ratio else []
    failed = [name for name, row in point["rows"].items() if "failed" in row]
    return ", ".join(parts + ([f"not measured: {', '.join(failed)}"] if failed else []))


def write(directory: Path, result: Result) -> None:
    """grid.md and grid.png, of a run that may be unfinished."""
    (directory / "grid.md").write_text("\n".join([*summary(result), "", *whole_grid(result)]) + "\n")
    if result["points"]:
        draw(directory / "grid.png", result["points"])


def summary(result: Result) -> Iterator[str]:
    """The top of the report."""
    machine, points = result["machine"], result["points"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    rates = ", ".join(f"{rate / 1e9:.0f} GFLOP/s on {name}" for name, rate in result["rates"].items())
    yield from (
        "# `jrnn.unroll` beside other libraries",
        "",
        f"{machine['processor']}, {machine['cores']} cores, {machine['devices']}; {machine['system']}.",
        f"{versions}.",
        f"Products of large float32 matrices: {rates}. {len(points)} points, {result['seconds'] / 60:.0f} minutes.",
        "",
        "Each number is a peer's time over jrnn's: **above 1 jrnn is faster**, losses are bold. Full layers, input size = hidden "
        "size H, batch B, T steps; training gives the gradients of the inputs and of all weights. Same weights, one process, "
        "compiled ahead, one call of each program a round in a new order every round; outputs and gradients are within the "
        "tolerance of a float64 reference, or the peer is not timed. JAX peers and jrnn on one device; PyTorch has all cores, and "
        "so has sharded jrnn. Haiku's plain network has ReLU and its GRU resets before the product: each is divided by jrnn "
        "computing the same.",
        "",
        "## Summary",
        "",
        "Geometric means of the ratios of medians (of minima).",
        "",
    )
    yield from summary_table(points)
    yield from ("", *memory(points), "", "Worst points:", "")
    yield from worst(points, "best JAX peer / jrnn", best)
    yield from worst(points, "PyTorch / jrnn sharded", torch)
    yield from failures(points)


def groups(points: Sequence[Point], *names: str) -> list[tuple[tuple[Any, ...], list[Point]]]:
    """The points by these of their fields, in order of appearance."""
    found: dict[tuple[Any, ...], list[Point]] = {}
    for point in points:
        found.setdefault(tuple(point[name] for name in names), []).append(point)
    return list(found.items())


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield "|" + "---|" * len(header)
    for row in rows:
        yield f"| {' | '.join(row)} |"


def number(value: float | None) -> str:
    """Bold below 1."""
    text = "" if value is None else f"{value:.2f}"
    return f"**{text}**" if value is not None and value < 1 else text


def pair(median: float | None, minimum: float | None) -> str:
    return "" if median is None else f"{number(median)} ({number(minimum)})"


def summary_table(points: Sequence[Point]) -> Iterator[str]:
    def row(names: tuple[str, ...], group: Sequence[Point]) -> list[str]:
        cells = [*names]
        for against in (best, torch, lambda point, statistic: peer(point, "pytorch", statistic)):
            ratios = [value for point in group if (value := against(point, "median")) is not None]
            below = sum(value < 1 for value in ratios)
            cells.append(pair(mean(ratios), mean(against(point, "min") for point in group)))
            cells.append(f"{below} of {len(ratios)}" if ratios else "")
        return cells

    peers = ("best JAX peer / jrnn", "PyTorch / jrnn sharded", "PyTorch / jrnn, one device")
    header = ["cell", "mode", "dtype", *itertools.chain.from_iterable((name, "below 1") for name in peers)]
    rows = [row(key, group) for key, group in groups(points, "cell", "mode", "dtype")]
    return table(header, [*rows, row(("all", "", ""), points)])


def memory(points: Sequence[Point]) -> Iterator[str]:
    """Temporary memory and time in training at the longest time beside Flax's, by engine, and seconds of compilation."""
    longest = max((point["time"] for point in points), default=0)
    group = [point for point in points if point["mode"] == "train" and point["time"] == longest]
    engines = [name for name in dict.fromkeys(name for point in group for name in point["rows"]) if is_engine(name)]
    for flax, name in itertools.product(("flax-nnx", "flax-linen"), ("jrnn", *engines)):
        ratios = {
            what: [value for point in group if (value := over(point, flax, name, field))]
            for what, field in (("temporary memory", "temporary_bytes"), ("time", "median"))
        }
        if all(ratios.values()):
            parts = (f"{what} {mean(v):.2f} ({min(v):.2f} to {max(v):.2f})" for what, v in ratios.items())
            yield f"- Training at T={longest}, {flax} / {name}, {len(ratios['time'])} points: {', '.join(parts)}."
    compilation = [over(point, "flax-nnx", "jrnn", "compile_seconds") for point in points]
    if value := mean(compilation):
        yield f"- Compile time, flax-nnx / jrnn: {value:.2f}."


def is_engine(name: str) -> bool:
    """Whether a row is jrnn with another engine."""
    return name.startswith("jrnn ") and name != "jrnn sharded" and "(" not in name


def worst(points: Sequence[Point], title: str, against: Against, count: int = 5) -> Iterator[str]:
    found = sorted((value, label(point)) for point in points if (value := against(point, "median")) is not None)
    if found:
        yield f"- {title}: " + "; ".join(f"{number(value)} {name}" for value, name in found[:count])


def failures(points: Sequence[Point]) -> Iterator[str]:
    """Why peers were not timed, each reason once."""
    found: dict[tuple[str, str], list[str]] = {}
    for point in points:
        for name, row in point["rows"].items():
            if "failed" in row:
                found.setdefault((name, row["failed"]), []).append(label(point))
    if found:
        yield from ("", "Not timed:", "")
    for (name, why), where in found.items():
        yield f"- {name}, {len(where)} points (first {where[0]}): {why}"


def whole_grid(result: Result) -> Iterator[str]:
    yield from (
        "## The whole grid",
        "",
        "Times in ms are medians; peers: ratios of medians (of minima) to jrnn on one device, the sharded column: PyTorch over "
        "jrnn sharded. Rate: the share of the machine's float32 matrix rate that jrnn's products reach, on one device and "
        "sharded on all. MiB: temporary memory. Compile: seconds.",
    )
    for (cell, mode, dtype), points in groups(result["points"], "cell", "mode", "dtype"):
        rows: dict[str, Any] = {}
        for point in points:
            rows |= point["rows"]
        names = [name for name, row in rows.items() if row["kind"] != "jrnn"]
        engines = [name for name in rows if is_engine(name)]
        header = ["H", "B", "T", "jrnn ms", "rate", "sharded ms", "rate", *names, "PyTorch / sharded", *engines]
        header += ["MiB jrnn", "MiB flax-nnx", "compile jrnn", "compile flax-nnx"]
        yield from ("", f"### {cell}, {mode}, {dtype}", "")
        points = sorted(points, key=lambda point: (point["hidden"], point["batch"], point["time"]))
        yield from table(header, [grid_row(point, names, engines, result["rates"]) for point in points])


def grid_row(point: Point, names: Sequence[str], engines: Sequence[str], rates: Mapping[str, float]) -> list[str]:
    def own(row: str, rate: str) -> Iterator[str]:
        median = point["rows"].get(row, {}).get("median")
        yield f"{1e3 * median:.3g}" if median else ""
        yield f"{point['flop'] / median / rates[rate]:.0%}" if median else ""

    def known(row: str, key: str, unit: float) -> str:
        value = point["rows"].get(row, {}).get(key)
        return "" if value is None else f"{value / unit:.2f}"

    return [
        *(str(point[axis]) for axis in ("hidden", "batch", "time")),
        *own("jrnn", "one device"),
        *own("jrnn sharded", "all devices"),
        *(
            "not timed"
            if "failed" in point["rows"].get(name, {})
            else pair(peer(point, name), peer(point, name, "min"))
            for name in names
        ),
        pair(torch(point), torch(point, "min")),
        *(pair(over(point, name, "jrnn", "median"), over(point, name, "jrnn", "min")) for name in engines),
        *(known(row, "temporary_bytes", 2**20) for row in ("jrnn", "flax-nnx")),
        *(known(row, "compile_seconds", 1.0) for row in ("jrnn", "flax-nnx")),
    ]


def draw(path: Path, points: Sequence[Point]) -> None:
    """A panel for each cell and mode, a line of dots for each peer, a dot for each point, a bar at the geometric mean."""
    from matplotlib.figure import Figure  # slow to import; needs no display

    cells, modes = ([key for (key,), _ in groups(points, name)] for name in ("cell", "mode"))
    hidden = sorted({point["hidden"] for point in points})
    color = dict(zip(hidden, itertools.cycle(COLORS if len(hidden) > 1 else COLORS[2:])))
    lines = lines_of(points)
    size = (max(1.6 + 3.0 * len(cells), 7.0), 1.4 + (0.6 + 0.32 * len(lines)) * len(modes))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(modes), len(cells), squeeze=False, sharex=True, sharey=True)
    for (row, mode), (column, cell) in itertools.product(enumerate(modes), enumerate(cells)):
        axes = panels[row][column]
        here = [point for point in points if (point["cell"], point["mode"]) == (cell, mode)]
        for height, against in enumerate(lines.values()):
            ratios = [(point, value) for point in here if (value := against(point, "median")) is not None]
            for point, value in ratios:
                shift = 0.5 * (hidden.index(point["hidden"]) + 0.5) / len(hidden) - 0.25
                marker = MARKERS[point["dtype"]]
                axes.plot(value, height + shift, marker, color=color[point["hidden"]], markersize=4, alpha=0.8)
            if middle := mean(value for _, value in ratios):
                axes.plot([middle, middle], [height - 0.38, height + 0.38], color="black", linewidth=1.5)
        axes.axvline(1.0, color="#d62728", linewidth=1)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}x")
        axes.set_yticks(range(len(lines)), list(lines))
        axes.set_title(f"{cell}, {mode}", fontsize=10)
        axes.grid(alpha=0.3)
        if row == len(modes) - 1:
            axes.set_xlabel("peer's time / jrnn's")
    panels[0][0].invert_yaxis()
    legend(figure, color, sorted({point["dtype"] for point in points}, reverse=True))
    figure.suptitle("Right of the red line jrnn is faster; bars: geometric means", fontsize=11)
    partial = path.with_suffix(".partial")
    figure.savefig(partial, format="png", dpi=110)
    partial.replace(path)


def lines_of(points: Sequence[Point]) -> dict[str, Against]:
    """The rows of a panel: what jrnn is compared with."""
    kinds = {name: row["kind"] for point in points for name, row in point["rows"].items() if "median" in row}
    lines: dict[str, Against] = {}
    for name in sorted(name for name, kind in kinds.items() if kind == "jax"):
        lines[name] = lambda point, statistic, name=name: peer(point, name, statistic)
    if lines:
        lines["best JAX peer"] = best
    if "pytorch" in kinds:
        lines["PyTorch / one device"] = lambda point, statistic: peer(point, "pytorch", statistic)
        if "jrnn sharded" in kinds:
            lines["PyTorch / sharded"] = torch
    return lines


def legend(figure: Any, color: Mapping[int, str], dtypes: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=c, marker="s", linestyle="", label=f"H={h}") for h, c in color.items()]
    handles += [Line2D([], [], color="black", marker=MARKERS[dtype], linestyle="", label=dtype) for dtype in dtypes]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)
