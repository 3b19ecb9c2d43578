"""Word vectors trained elsewhere, from text files as GloVe and word2vec write them."""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from experiments.data.files import check_file


def read_vectors(path: Path, words: Collection[str], size: int) -> dict[str, np.ndarray]:
    """The vectors, float32 [size], of those of `words` that the file has.

    The file is UTF-8 with a word a line: the word, then `size` numbers, with single spaces between; a word may hold spaces
    itself, as some of GloVe's largest file do. A first line of two integers, word2vec's (how many words, of what size), may
    stand above. Of a word that comes twice the first counts. ValueError and FileNotFoundError name the file and the line.
    """
    path, wanted = Path(path), set(words)
    check_file(path, "a text file of word vectors")
    vectors: dict[str, np.ndarray] = {}
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            where = f"{path}:{number}"
            try:
                fields = line.decode("utf-8").rstrip().split(" ")
            except UnicodeDecodeError as error:
                raise ValueError(f"{where}: not UTF-8 ({error.reason}); expected a text file of vectors") from error
            if number == 1 and len(fields) == 2 and all(field.isdecimal() for field in fields):
                _check_count(where, int(fields[1]), size)
                continue
            # One number too many would pass for a word with a space in it.
            surplus = len(fields) > size + 1 and _is_number(fields[-size - 1])
            if len(fields) <= size or surplus:
                _check_count(where, sum(map(_is_number, fields[1:])), size)
            word = " ".join(fields[:-size])
            if word in wanted and word not in vectors:
                vectors[word] = _vector(where, word, fields[-size:])
    if not vectors:
        raise ValueError(f"vectors {path} has none of the {len(wanted)} words of the vocabulary; expected some of them")
    return vectors


def _check_count(where: str, found: int, size: int) -> None:
    if found != size:
        raise ValueError(
            f"{where}: a vector of {found} numbers; expected {size}: give the embedding the size of the file's vectors, or "
            f"replace a damaged file"
        )


def _vector(where: str, word: str, numbers: list[str]) -> np.ndarray:
    try:
        vector = np.array(numbers, np.float32)
    except ValueError as error:
        raise ValueError(
            f"{where}: the vector of {word!r} holds what is no number ({error}): replace the file"
        ) from error
    if not np.isfinite(vector).all():
        raise ValueError(f"{where}: the vector of {word!r} holds NaN or infinity; expected numbers: replace the file")
    return vector


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True
