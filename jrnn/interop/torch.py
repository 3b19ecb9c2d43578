"""PyTorch: the state dict of `nn.RNN`, `nn.LSTM`, `nn.GRU` and their cells. PyTorch itself need not be installed.

PyTorch stores weights transposed, and two biases. Only their sum matters, except for the GRU's n, where the second lies inside
the reset gate: it is `b_n`. The way out puts `b` in the first and zeros in the second. The module itself may be given in place
of its state dict: its options are then compared with the layer's. Tensors alone do not say whether an `nn.RNN` has tanh or
ReLU, or whether an `nn.LSTM` is one: what the layer has is assumed.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..arrays import copied
from ..cell import Cell
from ..cells import GRU, LSTM, Elman, ProjectedLSTM
from ..cells.elman import ElmanParams
from ..cells.gru import GRUParams
from ..cells.lstm import LSTMParams, ProjectedLSTMParams
from ..checks import check_params, describe
from ..layers import BatchFirst, Bidirectional, Dropout, Layer, Layered, Recurrent, rnn
from .arrays import check_alike, checked, is_kind, is_own, require, template, unsupported

KINDS = (Elman, LSTM, ProjectedLSTM, GRU)
PARAMS = (ElmanParams, LSTMParams, ProjectedLSTMParams, GRUParams)


def from_state_dict(layer: Layer | Cell, state_dict: Any, *, prefix: str = "") -> Any:
    """The parameters of `layer` from the state dict of the PyTorch module that computes the same.

    - `layer`: what `jrnn.rnn(...)` builds; a cell or `Recurrent` is a network of one layer.
    - `state_dict`: tensors or NumPy arrays by PyTorch's names (`weight_ih_l0`, `weight_hh_l0`, `bias_ih_l0`, ...); or the
      `nn.RNN`, `nn.LSTM` or `nn.GRU` itself, whose options are then compared with those of `layer`. For one layer in one
      direction also an `nn.RNNCell`, `nn.LSTMCell` or `nn.GRUCell` or its tensors (`weight_ih`, ...).
    - `prefix`: where the network lies in a larger model, such as `"encoder.rnn."`; other names are then ignored.

    Raises ValueError or TypeError, naming the tensor, where one is missing, left over, or of another shape or dtype, and
    naming the option where the layer has one that PyTorch does not have.
    """
    cells = _cells(layer)
    shapes = {f"{prefix}{name}{place}": shape for place, cell in cells.items() for name, shape in _shapes(cell).items()}
    if hasattr(state_dict, "state_dict"):
        _compare(next(iter(cells.values())), state_dict)
        state_dict = state_dict.state_dict(prefix=prefix)
    if isinstance(state_dict, Mapping) and f"{prefix}weight_ih" in state_dict and list(cells) == ["_l0"]:
        state_dict = {
            f"{name}_l0" if str(name).startswith(prefix) else name: tensor for name, tensor in state_dict.items()
        }
    if prefix and isinstance(state_dict, Mapping):
        state_dict = {name: tensor for name, tensor in state_dict.items() if str(name).startswith(prefix)}
    arrays = checked(state_dict, shapes, layer, "state_dict")
    each = [
        _from_torch(cell, {name: arrays[f"{prefix}{name}{place}"] for name in _shapes(cell)})
        for place, cell in cells.items()
    ]
    structure = jax.tree.structure(jax.eval_shape(layer.init, jax.random.key(0)), is_leaf=_is_cell)
    return copied(jax.tree.unflatten(structure, each))


def load(module: Any) -> tuple[Any, Any]:
    """An `nn.RNN`, `nn.LSTM` or `nn.GRU` as `(layer, params)`, with all its options; an `nn.LSTMCell` and the like as
    `(cell, params)`.

    `layer.apply(params, xs)` gives `(state, ys)`: `ys` is what the module returns first, on arrays laid out as it has them
    (`batch_first`). Raises TypeError where the module is another, one made from these included.
    """
    kinds = {"RNN": Elman, "LSTM": LSTM, "GRU": GRU}
    if not is_own(module, "torch.nn", *kinds, *(f"{name}Cell" for name in kinds)):
        raise TypeError(
            f"module is {describe(module)}; expected an nn.RNN, nn.LSTM or nn.GRU, or a cell of these: of a larger model load "
            "those inside it, and of a state dict alone make the layer by jrnn.rnn and its parameters by from_state_dict"
        )
    name = type(module).__name__
    sizes: dict[str, Any] = {"input_size": module.input_size, "hidden_size": module.hidden_size, "bias": module.bias}
    if name.startswith("RNN"):
        sizes["activation"] = module.nonlinearity
    kind: Any = kinds[name.removesuffix("Cell")]
    if name.endswith("Cell"):
        model: Any = kind(**sizes)
    else:
        if module.proj_size:
            kind, sizes = ProjectedLSTM, sizes | {"proj_size": module.proj_size}
        stack = {name: getattr(module, name) for name in ("num_layers", "bidirectional", "batch_first")}
        model = rnn(kind, **sizes, **stack, dropout=module.dropout if module.num_layers > 1 else 0.0)
    return model, from_state_dict(model, module)


def to_state_dict(layer: Layer | Cell, params: Any, *, prefix: str = "") -> dict[str, np.ndarray]:
    """NumPy arrays by PyTorch's names, for `load_state_dict` after `torch.as_tensor` of each; an `nn.LSTMCell` has them
    without `_l0`.

    bfloat16 comes as float32, which holds the same numbers, since NumPy has no bfloat16; PyTorch casts it back as it loads.
    Raises as `from_state_dict`.
    """
    cells = _cells(layer)
    check_params(layer, params)
    each = jax.tree.leaves(params, is_leaf=_is_cell)
    return {
        f"{prefix}{name}{place}": _plain(array)
        for (place, cell), part in zip(cells.items(), each, strict=True)
        for name, array in _to_torch(cell, part).items()
    }


def _cells(layer: Any) -> dict[str, Cell]:
    """Each cell by the end of its names: `_l0`, `_l0_reverse`, `_l1`, ..., in the order of the layer's parameters."""
    layer = Recurrent(layer) if isinstance(layer, Cell) else layer
    layer = layer.layer if isinstance(layer, BatchFirst) else layer
    stack = [part for part in layer.layers if not isinstance(part, Dropout)] if isinstance(layer, Layered) else [layer]
    cells = {}
    for depth, part in enumerate(stack):
        ways = (part.forward, part.backward) if isinstance(part, Bidirectional) else (part,)
        for way, one in zip(("", "_reverse"), ways, strict=False):
            if not isinstance(one, Recurrent) or one.reverse != bool(way):
                raise TypeError(
                    f"{one} at layer {depth} has no counterpart in PyTorch; expected what jrnn.rnn(...) builds: "
                    "Recurrent, or Bidirectional of one and one in reverse"
                )
            cells[f"_l{depth}{way}"] = one.cell
    kinds = {_kind(cell) for cell in cells.values()}
    if len(kinds) > 1 or len({isinstance(part, Bidirectional) for part in stack}) > 1:
        raise ValueError(
            f"{layer} has layers of different kinds ({'; '.join(sorted(kinds))}; one direction and both); expected the "
            "same throughout, as PyTorch has it: convert each layer on its own"
        )
    return cells


