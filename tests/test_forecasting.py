"""Forecasting from a csv file, end to end; the loss, the network's view of its variables, the measures."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("tyro", reason="the experiments extra is not installed")

import jrnn
from experiments import forecasting
from experiments.common.recurrent import CELLS
from experiments.data import forecasting as data
from experiments.forecasting import (
    MEDIAN,
    QUANTILES,
    Config,
    Forecaster,
    Task,
    errors,
    in_rising_order,
    pinball,
)

MODEL = Forecaster(jrnn.GRU(8, 8), variables=3, horizon=12, segment=4, dropout=0.5)
PARAMS = MODEL.init(jax.random.key(0))
PAST = np.random.default_rng(0).normal(size=(20, 5, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Days of two variables, hour by hour."""
    path = tmp_path_factory.mktemp("table") / "days.csv"
    rows = [f"{np.datetime64('2020-01-01T00') + h},{math.sin(h * math.pi / 12):.4f},{h % 24}" for h in range(480)]
    path.write_text("\n".join(["hour,wave,clock", *rows]))
    return path


SHORT = ["--lookback", "24", "--horizon", "24", "--segment", "6", "--batch", "64"]


@pytest.mark.usefixtures("as_a_user")
def test_what_a_run_leaves_behind(table, tmp_path, capsys):
    forecasting.main(["--smoke", "--file", str(table), "--out", str(tmp_path / "run"), *SHORT])
    found = json.loads((tmp_path / "run" / "result.json").read_text())
    metrics = found["metrics"]
    assert list(found) == ["config", "versions", "machine", "metrics", "floors", "seconds"]
    assert metrics["windows"] == {"train": 288 - 47, "valid": 96 - 23, "test": 96 - 23}
    assert set(metrics["test_by_variable"]) == {"wave", "clock"}
    for measure in ("mse", "mae"):
        each = [errors[measure] for errors in metrics["test_by_variable"].values()]
        assert metrics["test"][measure] == pytest.approx(np.mean(each))
    assert metrics["published_mse"] == {}
    assert found["floors"]["the season before, repeated: mse"] < 1e-6  # every day is the same
    for name in ("forecasts", "curves"):
        assert (tmp_path / "run" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert f"test MSE {metrics['test']['mse']:.4f}" in capsys.readouterr().out


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--file", "nowhere"], "file nowhere does not exist; expected a csv file"),
        (["--segment", "0"], "--segment is 0; expected at least 1"),
        (["--hidden", "7"], "--hidden is 7; expected an even number, at least 2"),
        (["--data", "co2"], "--data is co2 and --file"),
        (["--segment", "25"], "--lookback is 96; expected a multiple of --segment, 25"),
        (["--horizon", "100"], "--horizon is 100; expected a multiple of --segment, 24"),
        (["--lookback", "480"], "need 576: use a longer series"),
    ],
)
def test_mistakes_leave_no_run_behind(table, tmp_path, capsys, options, message):
    with pytest.raises(SystemExit) as caught:
        forecasting.main(["--file", str(table), *options, "--out", str(tmp_path / "run")])
    assert caught.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("as_a_user", "isolated")
def test_without_a_folder_and_a_network(tmp_path):
    pytest.importorskip("statsmodels", reason="the forecasting extra is not installed")
    out = tmp_path / "run"
    forecasting.main(["--smoke", "--out", str(out)])
    found = json.loads((out / "result.json").read_text())
    assert found["config"]["data"] == "co2"
    assert [found["config"][name] for name in Task._fields] == [104, 52, 26, 1]  # a pass, as --smoke has it
    assert found["metrics"]["published_mse"] == {}
    assert set(found["metrics"]["test_by_variable"]) == {"CO2, ppm"}
    assert found["floors"]["the season before and its change, repeated: mse"] == pytest.approx(0.0140, abs=5e-5)


@pytest.mark.usefixtures("as_a_user", "isolated")
def test_a_run_goes_on_with_its_own_data(tmp_path, monkeypatch):
    """Also where a data folder, which is another default, has come up since."""
    pytest.importorskip("statsmodels", reason="the forecasting extra is not installed")
    out = tmp_path / "run"
    forecasting.main(["--smoke", "--out", str(out)])
    before = json.loads((out / "result.json").read_text())["metrics"]
    monkeypatch.setenv("JRNN_DATA", str(tmp_path))
    forecasting.main(["--resume", "--out", str(out)])
    assert json.loads((out / "result.json").read_text())["metrics"] == before


def test_which_data_by_default(tmp_path, monkeypatch):
    monkeypatch.delenv("JRNN_DATA", raising=False)
    co2, etth1, own = (104, 52, 26, 100), (96, 96, 24, 10), (96, 96, 24, 10)

    def found(**given):
        config = Config(**given).resolved()
        return config.data, tuple(getattr(config, name) for name in Task._fields)

    assert found() == ("co2", co2)
    assert found(data="etth1") == ("etth1", etth1)
    assert found(data_dir=tmp_path) == ("etth1", etth1)
    assert found(data_dir=tmp_path, data="co2") == ("co2", co2)
    assert found(file=tmp_path / "own.csv") == (None, own)
    assert found(horizon=26, epochs=3) == ("co2", (104, 26, 26, 3))
    monkeypatch.setenv("JRNN_DATA", str(tmp_path))
    assert found() == ("etth1", etth1)
    assert found(data="co2") == ("co2", co2)
    assert found(file=tmp_path / "own.csv") == (None, own)


