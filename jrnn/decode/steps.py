"""What generating and searching share: a step that fits its state, tokens that may not come, a loop's carry, checks of options."""

from collections.abc import Callable, Collection
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from ..checks import check_positive, describe

Step = Callable[[Any, jax.Array], tuple[Any, jax.Array]]


def check_token(token: Any) -> jax.Array:
    """The token that a row starts from: integers [*batch]."""
    token = jnp.asarray(token)
    if not jnp.issubdtype(token.dtype, jnp.integer):
        raise TypeError(f"token is {describe(token)}; expected integers, one for each row, [*batch]")
    return token


def check_step(step: Step, state: Any, token: jax.Array) -> tuple[Any, int]:
    """What `step` returns fits what it is given. Returns the shapes of both, and the size of the vocabulary."""
    returned = jax.eval_shape(step, state, token)
    if not isinstance(returned, tuple) or len(returned) != 2 or not hasattr(returned[1], "shape"):
        raise TypeError(f"step returns {describe(returned)}; expected (state, logits)")
    new, logits = returned
    if logits.ndim == 0 or logits.shape[:-1] != token.shape or not jnp.issubdtype(logits.dtype, jnp.floating):
        raise ValueError(
            f"step returns logits {describe(logits)} for tokens {describe(token)}; expected floats "
            f"[{', '.join([*map(str, token.shape), 'vocabulary'])}]"
        )
    if jax.tree.structure(new) != jax.tree.structure(state):
        raise TypeError(
            f"step returns a state of structure {jax.tree.structure(new)}; expected that of state: {jax.tree.structure(state)}"
        )
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(new), jax.tree.leaves(state), strict=True):
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            raise ValueError(
                f"step returns {describe(a)} for state{jax.tree_util.keystr(path)}; expected {describe(b)}, as it is given"
            )
    size = logits.shape[-1]
    if size - 1 > jnp.iinfo(token.dtype).max:
        raise ValueError(f"token has dtype {token.dtype}; expected one that holds 0..{size - 1}, the vocabulary")
    return returned, size


def as_carry(start: Any, returned: Any) -> Any:
    """The start of a loop, varying over the mesh axes that any of it, or of what a step `returned`, varies over."""
    leaves = jax.tree.leaves((start, returned))
    axes = frozenset().union(*(jax.typeof(leaf).manual_axis_type.varying for leaf in leaves))

    def cast(leaf: jax.Array) -> jax.Array:
        missing = tuple(sorted(axes - jax.typeof(leaf).manual_axis_type.varying))
        return lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(cast, start)


def check_lengths(owner: str, length: Any, min_length: Any) -> None:
    """`length` is at least 1, `min_length` from 0 to `length`."""
    check_positive(owner, length=length)
    if not is_integer(min_length):
        raise TypeError(f"min_length is {describe(min_length)}; expected an integer")
    if not 0 <= min_length <= length:
        raise ValueError(f"min_length is {min_length}; expected 0 to length, {length}")


def check_end(end: Any, size: int) -> None:
    """`end` is a token of the vocabulary, or None."""
    if end is None:
        return
    if not is_integer(end):
        raise TypeError(f"end is {describe(end)}; expected a token, as an integer, or None")
    if not 0 <= end < size:
        raise ValueError(f"end is {end}; expected a token in 0..{size - 1}, the vocabulary")


def make_bans(
    forbidden: Any, *, size: int, batch: tuple[int, ...], length: int, end: int | None, min_length: int
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """`put(logits, time)`: logits [*batch, ..., vocabulary] with -inf for what is `forbidden` as the token number `time`.

    ValueError where that, and the end before its time, leaves nothing.
    """
    banned = _mask(forbidden, size, batch, length)
    early = end if min_length else None
    if isinstance(banned, np.ndarray):
        alone = np.repeat(banned, 2, 0) if len(banned) == 1 else banned.copy()  # with an end too early, and without
        if early is not None:
            alone[: min_length if len(banned) > 1 else 1, ..., early] = True
        if alone.all(-1).any():
            raise ValueError(
                "forbidden leaves no token that may come next; expected at least one at each step, and besides the end for the "
                f"first min_length, {min_length}"
            )
        if not banned.any():
            return lambda logits, time: logits

    def put(logits: jax.Array, time: jax.Array) -> jax.Array:
        now = lax.dynamic_index_in_dim(jnp.asarray(banned), time if len(banned) > 1 else 0, keepdims=False)
        now = now.reshape(*now.shape[:-1], *(1,) * (logits.ndim - now.ndim), size)
        return jnp.where(jnp.broadcast_to(now, logits.shape), -jnp.inf, logits)

    return put


def _mask(forbidden: Any, size: int, batch: tuple[int, ...], length: int) -> np.ndarray | jax.Array:
    """`forbidden` as bool [1 or length, *batch or nothing, vocabulary]; of NumPy where its values are known."""
    given = list(forbidden) if isinstance(forbidden, Collection) else forbidden
    known = not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(given))
    given = np.asarray(given) if known else jnp.asarray(given)
    if given.ndim == 1 and (given.size == 0 or jnp.issubdtype(given.dtype, jnp.integer)):
        if known and given.size and not (given.min() >= 0 and given.max() < size):
            raise ValueError(f"forbidden holds {given.min()}..{given.max()}; expected tokens in 0..{size - 1}")
        return np.isin(np.arange(size), given)[None] if known else jnp.isin(jnp.arange(size), given)[None]
    if given.dtype == jnp.bool_ and given.shape == (size,):
        return given[None]
    if given.dtype == jnp.bool_ and given.shape in [(n, *rows, size) for n in (1, length) for rows in ((), batch)]:
        return given
    shapes = [(size,), (length, size), *([(length, *batch, size)] if batch else [])]
    raise ValueError(
        f"forbidden is {describe(given)}; expected tokens, such as [0, 2], or a mask, True for what may not come: "
        f"{' or '.join(f'bool{list(shape)}' for shape in shapes)}"
    )


def is_integer(value: Any) -> TypeGuard[int]:
    """Whether it is a plain integer, of Python's or NumPy's."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether it is a plain number, known now."""
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def check_range(name: str, value: Any, holds: Callable[[Any], Any], expected: str, *, integer: bool = False) -> None:
    """An option is a number or an array of them, each of which `holds`, where its value is known."""
    kind = np.integer if integer else np.number
    if not is_number(value) and not hasattr(value, "dtype"):
        raise TypeError(f"{name} is {describe(value)}; expected {expected}")
    if not jnp.issubdtype(jnp.result_type(value), kind):
        raise TypeError(f"{name} is {value if is_number(value) else describe(value)}; expected {expected}")
    if isinstance(value, Tracer):
        return
    values = np.asarray(value)
    wrong = values[~(np.isfinite(values) & holds(values))]
    if wrong.size:
        raise ValueError(f"{name} {'is' if values.ndim == 0 else 'holds'} {wrong[0]}; expected {expected}")


def each_row(name: str, value: Any, rows: tuple[int, ...], dtype: Any) -> jax.Array:
    """An option as an array [*rows, 1]."""
    value = jnp.asarray(value).astype(dtype)
    if value.shape not in ((), rows):
        raise ValueError(f"{name} is {describe(value)}; expected a number, or one for each row, {list(rows)}")
    return jnp.broadcast_to(value, rows)[..., None]
