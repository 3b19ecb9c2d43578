"""A captioner that looks at a picture through an encoder, and what of the data it depends on."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.captions.encoder import Encoder, varied
from experiments.common.run import Run
from experiments.data import captions
from jrnn import losses
from jrnn.data import Vocabulary
from jrnn.models import Captioner
from jrnn.models.captioner import CaptionerParams

DATA = "data.json"
UNKNOWN, END, START = 1, 2, 3
"""Tokens; the start token says the language: START + its place."""


class Example(NamedTuple):
    """A caption of a picture."""

    picture: np.ndarray  # float32 [height, width, channels]; in a batch [height, batch, width, channels]
    tokens: np.ndarray  # int32 [tokens], from the start token to the end token


class Params(NamedTuple):
    """What is learned."""

    encoder: Any
    captioner: CaptionerParams


class About(NamedTuple):
    """What of the data the model depends on; kept with a run."""

    vocabulary: Vocabulary
    languages: tuple[str, ...]
    shape: tuple[int, int, int]  # of a picture: height, width, channels
    longest: int  # tokens of a caption at most, when one is written
    between: str  # tokens: nothing between letters, a space between words

    @classmethod
    def of(cls, data: captions.Captioned, *, spelled: bool, rare: int) -> "About":
        """`spelled`: letter by letter, else words, of which those seen less often than `rare` are unknown."""
        sentences = [one.tokens for one in data.train.captions]
        known = Vocabulary.build(sentences, min_count=1 if spelled else rare).tokens
        starts = [f"<start {language}>" if language else "<start>" for language in data.languages]
        vocabulary = Vocabulary((*known[:2], "<end>", *starts, *known[2:]))
        between = "" if spelled else " "
        return cls(vocabulary, data.languages, (*data.size, data.channels), max(map(len, sentences)) + 1, between)

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**self._asdict(), "vocabulary": self.vocabulary.tokens}

    @classmethod
    def read(cls, run: Run) -> "About":
        stored = run.read(DATA)
        stored["vocabulary"] = Vocabulary(tuple(stored["vocabulary"]))
        plain: Any = {name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()}
        return cls(**plain)


@dataclasses.dataclass(frozen=True)
class Model:
    """Encoder and captioner."""

    encoder: Encoder
    captioner: Captioner
    shape: tuple[int, int, int]
    blind: bool
    flips: bool
    shift: int

    def init(self, key: jax.Array) -> Params:
        encoder, captioner = jax.random.split(key)
        return Params(self.encoder.init(encoder, jnp.zeros((1, *self.shape))), self.captioner.init(captioner))

    def grid(self, params: Params, images: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """[batch, height, width, channels] -> [batch, positions, size]; with a key, of varied images and with dropout."""
        options: Any = {}
        if key is not None:
            vary, drop = jax.random.split(key)
            images = varied(images, vary, flips=self.flips, shift=self.shift)
            options = {"train": True, "rngs": {"dropout": drop}}
        found: Any = self.encoder.apply(params.encoder, images, **options)
        return jnp.zeros_like(found) if self.blind else found

    def loss(self, params: Params, batch: Any, key: jax.Array | None) -> losses.Mean:
        """Cross-entropy of each token; rows that fill up a batch do not count."""
        see, write = (None, None) if key is None else jax.random.split(key)
        grid = self.grid(params, batch.data.picture.swapaxes(0, 1), see)
        return self.captioner.loss(params.captioner, grid, batch.data.tokens, lengths=batch.lengths, key=write)


def examples(part: captions.Part, about: About) -> list[Example]:
    """As arrays; the captions of an image share it."""
    return [
        Example(
            part.images[one.image],
            np.array([START + one.language, *about.vocabulary.encode(one.tokens), END], np.int32),
        )
        for one in part.captions
    ]
