"""int8 weights on the character model: what they save and what they cost.

Trains nothing: takes a run of `experiments.char_lm` and evaluates its best checkpoint with float32 and with int8 weights (one
scale per output column, state and arithmetic in float), and exports both, one character per call, as for a small device.

    python -m experiments.char_lm && python -m experiments.quantize --run runs/char_lm/TIME

On the default run (an LSTM of 256 units, Python 3.11's standard library) 1.2997 nats per character become 1.3000, and 1.44 MB
become 0.37; half a minute on two cores. Where onnxruntime is installed the exported model runs there, too: 8-bit weights alone take
more time, as they become floats at every step, and products of 8-bit integers (its dynamic quantisation) a fifth of float's: 74 and
362 microseconds a character on one busy core, the loss 0.0002 higher.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments import char_lm
from experiments.common.command import command
from experiments.common.extras import MissingPackage
from experiments.common.run import Trained, console
from experiments.data import text
from experiments.language import at_run_time
from jrnn.interop import stablehlo
from jrnn.interop.int8 import dequantize, quantize
from jrnn.models import LanguageModel

NAME = "quantize"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Trained):
    """Compare float32 and int8 weights of a trained character model."""

    data_dir: Path | None = None
    """Where to look for data first; then in the environment variable JRNN_DATA, then it is downloaded."""


def held_out(config: Config) -> tuple[str, np.ndarray, LanguageModel, Any]:
    """The part that was held out and its name; the model and its parameters."""
    trained, vocabulary, model, params = char_lm.open_trained(config.run)
    corpus = text.load(
        trained.corpus, file=trained.data, encoding=trained.encoding, data_dir=config.data_dir or trained.data_dir
    )
    part = "valid" if corpus.test is None else "test"
    return part, text.encode(getattr(corpus, part), vocabulary), model, params


def compare(config: Config) -> dict[str, dict[str, Any]]:
    """For float32 and int8: nats per character of what was held out, bytes of the weights and of both exports."""
    part, ids, model, params = held_out(config)
    evaluate = char_lm.held_out_loss(model, ids)

    def measured(weights: Any) -> dict[str, Any]:
        return {
            f"nats, {part}": evaluate(dequantize(weights)),
            "weights, bytes": sum(leaf.nbytes for leaf in jax.tree.leaves(weights)),
            "StableHLO, bytes": len(stablehlo.export(model, weights, step=True)),
            "ONNX, bytes": onnx_bytes(model, weights),
        }

    return {"float32": measured(params), "int8": measured(quantize(params))}


def onnx_bytes(model: LanguageModel, params: Any) -> int | str:
    """The size of the ONNX file, or why there is none."""
    try:
        from jrnn.interop import onnx

        return len(onnx.export(model, params, step=True).SerializeToString())
    except ImportError:
        return "onnx is not installed"
    except TypeError:
        return "ONNX has no such cell"


def show(config: Config) -> None:
    """Compare, as a table."""
    found = compare(config)
    _, ids, model, params = held_out(config)
    nats, *sizes = found["float32"]
    console.print("| weights |", " | ".join(found["float32"]), "|")
    for name, row in found.items():
        console.print(
            f"| {name} | {row[nats]:.4f} |",
            " | ".join(f"{row[s]:,}" if isinstance(row[s], int) else row[s] for s in sizes),
            "|",
        )
    console.print(f"int8 changes the loss by {100 * (found['int8'][nats] / found['float32'][nats] - 1):+.2f} %")
    steps = min(513, len(ids) // 32)
    try:
        ran = at_run_time.measured(model, params, np.ascontiguousarray(ids[: 32 * steps].reshape(32, steps).T))
    except (MissingPackage, TypeError) as error:  # TypeError: ONNX has no such cell
        console.print(f"onnxruntime: {error}", style="dim")
        return
    console.print(
        "| in onnxruntime, one core, a character a call | bytes | microseconds | nats per character, 32 rows of 512 |"
    )
    for name, one in ran.items():
        console.print(f"| {name} | {one.size:,} | {one.microseconds:.0f} | {one.nats:.4f} |")


main = command(NAME, Config, show)

if __name__ == "__main__":
    main()
