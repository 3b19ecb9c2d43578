"""Checks that a user's mistake meets before it meets JAX, and the words they use.

Every check runs while a function is traced, so it costs nothing once compiled.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from .arrays import feature_shape, is_key, widened

Activation = str | Callable[[jax.Array], jax.Array]


def activation_function(choice: Activation, name: str = "activation") -> Callable[[jax.Array], jax.Array]:
    """The function an option names: `"identity"`, any of `jax.nn` (`"relu"`, `"sigmoid"`, ...) or `"tanh"`."""
    if callable(choice):
        return choice
    if choice == "identity":
        return lambda x: x
    function: Callable[[jax.Array], jax.Array] | None = (
        getattr(jax.nn, choice, None) if isinstance(choice, str) else None
    )
    if function is None or not callable(function):
        raise ValueError(
            f"{name} is {choice!r}; expected 'tanh', 'identity', the name of a function in jax.nn "
            "such as 'relu' or 'sigmoid', or a function of one array"
        )
    return function


def check_positive(owner: str, **sizes: int) -> None:
    """Every size is an integer of at least 1."""
    for name, size in sizes.items():
        if not isinstance(size, int | np.integer) or isinstance(size, bool):
            raise TypeError(f"{owner}: {name} is {size!r}; expected an integer")
        if size < 1:
            raise ValueError(f"{owner}: {name} is {size}; expected at least 1")


def check_switches(owner: str, **switches: Any) -> None:
    """Every switch is True or False."""
    for name, value in switches.items():
        if not isinstance(value, bool):
            raise TypeError(f"{owner}: {name} is {value!r}; expected True or False")


def check_key(key: Any, name: str = "key") -> None:
    """`key` is a single typed key, as `jax.random.key` makes it."""
    if not hasattr(key, "dtype") or not is_key(key) or key.shape != ():
        raise TypeError(f"{name} is {describe(key)}; expected one typed key such as jax.random.key(0)")


def check_key_or_legacy(key: Any, name: str = "key") -> None:
    """`key` is a single key, typed or as `jax.random.PRNGKey` makes it."""
    if not hasattr(key, "dtype") or not (is_key(key) or (key.dtype == jnp.uint32 and key.ndim == 1)):
        raise TypeError(f"{name} is {describe(key)}; expected a key such as jax.random.key(0)")


def describe(value: Any) -> str:
    """`float32[3, 4]` for an array, the type's name and value otherwise."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype}{list(value.shape)}"
    return f"{type(value).__name__} {value!r:.80}"


def check_params(owner: Any, params: Any, name: str = "params") -> jnp.dtype:
    """`params` has the structure, shapes and one floating dtype of `owner.init(key)`; returns that dtype."""
    expected = _initial_shapes(owner)
    if jax.tree.structure(params) != jax.tree.structure(expected):
        given = type(params).__name__
        raise TypeError(
            f"{name} is a {given} of structure {jax.tree.structure(params)}; {owner} expects a "
            f"{type(expected).__name__}: {jax.tree.structure(expected)}, from its own init(key)"
        )
    leaves = jax.tree_util.tree_leaves_with_path(params)
    for (path, leaf), want in zip(leaves, jax.tree.leaves(expected), strict=True):
        if np.shape(leaf) != want.shape:
            raise ValueError(
                f"{name}{jax.tree_util.keystr(path)} has shape {list(np.shape(leaf))}; {owner} expects {list(want.shape)}"
            )
    dtypes = {jax.tree_util.keystr(path): jnp.result_type(leaf) for path, leaf in leaves}
    dtype = next(iter(dtypes.values()), jnp.result_type(float))
    if len(set(dtypes.values())) > 1 or not jnp.issubdtype(dtype, jnp.floating):
        listed = ", ".join(f"{path} {kind}" for path, kind in dtypes.items())
        raise TypeError(
            f"{name} of {owner} has dtypes {listed}; expected one floating dtype throughout: "
            "cast with jax.tree.map(lambda a: a.astype(dtype), params)"
        )
    return dtype


@functools.lru_cache(maxsize=1024)
def _initial_shapes(owner: Any) -> Any:
    return jax.eval_shape(lambda: owner.init(jax.random.key(0)))


def check_input(owner: Any, x: Any, dtype: jnp.dtype, name: str, time: bool) -> tuple[int, ...]:
    """`x` is [time, *batch, input_size] (or [*batch, input_size]) of the parameters' dtype; returns the batch axes."""
    axes = "[time, *batch, input_size]" if time else "[*batch, input_size]"
    features = feature_shape(owner.input_size)
    if not hasattr(x, "shape"):
        raise TypeError(f"{name} is {describe(x)}; expected an array {axes}")
    if len(x.shape) < len(features) + time:
        raise ValueError(
            f"{name} has shape {list(x.shape)}; {owner} expects {axes}, at least {len(features) + time} axes"
        )
    batch = x.shape[int(time) : len(x.shape) - len(features)]
    if x.shape[len(x.shape) - len(features) :] != features:
        one = len(features) == 1
        raise ValueError(
            f"{name} has {x.shape[-1] if one else list(x.shape[-len(features) :])} features (shape {list(x.shape)}); {owner} "
            f"expects {owner.input_size if one else list(features)} in the last {'axis' if one else f'{len(features)} axes'}"
        )
    if time and x.shape[0] == 0:
        raise ValueError(
            f"{name} has no time steps (shape {list(x.shape)}); expected at least one along the first axis: "
            "leave out the call, or mark padded steps with lengths or mask"
        )
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(
            f"{name} has dtype {x.dtype}; expected {dtype}, the dtype of params: encode tokens with jax.nn.one_hot or "
            "an embedding, cast numbers with astype"
        )
    if x.dtype != dtype:
        raise TypeError(
            f"{name} has dtype {x.dtype} but params has {dtype}; nothing is promoted silently: cast one of the two with astype"
        )
    return batch


