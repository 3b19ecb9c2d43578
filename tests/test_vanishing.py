"""Gradients by lag, network by network: what is measured, the picture."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tyro", reason="the experiments extra is not installed")

from experiments import vanishing
from experiments.vanishing import Config

pytestmark = pytest.mark.usefixtures("as_a_user")


def test_a_run_from_end_to_end():
    vanishing.main(["--smoke", "--out", "run"])
    found = json.loads(Path("run/result.json").read_text())["metrics"]
    assert Path("run/vanishing.png").read_bytes().startswith(b"\x89PNG")
    factors = found["factor"]
    assert len(factors) == 15
    assert all(factors[f"radius {radius}"] < factors[f"radius {radius}, no tanh"] for radius in (0.5, 0.9, 1.1, 1.5))
    assert factors["LSTM, forget bias 0"] < factors["LSTM, forget bias 1"] < factors["LSTM, forget bias 3"]
    singular = found["largest singular value"]
    assert all(singular[f"radius {radius}"] >= radius for radius in (0.5, 0.9, 1.1, 1.5))


@pytest.mark.parametrize(
    ("factor", "said"), [(0.5, "1/1000 after 10"), (1.1, "1000 times after 72"), (1.0, "neither"), (0.999, "neither")]
)
def test_factors_in_words(factor, said):
    reach = vanishing.Reach(vanishing.simple(Config(hidden=3), 0.9, "tanh"), np.ones(3), factor)
    with np.errstate(divide="ignore"):
        assert vanishing.words(reach).endswith(said)
