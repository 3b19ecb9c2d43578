"""The campaigns run, find what is wrong, and overwrite nothing; at full size they are run by hand."""

import json
import random
import subprocess

import pytest

from experiments.campaigns import against_a_loop, disk_full, kills, processes, runs

pytestmark = [pytest.mark.slow, pytest.mark.experiment]


NAME = "time_series"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing disturbs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "RUNS", {NAME: ["--hidden", "4", "--epochs", "1", "--every", "2"]})
        yield runs.undisturbed(NAME, tmp_path_factory.mktemp("whole"))


def test_a_run_that_is_killed(whole):
    found = kills.one_run(NAME, (whole, 4.0), random.Random(0), most=1)
    assert found == {"experiment": NAME, "kills": 1, "errors": []}


@pytest.mark.parametrize("campaign", [kills, against_a_loop, disk_full, processes])
def test_nothing_is_overwritten(campaign, tmp_path, capsys):
    out = tmp_path / "found.json"
    out.touch()
    with pytest.raises(SystemExit):
        campaign.main(["--out", str(out)])
    assert "exists, and nothing is overwritten" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("campaign", "option"), [(kills, "--kills"), (against_a_loop, "--examples"), (disk_full, "--sizes")]
)
def test_a_number_that_is_none_is_refused(campaign, option, capsys):
    with pytest.raises(SystemExit) as caught:
        campaign.main([option, "0"])
    assert caught.value.code == 2
    assert f"{option} is 0; expected at least 1" in capsys.readouterr().err


def test_another_outcome_is_seen(tmp_path):
    """One number of a checkpoint that differs by a bit."""
    import jax
    import jax.numpy as jnp

    from jrnn.checkpoint import Checkpoints

    for name, value in (("a", 1.0), ("b", 1.0), ("c", float(jnp.nextafter(jnp.float32(1), jnp.float32(2))))):
        directory = tmp_path / name
        directory.mkdir()
        (directory / "result.json").write_text('{"metrics": {"accuracy": 0.5}}')
        state = {"w": jnp.full(3, value), "key": jax.random.key(0)}
        Checkpoints(directory / "checkpoints").save(1, state, {"seconds": len(name)})
    a, b, c = (runs.outcome(tmp_path / name) for name in "abc")
    assert a == b
    assert a != c


def test_examples_against_a_loop(tmp_path, monkeypatch):
    monkeypatch.setattr(against_a_loop, "MODELS", {"GRU": against_a_loop.MODELS["GRU"]})
    monkeypatch.setattr(against_a_loop, "DTYPES", {"float32": 3e-5})
    out = tmp_path / "loop.json"
    against_a_loop.main(["--examples", "6", "--out", str(out)])
    found = json.loads(out.read_text())
    assert (found["examples_each"], found["differs"]) == (6, {"GRU": None})
    wrong = against_a_loop.whole

    def padded_counts(name, params, xs, state, weights, marks):
        return wrong(name, params, xs, state, weights, {})

    monkeypatch.setattr(against_a_loop, "whole", padded_counts)
    with pytest.raises(AssertionError, match="apart"):
        against_a_loop.compare("GRU", "float32", 5, (3,), "mask", True, 0)


def test_a_disk_that_gets_full(whole, tmp_path):
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(tmp_path)], capture_output=True).returncode:
        pytest.skip("mounting needs root here, outside of a namespace")
    subprocess.run(["umount", str(tmp_path)], check=True)
    found = disk_full.trial(NAME, whole, 64 * 1024)
    assert found["errors"] == []
    assert "No space left on device: the checkpoint of step 2 needs about" in found["said"]


def test_two_processes_that_end_otherwise_are_seen():
    one = {"a": {"loss": 1.0, "seconds": 3.0}, "records": [0.0, float("nan")], "stopped": "finished"}
    other = {"a": {"loss": 1.0, "seconds": 9.0}, "records": [1e-8, float("nan")], "stopped": "finished"}
    assert processes.difference(one, other) == (pytest.approx(1e-5), "records.0")
    assert processes.difference(one, one | {"a": {"loss": -1.0}}) == (2.0, "a.loss")
    assert processes.difference(one, one | {"stopped": "early"}) == (float("inf"), "stopped")
    assert processes.difference(one, {"a": {}})[0] == float("inf")
    ended = processes.Ended
    assert processes.check_ended([ended(0, "loss 1", ""), ended(0, "", "")]) == []
    for second in ended(0, "loss 1", ""), ended(0, "", "a warning"), ended(2, "", "error: no"), ended(None, "", ""):
        assert len(processes.check_ended([ended(0, "loss 1", ""), second])) == 1


def test_an_experiment_with_nothing_to_divide_on_two_processes(tmp_path):
    found = processes.trial("cliff", ["--smoke"], tmp_path)
    assert (found["errors"], found["difference"], found["difference, resumed"]) == ([], 0, 0)
