"""Streaming: an LSTM reads audio one sample at a time, as it comes, and says the same as over the whole recording.

The step is compiled once with its state donated: the new state takes the old one's memory. Measured is what a user waits for,
from a NumPy sample to a NumPy output, next to PyTorch and onnxruntime with the same weights (random ones: neither time nor
agreement depends on training). PyTorch and onnxruntime run on one thread, which is faster for so little work, and JAX computes
in the calling thread: handing a step to another one takes longer than a small step itself.

    python -m experiments.streaming
"""

import dataclasses
import functools
import importlib.util
import time
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jrnn
from experiments.common.command import command
from experiments.common.run import console
from jrnn.interop import torch as to_torch

NAME = "streaming"
WARM_UP = 50  # steps that are not counted
Push = Callable[[np.ndarray], np.ndarray]  # x [1, 1] -> y [1, hidden]; what it saw before is its own


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Stream audio through an LSTM and measure each step."""

    hidden: tuple[int, ...] = (32, 128, 512)
    """Units of the LSTM; one row of the table for each."""
    samples: int = 2000
    """How many samples to stream."""
    wav: Path | None = None
    """A WAV file of 16 bits, of which the first channel is read; by default a tone that rises, and noise."""

    def __post_init__(self) -> None:
        if min(self.hidden, default=0) < 1:
            raise ValueError(f"--hidden is {self.hidden}; expected one or more sizes of at least 1")
        if self.samples <= WARM_UP:
            raise ValueError(f"--samples is {self.samples}; expected more than {WARM_UP}, which are not counted")


@dataclasses.dataclass(frozen=True)
class Measured:
    """One way to run one size."""

    hidden: int
    way: str
    median: float  # microseconds
    slowest: float  # microseconds: 99 % of the steps take less
    difference: float  # the largest from `unroll`


def audio(config: Config) -> np.ndarray:
    """Samples [time, 1, 1] within -1..1."""
    if config.wav is None:
        t = np.arange(config.samples) / 16_000
        noise = np.random.default_rng(0).standard_normal(config.samples)
        wave_form = 0.5 * np.sin(2 * np.pi * (200 + 2000 * t) * t) + 0.05 * noise
    else:
        wave_form = read_wav(config.wav)[: config.samples]
        if len(wave_form) <= WARM_UP:
            raise ValueError(f"--wav {config.wav} has {len(wave_form)} samples; expected more than {WARM_UP}")
    return wave_form.astype(np.float32).reshape(-1, 1, 1)


def read_wav(path: Path) -> np.ndarray:
    """The first channel of a WAV file [time], within -1..1."""
    try:
        with wave.open(str(path)) as file:
            if file.getsampwidth() != 2:
                raise ValueError(f"--wav {path} has {8 * file.getsampwidth()} bits a sample; expected 16")
            return np.frombuffer(file.readframes(file.getnframes()), "<i2")[:: file.getnchannels()] / 2**15
    except (wave.Error, EOFError) as error:
        raise ValueError(f"--wav {path} cannot be read as a WAV file: {error}") from error


def start_jrnn(cell: jrnn.LSTM, params: Any) -> Push:
    @functools.partial(jax.jit, donate_argnums=0)
    def step(state: Any, x: jax.Array) -> tuple[Any, jax.Array]:
        return cell.step(params, state, x)

    state = cell.initial_state(params, (1,))

    def push(x: np.ndarray) -> np.ndarray:
        nonlocal state
        state, y = step(state, x)
        return np.asarray(y)

    return push


def torch_weights(cell: jrnn.LSTM, params: Any, suffix: str) -> dict[str, Any]:
    """By the names of PyTorch's LSTM, or of its cell, which number no layers."""
    import torch

    arrays = to_torch.to_state_dict(cell, params)
    return {name.replace("_l0", suffix): torch.as_tensor(array) for name, array in arrays.items()}


def start_torch(cell: jrnn.LSTM, params: Any) -> Push:
    import torch

    torch.set_num_threads(1)
    net = torch.nn.LSTM(1, cell.hidden_size)
    net.load_state_dict(torch_weights(cell, params, "_l0"))
    state = None

    @torch.inference_mode()
    def push(x: np.ndarray) -> np.ndarray:
        nonlocal state
        y, state = net(torch.from_numpy(x[None]), state)
        return y[0].numpy()

    return push


def start_torch_cell(cell: jrnn.LSTM, params: Any) -> Push:
    import torch

    torch.set_num_threads(1)
    net = torch.nn.LSTMCell(1, cell.hidden_size)
    net.load_state_dict(torch_weights(cell, params, ""))
    state = None

    @torch.inference_mode()
    def push(x: np.ndarray) -> np.ndarray:
        nonlocal state
        state = net(torch.from_numpy(x), state)
        return state[0].numpy()

    return push


def start_onnxruntime(cell: jrnn.LSTM, params: Any) -> Push:
    import onnxruntime

    from jrnn.interop import onnx

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = onnx.export(cell, params, step=True).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    h = c = np.zeros((1, cell.hidden_size), np.float32)

    def push(x: np.ndarray) -> Any:
        nonlocal h, c
        y, h, c = session.run(["y", "new_state.h", "new_state.c"], {"x": x, "state.h": h, "state.c": c})
        return y

    return push


WAYS: dict[str, tuple[Callable[[jrnn.LSTM, Any], Push], tuple[str, ...]]] = {
    "jrnn, jit, state donated": (start_jrnn, ()),
    "torch.nn.LSTM, time 1": (start_torch, ("torch",)),
    "torch.nn.LSTMCell": (start_torch_cell, ("torch",)),
    "onnxruntime, exported step": (start_onnxruntime, ("onnx", "onnxruntime")),
}


def missing(packages: tuple[str, ...]) -> list[str]:
    return [package for package in packages if importlib.util.find_spec(package) is None]


def measure(push: Push, xs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Outputs [time, 1, hidden], and the microseconds of each step but the first few."""
    ys, ends = [], [time.perf_counter_ns()]
    for x in xs:
        ys.append(push(x))
        ends.append(time.perf_counter_ns())
    return np.stack(ys), np.diff(ends)[WARM_UP:] / 1000


def stream(config: Config) -> list[Measured]:
    xs, found = audio(config), []
    for hidden in config.hidden:
        cell = jrnn.LSTM(1, hidden)
        params = cell.init(jax.random.key(0))
        whole = np.asarray(jax.jit(jrnn.unroll, static_argnums=0)(cell, params, xs)[1])
        for way, (start, packages) in WAYS.items():
            if missing(packages):
                continue
            ys, times = measure(start(cell, params), xs)
            median, slowest = map(float, np.percentile(times, [50, 99]))
            found.append(Measured(hidden, way, median, slowest, float(np.abs(ys - whole).max())))
    return found


def compute_in_the_calling_thread() -> None:
    jax.config.update("jax_cpu_enable_async_dispatch", False)  # 12 in place of 24 µs per step of 32 units


def show(config: Config) -> None:
    """Stream, as a table."""
    found = stream(config)
    console.print("| hidden | one step by | median, µs | 99 % below, µs | largest difference from unroll |")
    for row in found:
        console.print(f"| {row.hidden} | {row.way} | {row.median:.1f} | {row.slowest:.1f} | {row.difference:.0e} |")
    for way, (_, packages) in WAYS.items():
        if absent := missing(packages):
            console.print(f"{way}: {' and '.join(absent)} not installed")


main = command(NAME, Config, show, prepare=compute_in_the_calling_thread)

if __name__ == "__main__":
    main()
