"""One step of training and one evaluation, compiled, with the batch sharded over local devices."""

import functools
import inspect
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ..arrays import cast_like, halves_to_float32
from ..losses import Mean, divide

Loss = Callable[[Any, Any, Any, Any], tuple[Mean, Any]]
"""`loss(params, carry, batch, key) -> (Mean, carry)`. `carry` is what lasts from one batch to the next: for truncated
back-propagation through time the recurrent state, of which every leaf has the batch as its first axis; () for nothing.
Gradients stop at it, since it is an argument. Without a key there is no dropout."""


class TrainState(NamedTuple):
    """All that changes in training."""

    step: jax.Array  # int32 []: steps taken
    params: Any
    opt_state: Any
    carry: Any  # leaves [batch, ...]: see `Loss`
    key: jax.Array  # typed key []; step t uses fold_in(key, t)


class Info(NamedTuple):
    """What a step reports."""

    loss: jax.Array  # []: before the update
    gradient_norm: jax.Array  # []: global, before clipping


def init_state(params: Any, optimizer: optax.GradientTransformation, key: jax.Array, carry: Any = ()) -> TrainState:
    """The state before the first step. It holds copies: a step reuses the memory of the state it is given."""
    params, carry, key = jax.tree.map(jnp.copy, (params, carry, key))
    return TrainState(jnp.int32(0), params, optimizer.init(params), carry, key)


def make_step(
    loss: Loss, optimizer: optax.GradientTransformation, *, batch_axes: Any = 1, loss_scale: float = 1.0
) -> Callable[[TrainState, Any], tuple[TrainState, Info]]:
    """A compiled training step `(state, batch) -> (state, info)`, sharded over the local devices.

    Each device takes its share of the rows (as many devices as divide their number), and one sum over devices gives the
    gradient: the same numbers as on one device, up to rounding and dropout. `batch_axes` says which axis of the batch's
    arrays counts rows, as `jax.vmap`'s in_axes does: 1 for time-first arrays; None for what every row shares.
    The state given is donated: use the one returned. Clip by `optax.clip_by_global_norm` in the optimizer. The optimizer is told
    `value`, `grad` and `value_fn`, which some ask for (`optax.lbfgs`, `reduce_on_plateau`, `polyak_sgd`).

    Gradients are those of the mean, summed over devices in float32. `loss_scale` multiplies what flows back, so that float16
    holds it, and the gradients are divided by it, in float32 where the parameters are (Micikevicius et al. 2018). Where that may
    overflow, `optax.apply_if_finite(optimizer, ...)` leaves the step out, and `fit` goes on.
    """
    if not (math.isfinite(loss_scale) and loss_scale > 0):
        raise ValueError(f"loss_scale is {loss_scale}; expected a positive number, such as 2.0**15")
    told = optax.with_extra_args_support(optimizer)

    def update(mesh: Mesh, state: TrainState, batch: Any) -> tuple[TrainState, Info]:
        key = jax.random.fold_in(state.key, state.step)

        def mean(params: Any, carry: Any, batch: Any) -> tuple[jax.Array, tuple[jax.Array, Any]]:
            found, new = loss(params, carry, batch, jax.random.fold_in(key, lax.axis_index("rows")))
            return found.total, (found.weight, new)

        def shard(params: Any, carry: Any, batch: Any) -> tuple[Any, jax.Array, Any]:
            params = jax.tree.map(lambda a: lax.pcast(a, "rows", to="varying"), params)
            total, pull, (weight, new) = jax.vjp(lambda params: mean(params, carry, batch), params, has_aux=True)
            sum_, weight = lax.psum((_vary(total), _vary(weight)), "rows")
            share = divide(jnp.asarray(loss_scale, total.dtype), weight.astype(total.dtype))
            (grads,) = pull(_vary(share) if _varies(total) else share)
            grads = cast_like(lax.psum(halves_to_float32(grads), "rows"), grads)
            return grads, divide(sum_, weight), jax.tree.map(_vary, new)

        def value_fn(params: Any) -> jax.Array:
            def shard(params: Any, carry: Any, batch: Any) -> jax.Array:
                total, (weight, _) = mean(params, carry, batch)
                return divide(*lax.psum((_vary(total), _vary(weight)), "rows"))

            return jax.shard_map(shard, mesh=mesh, in_specs=specs, out_specs=P())(params, state.carry, batch)

        specs = (P(), _specs(0, state.carry), _specs(batch_axes, batch))
        sharded = jax.shard_map(shard, mesh=mesh, in_specs=specs, out_specs=(P(), P(), specs[1]))
        grads, value, carry = sharded(state.params, state.carry, batch)
        if loss_scale != 1:
            grads = jax.tree.map(lambda g: g / jnp.asarray(loss_scale, g.dtype), grads)
        more = {"value": value, "grad": grads, "value_fn": value_fn}
        updates, opt_state = told.update(grads, state.opt_state, state.params, **_asked_for(told.update, more))
        params = optax.apply_updates(state.params, updates)
        info = Info(loss=value, gradient_norm=optax.tree.norm(halves_to_float32(grads)))
        return TrainState(state.step + 1, params, opt_state, carry, state.key), info

    compiled = jax.jit(update, static_argnums=0, donate_argnums=1)

    def step(state: TrainState, batch: Any) -> tuple[TrainState, Info]:
        mesh = _mesh(_rows(batch_axes, batch))
        return compiled(mesh, _put_on_mesh(mesh, _each_once(_wait_on_cpu(state))), batch)

    return step


