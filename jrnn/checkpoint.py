"""Checkpoints through Orbax: written whole or not at all, the newest few and the best kept, restored bit for bit."""

import dataclasses
import errno
import math
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jax.sharding import SingleDeviceSharding
from orbax.checkpoint.checkpoint_managers import preservation_policy

from .arrays import is_key
from .checks import describe

_BESIDE = 1_000_000
"""Bytes for what stands beside the arrays: their names and shapes, the record, the curves of the run."""


class CheckpointError(ValueError):
    """A checkpoint that is missing, unreadable, or of another model."""


@dataclasses.dataclass(frozen=True)
class Restored:
    """What a checkpoint holds."""

    step: int
    state: Any  # the pytree that was saved
    record: dict[str, Any]  # the JSON that was saved with it


class Checkpoints:
    """A directory of checkpoints, one folder a step: a pytree of arrays, and a record of plain JSON beside it.

    A checkpoint is written to a temporary folder and renamed, so a process killed at any moment leaves only whole ones. Kept
    are the newest `keep`, and the best: the one saved with the smallest `metric`.
    """

    def __init__(self, directory: str | Path, *, keep: int = 3):
        if keep < 1:
            raise ValueError(f"keep is {keep}; expected at least 1 checkpoint")
        self.directory = Path(directory).absolute()
        newest = preservation_policy.LatestN(keep)
        best = preservation_policy.BestN(get_metric_fn=_metric, reverse=True, n=1)
        self._manager = ocp.CheckpointManager(
            self.directory,
            item_handlers={"state": ocp.StandardCheckpointHandler(), "record": ocp.JsonCheckpointHandler()},
            options=ocp.CheckpointManagerOptions(
                best_fn=_metric,
                best_mode="min",
                preservation_policy=preservation_policy.AnyPreservationPolicy([newest, best]),
                enable_async_checkpointing=False,
                cleanup_tmp_directories=True,
            ),
        )

    def save(self, step: int, state: Any, record: dict[str, Any], *, metric: float | None = None) -> None:
        """Save `state` and `record` as of `step`; a step that is there already is left as it is.

        OSError, and nothing is written, where the disk has no room for it.
        """
        if step in self._manager.all_steps():
            return
        named = _named(jax.tree.map(_plain, state))
        self._check_room(step, sum(leaf.nbytes for leaf in named.values()))
        self._manager.save(
            step,
            args=ocp.args.Composite(state=ocp.args.StandardSave(named), record=ocp.args.JsonSave(record)),
            metrics={"metric": math.inf if metric is None else metric},
        )

    def _check_room(self, step: int, size: int) -> None:
        """Before Orbax begins: its threads go on for a while where the disk is full, and each of them says so by a traceback."""
        needed, free = size + _BESIDE, shutil.disk_usage(self.directory).free
        if free < needed:
            kept = ", ".join(map(str, self.steps()))
            raise OSError(
                errno.ENOSPC,
                f"No space left on device: the checkpoint of step {step} needs about {needed / 1e6:.1f} MB, and "
                f"{free / 1e6:.1f} are free; {f'those of steps {kept} are' if kept else 'none is'} there: free some and go on",
                str(self.directory),
            )

    def steps(self) -> list[int]:
        """The steps there are, oldest first."""
        return sorted(self._manager.all_steps())

    def best(self) -> int | None:
        """The step of the smallest metric; None where no checkpoint has one."""
        step = self._manager.best_step()
        metrics = None if step is None else self._manager.metrics(step)
        return step if metrics is not None and metrics["metric"] < math.inf else None

    def restore(self, like: Any, step: int | None = None) -> Restored:
        """The checkpoint of `step`, by default the newest, in the structure, shapes and dtypes of `like`.

        Raises `CheckpointError` where there is none, where it cannot be read, and where it is of another model.
        """
        steps = self.steps()
        if not steps or (step is not None and step not in steps):
            wanted = "no checkpoint" if step is None else f"no checkpoint of step {step}"
            raise CheckpointError(f"{self.directory} holds {wanted}; it has steps {steps}")
        step = steps[-1] if step is None else step
        where = f"checkpoint {self.directory / str(step)}"
        shapes = _named(jax.eval_shape(lambda tree: jax.tree.map(_plain, tree), like))
        try:
            saved = self._manager.item_metadata(step)["state"].tree
        except Exception as error:
            raise CheckpointError(self._unreadable(where, step, error)) from error
        _check_same(where, saved, shapes)
        sharded = {name: _where(leaf, want) for (name, leaf), want in zip(_named(like).items(), shapes.values())}
        try:
            args = ocp.args.Composite(state=ocp.args.StandardRestore(sharded), record=ocp.args.JsonRestore())
            restored = self._manager.restore(step, args=args)
        except Exception as error:
            raise CheckpointError(self._unreadable(where, step, error)) from error
        leaves = [_like(restored["state"][name], leaf) for name, leaf in _named(like).items()]
        state = jax.tree.unflatten(jax.tree.structure(like), leaves)
        return Restored(step=step, state=state, record=restored["record"])

    def close(self) -> None:
        self._manager.close()

    def _unreadable(self, where: str, step: int, error: Exception) -> str:
        others = [other for other in self.steps() if other != step]
        remedy = f"move it away to go on from step {others[-1]}" if others else "there is no other; start anew"
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return f"{where} cannot be read ({reason:.200}): it is damaged or not a checkpoint of this library; {remedy}"


def _metric(metrics: Any) -> float:
    return metrics["metric"]


def _plain(leaf: Any) -> jax.Array:
    """Typed keys as the integers they hold."""
    return jax.random.key_data(leaf) if is_key(leaf) else jnp.asarray(leaf)


def _like(restored: jax.Array, leaf: Any) -> jax.Array:
    return jax.random.wrap_key_data(restored, impl=jax.random.key_impl(leaf)) if is_key(leaf) else restored


def _where(leaf: Any, shape: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    """`shape`, on the devices where `leaf` lies."""
    sharding = SingleDeviceSharding(jax.local_devices()[0]) if is_key(leaf) else getattr(leaf, "sharding", None)
    return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding)


def _named(tree: Any) -> dict[str, Any]:
    """Leaves by path: flat names survive a change of container and read well in an error."""
    return {jax.tree_util.keystr(path) or "value": leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _check_same(where: str, saved: dict[str, Any], wanted: dict[str, Any]) -> None:
    missing, surplus = [sorted(a.keys() - b.keys()) for a, b in ((wanted, saved), (saved, wanted))]
    if missing or surplus:
        raise CheckpointError(
            f"{where} is of another model: it lacks {missing[:4]} and has {surplus[:4]} besides; expected the names of the "
            "state given: use the configuration it was saved with"
        )
    for name, want in wanted.items():
        found = saved[name]
        if tuple(found.shape) != want.shape or found.dtype != want.dtype:
            raise CheckpointError(
                f"{where} is of another model: {name} is {describe(found)}; expected {describe(want)}: use the "
                "configuration it was saved with"
            )
