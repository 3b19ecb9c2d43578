"""The peers on JAX: each layer from the weights of a jrnn cell, and what it computes from weights and inputs.

`convert` turns jrnn's parameters into the peer's own, and its transpose (`jax.vjp`) turns the gradients of the peer's own
parameters into those of jrnn's, so one definition serves both checks.
"""

import dataclasses
import functools
import os
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jrnn

from . import textbook
from .measure import Program
from .textbook import Data, gradients_by_name


@dataclasses.dataclass(frozen=True, kw_only=True)
class JaxLayer:
    """A layer as a pure function of weights and inputs."""

    apply: Callable[[Any, jax.Array], jax.Array]
    """(weights, xs) -> ys"""
    convert: Callable[[Any], Any] = lambda params: params
    """jrnn's parameters -> weights"""
    batch_first: bool = False
    lacks: tuple[str, ...] = ()
    """Parameters that the peer does not have."""
    function: str | None = None
    """What it computes, where that is not what the point is about."""
    sharded: bool = False
    """Each device takes its share of the batch."""

    def program(self, mode: str, data: Data) -> Program:
        """Compiled ahead of time."""
        run = self.apply if mode == "forward" else self._gradients
        sequences = (data.xs,) if mode == "forward" else (data.xs, data.cotangent)
        arguments = (self.convert(data.params), *(np.ascontiguousarray(self._layout(a)) for a in sequences))
        devices = jax.local_devices() if self.sharded else jax.local_devices()[:1]
        if self.sharded:
            mesh = jax.make_mesh((len(devices),), ("batch",), axis_types=(AxisType.Auto,), devices=devices)
            inputs = (P(), *[P(None, "batch")] * len(sequences))
            outputs = P(None, "batch") if mode == "forward" else (P(), P(None, "batch"))
            run = jax.shard_map(run, mesh=mesh, in_specs=inputs, out_specs=outputs)
            arguments = jax.device_put(arguments, tuple(NamedSharding(mesh, spec) for spec in inputs))
        else:
            arguments = jax.device_put(arguments, devices[0])
        before = time.perf_counter()
        compiled = jax.jit(run).lower(*arguments).compile()
        seconds = time.perf_counter() - before
        memory = compiled.memory_analysis()
        return Program(
            call=lambda: jax.block_until_ready(compiled(*arguments)),
            read=functools.partial(self._read, mode, data.params),
            compile_seconds=seconds,
            temporary_bytes=None if memory is None else memory.temp_size_in_bytes * len(devices),
        )

    def _gradients(self, weights: Any, xs: jax.Array, cotangent: jax.Array) -> Any:
        if self.sharded:
            weights = jax.tree.map(lambda a: lax.pcast(a, "batch", to="varying"), weights)
        gradients, of_xs = jax.vjp(self.apply, weights, xs)[1](cotangent)
        return lax.psum(gradients, "batch") if self.sharded else gradients, of_xs

    def _layout(self, a: np.ndarray) -> np.ndarray:
        return np.swapaxes(a, 0, 1) if self.batch_first else a

    def _read(self, mode: str, params: Any, out: Any) -> dict[str, np.ndarray]:
        if mode == "forward":
            return {"ys": self._layout(np.asarray(out))}
        weights, xs = out
        named = gradients_by_name(pull_back(self.convert, params, weights), self._layout(np.asarray(xs)))
        return {name: a for name, a in named.items() if name not in self.lacks}


def pull_back(convert: Callable[[Any], Any], params: Any, gradients: Any) -> Any:
    """The gradients of jrnn's parameters from those of the weights that `convert` makes of them; in float32."""
    params, gradients = jax.tree.map(lambda a: jnp.asarray(np.asarray(a), jnp.float32), (params, gradients))
    return jax.vjp(convert, params)[1](gradients)[0]


def blocks(w: Any, order: tuple[int, ...]) -> Any:
    """The gates of `w` [..., gates] in another order."""
    parts = jnp.split(w, len(order), -1)
    return jnp.concatenate([parts[index] for index in order], -1)


ENGINES: dict[str, jrnn.Engine] = {
    "autodiff": jrnn.Scan(gradient=jrnn.Autodiff()),
    "states": jrnn.Scan(gradient=jrnn.LinearSolve(save="states")),
    "checkpointed": jrnn.Scan(gradient=jrnn.Checkpointed()),
}


def ours(cell: jrnn.Cell, *, sharded: bool = False, **engine: Any) -> JaxLayer:
    """`jrnn.unroll`, with its default engine or another."""
    return JaxLayer(apply=lambda params, xs: jrnn.unroll(cell, params, xs, **engine)[1], sharded=sharded)


