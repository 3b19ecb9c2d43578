"""Tagger: a sequence in, a label out for each step."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import losses
from ..arrays import affine
from ..checks import check_positive
from ..layers import Layer
from ..segments import step_mask
from .crf import CRF


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
    """

    layer: Layer
    labels: int
    crf: bool = dataclasses.field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        check_positive("Tagger", labels=self.labels)
        if self.layer.output_size is None:
            raise ValueError(f"Tagger: layer is {self.layer}; expected one with an output size")

    @property
    def output_size(self) -> int:
        return self.labels

    def init(self, key: jax.Array) -> TaggerParams:
        layer, head, crf = jax.random.split(key, 3)
        size = self.layer.output_size or 0
        return TaggerParams(
            layer=self.layer.init(layer),
            w=jax.nn.initializers.glorot_uniform()(head, (size, self.labels)),
            b=jnp.zeros(self.labels),
            crf=CRF(self.labels).init(crf) if self.crf else (),
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
        return affine(ys, params.w, params.b)

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
    ) -> losses.Mean:
        """Nats of `labels` [time, *batch] per real step; a padded step may hold any label."""
        marks = {"lengths": lengths, "mask": mask, "reset": reset}
        logits = self.apply(params, xs, **marks, key=key)
        real = step_mask(lengths, mask, labels.shape)
        if not self.crf:
            return losses.cross_entropy(logits, labels, real)
        likelihood = CRF(self.labels).log_likelihood(params.crf, logits, labels, **marks)
        count = labels.size if real is None else real.sum()
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
        marks = {"lengths": lengths, "mask": mask, "reset": reset}
        logits = self.apply(params, xs, **marks)
        if self.crf:
            return CRF(self.labels).decode(params.crf, logits, **marks)
        best = logits.argmax(-1).astype(jnp.int32)
        real = step_mask(lengths, mask, best.shape)
        return best if real is None else jnp.where(real, best, -jnp.ones_like(best))
