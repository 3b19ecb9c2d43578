"""Attention as part of a recurrent step, around any cell, in both published orders.

What is attended to is a context: `cell.bind(params, ys, lengths=...)` goes where a cell's parameters go, with an encoder's
outputs ys [source, *batch, features]. It belongs to a row and does not change over time; no engine copies it or keeps it per step.
"""

import abc
import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..attention import Attention
from ..cell import Bound, Cell
from ..checks import check_key_or_legacy, check_positive, describe
from ..program import is_affine, run_on_part
from .wrapper import Wrapper


class AttentionState(NamedTuple):
    cell: Any  # of the cell inside
    fed: jax.Array  # [*batch, features]: the context (before), or the output (after); zeros at first


class Attentive(Wrapper):
    """A cell that attends, around a cell whose input is [what is fed, x]. Abstract.

    x comes last, where a cell may read the length of its time step. Where the inner cell's `project` is affine, x's part is
    still projected for all times at once, and only that of what is fed inside the loop.
    """

    cell: Cell
    attention: Attention

    inner_params = "cell"
    takes_context = True  # type: ignore[assignment]

    def __post_init__(self) -> None:
        super().__post_init__()
        owner = type(self).__name__
        if not isinstance(self.attention, Attention):
            raise TypeError(
                f"{owner}: attention is {describe(self.attention)}; expected an Attention such as jrnn.attention.Dot(8)"
            )
        sizes = self.cell.input_size, self.cell.output_size
        if self.cell.takes_context or not all(isinstance(size, int) for size in sizes):
            raise TypeError(
                f"{owner}: cell is {self.cell}; expected one with one feature axis and no context of its own"
            )
        if self.cell.output_size != self.attention.query_size:
            raise ValueError(
                f"{owner}: the attention's query_size is {self.attention.query_size}; expected {self.cell.output_size}, the "
                f"output_size of {self.cell}"
            )
        if self.input_size < 1:
            raise ValueError(
                f"{owner}: cell has input_size {self.cell.input_size}; expected more than {self._fed_size}, the size of what is "
                "fed to it beside x: make it the sum of both"
            )

    @property
    @abc.abstractmethod
    def _fed_size(self) -> int:
        """Features of the inner cell's input that are not x."""

    @property
    def input_size(self) -> int:  # type: ignore[override]
        return self.cell.input_size - self._fed_size

    def bind(self, params: Any, ys: Any, *, lengths: Any = None, mask: Any = None) -> Bound:
        return Bound(params, self.attention.memory(params.attention, ys, lengths=lengths, mask=mask))

    def spread(self, params: Bound, batch: tuple[int, ...]) -> Bound:
        own, memory = params
        rows = memory.values.ndim - 2
        ones = tuple(range(rows, len(batch)))
        return Bound(own, jax.tree.map(lambda leaf: jnp.expand_dims(leaf, ones), memory))

    def weights(self, params: Bound, before: Any, after: Any) -> jax.Array:
        (own, *_), memory = params
        return self.attention.attend(params.params.attention, memory, self._query(own, self._asking(before, after)))[1]

    @abc.abstractmethod
    def _asking(self, before: Any, after: Any) -> Any:
        """The inner cell's state that attends, of those before and after a step."""

    def _project(self, params: Any, x: jax.Array) -> Any:
        """x's part of the inner cell's projection; x itself where there is no such part."""
        if not self._is_affine(params):
            return x
        return run_on_part(functools.partial(self.cell.project, params), x, self._fed_size, 0)

    def _feed(self, params: Any, fed: jax.Array) -> Any:
        """What is fed adds so much to the inner cell's projection; itself where that is no sum."""
        if not self._is_affine(params):
            return fed

        def part(fed: jax.Array) -> Any:
            return run_on_part(functools.partial(self.cell.project, params), fed, 0, self.input_size)

        return jax.jvp(part, (jnp.zeros_like(fed),), (fed,))[1]

    def _projected(self, params: Any, z: Any, fed: Any) -> Any:
        """The inner cell's projection, from the two above."""
        if self._is_affine(params):
            return jax.tree.map(jnp.add, z, fed)
        return self.cell.project(params, jnp.concatenate([fed, z], -1))

    def _is_affine(self, params: Any) -> bool:
        x = jnp.zeros(self.cell.input_size, jax.tree.leaves(params)[0].dtype)
        return is_affine(functools.partial(self.cell.project, params), x)

    def _query(self, params: Any, state: Any) -> jax.Array:
        """What the inner cell shows of its state, for an input of zeros: [*batch, query_size]."""
        alone = jax.eval_shape(lambda: self.cell.initial_state(params))
        pairs = zip(jax.tree.leaves(state), jax.tree.leaves(alone), strict=True)
        batch = max((leaf.shape[: leaf.ndim - one.ndim] for leaf, one in pairs), key=len)
        return self.cell.readout(
            params, state, jnp.zeros((*batch, self.cell.input_size), jax.tree.leaves(params)[0].dtype)
        )


