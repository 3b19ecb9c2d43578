"""Vocabularies: tokens as integers, with one for padding and one for what was never seen."""

import collections
import dataclasses
import functools
from collections.abc import Iterable, Sequence

import numpy as np

PADDING = 0
UNKNOWN = 1


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Tokens in order: `tokens[i]` is the one that i stands for; 0 is padding and 1 stands for every token not among them."""

    tokens: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.tokens) < 2:
            raise ValueError(
                f"tokens has {len(self.tokens)} entries; expected the padding, the unknown and the known ones"
            )
        repeated = [token for token, count in collections.Counter(self.tokens).items() if count > 1]
        if repeated:
            raise ValueError(f"tokens holds {repeated[0]!r} more than once; expected each token once")

    @classmethod
    def build(
        cls,
        sequences: Iterable[Sequence[str]],
        *,
        min_count: int = 1,
        max_size: int | None = None,
        padding: str = "<pad>",
        unknown: str = "<unk>",
    ) -> "Vocabulary":
        """Of all tokens in `sequences` seen at least `min_count` times the most frequent `max_size` (None: all).

        Most frequent first; those equally frequent in the order of their characters, so that it does not depend on the order
        of the sequences.
        """
        counts = collections.Counter(token for sequence in sequences for token in sequence)
        for name in (padding, unknown):
            counts.pop(name, None)
        known = sorted(
            (token for token in counts if counts[token] >= min_count), key=lambda token: (-counts[token], token)
        )
        return cls((padding, unknown, *known[:max_size]))

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, token: str) -> bool:
        return self._places.get(token, UNKNOWN) != UNKNOWN

    def encode(self, tokens: Iterable[str]) -> np.ndarray:
        """int32 [how many]; a token that is not known becomes 1."""
        return np.array([self._places.get(token, UNKNOWN) for token in tokens], np.int32)

    def decode(self, ids: Iterable[int]) -> list[str]:
        """The tokens that integers stand for; ValueError for one outside 0..len - 1."""
        ids = [int(i) for i in ids]
        if wrong := [i for i in ids if not 0 <= i < len(self)]:
            raise ValueError(f"ids holds {wrong[0]}; expected 0..{len(self) - 1}, the vocabulary")
        return [self.tokens[i] for i in ids]

    @functools.cached_property
    def _places(self) -> dict[str, int]:
        return {token: place for place, token in enumerate(self.tokens)}
