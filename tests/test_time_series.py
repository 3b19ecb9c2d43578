"""Time series with classes: a run from end to end, on JapaneseVowels and on files of one's own."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import normal, random_params

pytest.importorskip("tyro", reason="the experiments extra is not installed")
pytest.importorskip("aeon", reason="the series extra is not installed")

from test_series import HEADER, ts

from experiments import time_series
from experiments.common.recurrent import POOLINGS
from experiments.data.series import Part, SeriesSet
from experiments.time_series import Config

pytestmark = pytest.mark.usefixtures("as_a_user")


def result(out):
    return json.loads((out / "result.json").read_text())


def test_a_tiny_run(tmp_path, capsys):
    time_series.main(["--smoke", "--out", "run"])
    found = result(tmp_path / "run")
    metrics = found["metrics"]
    assert found["floors"] == {"most frequent class": pytest.approx(1 / 9)}  # all nine are as frequent
    assert 370 * metrics["accuracy"]["test"] == pytest.approx(round(370 * metrics["accuracy"]["test"]))
    assert "370 test series of 7 to 29 steps, 12 features, 9 classes" in capsys.readouterr().out
    for picture in ("curves.png", "confusion.png"):
        assert (tmp_path / "run" / picture).read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def pair(tmp_path):
    """Two files: long series are of one class, short ones of the other; the second dimension never changes."""
    lines = [f"{','.join([str(n % 3)] * n)}:{','.join(['5'] * n)}:{'long' if n > 6 else 'short'}" for n in range(1, 13)]
    header = HEADER.replace("low high", "long short")
    return [ts(tmp_path / name, *lines * 2, header=header) for name in ("a_TRAIN.ts", "a_TEST.ts")]


def test_files_of_ones_own(tmp_path, pair):
    options = ["--smoke", "--hidden=3", "--no-bidirectional", "--pooling=attention", "--out=run"]
    time_series.main(["--data", str(pair[0]), "--test", str(pair[1]), *options])
    found = result(tmp_path / "run")
    assert found["metrics"]["published"] == []
    assert found["floors"] == {"most frequent class": 0.5}
    before = found["metrics"]
    time_series.main(["--resume", "--out", "run"])
    assert result(tmp_path / "run")["metrics"] == before


def fails(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        time_series.main([*map(str, arguments), "--out", "run"])
    assert caught.value.code == 2
    return " ".join(capsys.readouterr().err.split())


def test_mistakes_leave_no_run_behind(tmp_path, pair, capsys):
    (tmp_path / "words.txt").write_text("words")
    assert "words.txt does not end in .ts" in fails(capsys, "--data", "words.txt", "--test", pair[1])
    assert "data is given and test is not" in fails(capsys, "--data", pair[0])
    assert "test is given and data is not" in fails(capsys, "--test", pair[1])
    assert "--layers is 0; expected at least 1" in fails(capsys, "--layers", 0)
    assert not (tmp_path / "run").exists()


def test_standardised_by_the_training_part_alone():
    random = np.random.default_rng(0)

    def part(count, shift):
        steps = [random.normal(shift, 3, (n + 1, 2)).astype(np.float32) for n in range(count)]
        return Part(
            [np.concatenate([one, np.full((len(one), 1), 7, np.float32)], 1) for one in steps],
            np.zeros(count, np.int32),
        )

    data = SeriesSet("mine", ("a", "b"), part(9, 5), part(4, 50), part(4, -50))
    found = time_series.standardised(data)
    train = np.concatenate([example.xs for example in found["train"]])
    np.testing.assert_allclose(train.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(train.std(0), [1, 1, 0], atol=1e-5)  # what never changes becomes 0, not NaN
    steps = np.concatenate(data.train.series)
    known = data.test.series[2]
    np.testing.assert_allclose(
        found["test"][2].xs[:, 0], (known[:, 0] - steps[:, 0].mean()) / steps[:, 0].std(), rtol=1e-4
    )


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_what_a_series_is_padded_with_does_not_matter(pooling, bidirectional):
    config = Config(hidden=5, pooling=pooling, bidirectional=bidirectional)
    model = time_series.build(config, 3, 4)
    params, xs, apply = random_params(model), normal(1, 6, 2, 3), jax.jit(model.apply)
    padded = apply(params, xs.at[4:, 0].set(jnp.nan), lengths=jnp.array([4, 6]))
    assert padded.shape == (2, 4)
    np.testing.assert_allclose(padded[0], apply(params, xs[:4, 0]), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(padded[1], apply(params, xs[:, 1]), rtol=1e-4, atol=1e-6)
