"""Switches of the workarounds: which are on, and how to turn one off."""

import contextlib
from collections.abc import Iterator

import jax

WORKAROUNDS: dict[str, str] = {
    "hoisting": "what a loop's body computes from constants alone leaves the loop",
    "halves_as_integers": "a loop that nobody differentiates reads and stacks 16-bit floats as integers",
    "halves_stacked_as_float32": "a loop that may be differentiated stacks 16-bit floats as float32",
    "halves_summed_in_float32": "products of 16-bit floats ask for a float32 sum",
    "late_gates": "a loop reads each gate from the array that the projection made, not from a copy of it",
    "distinct_stacks": "what a loop's body returns twice is stacked once",
    "transposed_weights": "a weight that a loop reads by its last axis is transposed once, before the loop",
    "barriers": "what a step makes for two readers is computed once, not once for each",
    "weight_gradients": "the gradient of a weight is a product of two matrices, the narrower of them transposed first",
    "ordered_convolutions": "convolutions have their axes in the order that the backend has fast code for",
    "rows_in_turn": "a sum of large arrays over rows is taken by a loop over rows",
    "one_tanh": "the four gates of an LSTM take one tanh over the whole array; a sigmoid is a tanh",
    "tiles": "a long sequence is taken in tiles of time that fit the cache",
}
"""By name, what each does.

`python -m experiments.benchmarks.workarounds` prints what each gains with the jax at hand.
"""

_off: set[str] = set()


@contextlib.contextmanager
def off(*names: str) -> Iterator[None]:
    """Without these workarounds, for what is traced and compiled inside: `with jrnn.xla.off("barriers"): ...`.

    JAX's caches are cleared on both ways, for they know nothing of switches.
    """
    unknown = set(names) - set(WORKAROUNDS)
    if unknown:
        raise ValueError(f"names holds {sorted(unknown)}; expected some of {', '.join(WORKAROUNDS)}")
    added = set(names) - _off
    _off.update(added)
    jax.clear_caches()
    try:
        yield
    finally:
        _off.difference_update(added)
        jax.clear_caches()


def on(name: str) -> bool:
    """Whether a workaround is taken: on a CPU, unless it is switched off."""
    return name not in _off and on_cpu()


def on_cpu() -> bool:
    """Whether programs are made for a CPU."""
    return jax.default_backend() == "cpu"
