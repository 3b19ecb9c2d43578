"""Several short sequences in one row, one after the other, told apart by resets: next to nothing is padding."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import grain
import jax
import numpy as np

from .batches import kinds_of, steps_of


class Packed(NamedTuple):
    """Rows of packed sequences, time first."""

    data: Any  # as the examples: each array [time, batch, ...], zeros where padded
    mask: np.ndarray  # bool [time, batch]: which steps are real
    reset: np.ndarray  # bool [time, batch]: the first step of each sequence


def packed(
    examples: Sequence[Any], *, time: int, batch: int, seed: int | None = None, shard: tuple[int, int] | None = None
) -> grain.IterDataset:
    """Batches of `Packed`, all of one shape, without end: the first fit of each sequence in `batch` rows of `time` steps.

    An example is a pytree of NumPy arrays, time first and as long as each other; ValueError for one longer than `time`. With
    `seed` they are shuffled, anew in each pass. The iterator of the result has grain's `get_state` and `set_state`, which
    `jrnn.train.fit` saves and restores, so that a resumed run goes on in the middle of a pass. `shard` is (which, of how many)
    processes, by default JAX's own: each packs its own share of the examples into its own share of the rows.
    """
    lengths = [steps_of(example, place) for place, example in enumerate(examples)]
    if not lengths or min(lengths) < 1 or max(lengths) > time:
        given = f"{min(lengths)}..{max(lengths)} steps" if lengths else "none"
        raise ValueError(f"examples has {given}; expected at least one example, each of 1..{time} steps (time)")
    which, of = (jax.process_index(), jax.process_count()) if shard is None else shard
    if not 0 <= which < of or batch % of or len(examples) < of:
        raise ValueError(
            f"shard is {(which, of)} and batch {batch}; expected one of the processes, and rows for each alike"
        )
    structure, kinds = jax.tree.structure(examples[0]), kinds_of(examples)

    def named(example: Any) -> dict[str, np.ndarray]:
        leaves = enumerate(zip(jax.tree.leaves(example), kinds, strict=True))
        return {str(number): np.asarray(leaf, kind.dtype) for number, (leaf, kind) in leaves}

    def gather(rows: Any) -> Packed:
        def columns(name: str) -> np.ndarray:
            return np.stack([row[name] for row in rows], axis=1)

        data = jax.tree.unflatten(structure, [columns(str(number)) for number in range(structure.num_leaves)])
        mask = columns("0_segment_ids") > 0
        return Packed(data=data, mask=mask, reset=mask & (columns("0_positions") == 0))

    source = grain.MapDataset.source(examples)
    source = source if seed is None else source.shuffle(seed=seed)
    rows = grain.experimental.FirstFitPackIterDataset(
        source[which::of].repeat().map(named).to_iter_dataset(),
        length_struct={str(number): time for number in range(structure.num_leaves)},
        num_packing_bins=batch // of,
        shuffle_bins=False,
    )
    return rows.batch(batch // of, batch_fn=gather)
