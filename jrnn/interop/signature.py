"""What an exported function takes and returns: the same names, shapes and checks for every format."""

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np

from ..arrays import feature_shape
from ..cell import Cell
from ..checks import check_params
from ..layers import BatchFirst, Layer, Recurrent
from ..models import LanguageModel
from .int8 import dequantize

Model = Cell | Layer | LanguageModel


class Array(NamedTuple):
    """What follows the batch axis in the shape of an argument, and its dtype."""

    shape: tuple[int, ...]
    dtype: np.dtype


@dataclasses.dataclass(frozen=True)
class Signature:
    """Of `(state, xs) -> (state, ys)`: `xs` [time, batch, ...], or [batch, ...] for one step.

    A state is flat: its arrays by their path, `"h"` and `"c"` for an LSTM, `"0.forward.h"` in a stack.
    """

    model: Layer | LanguageModel  # a cell as a layer of its own
    xs: Array
    ys: Array
    state: dict[str, Array]
    structure: Any  # of the model's own state

    def nested(self, flat: dict[str, Any]) -> Any:
        """The model's own state from a flat one."""
        return jax.tree.unflatten(self.structure, [flat[name] for name in self.state])

    def flat(self, nested: Any) -> dict[str, Any]:
        """The flat state from the model's own."""
        return dict(zip(self.state, jax.tree.leaves(nested), strict=True))


def signature(model: Model, params: Any, *, step: bool, lengths: bool) -> Signature:
    """The signature of what would be exported; TypeError or ValueError where it cannot be.

    `params` may be quantised. An exported state has no noise key: there is no noise.
    """
    if not isinstance(model, Model):
        raise TypeError(f"model is a {type(model).__name__}; expected a Cell, a Layer or a LanguageModel")
    if step and lengths:
        raise ValueError("lengths=True is of whole sequences, step=True takes one step: leave out one of the two")
    if isinstance(model, BatchFirst):
        raise TypeError(f"model is {model}; what is exported is time first: export the layer inside, model.layer")
    tokens = isinstance(model, LanguageModel)
    size = 0 if tokens else model.input_size
    if size is None:
        raise ValueError(
            f"model is {model}, which has no input_size: it reads anything, or tokens; expected a cell, a layer over vectors, or "
            "a LanguageModel"
        )
    params = dequantize(params)
    dtype = np.dtype(check_params(model, params))
    model = Recurrent(model) if isinstance(model, Cell) else model
    xs = Array((), np.dtype(np.int32)) if tokens else Array(feature_shape(size), dtype)
    one = jax.ShapeDtypeStruct((1, *xs.shape), xs.dtype)
    state = jax.eval_shape(lambda params: model.initial_state(params, (1,)), params)
    if step:
        try:
            jax.eval_shape(model.step, params, state, one)
        except TypeError as error:
            raise TypeError(f"step=True asks for one step at a time, but {error}") from error
    leaves, structure = jax.tree_util.tree_flatten_with_path(state)
    named = {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}
    return Signature(
        model=model,
        xs=xs,
        ys=Array(feature_shape(model.output_size or 0), dtype),
        state={name: Array(leaf.shape[1:], np.dtype(leaf.dtype)) for name, leaf in named.items()},
        structure=structure,
    )
