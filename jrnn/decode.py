"""Decoding, over any step function and state: draw a token from logits, and write by feeding each token back."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from .arrays import at_least_float32

S = TypeVar("S")


def draw(
    key: jax.Array,
    logits: jax.Array,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> jax.Array:
    """A token [...] from `logits` [..., vocabulary].

    `temperature` divides the logits; 0 takes the most likely token. `top_k` keeps the k most likely tokens. `top_p` keeps the
    smallest set of most likely tokens whose probability reaches p (nucleus sampling, Holtzman et al. 2020), after `top_k`.
    """
    if temperature < 0:
        raise ValueError(f"temperature is {temperature}; expected 0 (most likely token) or more")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k is {top_k}; expected at least 1 token, or None for all")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p is {top_p}; expected a probability in (0, 1], or None for all")
    if temperature == 0:
        return jnp.argmax(logits, -1)
    logits = logits.astype(at_least_float32(logits.dtype)) / temperature
    logits, tokens = lax.top_k(logits, min(top_k or logits.shape[-1], logits.shape[-1]))  # most likely first
    if top_p is not None:
        probabilities = jax.nn.softmax(logits)
        before = jnp.cumsum(probabilities, -1) - probabilities
        logits = jnp.where(before < top_p, logits, -jnp.inf)
    choice = jax.random.categorical(key, logits)
    return jnp.take_along_axis(tokens, choice[..., None], -1)[..., 0]


def generate(
    step: Callable[[S, jax.Array], tuple[S, jax.Array]],
    state: S,
    token: jax.Array,
    key: jax.Array,
    *,
    length: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> tuple[S, jax.Array]:
    """Feed `token` [*batch] to `step(state, token) -> (state, logits)`, draw the next, and so on: tokens [length, *batch].

    The state returned has seen every token but the last one drawn. Options as in `draw`.
    """

    def body(carry: tuple[S, jax.Array], key: jax.Array) -> tuple[tuple[S, jax.Array], jax.Array]:
        state, token = carry
        state, logits = step(state, token)
        drawn = draw(key, logits, temperature=temperature, top_k=top_k, top_p=top_p).astype(token.dtype)
        return (state, drawn), drawn

    (state, _), tokens = lax.scan(body, (state, token), jax.random.split(key, length))
    return state, tokens
