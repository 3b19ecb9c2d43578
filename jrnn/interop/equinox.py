"""Equinox: the arrays of `eqx.nn.LSTMCell` and `eqx.nn.GRUCell`, which have jrnn's gates and biases, weights transposed."""

from typing import Any

import jax
import jax.numpy as jnp

from ..arrays import copied
from ..cell import Cell
from ..cells import GRU, LSTM
from ..checks import check_params, describe
from .arrays import checked, is_own, require, template, unsupported

KINDS = (LSTM, GRU)
FIELDS = {"weight_ih": "w_x", "weight_hh": "w_h", "bias": "b", "bias_n": "b_n"}


def from_module(cell: Cell, module: Any) -> Any:
    """The parameters of `cell` from those of an Equinox cell.

    Raises ValueError or TypeError, naming the array or option, where one is missing, left over, of another shape or dtype, or
    has no counterpart.
    """
    _check(cell)
    blank = template(cell)
    found = {name: array for name in FIELDS if (array := getattr(module, name, None)) is not None}
    shapes = {name: want.shape[::-1] for name in FIELDS if (want := getattr(blank, FIELDS[name], None)) is not None}
    fields = {FIELDS[name]: array.T for name, array in checked(found, shapes, cell, "module").items()}
    return copied(blank._replace(**fields))


def load(module: Any) -> tuple[Any, Any]:
    """An `eqx.nn.LSTMCell` or `eqx.nn.GRUCell` as `(cell, params)`; Equinox has no layers over time. Raises as `from_module`."""
    kinds = {"LSTMCell": LSTM, "GRUCell": GRU}
    if not is_own(module, "equinox.nn", *kinds):
        raise TypeError(f"module is {describe(module)}; expected an eqx.nn.LSTMCell or eqx.nn.GRUCell")
    cell = kinds[type(module).__name__](module.input_size, module.hidden_size, bias=module.use_bias)
    return cell, from_module(cell, module)


def to_module(cell: Cell, params: Any) -> Any:
    """The Equinox cell that computes the same. Raises as `from_module`."""
    import equinox as eqx  # type: ignore[import-not-found]

    _check(cell)
    check_params(cell, params)
    arrays = {name: array.T for name in FIELDS if (array := getattr(params, FIELDS[name], None)) is not None}
    kind = eqx.nn.GRUCell if isinstance(cell, GRU) else eqx.nn.LSTMCell
    module = kind(cell.input_size, params.w_h.shape[0], "bias" in arrays, key=jax.random.key(0))
    return eqx.tree_at(
        lambda module: [getattr(module, name) for name in arrays],
        module,
        [jnp.asarray(array) for array in arrays.values()],
    )


def _check(cell: Cell) -> None:
    if type(cell) not in KINDS:
        raise unsupported(cell, "Equinox", KINDS)
    if isinstance(cell, GRU):
        require(cell, "Equinox", reset_after=(True,))
    require(cell, "Equinox", activation=("tanh",), gate_activation=("sigmoid",))
