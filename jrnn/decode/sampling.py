"""Draw a token from logits; write by drawing one after the other."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ..arrays import at_least_float32, select
from ..checks import check_key_or_legacy, describe
from .steps import (
    Step,
    as_carry,
    check_end,
    check_lengths,
    check_range,
    check_step,
    check_token,
    each_row,
    is_integer,
    is_number,
    make_bans,
)


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
    check_key_or_legacy(key)
    if not hasattr(logits, "shape") or not logits.shape or not jnp.issubdtype(logits.dtype, jnp.floating):
        raise TypeError(f"logits is {describe(logits)}; expected floats [..., vocabulary]")
    rows, size, wide = logits.shape[:-1], logits.shape[-1], at_least_float32(logits.dtype)
    check_range("temperature", temperature, lambda t: t >= 0, "a finite number of at least 0 (most likely token)")
    heat = each_row("temperature", temperature, rows, wide)
    if top_k is not None:
        check_range("top_k", top_k, lambda k: k >= 1, "at least 1 token, or None for all", integer=True)
    count = None if top_k is None else each_row("top_k", top_k, rows, jnp.int32)
    if top_p is not None:
        check_range("top_p", top_p, lambda p: (p > 0) & (p <= 1), "a probability in (0, 1], or None for all")
    share = None if top_p is None else each_row("top_p", top_p, rows, wide)
    likeliest = jnp.argmax(logits, -1)
    if is_number(temperature) and temperature == 0:
        return likeliest
    logits = _heated(logits.astype(wide), heat)
    if count is None and share is None:
        chosen = jax.random.categorical(key, logits)
    else:
        logits, tokens = lax.top_k(logits, min(top_k, size) if is_integer(top_k) else size)  # most likely first
        place = lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
        if count is not None:
            logits = jnp.where((place < count) | (place == 0), logits, -jnp.inf)
        if share is not None:
            probabilities = jax.nn.softmax(logits)
            before = jnp.cumsum(probabilities, -1) - probabilities
            logits = jnp.where((before < share) | (share >= 1) | (place == 0), logits, -jnp.inf)
        choice = jax.random.categorical(key, logits)
        chosen = jnp.take_along_axis(tokens, choice[..., None], -1)[..., 0]
    return chosen if is_number(temperature) else jnp.where(heat[..., 0] > 0, chosen, likeliest)


def _heated(logits: jax.Array, heat: jax.Array) -> jax.Array:
    """Logits over the temperature [..., 1], the highest at 0, where the smallest temperature takes it to no infinity."""
    highest = logits.max(-1, keepdims=True)
    heat = jnp.where(heat > 0, heat, jnp.ones_like(heat))
    return jnp.where(logits == highest, jnp.zeros_like(logits), (logits - highest) / heat)


class Written(NamedTuple):
    """What `generate` wrote."""

    state: Any  # has seen every token of its row but the last one
    tokens: jax.Array  # [length, *batch]; the end token at every place after a row's end
    lengths: jax.Array  # int32 [*batch]: tokens of each row, the end token included
    ended: jax.Array  # bool [*batch]: it has an end token, and was not cut off at `length`


class _Writing(NamedTuple):
    """What the loop of `generate` carries."""

    time: jax.Array  # []
    state: Any
    token: jax.Array  # [*batch], the last
    tokens: jax.Array  # [length, *batch]
    lengths: jax.Array  # [*batch]
    ended: jax.Array  # [*batch]


def generate(
    step: Step,
    state: Any,
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

    Stops at `length` tokens, and when each row has drawn `end`, which no row draws among its first `min_length` tokens. A row that
    has ended is fed the end token until all have, and keeps its state (each leaf of it that begins with the batch axes; others
    belong to no row, and go on).

    `forbidden` tokens are never drawn: a list of them, or a mask, bool [vocabulary], [length, vocabulary] for each step or
    [length, *batch, vocabulary] for each step and row, where `length` may be 1. A mask that leaves nothing is an error where its
    values are known; where they are traced, any token may come. `temperature`, `top_k` and `top_p` as in `draw`.
    """
    check_lengths("generate", length, min_length)
    check_key_or_legacy(key)
    token, state = check_token(token), jax.tree.map(jnp.asarray, state)
    batch = token.shape
    returned, size = check_step(step, state, token)
    check_end(end, size)
    put = make_bans(forbidden, size=size, batch=batch, length=length, end=end, min_length=min_length)
    keys = jax.random.split(key, length)

    def go_on(writing: _Writing) -> jax.Array:
        return (writing.time < length) & ~jnp.all(writing.ended)

    def keep(ended: jax.Array, old: jax.Array, new: jax.Array) -> jax.Array:
        return select(ended, old, new) if old.shape[: len(batch)] == batch else new

    def body(writing: _Writing) -> _Writing:
        time, ended = writing.time, writing.ended
        state, logits = step(writing.state, writing.token)
        logits = put(logits, time)
        if end is not None and min_length:
            early = (jnp.arange(size) == end) & (time < min_length)
            logits = jnp.where(jnp.broadcast_to(early, logits.shape), -jnp.inf, logits)
        drawn = draw(keys[time], logits, temperature=temperature, top_k=top_k, top_p=top_p).astype(token.dtype)
        lengths = writing.lengths + (~ended).astype(jnp.int32)
        if end is not None:
            state = jax.tree.map(lambda old, new: keep(ended, old, new), writing.state, state)
            drawn = jnp.where(ended, jnp.full_like(drawn, end), drawn)
            ended = ended | (drawn == end)
        return _Writing(time + 1, state, drawn, writing.tokens.at[time].set(drawn), lengths, ended)

    start = _Writing(
        time=jnp.int32(0),
        state=state,
        token=token,
        tokens=jnp.full((length, *batch), 0 if end is None else end, token.dtype),
        lengths=jnp.zeros(batch, jnp.int32),
        ended=jnp.zeros(batch, bool),
    )
    options: Any = [option for option in (key, temperature, top_k, top_p, forbidden) if hasattr(option, "dtype")]
    found = lax.while_loop(go_on, body, as_carry(start, (returned, options)))
    return Written(found.state, found.tokens, found.lengths, found.ended)
