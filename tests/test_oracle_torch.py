"""PyTorch's own networks, on the same weights: outputs, final states, and every gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jrnn

torch = pytest.importorskip("torch", reason="the oracle is PyTorch, which is not installed: pip install jrnn[oracle]")

TIME, BATCH, INPUT, HIDDEN, PROJ = 5, 3, 4, 6, 2
LENGTHS = [3, 5, 1]

CELLS = {
    "rnn-tanh": (torch.nn.RNN, {"nonlinearity": "tanh"}, jrnn.Elman, {"activation": "tanh"}),
    "rnn-relu": (torch.nn.RNN, {"nonlinearity": "relu"}, jrnn.Elman, {"activation": "relu"}),
    "lstm": (torch.nn.LSTM, {}, jrnn.LSTM, {}),
    "gru": (torch.nn.GRU, {}, jrnn.GRU, {}),
    "lstm-projected": (torch.nn.LSTM, {"proj_size": PROJ}, jrnn.ProjectedLSTM, {"proj_size": PROJ}),
}
STATES = {
    jrnn.Elman: jrnn.cells.elman.ElmanState,
    jrnn.LSTM: jrnn.cells.lstm.LSTMState,
    jrnn.GRU: jrnn.cells.gru.GRUState,
    jrnn.ProjectedLSTM: jrnn.cells.lstm.ProjectedLSTMState,
}


def directions(bidirectional):
    return ["", "_reverse"] if bidirectional else [""]


def weights_of(net, layer, direction, take):
    """The arrays of one layer and direction by PyTorch's names, `take` of each: its value or its gradient."""
    suffix = f"_l{layer}{direction}"
    return {n.removesuffix(suffix): take(p) for n, p in net.named_parameters() if n.endswith(suffix)}


def converted(cell, w):
    """PyTorch's weights as the parameters of `cell`: transposed, the two biases added up."""
    if isinstance(cell, jrnn.GRU):
        h = cell.hidden_size
        b = w["bias_ih"] + np.concatenate([w["bias_hh"][: 2 * h], np.zeros(h, w["bias_hh"].dtype)])
        return jrnn.cells.gru.GRUParams(w["weight_ih"].T, w["weight_hh"].T, b, w["bias_hh"][2 * h :])
    b = w["bias_ih"] + w["bias_hh"]
    if isinstance(cell, jrnn.ProjectedLSTM):
        return jrnn.cells.lstm.ProjectedLSTMParams(w["weight_ih"].T, w["weight_hh"].T, b, w["weight_hr"].T)
    params = jrnn.cells.lstm.LSTMParams if isinstance(cell, jrnn.LSTM) else jrnn.cells.elman.ElmanParams
    return params(w["weight_ih"].T, w["weight_hh"].T, b)


def converted_gradient(cell, g):
    """The gradient of a sum is the gradient of each of its terms, so PyTorch's two biases must have the same."""
    same_for_both = 2 * cell.hidden_size if isinstance(cell, jrnn.GRU) else None
    np.testing.assert_allclose(g["bias_ih"][:same_for_both], g["bias_hh"][:same_for_both], rtol=1e-5, atol=1e-5)
    halved = {name: a / 2 if name.startswith("bias") else a for name, a in g.items()}
    if isinstance(cell, jrnn.GRU):
        for name in ("bias_ih", "bias_hh"):
            halved[name] = np.concatenate([halved[name][:same_for_both], g[name][same_for_both:]])
    return converted(cell, halved)


def each_direction(layer):
    return [layer.forward, layer.backward] if isinstance(layer, jrnn.Bidirectional) else [layer]


def paired(both):
    return jrnn.layers.Directions(*both) if len(both) == 2 else both[0]


def stack_of(stack, one):
    """`one(cell, layer, direction, index)` for each cell, in the structure of the stack's parameters and states."""
    out, index = [], 0
    for depth, layer in enumerate(stack.layers):
        both = each_direction(layer)
        names = directions(len(both) == 2)
        out.append(paired([one(part.cell, depth, name, index + i) for i, (part, name) in enumerate(zip(both, names))]))
        index += len(both)
    return tuple(out)


