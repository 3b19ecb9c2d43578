"""One step of training and one evaluation, compiled, with the rows divided among the devices of all processes."""

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

from ..arrays import cast_like, copied, halves_to_float32
from ..checks import describe
from ..losses import Mean, divide
from .placement import ROWS, is_spec, own_specs, put, row_mesh, row_specs, wait_on_cpu

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
    left_out: Any = (
        False  # bool []: whether `optax.apply_if_finite` kept the parameters, as the gradient was not finite
    )


def init_state(params: Any, optimizer: optax.GradientTransformation, key: jax.Array, carry: Any = ()) -> TrainState:
    """The state before the first step. It holds copies: a step reuses the memory of the state it is given."""
    params, carry, key = copied((params, carry, key))
    return TrainState(jnp.int32(0), params, optimizer.init(params), carry, key)


def make_step(
    loss: Loss,
    optimizer: optax.GradientTransformation,
    *,
    batch_axes: Any = 1,
    loss_scale: float = 1.0,
    mesh: Mesh | None = None,
) -> Callable[[TrainState, Any], tuple[TrainState, Info]]:
    """A compiled training step `(state, batch) -> (state, info)`, its rows divided among the devices.

    Each device takes its share of the rows (as many devices as divide their number), and one sum over devices gives the
    gradient: the same numbers as on one device, up to rounding and dropout. `batch_axes` says which axis of the batch's
    arrays counts rows, as `jax.vmap`'s in_axes does: 1 for time-first arrays; None for what every row shares.

    After `jax.distributed.initialize()` the devices are those of all processes. Each process calls the step with its own rows,
    as many as the others, as `jrnn.data` gives them, and with the same state, of whose carry it holds its own rows; the
    state returned lies on all of them, and what rows share can be read by each (`np.asarray(state.params.w)`).

    `mesh` has an axis "rows", among which rows are divided, and may have others, with `AxisType.Auto`, for a model that one device
    cannot hold: parameters that were placed on it by `jax.device_put` stay divided as they are, and so does the optimizer's state
    of them. By default all devices are along "rows".

    The state given is donated: use the one returned. Clip by `optax.clip_by_global_norm` in the optimizer. The optimizer is told
    `value`, `grad` and `value_fn`, which some ask for (`optax.lbfgs`, `reduce_on_plateau`, `polyak_sgd`).

    Gradients are those of the mean, summed over devices in float32. `loss_scale` multiplies what flows back, so that float16
    holds it, and the gradients are divided by it, in float32 where the parameters are (Micikevicius et al. 2018). Where that may
    overflow, `optax.apply_if_finite(optimizer, ...)` leaves the step out, and `fit` goes on.
    """
    if not (math.isfinite(loss_scale) and loss_scale > 0):
        raise ValueError(f"loss_scale is {loss_scale}; expected a positive number, such as 2.0**15")
    told = optax.with_extra_args_support(optimizer)

    def update(mesh: Mesh, divided: tuple[P, ...], state: TrainState, batch: Any) -> tuple[TrainState, Info]:
        key = jax.random.fold_in(state.key, state.step)

        def mean(params: Any, carry: Any, batch: Any) -> tuple[jax.Array, tuple[jax.Array, Any]]:
            found, new = _mean_and_carry(loss(params, carry, batch, jax.random.fold_in(key, _share())))
            return found.total, (found.weight, new)

        def shard(params: Any, carry: Any, batch: Any) -> tuple[Any, jax.Array, Any]:
            params = jax.tree.map(_vary, params)
            total, pull, (weight, new) = jax.vjp(lambda params: mean(params, carry, batch), params, has_aux=True)
            sum_, weight = _sum((_vary(total), _vary(weight)))
            share = divide(jnp.asarray(loss_scale, total.dtype), weight.astype(total.dtype))
            (grads,) = pull(_vary(share) if _varies(total) else share)
            grads = cast_like(_sum(halves_to_float32(grads)), grads)
            return grads, divide(sum_, weight), jax.tree.map(_vary, new)

        def value_fn(params: Any) -> jax.Array:
            def shard(params: Any, carry: Any, batch: Any) -> jax.Array:
                total, (weight, _) = mean(params, carry, batch)
                return divide(*_sum((_vary(total), _vary(weight))))

            return _over_rows(shard, mesh, specs, P())(params, state.carry, batch)

        specs = (P(), row_specs(0, state.carry), row_specs(batch_axes, batch))
        sharded = _over_rows(shard, mesh, specs, (P(), P(), specs[1]))
        grads, value, carry = sharded(state.params, state.carry, batch)
        if loss_scale != 1:
            grads = jax.tree.map(lambda g: g / jnp.asarray(loss_scale, g.dtype), grads)
        more = {"value": value, "grad": grads, "value_fn": value_fn}
        updates, opt_state = told.update(grads, state.opt_state, state.params, **_asked_for(told.update, more))
        params = optax.apply_updates(state.params, updates)
        params, opt_state = _keep_divided(mesh, divided, (params, opt_state))
        norm = optax.tree.norm(halves_to_float32(grads))
        info = Info(loss=value, gradient_norm=norm, left_out=_left_out(value, norm, params, opt_state))
        return TrainState(state.step + 1, params, opt_state, carry, state.key), info

    compiled = jax.jit(update, static_argnums=(0, 1), donate_argnums=2)

    def step(state: TrainState, batch: Any) -> tuple[TrainState, Info]:
        on = row_mesh(mesh, batch_axes, batch)
        # Where the step leaves it, so that the first step compiles the only program; nothing moves after that.
        specs = own_specs(on, state)._replace(carry=row_specs(0, state.carry))
        divided = tuple(jax.tree.leaves((specs.params, specs.opt_state), is_leaf=is_spec))
        state = put(on, specs, _each_once(wait_on_cpu(state)))
        return compiled(on, divided, state, _batch_on(on, batch_axes, batch))

    return step


