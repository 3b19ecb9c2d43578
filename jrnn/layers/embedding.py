"""Embeddings: layers from tokens, which are integers, to vectors. First in a stack: `Layered((Embedding(...), ...))`."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..arrays import at_least_float32
from ..checks import check_key_or_legacy, check_params, check_positive, check_switches, check_tokens, describe
from ..segments import Segments
from .base import Layer, check_layer, is_pointwise, on_real_steps, split_key
from .pointwise import Pointwise


class EmbeddingParams(NamedTuple):
    vectors: jax.Array  # [vocabulary, size]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Embedding(Pointwise):
    """A vector for each token, learned: tokens [time, *batch] -> [time, *batch, size].

    The vectors start as N(0, 1) / sqrt(size), so that their norm is about 1; `pretrained` puts known ones in their place. With
    `frozen` no gradient reaches them (an optimiser's weight decay still would: mask it). A token out of range is an error, under
    `jit`, where its value is unknown, NaN; a padded step may hold any.
    """

    vocabulary_size: int
    size: int
    frozen: bool = dataclasses.field(default=False, kw_only=True)

    input_size = None

    def __post_init__(self) -> None:
        check_positive("Embedding", vocabulary_size=self.vocabulary_size, size=self.size)
        check_switches("Embedding", frozen=self.frozen)

    @property
    def output_size(self) -> int:
        return self.size

    def init(self, key: jax.Array) -> EmbeddingParams:
        check_key_or_legacy(key)
        return EmbeddingParams(jax.random.normal(key, (self.vocabulary_size, self.size)) / self.size**0.5)

    def time_and_batch(self, xs):
        return jnp.shape(xs)

    def map(self, params, x, name):
        check_params(self, params)
        return lookup(jax.lax.stop_gradient(params.vectors) if self.frozen else params.vectors, x)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class OneHot(Pointwise):
    """A one at the token's place and zeros elsewhere: tokens [time, *batch] -> [time, *batch, vocabulary_size]; no parameters.

    A token out of range is an error, under `jit`, where its value is unknown, NaN.
    """

    vocabulary_size: int
    dtype: str = dataclasses.field(default="float32", kw_only=True)

    input_size = None
    parameterless = True

    def __post_init__(self) -> None:
        check_positive("OneHot", vocabulary_size=self.vocabulary_size)
        object.__setattr__(self, "dtype", jnp.dtype(self.dtype).name)

    @property
    def output_size(self) -> int:
        return self.vocabulary_size

    def init(self, key: jax.Array) -> tuple[()]:
        return ()

    def time_and_batch(self, xs):
        return jnp.shape(xs)

    def map(self, params, x, name):
        tokens = check_tokens(x, self.vocabulary_size)
        ones = jax.nn.one_hot(tokens, self.vocabulary_size, dtype=self.dtype)
        if not jnp.issubdtype(ones.dtype, jnp.inexact):
            return ones
        inside = (tokens >= 0) & (tokens < self.vocabulary_size)
        return jnp.where(inside[..., None], ones, jnp.full_like(ones, jnp.nan))


class Spelled(NamedTuple):
    """Words, and how each is spelled."""

    words: Any  # int [time, *batch]
    characters: Any  # int [time, *batch, characters], 0 after the last character of a word


class SpelledParams(NamedTuple):
    words: Any  # those of `words`
    characters: Any  # those of `characters`


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class WordsAndCharacters(Layer):
    """Each word's own vector beside what a layer over its characters makes of it (Ling et al. 2015; Lample et al. 2016).

    `Spelled(words, characters)` -> [time, *batch, words + characters]. `words` is a layer over tokens (an `Embedding`);
    `characters` one over the characters of a word (a `Layered` of an `Embedding` and a `Bidirectional`), whose output at the end of
    the run is taken. Character 0 is padding and reaches nothing; a word may have no character at all.
    """

    words: Layer
    characters: Layer

    input_size = None

    def __post_init__(self) -> None:
        check_layer("WordsAndCharacters", "words", self.words)
        check_layer("WordsAndCharacters", "characters", self.characters)

    @property
    def output_size(self) -> int:
        return (self.words.output_size or 0) + (self.characters.output_size or 0)

    @property
    def pointwise(self) -> bool:
        return is_pointwise(self.words)

    def init(self, key: jax.Array) -> SpelledParams:
        check_key_or_legacy(key)
        words, characters = jax.random.split(key)
        return SpelledParams(words=self.words.init(words), characters=self.characters.init(characters))

    def initial_state(self, params: Any, batch: tuple[int, ...] = (), key: jax.Array | None = None) -> Any:
        return self.words.initial_state(params.words, batch, key)

    def time_and_batch(self, xs):
        return self.words.time_and_batch(self._spelled(xs).words)

    def run(self, params, xs, state, segments, key):
        spelled = self._checked(params, xs)
        of_words, of_characters = split_key(key, 2)
        state, words = self.words.run(params.words, spelled.words, state, segments, of_words)
        spelling = self._spelling(params, spelled.characters, segments.mask, of_characters)
        return state, jnp.concatenate([words, spelling], -1)

    def step(self, params, state, x, *, key=None):
        spelled = self._checked(params, x)
        of_words, of_characters = split_key(key, 2)
        state, words = self.words.step(params.words, state, spelled.words, key=of_words)
        return state, jnp.concatenate([words, self._spelling(params, spelled.characters, None, of_characters)], -1)

    def _spelling(self, params: SpelledParams, characters: jax.Array, mask: jax.Array | None, key: Any) -> jax.Array:
        letters = jnp.moveaxis(jnp.asarray(characters), -1, 0)
        real = letters != 0 if mask is None else (letters != 0) & jnp.broadcast_to(mask, letters.shape)
        return self.characters.run_last(params.characters, letters, None, Segments(real, None), key)[1]

    def _checked(self, params: Any, xs: Any) -> Spelled:
        if not isinstance(params, SpelledParams):
            raise TypeError(
                f"params is a {type(params).__name__}; {type(self).__name__} expects SpelledParams, from init(key)"
            )
        return self._spelled(xs)

    def _spelled(self, xs: Any) -> Spelled:
        if not isinstance(xs, Spelled):
            raise TypeError(
                f"xs is {describe(xs)}; {type(self).__name__} expects Spelled(words [time, *batch], "
                "characters [time, *batch, characters])"
            )
        if np.shape(xs.characters)[:-1] != np.shape(xs.words):
            raise ValueError(
                f"xs.characters has shape {list(np.shape(xs.characters))} and xs.words {list(np.shape(xs.words))}; expected "
                "the same axes and one more, the characters of each word"
            )
        return xs


def lookup(vectors: jax.Array, tokens: Any) -> jax.Array:
    """Rows of `vectors` [vocabulary, size] for `tokens` [...]: [..., size].

    A token out of range is an error, under `jit`, where its value is unknown, NaN, which training reports.
    """
    size = len(vectors)
    tokens = check_tokens(tokens, size)
    if jnp.issubdtype(tokens.dtype, jnp.signedinteger):  # `at` would count negative places from the end
        tokens = jnp.where(tokens < 0, jnp.full_like(tokens, size), tokens)
    # The gradient of a row is a sum over all steps and rows that read it: as float32, and rounded once.
    wide = vectors.astype(at_least_float32(vectors.dtype))
    return wide.at[tokens].get(mode="fill", fill_value=jnp.nan).astype(vectors.dtype)


def lookup_real(vectors: jax.Array, tokens: Any, mask: jax.Array | None) -> jax.Array:
    """`lookup`, where `mask` [...] is False zeros: a padded step may hold any token."""
    return on_real_steps(functools.partial(lookup, vectors), jnp.asarray(tokens), mask)


def pretrained(params: EmbeddingParams, tokens: Sequence[str], vectors: Mapping[str, Any]) -> EmbeddingParams:
    """`params` with the vector of each token that `vectors` has in its row; the others stay as they are.

    `tokens[i]` is the token that the integer i stands for, as in `jrnn.data.Vocabulary.tokens`.
    """
    size = params.vectors.shape[1]
    if len(tokens) != len(params.vectors):
        raise ValueError(
            f"tokens has {len(tokens)} entries; expected {len(params.vectors)}, one for each row of params"
        )
    rows = [row for row, token in enumerate(tokens) if token in vectors]
    for row in rows:
        if np.shape(vectors[tokens[row]]) != (size,):
            raise ValueError(
                f"vectors[{tokens[row]!r}] has shape {list(np.shape(vectors[tokens[row]]))}; expected [{size}], the size of "
                f"the embedding: make an Embedding of the size of the vectors"
            )
    if not rows:
        raise ValueError("vectors has none of the tokens: check that both are spelled alike (lower case?)")
    known = jnp.asarray(np.stack([vectors[tokens[row]] for row in rows]), params.vectors.dtype)
    return params._replace(vectors=params.vectors.at[np.asarray(rows)].set(known))
