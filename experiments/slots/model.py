"""Slots and intent of an utterance from one recurrent encoder, and the noise that prepares it for words it never saw."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import jrnn
from jrnn import losses
from jrnn.arrays import affine
from jrnn.data import Batch
from jrnn.data.vocabulary import PADDING, UNKNOWN
from jrnn.models.crf import CRF
from jrnn.pooling import Pooling
from jrnn.segments import step_mask

OUTSIDE = 0  # the label O: no slot


class Labelled(NamedTuple):
    """One utterance to train on, or a batch of them."""

    words: Any  # int [time, *batch]
    slots: Any  # int [time, *batch]: OUTSIDE where a word fills none
    intent: Any  # int [*batch]


class SlotFillerParams(NamedTuple):
    embedding: jrnn.layers.EmbeddingParams
    layer: Any  # the encoder's own
    w_slots: jax.Array  # [encoder's output, slots]
    b_slots: jax.Array  # [slots]
    crf: Any  # CRFParams, or () without
    pooling: Any  # the pooling's own
    w_intent: jax.Array  # [encoder's output, intents]
    b_intent: jax.Array  # [intents]


@dataclasses.dataclass(frozen=True)
class SlotFiller:
    """Many to many and many to one: a slot for each word and an intent for all of them, from the same encoder.

    `layer` reads the vectors of each word and of the `window` words on either side (Mesnil et al. 2013), zeros beyond the ends,
    so even a layer of one direction sees `window` words ahead. The intent is chosen from the outputs pooled over the utterance (as
    in Zhang & Wang 2016), the slots from the output at each word, one by one or together by a CRF.
    """

    embedding: jrnn.Embedding
    window: int
    layer: jrnn.Layer
    slots: int
    intents: int
    pooling: Pooling = jrnn.pooling.Max()  # noqa: RUF009, frozen
    crf: bool = False

    def init(self, key: jax.Array) -> SlotFillerParams:
        keys = jax.random.split(key, 6)
        size = self.layer.output_size or 0
        glorot = jax.nn.initializers.glorot_uniform()
        return SlotFillerParams(
            embedding=self.embedding.init(keys[0]),
            layer=self.layer.init(keys[1]),
            w_slots=glorot(keys[2], (size, self.slots)),
            b_slots=jnp.zeros(self.slots),
            crf=CRF(self.slots).init(keys[3]) if self.crf else (),
            pooling=self.pooling.init(keys[4], size),
            w_intent=glorot(keys[5], (size, self.intents)),
            b_intent=jnp.zeros(self.intents),
        )

    def apply(
        self, params: SlotFillerParams, words: jax.Array, lengths: Any, *, key: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """words [time, *batch] -> logits of the slots [time, *batch, slots] and of the intent [*batch, intents]."""
        _, xs = self.embedding.apply(params.embedding, words, lengths=lengths)
        _, ys = self.layer.apply(params.layer, in_context(xs, self.window), lengths=lengths, key=key)
        pooled = self.pooling.apply(params.pooling, ys, step_mask(lengths, None, words.shape))
        return affine(ys, params.w_slots, params.b_slots), affine(pooled, params.w_intent, params.b_intent)

    def loss(
        self,
        params: SlotFillerParams,
        data: Labelled,
        lengths: Any,
        *,
        intent_weight: float,
        key: jax.Array | None = None,
    ) -> losses.Mean:
        """Nats per word: those of its slot, and a word's share of `intent_weight` times those of the utterance's intent."""
        slots, intent = self.apply(params, data.words, lengths, key=key)
        real = step_mask(lengths, None, data.words.shape)
        if self.crf:
            total = -CRF(self.slots).log_likelihood(params.crf, slots, data.slots, lengths=lengths).sum()
        else:
            total = losses.cross_entropy(slots, data.slots, real).total
        of_intent = losses.cross_entropy(intent, data.intent, lengths > 0).total
        return losses.Mean(total=total + intent_weight * of_intent, weight=lengths.sum().astype(total.dtype))

    def decode(self, params: SlotFillerParams, words: jax.Array, lengths: Any) -> tuple[jax.Array, jax.Array]:
        """The most likely slots [time, *batch], anything where padded, and intent [*batch]."""
        slots, intent = self.apply(params, words, lengths)
        best = CRF(self.slots).decode(params.crf, slots, lengths=lengths) if self.crf else slots.argmax(-1)
        return best, intent.argmax(-1)


def in_context(xs: jax.Array, window: int) -> jax.Array:
    """Beside each step the `window` steps before and after it: [time, *batch, size] -> [time, *batch, (2 window + 1) size]."""
    padded = jnp.pad(xs, ((window, window), *((0, 0),) * (xs.ndim - 1)))
    return jnp.concatenate([padded[shift : shift + len(xs)] for shift in range(2 * window + 1)], -1)


def noisy(
    batch: Batch, key: jax.Array | None, *, rare: jax.Array, name_rate: float, omit_rate: float
) -> tuple[Labelled, Any]:
    """The examples of a batch and their lengths; with a key, about half of the utterances disturbed by `hide` and `omit`."""
    if key is None:
        return batch.data, batch.lengths
    which, hiding, omitting = jax.random.split(key, 3)
    chosen = jax.random.bernoulli(which, 0.5, batch.lengths.shape)[None]
    data = batch.data._replace(words=hide(hiding, batch.data, chosen, rare, name_rate))
    return omit(omitting, data, chosen, omit_rate)


def hide(key: jax.Array, data: Labelled, chosen: jax.Array, rare: jax.Array, name_rate: float) -> jax.Array:
    """The words, some of them made unknown: one that fills a slot with probability `name_rate`, any word w with `rare[w]`.

    So the vector of the unknown word is trained, and the encoder learns to tell a slot by what stands around it.
    """
    rate = rare[data.words]
    rate = jnp.where(data.slots == OUTSIDE, rate, jnp.maximum(rate, name_rate))
    hidden = chosen & jax.random.bernoulli(key, rate) & (data.words != PADDING)
    return jnp.where(hidden, UNKNOWN, data.words)


def omit(key: jax.Array, data: Labelled, chosen: jax.Array, rate: float) -> tuple[Labelled, jax.Array]:
    """The utterances as in a telegram, and their lengths: a word that fills no slot is left out with probability `rate`."""
    real = data.words != PADDING
    left_out = chosen & (data.slots == OUTSIDE) & jax.random.bernoulli(key, rate, data.words.shape)
    left_out &= (real & ~left_out).any(0)[None]  # an utterance keeps at least one word
    keep = real & ~left_out
    order = jnp.argsort(~keep, axis=0, stable=True)
    words, slots = (jnp.take_along_axis(jnp.where(keep, a, 0), order, 0) for a in (data.words, data.slots))
    return data._replace(words=words, slots=slots), keep.sum(0, dtype=jnp.int32)