def make_evaluate(loss: Loss, *, batch_axes: Any = 1) -> Callable[[Any, Any, Iterable[Any]], float]:
    """`evaluate(params, carry, batches) -> mean loss` over all batches, the carry going from one to the next; no dropout."""

    @functools.partial(jax.jit, static_argnums=0)
    def one(mesh: Mesh, params: Any, carry: Any, batch: Any) -> tuple[Mean, Any]:
        def shard(params: Any, carry: Any, batch: Any) -> tuple[Mean, Any]:
            mean, new = loss(params, carry, batch, None)
            return Mean(*lax.psum(tuple(map(_vary, mean)), "rows")), jax.tree.map(_vary, new)

        specs = (P(), _specs(0, carry), _specs(batch_axes, batch))
        sharded = jax.shard_map(shard, mesh=mesh, in_specs=specs, out_specs=(P(), specs[1]))
        return sharded(params, carry, batch)

    def evaluate(params: Any, carry: Any, batches: Iterable[Any]) -> float:
        means = []
        for batch in batches:
            mesh = _mesh(_rows(batch_axes, batch))
            params, carry = jax.device_put((params, carry), (_replicated(mesh), _sharded(mesh)))
            mean, carry = one(mesh, params, _wait_on_cpu(carry), batch)
            means.append(mean)
        if not means:
            raise ValueError("batches is empty; expected at least one batch to evaluate on")
        totals = np.sum([np.asarray([m.total, m.weight], np.float64) for m in means], axis=0)
        return float(totals[0] / totals[1]) if totals[1] else 0.0

    return evaluate


def _specs(axes: Any, tree: Any) -> Any:
    """A partition spec per leaf: rows along the axis that `axes`, a prefix of `tree`, names."""

    def spec(axis: int | None, subtree: Any) -> Any:
        one = P() if axis is None else P(*(None,) * axis, "rows")
        return jax.tree.map(lambda _: one, subtree)

    return jax.tree.map(spec, axes, tree, is_leaf=lambda x: x is None)


def _rows(axes: Any, batch: Any) -> int:
    """How many rows a batch has."""

    def sizes(axis: int | None, subtree: Any) -> Any:
        return [] if axis is None else [np.shape(leaf)[axis] for leaf in jax.tree.leaves(subtree)]

    counts = set(jax.tree.leaves(jax.tree.map(sizes, axes, batch, is_leaf=lambda x: x is None)))
    if len(counts) != 1:
        raise ValueError(
            f"batch has {sorted(counts)} rows along batch_axes={axes}; expected one number for all its arrays"
        )
    return counts.pop()


@functools.lru_cache
def _mesh(rows: int) -> Mesh:
    """As many local devices as divide the rows."""
    devices = jax.local_devices()
    count = max(n for n in range(1, len(devices) + 1) if rows % n == 0)
    return Mesh(np.asarray(devices[:count]), ("rows",))


def _wait_on_cpu(tree: Any) -> Any:
    """`tree`, on CPU once it is computed: XLA's in-process collectives deadlock where a second program with a sum over
    devices starts before the first is through, and the devices are as many as the cores (seen with jaxlib 0.10)."""
    return jax.block_until_ready(tree) if jax.default_backend() == "cpu" else tree


def _asked_for(update: Callable[..., Any], options: dict[str, Any]) -> dict[str, Any]:
    """Those of the options that `update` takes: `optax.contrib.sam` takes none, though its type says so."""
    parameters = inspect.signature(update).parameters
    every = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    return options if every else {name: value for name, value in options.items() if name in parameters}


def _each_once(state: TrainState) -> TrainState:
    """The state, an array that it holds twice copied: memory is donated once."""
    seen: set[int] = set()

    def own(leaf: Any) -> Any:
        known = id(leaf) in seen
        seen.add(id(leaf))
        return jnp.copy(leaf) if known else leaf

    return jax.tree.map(own, state)


def _put_on_mesh(mesh: Mesh, state: TrainState) -> TrainState:
    """The state where the step leaves it, so that the first step compiles the only program; nothing moves after that."""
    places: Any = TrainState(*[_replicated(mesh)] * 5)._replace(carry=_sharded(mesh))  # type: ignore[arg-type]
    return jax.device_put(state, places)


def _replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, P())


def _sharded(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, P("rows"))


def _vary(leaf: jax.Array) -> jax.Array:
    """Marked as varying over rows, where it is not already."""
    return leaf if _varies(leaf) else lax.pcast(leaf, "rows", to="varying")


def _varies(leaf: jax.Array) -> bool:
    return "rows" in jax.typeof(leaf).manual_axis_type.varying