def plain(function: str, cell: Any, dtype: str) -> JaxLayer:
    """What one writes by hand: `lax.scan` over a step that holds both products."""
    return JaxLayer(apply=functools.partial(textbook.scan, function))


def flax_nnx(function: str, cell: Any, dtype: str) -> JaxLayer | None:
    """`nnx.RNN`; the LSTM is the one with fused gates, `OptimizedLSTMCell`. Its GRU has no bias inside the reset."""
    from flax import nnx

    cells = {"elman": nnx.SimpleCell, "lstm": nnx.OptimizedLSTMCell, "gru": nnx.GRUCell}
    if function not in cells:
        return None
    kind, zeros = (
        jnp.dtype(dtype),
        nnx.initializers.zeros_init(),
    )  # the default takes a QR, which bfloat16 does not have
    options = {"dtype": kind, "param_dtype": kind, "recurrent_kernel_init": zeros, "rngs": nnx.Rngs(0)}
    inner = cells[function](cell.input_size, cell.hidden_size, **options)
    graph, _, rest = nnx.split(nnx.RNN(inner, time_major=True, rngs=nnx.Rngs(0)), nnx.Param, ...)

    def convert(p: Any) -> Any:
        biased, other = ("dense_h", "dense_i") if function == "lstm" else ("dense_i", "dense_h")
        kernels = {"dense_i": p.w_x, "dense_h": p.w_h}
        return {"cell": {biased: {"kernel": kernels[biased], "bias": p.b}, other: {"kernel": kernels[other]}}}

    def apply(weights: Any, xs: jax.Array) -> Any:
        fresh = jax.tree.map(lambda a: a, rest)  # of this trace
        return nnx.merge(graph, nnx.State(weights), fresh)(xs)

    return JaxLayer(apply=apply, convert=convert, lacks=("b_n",))


def flax_linen(function: str, cell: Any, dtype: str) -> JaxLayer | None:
    """`linen.RNN`; the LSTM is `OptimizedLSTMCell`."""
    from flax import linen

    cells = {"elman": linen.SimpleCell, "lstm": linen.OptimizedLSTMCell, "gru": linen.GRUCell}
    if function not in cells:
        return None
    kind, zeros = jnp.dtype(dtype), linen.initializers.zeros_init()
    inner = cells[function](cell.hidden_size, dtype=kind, param_dtype=kind, recurrent_kernel_init=zeros)
    layer = linen.RNN(inner, time_major=True)

    def convert(p: Any) -> Any:
        if function == "elman":
            return {"i": {"kernel": p.w_x, "bias": p.b}, "h": {"kernel": p.w_h}}
        gates = "ifgo" if function == "lstm" else "rzn"
        w_x, w_h, b = (dict(zip(gates, jnp.split(w, len(gates), -1))) for w in (p.w_x, p.w_h, p.b))
        if function == "lstm":
            into = {f"i{gate}": {"kernel": w_x[gate]} for gate in gates}
            return into | {f"h{gate}": {"kernel": w_h[gate], "bias": b[gate]} for gate in gates}
        into = {f"i{gate}": {"kernel": w_x[gate], "bias": b[gate]} for gate in gates}
        past = {f"h{gate}": {"kernel": w_h[gate]} for gate in gates}
        return into | past | {"hn": {"kernel": w_h["n"], "bias": p.b_n}}

    def apply(weights: Any, xs: jax.Array) -> Any:
        return layer.apply({"params": {"cell": weights}}, xs)

    return JaxLayer(apply=apply, convert=convert)


def haiku(function: str, cell: Any, dtype: str) -> JaxLayer | None:
    """`hk.dynamic_unroll`. Its plain network has ReLU and no other, its GRU resets before the product."""
    import haiku as hk

    cores = {
        "elman": lambda: hk.VanillaRNN(cell.hidden_size, double_bias=False),
        "lstm": lambda: hk.LSTM(cell.hidden_size),
        "gru": lambda: hk.GRU(cell.hidden_size),
    }
    if function not in cores:
        return None

    def run(xs: jax.Array) -> Any:
        core = cores[function]()
        state = jax.tree.map(lambda a: a.astype(xs.dtype), core.initial_state(xs.shape[1]))
        return hk.dynamic_unroll(core, xs, state)[0]

    def convert(p: Any) -> Any:
        if function == "elman":
            return {"vanilla_rnn/linear": {"w": p.w_x, "b": p.b}, "vanilla_rnn/linear_1": {"w": p.w_h}}
        if function == "lstm":  # i g f o, and it adds 1 to the forget gate itself
            w = blocks(jnp.concatenate([p.w_x, p.w_h]), (0, 2, 1, 3))
            one = jnp.repeat(jnp.array([0, 0, 1, 0], p.b.dtype), cell.hidden_size)
            return {"lstm/linear": {"w": w, "b": blocks(p.b, (0, 2, 1, 3)) - one}}
        sign = jnp.repeat(jnp.array([-1, 1, 1], p.b.dtype), cell.hidden_size)  # z r n, and z lets the new in
        return {"gru": {name: sign * blocks(w, (1, 0, 2)) for name, w in (("w_i", p.w_x), ("w_h", p.w_h), ("b", p.b))}}

    pure = hk.without_apply_rng(hk.transform(run))
    other = {"elman": "elman, ReLU", "gru": "gru, reset before"}.get(function)
    return JaxLayer(apply=pure.apply, convert=convert, function=other)


