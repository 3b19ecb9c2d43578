"""Neurons that excite or inhibit, on tasks of neuroscience: a run from end to end on trials made here, and NeuroGym's own."""

import importlib.util
import json

import jax
import numpy as np
import pytest

pytest.importorskip("tyro", reason="the experiments extra is not installed")

from experiments import ctrnn
from experiments.ctrnn import Config
from experiments.data import trials
from experiments.data.trials import Setting

pytestmark = pytest.mark.usefixtures("as_a_user")
INSTALLED = all(importlib.util.find_spec(name) for name in ("neurogym", "torch"))


class Environment:
    """As NeuroGym's: a stimulus in one of two channels (and another after a delay, the same or not), then a choice."""

    def __init__(self, setting):
        self._match = "Match" in setting.name
        delay = dict(setting.timing).get("delay", 1000) // setting.dt if self._match else 0
        lengths = (
            {"fixation": 2, "sample": 3, "delay": delay, "test": 3} if self._match else {"fixation": 2, "stimulus": 8}
        )
        self.start_ind, self.end_ind, end = {}, {}, 0
        for name, length in (lengths | {"decision": 3}).items():
            self.start_ind[name], self.end_ind[name], end = end, end + length, end + length
        self._time = end

    def seed(self, seed):
        self._random = np.random.default_rng(seed)

    def new_trial(self, ground_truth=None, coh=None):
        truth = int(self._random.integers(2)) if ground_truth is None else ground_truth
        self.ob, self.gt = np.zeros((self._time, 3), np.float32), np.zeros(self._time, np.int64)
        self.ob[: self.start_ind["decision"], 0] = 1
        self.gt[self.start_ind["decision"] :] = truth + 1
        if self._match:
            first = int(self._random.integers(2))
            for name, place in (("sample", first), ("test", first if truth == 0 else 1 - first)):
                self.ob[self.start_ind[name] : self.end_ind[name], 1 + place] = 1
            return {"ground_truth": truth + 1}
        coh = self._random.choice([0.0, 25.6, 51.2]) if coh is None else coh
        shown = slice(self.start_ind["stimulus"], self.end_ind["stimulus"])
        self.ob[shown, 1:] = 0.5 + 0.1 * self._random.standard_normal((8, 2))
        self.ob[shown, 1 + truth] += coh / 100
        return {"ground_truth": truth, "coh": coh}


@pytest.fixture
def made_here(monkeypatch):
    monkeypatch.setattr(Setting, "make", lambda self: Environment(self))


def result(path):
    return json.loads((path / "result.json").read_text())


