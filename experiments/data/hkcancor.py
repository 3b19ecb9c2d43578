"""The Hong Kong Cantonese Corpus: everyday talk and radio programmes of 1995 to 1998, each word with its part of speech.

| part    | recordings | utterances | words   |
|---------|------------|------------|---------|
| `train` | 39         | 12,973     | 123,863 |
| `dev`   | 5          | 1,469      | 14,831  |
| `test`  | 5          | 1,720      | 14,962  |

HKCanCor (Luke & Wong 2015, CC BY 4.0) comes with PyCantonese and needs no download. Nor has it parts of its own: of every ten
recordings, in the order of their numbers, the fourth is for testing and the seventh is held out. A recording in several files
(FC-108a, FC-108c) is one, so that no talk is in two parts; a speaker may be, as they have no names there.

PyCantonese gives the universal tag of each of the 94 tags in it. None is SCONJ or SYM, and DET is one word. Punctuation, in
ASCII throughout, is 18 % of the words, as they are counted here and in other treebanks; ○ is a syllable that has no character.
"""

import re
from collections import Counter, defaultdict
from pathlib import Path

from experiments.common.extras import need
from experiments.data.treebank import Sentence, Treebank

_AS_THERE = str.maketrans("，、；：。？！「」『』（）", ',,,,.?!""""""')


def load() -> Treebank:
    """All parts; a sentence is an utterance."""
    universal = need("pycantonese.pos_tagging", "cantonese").hkcancor_to_ud  # slow to import
    corpus = need("pycantonese", "cantonese").hkcancor()
    recordings: defaultdict[str, list[Sentence]] = defaultdict(list)
    for path, utterances in sorted(zip(corpus.file_paths, corpus.utterances(by_file=True))):
        for utterance in utterances:
            words = [token.word for token in utterance.tokens]
            # Punctuation has no tag of its own.
            tags = [str(universal(token.pos or token.word)) for token in utterance.tokens]
            recordings[recording(path)].append(Sentence(words, tags))
    parts: dict[str, list[Sentence]] = {"train": [], "dev": [], "test": []}
    for place, name in enumerate(sorted(recordings)):
        part = {3: "test", 6: "dev"}.get(place % 10, "train")
        parts[part] += [sentence for sentence in recordings[name] if sentence.words]
    return Treebank("HKCanCor", parts["train"], parts["dev"], parts["test"])


def recording(path: str) -> str:
    """The number of a file's recording: "108" of FC-108a_v2.cha, "R002" of FC-R002b_v2.cha."""
    found = re.fullmatch(r"FC-(R?\d+)[a-z]?_v2?", Path(path).stem)
    if found is None:
        raise ValueError(f"{path} is no file of HKCanCor; expected FC-NUMBER_v.cha: install PyCantonese 5")
    return found[1]


def words_of(sentence: str) -> list[str]:
    """A typed sentence as HKCanCor would have it: cut at spaces and by PyCantonese, with the punctuation of ASCII."""
    pycantonese = need("pycantonese", "cantonese")
    return [word for piece in sentence.translate(_AS_THERE).split() for word in pycantonese.segment(piece)]


def jyutping() -> dict[str, str]:
    """How each word is said, most often, in Latin letters, which all fonts have."""
    pycantonese = need("pycantonese", "cantonese")

    def latin(word: str) -> str:
        """Of call機, whose sound the corpus does not give, "callgei1"; ○ may be any syllable."""
        said = pycantonese.characters_to_jyutping(list(word))
        return "".join(sound if sound and not (c.isascii() or c == "○") else c for c, sound in said)

    said: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for token in pycantonese.hkcancor().tokens():
        said[token.word][token.jyutping or token.word] += 1
    commonest = {word: counts.most_common(1)[0][0] for word, counts in said.items()}
    return {word: sound if sound.isascii() else latin(sound) for word, sound in commonest.items()}