def equinox(function: str, cell: Any, dtype: str) -> JaxLayer | None:
    """The scan that its documentation shows, over its cells; `jax.vmap` over the batch."""
    import equinox as eqx

    cells = {"lstm": eqx.nn.LSTMCell, "gru": eqx.nn.GRUCell}
    if function not in cells:
        return None
    inner = cells[function](cell.input_size, cell.hidden_size, dtype=jnp.dtype(dtype), key=jax.random.key(0))
    names = ("weight_ih", "weight_hh", "bias") + (("bias_n",) if function == "gru" else ())

    def convert(p: Any) -> Any:
        return (p.w_x.T, p.w_h.T, p.b) + ((p.b_n,) if function == "gru" else ())

    def apply(weights: Any, xs: jax.Array) -> jax.Array:
        layer = eqx.tree_at(lambda cell: [getattr(cell, name) for name in names], inner, list(weights))

        def one(xs: jax.Array) -> jax.Array:
            def step(state: Any, x: jax.Array) -> Any:
                state = layer(x, state)
                return state, state[0] if function == "lstm" else state

            zero = jnp.zeros(cell.hidden_size, xs.dtype)
            return lax.scan(step, (zero, zero) if function == "lstm" else zero, xs)[1]

        return jax.vmap(one, in_axes=1, out_axes=1)(xs)

    return JaxLayer(apply=apply, convert=convert)


def keras(function: str, cell: Any, dtype: str) -> JaxLayer | None:
    """Keras 3 on JAX, `stateless_call` of its layers; batch first, as it has no other layout."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras

    if keras.backend.backend() != "jax":
        raise RuntimeError(f"Keras runs on {keras.backend.backend()}: set KERAS_BACKEND=jax")
    layers = {"elman": keras.layers.SimpleRNN, "lstm": keras.layers.LSTM, "gru": keras.layers.GRU}
    if function not in layers:
        return None
    layer = layers[function](cell.hidden_size, return_sequences=True, dtype=dtype, recurrent_initializer="zeros")
    layer.build((None, None, cell.input_size))
    fixed = [variable.value for variable in layer.non_trainable_variables]

    def convert(p: Any) -> Any:
        if function != "gru":
            return [p.w_x, p.w_h, p.b]
        order = (1, 0, 2)  # z r n
        inside = jnp.concatenate([jnp.zeros(2 * cell.hidden_size, p.b.dtype), p.b_n])
        return [blocks(p.w_x, order), blocks(p.w_h, order), jnp.stack([blocks(p.b, order), inside])]

    def apply(weights: Any, xs: jax.Array) -> Any:
        return layer.stateless_call(weights, fixed, xs)[0]

    return JaxLayer(apply=apply, convert=convert, batch_first=True)


def cudnn(function: str, cell: Any, dtype: str) -> JaxLayer | None:
    """`jax.experimental.rnn`: cuDNN's LSTM, float32 on an NVIDIA GPU alone; batch first, as it has no other layout."""
    if function != "lstm" or dtype != "float32" or jax.default_backend() != "gpu":
        return None
    from jax.experimental import rnn

    def apply(weights: Any, xs: jax.Array) -> jax.Array:
        batch, time, size = xs.shape
        zero = jnp.zeros((1, batch, cell.hidden_size), xs.dtype)
        lengths = jnp.full(batch, time, jnp.int32)
        lstm: Any = rnn.lstm
        return lstm(xs, zero, zero, weights, lengths, size, cell.hidden_size, 1, 0.0, False)[0]

    return JaxLayer(apply=apply, convert=cudnn_weights, batch_first=True)


def cudnn_weights(p: Any) -> Any:
    """One vector: PyTorch's matrices, then its two biases."""
    return jnp.concatenate([p.w_x.T.ravel(), p.w_h.T.ravel(), p.b, jnp.zeros_like(p.b)])


JAX_PEERS: dict[str, Callable[[str, Any, str], JaxLayer | None]] = {
    "flax-nnx": flax_nnx,
    "flax-linen": flax_linen,
    "haiku": haiku,
    "equinox": equinox,
    "keras": keras,
    "jax-cudnn": cudnn,
    "plain-scan": plain,
}
