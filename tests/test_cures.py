"""Cures for gradients that vanish and explode: the task, that each is what it says, and that clipping cures."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

pytest.importorskip("tyro", reason="the experiments extra is not installed")

from experiments import cures
from experiments.cures import CURES, Config

pytestmark = pytest.mark.usefixtures("as_a_user")


def test_the_task_is_to_add_the_marked_numbers():
    xs, sums = cures.sequences(jax.random.key(0), 2000, 11)
    numbers, marks = np.moveaxis(np.asarray(xs), -1, 0)
    assert xs.shape == (11, 2000, 2)
    assert set(np.unique(marks)) == {0.0, 1.0}
    np.testing.assert_array_equal(marks[:5].sum(0), 1)
    np.testing.assert_array_equal(marks[5:].sum(0), 1)
    np.testing.assert_allclose(sums, (numbers * marks).sum(0) * math.sqrt(1.5), rtol=1e-5)
    assert np.abs(numbers).max() <= 1
    assert np.var(sums) == pytest.approx(1, abs=0.1)
    assert (marks.mean(1) > 0.1).all()


@pytest.mark.parametrize("name", CURES)
def test_each_start_is_what_it_says(name):
    cure = CURES[name]
    cell = cure.cell(2, 6)
    params = cure.start(jax.random.key(1), cell, cell.init(jax.random.key(0)), 50)
    if "LSTM" in name:
        forget = np.asarray(params.b[6:12])
        if "chrono" in name:
            assert (forget >= 0).all()
            assert forget.max() > 1
        else:
            np.testing.assert_allclose(forget, 1 if "bias" in name else 0, atol=0 if "bias" in name else 0.5)
        return
    square = np.asarray(params.w_h @ params.w_h.T)
    scale = 0.1 if "small" in name else 1.0
    np.testing.assert_allclose(square, scale**2 * np.eye(6), atol=1e-5)
    if name in ("identity start", "no clipping", "clipping by norm", "clipping by value"):
        np.testing.assert_array_equal(params.w_h, np.eye(6))


def test_clipping_is_what_it_says():
    """Of the optimizers as far as Adam, which would hide it: by what they make of a long gradient."""
    gradient = {"a": jnp.array([30.0, -40.0]), "b": jnp.array([0.01])}
    by_norm, _ = optax.clip_by_global_norm(1.0).update(gradient, optax.EmptyState())
    assert optax.tree.norm(by_norm) == pytest.approx(1, rel=1e-5)
    moments = {}
    for name in ("no clipping", "clipping by value", "clipping by norm"):
        optimizer = cures.make_optimizer(CURES[name], 100)
        state = optimizer.update(gradient, optimizer.init(gradient))[1]
        moments[name] = optax.tree.get(state, "mu")["a"]
    np.testing.assert_allclose(moments["no clipping"], [3, -4], rtol=1e-4)
    np.testing.assert_allclose(moments["clipping by value"], [0.01, -0.01], rtol=1e-4)
    np.testing.assert_allclose(moments["clipping by norm"], [0.06, -0.08], rtol=1e-4)


@pytest.fixture
def in_other_threads():
    """JAX's own promotion rules there too: those of `as_a_user` hold in the thread of the test alone."""
    strict = {name: getattr(jax.config, name) for name in ("jax_numpy_dtype_promotion", "jax_numpy_rank_promotion")}
    jax.config.update("jax_numpy_dtype_promotion", "standard")
    jax.config.update("jax_numpy_rank_promotion", "allow")
    yield
    for name, value in strict.items():
        jax.config.update(name, value)


def test_a_short_sequence_is_learned_and_all_is_written(tmp_path, capsys, in_other_threads):
    """Every cure on sequences of ten; one of them until it is solved."""
    cures.main(["--smoke", "--out", "run"])
    metrics = json.loads((tmp_path / "run" / "result.json").read_text())["metrics"]
    assert set(metrics) == set(CURES)
    assert all(len(one["10"]["errors"]) == 1 for one in metrics.values())
    assert (tmp_path / "run" / "cures.png").read_bytes().startswith(b"\x89PNG")
    assert "| LSTM, chrono start | not in 50" in capsys.readouterr().out
    found = cures.learn(Config(hidden=16, steps=2000), CURES["clipping by norm"], 10)
    assert found.solved
    assert found.solved == cures.EVERY * len(found.errors) < 2000
    assert found.errors[-1] < cures.SOLVED <= min(found.errors[:-1])


def test_what_overflows_says_so():
    broken = cures.Found([1.0, math.inf], 0.0)
    assert (broken.solved, cures.words(broken, Config())) == (None, "overflow")
    assert cures.words(cures.Found([1.0, 0.05], 0.0), Config()) == "100"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lengths": (3,)}, r"--lengths is \(3,\); expected one or more of at least 4 steps"),
        ({"only": ("aspirin",)}, r"--only is \['aspirin'\]; expected some of no clipping, "),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(ValueError, match=message):
        Config(**options)
