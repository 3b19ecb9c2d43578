"""Bits remembered: the sequences, a run from end to end, and the fixed points of one that has learnt it."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tyro", reason="the experiments extra is not installed")

from experiments import flip_flop
from experiments.flip_flop import Config, Sequences

pytestmark = pytest.mark.usefixtures("as_a_user")


def result(out):
    return json.loads((Path(out) / "result.json").read_text())["metrics"]


def test_what_shall_be_remembered_is_the_last_pulse():
    config = Config(bits=2, time=40, batch=3, rate=0.2)
    sequences = Sequences(config, 5)
    x, y = sequences[1]
    assert (x.shape, x.dtype) == ((40, 3, 2), np.float32)
    last = np.zeros((3, 2))
    for now, wanted in zip(x, y, strict=True):
        last = np.where(now != 0, now, last)
        np.testing.assert_array_equal(wanted, last)
    assert set(np.unique(x)) == {-1, 0, 1}
    assert set(np.unique(y)) == {-1, 1}
    np.testing.assert_array_equal(sequences[1].x, x)
    assert not np.array_equal(sequences[2].x, x)
    assert not np.array_equal(Sequences(config, 5, of=1)[1].x, x)


def test_a_run_from_end_to_end():
    flip_flop.main(["--smoke", "--cell", "lstm", "--bits", "3", "--out", "run"])
    assert Path("run/fixed_points.png").read_bytes().startswith(b"\x89PNG")
    found = result("run")
    assert 0 <= found["right"] <= 1
    assert found["starts that led to one"] <= 6
    assert sum(found["by unstable directions"].values()) == found["fixed points"]
    assert len(list(Path("run/tensorboard").glob("*.inside"))) == 1


@pytest.mark.usefixtures("optimised_compilation")
@pytest.mark.parametrize(("bits", "points"), [(2, [4, 4, 1]), (3, [8, 12, 6, 1])])
def test_bits_are_remembered_by_the_parts_of_a_cube(bits, points):
    """Vertices attract; edges, faces and the centre are unstable in one direction, two and three."""
    flip_flop.main(["--out", "run", "--bits", str(bits)])
    found = result("run")
    assert found["right"] > 0.999
    assert list(found["by unstable directions"].values()) == points
