"""Decoding, over any step function and state: draw tokens, write by feeding each back, search for the likeliest sequences.

A step is `step(state, token) -> (state, logits)`, as `LanguageModel.step` or what `EncoderDecoder.start` gives, with tokens
[*batch] and logits [*batch, vocabulary]. States may be any pytree of arrays [*batch, ...].
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from .arrays import at_least_float32, match_varying_axes
from .checks import check_positive, describe

S = TypeVar("S")
Step = Callable[[S, jax.Array], tuple[S, jax.Array]]


def draw(
    key: jax.Array,
    logits: jax.Array,
    *,
    temperature: Any = 1.0,
    top_k: Any = None,
    top_p: Any = None,
) -> jax.Array:
    """A token [...] from `logits` [..., vocabulary].

    `temperature` divides the logits; 0 takes the most likely token. `top_k` keeps the k most likely tokens. `top_p` keeps the
    smallest set of most likely tokens whose probability reaches p (nucleus sampling, Holtzman et al. 2020), after `top_k`. Each is
    a number, or an array [...] with one for each row, and may be traced; values are checked where they are known.
    """
    _check_range("temperature", temperature, lambda t: t >= 0, "0 (most likely token) or more")
    if top_k is not None:
        _check_range("top_k", top_k, lambda k: k >= 1, "at least 1 token, or None for all")
    if top_p is not None:
        _check_range("top_p", top_p, lambda p: (p > 0) & (p <= 1), "a probability in (0, 1], or None for all")
    likeliest = jnp.argmax(logits, -1)
    if isinstance(temperature, int | float) and temperature == 0:
        return likeliest
    rows = logits.shape[:-1]
    wide = at_least_float32(logits.dtype)
    heat = _each_row("temperature", temperature, rows, wide)
    logits = logits.astype(wide) / jnp.broadcast_to(jnp.where(heat > 0, heat, 1), logits.shape)
    if top_k is None and top_p is None:
        chosen = jax.random.categorical(key, logits)
    else:
        size = logits.shape[-1]
        kept = min(top_k, size) if isinstance(top_k, int) else size
        logits, tokens = lax.top_k(logits, kept)  # most likely first
        place = lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
        if top_k is not None and not isinstance(top_k, int):
            within = place < jnp.broadcast_to(_each_row("top_k", top_k, rows, jnp.int32), place.shape)
            logits = jnp.where(within, logits, -jnp.inf)
        if top_p is not None:
            probabilities = jax.nn.softmax(logits)
            before = jnp.cumsum(probabilities, -1) - probabilities
            within = before < jnp.broadcast_to(_each_row("top_p", top_p, rows, wide), before.shape)
            logits = jnp.where(within | (place == 0), logits, -jnp.inf)
        choice = jax.random.categorical(key, logits)
        chosen = jnp.take_along_axis(tokens, choice[..., None], -1)[..., 0]
    return chosen if isinstance(temperature, int | float) else jnp.where(heat[..., 0] > 0, chosen, likeliest)


class Written(NamedTuple):
    """What `generate` wrote."""

    state: Any  # has seen every token but the last one drawn
    tokens: jax.Array  # [length, *batch]; the end token at every place after a row's end
    lengths: jax.Array  # int32 [*batch]: tokens of each row, the end token included


def generate(
    step: Step[S],
    state: S,
    token: jax.Array,
    key: jax.Array,
    *,
    length: int,
    end: int | None = None,
    min_length: int = 0,
    forbidden: Any = (),
    temperature: Any = 1.0,
    top_k: Any = None,
    top_p: Any = None,
) -> Written:
    """Feed `token` [*batch] to `step`, draw the next, feed that, and so on: greedy with `temperature=0`.

    Stops at `length` tokens, and when each row has drawn `end`, which no row draws among its first `min_length` tokens. Tokens of
    `forbidden` are never drawn. `temperature`, `top_k` and `top_p` as in `draw`. A row that has ended is still stepped, with the
    end token, until all have.
    """
    check_positive("generate", length=length)
    size = jax.eval_shape(step, state, token)[1].shape[-1]
    bans = _Bans(size, length, end, min_length, forbidden)
    keys = jax.random.split(key, length)

    def go_on(carry: Any) -> jax.Array:
        time, _, _, ended, _, _ = carry
        return (time < length) & ~jnp.all(ended)

    def body(carry: Any) -> Any:
        time, state, token, ended, tokens, lengths = carry
        state, logits = step(state, token)
        logits = bans.put(logits, time)
        drawn = draw(keys[time], logits, temperature=temperature, top_k=top_k, top_p=top_p).astype(token.dtype)
        if end is not None:
            drawn = jnp.where(ended, jnp.asarray(end, token.dtype), drawn)
        lengths = lengths + (~ended).astype(jnp.int32)
        if end is not None:
            ended = ended | (drawn == end)
        return time + 1, state, drawn, ended, tokens.at[time].set(drawn), lengths

    token = jnp.asarray(token)
    tokens = jnp.full((length, *token.shape), 0 if end is None else end, token.dtype)
    start = (jnp.int32(0), state, token, jnp.zeros(token.shape, bool), tokens, jnp.zeros(token.shape, jnp.int32))
    example = jax.eval_shape(step, state, token)[0]
    start = _as_carry(start, (start[0], example, *start[2:]))
    _, state, _, _, tokens, lengths = lax.while_loop(go_on, body, start)
    return Written(state, tokens, lengths)


class Beams(NamedTuple):
    """The best hypotheses of each row, best first."""

    tokens: jax.Array  # [length, *batch, best]; the end token at every place after a hypothesis' end
    lengths: jax.Array  # int32 [*batch, best]: its tokens, the end token included; 0 where there is none
    scores: jax.Array  # float32 [*batch, best]: log probability over the length penalty; -inf where there is none
    ended: jax.Array  # bool [*batch, best]: it has an end token, and was not cut off at `length`


class _Search(NamedTuple):
    """Live hypotheses and ended ones, each [*batch, width]."""

    time: jax.Array  # []
    state: Any  # of the live ones
    token: jax.Array  # of the live ones, the last
    live: jax.Array  # log probabilities
    tokens: jax.Array  # [*batch, width, length], of the live ones
    scores: jax.Array  # of the ended ones, penalised
    ended_tokens: jax.Array  # [*batch, width, length]
    lengths: jax.Array  # of the ended ones


def beam_search(
    step: Step[S],
    state: S,
    token: jax.Array,
    *,
    length: int,
    width: int,
    end: int,
    best: int = 1,
    length_penalty: float | Literal["mean"] = 0.0,
    min_length: int = 0,
    forbidden: Any = (),
) -> Beams:
    """The likeliest sequences that a beam of `width` hypotheses for each row finds.

    Starts from `token` [*batch] and `state` [*batch, ...], and calls `step` with tokens [*batch, width] and a state with that axis
    after those of the batch, which is reordered with the hypotheses. What `step` closes over, such as the memory of attention,
    belongs to a row: it is neither repeated nor reordered.

    The score is the log probability over ((5 + length) / 6)^`length_penalty` (Wu et al. 2016), or over the length itself with
    "mean"; the length includes the end token. A hypothesis that ends is kept apart from the live ones, so none "
    "that scores worse can
    displace it, and the search goes on until no live one can become better than those kept, or `length` is reached. Those cut off
    there come after all that ended. With as many hypotheses as there are sequences the search is exhaustive. No sequence ends
    within its first `min_length` tokens; those of `forbidden` are never produced, and their probability is nobody else's.

    Raises ValueError where a number does not fit: `best` over `width`, `min_length` over `length`, `end` not in the vocabulary.
    """
    check_positive("beam_search", length=length, width=width, best=best)
    if best > width:
        raise ValueError(f"best is {best}; expected at most width, {width}")
    if length_penalty != "mean":
        _check_range("length_penalty", length_penalty, lambda a: a >= 0, "a number of at least 0, or 'mean'")
    token = jnp.asarray(token)
    batch = token.shape
    axis = len(batch)
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if jnp.shape(leaf)[:axis] != batch:
            raise ValueError(
                f"state{jax.tree_util.keystr(path)} is {describe(leaf)}; expected the batch axes of token, {list(batch)}, first"
            )

    def repeated(leaf: jax.Array) -> jax.Array:
        return jnp.broadcast_to(jnp.expand_dims(leaf, axis), (*batch, width, *leaf.shape[axis:]))

    def chosen(tree: Any, place: jax.Array) -> Any:
        pick: Any = lambda leaf, at: leaf[at]  # noqa: E731
        for _ in batch:
            pick = jax.vmap(pick)
        return jax.tree.map(lambda leaf: pick(leaf, place), tree)

    def penalty(count: Any) -> jax.Array:
        count = jnp.asarray(count, jnp.float32)
        return count if length_penalty == "mean" else ((5 + count) / 6) ** length_penalty

    state, token = jax.tree.map(repeated, (state, token))
    example, logits = jax.eval_shape(step, state, token)
    size = logits.shape[-1]
    bans = _Bans(size, length, end, min_length, forbidden)
    ending = jnp.arange(size) == end
    worst = jnp.full((*batch, width), -jnp.inf)
    blank = jnp.full((*batch, width, length), end, token.dtype)

    def go_on(search: _Search) -> jax.Array:
        # A live one only loses probability, and its penalty is smallest, as a divisor of a negative number, at the end.
        hope = search.live.max(-1) / penalty(length)
        return (search.time < length) & jnp.any(hope > search.scores[..., best - 1])

    def body(search: _Search) -> _Search:
        state, logits = step(search.state, search.token)
        chances = bans.put(jax.nn.log_softmax(logits.astype(jnp.float32)), search.time)
        total = search.live[..., None] + chances
        count = search.time + 1

        # Those that end here, beside those that ended before.
        scores = jnp.concatenate([search.scores, total[..., end] / penalty(count)], -1)
        scores, place = lax.top_k(scores, width)
        pool = jnp.concatenate([search.ended_tokens, search.tokens], -2)  # which hold the end token from here on
        lengths = jnp.concatenate([search.lengths, jnp.full(search.lengths.shape, count)], -1)
        ended_tokens, lengths = chosen((pool, lengths), place)

        # Those that live: the best of each hypothesis first, since sorting all of them takes a multiple of the time.
        going = jnp.where(jnp.broadcast_to(ending, total.shape), -jnp.inf, total)
        each, words = lax.top_k(going, min(width, size))
        live, place = lax.top_k(each.reshape(*batch, -1), width)
        parent = place // each.shape[-1]
        word = jnp.take_along_axis(words.reshape(*batch, -1), place, -1).astype(token.dtype)
        state, tokens = chosen((state, search.tokens), parent)
        tokens = lax.dynamic_update_index_in_dim(tokens, word, search.time, -1)
        return _Search(count, state, word, live, tokens, scores, ended_tokens, lengths)

    first = jnp.where(jnp.arange(width) == 0, 0.0, -jnp.inf)  # hypotheses are alike at first: one of them lives
    none = jnp.zeros((*batch, width), jnp.int32)
    start = _Search(jnp.int32(0), state, token, jnp.broadcast_to(first, worst.shape), blank, worst, blank, none)
    start = _as_carry(start, start._replace(state=example))
    found = lax.while_loop(go_on, body, start)

    # What was cut off follows what ended.
    cut = jnp.where(found.time >= length, found.live / penalty(length), -jnp.inf)
    scores = jnp.concatenate([found.scores, cut], -1)
    tokens = jnp.concatenate([found.ended_tokens, found.tokens], -2)
    lengths = jnp.concatenate([found.lengths, jnp.full(found.lengths.shape, length)], -1)
    place = jnp.argsort(~jnp.isfinite(scores), -1, stable=True)[..., :best]  # both parts are in order, best first
    scores, tokens, lengths = chosen((scores, tokens, lengths), place)
    there = jnp.isfinite(scores)
    return Beams(
        tokens=jnp.moveaxis(jnp.where(there[..., None], tokens, jnp.full_like(tokens, end)), -1, 0),
        lengths=jnp.where(there, lengths, 0),
        scores=scores,
        ended=there & (place < width),
    )


class _Bans:
    """Tokens that may not come: forbidden ones, and the end before its time."""

    def __init__(self, size: int, length: int, end: int | None, min_length: int, forbidden: Any):
        if end is not None and not 0 <= end < size:
            raise ValueError(f"end is {end}; expected a token in 0..{size - 1}, the vocabulary")
        if not 0 <= min_length <= length:
            raise ValueError(f"min_length is {min_length}; expected 0 to length, {length}")
        tokens = np.asarray(forbidden, np.int64).reshape(-1)
        if tokens.size and not (tokens.min() >= 0 and tokens.max() < size):
            raise ValueError(f"forbidden holds {tokens.min()}..{tokens.max()}; expected tokens in 0..{size - 1}")
        banned = np.zeros(size, bool)
        banned[tokens] = True
        alone = banned.copy()
        if end is not None and min_length:
            alone[end] = True
        if alone.all():
            raise ValueError("forbidden leaves no token; expected at least one that may come, besides the end")
        self._banned, self._end, self._least = banned, end, min_length

    def put(self, scores: jax.Array, time: jax.Array) -> jax.Array:
        """`scores` [..., vocabulary] with -inf for what may not be the token number `time`."""
        banned = jnp.asarray(self._banned)
        if self._end is not None and self._least:
            early = jnp.arange(len(self._banned)) == self._end
            banned = banned | (early & (time < self._least))
        elif not self._banned.any():
            return scores
        return jnp.where(jnp.broadcast_to(banned, scores.shape), -jnp.inf, scores)


def _as_carry(start: Any, like: Any) -> Any:
    """The start of a loop, in the dtypes that its body gives, varying over the mesh axes that any of it does."""
    start = jax.tree.map(lambda a, b: a if a.dtype == b.dtype else a.astype(b.dtype), start, like)
    return match_varying_axes(start)[0]


def _each_row(name: str, value: Any, rows: tuple[int, ...], dtype: Any) -> jax.Array:
    """An option as an array [*rows, 1] or [1]."""
    value = jnp.asarray(value).astype(dtype)
    if value.shape not in ((), rows):
        raise ValueError(f"{name} is {describe(value)}; expected a number, or one for each row, {list(rows)}")
    return jnp.broadcast_to(value, rows)[..., None]


def _check_range(name: str, value: Any, holds: Callable[[Any], Any], expected: str) -> None:
    if isinstance(value, Tracer):
        return
    if isinstance(value, bool | str) or not np.all(holds(np.asarray(value))) or not np.all(np.isfinite(value)):
        raise ValueError(f"{name} is {value!r:.80}; expected {expected}")
