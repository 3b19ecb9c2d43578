"""int8 weights: what quantising promises, and what it costs a trained model."""

import importlib.util
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CELLS, HIDDEN, INPUT, apply, normal, random_inputs, random_params, run, same
from hypothesis import given
from hypothesis import strategies as st

import jrnn
from jrnn.interop.int8 import Int8, dequantize, quantize


@given(
    seed=st.integers(0, 2**16),
    rows=st.integers(1, 9),
    columns=st.integers(1, 5),
    scale=st.sampled_from([1e-30, 1.0, 1e30]),
)
def test_no_weight_moves_by_more_than_half_a_step(seed, rows, columns, scale):
    w = np.asarray(normal(seed, rows, columns)) * np.float32(scale)
    q = quantize(w)
    back = np.asarray(dequantize(q), np.float64)
    largest = np.abs(w.astype(np.float64)).max(0)
    assert q.values.dtype == jnp.int8
    assert (np.abs(np.asarray(q.values)).max(0) == 127).all()
    assert (np.abs(back - w) <= 0.5 * largest / 127 * (1 + 1e-5)).all()


@given(seed=st.integers(0, 2**16))
def test_columns_are_independent_and_signs_symmetric(seed):
    w = np.asarray(normal(seed, 6, 3))
    q = quantize(w)
    louder = quantize(w * np.array([1, 8, 1], np.float32))
    np.testing.assert_array_equal(louder.values, q.values)
    np.testing.assert_array_equal(louder.scale, q.scale * np.array([1, 8, 1], np.float32))
    np.testing.assert_array_equal(quantize(-w).values, -np.asarray(q.values))


def test_what_int8_can_hold_comes_back_exactly():
    w = jnp.array([[127.0, 0.0, -0.5], [-3.0, 0.0, 63.5], [0.0, 0.0, 1.0]])
    q = quantize({"w": w, "b": w[0], "count": jnp.arange(4).reshape(2, 2)})
    np.testing.assert_array_equal(dequantize(q)["w"], w)
    assert q["b"] is not None
    assert not isinstance(q["b"], Int8)
    np.testing.assert_array_equal(dequantize(q)["b"], w[0])
    np.testing.assert_array_equal(q["count"], [[0, 1], [2, 3]])
    assert isinstance(q["w"], Int8)


def test_params_keep_their_structure_and_dtype():
    cell = jrnn.GRU(INPUT, HIDDEN)
    for dtype in (jnp.bfloat16, jnp.float16, jnp.float32):
        params = jax.tree.map(lambda a, dtype=dtype: a.astype(dtype), random_params(cell))
        back = dequantize(quantize(params))
        assert jax.tree.structure(back) == jax.tree.structure(params)
        assert {leaf.dtype for leaf in jax.tree.leaves(back)} == {jnp.dtype(dtype)}
        for w, v in ((params.w_x, back.w_x), (params.w_h, back.w_h)):
            step = np.abs(np.asarray(w, np.float64)).max(0) / 127
            rounding = float(jnp.finfo(dtype).eps) * np.abs(np.asarray(w, np.float64)).max()
            assert (np.abs(np.asarray(w, np.float64) - np.asarray(v, np.float64)) <= 0.5 * step + rounding).all()
        np.testing.assert_array_equal(back.b, params.b)


def test_float64():
    with jax.enable_x64(True):
        w = np.random.default_rng(0).standard_normal((5, 3))
        back = dequantize(quantize(w))
        assert back.dtype == np.float64
        assert (np.abs(back - w) <= np.abs(w).max(0) / 254 * (1 + 1e-12)).all()


@pytest.mark.parametrize("name", CELLS)
def test_every_cell_runs_on_int8_weights(name):
    """Inside jit the int8 values are the arguments; the numbers are those of the rounded weights."""
    cell = CELLS[name]
    params = random_params(cell)
    quantised = quantize(params)
    xs = random_inputs(cell, 5, 2)
    got = jax.jit(lambda params: apply(cell, dequantize(params), xs))(quantised)
    same(got, run(cell, dequantize(quantised), xs))
    exact = run(cell, params, xs)[1]
    error = np.abs(got[1] - exact).max()
    assert 0 < error < 0.05 * np.abs(exact).max()
    assert any(leaf.dtype == jnp.int8 for leaf in jax.tree.leaves(quantised))


