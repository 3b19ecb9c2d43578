"""A program that trains as one of several processes: `python one_of_several.py WHICH OF PORT DIR WHAT`, a line of JSON out.

WHAT: `whole` is not disturbed; `killed` dies on the second process before step 13, `stopped` gets SIGTERM there before step 17;
`unequal` has another number of rows on it.
"""

import json
import os
import signal
import sys

import jax

which, of, port = (int(argument) for argument in sys.argv[1:4])
directory, what = sys.argv[4:6]
jax.config.update("jax_num_cpu_devices", 2 // of)
if of > 1:
    jax.distributed.initialize(f"localhost:{port}", of, which)

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

import jrnn  # noqa: E402
from jrnn import losses  # noqa: E402
from jrnn.checkpoint import Checkpoints  # noqa: E402
from jrnn.data import batch_axes, bucketed  # noqa: E402
from jrnn.models import LanguageModel  # noqa: E402
from jrnn.train import (  # noqa: E402
    Observer,
    ProcessLost,
    fit,
    init_state,
    make_evaluate,
    make_step,
    of_first,
    own_part,
    own_rows,
)

ROWS = 4
MODEL = LanguageModel(5, jrnn.Layered((jrnn.Dropout(0.2), jrnn.Recurrent(jrnn.GRU(4, 8)))))
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.01))


def loss(params, carry, batch, key):
    state, logits = MODEL.apply(params, batch[:-1], carry, key=key)
    return losses.cross_entropy(logits, batch[1:], None), state


class Batches:
    def __getitem__(self, step):
        if (what, which, step) == ("killed", 1, 13):
            os.kill(os.getpid(), signal.SIGKILL)
        if (what, which, step) == ("stopped", 1, 17):
            os.kill(os.getpid(), signal.SIGTERM)
        return own_rows((step * 6 + np.arange(7)[:, None] + np.arange(ROWS)) % 5)


class Watcher(Observer):
    def __init__(self):
        self.seen = []

    def on_step(self, step, loss):
        self.seen.append(step)

    def on_record(self, records, state):
        assert all(leaf.is_fully_addressable for leaf in jax.tree.leaves(state))


def bucketed_step():
    """What a process has of batches, and what all of them learn from them."""
    random = np.random.default_rng(0)
    examples = [tuple(random.normal(size=(time, 2)).astype("f4") for _ in "xy") for time in (3, 2, 3, 1)]
    batch = bucketed(examples, batch=4, shapes=1)[0]
    layer = jrnn.Recurrent(jrnn.Elman(2, 2))

    def error(params, carry, batch, key):
        (xs, ys), steps = batch.data, np.arange(len(batch.data[0]))[:, None]
        real = jnp.broadcast_to((steps < batch.lengths)[..., None], ys.shape)
        return losses.squared_error(layer.apply(params, xs, lengths=batch.lengths)[1], ys, real), carry

    axes = batch_axes(examples[0])
    state = init_state(layer.init(jax.random.key(0)), optax.sgd(0.1), jax.random.key(0))
    if what == "unequal" and which:
        batch = jax.tree.map(lambda leaf, axis: leaf.take([0], axis), batch, axes)
    state, _ = make_step(error, optax.sgd(0.1), batch_axes=axes)(state, batch)
    return {
        "places": batch.places.tolist(),
        "b": np.asarray(state.params.b).tolist(),
        "evaluated": make_evaluate(error, batch_axes=axes)(state.params, (), [batch]),
    }


def main():
    said = bucketed_step()
    watcher = Watcher()
    params = MODEL.init(jax.random.key(0))
    state = init_state(params, OPTIMIZER, jax.random.key(1), MODEL.initial_state(params, (ROWS // of,)))
    evaluate = make_evaluate(loss)
    held_out = [own_rows((np.arange(9)[:, None] + np.arange(ROWS)) % 5)]
    try:
        fitted = fit(
            make_step(loss, OPTIMIZER),
            state,
            Batches(),
            steps=20,
            every=5,
            evaluate=lambda params: evaluate(params, MODEL.initial_state(params, (ROWS // of,)), held_out),
            checkpoints=Checkpoints(directory),
            observers=[watcher],
        )
    except ProcessLost as error:
        print(json.dumps({"lost": str(error)}), flush=True)
        os._exit(3)  # else JAX waits 100 s for the other one
    finals = [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(fitted.state.params)]
    carried = [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(own_part(fitted.state.carry))]
    records = [[record.step, record.loss, record.valid] for record in fitted.records]
    said |= {"stopped": fitted.stopped, "records": records, "params": finals, "carry": carried, "watched": watcher.seen}
    print(json.dumps(said | {"first": of_first(which)}), flush=True)


try:
    main()
except ValueError as error:
    print(json.dumps({"error": str(error)}), flush=True)
