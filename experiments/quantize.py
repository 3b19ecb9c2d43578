"""int8 weights on the character model: what they save and what they cost.

Trains nothing: takes a run of `experiments.char_lm` and evaluates its best checkpoint with float32 and with int8 weights (one
scale per output column, state and arithmetic in float), and exports both, one character per call, as for a small device.

    python -m experiments.char_lm && python -m experiments.quantize --run runs/char_lm/TIME

On the default run (an LSTM of 256 units, Python 3.11's standard library) 1.2997 nats per character become 1.3000, and 1.44 MB
become 0.37; half a minute on two cores.
"""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import jax
import tyro

from experiments import char_lm
from experiments.data import text
from experiments.data.windows import BATCH_AXES, Windows
from experiments.run import console, explained, read_config, use_all_cores
from jrnn.checkpoint import Checkpoints
from jrnn.interop import stablehlo
from jrnn.interop.int8 import dequantize, quantize
from jrnn.models import LanguageModel
from jrnn.train import make_evaluate

NAME = "quantize"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Compare float32 and int8 weights of a trained character model."""

    run: Path
    """Run directory of a trained model; its best checkpoint is used."""
    data_dir: Path | None = None
    """Where to look for data first; then in the environment variable JRNN_DATA, then it is downloaded."""


def compare(config: Config) -> dict[str, dict[str, Any]]:
    """For float32 and int8: nats per character of what was held out, bytes of the weights and of both exports."""
    trained = read_config(config.run, char_lm.NAME, char_lm.Config)
    vocabulary = json.loads((config.run / char_lm.VOCABULARY).read_text())
    model = char_lm.build(trained, vocabulary)
    checkpoints = Checkpoints(config.run / "checkpoints")
    params = checkpoints.restore(char_lm.start(model, trained)[0], checkpoints.best()).state.params
    corpus = text.load(trained.corpus, file=trained.data, data_dir=config.data_dir or trained.data_dir)
    part = "valid" if corpus.test is None else "test"
    held_out = text.encode(getattr(corpus, part), vocabulary)
    rows = Windows(held_out, **char_lm.evaluation_shape(len(held_out)))
    evaluate = make_evaluate(char_lm.make_loss(model), batch_axes=BATCH_AXES)
    carry = model.initial_state(params, rows[0].inputs.shape[1:])

    def measured(weights: Any) -> dict[str, Any]:
        return {
            f"nats, {part}": evaluate(dequantize(weights), carry, (rows[i] for i in range(len(rows)))),
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


def main(arguments: list[str] | None = None) -> None:
    use_all_cores()
    with explained():
        config = tyro.cli(Config, args=arguments, prog=f"python -m experiments.{NAME}", description=__doc__)
        found = compare(config)
    nats, *sizes = found["float32"]
    console.print("| weights |", " | ".join(found["float32"]), "|")
    for name, row in found.items():
        console.print(
            f"| {name} | {row[nats]:.4f} |",
            " | ".join(f"{row[s]:,}" if isinstance(row[s], int) else row[s] for s in sizes),
            "|",
        )
    console.print(f"int8 changes the loss by {100 * (found['int8'][nats] / found['float32'][nats] - 1):+.2f} %")


if __name__ == "__main__":
    main(sys.argv[1:])
