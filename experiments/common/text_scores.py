"""How good translations are: BLEU (Papineni et al. 2002) by sacrebleu (Post 2018), and how many are exactly right."""

from collections.abc import Sequence
from typing import Any

from experiments.common.extras import need


def bleu(
    tokens: Sequence[Sequence[str]], right: Sequence[Sequence[str]], texts: Sequence[str], references: Sequence[str]
) -> dict[str, Any]:
    """`tokenised` of tokens as they are, and `default`, sacrebleu's own of whole texts, each with its signature."""
    library = need("sacrebleu", "translation")
    found: dict[str, Any] = {}
    sides = {
        "tokenised": ([" ".join(one) for one in tokens], [" ".join(one) for one in right], {"tokenize": "none"}),
        "default": (list(texts), list(references), {}),
    }
    for name, (said, wanted, options) in sides.items():
        metric = library.BLEU(**options, force=True)
        found[name] = metric.corpus_score(said, [wanted]).score
        found[f"{name} signature"] = str(metric.get_signature())
    return found


def bleu_of_several(tokens: Sequence[Sequence[str]], right: Sequence[Sequence[Sequence[str]]]) -> dict[str, Any]:
    """`tokenised`, of tokens as they are against several references each, as many as there are, and its signature."""
    library = need("sacrebleu", "translation")
    most = max(map(len, right))
    streams = [[" ".join(each[i]) if i < len(each) else None for each in right] for i in range(most)]
    metric = library.BLEU(tokenize="none", force=True)
    score = metric.corpus_score([" ".join(one) for one in tokens], streams).score
    return {"tokenised": score, "tokenised signature": str(metric.get_signature())}


def exact(tokens: Sequence[Sequence[str]], right: Sequence[Sequence[str]]) -> float:
    """The share of translations that are right to the last token."""
    return sum(list(a) == list(b) for a, b in zip(tokens, right, strict=True)) / len(right)