def make_evaluate(
    loss: Loss, *, batch_axes: Any = 1, mesh: Mesh | None = None
) -> Callable[[Any, Any, Iterable[Any]], float]:
    """`evaluate(params, carry, batches) -> mean loss` over all batches, the carry going from one to the next; no dropout.

    Rows are divided as `make_step` divides them: with several processes each gives its own, and the mean is over those of all.
    """

    @functools.partial(jax.jit, static_argnums=0)
    def one(mesh: Mesh, params: Any, carry: Any, batch: Any) -> tuple[Mean, Any]:
        def shard(params: Any, carry: Any, batch: Any) -> tuple[Mean, Any]:
            mean, new = _mean_and_carry(loss(params, carry, batch, None))
            return Mean(*_sum(tuple(map(_vary, mean)))), jax.tree.map(_vary, new)

        specs = (P(), row_specs(0, carry), row_specs(batch_axes, batch))
        return _over_rows(shard, mesh, specs, (P(), specs[1]))(params, carry, batch)

    def evaluate(params: Any, carry: Any, batches: Iterable[Any]) -> float:
        means = []
        for batch in batches:
            on = row_mesh(mesh, batch_axes, batch)
            params, carry = put(on, (own_specs(on, params), row_specs(0, carry)), (params, carry))
            mean, carry = one(on, params, wait_on_cpu(carry), _batch_on(on, batch_axes, batch))
            means.append(mean)
        if not means:
            raise ValueError("batches is empty; expected at least one batch to evaluate on")
        totals = np.sum([np.asarray([m.total, m.weight], np.float64) for m in means], axis=0)
        return float(totals[0] / totals[1]) if totals[1] else 0.0

    return evaluate


def _over_rows(f: Callable[..., Any], mesh: Mesh, in_specs: Any, out_specs: Any) -> Callable[..., Any]:
    """`f` of each device's rows; what other axes of the mesh divide is the compiler's business.

    Rows that all lie at one place need no `shard_map`; beside other axes XLA refuses a sum over one place (jaxlib 0.10).
    """
    if mesh.shape[ROWS] == 1:
        return f
    return jax.shard_map(f, mesh=mesh, in_specs=in_specs, out_specs=out_specs, axis_names={ROWS})


def _keep_divided(mesh: Mesh, specs: tuple[P, ...], tree: Any) -> Any:
    """The tree with its arrays divided as `specs` says, one for each of them."""
    leaves, structure = jax.tree.flatten(tree)
    if not any(any(spec) for spec in specs):
        return tree
    kept = [lax.with_sharding_constraint(leaf, NamedSharding(mesh, spec)) for leaf, spec in zip(leaves, specs)]
    return jax.tree.unflatten(structure, kept)


def _mean_and_carry(found: Any) -> tuple[Mean, Any]:
    """What a loss returned, where it is what a loss should return."""
    if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], Mean)):
        raise TypeError(
            f"loss returned {jax.tree.map(describe, found)}; expected a pair (Mean, carry): of jrnn.losses, what cross_entropy "
            "returns or Mean(total, weight); and () where nothing is carried"
        )
    return found


def _batch_on(mesh: Mesh, axes: Any, batch: Any) -> Any:
    """The batch as a program of several processes takes it; that of one takes NumPy's arrays."""
    return batch if jax.process_count() == 1 else put(mesh, row_specs(axes, batch), batch)


def _left_out(loss: jax.Array, norm: jax.Array, params: Any, opt_state: Any) -> Any:
    """Whether `optax.apply_if_finite` left the parameters as they were, for the gradient was not finite."""
    finite = [flag for _, flag in optax.tree.get_all_with_path(opt_state, "last_finite")]
    if not finite:
        return False
    usable = jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(params)]).all()
    return ~(jnp.isfinite(loss) & jnp.isfinite(norm)) & ~jnp.stack(finite).all() & usable


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


def _divided() -> bool:
    """Whether this is traced for the rows of one of several devices."""
    return ROWS in jax.sharding.get_abstract_mesh().manual_axes


def _share() -> jax.Array | int:
    """Which share of the rows this is."""
    return lax.axis_index(ROWS) if _divided() else 0


def _sum(tree: Any) -> Any:
    """Over all shares of the rows."""
    return lax.psum(tree, ROWS) if _divided() else tree


def _vary(leaf: jax.Array) -> jax.Array:
    """Marked as varying over rows, where it is not already."""
    return lax.pcast(leaf, ROWS, to="varying") if _divided() and not _varies(leaf) else leaf


def _varies(leaf: jax.Array) -> bool:
    return ROWS in jax.typeof(leaf).manual_axis_type.varying
