"""Encoder and decoder: a sequence in, another of another length out."""

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from ..arrays import differentiable
from ..checks import check_key_or_legacy
from ..layers import Layer
from ..layers.base import check_layer
from ..layers.embedding import lookup_real
from ..segments import step_mask
from .decoder import Condition, Conditional, Decoder, DecoderParams, check_decoder


class EncoderDecoderParams(NamedTuple):
    encoder: Any  # the encoder's own; () where the decoder's take their place
    decoder: DecoderParams


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class EncoderDecoder(Conditional):
    """An encoder reads a sequence, a decoder writes another (Cho et al. 2014; Sutskever et al. 2014; Bahdanau et al. 2015).

    `encoder` reads tokens where its first layer is an embedding, else vectors. What the decoder is told:

    - with `summary_size`, the encoder's output at the end of its run (of each direction its own), where the decoder's
      `ways` say: as its initial state through a learned bridge, as an input at every step, or both;
    - without, and if nothing in it attends, the encoder's final state, as it is: both then have the same cells and sizes;
    - all outputs of the encoder, if something in the decoder attends.

    `shared`: "embedding", the source's tokens are read by the decoder's embedding, and the encoder takes its vectors; "all",
    encoder and decoder are one layer with the same parameters.
    """

    encoder: Layer
    decoder: Decoder
    shared: Literal["embedding", "all"] | None = dataclasses.field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_layer("EncoderDecoder", "encoder", self.encoder)
        check_decoder("EncoderDecoder", self.decoder)
        size, decoder = self.encoder.output_size, self.decoder
        if self.shared not in (None, "embedding", "all"):
            raise ValueError(f"EncoderDecoder: shared is {self.shared!r}; expected 'embedding', 'all' or None")
        if decoder.summary_size not in (None, size):
            raise ValueError(
                f"EncoderDecoder: the decoder's summary_size is {decoder.summary_size}; expected {size}, the size of the encoder's "
                "outputs"
            )
        if self.shared is not None and self.encoder.input_size != decoder.embedding_size:
            raise ValueError(
                f"EncoderDecoder: shared is {self.shared!r} and the encoder takes {self.encoder.input_size} features; expected "
                f"{decoder.embedding_size}, the size of the decoder's embedding"
            )
        if self.shared == "all" and self.encoder != decoder.layer:
            raise ValueError(
                f"EncoderDecoder: shared is 'all', but the encoder is {self.encoder} and the decoder's layer {decoder.layer}; "
                "expected the same layer"
            )
        if self._copies:
            states = [_shapes(self.encoder), _shapes(decoder.layer)]
            if states[0] != states[1]:
                raise ValueError(
                    f"EncoderDecoder: the encoder's state is {states[0]}, the decoder's {states[1]}; expected the same arrays, or "
                    f"a learned bridge: give the decoder summary_size={size}"
                )

    @property
    def _copies(self) -> bool:
        """Whether the encoder's final state is where the decoder begins."""
        return self.decoder.summary_size is None and not self.decoder.layer.takes_context

    def init(self, key: jax.Array) -> EncoderDecoderParams:
        check_key_or_legacy(key)
        encoder, decoder = jax.random.split(key)
        own = () if self.shared == "all" else self.encoder.init(encoder)
        return EncoderDecoderParams(own, self.decoder.init(decoder))

    def condition(self, params, source, *, lengths=None, mask=None, key=None) -> Condition:
        own = params.decoder.layer if self.shared == "all" else params.encoder
        lengths = None if lengths is None else jnp.asarray(lengths)
        time_and_batch = jnp.shape(source) if self.shared else self.encoder.time_and_batch(source)
        real = step_mask(lengths, mask, time_and_batch)
        xs = lookup_real(params.decoder.embedding, source, real) if self.shared else source
        decoder = self.decoder
        summary = memory = state = None
        if decoder.layer.takes_context:
            final, memory = self.encoder.apply(own, xs, mask=real, key=key)
            if decoder.summary_size is not None:
                summary = self.encoder._at_end(memory, real)
        else:
            final, summary = self.encoder.last(own, xs, mask=real, key=key)
            state, summary = (final, None) if self._copies else (None, summary)
        told: Any = {"summary": summary, "memory": memory, "mask": None if memory is None else real, "state": state}
        return decoder.condition(params.decoder, **told)

    def _batch(self, source: Any) -> tuple[int, ...]:
        return jnp.shape(source)[1:] if self.shared else self.encoder.time_and_batch(source)[1:]


def _shapes(layer: Layer) -> list[tuple[int, ...]]:
    """Of the arrays of a layer's state that have a derivative, without batch axes."""
    params = jax.eval_shape(layer.init, jax.random.key(0))
    return [leaf.shape for leaf in differentiable(jax.eval_shape(layer.initial_state, params))]
