"""Where training's arrays lie: rows divided among the devices of all processes, all else whole or as it was placed."""

import collections
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ..arrays import is_key

ROWS = "rows"


def row_mesh(mesh: Mesh | None, axes: Any, batch: Any) -> Mesh:
    """Of `mesh`, by default all devices of all processes, as many along its axis "rows" as divide the rows of `batch`."""
    whole = _all_devices() if mesh is None else mesh
    if ROWS not in whole.axis_names:
        raise ValueError(f'mesh has axes {whole.axis_names}; expected one named "{ROWS}", among which rows are divided')
    return _dividing(whole, _rows(whole, axes, batch))


def row_specs(axes: Any, tree: Any) -> Any:
    """A partition spec per array: rows along the axis that `axes`, a prefix of `tree`, names; None: shared by all rows."""

    def spec(axis: Any, subtree: Any) -> Any:
        one = P() if axis is None else P(*(None,) * axis, ROWS)
        return jax.tree.map(lambda _: one, subtree)

    return jax.tree.map(spec, axes, tree, is_leaf=lambda x: x is None)


def is_spec(leaf: Any) -> bool:
    return isinstance(leaf, P)


def own_specs(mesh: Mesh, tree: Any) -> Any:
    """A partition spec per array: as it is divided on a mesh of these axes, else whole on every device."""

    def spec(leaf: Any) -> P:
        sharding = getattr(leaf, "sharding", None)
        if isinstance(sharding, NamedSharding) and sharding.mesh.axis_names == mesh.axis_names:
            return sharding.spec
        return P()

    return jax.tree.map(spec, tree)


def put(mesh: Mesh, specs: Any, tree: Any) -> Any:
    """`tree` on the mesh. Of several processes each gives its own rows, and whole what its rows share."""
    return jax.tree.map(functools.partial(_put, mesh), specs, tree, is_leaf=is_spec)


def own_rows(tree: Any, axes: Any = 1) -> Any:
    """Of NumPy arrays that hold the rows of all processes, those of this one; `axes` is as `batch_axes` is for `make_step`."""
    which, of = jax.process_index(), jax.process_count()

    def own(axis: Any, subtree: Any) -> Any:
        def part(leaf: Any) -> Any:
            count = np.shape(leaf)[axis]
            if count % of:
                raise ValueError(f"tree has {count} rows; expected a multiple of {of}, as many for each process")
            return leaf[(*(slice(None),) * axis, slice(which * count // of, (which + 1) * count // of))]

        return subtree if axis is None or of == 1 else jax.tree.map(part, subtree)

    return jax.tree.map(own, axes, tree, is_leaf=lambda x: x is None)


def own_mesh() -> Mesh:
    """The devices of this process alone, for `make_evaluate` of batches that it has whole."""
    return Mesh(np.asarray(jax.local_devices()), (ROWS,))


def own_part(tree: Any) -> Any:
    """What this process has of arrays that lie on devices of several: its own rows, and all of what is whole everywhere."""
    return tree if jax.process_count() == 1 else jax.tree.map(_own_part, tree)


def wait_on_cpu(tree: Any) -> Any:
    """`tree`, on CPU once it is computed: XLA's in-process collectives deadlock where a second program with a sum over
    devices starts before the first is through, and the devices are as many as the cores (seen with jaxlib 0.10)."""
    return jax.block_until_ready(tree) if jax.default_backend() == "cpu" else tree


def _put(mesh: Mesh, spec: P, leaf: Any) -> Any:
    sharding = NamedSharding(mesh, spec)
    if isinstance(leaf, jax.Array) and leaf.sharding.is_equivalent_to(sharding, leaf.ndim):
        return leaf
    if sharding.is_fully_addressable:
        return jax.device_put(own_part(leaf), sharding)
    if isinstance(leaf, jax.Array) and is_key(leaf):
        return jax.random.wrap_key_data(_put(mesh, spec, jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
    return jax.make_array_from_process_local_data(sharding, np.asarray(own_part(leaf)))


def _own_part(leaf: Any) -> Any:
    if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
        return leaf
    if is_key(leaf):
        return jax.random.wrap_key_data(_own_part(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
    if leaf.is_fully_replicated:
        return leaf.addressable_data(0)
    divided = [axis for axis in range(leaf.ndim) if leaf.sharding.shard_shape(leaf.shape)[axis] < leaf.shape[axis]]
    if len(divided) > 1:
        raise ValueError(
            f"an array of {leaf.shape} is divided among processes along axes {divided}; expected one axis: gather it first"
        )
    axis = divided[0]
    parts = {shard.index[axis].start or 0: np.asarray(shard.data) for shard in leaf.addressable_shards}
    return jnp.asarray(np.concatenate([parts[start] for start in sorted(parts)], axis))


def _rows(mesh: Mesh, axes: Any, batch: Any) -> int:
    """How many rows of a batch each process has; the same for all of those on the mesh."""
    groups = len(set(_owners(mesh)))

    def sizes(axis: Any, subtree: Any) -> Any:
        leaves = [] if axis is None else jax.tree.leaves(subtree)
        whole = [groups if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable else 1 for leaf in leaves]
        return [np.shape(leaf)[axis or 0] // parts for leaf, parts in zip(leaves, whole)]

    counts = set(jax.tree.leaves(jax.tree.map(sizes, axes, batch, is_leaf=lambda x: x is None)))
    if len(counts) != 1:
        raise ValueError(
            f"batch has {sorted(counts)} rows along batch_axes={axes}; expected one number for all its arrays"
        )
    rows = counts.pop()
    if groups > 1:
        _check_alike(rows)
    return rows


@functools.lru_cache
def _check_alike(rows: int) -> None:
    """ValueError where other processes have another number of rows; asked once of each number, as asking takes time."""
    found = multihost_utils.process_allgather(np.int32(rows)).tolist()
    if len(set(found)) > 1:
        raise ValueError(
            f"batch has {found} rows on the processes; expected as many on each: `jrnn.data` gives each process its share"
        )


@functools.lru_cache
def _all_devices() -> Mesh:
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    return Mesh(np.asarray(devices), (ROWS,))


@functools.lru_cache
def _dividing(mesh: Mesh, rows: int) -> Mesh:
    """`mesh` with fewer devices along its rows, of each process as many as divide its rows."""
    axis = mesh.axis_names.index(ROWS)
    owners = _owners(mesh)
    most = min(collections.Counter(owners).values())
    count = max(n for n in range(1, most + 1) if rows % n == 0)
    kept = [place for place, owner in enumerate(owners) if owners[:place].count(owner) < count]
    return Mesh(mesh.devices.take(kept, axis), mesh.axis_names, axis_types=mesh.axis_types)


def _owners(mesh: Mesh) -> list[frozenset[int]]:
    """Whose devices are at each place along the rows."""
    lines = np.moveaxis(mesh.devices, mesh.axis_names.index(ROWS), 0)
    return [frozenset(device.process_index for device in line.flat) for line in lines.reshape(len(lines), -1)]
