"""Several processes that train one model: how they find each other, that only the first one writes, and that they end together.

A cluster's scheduler says which processes there are (`srun python -m experiments.NAME`), or three variables in each terminal:

    JAX_COORDINATOR_ADDRESS=localhost:29500 JAX_NUM_PROCESSES=2 JAX_PROCESS_ID=0 python -m experiments.NAME --out DIR
    JAX_COORDINATOR_ADDRESS=localhost:29500 JAX_NUM_PROCESSES=2 JAX_PROCESS_ID=1 python -m experiments.NAME --out DIR

The run directory is one that all of them see.
"""

import atexit
import contextlib
import functools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, ParamSpec

import jax
from jax._src import distributed  # there is no public way to tell others anything but by what all of them compute

P = ParamSpec("P")
VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
ENDED = "jrnn/ended/"
"""Where each process that cannot go on leaves its words, for the others."""
_ending = threading.Lock()


def join() -> None:
    """Find the other processes, before JAX starts; where there are none that it knows of this one is alone.

    From then on what any of them says as it ends, by `end`, ends the others.
    """
    if not jax.distributed.is_initialized():
        _find()
        if jax.distributed.is_initialized():
            _listen()


def part() -> None:
    """Find the others and part with them again, for what starts others at the same address and only wants to know which it is."""
    if not jax.distributed.is_initialized():
        _find()
        if jax.distributed.is_initialized():
            jax.distributed.shutdown()


def _is_first() -> bool:
    """Whether this one writes and is heard: `jrnn.train.is_first`, which needs JAX not to have started and lasts when they part."""
    return distributed.global_state.process_id == 0


def _find() -> None:
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


def _listen() -> None:
    """End this process within a second or so where another one says that it ended, whatever is waited for."""
    through = threading.Event()

    def listen() -> None:
        while not through.wait(1):
            if words := words_of_others():
                end(
                    2,
                    f"error: {words}; what was saved is kept: start all of them again, with --resume where a run was begun",
                )

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    atexit.register(thread.join)  # the last that is registered comes first
    atexit.register(through.set)


def words_of_others() -> str:
    """What other processes that ended said of themselves."""
    own = distributed.global_state.process_id
    return "; ".join(words for which, words in sorted(_ended().items()) if words and which != own)


def _ended() -> dict[int, str]:
    client: Any = distributed.global_state.client
    with contextlib.suppress(jax.errors.JaxRuntimeError):  # the first one is no longer there
        return {int(key.removeprefix(ENDED)): words for key, words in client.key_value_dir_get(ENDED)}
    return {}


def end(status: int, said: str = "", words: str = "") -> NoReturn:
    """Exit with `said` on stderr; one of several processes at once, as JAX would wait minutes for those that wait for this one.

    `words` are what the others are told of why; none where it is another one's fault.
    """
    several = jax.distributed.is_initialized()
    if several:
        _ending.acquire()  # for good: one of the threads ends the process
        sys.stdout.flush()
    if said:
        print(said, file=sys.stderr, flush=True)
    if not several:
        raise SystemExit(status)
    client: Any = distributed.global_state.client
    which, of = distributed.global_state.process_id, distributed.global_state.num_processes
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        client.key_value_set(f"{ENDED}{which}", words and f"process {which} of {of} ended: {words}")
    since = time.monotonic()
    while which == 0 and len(_ended()) < of and time.monotonic() < since + 5:
        time.sleep(0.1)  # it holds what they are told: where it is gone JAX aborts the others, with a trace of C++
    os._exit(status)


@contextlib.contextmanager
def heard_from_first() -> Iterator[None]:
    """What any process but the first prints is lost. (What goes wrong, on stderr, each says for itself.)"""
    if _is_first():
        yield
        return
    with open(os.devnull, "w", encoding="utf-8") as nothing, contextlib.redirect_stdout(nothing):
        yield


def by_first(write: Callable[P, None]) -> Callable[P, None]:
    """`write`, which does nothing on any process but the first."""

    @functools.wraps(write)
    def written(*arguments: P.args, **options: P.kwargs) -> None:
        if _is_first():
            write(*arguments, **options)

    return written
