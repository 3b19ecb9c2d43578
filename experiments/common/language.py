"""What language models share: the loss of a window of a long text, and what they write as they learn."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.run import console
from jrnn import losses
from jrnn.decode import generate
from jrnn.models import LanguageModel
from jrnn.train import Observer, Record, TrainState


def window_loss(model: LanguageModel) -> Any:
    """Cross-entropy of a window, the state carried in from the window before: `loss(params, carry, window, key)`.

    A window has `inputs` and `targets`, [time, batch], and says by `first` whether its rows start here: see
    `experiments.data.windows`.
    """

    def loss(params: Any, carry: Any, window: Any, key: jax.Array | None) -> tuple[losses.Mean, Any]:
        fresh = model.initial_state(params, window.inputs.shape[1:])
        carry = jax.tree.map(lambda new, old: jnp.where(window.first, new, old), fresh, carry)
        state, logits = model.apply(params, window.inputs, carry, key=key)
        return losses.cross_entropy(logits, window.targets, None), state

    return loss


class Writer(Observer):
    """Shows what the model writes after each evaluation, `length` tokens after `start`, and keeps it in a file."""

    def __init__(
        self, model: LanguageModel, decode: Callable[[np.ndarray], str], path: Path, *, start: int, length: int
    ):
        self._model, self._decode, self._path = model, decode, path
        self._start, self._length = start, length
        self._generate = jax.jit(self._write)

    def _write(self, params: Any, key: jax.Array) -> jax.Array:
        step = functools.partial(self._model.step, params)
        first = jnp.int32(self._start)
        return generate(
            step, self._model.initial_state(params), first, key, length=self._length, temperature=0.8
        ).tokens

    def on_record(self, records: list[Record], state: TrainState) -> None:
        params = jax.device_put(state.params, jax.local_devices()[0])
        key = jax.random.fold_in(jax.random.key(0), records[-1].step)
        sample = self._decode(np.asarray(self._generate(params, key)))
        console.print(sample, style="dim", markup=False)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"--- step {records[-1].step}, validation {records[-1].valid:.4f}\n{sample}\n")
