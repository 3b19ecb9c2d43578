"""Every case times every law."""

import jax
import jax.numpy as jnp
import laws
import pytest
from cases import ALL, CANNOT_STREAM, CELLS, apply, cast, floats, random_inputs, random_params
from jax.test_util import check_grads

# Every law for these: a gated cell, one with products inside its update, one with noise and steps of its own length, one of
# convolutions, a wrapper with keys; a layer of each sort. The others go through few laws here, gradients among them, through
# test_streaming step by step, and by value through the oracles of NumPy, PyTorch and other libraries.
KINDS = (
    "lstm",
    "gru-before",
    "ctrnn-everything",
    "conv-gru",
    "zoneout",
    "checkpointed",
    "reverse",
    "bidirectional-one-loop",
    "layered",
    "residual",
    "dropout-variational",
    "rnn-gru-both-ways",
    "dense",
)
OF_A_KIND = {name: ALL[name] for name in KINDS}
DIFFERENTIATED = ("lstm", "ctrnn-everything", "conv-gru", "zoneout", "checkpointed", "layered")
FEW = (laws.models_are_plain_values, laws.dtypes_are_kept, laws.padding_is_absent)


def causal(models):
    return {name: model for name, model in models.items() if name not in CANNOT_STREAM}


TABLE = [
    pytest.param(model, law, id=f"{law.__name__}-{name}")
    for group, models in (
        (laws.EVERY, OF_A_KIND),
        (laws.STREAMED, causal(OF_A_KIND)),
        (laws.DERIVATIVES, {name: ALL[name] for name in DIFFERENTIATED}),
        (FEW, {name: model for name, model in ALL.items() if name not in OF_A_KIND}),
    )
    for law in group
    for name, model in models.items()
]


@pytest.mark.parametrize(("model", "law"), TABLE)
def test_law(model, law):
    law(model)


def test_the_reader_of_programs_sees_loops():
    """Of a gradient the loops of both directions: what is said of sums in loops is said of something."""
    cell = CELLS["gru-after"]
    gradient = jax.grad(lambda params, xs: jnp.sum(apply(cell, params, xs)[1]))
    compiled = jax.jit(gradient).lower(random_params(cell), random_inputs(cell, 5, 2)).compile().as_text()
    instructions = "\n".join(laws.in_loops(compiled))
    assert compiled.count("body=") == 2
    assert "dot(" in instructions or "dot_" in instructions or "custom-call" in instructions
    assert len(instructions) < len(compiled)


@pytest.mark.parametrize("name", ["lstm-peephole", "ctrnn-everything"])
def test_second_derivatives_are_those_of_finite_differences(name):
    """JAX's own checker, through lengths, resets and the reversed loop."""
    cell = CELLS[name]
    with jax.enable_x64(True):
        params, xs, state = cast(laws.example(cell), jnp.float64)
        leaves, put_back = floats((params, xs, state))
        marks = {"lengths": jnp.array([5, 3]), "reset": jnp.arange(10).reshape(5, 2) == 4, "reverse": True}

        def loss(leaves):
            return laws.weighted(apply(cell, *put_back(leaves), **marks))

        check_grads(jax.jit(loss), (leaves,), order=2, modes=("fwd", "rev"), rtol=1e-5)
