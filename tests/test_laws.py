"""Every case times every law."""

import jax
import laws
import pytest
from cases import ALL, CANNOT_STREAM, CELLS

CAUSAL = {name: model for name, model in ALL.items() if name not in CANNOT_STREAM}
COMPOSED = {name: ALL[name] for name in ("bidirectional", "layered", "residual")}
TABLE = [
    pytest.param(model, law, id=f"{law.__name__}-{name}")
    for group, models in ((laws.EVERY, ALL), (laws.STREAMED, CAUSAL), (laws.DERIVATIVES, CELLS | COMPOSED))
    for law in group
    for name, model in models.items()
]


@pytest.fixture(autouse=True, scope="module")
def quick_compilation():
    """Hundreds of small programs, each run once: most of the time would go into optimising them."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.mark.parametrize(("model", "law"), TABLE)
def test_law(model, law):
    law(model)
