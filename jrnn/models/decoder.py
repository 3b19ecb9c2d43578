"""Decoder: a language model that is told what to write about, and the models that tell it."""

import abc
import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from .. import losses
from ..arrays import differentiable, is_differentiable, match_varying_axes, with_differentiable
from ..cells import AttentionState
from ..checks import check_key, check_key_or_legacy, check_positive, check_switches, describe
from ..layers import Dense, DenseParams, Embedding, Layer
from ..layers.base import check_layer, split_key
from ..layers.dense import dense
from ..layers.embedding import lookup, lookup_real
from ..segments import step_mask

Way = Literal["state", "first", "input"]
WAYS = ("state", "first", "input")


class DecoderParams(NamedTuple):
    embedding: jax.Array  # [vocabulary, embedding]
    layer: Any  # the layer's own
    bridge: tuple[DenseParams, ...]  # from the summary to each array of the state; () unless it goes there
    first: DenseParams | None  # from the summary to an embedding; None unless it is the first input
    w: jax.Array | None  # [layer's output, vocabulary]; None where the embedding takes its place
    b: jax.Array  # [vocabulary]


class Condition(NamedTuple):
    """What a decoder is told about each row; made once, by `Decoder.condition`."""

    layer: Any  # the layer's parameters, with what it attends to bound to them
    summary: jax.Array | None  # [*batch, summary]
    state: Any  # the layer's state to begin with; None: the summary, or the layer, decides


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Decoder:
    """The distribution of the next token given those before it and a condition: what one to many is made of.

    A condition is a vector for each row (`summary`), outputs to attend to, or both. The vector goes where `ways` says:

    - "state": into the initial state, tanh(W summary + b) for each of its arrays (Cho et al. 2014; Bahdanau et al. 2015);
    - "first": as an input before the first token, W summary + b (Vinyals et al. 2015, "Show and tell");
    - "input": beside the token at every step (Cho et al. 2014): the layer's input is [embedding, summary].

    Outputs are attended to by what in `layer` attends (`jrnn.AttentionBefore`, `jrnn.AttentionAfter`). With `tied` the embedding
    is also the output's weights (Press & Wolf 2017): the layer's output then has the embedding's size. Weights start as in
    Glorot & Bengio 2010, the embedding as N(0, 1) / √size.
    """

    vocabulary_size: int
    layer: Layer
    summary_size: int | None = dataclasses.field(default=None, kw_only=True)
    ways: tuple[Way, ...] = dataclasses.field(default=("state",), kw_only=True)
    tied: bool = dataclasses.field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        check_layer("Decoder", "layer", self.layer)
        check_positive("Decoder", vocabulary_size=self.vocabulary_size)
        check_switches("Decoder", tied=self.tied)
        if not isinstance(self.layer.input_size, int) or not isinstance(self.layer.output_size, int):
            raise ValueError(f"Decoder: layer is {self.layer}; expected one with an input and an output size")
        if not isinstance(self.ways, tuple) or not set(self.ways) <= set(WAYS) or len(set(self.ways)) < len(self.ways):
            raise ValueError(
                f"Decoder: ways is {self.ways!r}; expected a tuple of some of {', '.join(WAYS)}, each once"
            )
        if self.summary_size is not None:
            check_positive("Decoder", summary_size=self.summary_size)
            if not self.ways:
                raise ValueError(
                    "Decoder: ways is () although there is a summary_size; expected where the summary goes"
                )
        if self.embedding_size < 1:
            raise ValueError(
                f"Decoder: layer takes {self.layer.input_size} features; expected more than summary_size, {self.summary_size}, "
                "which is part of its input at every step"
            )
        if self.tied and self.layer.output_size != self.embedding_size:
            raise ValueError(
                f"Decoder: tied, but layer gives {self.layer.output_size} features and the embedding has {self.embedding_size}; "
                f"expected the same: put Dense({self.layer.output_size}, {self.embedding_size}) at the layer's end"
            )

    @property
    def embedding_size(self) -> int:
        """Features of a token's vector: what is left of the layer's input beside the summary."""
        size: Any = self.layer.input_size
        return size - (self.summary_size or 0) if self._goes("input") else size

    def _goes(self, way: Way) -> bool:
        return self.summary_size is not None and way in self.ways

    def init(self, key: jax.Array) -> DecoderParams:
        check_key_or_legacy(key)
        embed, own, bridge, first, head = jax.random.split(key, 5)
        layer = self.layer.init(own)
        sizes: list[int] = []
        if self._goes("state"):
            _map_recurrent(lambda leaf: sizes.append(leaf.size), jax.eval_shape(self.layer.initial_state, layer))
        summary: Any = self.summary_size
        output: Any = self.layer.output_size
        weights = Dense(output, self.vocabulary_size).init(head)
        return DecoderParams(
            embedding=Embedding(self.vocabulary_size, self.embedding_size).init(embed).vectors,
            layer=layer,
            bridge=tuple(Dense(summary, n).init(k) for n, k in zip(sizes, jax.random.split(bridge, len(sizes) or 1))),
            first=Dense(summary, self.embedding_size).init(first) if self._goes("first") else None,
            w=None if self.tied else weights.w,
            b=jnp.zeros(self.vocabulary_size),
        )

    def condition(
        self,
        params: DecoderParams,
        *,
        summary: jax.Array | None = None,
        memory: jax.Array | None = None,
        lengths: jax.Array | None = None,
        mask: jax.Array | None = None,
        state: Any = None,
    ) -> Condition:
        """What is told: `summary` [*batch, summary_size], `memory` [source, *batch, ...] to attend to, of `lengths` or `mask`.

        A `state` of the layer to begin with takes the place of the bridge.
        """
        if (summary is None) != (self.summary_size is None) and state is None:
            given = "no summary" if summary is None else f"summary {describe(summary)}"
            wanted = "none" if self.summary_size is None else f"one of [*batch, {self.summary_size}]"
            raise ValueError(f"{given} is given; Decoder with summary_size={self.summary_size} expects {wanted}")
        if summary is not None and summary.shape[-1:] != (self.summary_size,):
            raise ValueError(
                f"summary is {describe(summary)}; expected [*batch, {self.summary_size}], its summary_size"
            )
        if (memory is None) != (not self.layer.takes_context):
            given = "no memory" if memory is None else f"memory {describe(memory)}"
            wanted = "one to attend to" if self.layer.takes_context else "none: nothing in the layer attends"
            raise ValueError(f"{given} is given; {self.layer} expects {wanted}")
        layer = params.layer if memory is None else self.layer.bind(params.layer, memory, lengths=lengths, mask=mask)
        return Condition(layer, summary, state)

    def initial_state(
        self, params: DecoderParams, condition: Condition, batch: tuple[int, ...] = (), key: jax.Array | None = None
    ) -> Any:
        """The state before the first token, [*batch, ...]; `key` is for the noise of cells that have some."""
        state = self.layer.initial_state(condition.layer, batch, key)
        summary: Any = condition.summary
        if condition.state is not None:
            state = with_differentiable(state, differentiable(condition.state))
        elif params.bridge:
            bridges = iter(params.bridge)
            state = _map_recurrent(lambda leaf: jnp.tanh(dense(summary, *next(bridges))).reshape(leaf.shape), state)
        if params.first is not None:
            state, _ = self._advance(condition, state, dense(summary, *params.first), None)
        return state

    def apply(
        self,
        params: DecoderParams,
        condition: Condition,
        tokens: jax.Array,
        state: Any = None,
        *,
        lengths: jax.Array | None = None,
        mask: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> tuple[Any, jax.Array]:
        """tokens [time, *batch] -> (final state, logits [time, *batch, vocabulary] of the token after each): teacher forcing."""
        real = step_mask(lengths, mask, jnp.shape(tokens))
        xs = lookup_real(params.embedding, tokens, real)
        if self._goes("input"):
            summary: Any = condition.summary
            xs = jnp.concatenate([xs, jnp.broadcast_to(summary[None], (*xs.shape[:-1], summary.shape[-1]))], -1)
        if state is None:
            state = self.initial_state(params, condition, tokens.shape[1:])
        state, ys = self.layer.apply(condition.layer, xs, state, mask=real, key=key)
        return state, self._logits(params, ys)

    def step(
        self,
        params: DecoderParams,
        condition: Condition,
        state: Any,
        token: jax.Array,
        *,
        key: jax.Array | None = None,
    ) -> tuple[Any, jax.Array]:
        """token [*batch] -> (new state, logits [*batch, vocabulary])."""
        state, y = self._advance(condition, state, lookup(params.embedding, token), key)
        return state, self._logits(params, y)

    def sampled(
        self,
        params: DecoderParams,
        condition: Condition,
        tokens: jax.Array,
        share: Any,
        key: jax.Array,
        *,
        mask: jax.Array | None = None,
        dropout: jax.Array | None = None,
    ) -> jax.Array:
        """As `apply`, but each token after the first is with probability `share` the model's own draw (Bengio et al. 2015).

        The logits [time, *batch, vocabulary]. `share` may be traced: let it grow while training. `dropout` is a key; the same
        features are then dropped at every step. No gradient flows through a draw, as in the paper.
        """
        check_key(key)
        batch = tokens.shape[1:]
        tokens = tokens if mask is None else jnp.where(mask, tokens, jnp.zeros_like(tokens))  # a padded one may be any
        state = self.initial_state(params, condition, batch)

        def body(carry: Any, now: Any) -> tuple[Any, jax.Array]:
            state, drawn = carry
            token, first, key = now
            coin, draw = jax.random.split(key)
            own = jax.random.bernoulli(coin, share, batch) & ~first
            state, logits = self.step(params, condition, state, jnp.where(own, drawn, token), key=dropout)
            drawn = jax.random.categorical(draw, logits.astype(jnp.float32)).astype(token.dtype)
            return (state, drawn), logits

        times = jnp.arange(len(tokens))
        carry, steps = (state, tokens[0]), (tokens, times == 0, jax.random.split(key, len(tokens)))
        carry = match_varying_axes(carry, params, condition, tokens)[0]
        logits = lax.scan(body, carry, steps)[1]
        return logits if mask is None else jnp.where(mask[..., None], logits, jnp.zeros_like(logits))

    def weights(self, params: DecoderParams, condition: Condition, tokens: jax.Array) -> tuple[jax.Array, ...]:
        """Where each step attends to while it reads `tokens` [time, *batch]: [time, *batch, source] for each cell that attends."""

        def body(state: Any, token: jax.Array) -> tuple[Any, Any]:
            new, _ = self.step(params, condition, state, token)
            return new, self.layer.attention_weights(condition.layer, state, new)

        state = self.initial_state(params, condition, tokens.shape[1:])
        return lax.scan(body, state, tokens)[1]

    def _advance(self, condition: Condition, state: Any, x: jax.Array, key: jax.Array | None) -> tuple[Any, jax.Array]:
        """One step of the layer. x may have more batch axes than the condition, hypotheses of its rows, which then share it."""
        layer, summary = condition.layer, condition.summary
        if self._goes("input"):
            more: Any = summary
            more = more.reshape(*more.shape[:-1], *(1,) * (x.ndim - more.ndim), more.shape[-1])
            x = jnp.concatenate([x, jnp.broadcast_to(more, (*x.shape[:-1], more.shape[-1]))], -1)
        layer = self.layer.spread(layer, x.shape[:-1]) if self.layer.takes_context else layer
        return self.layer.step(layer, state, x, key=key)

    def _logits(self, params: DecoderParams, ys: jax.Array) -> jax.Array:
        return dense(ys, params.embedding.T if params.w is None else params.w, params.b)


class Conditional(abc.ABC):
    """A model that tells its decoder what to write about. Abstract: `init` and `condition`."""

    decoder: Decoder

    @abc.abstractmethod
    def init(self, key: jax.Array) -> Any:
        """Fresh parameters, of which `decoder` are the decoder's."""

    @abc.abstractmethod
    def condition(
        self, params: Any, source: Any, *, lengths: Any = None, mask: Any = None, key: Any = None
    ) -> Condition:
        """What the decoder is told about each row of `source`."""

    def apply(
        self,
        params: Any,
        source: Any,
        tokens: jax.Array,
        *,
        source_lengths: jax.Array | None = None,
        source_mask: jax.Array | None = None,
        lengths: jax.Array | None = None,
        mask: jax.Array | None = None,
        sampling: Any = None,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """`tokens` [time, *batch], the first a start token, -> logits [time, *batch, vocabulary] of the token after each.

        `lengths` and `mask` are those of the tokens. A `key` is for dropout, and needed for `sampling`: the share of tokens
        that the decoder is given of its own in place of the right ones (scheduled sampling; see `Decoder.sampled`).
        """
        if sampling is not None and key is None:
            raise ValueError("sampling is given without a key; expected one: the decoder draws tokens")
        encode, decode, draw = split_key(key, 3)
        condition = self.condition(params, source, lengths=source_lengths, mask=source_mask, key=encode)
        mask = step_mask(lengths, mask, tokens.shape)
        if sampling is None:
            return self.decoder.apply(params.decoder, condition, tokens, mask=mask, key=decode)[1]
        options: Any = {"mask": mask, "dropout": decode}
        return self.decoder.sampled(params.decoder, condition, tokens, sampling, draw, **options)

    def loss(
        self,
        params: Any,
        source: Any,
        tokens: jax.Array,
        *,
        lengths: jax.Array | None = None,
        mask: jax.Array | None = None,
        **options: Any,
    ) -> losses.Mean:
        """Cross-entropy in nats of each of `tokens` [time + 1, *batch] after the first, given `source` and those before.

        `tokens` begin with a start token; `lengths` [*batch] count it, and the end token if there is one. Other options as in
        `apply`.
        """
        if len(tokens) < 2:
            raise ValueError(f"tokens is {describe(tokens)}; expected a start token and at least one more")
        real = step_mask(lengths, mask, tokens.shape)
        real = None if real is None else real[1:]
        logits = self.apply(params, source, tokens[:-1], mask=real, **options)
        return losses.cross_entropy(logits, tokens[1:], real)

    def start(
        self,
        params: Any,
        source: Any,
        *,
        lengths: jax.Array | None = None,
        mask: jax.Array | None = None,
        batch: tuple[int, ...] | None = None,
    ) -> tuple[Any, Callable[[Any, jax.Array], tuple[Any, jax.Array]]]:
        """The state before the first token, and `step(state, token) -> (state, logits)`, as `jrnn.decode` takes them.

        The step closes over what belongs to a row of `source` (what is attended to), which is neither repeated nor reordered
        for the hypotheses of a beam search.
        """
        condition = self.condition(params, source, lengths=lengths, mask=mask)
        rows = self._batch(source) if batch is None else batch
        step = functools.partial(self.decoder.step, params.decoder, condition)
        return self.decoder.initial_state(params.decoder, condition, rows), step

    def weights(
        self,
        params: Any,
        source: Any,
        tokens: jax.Array,
        *,
        source_lengths: jax.Array | None = None,
        source_mask: jax.Array | None = None,
    ) -> tuple[jax.Array, ...]:
        """Where the decoder attends to at each of `tokens` [time, *batch]: see `Decoder.weights`."""
        condition = self.condition(params, source, lengths=source_lengths, mask=source_mask)
        return self.decoder.weights(params.decoder, condition, tokens)

    @abc.abstractmethod
    def _batch(self, source: Any) -> tuple[int, ...]:
        """The batch axes of `source`."""


def _map_recurrent(f: Callable[[Any], Any], state: Any) -> Any:
    """`f` on each array of a state that has a derivative, but for what a cell that attends feeds back, which begins at zero."""

    def attends(part: Any) -> bool:
        return isinstance(part, AttentionState)

    def one(part: Any) -> Any:
        if attends(part):
            return part._replace(cell=_map_recurrent(f, part.cell))
        return f(part) if is_differentiable(part) else part

    return jax.tree.map(one, state, is_leaf=attends)


def check_decoder(owner: str, decoder: Any) -> None:
    if not isinstance(decoder, Decoder):
        raise TypeError(f"{owner}: decoder is {describe(decoder)}; expected a jrnn.models.Decoder")
