"""Captions written by a trained model, and where each of their tokens looked."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from experiments.captions.model import END, START, UNKNOWN, About, Model, Params
from jrnn.decode import Beams, beam_search


class Writer:
    """Finds the likeliest captions, and where each token of one looked."""

    def __init__(self, model: Model, params: Params, about: About):
        self.model, self.params, self.about = model, params, about
        self._search = jax.jit(self._searched, static_argnames=("width", "best"))
        self._look = jax.jit(self._looked)

    def _searched(self, params: Params, images: jax.Array, first: jax.Array, width: int, best: int) -> Beams:
        state, step = self.model.captioner.start(params.captioner, self.model.grid(params, images))
        never = (0, UNKNOWN, *range(START, START + len(self.about.languages)))
        options: Any = {"end": END, "min_length": 1, "forbidden": never, "length_penalty": 1.0}
        return beam_search(step, state, first, length=self.about.longest, width=width, best=best, **options)

    def _looked(self, params: Params, images: jax.Array, tokens: jax.Array) -> jax.Array:
        (found,) = self.model.captioner.weights(params.captioner, self.model.grid(params, images), tokens)
        return found

    def write(
        self, images: Sequence[np.ndarray], languages: Sequence[int], *, beams: int, best: int = 1
    ) -> list[list[tuple[list[str], float]]]:
        """The `best` captions of each image, in a language each, as tokens with their scores."""
        found: list[list[tuple[list[str], float]]] = []
        rows = min(100, len(images))
        for start in range(0, len(images), rows):
            now = list(images[start : start + rows])
            count = len(now)
            first = np.array([START + place for place in languages[start : start + rows]], np.int32)
            batch = np.stack(now + now[:1] * (rows - count))  # one shape to compile
            first = np.pad(first, (0, rows - count), constant_values=START)
            result = jax.tree.map(np.asarray, self._search(self.params, batch, first, beams, best))
            for row in range(count):
                kept = [n for n in range(best) if result.lengths[row, n]]
                tokens = [result.tokens[: result.lengths[row, n], row, n] for n in kept]
                words = [self.about.vocabulary.decode(one[: -1 if one[-1] == END else None]) for one in tokens]
                found.append(list(zip(words, result.scores[row, kept].tolist(), strict=True)))
        return found

    def weights(self, image: np.ndarray, language: int, words: Sequence[str]) -> np.ndarray:
        """Where each of `words` and the end after them looked: [words + 1, height, width] of the grid."""
        tokens = np.array([START + language, *self.about.vocabulary.encode(words)], np.int32)
        padded = np.pad(tokens, (0, max(self.about.longest - len(tokens), 0)))  # one shape to compile
        found = np.asarray(self._look(self.params, image[None], padded[:, None]))[: len(tokens), 0]
        side = math.isqrt(found.shape[-1])
        return found.reshape(len(tokens), side, -1)

    def text(self, words: Sequence[str]) -> str:
        """To be read: letters together, words apart."""
        return self.about.between.join(words)
