"""Language model: embed tokens, run a causal layer, predict the next token."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..checks import check_key_or_legacy, check_positive, check_switches
from ..layers import Dense, Embedding, Layer
from ..layers.base import check_layer
from ..layers.dense import dense
from ..layers.embedding import lookup, lookup_real
from ..segments import step_mask


class LanguageModelParams(NamedTuple):
    embedding: jax.Array  # [vocabulary, layer's input]
    layer: Any  # the layer's own
    w: jax.Array | None  # [layer's output, vocabulary]; None where the embedding takes its place
    b: jax.Array  # [vocabulary]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class LanguageModel:
    """The distribution of the next token given those before it (Mikolov et al. 2010).

    The same interface as a layer, with tokens (integers) in and logits out: `apply` on whole sequences, `step` for one token.
    Weights start as in Glorot & Bengio 2010, the embedding as N(0, 1) / sqrt(embedding size), so that its rows have norm 1. With
    `tied` the embedding is also the output's weights (Press & Wolf 2017): the layer's output then has the embedding's size.
    """

    vocabulary_size: int
    layer: Layer
    tied: bool = dataclasses.field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        check_layer("LanguageModel", "layer", self.layer)
        check_positive("LanguageModel", vocabulary_size=self.vocabulary_size)
        check_switches("LanguageModel", tied=self.tied)
        if self.layer.input_size is None or self.layer.output_size is None:
            raise ValueError(f"LanguageModel: layer is {self.layer}; expected one with an input and an output size")
        if self.tied and self.layer.output_size != self.layer.input_size:
            raise ValueError(
                f"LanguageModel: tied, but layer gives {self.layer.output_size} features and takes {self.layer.input_size}, the "
                f"embedding's; expected the same: put Dense({self.layer.output_size}, {self.layer.input_size}) at the layer's end"
            )

    @property
    def output_size(self) -> int:
        return self.vocabulary_size

    def init(self, key: jax.Array) -> LanguageModelParams:
        check_key_or_legacy(key)
        embed, layer, head = jax.random.split(key, 3)
        output = Dense(self.layer.output_size or 0, self.vocabulary_size, bias=False).init(head)
        return LanguageModelParams(
            embedding=Embedding(self.vocabulary_size, self.layer.input_size or 0).init(embed).vectors,
            layer=self.layer.init(layer),
            w=None if self.tied else output.w,
            b=jnp.zeros(self.vocabulary_size),
        )

    def initial_state(
        self, params: LanguageModelParams, batch: tuple[int, ...] = (), key: jax.Array | None = None
    ) -> Any:
        return self.layer.initial_state(params.layer, batch, key)

    def apply(
        self,
        params: LanguageModelParams,
        tokens: jax.Array,
        state: Any = None,
        *,
        lengths: jax.Array | None = None,
        mask: jax.Array | None = None,
        reset: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> tuple[Any, jax.Array]:
        """tokens [time, *batch] -> (final state, logits [time, *batch, vocabulary] of the token after each).

        A padded step may hold any token.
        """
        real = step_mask(lengths, mask, jnp.shape(tokens))
        xs = lookup_real(params.embedding, tokens, real)
        state, ys = self.layer.apply(params.layer, xs, state, mask=real, reset=reset, key=key)
        return state, self._logits(params, ys)

    def step(
        self, params: LanguageModelParams, state: Any, token: jax.Array, *, key: jax.Array | None = None
    ) -> tuple[Any, jax.Array]:
        """token [*batch] -> (new state, logits [*batch, vocabulary])."""
        state, y = self.layer.step(params.layer, state, lookup(params.embedding, token), key=key)
        return state, self._logits(params, y)

    def _logits(self, params: LanguageModelParams, y: jax.Array) -> jax.Array:
        return dense(y, params.embedding.T if params.w is None else params.w, params.b)