class AttentionBeforeParams(NamedTuple):
    cell: Any  # of the cell inside
    attention: Any  # of the attention


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class AttentionBefore(Attentive):
    """The state before attends, and what it finds goes into the cell beside the input (Bahdanau et al. 2015).

        c_t = attend(query(s_{t-1}), memory)
        s_t = cell(s_{t-1}, [c_t, x_t])
        y_t = [cell's y_t, c_t]

    The query is what the cell shows of its state (h of an LSTM or GRU). `cell` has the input size of x and c together. As in
    the paper the output holds the context too: what predicts the next word sees both.
    """

    cell: Cell
    attention: Attention

    @property
    def _fed_size(self) -> int:
        return self.attention.memory_size

    @property
    def output_size(self) -> int:  # type: ignore[override]
        return self.cell.output_size + self.attention.memory_size

    def init(self, key: jax.Array) -> AttentionBeforeParams:
        check_key_or_legacy(key)
        cell, attention = jax.random.split(key)
        return AttentionBeforeParams(self.cell.init(cell), self.attention.init(attention))

    def initial_state(self, params: Any, batch: tuple[int, ...] = (), key: jax.Array | None = None) -> Any:
        own = _own(params)
        dtype = jax.tree.leaves(own)[0].dtype
        context = jnp.zeros((*batch, self.attention.memory_size), dtype)
        return AttentionState(self.cell.initial_state(own.cell, batch, key), context)

    def project(self, params: Bound, x: jax.Array) -> Any:
        return self._project(params.params.cell, x)

    def recur(self, params: Bound, state: AttentionState) -> Any:
        (own, attention), memory = params
        context, _ = self.attention.attend(attention, memory, self._query(own, state.cell))
        return self.cell.recur(own, state.cell), self._feed(own, context), context

    def update_with_gates(
        self, params: Bound, state: AttentionState, z: Any, r: Any
    ) -> tuple[AttentionState, dict[str, jax.Array]]:
        own, (r, fed, context) = params.params.cell, r
        new, gates = self.cell.update_with_gates(own, state.cell, self._projected(own, z, fed), r)
        return AttentionState(new, context), gates

    def readout(self, params: Bound, state: AttentionState, x: jax.Array) -> jax.Array:
        y = self.cell.readout(params.params.cell, state.cell, jnp.concatenate([state.fed, x], -1))
        return jnp.concatenate([y, state.fed], -1)

    def _asking(self, before: AttentionState, after: AttentionState) -> Any:
        return before.cell


class AttentionAfterParams(NamedTuple):
    cell: Any  # of the cell inside
    attention: Any  # of the attention
    w: jax.Array  # [memory + cell's output, output]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class AttentionAfter(Attentive):
    """The state after attends, and what it finds goes into the output (Luong et al. 2015).

        s_t = cell(s_{t-1}, [y_{t-1}, x_t])     with input_feeding; else cell(s_{t-1}, x_t)
        c_t = attend(query(s_t), memory)
        y_t = tanh([c_t, query(s_t)] W)

    The query is what the cell shows of its state. With `input_feeding`, the default, the output before is part of the input, and
    `cell` has the input size of x and y together; the state then holds it. Without it the state is the
    cell's own, and all steps attend at once, outside the loop. W starts as in Glorot & Bengio 2010.
    """

    cell: Cell
    attention: Attention
    attended_size: int
    input_feeding: bool = dataclasses.field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        check_positive("AttentionAfter", attended_size=self.attended_size)
        super().__post_init__()

    @property
    def output_size(self) -> int:  # type: ignore[override]
        return self.attended_size

    @property
    def _fed_size(self) -> int:
        return self.attended_size if self.input_feeding else 0

    def init(self, key: jax.Array) -> AttentionAfterParams:
        check_key_or_legacy(key)
        cell, attention, w = jax.random.split(key, 3)
        shape = self.attention.memory_size + self.cell.output_size, self.attended_size
        glorot = jax.nn.initializers.glorot_uniform()
        return AttentionAfterParams(self.cell.init(cell), self.attention.init(attention), glorot(w, shape))

    def initial_state(self, params: Any, batch: tuple[int, ...] = (), key: jax.Array | None = None) -> Any:
        own = _own(params)
        state = self.cell.initial_state(own.cell, batch, key)
        if not self.input_feeding:
            return state
        return AttentionState(state, jnp.zeros((*batch, self.attended_size), own.w.dtype))

    def project(self, params: Bound, x: jax.Array) -> Any:
        own = params.params.cell
        return self._project(own, x) if self.input_feeding else self.cell.project(own, x)

    def recur(self, params: Bound, state: Any) -> Any:
        own = params.params.cell
        if not self.input_feeding:
            return self.cell.recur(own, state)
        return self.cell.recur(own, state.cell), self._feed(own, state.fed)

    def update_with_gates(self, params: Bound, state: Any, z: Any, r: Any) -> tuple[Any, dict[str, jax.Array]]:
        own = params.params.cell
        if not self.input_feeding:
            return self.cell.update_with_gates(own, state, z, r)
        r, fed = r
        new, gates = self.cell.update_with_gates(own, state.cell, self._projected(own, z, fed), r)
        return AttentionState(new, self._attended(params, self._query(own, new))), gates

    def readout(self, params: Bound, state: Any, x: jax.Array) -> jax.Array:
        if self.input_feeding:
            return state.fed
        return self._attended(params, self.cell.readout(params.params.cell, state, x))

    def _asking(self, before: Any, after: Any) -> Any:
        return after.cell if self.input_feeding else after

    def _attended(self, params: Bound, query: jax.Array) -> jax.Array:
        own, memory = params
        context, _ = self.attention.attend(own.attention, memory, query)
        joined = jnp.concatenate([context, query], -1)
        return jnp.tanh(jnp.matmul(joined, own.w))


def _own(params: Any) -> Any:
    """The parameters without the context, which an initial state does not depend on."""
    return params.params if isinstance(params, Bound) else params
