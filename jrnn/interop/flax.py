"""Flax: the parameters of linen's and nnx's `SimpleCell`, `LSTMCell`, `OptimizedLSTMCell` and `GRUCell`; whole modules (`load`).

Flax has one matrix per gate where jrnn has one block per gate; its gates and biases are those of jrnn. A module with its
parameters may be given in their place, an nnx module or a bound linen one: its options are then compared with the cell's.
Parameters alone do not say which activations they go with: those of the cell are assumed, and no residual.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..arrays import copied
from ..cell import Cell
from ..cells import GRU, LSTM, Elman
from ..checks import check_params, describe
from .arrays import check_alike, checked, is_kind, require, template, unsupported

KINDS = (Elman, LSTM, GRU)


def from_linen(cell: Cell, params: Any) -> Any:
    """The parameters of `cell` from those of one linen cell: `variables["params"]`, or `["cell"]` of it inside `nn.RNN`.

    Or from the cell with its parameters, `nn.GRUCell(4).bind(variables)`, whose options are then compared with those of `cell`.

    Raises ValueError or TypeError, naming the array or option, where one is missing, left over, of another shape or dtype, or
    has no counterpart.
    """
    from flax import linen

    layout = _linen(cell)
    if isinstance(params, linen.Module):
        compare(cell, params, "params")
        if params.scope is None:
            raise ValueError(
                f"params is a {type(params).__name__} without its parameters; expected these, or the cell that they are bound "
                "to: cell.bind(variables)"
            )
        params = params.variables["params"]
    return _from_flax(cell, params, layout, "params")


def load(module: Any, variables: Any = None) -> tuple[Any, Any]:
    """A whole module of Flax as `(layer, params)`; a cell of Flax as `(cell, params)`.

    - `module`: of nnx, which holds its parameters; or of linen, bound to them.
    - `variables`: those of a linen module that is not bound, as `module.init` gives them.

    Takes `RNN` and `Bidirectional`, and a `Sequential` of these and of `Dense` or `Linear`, `LayerNorm`, `Embed` and `Dropout`.
    `layer.apply(params, xs)` gives `(state, ys)`: `ys` is what the module returns on the same arrays [batch, time, features], or
    time first where it is `time_major` (of a batch with several axes, and of none, load `time_major` modules). It computes in the
    dtype of the parameters, whatever the module's `dtype` is. Lengths go to `lengths`, an initial carry to `state`; with a `key`
    there is dropout.

    Raises ValueError or TypeError, naming the place in the module, for an option, kind of module or parameters that have no
    counterpart.
    """
    from .flax_layers import read

    return read(module, variables)


def to_linen(cell: Cell, params: Any) -> dict[str, Any]:
    """The `params` dictionary of the linen cell that computes the same; of both of linen's LSTMs. Raises as `from_linen`."""
    return _to_flax(cell, params, _linen(cell))


def from_nnx(cell: Cell, state: Any) -> Any:
    """The parameters of `cell` from `nnx.state(module, nnx.Param)` of one nnx cell, or from its pure dictionary.

    Or from the module itself, whose options are then compared with those of `cell`.

    Raises as `from_linen`. nnx's GRU has no second bias of n: `b_n` is zero.
    """
    from flax import nnx

    if isinstance(state, nnx.Module):
        _check(cell)
        compare(cell, state, "state")
        state = nnx.state(state, nnx.Param)
    pure = nnx.to_pure_dict(state) if isinstance(state, nnx.State) else state
    optimized = isinstance(cell, LSTM) and isinstance(pure, Mapping) and "dense_i" in pure
    return _from_flax(cell, pure, _nnx(cell, optimized), "state")


def to_nnx(cell: Cell, params: Any, *, optimized: bool = False) -> dict[str, Any]:
    """The pure dictionary of the nnx cell that computes the same, for `nnx.update(module, ...)`. Raises as `from_linen`.

    `optimized`: of `OptimizedLSTMCell`, whose arrays are laid out otherwise. nnx's GRU has no second bias of n, so `b_n` must
    be zero.
    """
    if optimized and not isinstance(cell, LSTM):
        raise ValueError(f"optimized is True; expected an LSTM with it, not {cell}")
    layout = _nnx(cell, optimized)
    check_params(cell, params)
    if isinstance(cell, GRU) and np.any(params.b_n):
        raise ValueError(
            f"params.b_n of {cell} is not zero; expected zeros: nnx.GRUCell has no second bias of n, linen's has"
        )
    return _to_flax(cell, params, layout)


