"""Beam search: the likeliest sequences that a few hypotheses at a time find."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ..arrays import at_least_float32
from ..checks import check_positive, describe
from .steps import Step, as_carry, check_end, check_lengths, check_range, check_step, check_token, make_bans


class Beams(NamedTuple):
    """The best hypotheses of each row, best first."""

    tokens: jax.Array  # [length, *batch, best]; the end token at every place after a hypothesis' end
    lengths: jax.Array  # int32 [*batch, best]: its tokens, the end token included; 0 where there is none
    scores: (
        jax.Array
    )  # float32 or wider [*batch, best]: log probability over the length penalty; -inf where there is none
    ended: jax.Array  # bool [*batch, best]: it has an end token, and was not cut off at `length`


class _Search(NamedTuple):
    """What the loop carries: live hypotheses, and apart from them ended ones, each [*batch, width], best first."""

    time: jax.Array  # []
    state: Any  # of the live ones
    token: jax.Array  # of the live ones, the last
    live: jax.Array  # log probabilities; -inf where there is none
    tokens: jax.Array  # [*batch, width, length], of the live ones
    scores: jax.Array  # of the ended ones, penalised; -inf where there is none
    ended_tokens: jax.Array  # [*batch, width, length]
    lengths: jax.Array  # of the ended ones


def beam_search(
    step: Step,
    state: Any,
    token: jax.Array,
    *,
    length: int,
    width: int,
    end: int | None,
    best: int = 1,
    length_penalty: float | Literal["mean"] = 0.0,
    min_length: int = 0,
    forbidden: Any = (),
) -> Beams:
    """The likeliest sequences that a beam of `width` hypotheses for each row finds.

    Starts from `token` [*batch] and `state`, whose leaves all are [*batch, ...], and calls `step` with tokens [*batch, width] and a
    state with that axis after those of the batch, which is reordered with the hypotheses. What `step` closes over, such as the
    memory of attention, belongs to a row: it is neither repeated nor reordered.

    The score is the log probability over ((5 + length) / 6)^`length_penalty` (Wu et al. 2016), or over the length itself with
    "mean"; the length includes the end token. A hypothesis that ends is kept apart from the live ones, so none that scores worse
    can displace it, and the search goes on until no live one can become better than the `best` kept, or `length` is reached. Those
    cut off there come after all that ended; all are where `end` is None. With as many hypotheses as there are sequences the search
    is exhaustive; where there are fewer sequences than `best`, the places left have length 0 and the score -inf.

    No sequence ends within its first `min_length` tokens; `forbidden` ones, as in `generate`, are never produced, and their
    probability is nobody else's.

    Raises ValueError where a number does not fit: `best` over `width`, `min_length` over `length`, `end` not in the vocabulary.
    """
    check_positive("beam_search", width=width, best=best)
    check_lengths("beam_search", length, min_length)
    if best > width:
        raise ValueError(f"best is {best}; expected at most width, {width}")
    mean = isinstance(length_penalty, str)
    if mean and length_penalty != "mean":
        raise ValueError(f"length_penalty is {length_penalty!r}; expected a number of at least 0, or 'mean'")
    if not mean:
        check_range("length_penalty", length_penalty, lambda a: a >= 0, "a number of at least 0, or 'mean'")
        if jnp.shape(length_penalty):
            raise ValueError(f"length_penalty is {describe(length_penalty)}; expected one number for all rows")
    token, state = check_token(token), jax.tree.map(jnp.asarray, state)
    batch = token.shape
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if leaf.shape[: len(batch)] != batch:
            raise ValueError(
                f"state{jax.tree_util.keystr(path)} is {describe(leaf)}; expected the batch axes of token, {list(batch)}, first: "
                "each hypothesis has its own; broadcast what is the same for all rows, or let step close over what does not change"
            )

    def repeated(leaf: jax.Array) -> jax.Array:
        return jnp.broadcast_to(jnp.expand_dims(leaf, len(batch)), (*batch, width, *leaf.shape[len(batch) :]))

    state, token = jax.tree.map(repeated, (state, token))
    returned, size = check_step(step, state, token)
    check_end(end, size)
    put = make_bans(forbidden, size=size, batch=batch, length=length, end=end, min_length=min_length)
    wide = at_least_float32(returned[1].dtype)

    def penalty(count: jax.Array) -> jax.Array:
        count = count.astype(wide)
        return count if mean else ((5 + count) / 6) ** jnp.asarray(length_penalty, wide)

    def go_on(search: _Search) -> jax.Array:
        # A live one only loses probability, and its penalty is smallest, as a divisor of a negative number, at the end.
        hope = search.live.max(-1) / penalty(jnp.int32(length))
        return (search.time < length) & jnp.any(hope > search.scores[..., best - 1])

    def body(search: _Search) -> _Search:
        state, logits = step(search.state, search.token)
        count = search.time + 1
        # Log probabilities are made of the few tokens that are chosen: of all of them they take longer than the search. All axes of
        # hypotheses as one: XLA makes the logits again for each shape that is read.
        rows = logits.astype(wide).reshape(-1, size)
        highest = rows.max(-1)
        rest = jnp.log(jnp.exp(rows - highest[:, None]).sum(-1)).reshape(search.live.shape)
        highest = highest.reshape(search.live.shape)
        rows = put(rows.reshape(logits.shape), search.time).reshape(-1, size)

        def total(chosen: jax.Array) -> jax.Array:
            """Of hypotheses with one more token, from its logit [*batch, width, ...]: none where there was none before."""
            before, high, over = (
                a.reshape(*a.shape, *(1,) * (chosen.ndim - a.ndim)) for a in (search.live, highest, rest)
            )
            return jnp.where(jnp.isneginf(before), -jnp.inf, before + ((chosen - high) - over))

        scores, ended_tokens, lengths = search.scores, search.ended_tokens, search.lengths
        if end is not None:  # those that end here, beside those that ended before
            here = jnp.where(search.time < min_length, -jnp.inf, total(rows[:, end].reshape(search.live.shape)))
            scores = jnp.concatenate([scores, here / penalty(count)], -1)
            scores, place = lax.top_k(scores, width)
            pool = jnp.concatenate([ended_tokens, search.tokens], -2)  # which hold the end token from here on
            lengths = jnp.concatenate([lengths, jnp.full_like(lengths, count)], -1)
            ended_tokens, lengths = _pick((pool, lengths), place)

        # Those that live: the best of each hypothesis first, one more than are kept as the end may be among them. Sorting those of
        # all hypotheses together takes twice the time.
        each, words = lax.top_k(rows, min(width + 1, size))
        each, words = (a.reshape(*batch, width, -1) for a in (each, words))
        if end is not None:
            each = jnp.where(words == end, -jnp.inf, each)
        live, place = lax.top_k(total(each).reshape(*batch, -1), width)
        word = jnp.take_along_axis(words.reshape(*batch, -1), place, -1).astype(token.dtype)
        state, tokens = _pick((state, search.tokens), place // each.shape[-1])
        tokens = lax.dynamic_update_index_in_dim(tokens, word, search.time, -1)
        return _Search(count, state, word, live, tokens, scores, ended_tokens, lengths)

    none = jnp.full(token.shape, -jnp.inf, wide)
    blank = jnp.full((*token.shape, length), 0 if end is None else end, token.dtype)
    start = _Search(
        time=jnp.int32(0),
        state=state,
        token=token,
        live=none.at[..., 0].set(0),  # hypotheses are alike at first: one of them lives
        tokens=blank,
        scores=none,
        ended_tokens=blank,
        lengths=jnp.zeros(token.shape, jnp.int32),
    )
    options: Any = [option for option in (length_penalty, forbidden) if hasattr(option, "dtype")]
    found = lax.while_loop(go_on, body, as_carry(start, (returned, options)))

    # What was cut off follows what ended.
    cut = jnp.where(found.time >= length, found.live / penalty(jnp.int32(length)), -jnp.inf)
    scores = jnp.concatenate([found.scores, cut], -1)
    tokens = jnp.concatenate([found.ended_tokens, found.tokens], -2)
    lengths = jnp.concatenate([found.lengths, jnp.full_like(found.lengths, length)], -1)
    place = jnp.argsort(~jnp.isfinite(scores), -1, stable=True)[..., :best]  # both parts are in order, best first
    scores, tokens, lengths = _pick((scores, tokens, lengths), place)
    there = jnp.isfinite(scores)
    tokens = jnp.where(there[..., None], tokens, jnp.full_like(tokens, 0 if end is None else end))
    return Beams(jnp.moveaxis(tokens, -1, 0), jnp.where(there, lengths, 0), scores, ended=there & (place < width))


def _pick(tree: Any, place: jax.Array) -> Any:
    """Leaves [*batch, n, ...] at `place` [*batch, m]: [*batch, m, ...]."""

    def one(leaf: jax.Array, at: jax.Array) -> jax.Array:
        return leaf[at]

    for _ in place.shape[:-1]:
        one = jax.vmap(one)
    return jax.tree.map(lambda leaf: one(leaf, place), tree)
