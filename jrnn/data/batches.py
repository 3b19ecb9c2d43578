"""Sequences of unequal lengths as batches of a few shapes, so that a training step is compiled a few times and padded little."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import grain
import jax
import numpy as np


class Batch(NamedTuple):
    """Rows side by side, time first."""

    data: Any  # as the examples: each array [time, batch, ...], zeros where padded; each scalar [batch]
    lengths: Any  # int32 [batch], NumPy's outside jit: real steps of each row
    places: Any  # int32 [batch]: which example a row is; -1, with length 0, for one that fills up the batch


def bucketed(
    examples: Sequence[Any],
    *,
    batch: int,
    shapes: int = 4,
    by: Callable[[Any], int] | None = None,
    seed: int | None = None,
    shard: tuple[int, int] | None = None,
) -> grain.MapDataset:
    """One pass over `examples` as `Batch`es of `batch` rows, whose times are one of at most `shapes`.

    An example is a pytree (a NamedTuple, say) of NumPy arrays and scalars: arrays are sequences, time first and as long as each
    other; scalars belong to the row. Where they are of different lengths, such as a sentence and its translation, `by` says which
    length decides, `by=lambda pair: len(pair.source)`: it is the one in `lengths`, each array is padded to the longest of its own
    in a shape, and the other lengths are scalars of the example. Examples of about the same length go into a batch together;
    the last batch of each shape is filled up with empty rows, so no example is left out. Length 0 is allowed.

    With `seed` examples and batches are shuffled, anew in each pass of `.repeat()`; without one they come by length. Batch t is the
    same whenever it is asked for, so a run that resumes at step t goes on in the middle of a pass with nothing to save.
    `shard` is (which, of how many) processes, by default JAX's own: each loads its share of the rows of every batch, and all of
    them see batches of the same shape.
    """
    if batch < 1 or shapes < 1:
        raise ValueError(f"batch is {batch} and shapes is {shapes}; expected at least 1 of each")
    if not len(examples):
        raise ValueError("examples is empty; expected at least one")
    which, of = (jax.process_index(), jax.process_count()) if shard is None else shard
    if not 0 <= which < of or batch % of:
        raise ValueError(
            f"shard is {(which, of)} and batch {batch}; expected one of the processes, and rows for each alike"
        )
    found = [steps_of(example, place) if by is None else by(example) for place, example in enumerate(examples)]
    lengths = np.array(found, np.int32)
    times = _times(lengths, shapes)
    bucket = np.searchsorted(times, lengths)
    rows = slice(which * batch // of, (which + 1) * batch // of)
    kinds = kinds_of(examples)

    def one_shape(number: int, time: int) -> grain.MapDataset:
        order = np.flatnonzero(bucket == number)
        own = [time] * len(kinds)
        if by is not None:
            own = list(map(_longest, *(jax.tree.leaves(examples[place]) for place in order)))

        def assemble(places: Sequence[int]) -> Batch:
            index = np.full(batch, -1, np.int32)
            index[: len(places)] = places
            return _assemble(examples, kinds, lengths, index[rows], own)

        source = grain.MapDataset.source(order[np.argsort(lengths[order], kind="stable")].tolist())
        source = source if seed is None else source.shuffle(seed=seed + number)
        return source.batch(batch, batch_fn=assemble)

    batches = grain.MapDataset.concatenate([one_shape(number, int(time)) for number, time in enumerate(times)])
    return batches if seed is None else batches.shuffle(seed=seed)


def batch_axes(example: Any) -> Batch:
    """Which axis counts rows in the batches of such examples, for `jrnn.train.make_step` and `make_evaluate`."""
    axes: Any = jax.tree.map(lambda leaf: 1 if np.ndim(leaf) else 0, example)
    return Batch(data=axes, lengths=0, places=0)


class Kind(NamedTuple):
    """What the arrays at one place of all examples have in common."""

    dtype: np.dtype
    features: tuple[int, ...] | None  # the shape of a step; None: a scalar

    @property
    def shape(self) -> str:
        return "a scalar" if self.features is None else f"[{', '.join(map(str, ('time', *self.features)))}]"


def kinds_of(examples: Sequence[Any]) -> list[Kind]:
    """Of each leaf of the examples: the dtype that holds all of them, and the shape of a step, which must be the same."""
    kinds: list[Kind] = []
    structure = jax.tree.structure(examples[0])
    for place, example in enumerate(examples):
        if jax.tree.structure(example) != structure:
            raise ValueError(
                f"examples[{place}] is built as {jax.tree.structure(example)}; expected {structure}, as examples[0] is"
            )
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(example)]
        own = [Kind(leaf.dtype, leaf.shape[1:] if leaf.ndim else None) for leaf in leaves]
        kinds = kinds or own
        for number, (kind, other) in enumerate(zip(kinds, own, strict=True)):
            if kind.features != other.features:
                raise ValueError(
                    f"array {number} of examples[{place}] is {other.shape}; expected {kind.shape}, as in examples[0]"
                )
            if kind.dtype != other.dtype:
                kinds[number] = kind._replace(dtype=np.result_type(kind.dtype, other.dtype))
    return kinds


def steps_of(example: Any, place: int) -> int:
    """How many steps the arrays of an example have."""
    found = {len(leaf) for leaf in jax.tree.leaves(example) if np.ndim(leaf)}
    if len(found) != 1:
        what = "no array" if not found else f"arrays of {sorted(found)} steps"
        raise ValueError(f"examples[{place}] has {what}; expected arrays, time first, of one length")
    return found.pop()


def _times(lengths: np.ndarray, shapes: int) -> list[int]:
    """The times, at most `shapes`, for which the fewest steps are padded when each row gets the shortest that is long enough.

    Dynamic programming over the distinct lengths. Times that share the rows evenly pad 1.8 times as many steps on sentences,
    as the few longest are several times as long as most.
    """
    distinct = np.unique(lengths)
    distinct = distinct[np.linspace(0, len(distinct) - 1, min(len(distinct), 512)).round().astype(int)]
    times = np.concatenate([[0], distinct])
    rows = np.concatenate([[0], np.searchsorted(np.sort(lengths), distinct, side="right")])  # how many fit into each
    cost = np.where(np.tri(len(times), k=-1, dtype=bool), np.inf, (rows - rows[:, None]) * times)  # of rows from i to j
    best, choices = cost[0], []
    for _ in range(shapes - 1):
        total = best[:, None] + cost
        best, choices = total.min(0), [*choices, total.argmin(0)]
    chosen = [len(times) - 1]
    for choice in reversed(choices):
        chosen.append(int(choice[chosen[-1]]))
    return [int(times[place]) for place in sorted(set(chosen) - {0})]


def _longest(*leaves: Any) -> int:
    return max(len(leaf) if np.ndim(leaf) else 0 for leaf in leaves)


def _assemble(
    examples: Sequence[Any], kinds: list[Kind], lengths: np.ndarray, index: np.ndarray, times: list[int]
) -> Batch:
    """`kinds` and `times` are of each leaf of the examples."""
    chosen = [examples[place] for place in index if place >= 0]

    def stack(kind: Kind, time: int, *leaves: Any) -> np.ndarray:
        sequence = kind.features is not None
        shape = (max(time, 1), len(index), *(kind.features or ())) if sequence else (len(index),)
        out = np.zeros(shape, kind.dtype)
        for row, leaf in enumerate(leaves):
            out[(slice(len(leaf)), row) if sequence else row] = leaf
        return out

    each = zip(kinds, times, *map(jax.tree.leaves, chosen), strict=True)
    data = jax.tree.unflatten(jax.tree.structure(examples[0]), [stack(*one) for one in each])
    return Batch(data=data, lengths=np.where(index < 0, 0, lengths[index]).astype(np.int32), places=index)