def _linen(cell: Cell) -> dict[str, str]:
    """Flax's name of each array, and the field of jrnn's parameters whose next block it is, gate by gate."""
    _check(cell)
    if isinstance(cell, Elman):
        return {"i/kernel": "w_x", "h/kernel": "w_h", "i/bias": "b"}
    biased = "h" if isinstance(cell, LSTM) else "i"
    layout = {f"i{gate}/kernel": "w_x" for gate in cell.gates}
    layout |= {f"h{gate}/kernel": "w_h" for gate in cell.gates}
    layout |= {f"{biased}{gate}/bias": "b" for gate in cell.gates}
    return layout | ({"hn/bias": "b_n"} if isinstance(cell, GRU) else {})


def _nnx(cell: Cell, optimized: bool) -> dict[str, str]:
    _check(cell)
    if isinstance(cell, LSTM) and not optimized:
        return {name.replace("if/", "if_/"): field for name, field in _linen(cell).items()}
    biased = "h" if isinstance(cell, LSTM) else "i"
    return {"dense_i/kernel": "w_x", "dense_h/kernel": "w_h", f"dense_{biased}/bias": "b"}


def compare(cell: Cell, module: Any, name: str) -> None:
    """`module` computes what `cell` does."""
    kinds = {Elman: ("SimpleCell",), LSTM: ("LSTMCell", "OptimizedLSTMCell"), GRU: ("GRUCell",)}[type(cell)]  # type: ignore[index]
    if not is_kind(module, *kinds):
        raise TypeError(f"{name} is a {type(module).__name__}; {cell} expects {' or '.join(kinds)}, or its parameters")
    where = f"Flax's {type(module).__name__}"
    if isinstance(cell, Elman):
        if getattr(module, "residual", False):
            raise ValueError(f"{where} has residual True, which jrnn has no cell for; expected False")
    else:
        check_alike(cell, where, gate_activation=("gate_fn", module.gate_fn))
    check_alike(cell, where, activation=("activation_fn", module.activation_fn))
    start = getattr(module, "carry_init", None)
    if start is not None and np.any(start(jax.random.key(0), (2, cell.hidden_size), jnp.float32)):  # type: ignore[attr-defined]
        raise ValueError(
            f"{where} has a carry_init that is not zeros; a cell here starts from zeros: leave it out there, and give the carry as "
            "state, or learn it by jrnn.LearnedState"
        )


def _check(cell: Cell) -> None:
    if type(cell) not in KINDS:
        raise unsupported(cell, "Flax", KINDS)
    require(cell, "Flax", bias=(True,))
    if isinstance(cell, GRU):
        require(cell, "Flax", reset_after=(True,))
    if isinstance(cell, LSTM):  # one activation_fn for the candidate and the cell
        require(cell, "Flax", cell_activation=(None, cell.activation))


def _from_flax(cell: Cell, nested: Any, layout: dict[str, str], name: str) -> Any:
    from flax.traverse_util import flatten_dict

    if not isinstance(nested, Mapping):
        raise TypeError(f"{name} is {describe(nested)}; expected the nested dictionary of one cell's parameters")
    blank = template(cell)
    whole = {field: array.shape for field, array in blank._asdict().items() if array is not None}
    blocks = _blocks(layout)
    shapes = {key: (*whole[field][:-1], whole[field][-1] // len(blocks[field])) for key, field in layout.items()}
    flat = {"/".join(map(str, path)): array for path, array in flatten_dict(nested).items()}
    arrays = checked(flat, shapes, cell, name)
    fields = {field: np.concatenate([arrays[key] for key in keys], -1) for field, keys in blocks.items()}
    absent = {field: np.zeros(whole[field], fields["w_x"].dtype) for field in whole.keys() - fields.keys()}
    return copied(blank._replace(**fields, **absent))


def _to_flax(cell: Cell, params: Any, layout: dict[str, str]) -> dict[str, Any]:
    from flax.traverse_util import unflatten_dict

    check_params(cell, params)
    flat = {
        key: block
        for field, keys in _blocks(layout).items()
        for key, block in zip(keys, jnp.split(getattr(params, field), len(keys), -1), strict=True)
    }
    return unflatten_dict(flat, sep="/")


def _blocks(layout: dict[str, str]) -> dict[str, list[str]]:
    """The names of each field's blocks, in the order of its gates."""
    return {field: [key for key in layout if layout[key] == field] for field in layout.values()}
