"""Haiku: the parameters of `hk.VanillaRNN`, `hk.LSTM` and `hk.GRU`. Haiku itself need not be installed.

Haiku's LSTM has one matrix for [x, h], the gates in the order i g f o, and adds 1 to its forget gate. Its GRU resets before the
product (`reset_after=False`), has the gates in the order z r n, and an open z lets the new in: 1 - σ(a) = σ(-a), so the block
changes its sign. Its VanillaRNN is always ReLU.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from ..arrays import copied
from ..cell import Cell
from ..cells import GRU, LSTM, Elman
from ..checks import check_params, describe
from ..layers import Dense, DenseParams, Recurrent
from .arrays import checked, regroup, require, some, template, unsupported
from .parts import Part, finished, stack

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
    return copied(template(cell)._replace(**_from_haiku(cell, w)))


def load(params: Mapping[str, Any], modules: Sequence[str] | None = None) -> tuple[Any, Any]:
    """The cores in Haiku's `{module: {name: array}}` as `(layer, params)`, one after the other, as `hk.DeepRNN` runs them.

    - `modules`: the names of the cores and of `hk.Linear`s between or after them, in the order in which they are run, such as
      `["agent/lstm", "agent/lstm_1", "agent/linear"]`; other modules are ignored. None: all that there is, cores of one kind
      under the names that Haiku gives, `lstm`, `lstm_1`, ..., in this order.

    Haiku's modules exist inside `hk.transform` alone, so the arrays are all there is to see. What they do not say is assumed: that
    nothing else lies between the modules (an activation, a skip connection), that each runs forwards, on arrays [time, batch,
    features], and begins with zeros. Raises ValueError or TypeError, naming the module, for one that is neither `hk.VanillaRNN`,
    `hk.LSTM`, `hk.GRU` nor `hk.Linear`, or does not fit the one before it.
    """
    if not isinstance(params, Mapping):
        raise TypeError(
            f"params is {describe(params)}; expected Haiku's dictionary of modules, as transformed.init gives it"
        )
    names = _default_order(params) if modules is None else modules
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names) or not names:
        raise TypeError(f"modules is {describe(modules)}; expected a list of names of modules, in the order of the run")
    parts: list[Part] = []
    for name in names:
        part = _part(params, name)
        before = parts[-1].layer.output_size if parts else None
        if before not in (None, part.layer.input_size):
            raise ValueError(
                f"module {name!r} reads {part.layer.input_size} features, and the one before it gives {before}; expected the order "
                "of the run in modules, without skip connections, which no layer here has"
            )
        parts.append(part)
    if not any(isinstance(part.layer, Recurrent) for part in parts):
        raise ValueError(
            f"modules is {list(names)}, where each is a hk.Linear alone; expected a core among them, by its own name, as 'lstm' "
            "for the arrays of 'lstm/linear'"
        )
    return finished(stack(parts))


def _default_order(params: Mapping[str, Any]) -> list[str]:
    """The cores by their number, where there is nothing else."""
    found: dict[str, tuple[str, int]] = {}
    for name in params:
        match = re.fullmatch(r"(vanilla_rnn|lstm|gru)(?:_(\d+))?(?:/linear(?:_1)?)?", str(name))
        if match is None:
            raise ValueError(
                f"params has the module {name!r:.80}, which is no core under Haiku's own name; expected modules=[...], the names "
                "in the order of the run"
            )
        found["_".join(part for part in match.groups() if part)] = match[1], int(match[2] or 0)
    if len({kind for kind, _ in found.values()}) != 1:
        raise ValueError(
            f"params has {some(list(found))}, of which only the order of one kind is known; expected modules=[...], the names in "
            "the order of the run"
        )
    return sorted(found, key=lambda name: found[name])


def _part(params: Mapping[str, Any], name: str) -> Part:
    """One module, by the names and shapes of its arrays."""

    def shapes(place: str) -> dict[str, tuple[int, ...]]:
        own = params.get(place, {})
        return {key: np.shape(array) for key, array in own.items()} if isinstance(own, Mapping) else {}

    own, linear, second = (shapes(place) for place in (name, f"{name}/linear", f"{name}/linear_1"))
    cell: Any = None
    if set(own) == {"w_i", "w_h", "b"} and len(own["w_i"]) == len(own["w_h"]) == 2:
        cell = GRU(own["w_i"][0], own["w_h"][0], reset_after=False)
    elif second and len(linear.get("w", ())) == 2:
        cell = Elman(*linear["w"], activation="relu")
    elif len(linear.get("w", ())) == 2 and linear["w"][1] % 4 == 0 and linear["w"][0] > linear["w"][1] // 4:
        hidden = linear["w"][1] // 4
        cell = LSTM(linear["w"][0] - hidden, hidden)
    if cell is not None:
        return Part(Recurrent(cell), from_params(cell, params, module=name))
    if set(own) in ({"w", "b"}, {"w"}) and len(own["w"]) == 2:
        w: dict[str, Any] = checked(params[name], own, f"hk.Linear {name!r}", f"params[{name!r}]")
        return Part(Dense(*own["w"], bias="b" in own), DenseParams(w["w"], w.get("b")))
    raise ValueError(
        f"module {name!r} has {some(sorted(own) + [f'linear/{key}' for key in sorted(linear)])}, which is neither hk.VanillaRNN, "
        f"hk.LSTM, hk.GRU nor hk.Linear; params has {some(list(params))}: expected names of these kinds"
    )


def to_params(cell: Cell, params: Any, *, module: str | None = None) -> dict[str, dict[str, jax.Array]]:
    """Haiku's `{module: {name: array}}` for the core that computes the same. Raises as `from_params`."""
    module = _module(cell, module)
    check_params(cell, params)
    nested: dict[str, dict[str, jax.Array]] = {}
    for name, array in _to_haiku(cell, jax.tree.map(np.asarray, params)).items():
        owner, _, key = f"{module}/{name}".rpartition("/")
        nested.setdefault(owner, {})[key] = copied(array)
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
