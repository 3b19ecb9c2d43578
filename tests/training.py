"""A small language model, and how the tests train it."""

import functools

import jax
import numpy as np
import optax
import optax.contrib

import jrnn
from jrnn import losses
from jrnn.models import LanguageModel
from jrnn.train import fit, init_state, make_evaluate, make_step

MODEL = LanguageModel(5, jrnn.Layered((jrnn.Dropout(0.2, variational=True), jrnn.Recurrent(jrnn.GRU(4, 8)))))


ROWS = 4


def loss(params, carry, batch, key):
    state, logits = MODEL.apply(params, batch[:-1], carry, key=key)
    return losses.cross_entropy(logits, batch[1:], None), state


def no_dropout(params, carry, batch, key):
    return loss(params, carry, batch, None)


class Batches:
    """Rows that count up, so that there is something to learn."""

    def __getitem__(self, step):
        return (step * 6 + np.arange(7)[:, None] + np.arange(ROWS)) % 5


def start(optimizer, rows=ROWS):
    params = MODEL.init(jax.random.key(0))
    return init_state(params, optimizer, jax.random.key(1), MODEL.initial_state(params, (rows,)))


def close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-5, atol=1e-6), a, b)


compiled = functools.lru_cache(make_step)


evaluate = make_evaluate(loss)


def run(optimizer, *, steps=20, every=5, observers=(), patience=None, checkpoints=None, one_loss=loss, batches=None):
    return fit(
        compiled(one_loss, optimizer),
        start(optimizer),
        Batches() if batches is None else batches,
        steps=steps,
        every=every,
        evaluate=lambda params: evaluate(params, MODEL.initial_state(params, (ROWS,)), [Batches()[0]]),
        checkpoints=checkpoints,
        patience=patience,
        observers=observers,
    )


ADAM = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.01))
