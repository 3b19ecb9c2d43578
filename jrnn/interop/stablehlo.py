"""StableHLO, through `jax.export`: bytes that a process with JAX and without jrnn can run."""

import dataclasses
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from ..engines import Engine, Scan
from ..models import Classifier, Conditional, Tagger
from .int8 import dequantize
from .signature import Array, Model, signature
from .whole import Function, whole

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def export(
    model: Model | Classifier | Tagger | Conditional,
    params: Any,
    *,
    step: bool = False,
    lengths: bool = False,
    platforms: tuple[str, ...] = ("cpu",),
) -> bytes:
    """A cell, layer or model and its weights, for any size of batch and any number of time steps.

    The process that runs it needs jax and flatbuffers, as does this one:

        run = jax.export.deserialize(blob).call
        state, ys = run(state, xs)              xs [time, batch, input] -> ys [time, batch, output]
        state, ys = run(state, xs, lengths)     lengths=True: int32 [batch], as in `unroll`
        state, y = run(state, x)                step=True: x [batch, input] -> y [batch, output]

    `state` is a dictionary of arrays [batch, ...] by their path, `"h"` and `"c"` for an LSTM, `"0.forward.h"` in a stack;
    zeros to begin with, for every cell of jrnn. A language model takes tokens, int32 [time, batch], and gives logits. There
    is no dropout and no noise. Layers are run by `Scan()`, whichever engine they were trained with.

    Models that give labels have no state, and those that write sequences make theirs from what they write about:

        logits = run(xs)                        `Classifier` [batch, classes], `Tagger` [time, batch, labels]
        state = run(source)                     `EncoderDecoder`, `Captioner`: their state before the first token
        state, logits = run(state, token)       step=True: token int32 [batch] -> [batch, vocabulary]

    with `lengths` last where lengths=True; a decoder's step is then exported with lengths=True too, as its state holds which
    positions are real. That state holds what is attended to, which a step hands on as it is.

    Args:
      params: as `init` gives them; or quantised, and the bytes hold int8.
      step: one time step in place of a whole sequence, for streaming; its `state` may be donated.
      platforms: one or more of "cpu", "cuda", "rocm", "tpu"; the exporting process needs none of them.

    Raises:
      ValueError, TypeError: naming the option that cannot be met.
    """
    if isinstance(platforms, str) or not platforms or not set(platforms) <= set(PLATFORMS):
        raise ValueError(f"platforms is {platforms!r}; expected a tuple of one or more of {PLATFORMS}")
    constants = jax.tree.map(np.asarray, params)  # what lies on several devices would ask for as many
    if isinstance(model, Classifier | Tagger | Conditional):
        function = whole(_sequential(model), params, step=step, lengths=lengths)
    else:
        function = _recurrent(model, params, step=step, lengths=lengths)

    def run(*arguments: Any) -> Any:
        return function.run(dequantize(jax.tree.map(jnp.asarray, constants)), *arguments)

    return bytes(jax.export.export(jax.jit(run), platforms=platforms)(*function.arguments).serialize())


def _recurrent(model: Any, params: Any, *, step: bool, lengths: bool) -> Function:
    """A layer or language model with its state before and after."""
    wanted = signature(model, params, step=step, lengths=lengths)
    plain = _sequential(wanted.model)

    def run(weights: Any, state: dict[str, jax.Array], xs: jax.Array, *lengths: jax.Array) -> Any:
        start = wanted.nested(state)
        marks = {"lengths": lengths[0]} if lengths else {}
        end, ys = plain.step(weights, start, xs) if step else plain.apply(weights, xs, start, **marks)
        return wanted.flat(end), ys

    batch, time = jax.export.symbolic_shape("batch, time")

    def argument(axes: tuple[Any, ...], array: Array) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((*axes, *array.shape), array.dtype)

    state = {name: argument((batch,), array) for name, array in wanted.state.items()}
    xs = argument((batch,) if step else (time, batch), wanted.xs)
    marks = [jax.ShapeDtypeStruct((batch,), jnp.int32)] if lengths else []
    return Function(run, (state, xs, *marks))


def _sequential(model: Any) -> Any:
    """The same model run by `Scan()`: other engines may need to know how many steps there are."""
    if isinstance(model, Engine):
        return Scan()
    if isinstance(model, tuple):
        return tuple(map(_sequential, model))
    if not dataclasses.is_dataclass(model) or isinstance(model, type):
        return model
    return dataclasses.replace(
        model, **{f.name: _sequential(getattr(model, f.name)) for f in dataclasses.fields(model)}
    )
