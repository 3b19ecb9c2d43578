"""Classifier: a sequence in, one label out."""

import dataclasses
from typing import Any, NamedTuple

import jax

from .. import losses
from ..checks import check_key_or_legacy, check_positive
from ..layers import Dense, Layer
from ..layers.base import check_layer
from ..layers.dense import dense
from ..pooling import Pooling
from ..segments import make_segments


class ClassifierParams(NamedTuple):
    layer: Any  # the layer's own
    pooling: Any  # the pooling's own
    w: jax.Array  # [layer's output, classes]
    b: jax.Array  # [classes]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Classifier:
    """Many to one: run a layer, pool what it says over the real steps, choose a class.

    `layer` reads vectors, or tokens where its first layer is an embedding. `pooling` is one of `jrnn.pooling`; None: the output at
    the end of the run (of each direction its own, see `Layer.last`). A sequence of one step is one to one. A row without
    real steps is classified by the bias alone.
    """

    layer: Layer
    classes: int
    pooling: Pooling | None = dataclasses.field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_layer("Classifier", "layer", self.layer)
        check_positive("Classifier", classes=self.classes)
        if self.layer.output_size is None:
            raise ValueError(f"Classifier: layer is {self.layer}; expected one with an output size")

    @property
    def output_size(self) -> int:
        return self.classes

    def init(self, key: jax.Array) -> ClassifierParams:
        check_key_or_legacy(key)
        layer, pooling, head = jax.random.split(key, 3)
        size = self.layer.output_size or 0
        return ClassifierParams(
            layer=self.layer.init(layer),
            pooling=() if self.pooling is None else self.pooling.init(pooling, size),
            **Dense(size, self.classes).init(head)._asdict(),
        )

    def apply(
        self,
        params: ClassifierParams,
        xs: Any,
        *,
        lengths: jax.Array | None = None,
        mask: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """xs [time, *batch, ...] -> logits [*batch, classes]; `lengths`, `mask` and `key` as in `Layer.apply`."""
        mask = self._mask(xs, lengths, mask)
        if self.pooling is None:
            _, y = self.layer.last(params.layer, xs, mask=mask, key=key)
        else:
            _, ys = self.layer.apply(params.layer, xs, mask=mask, key=key)
            y = self.pooling.apply(params.pooling, ys, mask)
        return dense(y, params.w, params.b)

    def loss(
        self,
        params: ClassifierParams,
        xs: Any,
        labels: jax.Array,
        *,
        lengths: jax.Array | None = None,
        mask: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> losses.Mean:
        """Cross-entropy in nats of `labels` [*batch]; rows without real steps, which fill up a batch, do not count."""
        mask = self._mask(xs, lengths, mask)
        logits = self.apply(params, xs, mask=mask, key=key)
        return losses.cross_entropy(logits, labels, None if mask is None else mask.any(0))

    def _mask(self, xs: Any, lengths: jax.Array | None, mask: jax.Array | None) -> jax.Array | None:
        """Which steps are real: bool [time, *batch]; None: all."""
        return make_segments(lengths, mask, None, self.layer.time_and_batch(xs)).mask
