"""Attention: a weighted mean of what a row remembers, the weights decided by a query.

An attention is a frozen object with parameters of its own. `memory` makes once, from an encoder's outputs, what depends on these
alone; `attend` is then called with a query at each step, or with those of all steps at once. In a recurrent step with any cell:
`jrnn.AttentionBefore` and `jrnn.AttentionAfter`.
"""

import abc
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .arrays import at_least_float32, select
from .checks import check_key_or_legacy, check_params, check_positive, check_switches, describe
from .segments import step_mask


class Memory(NamedTuple):
    """What a row attends to. Batch axes and no time axis of the steps that attend: it is a context (see `jrnn.Bound`)."""

    keys: jax.Array  # [*batch, source, features]: what a query is compared with
    values: jax.Array  # [*batch, source, memory_size]: what is averaged
    mask: jax.Array | None  # bool [*batch, source], True where a position is real; None: everywhere


class Attention(abc.ABC):
    """How well a query fits each position of a memory, and the mean of the values weighted accordingly.

        weights = softmax over the real positions of score(query, key)
        context = Σ weights value

    Abstract: an attention writes `init`, `keys` and `score`. Scores and sums of 16-bit floats are computed in float32.
    """

    query_size: int
    memory_size: int

    @abc.abstractmethod
    def init(self, key: jax.Array) -> Any:
        """Fresh parameters."""

    @abc.abstractmethod
    def keys(self, params: Any, values: jax.Array) -> jax.Array:
        """What queries are compared with, of values [..., source, memory_size]: [..., source, features]."""

    @abc.abstractmethod
    def score(self, params: Any, keys: jax.Array, query: jax.Array) -> jax.Array:
        """keys [*batch, source, features], query [*batch, query_size] -> [*batch, source], float32 or wider."""

    def memory(
        self, params: Any, ys: jax.Array, *, lengths: jax.Array | None = None, mask: jax.Array | None = None
    ) -> Memory:
        """The memory of `ys` [source, *batch, memory_size], time first as an encoder gives them.

        `lengths` [*batch] and `mask` bool [source, *batch] say which positions are real, as in `unroll`. What others hold, NaN too,
        reaches nothing. A row may have none: its context is zeros.
        """
        check_params(self, params)
        ys = jnp.asarray(ys)
        if ys.ndim < 2 or ys.shape[-1] != self.memory_size or ys.shape[0] == 0:
            raise ValueError(
                f"ys is {describe(ys)}; {self} expects [source, *batch, {self.memory_size}] with at least one position: "
                "memory_size is the size of the outputs that are attended to"
            )
        real = step_mask(lengths, mask, ys.shape[:-1])
        if real is not None:
            ys = select(real, ys, jnp.zeros_like(ys))
        values = jnp.moveaxis(ys, 0, -2)
        return Memory(self.keys(params, values), values, None if real is None else jnp.moveaxis(real, 0, -1))

    def attend(self, params: Any, memory: Memory, query: jax.Array) -> tuple[jax.Array, jax.Array]:
        """`query` [*more, *batch, query_size] -> context [*more, *batch, memory_size] and weights [*more, *batch, source].

        A batch axis of the memory may be 1 where the query's is longer: the hypotheses of a row share its memory, which is not
        repeated.
        """
        if query.shape[-1] != self.query_size:
            raise ValueError(f"query is {describe(query)}; {self} expects [*batch, {self.query_size}]")
        scores = self.score(params, memory.keys, query)
        if memory.mask is None:
            weights = jax.nn.softmax(scores)
        else:
            real = jnp.broadcast_to(memory.mask, scores.shape)
            weights = jax.nn.softmax(jnp.where(real, scores, jnp.finfo(scores.dtype).min))
            weights = jnp.where(real, weights, jnp.zeros_like(weights))
        context = contract(weights.astype(memory.values.dtype), memory.values)
        return context.astype(query.dtype), weights


class DotParams(NamedTuple):
    pass


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Dot(Attention):
    """score = query · value ("dot", Luong et al. 2015); `scaled`, divided by √size (Vaswani et al. 2017). No parameters."""

    size: int
    scaled: bool = dataclasses.field(default=False, kw_only=True)

    query_size = memory_size = property(lambda self: self.size)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        check_positive("Dot", size=self.size)
        check_switches("Dot", scaled=self.scaled)

    def init(self, key: jax.Array) -> DotParams:
        check_key_or_legacy(key)
        return DotParams()

    def keys(self, params: DotParams, values: jax.Array) -> jax.Array:
        return values * jnp.asarray(self.size**-0.5, values.dtype) if self.scaled else values

    def score(self, params: DotParams, keys: jax.Array, query: jax.Array) -> jax.Array:
        return compare(keys, query)


