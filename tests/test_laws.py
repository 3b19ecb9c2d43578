"""Every case times every law."""

import laws
import pytest
from cases import ALL, CANNOT_STREAM

TABLE = [
    pytest.param(model, law, id=f"{law.__name__}-{name}")
    for law in laws.EVERY + laws.STREAMED
    for name, model in ALL.items()
    if not (law in laws.STREAMED and name in CANNOT_STREAM)
]


@pytest.mark.parametrize(("model", "law"), TABLE)
def test_law(model, law):
    law(model)
