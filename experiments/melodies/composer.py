"""Tunes written by a trained model, as they are asked for."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.data import abc_notation, tunes
from jrnn.decode import generate
from jrnn.models import LanguageModel


class Written(NamedTuple):
    """What the model wrote."""

    document: str
    ended: bool  # by its end token, and not cut off


class Composer:
    """Writes tunes."""

    def __init__(self, model: LanguageModel, params: Any, characters: str):
        self._model, self._params, self._characters = model, params, characters

    def write(
        self, beginning: str, *, count: int, length: int, key: jax.Array, temperature: float, top_p: float
    ) -> list[Written]:
        """`count` tunes that begin so, each of at most `length` characters; what does not end is cut at its last bar line."""
        before = tunes.encode(beginning, self._characters)[:-1]
        if length <= len(beginning):
            raise ValueError(
                f"the greatest length is {length}; expected more than the {len(beginning)} characters of {beginning!r}, "
                f"with which the tune has to begin: raise --length"
            )
        given = jnp.tile(before[:, None], (1, count))
        state = self._model.initial_state(self._params, (count,))
        if len(before) > 1:
            state, _ = self._model.apply(self._params, given[:-1], state)
        found = generate(
            functools.partial(self._model.step, self._params),
            state,
            given[-1],
            key,
            length=length - len(beginning),
            end=tunes.END,
            forbidden=[tunes.START],
            temperature=temperature,
            top_p=top_p,
        )
        texts = [beginning + tunes.decode(tokens, self._characters) for tokens in np.asarray(found.tokens).T]
        return [Written(text if end else cut(text), bool(end)) for text, end in zip(texts, found.ended, strict=True)]


def cut(document: str) -> str:
    """Without what follows the last bar line, where there is one after the header."""
    body = document.find("\nL:") + 1
    last = max(document.rfind("|", body), document.rfind("|]", body) + 1)
    return f"{document[: last + 1]}\n" if body and last > body else document


def asked(known: Sequence[Sequence[Any]], metre: str | None, key: str | None, seed: int) -> str:
    """The beginning of a tune in this metre and key, of those in `known` (metre, key, how many tunes).

    Where the key alone is given its metre is drawn as the training tunes in that key have it.
    """
    metre = metre and usual(abc_notation.metre_of, metre)
    key = key and usual(abc_notation.key_of, key)
    metres = list(dict.fromkeys(one for one, _, _ in known))
    keys = list(dict.fromkeys(one for _, one, _ in known))
    for name, value, choices in (("--metre", metre, metres), ("--key", key, keys)):
        if value is not None and value not in choices:
            raise ValueError(
                f"{name} is {value!r}, which the training tunes do not have; they have {', '.join(choices)}"
            )
    if key is None:
        return "" if metre is None else f"M:{metre}\nK:"
    if metre is None:
        own = [(one, count) for one, other, count in known if other == key]
        shares = np.array([count for _, count in own]) / sum(count for _, count in own)
        metre = own[np.random.default_rng(seed).choice(len(own), p=shares)][0]
    return f"M:{metre}\nK:{key}\n"


def usual(normalise: Callable[[str], str], text: str) -> str:
    """`text` as it is written in training, where it can be read."""
    try:
        return normalise(text)
    except ValueError:
        return text
