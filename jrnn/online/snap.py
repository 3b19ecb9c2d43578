"""SnAp-n: the influence is kept where a parameter reaches a unit within n steps."""

import dataclasses
import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ..arrays import differentiable, feature_shape, vector, with_differentiable, with_vector
from ..checks import check_positive
from ..layers import Layer
from .method import Window, from_initial_state, identity
from .rtrl import jacobians
from .units import Units

PROBES = 32
"""Random states and inputs whose derivatives say what reaches what: a ReLU is off in half of them."""


class Pattern:
    """Which floats of the state each parameter reaches within so many steps; made by `pattern`. A value: equal ones are equal."""

    def __init__(self, columns: np.ndarray, rows: np.ndarray, valid: np.ndarray):
        self.columns = columns  # [Q] the parameters that reach any, in the order of all of them
        self.rows = rows  # [Q, K] the floats of the state that each reaches
        self.valid = valid  # bool [Q, K]; False where it reaches fewer than K
        self._digest = hashlib.sha256(
            b"".join(np.ascontiguousarray(a).tobytes() for a in (columns, rows, valid))
        ).digest()

    def __hash__(self) -> int:
        return hash(self._digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and self._digest == other._digest

    def __repr__(self) -> str:
        return (
            f"Pattern({len(self.columns)} parameters, each reaching {self.valid.sum(1).mean():.1f} floats of the state)"
        )


def pattern(layer: Layer, params: Any, steps: int) -> Pattern:
    """Which floats of the state each parameter reaches within `steps` steps, for `SnAp(pattern)`.

    Entries of `params` that are 0 are connections that there are not: they carry nothing and have no influence themselves, so
    mask the gradient of what has to stay 0. `steps` = 1: what a parameter moves at once.
    """
    check_positive("pattern", steps=steps)
    if layer.input_size is None:
        raise TypeError(
            f"layer is {layer}, which takes tokens; expected one that takes vectors: place the embedding below Online"
        )
    features = feature_shape(layer.input_size)
    rng, state = np.random.default_rng(0), layer.initial_state(params)
    present = np.concatenate([np.ravel(np.asarray(a) != 0) for a in differentiable(params)])

    @jax.jit
    def reached(p: list[jax.Array], v: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        window = Window(x[None], None, None)
        _, i, j = jacobians(layer, with_differentiable(params, p), with_vector(state, v), window)
        return jnp.concatenate([a.reshape(a.shape[0], -1) for a in i], 1) != 0, j != 0

    size = vector(state).size
    at_once, carried = np.zeros((size, present.size), bool), np.zeros((size, size), bool)
    for _ in range(PROBES):
        drawn = [
            np.where(np.asarray(a) != 0, rng.standard_normal(a.shape), 0).astype(a.dtype)
            for a in differentiable(params)
        ]
        v, x = rng.standard_normal(size), np.abs(rng.standard_normal(features))
        i, j = reached(drawn, v.astype(vector(state).dtype), x.astype(drawn[0].dtype))
        at_once, carried = at_once | np.asarray(i), carried | np.asarray(j)
    found = at_once
    for _ in range(steps - 1):
        found = at_once | (carried.astype(np.float32) @ found.astype(np.float32) > 0)
    columns = np.flatnonzero(present & found.any(0))
    found = found[:, columns].T
    rows = np.argsort(~found, axis=1, kind="stable")[:, : found.sum(1).max(initial=1)]
    return Pattern(columns, rows, np.take_along_axis(found, rows, 1))


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class SnAp(Units):
    """The sparse n-step approximation of RTRL (Menick et al. 2021): influence that returns to where it came from.

    `SnAp()`, n = 1: each parameter's influence on the unit that it moves first, the unit's own recurrent weight included (and from
    one array of its state to another, more than the paper keeps). L x P floats a row, for L arrays of state and P parameters, and
    a few operations for each, once a window; for one cell whose `update` is pointwise.

    `SnAp(pattern(layer, params, n))`: the influence on all that a parameter reaches within n steps, where weights are sparse; for
    any layer. Of Q parameters that each reach up to K floats, Q x K floats a row, and n backward passes and Q K^2 operations a
    step. With dense weights it is RTRL from n = 2 on.
    """

    pattern: Pattern | None = None

    through_recur = True

    def __post_init__(self) -> None:
        if self.pattern is not None and not isinstance(self.pattern, Pattern):
            raise TypeError(f"SnAp: pattern is {self.pattern!r}; expected jrnn.online.pattern(layer, params, steps)")

    def init(self, layer, params, state, key):
        if self.pattern is None:
            return super().init(layer, params, state, key)
        return self._kept(jax.vmap(from_initial_state(layer, params))(identity(vector(state))))

    def push(self, layer, params, state, trace, dparams):
        if self.pattern is None:
            return super().push(layer, params, state, trace, dparams)
        d = jnp.concatenate([a.ravel() for a in dparams])[self.pattern.columns].astype(trace.dtype)
        moved = trace * jnp.broadcast_to(d[:, None], trace.shape)
        return jnp.zeros_like(vector(state), trace.dtype).at[self.pattern.rows].add(moved)

    def advance(self, layer, params, state, trace, window):
        if self.pattern is None:
            return super().advance(layer, params, state, trace, window)
        rows, valid = self.pattern.rows, self.pattern.valid

        def one(carry: tuple[Any, jax.Array], now: Window) -> tuple[tuple[Any, jax.Array], None]:
            (state, trace), step = carry, jax.tree.map(lambda a: a[None], now)
            new, from_params, from_state = jacobians(layer, params, state, step)
            among = from_state[rows[:, :, None], rows[:, None, :]]
            moved = jnp.where(valid, jnp.einsum("qkl,ql->qk", among, trace), 0)
            return (new, moved + self._kept(from_params)), None

        return lax.scan(one, (state, trace), window)[0][1]

    def _kept(self, influence: list[jax.Array]) -> jax.Array:
        """What the pattern keeps of derivatives [n, *param]: [Q, K]."""
        assert self.pattern is not None
        flat = jnp.concatenate([a.reshape(a.shape[0], -1) for a in influence], 1)
        return jnp.where(self.pattern.valid, flat[self.pattern.rows, self.pattern.columns[:, None]], 0)