def _compare(cell: Any, module: Any) -> None:
    """`module` computes what layers of `cell` do; how many they are, and their sizes, the names and shapes of its tensors say."""
    name = "RNN" if isinstance(cell, Elman) else "LSTM" if isinstance(cell, ProjectedLSTM) else type(cell).__name__
    if not is_kind(module, name, f"{name}Cell"):
        raise TypeError(f"state_dict is a module {type(module).__name__}; {cell} expects nn.{name} or its state dict")
    if isinstance(cell, Elman):
        check_alike(cell, "nn.RNN", activation=("nonlinearity", module.nonlinearity))


def _kind(cell: Cell) -> str:
    """The cell in PyTorch's words, all but its input size; raises where PyTorch does not have it."""
    if type(cell) not in KINDS:
        raise unsupported(cell, "PyTorch", KINDS)
    if isinstance(cell, Elman):
        require(cell, "PyTorch", activation=("tanh", "relu"))
        return f"RNN, hidden_size={cell.hidden_size}, bias={cell.bias}, nonlinearity={cell.activation}"
    if isinstance(cell, GRU):
        require(cell, "PyTorch", reset_after=(True,), activation=("tanh",), gate_activation=("sigmoid",))
        return f"GRU, hidden_size={cell.hidden_size}, bias={cell.bias}"
    assert isinstance(cell, LSTM | ProjectedLSTM)
    require(cell, "PyTorch", activation=("tanh",), gate_activation=("sigmoid",))
    projection = cell.proj_size if isinstance(cell, ProjectedLSTM) else 0
    return f"LSTM, hidden_size={cell.hidden_size}, proj_size={projection}, bias={cell.bias}"


def _shapes(cell: Any) -> dict[str, tuple[int, ...]]:
    rows = len(cell.gates) * cell.hidden_size
    shapes = {"weight_ih": (rows, cell.input_size), "weight_hh": (rows, cell.output_size)}
    if cell.bias:
        shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
    if isinstance(cell, ProjectedLSTM):
        shapes |= {"weight_hr": (cell.proj_size, cell.hidden_size)}
    return shapes


def _from_torch(cell: Any, w: dict[str, np.ndarray]) -> Any:
    fields = {"w_x": w["weight_ih"].T, "w_h": w["weight_hh"].T}
    if isinstance(cell, ProjectedLSTM):
        fields["w_r"] = w["weight_hr"].T
    if cell.bias:
        first, second = w["bias_ih"], w["bias_hh"]
        if isinstance(cell, GRU):
            kept = 2 * cell.hidden_size
            fields["b_n"] = second[kept:]
            second = np.concatenate([second[:kept], np.zeros_like(second[kept:])])
        # Not first + 0, so that -0.0 comes back as it went.
        fields["b"] = np.where(second == 0, first, first + second)
    return template(cell)._replace(**fields)


def _to_torch(cell: Any, params: Any) -> dict[str, np.ndarray]:
    w = {name: np.asarray(array) for name, array in params._asdict().items() if array is not None}
    out = {"weight_ih": w["w_x"].T, "weight_hh": w["w_h"].T}
    if cell.bias:
        out["bias_ih"] = w["b"]
        out["bias_hh"] = np.zeros_like(w["b"])
        if isinstance(cell, GRU):
            out["bias_hh"][2 * cell.hidden_size :] = w["b_n"]
    if isinstance(cell, ProjectedLSTM):
        out["weight_hr"] = w["w_r"].T
    return out


def _plain(array: np.ndarray) -> np.ndarray:
    """A copy of its own: `np.asarray` of a JAX array may not be written to, of which PyTorch warns."""
    return np.array(array, np.float32 if array.dtype == jnp.bfloat16 else array.dtype, order="C")


def _is_cell(node: Any) -> bool:
    return isinstance(node, PARAMS)
