"""Random networks: theory by quadrature, two runs side by side, the picture."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

pytest.importorskip("tyro", reason="the experiments extra is not installed")

from experiments import chaos
from experiments.chaos import Config

pytestmark = pytest.mark.usefixtures("as_a_user")


def test_a_run_from_end_to_end():
    chaos.main(["--smoke", "--out", "run"])
    found = json.loads(Path("run/result.json").read_text())["metrics"]
    assert Path("run/chaos.png").read_bytes().startswith(b"\x89PNG")
    assert list(found["largest exponent"]) == ["theory", "5 units"]
    assert found["largest exponent"]["5 units"]["0.5"] < 0
    assert found["spectrum"]["units"] == 4


@pytest.mark.parametrize(
    ("gain", "exponent"),
    [(0.5, np.log(0.5)), (1.0, 0.0), (1.5, 0.0652), (2.0, 0.1547), (2.5, 0.2372), (3.0, 0.3103), (4.0, 0.4344)],
)
def test_mean_field_theory(gain, exponent):
    assert chaos.mean_field(gain) == pytest.approx(exponent, abs=1e-4)


def test_two_runs_part_as_fast_as_the_exponent_says():
    """In float64, over the steps in which their distance is small."""
    config = Config(hidden=(60,), steps=120)
    with jax.enable_x64(True):
        apart = chaos.separation(config, 3.0)
        assert apart[0] == pytest.approx(1e-8)
        rate = float(chaos.largest(config, 60, 3.0, config.seed).exponents[0])
    assert np.log(apart[25] / apart[0]) / 25 == pytest.approx(rate, abs=0.1)
    assert rate > 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [({"gains": (1.0, 0.0)}, "--gains is .*; expected one gain or more"), ({"hidden": ()}, "--hidden is .*one size or more")],
)  # fmt: skip
def test_options(options, message):
    with pytest.raises(ValueError, match=message):
        Config(**options)
