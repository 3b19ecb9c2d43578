"""Influence balancing and the copy task: the tasks, small runs, mistakes."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("tyro", reason="the experiments extra is not installed")

import jrnn
from experiments import copy_online, influence

pytestmark = pytest.mark.usefixtures("as_a_user")


def test_the_parameter_helps_at_once_and_harms_in_the_long_run():
    """Against the matrix of the recurrence in NumPy."""
    units = influence.UP + influence.DOWN
    matrix = np.eye(units) / 2 + np.eye(units, k=1) / 2
    signs = np.array([1] * influence.UP + [-1] * influence.DOWN)
    cell, params = influence.Balance(), influence.Params(jnp.float32(0.3))
    _, ys = jrnn.unroll(cell, params, jnp.zeros((60, 1)))
    x = np.zeros(units)
    for y in ys:
        x = matrix @ x + 0.3 * signs
        np.testing.assert_allclose(y[0], x[0], rtol=1e-5, atol=1e-5)
    assert ys[0, 0] > 0 > jrnn.unroll(cell, params, jnp.zeros((500, 1)))[1][-1, 0]
    steady = np.linalg.solve(np.eye(units) - matrix, signs)[0]
    assert steady == pytest.approx(-6)  # so that theta = -1/6 has the first unit at 1


def test_exact_learners_go_down_and_short_ones_up(tmp_path):
    influence.main(["--smoke", "--out", "run"])
    result = json.loads((tmp_path / "run" / "result.json").read_text())["metrics"]
    assert (
        result["RTRL"]["loss"] < 1.125 < result["truncated to 1 step"]["loss"] < result["truncated to 10 steps"]["loss"]
    )
    assert result["RTRL"]["theta"] == pytest.approx(result["truncated to 100 steps"]["theta"], abs=1e-4)
    assert (tmp_path / "run" / "influence.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_to_be_written_is_what_was_read():
    word = copy_online.draw_words(jax.random.key(0), jnp.int32(7), 5)
    assert ((word.length >= 2) & (word.length <= 7)).all()
    for row, length in enumerate(np.asarray(word.length)):
        steps = [copy_online.read(word, jnp.full(5, place)) for place in range(2 * length + 1)]
        tokens, bits, writes = (np.array([step[i][row] for step in steps]) for i in range(3))
        assert tokens.argmax(1).tolist() == [
            *np.asarray(word.bits[row, :length]),
            copy_online.SIGN,
            *[copy_online.BLANK] * length,
        ]
        assert writes.tolist() == [False] * (length + 1) + [True] * length
        assert bits[length + 1 :].tolist() == np.asarray(word.bits[row, :length]).tolist()


def test_several_learners_copy(tmp_path):
    copy_online.main(["--smoke", "--out", "run"])
    result = json.loads((tmp_path / "run" / "result.json").read_text())["metrics"]
    assert set(result) == {"BPTT", "SnAp-1", "UORO"}
    assert all(1 < one["bits"] < copy_online.LONGEST for one in result.values())
    assert (tmp_path / "run" / "copy.png").read_bytes().startswith(b"\x89PNG")


def test_mistakes(capsys):
    with pytest.raises(SystemExit):
        copy_online.main(["--learners", "rtrl"])
    assert "--learners is 'rtrl'; expected some of BPTT" in " ".join(capsys.readouterr().err.split())
