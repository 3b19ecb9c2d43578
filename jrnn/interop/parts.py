"""Layers with their parameters, put together: what the readers of other libraries' whole modules share."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..arrays import copied
from ..checks import Activation, check_params
from ..layers import Bidirectional, Directions, Dropout, Layer, Layered, Recurrent
from .arrays import agree

ACTIVATIONS = (
    "tanh", "sigmoid", "relu", "identity", "hard_sigmoid", "soft_sign", "softplus", "elu", "selu", "silu", "gelu", "relu6",
    "hard_tanh", "leaky_relu", "hard_silu", "softmax", "log_sigmoid", "mish",
)  # fmt: skip


class Part(NamedTuple):
    """A layer, time first, and its parameters."""

    layer: Layer
    params: Any


class Flow(NamedTuple):
    """Layers one after the other, and whether what they give is in reverse: the last step first."""

    parts: list[Part]
    reverse: bool


def recurrent(cell: Any, params: Any, *, reverse: bool, dropout: float = 0.0) -> Part:
    """A cell over time; `dropout` of its inputs, by one mask a row for all steps."""
    part = Part(Recurrent(cell, reverse=reverse), params)
    return stack([Part(Dropout(dropout, variational=True), ()), part]) if dropout else part


def both_ways(forward: Part, backward: Part) -> Part:
    """Two directions side by side."""
    return Part(Bidirectional(forward.layer, backward.layer), Directions(forward.params, backward.params))


def stack(parts: Sequence[Part]) -> Part:
    """One after the other, stacks among them layer by layer; a lone layer as it is."""
    if len(parts) == 1:
        return parts[0]
    layers: list[Layer] = []
    params: list[Any] = []
    for layer, own in parts:
        inside = isinstance(layer, Layered)
        layers += layer.layers if inside else [layer]
        params += own if inside else [own] if not layer.parameterless else []
    return Part(Layered(tuple(layers)), tuple(params))


def named(function: Callable[[Any], Any], *others: Activation) -> Activation:
    """The name of the activation that gives the same numbers, so that cells compare equal and can be saved; or one of `others`;
    else itself, which JAX must be able to compute: Keras has functions of PyTorch's and TensorFlow's, too."""
    found = next((name for name in (*ACTIVATIONS, *others) if agree(name, function)), None)
    if found is not None:
        return found
    try:
        jax.eval_shape(function, jax.ShapeDtypeStruct((2, 3), jnp.float32))
    except Exception as error:
        raise ValueError(
            f"activation {getattr(function, '__name__', function)!r} is neither one of {', '.join(ACTIVATIONS)} nor a function of "
            f"JAX's: load the module where it is one, as in Keras with KERAS_BACKEND=jax ({error!s:.120})"
        ) from error
    return function


def concatenates(merge: Callable[[Any, Any], Any]) -> bool:
    """Whether `merge` of two arrays puts the features of one beside those of the other."""
    first, second = jnp.arange(6.0).reshape(2, 3), -jnp.ones((2, 2))
    try:
        merged = np.asarray(merge(first, second))
    except (TypeError, ValueError):  # a sum, for one, of features of different number
        return False
    return np.array_equal(merged, np.concatenate([first, second], -1))


def finished(part: Part) -> tuple[Any, Any]:
    """As a pair, the parameters as copies in JAX; those of the layer, and of one dtype throughout."""
    params = copied(part.params)
    if not part.layer.parameterless:
        check_params(part.layer, params, "what is loaded")
    return part.layer, params
