"""Haiku: the parameters of `hk.VanillaRNN`, `hk.LSTM` and `hk.GRU`. Haiku itself need not be installed.

Haiku's LSTM has one matrix for [x, h], the gates in the order i g f o, and adds 1 to its forget gate. Its GRU resets before the
product (`reset_after=False`), has the gates in the order z r n, and an open z lets the new in: 1 - σ(a) = σ(-a), so the block
changes its sign. Its VanillaRNN is always ReLU.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..cell import Cell
from ..cells import GRU, LSTM, Elman
from ..checks import check_params, describe
from .arrays import checked, regroup, require, template, to_jax, unsupported

MODULES: dict[type, str] = {Elman: "vanilla_rnn", LSTM: "lstm", GRU: "gru"}
LSTM_ORDER, GRU_ORDER = "igfo", "zrn"


def from_params(cell: Cell, params: Mapping[str, Any], *, module: str | None = None) -> Any:
    """The parameters of `cell` from Haiku's `{module: {name: array}}`.

    `module` is the core's name in a larger model, such as `"agent/~/lstm"`, by default the name Haiku itself gives it; the
    parameters of other modules are ignored. Raises ValueError or TypeError, naming the array or option, where one is missing,
    left over, of another shape or dtype, or has no counterpart.
    """
    module = _module(cell, module)
    if not isinstance(params, Mapping):
        raise TypeError(f"params is {describe(params)}; expected Haiku's dictionary of modules")
    own = {name: arrays for name, arrays in params.items() if f"{name}/".startswith(f"{module}/")}
    for name, arrays in own.items():
        if not isinstance(arrays, Mapping):
            raise TypeError(f"params: {name} is {describe(arrays)}; expected a dictionary of arrays by name")
    found = {f"{name}/{key}": array for name, arrays in own.items() for key, array in arrays.items()}
    shapes = {f"{module}/{name}": shape for name, shape in _shapes(cell).items()}
    if isinstance(cell, Elman) and f"{module}/linear_1/b" not in found:
        del shapes[f"{module}/linear_1/b"]  # double_bias=False
    arrays = checked(found, shapes, cell, "params")
    w = {name.removeprefix(f"{module}/"): array for name, array in arrays.items()}
    return to_jax(template(cell)._replace(**_from_haiku(cell, w)))


def to_params(cell: Cell, params: Any, *, module: str | None = None) -> dict[str, dict[str, jax.Array]]:
    """Haiku's `{module: {name: array}}` for the core that computes the same. Raises as `from_params`."""
    module = _module(cell, module)
    check_params(cell, params)
    nested: dict[str, dict[str, jax.Array]] = {}
    for name, array in _to_haiku(cell, jax.tree.map(np.asarray, params)).items():
        owner, _, key = f"{module}/{name}".rpartition("/")
        nested.setdefault(owner, {})[key] = jnp.array(array)
    return nested


def _module(cell: Cell, module: str | None) -> str:
    if type(cell) not in MODULES:
        raise unsupported(cell, "Haiku", tuple(MODULES))
    require(cell, "Haiku", bias=(True,))
    if isinstance(cell, GRU):
        require(cell, "Haiku", reset_after=(False,))
    if isinstance(cell, Elman):
        require(cell, "Haiku", activation=("relu",))
    else:
        require(cell, "Haiku", activation=("tanh",), gate_activation=("sigmoid",))
    return MODULES[type(cell)] if module is None else module


def _shapes(cell: Any) -> dict[str, tuple[int, ...]]:
    n, h = cell.input_size, cell.hidden_size
    if isinstance(cell, Elman):
        return {"linear/w": (n, h), "linear/b": (h,), "linear_1/w": (h, h), "linear_1/b": (h,)}
    if isinstance(cell, LSTM):
        return {"linear/w": (n + h, 4 * h), "linear/b": (4 * h,)}
    return {"w_i": (n, 3 * h), "w_h": (h, 3 * h), "b": (3 * h,)}


def _from_haiku(cell: Any, w: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if isinstance(cell, Elman):
        b = w["linear/b"] + w["linear_1/b"] if "linear_1/b" in w else w["linear/b"]
        return {"w_x": w["linear/w"], "w_h": w["linear_1/w"], "b": b}
    if isinstance(cell, LSTM):
        both, b = (regroup(w[f"linear/{name}"], LSTM_ORDER, cell.gates) for name in ("w", "b"))
        return {"w_x": both[: cell.input_size], "w_h": both[cell.input_size :], "b": b + _on_gate(cell, "f", 1, 0, b)}
    names = {"w_x": "w_i", "w_h": "w_h", "b": "b"}
    turned = {field: regroup(w[name], GRU_ORDER, cell.gates) for field, name in names.items()}
    return {field: array * _on_gate(cell, "z", -1, 1, array) for field, array in turned.items()}


def _to_haiku(cell: Any, params: Any) -> dict[str, np.ndarray]:
    if isinstance(cell, Elman):
        return {"linear/w": params.w_x, "linear/b": params.b, "linear_1/w": params.w_h, "linear_1/b": 0 * params.b}
    if isinstance(cell, LSTM):
        both, b = np.concatenate([params.w_x, params.w_h]), params.b - _on_gate(cell, "f", 1, 0, params.b)
        return {"linear/w": regroup(both, cell.gates, LSTM_ORDER), "linear/b": regroup(b, cell.gates, LSTM_ORDER)}
    names = {"w_i": params.w_x, "w_h": params.w_h, "b": params.b}
    return {
        name: regroup(array * _on_gate(cell, "z", -1, 1, array), cell.gates, GRU_ORDER) for name, array in names.items()
    }


def _on_gate(cell: Any, gate: str, value: int, other: int, like: np.ndarray) -> np.ndarray:
    """`value` in the block of one gate and `other` in the rest, along the last axis of `like`."""
    return np.repeat([value if name == gate else other for name in cell.gates], cell.hidden_size).astype(like.dtype)
