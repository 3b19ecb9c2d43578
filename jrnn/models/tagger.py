"""Tagger: a sequence in, a label out for each step."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import losses
from ..checks import check_key_or_legacy, check_positive, check_switches
from ..layers import Dense, Layer
from ..layers.base import check_layer
from ..layers.dense import dense
from ..segments import make_segments
from .crf import CRF, Allowed, check_allowed


class TaggerParams(NamedTuple):
    layer: Any  # the layer's own
    w: jax.Array  # [layer's output, labels]
    b: jax.Array  # [labels]
    crf: Any  # CRFParams, or () without


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Tagger:
    """Many to many in step: run a layer, choose a label at each step.

    By default each label is chosen on its own. With `crf`, all labels of a sequence are scored together (Lafferty et al. 2001;
    over a bidirectional LSTM, Huang et al. 2015), so that `loss` is their joint likelihood and `decode` the best sequence.

    `allowed` (`bio_scheme(names)`, say) says which labels may follow which: `decode` returns no other sequence, with and without
    `crf`.
    """

    layer: Layer
    labels: int
    crf: bool = dataclasses.field(default=False, kw_only=True)
    allowed: Allowed | None = dataclasses.field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_layer("Tagger", "layer", self.layer)
        check_positive("Tagger", labels=self.labels)
        check_switches("Tagger", crf=self.crf)
        check_allowed("Tagger", self.allowed, self.labels)
        if self.layer.output_size is None:
            raise ValueError(f"Tagger: layer is {self.layer}; expected one with an output size")

    @property
    def output_size(self) -> int:
        return self.labels

    @property
    def _chain(self) -> CRF:
        return CRF(self.labels, self.allowed)

    def init(self, key: jax.Array) -> TaggerParams:
        check_key_or_legacy(key)
        layer, head, crf = jax.random.split(key, 3)
        return TaggerParams(
            layer=self.layer.init(layer),
            **Dense(self.layer.output_size or 0, self.labels).init(head)._asdict(),
            crf=self._chain.init(crf) if self.crf else (),
        )

    def apply(
        self,
        params: TaggerParams,
        xs: Any,
        *,
        lengths: jax.Array | None = None,
        mask: jax.Array | None = None,
        reset: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """xs [time, *batch, ...] -> logits [time, *batch, labels]; the marks and `key` as in `Layer.apply`."""
        _, ys = self.layer.apply(params.layer, xs, lengths=lengths, mask=mask, reset=reset, key=key)
        return dense(ys, params.w, params.b)

    def loss(
        self,
        params: TaggerParams,
        xs: Any,
        labels: jax.Array,
        *,
        lengths: jax.Array | None = None,
        mask: jax.Array | None = None,
        reset: jax.Array | None = None,
        key: jax.Array | None = None,
        ignore: int | None = None,
    ) -> losses.Mean:
        """Nats of `labels` [time, *batch] per real step; a padded step may hold any label.

        A step that is labelled `ignore` (-100, say, for all but the first piece of a word) is read and not scored; none may be
        with `crf`, which scores whole sequences.
        """
        segments = make_segments(lengths, mask, reset, self.layer.time_and_batch(xs))
        logits = self.apply(params, xs, **segments._asdict(), key=key)
        if not self.crf:
            return losses.cross_entropy(logits, labels, segments.mask, ignore=ignore)
        if ignore is not None:
            raise ValueError(
                f"ignore is {ignore}; a Tagger with crf=True expects None: it scores every real step; leave steps out by mask"
            )
        likelihood = self._chain.log_likelihood(params.crf, logits, labels, **segments._asdict())
        count = labels.size if segments.mask is None else segments.mask.sum()
        return losses.Mean(total=-likelihood.sum(), weight=jnp.asarray(count, likelihood.dtype))

    def decode(
        self,
        params: TaggerParams,
        xs: Any,
        *,
        lengths: jax.Array | None = None,
        mask: jax.Array | None = None,
        reset: jax.Array | None = None,
    ) -> jax.Array:
        """The most likely labels, int32 [time, *batch]; -1, which is no label, at padded steps."""
        segments = make_segments(lengths, mask, reset, self.layer.time_and_batch(xs))
        logits = self.apply(params, xs, **segments._asdict())
        if self.crf or self.allowed is not None:
            crf = params.crf if self.crf else self._chain.init(jax.random.key(0))
            return self._chain.decode(crf, logits, **segments._asdict())
        best = logits.argmax(-1).astype(jnp.int32)
        return best if segments.mask is None else jnp.where(segments.mask, best, -jnp.ones_like(best))
