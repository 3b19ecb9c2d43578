"""Captioner: a vector or a grid of vectors in, a sequence out."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import pooling
from ..checks import check_key_or_legacy, check_positive, describe
from ..segments import step_mask
from .decoder import Condition, Conditional, Decoder, DecoderParams, check_decoder


class CaptionerParams(NamedTuple):
    decoder: DecoderParams


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Captioner(Conditional):
    """One to many: a decoder that writes about features, such as those of a picture, which another model makes.

    `features` are a vector for each row [*batch, size], or where something in the decoder attends a grid of vectors [*batch,
    positions, size] (flatten the axes of a picture first); `lengths` or a `mask` [*batch, positions] then say which positions are
    real. The vector, or the mean of the grid, is the decoder's summary, which goes where its `ways` say (Vinyals et al. 2015:
    "first"; Xu et al. 2015: "state" and attention).
    """

    decoder: Decoder
    size: int

    def __post_init__(self) -> None:
        check_decoder("Captioner", self.decoder)
        check_positive("Captioner", size=self.size)
        if self.decoder.summary_size not in (None, self.size):
            raise ValueError(
                f"Captioner: the decoder's summary_size is {self.decoder.summary_size}; expected {self.size}, the size of a "
                f"feature "
                "vector"
            )
        if self.decoder.summary_size is None and not self.decoder.layer.takes_context:
            raise ValueError(
                f"Captioner: the decoder would see nothing of the features; give it summary_size={self.size}, or cells that attend"
            )

    def init(self, key: jax.Array) -> CaptionerParams:
        check_key_or_legacy(key)
        return CaptionerParams(self.decoder.init(key))

    def condition(self, params, source, *, lengths=None, mask=None, key=None) -> Condition:
        features, decoder = jnp.asarray(source), self.decoder
        grid = decoder.layer.takes_context
        if features.shape[-1:] != (self.size,) or features.ndim < 1 + grid:
            axes = f"[*batch, positions, {self.size}]" if grid else f"[*batch, {self.size}]"
            raise ValueError(f"source is {describe(features)}; expected {axes}")
        if not grid:
            if lengths is not None or mask is not None:
                raise ValueError("lengths or mask is given, but there is one vector a row; expected neither")
            return decoder.condition(params.decoder, summary=features)
        memory = jnp.moveaxis(features, -2, 0)
        marks: Any = {"lengths": lengths, "mask": None if mask is None else jnp.moveaxis(jnp.asarray(mask), -1, 0)}
        summary = None
        if decoder.summary_size is not None:
            summary = pooling.Mean().apply((), memory, step_mask(**marks, time_and_batch=memory.shape[:-1]))
        return decoder.condition(params.decoder, summary=summary, memory=memory, **marks)

    def _batch(self, source: Any) -> tuple[int, ...]:
        return jnp.shape(source)[: -2 if self.decoder.layer.takes_context else -1]
