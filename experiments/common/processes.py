"""Several processes that train one model: how they find each other, and that only the first one writes.

A cluster's scheduler says which processes there are (`srun python -m experiments.NAME`), or three variables in each terminal:

    JAX_COORDINATOR_ADDRESS=localhost:29500 JAX_NUM_PROCESSES=2 JAX_PROCESS_ID=0 python -m experiments.NAME --out DIR
    JAX_COORDINATOR_ADDRESS=localhost:29500 JAX_NUM_PROCESSES=2 JAX_PROCESS_ID=1 python -m experiments.NAME --out DIR

The run directory is one that all of them see.
"""

import functools
import os
import sys
from collections.abc import Callable
from typing import Any, ParamSpec

import jax

from jrnn.train import is_first

P = ParamSpec("P")
VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")


def join() -> None:
    """Find the other processes, before JAX starts; where there are none that it knows of this one is alone."""
    given = [name for name in VARIABLES if name in os.environ]
    options: dict[str, Any] = {}
    if given:
        if len(given) < len(VARIABLES):
            missing = [name for name in VARIABLES if name not in given]
            raise ValueError(f"{', '.join(given)} is set but {', '.join(missing)} is not; expected all three, or none")
        count, which = (_whole(name) for name in VARIABLES[1:])
        if not 0 <= which < count:
            raise ValueError(f"JAX_PROCESS_ID is {which}; expected 0..{count - 1}, as JAX_NUM_PROCESSES is {count}")
        options = {"coordinator_address": os.environ[VARIABLES[0]], "num_processes": count, "process_id": which}
    if jax.distributed.is_initialized():
        return
    try:
        jax.distributed.initialize(**options)
    except jax.errors.JaxRuntimeError as error:
        raise ValueError(f"the other processes were not found: {error}") from error
    except ValueError:
        if given:
            raise
    except RuntimeError:  # JAX runs already, with the processes it has
        pass


def _whole(name: str) -> int:
    value = os.environ[name]
    if not value.isdecimal():
        raise ValueError(f"{name} is {value!r}; expected a whole number")
    return int(value)


def end_of_one(status: int) -> None:
    """End this process at once where it is one of several: JAX would wait minutes for those that wait for this one."""
    if jax.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def by_first(write: Callable[P, None]) -> Callable[P, None]:
    """`write`, which does nothing on any process but the first."""

    @functools.wraps(write)
    def written(*arguments: P.args, **options: P.kwargs) -> None:
        if is_first():
            write(*arguments, **options)

    return written
