"""Whole modules of Flax as ours, linen's and nnx's: what `jrnn.interop.flax.load` reads."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..cell import Cell
from ..cells import GRU, LSTM, Elman
from ..checks import describe
from ..layers import BatchFirst, Dense, DenseParams, Dropout, Embedding, EmbeddingParams, LayerNorm, LayerNormParams
from . import flax
from .arrays import checked, is_own, some
from .parts import Flow, Part, both_ways, concatenates, finished, named, recurrent, stack

CELLS = ("SimpleCell", "LSTMCell", "OptimizedLSTMCell", "GRUCell")
POINTWISE = ("Dense", "Linear", "LayerNorm", "Embed", "Dropout")
WHOLE = ("RNN", "Bidirectional", "Sequential", *POINTWISE)


def read(module: Any, variables: Any) -> tuple[Any, Any]:
    """See `jrnn.interop.flax.load`."""
    params, root = _params(module, variables)
    if is_own(module, "flax", *CELLS):
        return _cell(module, params, root)
    layouts = set(_layouts(module))
    if len(layouts) > 1:
        raise ValueError(f"{root} has layers with time_major True and False; expected the same in all")
    flow = _flow(module, params, root, reverse=False)
    if flow.reverse:
        raise ValueError(
            f"{root} is run with reverse=True and keep_order=False: it gives its last step first, and here each output stands at "
            "its step: set keep_order to True there, and turn the outputs, jnp.flip(ys, 1), where the order matters"
        )
    layer, own = finished(stack(flow.parts))
    return layer if layouts == {True} else BatchFirst(layer), own


def _params(module: Any, variables: Any) -> tuple[Any, str]:
    """The nested dictionary of the module's parameters, and what it is called in errors."""
    from flax import linen, nnx
    from flax.core.meta import unbox

    if isinstance(module, nnx.Module):
        if variables is not None:
            raise TypeError(
                f"variables is {describe(variables)}; an nnx module holds its own: put others in by nnx.update(module, state)"
            )
        return nnx.to_pure_dict(nnx.state(module, nnx.Param)), "module"
    if not isinstance(module, linen.Module):
        turned = ": the module first, load(module, variables)" if isinstance(variables, linen.Module) else ""
        raise TypeError(f"module is {describe(module)}; expected a module of Flax, of nnx or linen{turned}")
    if variables is None:
        if module.scope is None:
            raise ValueError(
                f"module is a {type(module).__name__} without its parameters; expected load(module, variables), with what "
                "module.init gave, or the module that they are bound to: module.bind(variables)"
            )
        variables = module.variables
    if not isinstance(variables, Mapping) or not isinstance(variables.get("params"), Mapping):
        held = f"a dictionary with {some(list(variables))}" if isinstance(variables, Mapping) else describe(variables)
        raise ValueError(f"variables is {held}; expected {{'params': ...}}, as module.init gives")
    return unbox(variables["params"]), "params"  # from `nn.with_partitioning`


def _flow(module: Any, params: Any, place: str, *, reverse: bool) -> Flow:
    """What a module does to a sequence, which is given to it in reverse where `reverse` says so."""
    if is_own(module, "flax", "RNN"):
        turned = reverse ^ module.reverse
        part = _one_way(module, _inside(params, place, "cell")["cell"], f"{place}.cell", reverse=turned)
        return Flow([part], reverse if module.keep_order else turned)
    if is_own(module, "flax", "Bidirectional"):
        return Flow([_both_ways(module, params, place, reverse)], reverse)
    if is_own(module, "flax", "Sequential"):
        return _sequential(module, params, place, reverse)
    if is_own(module, "flax", *POINTWISE):
        return Flow([_pointwise(module, params, place)], reverse)
    raise _unknown(module, place)


def _sequential(module: Any, params: Any, place: str, reverse: bool) -> Flow:
    parts: list[Part] = []
    # linen has the parameters of each layer side by side, nnx by their number; there are none where a layer has none.
    if isinstance(params, Mapping) and isinstance(params.get("layers"), Mapping):
        params = {f"layers_{index}": own for index, own in params["layers"].items()}
    for index, one in enumerate(module.layers):
        if not is_own(one, "flax", *WHOLE):
            raise _unknown(one, f"{place}.layers[{index}]")
        own = params.get(f"layers_{index}", {}) if isinstance(params, Mapping) else {}
        made, reverse = _flow(one, own, f"{place}.layers_{index}", reverse=reverse)
        parts += made
    surplus = [name for name in params if name not in {f"layers_{index}" for index in range(len(module.layers))}]
    if surplus:
        raise ValueError(f"{place} has {some(surplus)} besides; expected the parameters of this module and of no other")
    return Flow(parts, reverse)


def _one_way(rnn: Any, params: Any, place: str, *, reverse: bool) -> Part:
    if getattr(rnn, "variable_axes", None):
        raise ValueError(f"{place} has variable_axes, weights of their own for each step, which no layer here has")
    return recurrent(*_cell(rnn.cell, params, place), reverse=reverse)


