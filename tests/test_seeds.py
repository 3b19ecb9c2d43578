"""Several seeds of one experiment."""

import json
import statistics

import pytest

pytest.importorskip("tyro", reason="the experiments extra is not installed")

from experiments import seeds


def result(directory, accuracy, seconds=2.0):
    directory.mkdir(parents=True)
    metrics = {"accuracy": {"test": accuracy}, "steps": 4, "records": [{"step": 1}], "stopped": "finished", "ok": True}
    (directory / "result.json").write_text(json.dumps({"metrics": metrics, "seconds": seconds}))


def test_mean_and_spread_of_runs_that_are_done(tmp_path, capsys):
    found = (0.9, 0.94, 0.95)
    for seed, accuracy in enumerate(found):
        result(tmp_path / f"seed-{seed}", accuracy, seconds=seed)
    seeds.main(["time_series", "--out", str(tmp_path), "--", "--hidden", "4"])  # nothing is left to run
    summary = json.loads((tmp_path / "seeds.json").read_text())
    assert set(summary) == {"accuracy.test", "steps", "seconds"}
    assert summary["accuracy.test"]["mean"] == pytest.approx(sum(found) / 3)
    assert summary["accuracy.test"]["spread"] == pytest.approx(statistics.stdev(found))
    assert summary["accuracy.test"]["seeds"] == {"0": 0.9, "1": 0.94, "2": 0.95}
    assert summary["seconds"]["mean"] == 1
    assert "accuracy.test: 0.9300 ± " in capsys.readouterr().out


def test_one_seed_has_no_spread(tmp_path):
    result(tmp_path / "seed-7", 0.5)
    seeds.main(["time_series", "--out", str(tmp_path), "--seeds", "7"])
    assert json.loads((tmp_path / "seeds.json").read_text())["accuracy.test"]["spread"] is None


def test_what_is_left_is_run_or_resumed(tmp_path, monkeypatch):
    result(tmp_path / "seed-0", 0.5)
    (tmp_path / "seed-1").mkdir()
    (tmp_path / "seed-1" / "config.json").write_text("{}")
    commands = []

    def run(command):
        commands.append(command[2:])
        seed = command[command.index("--seed") + 1]
        (tmp_path / f"seed-{seed}").mkdir(exist_ok=True)
        (tmp_path / f"seed-{seed}" / "result.json").write_text((tmp_path / "seed-0" / "result.json").read_text())
        return type("Done", (), {"returncode": 0})

    monkeypatch.setattr(seeds.subprocess, "run", run)
    seeds.main(["time_series", "--out", str(tmp_path), "--", "--hidden", "4"])
    start = ["experiments.time_series", "--hidden", "4", "--seed"]
    assert commands == [
        [*start, "1", "--out", str(tmp_path / "seed-1"), "--resume"],
        [*start, "2", "--out", str(tmp_path / "seed-2")],
    ]


def test_a_run_that_fails_stops_the_others(tmp_path, capfd):
    with pytest.raises(SystemExit) as caught:
        seeds.main(["no_such_experiment", "--out", str(tmp_path)])
    assert caught.value.code == 1
    assert "no_such_experiment" in capfd.readouterr().err


def test_bad_options(tmp_path, capsys):
    with pytest.raises(SystemExit):
        seeds.main(["time_series", "--out", str(tmp_path), "--seeds", "1", "1"])
    assert "each once" in capsys.readouterr().err
