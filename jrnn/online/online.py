"""Online: a layer whose state also holds how the parameters moved it."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ..arrays import by_rows, differentiable, is_differentiable, select, vector, with_vector
from ..cells.noise import keys_of_rows
from ..checks import check_key, check_rows, check_switches
from ..layers import Dropout, Layer, Recurrent
from ..layers.base import check_layer
from ..xla.products import mapped_over_rows
from .method import Method, Window, after


class OnlineState(NamedTuple):
    state: Any  # the layer's own
    trace: Any  # leaves [*batch, ...]: what the method keeps of d state / d params


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Online(Layer):
    """`layer`, with the derivative of what lies before the steps it is given taken from a trace.

    Back-propagation stops at the state that a window of steps starts from: that is truncated back-propagation through time.
    Here that state has the derivative that `method` kept for it, so that `jax.grad` of any loss of the outputs, through any
    layers above, is an online gradient. Parameters and outputs are those of `layer`; the state is `OnlineState(state, trace)`,
    and goes from one window to the next wherever a state goes (`lax.scan`, `make_step`'s carry, Flax's `RNN`). Windows of one
    step learn at every step; longer ones are differentiated exactly inside (with `RTRL`, the hybrid of Schmidhuber 1992).

        layer = Online(jrnn.Recurrent(cell), RTRL())
        state = layer.initial_state(params, (rows,))
        state, ys = layer.apply(params, xs, state)      # xs: the next steps

    The gradient of a whole sequence is the sum of those of its windows. A reset clears the influence of a row as it does its
    state, and a padded step keeps both. Around a stack, the method sees the whole stack. Around each layer of a stack, what a
    lower layer does through the memory of an upper one is lost (Zucchet et al. 2023), as is what any parameter or input below
    `layer` did before the window. No derivative reaches a state that is passed.

    `local`: the derivative within a step comes from the trace as well, as in papers on local learning rules (Murray 2019, Bellec
    et al. 2020). By default it is exact, which is closer to the gradient. For one cell, `Recurrent(cell)`.

    Noise of cells comes from the keys in the state: give `initial_state` a key. Dropout inside `layer` is refused.
    """

    layer: Layer
    method: Method
    local: bool = dataclasses.field(default=False, kw_only=True)

    pointwise = False

    def __post_init__(self) -> None:
        check_layer("Online", "layer", self.layer)
        check_switches("Online", local=self.local)
        if not isinstance(self.method, Method):
            raise TypeError(f"Online: method is {self.method!r}; expected a method such as jrnn.online.RTRL()")
        if self.local and not isinstance(self.layer, Recurrent):
            raise TypeError(
                f"Online: local is True for {self.layer}; expected Recurrent(cell): wrap each layer of a stack"
            )
        if self.layer.takes_context:
            raise TypeError(f"Online: {self.layer} attends to a sequence; expected a layer without a context")

    @property
    def input_size(self) -> Any:
        return self.layer.input_size

    @property
    def output_size(self) -> Any:
        return self.layer.output_size

    def time_and_batch(self, xs: Any) -> tuple[int, ...]:
        return self.layer.time_and_batch(xs)

    def init(self, key: jax.Array) -> Any:
        return self.layer.init(key)

    def initial_state(self, params: Any, batch: tuple[int, ...] = (), key: jax.Array | None = None) -> OnlineState:
        """`key` drives the noise of cells and the random numbers of the method (`UORO` needs it)."""
        noise, draws = None, None
        if key is not None:
            check_key(key)
            noise, draws = jax.random.fold_in(key, 0), keys_of_rows(jax.random.fold_in(key, 1), batch)
        state, fixed = self.layer.initial_state(params, batch, noise), lax.stop_gradient(params)
        check_rows(self.layer, state, batch, "a trace is kept for each row, which needs a state of its own")

        def init(state: Any, key: jax.Array | None) -> Any:
            return self.method.init(self.layer, fixed, state, key)

        return OnlineState(state, by_rows(init, len(batch), 0, 0)(lax.stop_gradient(state), draws))

    def run(self, params, xs, state, segments, key):
        batch = self.time_and_batch(xs)[1:]
        if key is not None and _has_dropout(self.layer):
            raise TypeError(
                f"key is given and {self.layer} has dropout, of which a trace would draw other masks; place Dropout before or "
                "after Online, or between the Online layers of a stack"
            )
        if state is None:
            state = self.initial_state(params, batch, key)
        if not isinstance(state, OnlineState):
            raise TypeError(
                f"state is a {type(state).__name__}; expected an OnlineState, from initial_state(params, batch)"
            )
        window, (before, trace) = Window(xs, *segments), lax.stop_gradient(state)
        if self.local:
            return self._run_locally(params, window, before, trace, len(batch))
        moved = with_derivative(self.layer, self.method, len(batch), params, before, trace)
        new, ys = self.layer.run(params, xs, moved, segments, None)
        self._check_streams(params, before, xs)
        return OnlineState(new, self._advanced(params, window, before, trace, len(batch))), ys

    def step(self, params, state, x, *, key=None):
        xs = jax.tree.map(lambda a: jnp.asarray(a)[None], x)
        state, ys = self.apply(params, xs, state, key=key)
        return state, jax.tree.map(lambda y: y[0], ys)

    def _advanced(self, params: Any, window: Window, state: Any, trace: Any, batch_axes: int) -> Any:
        params, window, state, trace = lax.stop_gradient((params, window, state, trace))

        def advance(state: Any, trace: Any, window: Window) -> Any:
            return self.method.advance(self.layer, params, state, trace, window)

        return by_rows(advance, batch_axes, 0, 0, 1)(state, trace, window)

    def _run_locally(self, params: Any, window: Window, state: Any, trace: Any, batch_axes: int) -> Any:
        layer: Any = self.layer

        def one(carry: tuple[Any, Any], now: Window) -> tuple[tuple[Any, Any], Any]:
            state, trace = carry
            step = jax.tree.map(lambda a: a[None], now)
            trace = self._advanced(params, step, state, trace, batch_axes)
            new = by_rows(functools.partial(after, layer, lax.stop_gradient(params)), batch_axes, 0, 1)(state, step)
            new = with_derivative(layer, self.method, batch_axes, params, new, trace)
            x = now.xs if now.mask is None else select(now.mask, now.xs, jnp.ones_like(now.xs))
            y = layer.cell.readout(params, new, x)
            y = y if now.mask is None else select(now.mask, y, jax.tree.map(jnp.zeros_like, y))
            return lax.stop_gradient((new, trace)), y

        self._check_streams(params, state, window.xs)
        (state, trace), ys = lax.scan(one, (state, trace), window)
        return OnlineState(state, trace), ys

    def _check_streams(self, params: Any, state: Any, xs: Any) -> None:
        def step(params: Any, state: Any, xs: Any) -> Any:
            return self.layer.step(params, state, jax.tree.map(lambda a: a[0], xs))

        try:
            jax.eval_shape(step, params, state, xs)
        except (TypeError, NotImplementedError) as error:
            raise TypeError(f"Online: layer is {self.layer}; expected one that runs step by step: {error}") from error


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def with_derivative(layer: Layer, method: Method, batch_axes: int, params: Any, state: Any, trace: Any) -> Any:
    """`state`, to whose derivative that is added which the trace holds with respect to `params`."""
    return state


@with_derivative.defjvp
def _(layer: Layer, method: Method, batch_axes: int, primals: Any, tangents: Any) -> tuple[Any, Any]:
    (params, state, trace), (dparams, dstate, _) = primals, tangents

    def push(dparams: list[jax.Array], state: Any, trace: Any, dstate: list[jax.Array]) -> list[jax.Array]:
        return with_vector(dstate, vector(dstate) + method.push(layer, params, state, trace, dparams))

    moved, rows = differentiable(dparams), (state, trace, differentiable(dstate))
    if method.entry_by_entry:
        pushed = iter(mapped_over_rows(push, batch_axes, moved, *rows))
    else:
        pushed = iter(by_rows(push, batch_axes, None, 0, 0, 0)(moved, *rows))
    return state, jax.tree.map(
        lambda a: next(pushed) if is_differentiable(a) else np.zeros(a.shape, jax.dtypes.float0), state
    )


def _has_dropout(layer: Any) -> bool:
    if isinstance(layer, tuple):
        return any(map(_has_dropout, layer))
    if not dataclasses.is_dataclass(layer):
        return False
    inside = (getattr(layer, field.name) for field in dataclasses.fields(layer))
    return (isinstance(layer, Dropout) and layer.rate > 0) or any(map(_has_dropout, inside))