def check_tokens(tokens: Any, size: int) -> jax.Array:
    """`tokens` [...], integers in 0..size - 1, as int32 at least; values are checked where they are known (not under jit)."""
    tokens = jnp.asarray(tokens)
    if not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise TypeError(f"tokens is {describe(tokens)}; expected integers in 0..{size - 1}")
    if not isinstance(tokens, Tracer):
        values = np.asarray(tokens)
        if values.size and not (values.min() >= 0 and values.max() < size):
            raise ValueError(f"tokens holds {values.min()}..{values.max()}; expected 0..{size - 1}, the vocabulary")
    return widened(tokens)


def check_labels(labels: jax.Array, count: int | None, mask: Any, name: str) -> tuple[jax.Array, jax.Array]:
    """`(labels, inside)`: int32 at least, 0 for what is masked or outside of 0..count - 1; whether a label is inside or masked.

    Values are checked where they are known (not under jit). `count` None: any that is not negative.
    """
    labels = widened(labels)
    inside = labels >= 0
    if count is not None:
        inside &= labels < count
    if mask is not None:
        inside |= ~mask
    if not isinstance(inside, Tracer) and not np.all(inside):
        places = np.argwhere(~np.asarray(inside))
        first = tuple(places[0].tolist())
        expected = "0 or more" if count is None else f"0..{count - 1}"
        raise ValueError(
            f"{name}{list(first)} is {int(labels[first])}, one of {len(places)} out of range; expected {expected}: mask what is no "
            "label"
        )
    real = inside if mask is None else inside & mask
    return jnp.where(real, labels, jnp.zeros_like(labels)), inside


def check_state(owner: Any, params: Any, state: Any, batch: tuple[int, ...], name: str = "state") -> None:
    """`state` has the structure, shapes and dtypes of `owner.initial_state(params, batch)`, with or without a noise key."""

    def shapes(key: jax.Array | None) -> Any:
        return jax.eval_shape(lambda p: owner.initial_state(p, batch, key), params)

    def like(tree: Any) -> bool:
        return jax.tree.structure(state) == jax.tree.structure(tree)

    plain = expected = shapes(None)
    if not like(plain):
        expected = shapes(jax.random.key(0))
    if not like(expected):
        raise TypeError(
            f"{name} is a {type(state).__name__} of structure {jax.tree.structure(state)}; {owner} expects a "
            f"{type(plain).__name__}: {jax.tree.structure(plain)}, from its own initial_state(params, batch={batch})"
        )
    for (path, leaf), want in zip(jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(expected), strict=True):
        alike = is_key(leaf) if is_key(want) else jnp.result_type(leaf) == want.dtype  # keys of any implementation
        if np.shape(leaf) != want.shape or not alike:
            raise ValueError(
                f"{name}{jax.tree_util.keystr(path)} is {describe(leaf)}; {owner} on a batch {list(batch)} expects "
                f"{describe(want)}: start from initial_state(params, batch={batch})"
            )


def check_rows(owner: Any, state: Any, batch: tuple[int, ...], needs: str) -> None:
    """Every leaf of a state has the batch axes; `needs` says why."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if leaf.shape[: len(batch)] != batch:
            raise ValueError(
                f"state{jax.tree_util.keystr(path)} of {owner} is {describe(leaf)}, without the batch axes {list(batch)}; {needs}"
            )


def check_flags(flags: Any, name: str, time_and_batch: tuple[int, ...]) -> None:
    """`mask` or `reset`: boolean [time, *batch]."""
    if not hasattr(flags, "shape") or flags.shape != time_and_batch:
        raise ValueError(f"{name} is {describe(flags)}; expected bool{list(time_and_batch)}, one flag per step and row")
    if flags.dtype != jnp.bool_:
        raise TypeError(f"{name} has dtype {flags.dtype}; expected bool: write {name} != 0 if it holds zeros and ones")


def check_lengths(lengths: Any, time_and_batch: tuple[int, ...]) -> None:
    """`lengths` is an integer array [*batch] within 0..time; values are checked where they are known (not under jit)."""
    time, *batch = time_and_batch
    if not hasattr(lengths, "shape") or list(lengths.shape) != batch:
        raise ValueError(
            f"lengths is {describe(lengths)}; expected integers of shape {batch}, one per row of the batch"
        )
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise TypeError(f"lengths has dtype {lengths.dtype}; expected integers (counts of real steps)")
    if isinstance(lengths, Tracer):
        return
    values = np.asarray(lengths)
    if values.size and (values.min() < 0 or values.max() > time):
        wrong = values[(values < 0) | (values > time)].ravel()[0]
        raise ValueError(f"lengths holds {wrong}; xs has {time} time steps, so each length must lie in 0..{time}")
