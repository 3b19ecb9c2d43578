"""What was recorded by the experiments and the benchmarks: pages show it with the command that made it."""

import json
import os
from pathlib import Path

from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "experiments" / "results"
MOST = 16
"""Numbers of a run that a sentence lists."""
MEMORY = ROOT / "experiments" / "benchmarks" / "results" / "2026-11-25-epyc-2-cores-memory" / "result.json"


class Recorded(SphinxDirective):
    """A recorded run of an experiment: `{recorded} NAME`, with a picture of it and the last text that it wrote."""

    required_arguments = 1
    option_spec = {"picture": directives.unchanged, "samples": directives.unchanged}  # noqa: RUF012

    def run(self):
        folder = RESULTS / self.arguments[0]
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        self.env.note_dependency(str(folder / "result.json"))
        lines = [said(self.arguments[0], result), ""]
        if name := self.options.get("picture"):
            where = Path(os.path.relpath(folder / name, Path(self.env.doc2path(self.env.docname)).parent)).as_posix()
            lines += [f"```{{image}} {where}", f":alt: {name} of the run", ":class: recorded", "```", ""]
        if name := self.options.get("samples"):
            text = (folder / name).read_text(encoding="utf-8")
            lines += [
                "What it writes at the end:",
                "",
                "```text",
                text.rpartition("--- ")[2].partition("\n")[2].rstrip(),
                "```",
            ]
        return self.parse_text_to_nodes("\n".join(lines))


def said(name: str, result: dict) -> str:
    """One sentence about a recorded run: its command, what it came to and with which versions."""
    numbers = list(_numbers(result["metrics"]))
    if len(numbers) > MOST:
        numbers = [f"{len(numbers)} numbers, in `experiments/results/{name}/result.json`"]
    versions, machine = result["versions"], result["machine"]
    floors = ", ".join(f"{key.replace('_', ' ')} {value:.4g}" for key, value in result.get("floors", {}).items())
    floor = f" (floors: {floors})" if floors else ""
    return (
        f"Recorded by `{result.get('command', f'python -m experiments.{name}')}`, seed {result['config'].get('seed', 0)}, with jax "
        f"{versions['jax']} and Python {versions['python']} on {machine['cores']} cores: {'; '.join(numbers)}{floor}."
    )


def _numbers(metrics: dict, before: str = ""):
    for key, value in metrics.items():
        name = f"{before} {key}".replace("_", " ").strip()
        if isinstance(value, dict):
            yield from _numbers(value, name)
        elif isinstance(value, float):
            yield f"{name} {value:.4g}"


class Table(SphinxDirective):
    """A table of what was measured: `{recorded-table} engines`."""

    required_arguments = 1

    def run(self):
        self.env.note_dependency(str(MEMORY))
        return self.parse_text_to_nodes(TABLES[self.arguments[0]]())


def engines() -> str:
    """Memory and speed of each engine in training an LSTM."""
    points = [p for p in json.loads(MEMORY.read_text(encoding="utf-8"))["points"] if p["cell"] == "lstm"]
    columns = {
        "flax-nnx": "Flax nnx",
        "jrnn": "`LinearSolve()`",
        "jrnn states": '`save="states"`',
        "jrnn checkpointed": "`Checkpointed()`",
    }
    lines = ["| hidden, rows | " + " | ".join(columns.values()) + " |", "|---" * (1 + len(columns)) + "|"]
    for point in points:
        rows = point["rows"]
        cells = [
            f"{rows[name]['temporary_bytes'] / 2**20:.1f} MiB, {rows['flax-nnx']['median'] / rows[name]['median']:.2f}"
            for name in columns
        ]
        lines.append(f"| {point['hidden']}, {point['batch']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


TABLES = {"engines": engines}


def setup(app):
    app.add_directive("recorded", Recorded)
    app.add_directive("recorded-table", Table)
