"""Every cell and layer, one row each, and random parameters, inputs and states for them."""

from typing import Any

import jax
import numpy as np

import jrnn
from jrnn.activations import Clipped
from jrnn.arrays import is_key

INPUT, HIDDEN = 3, 4

CELLS: dict[str, jrnn.Cell] = {
    "elman-tanh": jrnn.Elman(INPUT, HIDDEN),
    "elman-relu": jrnn.Elman(INPUT, HIDDEN, activation="relu"),
    "jordan": jrnn.Jordan(INPUT, HIDDEN, 2, output_activation="sigmoid"),
    "lstm": jrnn.LSTM(INPUT, HIDDEN),
    "lstm-without-bias": jrnn.LSTM(INPUT, HIDDEN, bias=False),
    "lstm-softsign": jrnn.LSTM(INPUT, HIDDEN, activation="soft_sign", gate_activation="hard_sigmoid"),
    "lstm-peephole": jrnn.PeepholeLSTM(INPUT, HIDDEN),
    "lstm-projected": jrnn.ProjectedLSTM(INPUT, HIDDEN, 2),
    "lstm-coupled": jrnn.CoupledLSTM(INPUT, HIDDEN),
    "lstm-coupled-clipped": jrnn.CoupledLSTM(
        INPUT,
        HIDDEN,
        peepholes=True,
        activation=Clipped("tanh", 0.8),
        gate_activation=Clipped("sigmoid", 0.8),
        cell_activation="soft_sign",
    ),
    "gru-after": jrnn.GRU(INPUT, HIDDEN),
    "gru-without-bias": jrnn.GRU(INPUT, HIDDEN, bias=False),
    "gru-softsign": jrnn.GRU(INPUT, HIDDEN, activation="soft_sign", gate_activation="hard_sigmoid"),
    "gru-before": jrnn.GRU(INPUT, HIDDEN, reset_after=False),
    "ctrnn": jrnn.CTRNN(INPUT, HIDDEN, tau=3.0),
    "ctrnn-learn-tau": jrnn.CTRNN(INPUT, HIDDEN, tau=(2.0, 3.0, 4.0, 5.0), learn_tau=True),
    "ctrnn-dt-input": jrnn.CTRNN(INPUT, HIDDEN, tau=2.0, dt=None),
    "ctrnn-noise": jrnn.CTRNN(INPUT, HIDDEN, tau=3.0, noise=0.3),
    "ctrnn-everything": jrnn.CTRNN(INPUT, HIDDEN, tau=2.0, learn_tau=True, dt=None, noise=0.3),
    "conv-gru": jrnn.ConvGRU((4, 3, 2), 2, 3, strides=(2, 1)),
    "conv-lstm": jrnn.ConvLSTM((5, 2), 2, 2, peepholes=True, padding="valid", dilation=2),
    "conv-elman": jrnn.Convolutional(jrnn.Elman(2, 1), (2, 3, 2), 2, recurrent_kernel_size=(1, 3, 2)),
    "learned-state": jrnn.LearnedState(jrnn.LSTM(INPUT, HIDDEN)),
    "recurrent-dropout": jrnn.RecurrentDropout(jrnn.GRU(INPUT, HIDDEN), 0.4),
    "parametrized": jrnn.Parametrized(jrnn.LSTM(INPUT, HIDDEN), jrnn.parametrizations.DalesLaw(0.5)),
    "zoneout": jrnn.Zoneout(jrnn.LSTM(INPUT, HIDDEN), (0.2, 0.5)),
}

KINDS = (
    "jordan", "lstm-peephole", "lstm-projected", "gru-before", "ctrnn-everything", "conv-gru", "learned-state", "parametrized",
    "zoneout",
)  # fmt: skip
"""Cells that no other stands for: a product, noise, a time step, a parameter or a wrapper where the others have none."""

LAYERS: dict[str, jrnn.Layer] = {
    "recurrent": jrnn.Recurrent(jrnn.GRU(INPUT, HIDDEN)),
    "recurrent-unrolled": jrnn.Recurrent(jrnn.LSTM(INPUT, HIDDEN), engine=jrnn.Scan(unroll=4)),
    "linear-solve": jrnn.Recurrent(
        jrnn.PeepholeLSTM(INPUT, HIDDEN), engine=jrnn.Scan(gradient=jrnn.LinearSolve(tile=2))
    ),
    "checkpointed": jrnn.Recurrent(jrnn.GRU(INPUT, HIDDEN), engine=jrnn.Scan(gradient=jrnn.Checkpointed(every=2))),
    "reverse": jrnn.Recurrent(jrnn.LSTM(INPUT, HIDDEN), reverse=True),
    "bidirectional": jrnn.Bidirectional(
        jrnn.Recurrent(jrnn.GRU(INPUT, HIDDEN)), jrnn.Recurrent(jrnn.Elman(INPUT, 2), reverse=True)
    ),
    "bidirectional-one-loop": jrnn.Bidirectional(
        jrnn.Recurrent(jrnn.CTRNN(INPUT, HIDDEN, tau=3.0, noise=0.3)),
        jrnn.Recurrent(jrnn.CTRNN(INPUT, HIDDEN, tau=3.0, noise=0.3), reverse=True),
        one_loop=True,
    ),
    "layered": jrnn.Layered(
        (jrnn.Recurrent(jrnn.CTRNN(INPUT, HIDDEN, noise=0.2)), jrnn.Recurrent(jrnn.GRU(HIDDEN, 2)))
    ),
    "residual": jrnn.Residual(jrnn.Recurrent(jrnn.PeepholeLSTM(INPUT, INPUT))),
    "dense": jrnn.Layered((jrnn.Recurrent(jrnn.GRU(INPUT, HIDDEN)), jrnn.Dense(HIDDEN, 2))),
    "layer-norm": jrnn.Layered((jrnn.LayerNorm(INPUT), jrnn.Recurrent(jrnn.Elman(INPUT, HIDDEN)))),
    "dropout": jrnn.Layered((jrnn.Dropout(0.4), jrnn.Recurrent(jrnn.Elman(INPUT, HIDDEN)))),
    "dropout-variational": jrnn.Layered((jrnn.Recurrent(jrnn.GRU(INPUT, HIDDEN)), jrnn.Dropout(0.4, variational=True))),
    "rnn-lstm": jrnn.rnn(jrnn.LSTM, input_size=INPUT, hidden_size=HIDDEN, num_layers=2, dropout=0.3),
    "rnn-gru-both-ways": jrnn.rnn(
        jrnn.GRU, input_size=INPUT, hidden_size=HIDDEN, num_layers=2, bidirectional=True, dropout=0.3
    ),
}

