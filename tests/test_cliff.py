"""The cliff: the unit's loss, descent over it, the picture."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("tyro", reason="the experiments extra is not installed")

from experiments import cliff
from experiments.cliff import Config
from experiments.descents import unit

pytestmark = pytest.mark.usefixtures("as_a_user")


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def ends(w, b, steps):
    """The unit in NumPy."""
    a = sigmoid(0.5)
    for _ in range(steps):
        a = sigmoid(w * a + b)
    return a


@pytest.mark.parametrize(("w", "b"), [(5.0, -1.5), (4.5, -2.5), (0.0, 1.0)])
def test_the_loss_is_that_of_the_unit(w, b):
    for steps in (1, 50):
        assert float(unit.loss(jnp.array([w, b]), steps)) == pytest.approx((ends(w, b, steps) - 0.7) ** 2, abs=1e-5)


def test_the_edge_is_where_the_unit_falls():
    w = np.array([5.0, 5.5, 6.0])
    b = np.asarray(unit.edge(jnp.asarray(w, jnp.float32), 50), np.float64)
    for one, at in zip(w, b, strict=True):
        assert ends(one, at - 0.01, 50) < 0.35
        assert ends(one, at + 0.01, 50) > 0.65


def test_clipping_keeps_what_plain_descent_throws_away(tmp_path):
    cliff.main(["--smoke", "--out", "run"])
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    plain, clipped = (result["metrics"][name] for name in ("plain", "clipped"))
    assert plain["longest_step"] > 1
    assert clipped["longest_step"] == pytest.approx(0.3 * 0.2, rel=1e-4)
    assert min(plain["largest_gradient"], clipped["largest_gradient"]) > 5
    assert clipped["loss"] < 0.01 < plain["loss"]
    assert (tmp_path / "run" / "cliff.png").read_bytes().startswith(b"\x89PNG")


def test_without_a_jump_there_is_a_picture_too(tmp_path):
    cliff.main(["--smoke", "--steps", "1", "--w", "1", "--b", "0", "--out", "run"])
    assert (tmp_path / "run" / "cliff.png").is_file()


def test_mistakes(capsys):
    with pytest.raises(SystemExit):
        cliff.main(["--clip", "0"])
    assert "--clip is 0.0; expected more than 0" in capsys.readouterr().err
    assert Config(clip=0.1).clip == 0.1