class GeneralParams(NamedTuple):
    w: jax.Array  # [memory, query]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class General(Attention):
    """score = query W value ("general", Luong et al. 2015). W starts as in Glorot & Bengio 2010."""

    query_size: int
    memory_size: int

    def __post_init__(self) -> None:
        check_positive("General", query_size=self.query_size, memory_size=self.memory_size)

    def init(self, key: jax.Array) -> GeneralParams:
        check_key_or_legacy(key)
        return GeneralParams(jax.nn.initializers.glorot_uniform()(key, (self.memory_size, self.query_size)))

    def keys(self, params: GeneralParams, values: jax.Array) -> jax.Array:
        return _product(values, params.w)

    def score(self, params: GeneralParams, keys: jax.Array, query: jax.Array) -> jax.Array:
        return compare(keys, query)


class AdditiveParams(NamedTuple):
    w_query: jax.Array  # [query, hidden]
    w_memory: jax.Array  # [memory, hidden]
    v: jax.Array  # [hidden]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Additive(Attention):
    """score = v · tanh(query W_q + value W_m) (Bahdanau et al. 2015), which is also "concat" of Luong et al. 2015.

    (W [query; value] of the latter is the sum of two products.) W_q and W_m start as in Glorot & Bengio 2010, v as
    N(0, 1) / √hidden; in Bahdanau et al. v starts at 0, from where W_q and W_m get no gradient at the first step.
    """

    query_size: int
    memory_size: int
    hidden_size: int

    def __post_init__(self) -> None:
        check_positive(
            "Additive", query_size=self.query_size, memory_size=self.memory_size, hidden_size=self.hidden_size
        )

    def init(self, key: jax.Array) -> AdditiveParams:
        check_key_or_legacy(key)
        query, memory, v = jax.random.split(key, 3)
        glorot = jax.nn.initializers.glorot_uniform()
        return AdditiveParams(
            w_query=glorot(query, (self.query_size, self.hidden_size)),
            w_memory=glorot(memory, (self.memory_size, self.hidden_size)),
            v=jax.random.normal(v, (self.hidden_size,)) / self.hidden_size**0.5,
        )

    def keys(self, params: AdditiveParams, values: jax.Array) -> jax.Array:
        return _product(values, params.w_memory)

    def score(self, params: AdditiveParams, keys: jax.Array, query: jax.Array) -> jax.Array:
        wide = at_least_float32(query.dtype)
        hidden = _product(query, params.w_query)[..., None, :]
        shape = jnp.broadcast_shapes(hidden.shape, keys.shape)
        hidden = jnp.tanh(jnp.broadcast_to(hidden, shape) + jnp.broadcast_to(keys, shape))
        return jnp.matmul(hidden, params.v, preferred_element_type=wide)


def compare(keys: jax.Array, query: jax.Array) -> jax.Array:
    """keys [*batch, source, n] · query [*more, *batch, n] -> [*more, *batch, source], float32 or wider."""
    return _over_batch("sn,n->s", keys, query)


def contract(weights: jax.Array, values: jax.Array) -> jax.Array:
    """weights [*more, *batch, source] of values [*batch, source, n] -> [*more, *batch, n], float32 or wider."""
    return _over_batch("sn,s->n", values, weights)


def _over_batch(what: str, memory: jax.Array, asking: jax.Array) -> jax.Array:
    """An einsum over the last two axes of `memory` and the last of `asking`; a batch axis of 1 in `memory` is never repeated."""
    of_memory, rest = what.split(",")
    of_asking, result = rest.split("->")
    batch = "abcdefghijklm"[: asking.ndim - 1]
    shared = batch[len(batch) - (memory.ndim - 2) :]
    axes = range(len(shared))
    ones = [i for i in axes if memory.shape[i] == 1 and asking.shape[asking.ndim - 1 - len(shared) + i] != 1]
    kept = "".join(letter for i, letter in enumerate(shared) if i not in ones)
    memory = jnp.squeeze(memory, tuple(ones))
    wide = at_least_float32(jnp.result_type(memory, asking))
    equation = f"{kept}{of_memory},{batch}{of_asking}->{batch}{result}"
    return jnp.einsum(equation, memory, asking, preferred_element_type=wide)


def _product(x: jax.Array, w: jax.Array) -> jax.Array:
    """x @ w, summed in float32 where they are 16-bit floats."""
    return jnp.matmul(x, w, preferred_element_type=at_least_float32(x.dtype)).astype(x.dtype)