def test_weights_that_cannot_be_quantised():
    params = random_params(jrnn.LSTM(INPUT, HIDDEN))
    with pytest.raises(ValueError, match=r"params\.w_h holds NaN or infinity"):
        quantize(params._replace(w_h=params.w_h.at[0, 0].set(jnp.nan)))
    with pytest.raises(TypeError, match=r"params\.w_x is Int8 already"):
        quantize(quantize(params))


@pytest.mark.skipif(importlib.util.find_spec("tyro") is None, reason="the experiments extra is not installed")
@pytest.mark.skipif(importlib.util.find_spec("flatbuffers") is None, reason="flatbuffers is not installed")
def test_the_loss_of_a_trained_character_model_stays(tmp_path, monkeypatch, capsys):
    from experiments import char_lm
    from experiments import quantize as experiment

    monkeypatch.chdir(tmp_path)
    (tmp_path / "book.txt").write_text("".join(f"{n} times {n} is {n * n}.\n" for n in range(400)), encoding="utf-8")
    sizes = [
        "--hidden=32",
        "--embedding=16",
        "--batch=8",
        "--window=32",
        "--steps=60",
        "--every=60",
        "--learning-rate=0.02",
    ]
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        char_lm.main([*sizes, "--data", "book.txt", "--out", "run"])
        found = experiment.compare(experiment.Config(run=tmp_path / "run"))
        capsys.readouterr()
        experiment.main(["--run", "run"])
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    trained, untrained = result["metrics"]["nats_per_character"]["valid"], np.log(17)
    assert trained < 0.75 * untrained
    assert found["float32"]["nats, valid"] == pytest.approx(trained, rel=1e-6)
    assert found["int8"]["nats, valid"] != found["float32"]["nats, valid"]
    assert found["int8"]["nats, valid"] == pytest.approx(trained, rel=0.01)
    assert found["int8"]["weights, bytes"] < 0.35 * found["float32"]["weights, bytes"]
    assert found["int8"]["StableHLO, bytes"] < found["float32"]["StableHLO, bytes"]
    assert f"| int8 | {found['int8']['nats, valid']:.4f} |" in capsys.readouterr().out


@pytest.mark.skipif(importlib.util.find_spec("tyro") is None, reason="the experiments extra is not installed")
def test_a_run_that_is_not_there(tmp_path, capsys):
    from experiments import quantize as experiment

    with pytest.raises(SystemExit) as caught:
        experiment.main(["--run", str(tmp_path)])
    assert caught.value.code == 2
    assert "is not a run directory" in capsys.readouterr().err


def test_a_language_model_at_run_time():
    """Three files of one model: as small as they should be, and about as good."""
    pytest.importorskip("onnxruntime")
    from experiments.language.at_run_time import measured
    from jrnn.losses import cross_entropy
    from jrnn.models import LanguageModel

    model = LanguageModel(11, jrnn.Layered((jrnn.Recurrent(jrnn.LSTM(16, 32)),)))
    params = model.init(jax.random.key(0))
    tokens = np.random.default_rng(0).integers(0, 11, (20, 3)).astype(np.int32)
    found = measured(model, params, tokens, steps=3)
    assert list(found) == ["float32", "int8 weights", "int8 products"]
    nats = cross_entropy(model.apply(params, tokens[:-1])[1], tokens[1:], None).value
    np.testing.assert_allclose(found["float32"].nats, nats, rtol=1e-5)
    for name in ("int8 weights", "int8 products"):
        np.testing.assert_allclose(found[name].nats, nats, rtol=0.02)
        assert found[name].size < 0.6 * found["float32"].size
