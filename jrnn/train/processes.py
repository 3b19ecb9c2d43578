"""Several processes that train one model: what they agree on, and what becomes of the others when one ends.

`jax.distributed.initialize()` says which processes there are.
"""

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from .placement import own_specs, put, row_mesh, row_specs, wait_on_cpu


class ProcessLost(RuntimeError):
    """Another process that trains the same model ended; the checkpoints saved before are good."""


def is_first() -> bool:
    """Whether this is the process that watches: only one writes pictures, curves and results."""
    return jax.process_index() == 0


def of_first(value: Any) -> Any:
    """What the first process has there, on all; `value` is anything that JSON holds. All processes call it."""
    if jax.process_count() == 1:
        return value
    said = np.frombuffer(json.dumps(value if is_first() else None).encode(), np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(said.size)))
    said = said if is_first() else np.zeros(size, np.uint8)
    return json.loads(np.asarray(multihost_utils.broadcast_one_to_all(said)).tobytes())


def of_any(flag: bool, *, after: Any) -> Any:
    """Whether the flag is set on any process; of several, an array that all can read. All processes call it, when they have
    started to compute `after`."""
    if jax.process_count() == 1:
        return flag
    wait_on_cpu(after)
    flags = np.array([flag])
    return _any(put(row_mesh(None, 0, flags), row_specs(0, flags), flags))


_any = jax.jit(jnp.any)


def everywhere(state: Any) -> Any:
    """A `TrainState` whose arrays are those of all processes, of whose carry each gives its own rows."""
    if jax.process_count() == 1:
        return state
    rows = state.carry if jax.tree.leaves(state.carry) else np.zeros(len(jax.local_devices()))
    mesh = row_mesh(None, 0, rows)
    specs = own_specs(mesh, state)._replace(carry=row_specs(0, state.carry))

    def place(leaf: Any, spec: Any) -> Any:
        there = isinstance(leaf, jax.Array) and not leaf.is_fully_addressable
        return leaf if there else put(mesh, spec, leaf)

    return jax.tree.map(place, state, specs)


_LOST = re.compile(
    r"(UNKNOWN|INTERNAL|UNAVAILABLE|DEADLINE_EXCEEDED|ABORTED|CANCELLED): "
)  # statuses, as XLA's errors begin


@contextlib.contextmanager
def losing_none(kept: Callable[[], str]) -> Iterator[None]:
    """`ProcessLost`, which says what is kept, where what all processes compute fails as one of them is no longer there."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:  # which of the two depends on where the host waits
        if not _LOST.match(str(error)) or jax.process_count() == 1:
            raise
        reason = str(error).strip().splitlines()[0]
        raise ProcessLost(
            f"process {jax.process_index()} of {jax.process_count()} cannot go on: what all of them compute failed, most likely as "
            f"another one ended ({reason:.200}); {kept()}. See what that one says, and start all of them again"
        ) from error
