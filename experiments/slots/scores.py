"""How well utterances are labelled: span F1 and accuracy, the floor, and what becomes of them where no city is known."""

import collections
from collections.abc import Sequence

import numpy as np
from seqeval.metrics import f1_score

from experiments.data.atis import Utterance


def score(truth: Sequence[Utterance], labelled: Sequence[Utterance]) -> dict[str, float]:
    """Span F1 of the slots, as conlleval has it (seqeval's default), and accuracy of the intent, in percent.

    An intent of several (`atis_flight#atis_airfare`) is right where all of it is, as in most published results; `intent, any` takes
    one of them for right. A label never seen in training cannot be given, and so is an error.
    """
    slots = [[list(utterance.slots) for utterance in part] for part in (truth, labelled)]
    pairs = [(a.intent, b.intent) for a, b in zip(truth, labelled, strict=True)]
    return {
        "slots": 100 * float(f1_score(*slots, zero_division=0)),  # type: ignore[arg-type]
        "intent": 100 * float(np.mean([a == b for a, b in pairs])),
        "intent, any": 100 * float(np.mean([bool({*a.split("#")} & {*b.split("#")}) for a, b in pairs])),
    }


def floor(train: Sequence[Utterance], part: Sequence[Utterance]) -> dict[str, float]:
    """The score of each word's most frequent slot and the most frequent intent."""
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for utterance in train:
        for word, slot in zip(utterance.words, utterance.slots, strict=True):
            counts[word][slot] += 1
    likely = collections.defaultdict(lambda: "O", {word: count.most_common(1)[0][0] for word, count in counts.items()})
    intent = collections.Counter(utterance.intent for utterance in train).most_common(1)[0][0]
    return score(part, [u._replace(slots=tuple(likely[word] for word in u.words), intent=intent) for u in part])


def without_cities(part: Sequence[Utterance]) -> list[Utterance]:
    """The same with each word of a city's name replaced by one that no model knows."""

    def hidden(utterance: Utterance) -> Utterance:
        pairs = zip(utterance.words, utterance.slots, strict=True)
        return utterance._replace(words=tuple("<unk>" if slot.endswith("city_name") else word for word, slot in pairs))

    return [hidden(utterance) for utterance in part]
