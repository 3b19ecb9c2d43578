"""PyTorch's own layers, on the weights of a jrnn cell: all cores of a CPU, or the GPU."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from experiments.common.command import cores

from .measure import Program
from .peers import pull_back
from .textbook import Data, gradients_by_name


@dataclasses.dataclass(frozen=True)
class TorchLayer:
    """`torch.nn.RNN`, `LSTM` (also with a projection) or `GRU`."""

    net: torch.nn.RNNBase
    gru: bool

    function: str | None = None

    def convert(self, p: Any) -> Any:
        """jrnn's parameters as PyTorch's, in its order; its second bias is 0 except inside the reset of the GRU."""
        second = jnp.zeros_like(p.b)
        if self.gru:
            second = jnp.concatenate([second[: -p.b_n.size], p.b_n])
        projection = (p.w_r.T,) if hasattr(p, "w_r") else ()
        return (p.w_x.T, p.w_h.T, p.b, second, *projection)

    def program(self, mode: str, data: Data) -> Program:
        weights = list(self.net.parameters())
        with torch.no_grad():
            for weight, value in zip(weights, self.convert(data.params), strict=True):
                weight.copy_(tensor(value))
        cuda, dtype = weights[0].is_cuda, weights[0].dtype
        if cuda:
            self.net.flatten_parameters()
        xs = tensor(data.xs).to(weights[0].device, dtype).requires_grad_(mode == "train")
        cotangent = tensor(data.cotangent).to(weights[0].device, dtype)

        def call() -> Any:
            if mode == "forward":
                with torch.no_grad():
                    out = self.net(xs)[0]
            else:
                out = torch.autograd.grad(self.net(xs)[0], [*weights, xs], cotangent)
            if cuda:
                torch.cuda.synchronize()
            return out

        def read(out: Any) -> dict[str, np.ndarray]:
            if mode == "forward":
                return {"ys": array(out)}
            *gradients, of_xs = map(array, out)
            return gradients_by_name(pull_back(self.convert, data.params, tuple(gradients)), of_xs)

        return Program(call, read)


def pytorch(function: str, cell: Any, dtype: str) -> TorchLayer | None:
    """Time first, `batch_first=False`."""
    torch.set_num_threads(cores())
    nets = {"elman": torch.nn.RNN, "lstm": torch.nn.LSTM, "projected_lstm": torch.nn.LSTM, "gru": torch.nn.GRU}
    if function not in nets:
        return None
    options = {"proj_size": cell.proj_size} if function == "projected_lstm" else {}
    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    options |= {"device": device, "dtype": getattr(torch, dtype)}
    return TorchLayer(nets[function](cell.input_size, cell.hidden_size, **options), gru=function == "gru")


def tensor(a: Any) -> torch.Tensor:
    """NumPy's bfloat16 is not PyTorch's, so by way of float32."""
    return torch.tensor(np.asarray(a, np.float32))


def array(a: torch.Tensor) -> np.ndarray:
    return a.detach().float().cpu().numpy()