@pytest.mark.parametrize("share", QUANTILES)
def test_the_pinball_loss_is_least_at_the_quantile(share):
    truth = jnp.asarray(np.random.default_rng(1).exponential(size=2001).astype(np.float32))
    guesses = np.linspace(0, 4, 401).astype(np.float32)

    def cost(guess):
        guessed = jnp.full((*truth.shape, len(QUANTILES)), jnp.float32(0.3)).at[:, QUANTILES.index(share)].set(guess)
        return pinball(guessed, truth).value

    best = guesses[np.argmin(jax.vmap(cost)(jnp.asarray(guesses)))]
    assert best == pytest.approx(np.quantile(truth, share), abs=0.011)


def test_the_pinball_loss_of_the_median_is_the_absolute_error():
    truth = np.random.default_rng(2).normal(size=50).astype(np.float32)
    quantiles = np.stack([truth, np.zeros_like(truth), truth], -1)  # the others are right
    assert pinball(jnp.asarray(quantiles), jnp.asarray(truth)).value * 3 == pytest.approx(np.abs(truth).mean())


def test_no_variable_and_no_window_sees_another():
    found = MODEL.apply(PARAMS, PAST)
    assert found.shape == (12, 5, 3, len(QUANTILES))
    changed = PAST.copy()
    changed[3, 1, 2] += 1
    moved = np.abs(np.asarray(MODEL.apply(PARAMS, changed) - found)).max((0, 3)) > 1e-6
    assert moved.tolist() == (np.arange(15).reshape(5, 3) == 1 * 3 + 2).tolist()


def test_a_level_moves_the_forecast_by_itself():
    lifted = MODEL.apply(PARAMS, PAST + np.float32(5))
    np.testing.assert_allclose(lifted, MODEL.apply(PARAMS, PAST) + 5, rtol=1e-5, atol=1e-4)


def test_the_forecast_is_the_last_value_where_the_output_is_silent():
    silent = PARAMS._replace(w_out=jnp.zeros_like(PARAMS.w_out))
    expected = np.broadcast_to(PAST[-1][None, ..., None], (12, 5, 3, len(QUANTILES)))
    np.testing.assert_array_equal(MODEL.apply(silent, PAST), expected)


def test_one_window_by_hand():
    """Segment by segment, in float64, one variable at a time."""
    with jax.enable_x64(True):
        p = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), PARAMS)
        past = jnp.asarray(PAST, jnp.float64)
        found, step = jax.jit(MODEL.apply)(p, past), jax.jit(MODEL.cell.step)
        for variable in range(3):
            xs = past[:, 4, variable] - past[-1, 4, variable]
            state = MODEL.cell.initial_state(p.cell)
            for segment in range(5):
                z = jnp.maximum(xs[4 * segment : 4 * segment + 4] @ p.w_in + p.b_in, 0)
                state, _ = step(p.cell, state, z)
            for ahead in range(3):
                asked = jnp.concatenate([p.place[ahead], p.variable[variable]])
                rows = (step(p.cell, state, asked)[1] @ p.w_out + p.b_out).reshape(4, len(QUANTILES))
                part = found[4 * ahead : 4 * ahead + 4, 4, variable]
                np.testing.assert_allclose(part, rows + past[-1, 4, variable], rtol=1e-10)


def test_dropout_only_with_a_key():
    np.testing.assert_array_equal(MODEL.apply(PARAMS, PAST), MODEL.apply(PARAMS, PAST))
    one, other = (MODEL.apply(PARAMS, PAST, jax.random.key(seed)) for seed in (0, 1))
    assert not np.array_equal(one, other)


def test_quantiles_do_not_cross():
    found = in_rising_order(MODEL, PARAMS, PAST)
    assert (np.diff(MODEL.apply(PARAMS, PAST), axis=-1) < 0).any()  # as the network gives them they do
    assert (np.diff(found, axis=-1) >= 0).all()
    assert QUANTILES[MEDIAN] == 0.5


def test_errors_by_hand():
    assert errors(np.array([[1.0, 2.0]]), np.array([[0.0, 5.0]])) == {"mse": 5.0, "mae": 2.0}


def test_batches_hold_windows_time_first():
    values = np.arange(60.0).reshape(30, 2)
    series = data.Series("s", ("a", "b"), np.arange(30), values, {"train": 30, "valid": 30, "test": 30})
    windows = data.windows(series, "train", lookback=4, horizon=2)
    batches = forecasting.shuffled(windows, 8, seed=0)
    found = [batches[step] for step in range(len(batches))]
    assert len(found) == 25 // 8
    seen = np.concatenate([batch.past[0, :, 0] for batch in found])
    assert len(set(seen.tolist())) == 24
    for batch in found:
        assert batch.past.shape == (4, 8, 2)
        assert batch.future.shape == (2, 8, 2)
        np.testing.assert_allclose(batch.future[0] - batch.past[-1], batch.past[-1] - batch.past[-2], rtol=1e-4)
    whole = forecasting.in_order(windows, 8)
    np.testing.assert_array_equal(np.concatenate([one.past for one in whole], 1), windows.past.swapaxes(0, 1))


@pytest.mark.parametrize("cell", sorted(CELLS))
def test_every_cell_by_name(cell):
    model = Forecaster(CELLS[cell](8, 8), variables=3, horizon=12, segment=4, dropout=0.5)
    found = jax.eval_shape(lambda: model.apply(model.init(jax.random.key(0)), PAST, jax.random.key(1)))
    assert found.shape == (12, 5, 3, len(QUANTILES))
