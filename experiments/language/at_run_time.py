"""A language model in onnxruntime: as float, with 8-bit weights, and with products of 8-bit integers; size, time and loss."""

import logging
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.common.extras import MissingPackage
from jrnn.interop.int8 import quantize
from jrnn.models import LanguageModel


class AtRunTime(NamedTuple):
    """One file and what it does on one core."""

    size: int  # bytes, of a step's
    microseconds: float  # a token, one row: the median of the rounds
    nats: float  # a token


def measured(model: LanguageModel, params: Any, tokens: np.ndarray, *, steps: int = 500) -> dict[str, AtRunTime]:
    """By kind. `tokens` [time, rows], int32, each row begun anew; times are of calls interleaved, of `steps` tokens each."""
    try:
        import onnx
        import onnxruntime as runtime
        from onnxruntime import quantization

        from jrnn.interop.onnx import export
    except ImportError as error:
        raise MissingPackage(f"needs {error.name}: pip install 'jrnn[interop]' onnxruntime") from error

    with tempfile.TemporaryDirectory() as folder:
        paths: dict[str, dict[str, Path]] = {}
        for what, step in (("step", True), ("whole", False)):
            protos = {
                "float32": export(model, params, step=step),
                "int8 weights": export(model, quantize(params), step=step),
            }
            paths[what] = {name: Path(folder, f"{name}-{what}.onnx") for name in (*protos, "int8 products")}
            for name, proto in protos.items():
                onnx.save(proto, paths[what][name])
            logging.disable(logging.WARNING)  # it recommends to prepare what is prepared
            try:
                quantization.quantize_dynamic(
                    paths[what]["float32"], paths[what]["int8 products"], weight_type=quantization.QuantType.QInt8
                )
            finally:
                logging.disable(logging.NOTSET)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        sessions = {
            what: {
                name: runtime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
                for name, path in each.items()
            }
            for what, each in paths.items()
        }
        nats = {name: _nats(session, tokens) for name, session in sessions["whole"].items()}
        rounds: dict[str, list[float]] = {name: [] for name in sessions["step"]}
        for _ in range(7):
            for name, session in sessions["step"].items():
                rounds[name].append(_seconds(session, tokens[: steps + 1, 0]) / steps)
        return {
            name: AtRunTime(paths["step"][name].stat().st_size, 1e6 * statistics.median(rounds[name]), nats[name])
            for name in rounds
        }


def _blank(session: Any, rows: int) -> dict[str, np.ndarray]:
    return {
        one.name: np.zeros((rows, one.shape[-1]), np.float32)
        for one in session.get_inputs()
        if one.name.startswith("state")
    }


def _nats(session: Any, tokens: np.ndarray) -> float:
    logits = session.run(["ys"], {"xs": tokens[:-1], **_blank(session, tokens.shape[1])})[0].astype(np.float64)
    logits -= logits.max(-1, keepdims=True)
    chosen = np.take_along_axis(logits, tokens[1:, :, None].astype(int), -1)[..., 0]
    return float((np.log(np.exp(logits).sum(-1)) - chosen).mean())


def _seconds(session: Any, tokens: np.ndarray) -> float:
    """For a step a token, the state handed on."""
    names = [one.name for one in session.get_outputs()]
    state = _blank(session, 1)
    started = time.perf_counter()
    for token in tokens[:-1]:
        found = dict(zip(names, session.run(names, {"x": token[None], **state}), strict=True))
        state = {name: found[f"new_{name}"] for name in state}
    return time.perf_counter() - started
