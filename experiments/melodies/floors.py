"""What n-gram models come to on tunes: the floor for a recurrent one."""

from collections.abc import Sequence

import numpy as np

from experiments.data import tunes
from experiments.data.abc_notation import Tune
from experiments.data.ngram import kneser_ney_probabilities, ngram_probabilities

ORDER = 5


def ngram_floors(train: Sequence[Tune], held_out: Sequence[Tune], characters: str) -> dict[str, float]:
    """Nats per character of n-gram models, which like the network know where a tune begins, and have to say where it ends."""

    def stream(part: Sequence[Tune]) -> np.ndarray:
        before = np.full(ORDER - 2, tunes.START, np.int32)
        return np.concatenate([row for tune in part for row in (before, tunes.encode(tune.document, characters))])

    seen, text = stream(train), stream(held_out)
    counted = text[ORDER - 1 :] != tunes.START
    found = {}
    for name, model in (("Witten-Bell", ngram_probabilities), ("Kneser-Ney", kneser_ney_probabilities)):
        probabilities = model(seen, text, len(characters) + tunes.END + 1, ORDER)
        found[f"{name} {ORDER}-gram"] = float(-np.log(probabilities[counted]).mean())
    return found