def test_a_tiny_run_of_evidence(tmp_path, made_here, capsys):
    options = [
        "--hidden",
        "30",
        "--trials",
        "512",
        "--epochs",
        "8",
        "--dt",
        "100",
        "--each",
        "40",
        "--learning-rate",
        "0.02",
    ]
    ctrnn.main([*options, "--out", "run"])
    metrics = result(tmp_path / "run")["metrics"]
    assert metrics["accuracy_where_dots_move"] > 0.9
    assert metrics["accuracy_where_dots_move"] <= metrics["ideal_observer"]["where_dots_move"] + 0.02
    assert metrics["units_that_excite"] == 24
    assert metrics["connections"] == pytest.approx(0.3, abs=0.08)
    curve = dict(zip(metrics["curve"]["at"], metrics["curve"]["share"], strict=True))
    assert curve[-25.6] < 0.2 < 0.8 < curve[25.6]
    assert "an ideal observer" in capsys.readouterr().out
    assert (tmp_path / "run" / "perceptual.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("free", [[], ["--free"]])
def test_a_tiny_run_of_memory(tmp_path, made_here, free):
    ctrnn.main(["--smoke", "--task", "match", "--out", "run", *free])
    metrics = result(tmp_path / "run")["metrics"]
    assert metrics["curve"]["at"] == [200, 1000]
    assert (metrics["connections"] == 1) == bool(free)
    assert (tmp_path / "run" / "match.png").read_bytes().startswith(b"\x89PNG")


def test_the_ideal_observer_knows_what_there_is_to_know(made_here):
    setting = Setting("PerceptualDecisionMaking-v0", 100)
    for coh, low, high in ((51.2, 0.99, 1.0), (0.0, 0.4, 0.6)):
        found = trials.draw(setting, 200, 0, coh=coh)
        assert low <= np.mean(ctrnn.ideal(setting, found) == found.action[:, -1]) <= high


def test_fixating_and_choosing_count_the_same(made_here):
    """Of logits that say nothing each costs log 3, however many steps it takes; what is right at all steps costs nothing."""
    config = Config(hidden=4, dt=100)
    found = trials.draw(Setting("PerceptualDecisionMaking-v0", 100), 5, 0)
    model = ctrnn.build(config, 3, 3)
    batch = ctrnn.take(found, slice(None))
    cell, output = model.init(jax.random.key(0))
    silent = (cell, output._replace(w=0 * output.w, b=0 * output.b))
    assert ctrnn.loss(model, silent, batch, None).value == pytest.approx(np.log(3), rel=1e-5)
    fixating = (cell, silent[1]._replace(b=np.float32([100, 0, 0])))
    assert ctrnn.loss(model, fixating, batch, None).value == pytest.approx(50, rel=1e-5)


def test_the_same_seed_draws_the_same_trials(made_here):
    setting = Setting("DelayMatchSample-v0", 100)
    first, again, other = (trials.draw(setting, 20, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.seen, again.seen)
    assert (first.action[:, -1] != other.action[:, -1]).any()


def test_trials_of_several_lengths(made_here):
    """What is after the end of a trial costs nothing."""
    config = Config(hidden=4, dt=100, task="match", delays=(200, 500))
    found = ctrnn.drawn(config, "train", 6, 0)
    assert found.seen.shape == (6, 2 + 3 + 5 + 3 + 3, 3)
    np.testing.assert_array_equal((found.action == -1).sum(1), [3, 3, 3, 0, 0, 0])
    assert not found.seen[:3, -3:].any()
    model = ctrnn.build(config, 3, 3)
    params = model.init(jax.random.key(0))
    short = trials.draw(Setting("DelayMatchSample-v0", 100, (("delay", 200),)), 3, 0)
    got, want = (ctrnn.loss(model, params, ctrnn.take(one, slice(3)), None).value for one in (found, short))
    np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.skipif(INSTALLED, reason="NeuroGym is installed")
def test_without_neurogym_it_says_how_to_install_it(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        ctrnn.main(["--smoke", "--out", "run"])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert said in [f"error: ctrnn needs {name}: pip install -e '.[ctrnn]'\n" for name in ("neurogym", "torch")]
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(not INSTALLED, reason="the ctrnn extra is not installed")
@pytest.mark.parametrize("task", ctrnn.TASKS)
def test_neurogyms_own_trials(tmp_path, task):
    setting = Setting(ctrnn.TASKS[task], 100)
    found = trials.draw(setting, 50, 0)
    assert found.seen.shape == (50, 22 if task == "perceptual" else 32, 3)
    assert set(found.action[:, -1]) == {1, 2}
    start, stop = trials.periods(setting)["decision"]
    np.testing.assert_array_equal(
        (found.action > 0).all(0), [start <= step < stop for step in range(found.seen.shape[1])]
    )
    if task == "perceptual":
        strong = trials.draw(setting, 50, 0, coh=51.2)
        np.testing.assert_array_equal(ctrnn.ideal(setting, strong), strong.action[:, -1])
    else:
        longer = trials.draw(Setting(setting.name, 100, (("delay", 2000),)), 2, 0)
        assert longer.seen.shape[1] == 42
    ctrnn.main(["--smoke", "--task", task, "--out", "run"])
    assert (tmp_path / "run" / f"{task}.png").is_file()
