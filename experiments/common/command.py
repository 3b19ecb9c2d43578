"""The command line of an experiment: options, a run, and what else it can do; errors in one sentence."""

import contextlib
import dataclasses
import datetime
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import tyro

from experiments.common.extras import MissingPackage
from experiments.common.options import check, flag
from experiments.common.processes import end, heard_from_first, join, words_of_others
from experiments.common.run import C, Run, RunConfig, open_finished
from jrnn.train import NonFiniteLoss, ProcessLost, of_first
from jrnn.train.processes import losing_none

T = TypeVar("T")
Main = Callable[..., None]
UNCOMPARED = {"out", "resume", "data_dir", "keep"}


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_all_cores() -> None:
    """One CPU device per core, over which training shards its batch; before JAX starts."""
    with contextlib.suppress(RuntimeError):  # JAX runs already, with the devices it has
        jax.config.update("jax_num_cpu_devices", cores())


def command(
    name: str,
    config_type: type[Any],
    run: Callable[..., Any],
    *,
    also: Mapping[str, tuple[type[Any], Callable[[Any], Any]]] | None = None,
    prepare: Callable[[], None] = use_all_cores,
) -> Main:
    """`main(arguments=None)` of `python -m experiments.NAME`, with the arguments of the command line by default.

    It calls `run(run, config)` where `config_type` is a `RunConfig`, else `run(config)`. `also` are other things that the
    experiment does, each by its name as the first argument: {"sample": (Sample, sample)} calls `sample(options)`. `prepare` is
    called first, before JAX starts.
    """

    def main(arguments: Sequence[str] | None = None) -> None:
        given = list(sys.argv[1:] if arguments is None else arguments)
        with explained(name):
            other = (also or {}).get(given[0]) if given else None
            if other is None:
                prepare()
            join()
            with heard_from_first():
                if other is not None:
                    other[1](parse(other[0], given[1:], f"{name} {given[0]}"))
                elif issubclass(config_type, RunConfig):
                    run(*open_run(name, config_type, given))
                else:
                    run(parse(config_type, given, name, description=_about(config_type)))
            of_first(None)  # none leaves before all are through

    return main


def parse(options: type[T], arguments: Sequence[str], name: str, **more: Any) -> T:
    """The options of `python -m experiments.NAME`, each what its type says; `more` is as for `tyro.cli`."""
    try:
        given = tyro.cli(options, args=arguments, prog=f"python -m experiments.{name}", **more)
    except SystemExit as leaving:  # what is wrong is said
        if leaving.code:
            end(2, words="its options are not those of the experiment")
        raise
    check(given)
    return given


@contextlib.contextmanager
def explained(name: str) -> Iterator[None]:
    """A user's error as one sentence on stderr and exit status 2, Ctrl-C as status 130; neither with a traceback."""
    try:
        with losing_none(lambda: "what was saved is kept"):
            yield
    except KeyboardInterrupt:
        end(130, words="it was interrupted")  # as the shell has it for SIGINT
    except ProcessLost as error:
        said = f"error: {error}, with --resume where a run was begun"
        end(2, "\n".join(filter(None, [said, words_of_others()])))
    except (ValueError, OSError, NonFiniteLoss, MissingPackage) as error:
        said = f"{name} {error}" if isinstance(error, MissingPackage) else str(error)
        end(2, f"error: {said}", said)
    except Exception as error:
        if jax.distributed.is_initialized():
            end(1, traceback.format_exc(), f"{type(error).__name__}: {error}")
        raise


def open_run(name: str, config_type: type[C], arguments: Sequence[str] | None = None) -> tuple[Run, C]:
    """Parse the command line; a new run's directory is made by `Run.start`, with --resume it is there already.

    Raises ValueError where the directory exists, where there is nothing to resume, and where options differ from the run's.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    config = parse(config_type, arguments, name, description=_about(config_type))
    if config.smoke:
        config = dataclasses.replace(config, **config_type.SMOKE)
    if not config.resume:
        config = config.resolved()
        stamp = of_first(datetime.datetime.now().strftime("%Y%m%d-%H%M%S"))
        run = Run(name, config, config.out or Path("runs") / name / stamp)
        run.check_new()
        return run, config

    directory = config.out or _newest(name)
    _, stored = open_finished(directory, name, config_type)
    given = parse(config_type, arguments, name, default=stored)  # what is not given is as stored
    differing = [
        f"{flag(field.name)} is {getattr(given, field.name)} (the run has {getattr(stored, field.name)})"
        for field in dataclasses.fields(config_type)
        if field.name not in UNCOMPARED and getattr(given, field.name) != getattr(stored, field.name)
    ]
    if differing:
        raise ValueError(
            f"--resume goes on with the options of {directory}, but {', '.join(differing)}: leave them out"
        )
    return Run(name, given, directory), given


def _about(config_type: type[Any]) -> str | None:
    """The docstring of the script."""
    return sys.modules[config_type.__module__].__doc__


def _newest(name: str) -> Path:
    runs = sorted(path.parent for path in (Path("runs") / name).glob("*/config.json"))
    if not runs:
        raise ValueError(f"--resume found no run in {Path('runs') / name}; name its directory by --out")
    return runs[-1]
