"""Classifier: a sequence in, one label out."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import losses
from ..arrays import affine
from ..checks import check_positive
from ..layers import Layer
from ..pooling import Pooling
from ..segments import step_mask


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
        check_positive("Classifier", classes=self.classes)
        if self.layer.output_size is None:
            raise ValueError(f"Classifier: layer is {self.layer}; expected one with an output size")

    @property
    def output_size(self) -> int:
        return self.classes

    def init(self, key: jax.Array) -> ClassifierParams:
        layer, pooling, head = jax.random.split(key, 3)
        size = self.layer.output_size or 0
        return ClassifierParams(
            layer=self.layer.init(layer),
            pooling=() if self.pooling is None else self.pooling.init(pooling, size),
            w=jax.nn.initializers.glorot_uniform()(head, (size, self.classes)),
            b=jnp.zeros(self.classes),
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
        marks = {"lengths": lengths, "mask": mask}
        if self.pooling is None:
            _, y = self.layer.last(params.layer, xs, **marks, key=key)
        else:
            _, ys = self.layer.apply(params.layer, xs, **marks, key=key)
            y = self.pooling.apply(params.pooling, ys, step_mask(lengths, mask, ys.shape[:-1]))
        return affine(y, params.w, params.b)

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
        logits = self.apply(params, xs, lengths=lengths, mask=mask, key=key)
        return losses.cross_entropy(logits, labels, real_rows(lengths, mask))


def real_rows(lengths: jax.Array | None, mask: jax.Array | None) -> jax.Array | None:
    """Which rows have real steps: bool [*batch]; None: all."""
    if mask is not None:
        return step_mask(lengths, mask, mask.shape).any(0)  # type: ignore[union-attr]
    return None if lengths is None else lengths > 0