def close(got, want, tolerance):
    leaves = jax.tree_util.tree_leaves_with_path(got)
    assert len(leaves) == len(jax.tree.leaves(want))
    for (path, a), b in zip(leaves, jax.tree.leaves(want)):
        a, b = np.asarray(a), np.asarray(b)
        assert a.dtype == b.dtype
        scale = np.abs(b).max()
        assert scale > 0
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale, err_msg=jax.tree_util.keystr(path))


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("layers", "bidirectional", "packed"),
    [(1, False, True), (1, True, False), (2, False, False), (2, True, True), (3, False, True), (3, True, True)],
    ids=str,
)
@pytest.mark.parametrize("name", CELLS)
def test_values_and_gradients_are_those_of_torch(name, layers, bidirectional, packed, dtype):
    theirs, their_options, ours, our_options = CELLS[name]
    torch.manual_seed(0)
    net = theirs(INPUT, HIDDEN, layers, bidirectional=bidirectional, **their_options).to(getattr(torch, dtype))
    stack = jrnn.rnn(
        ours, input_size=INPUT, hidden_size=HIDDEN, num_layers=layers, bidirectional=bidirectional, **our_options
    )
    rng = np.random.default_rng(0)
    cells = layers * (1 + bidirectional)
    output = our_options.get("proj_size", HIDDEN)
    x = rng.standard_normal((TIME, BATCH, INPUT)).astype(dtype)
    starts = [rng.standard_normal((cells, BATCH, size)).astype(dtype) for size in (output, HIDDEN)]
    starts = starts if theirs is torch.nn.LSTM else starts[:1]
    lengths = LENGTHS if packed else None

    # PyTorch: a loss to which every output and final state contributes, each with a weight of its own.
    tx = torch.tensor(x, requires_grad=True)
    t_starts = [torch.tensor(s, requires_grad=True) for s in starts]
    fed = torch.nn.utils.rnn.pack_padded_sequence(tx, LENGTHS, enforce_sorted=False) if packed else tx
    t_ys, t_final = net(fed, tuple(t_starts) if len(t_starts) == 2 else t_starts[0])
    t_ys = torch.nn.utils.rnn.pad_packed_sequence(t_ys)[0] if packed else t_ys
    t_final = t_final if isinstance(t_final, tuple) else (t_final,)
    weights = [rng.standard_normal(a.shape).astype(dtype) for a in (t_ys, *t_final)]
    sum((a * torch.tensor(w)).sum() for a, w in zip((t_ys, *t_final), weights)).backward()

    with jax.enable_x64(dtype == "float64"):

        def state_from(arrays):
            return stack_of(stack, lambda cell, depth, way, i: STATES[ours](*(a[i] for a in arrays)))

        def params_from(take, convert):
            return stack_of(stack, lambda cell, depth, way, i: convert(cell, weights_of(net, depth, way, take)))

        params = params_from(lambda p: p.detach().numpy(), converted)
        params, state, xs = jax.tree.map(jnp.asarray, (params, state_from(starts), x))

        def loss(params, xs, state):
            final, ys = stack.apply(params, xs, state, lengths=lengths and jnp.array(lengths))
            parts = jax.tree.map(lambda a, w: jnp.sum(a * w), (final, ys), (state_from(weights[1:]), weights[0]))
            return sum(jax.tree.leaves(parts)), (final, ys)

        (_, (final, ys)), grads = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))(params, xs, state)
        tolerance = 1e-5 if dtype == "float32" else 1e-10
        close(ys, t_ys.detach().numpy(), tolerance)
        close(final, state_from([a.detach().numpy() for a in t_final]), tolerance)
        close(grads[0], params_from(lambda p: p.grad.numpy(), converted_gradient), tolerance)
        close(grads[1], tx.grad.numpy(), tolerance)
        close(grads[2], state_from([s.grad.numpy() for s in t_starts]), tolerance)
