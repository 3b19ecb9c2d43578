"""The loss of a language model whose state is carried from one window of a long text to the next."""

from typing import Any

import jax
import jax.numpy as jnp

from jrnn import losses
from jrnn.models import LanguageModel


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
