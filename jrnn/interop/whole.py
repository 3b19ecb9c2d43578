"""Exported functions of models that give labels or write sequences: what they take and return, for any size of batch."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp

from ..arrays import feature_shape
from ..cell import Bound
from ..checks import check_params
from ..models import Captioner, Classifier, Condition, Conditional, EncoderDecoder, Tagger
from .int8 import dequantize


class Function(NamedTuple):
    """`run(weights, *arguments)`, for arguments of these shapes."""

    run: Callable[..., Any]
    arguments: tuple[Any, ...]


def whole(model: Classifier | Tagger | Conditional, params: Any, *, step: bool, lengths: bool) -> Function:
    """Its function from input to logits; of a model that writes, from what it writes about to its state, or with `step` one
    token."""
    dtype = check_params(model, dequantize(params))
    batch, time = jax.export.symbolic_shape("batch, time")

    def sequences(size: Any) -> jax.ShapeDtypeStruct:
        if size is None:  # tokens
            return jax.ShapeDtypeStruct((time, batch), jnp.int32)
        return jax.ShapeDtypeStruct((time, batch, *feature_shape(size)), dtype)

    counts = [jax.ShapeDtypeStruct((batch,), jnp.int32)] if lengths else []
    if isinstance(model, Classifier | Tagger):
        if step:
            raise TypeError(f"step=True asks for one step at a time, but {type(model).__name__} reads whole sequences")

        def label(weights: Any, xs: jax.Array, *lengths: jax.Array) -> jax.Array:
            return model.apply(weights, xs, lengths=lengths[0] if lengths else None)

        return Function(label, (sequences(model.layer.input_size), *counts))
    if isinstance(model, EncoderDecoder):
        source = sequences(None if model.shared else model.encoder.input_size)
    elif isinstance(model, Captioner):
        grid = (time,) if model.decoder.layer.takes_context else ()
        source = jax.ShapeDtypeStruct((batch, *grid, model.size), dtype)
    else:
        raise TypeError(f"model is a {type(model).__name__}; expected an EncoderDecoder or a Captioner")
    shapes = jax.eval_shape(dequantize, params)
    started = jax.eval_shape(lambda weights, *given: _started(model, weights, *given), shapes, source, *counts)
    flat = _flat(_rows(*started))
    if not step:
        return Function(lambda weights, *given: _flat(_rows(*_started(model, weights, *given))), (source, *counts))
    structure = jax.tree.structure(_rows(*started))

    def advance(weights: Any, state: dict[str, jax.Array], token: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
        rows = jax.tree.unflatten(structure, [state[name] for name in flat])
        condition = _condition(started[0], weights.decoder.layer, rows)
        new, logits = model.decoder.step(weights.decoder, condition, rows["state"], token)
        return _flat(rows | {"state": new}), logits

    return Function(advance, (flat, jax.ShapeDtypeStruct((batch,), jnp.int32)))


def _started(model: Any, weights: Any, source: jax.Array, *lengths: jax.Array) -> tuple[Condition, Any]:
    condition = model.condition(weights, source, lengths=lengths[0] if lengths else None)
    return condition, model.decoder.initial_state(weights.decoder, condition, model._batch(source))


def _is_bound(part: Any) -> bool:
    return isinstance(part, Bound)


def _rows(condition: Condition, state: Any) -> dict[str, Any]:
    """What belongs to rows: the decoder's state, its summary, and what is attended to, without the weights beside it."""
    bound = [part for part in jax.tree.leaves(condition.layer, is_leaf=_is_bound) if _is_bound(part)]
    return {"state": state, "summary": condition.summary, "memory": [part.context for part in bound]}


def _condition(example: Condition, layer: Any, rows: dict[str, Any]) -> Condition:
    """The condition of `_rows`, with the weights of `layer` put back."""
    weights, memory = iter(jax.tree.leaves(layer)), iter(rows["memory"])

    def place(part: Any) -> Any:
        if not _is_bound(part):
            return next(weights)
        return Bound(jax.tree.map(lambda _: next(weights), part.params), next(memory))

    return Condition(jax.tree.map(place, example.layer, is_leaf=_is_bound), rows["summary"], None)


def _flat(tree: Any) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}