def _both_ways(module: Any, params: Any, place: str, reverse: bool) -> Part:
    """It runs its first one forwards and its second one backwards, whatever their own `reverse` is."""
    if not concatenates(module.merge_fn):
        raise ValueError(
            f"{place} has merge_fn {getattr(module.merge_fn, '__name__', module.merge_fn)}; expected a concatenation of the "
            "features, Flax's default: load its two RNNs on their own and merge their outputs"
        )
    own = _inside(params, place, "forward_rnn", "backward_rnn")
    ways = []
    for name, turned in (("forward_rnn", reverse), ("backward_rnn", not reverse)):
        rnn, here = getattr(module, name), f"{place}.{name}"
        if not is_own(rnn, "flax", "RNN"):
            raise TypeError(f"{here} is a {_name(rnn)}; expected a RNN of Flax")
        ways.append(_one_way(rnn, _inside(own[name], here, "cell")["cell"], f"{here}.cell", reverse=turned))
    return both_ways(*ways)


def _cell(module: Any, params: Any, place: str) -> tuple[Cell, Any]:
    """The cell, and its parameters by `from_linen` or `from_nnx`."""
    if not is_own(module, "flax", *CELLS):
        raise TypeError(
            f"{place} is a {_name(module)}; expected {', '.join(CELLS[:-1])} or {CELLS[-1]}: any other is taken as it is by "
            "jrnn.flax.linen.FlaxCell or jrnn.flax.nnx.FlaxCell"
        )
    of_nnx = hasattr(module, "hidden_features")
    inputs = module.in_features if of_nnx else _rows(params, place)
    hidden = module.hidden_features if of_nnx else module.features
    activation = named(module.activation_fn)
    if type(module).__name__ == "SimpleCell":
        cell: Cell = Elman(inputs, hidden, activation=activation)
    else:
        kind = GRU if type(module).__name__ == "GRUCell" else LSTM
        cell = kind(inputs, hidden, activation=activation, gate_activation=named(module.gate_fn))
    flax.compare(cell, module, place)
    return cell, flax.from_nnx(cell, params) if of_nnx else flax.from_linen(cell, params)


def _rows(params: Any, place: str) -> int:
    """The input size of a linen cell, which has it in its kernels alone."""
    inputs = [name for name in ("i", "ii", "ir") if isinstance(params, Mapping) and name in params]
    kernel: Any = params[inputs[0]].get("kernel") if inputs and isinstance(params[inputs[0]], Mapping) else None
    if np.ndim(kernel) != 2:
        held = some(list(params)) if isinstance(params, Mapping) else describe(params)
        raise ValueError(f"{place} has {held}; expected the parameters of a cell of Flax: the variables of this module")
    return np.shape(kernel)[0]


def _pointwise(module: Any, params: Any, place: str) -> Part:
    kind = type(module).__name__
    if kind == "Dropout":
        if tuple(module.broadcast_dims):
            raise ValueError(f"{place} has broadcast_dims {module.broadcast_dims}; expected none, a mask for each step")
        return Part(Dropout(float(module.rate)), ())
    if kind == "Embed":
        vectors = _arrays(params, place, "embedding")["embedding"]
        return Part(Embedding(*vectors.shape), EmbeddingParams(vectors))
    if kind == "LayerNorm":
        axes = {name: np.ravel(getattr(module, name)).tolist() for name in ("reduction_axes", "feature_axes")}
        if any(value != [-1] for value in axes.values()) or not (module.use_scale or module.use_bias):
            raise ValueError(
                f"{place} has {axes}, use_scale {module.use_scale}, use_bias {module.use_bias}; expected the last axis, and one "
                "of the two"
            )
        own = _arrays(params, place, *["scale"] * module.use_scale, *["bias"] * module.use_bias)
        like = next(iter(own.values()))
        g, b = own.get("scale", np.ones_like(like)), own.get("bias", np.zeros_like(like))
        return Part(LayerNorm(len(like), epsilon=float(module.epsilon)), LayerNormParams(g, b))
    own = _arrays(params, place, "kernel", *["bias"] * module.use_bias)
    return Part(Dense(*own["kernel"].shape, bias=module.use_bias), DenseParams(own["kernel"], own.get("bias")))


def _arrays(params: Any, place: str, *names: str) -> dict[str, Any]:
    own = _inside(params, place, *names)
    return checked(own, {name: np.shape(own[name]) for name in names}, place, place)


def _inside(params: Any, place: str, *names: str) -> Mapping[str, Any]:
    """The entries of these names, which are all that there are."""
    if not isinstance(params, Mapping) or set(params) != set(names):
        held = some(list(params)) if isinstance(params, Mapping) else describe(params)
        raise ValueError(
            f"{place} has {held}; expected {some(names)}: the parameters of this module and of no other, which it shares with none"
        )
    return params


def _layouts(module: Any) -> Iterator[bool]:
    """Whether time comes first in the arrays of each layer that says so; the two inside a Bidirectional are not asked."""
    if is_own(module, "flax", "Sequential"):
        for one in module.layers:
            yield from _layouts(one)
    elif hasattr(module, "time_major"):
        yield module.time_major


def _unknown(module: Any, place: str) -> TypeError:
    return TypeError(
        f"{place} is a {_name(module)}; expected one of Flax's own {', '.join(WHOLE)}, or alone a cell: load the modules inside it "
        "one by one, and apply what is between them to their outputs"
    )


def _name(module: Any) -> str:
    return getattr(module, "__name__", type(module).__name__)