ALL = CELLS | LAYERS
OF_EACH_KIND = {name: CELLS[name] for name in KINDS} | LAYERS
"""For what depends on how a model is made, and not on what it computes."""

CANNOT_STREAM = ("reverse", "bidirectional", "bidirectional-one-loop", "rnn-gru-both-ways")


def key(seed: int) -> jax.Array:
    return jax.random.key(seed)


def normal(seed: int, *shape: int, scale: float = 1.0) -> jax.Array:
    """Normal float32 numbers from NumPy, which has nothing to compile, as has `device_put`; `jnp.asarray` has."""
    return jax.device_put((scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32))


def _drawn(shapes: Any, seed: int, scale: float) -> Any:
    leaves, structure = jax.tree.flatten(shapes)
    return jax.tree.unflatten(
        structure, [a if is_key(a) else normal(seed + i, *a.shape, scale=scale) for i, a in enumerate(leaves)]
    )


def random_params(model: Any, seed: int = 100) -> Any:
    """Parameters of which nothing is zero, so that biases and peepholes matter as much as the weights."""
    return _drawn(jax.eval_shape(model.init, key(0)), seed, 0.5)


def random_inputs(model: Any, *shape: int, seed: int = 200) -> jax.Array:
    """Inputs [*shape, input_size]; the last feature is positive where a cell reads its time step from it."""
    features = model.input_size if isinstance(model.input_size, tuple) else (model.input_size,)
    xs = np.array(normal(seed, *shape, *features))
    if getattr(model, "dt", 1.0) is None:
        xs[..., -1] = 0.1 + 0.2 * np.abs(xs[..., -1])
    return jax.device_put(xs)


def random_state(model: Any, params: Any, batch: tuple[int, ...] = (), *, seed: int = 300, noise: bool = True) -> Any:
    """A state of which nothing is zero; with keys for the cells that have noise, if `noise`."""
    return _drawn(model.initial_state(params, batch, key(seed) if noise else None), seed, 1.0)


def apply(model: Any, params: Any, xs: jax.Array, state: Any = None, **options: Any) -> tuple[Any, jax.Array]:
    """`unroll` for a cell, `apply` for a layer."""
    if isinstance(model, jrnn.Cell):
        return jrnn.unroll(model, params, xs, state, **options)
    return model.apply(params, xs, state, **options)


run = jax.jit(apply, static_argnames="reverse")
step = jax.jit(lambda model, params, state, x: model.step(params, state, x))


def floats(tree: Any) -> tuple[list[jax.Array], Any]:
    """The floating arrays of a tree, which can be differentiated, and the function that puts them back."""
    leaves, structure = jax.tree.flatten(tree)
    chosen = [a for a in leaves if not is_key(a)]

    def put_back(new: list[jax.Array]) -> Any:
        remaining = iter(new)
        return jax.tree.unflatten(structure, [a if is_key(a) else next(remaining) for a in leaves])

    return chosen, put_back


def cast(tree: Any, dtype: Any) -> Any:
    """By NumPy, as each shape of arrays would be a program."""
    return jax.tree.map(lambda a: a if is_key(a) else jax.device_put(np.asarray(a).astype(dtype)), tree)


def given(cell: Any, time: int = 6, rows: int = 3) -> tuple[Any, Any, Any]:
    """Parameters, inputs and a state before the first step, with keys where the cell draws noise."""
    params = random_params(cell)
    return params, random_inputs(cell, time, rows), cell.initial_state(params, (rows,), key(1))


def same(got: Any, want: Any, tolerance: float = 1e-5) -> None:
    """Both trees hold the same arrays, up to `tolerance` relative to the largest entry of each (at least 1)."""
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(want)):
        a, b = (np.asarray(jax.random.key_data(x) if is_key(x) else x) for x in (a, b))
        assert a.shape == b.shape, jax.tree_util.keystr(path)
        scale = max(1.0, np.abs(b).max(initial=0.0))
        np.testing.assert_allclose(
            a, b, rtol=0, atol=tolerance * scale, equal_nan=False, err_msg=jax.tree_util.keystr(path)
        )


def same_bits(got: Any, want: Any) -> None:
    """Both trees hold the same JAX arrays to the bit, of the same dtypes."""
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want)):
        assert isinstance(a, jax.Array)
        assert (a.dtype, a.shape, np.asarray(a).tobytes()) == (b.dtype, b.shape, np.asarray(b).tobytes())
