"""The main job as its user meets it: killed, resumed, stopped, sampled from, given nonsense."""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

pytest.importorskip("tyro", reason="the experiments extra is not installed")

from experiments import char_lm
from experiments.common import supervised
from experiments.common.command import explained
from experiments.common.recurrent import CELLS
from experiments.data import text
from jrnn.checkpoint import Checkpoints

pytestmark = pytest.mark.usefixtures("as_a_user")

ROOT = Path(__file__).parents[1]
TINY = [
    "--cell=gru",
    "--hidden=12",
    "--embedding=6",
    "--batch=4",
    "--window=16",
    "--dropout=0.2",
    "--steps=24",
    "--every=4",
]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default", "COLUMNS": "200"}


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    path = tmp_path_factory.mktemp("book") / "book.txt"
    path.write_text("".join(f"{n} times {n} is {n * n}.\n" for n in range(300)), encoding="utf-8")
    return path


def start(book, out, *more):
    command = [sys.executable, "-m", "experiments.char_lm", *TINY, "--data", str(book), "--out", str(out), *more]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process):
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


def wait_for(condition, process):
    deadline = time.time() + 240
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.time() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def whole(book, tmp_path_factory):
    """A run nobody disturbs."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    code, output = finish(start(book, out))
    assert code == 0, output
    return out


def final(out):
    config, _, model, params = char_lm.open_trained(out)
    carry = functools.partial(model.initial_state, batch=(config.batch,))
    checkpoints = Checkpoints(out / "checkpoints")
    restored = checkpoints.restore(supervised.start(config, params, carry(params))[0])
    checkpoints.close()
    leaves = [jax.random.key_data(a) if jnp_key(a) else a for a in jax.tree.leaves(restored.state)]
    return restored.step, [np.asarray(leaf) for leaf in leaves], result(out)["metrics"]


def jnp_key(leaf):
    return jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def result(out):
    return json.loads((out / "result.json").read_text())


def assert_same_end(one, other):
    (step, leaves, metrics), (other_step, other_leaves, other_metrics) = final(one), final(other)
    assert step == other_step == 24
    for a, b in zip(leaves, other_leaves, strict=True):
        np.testing.assert_array_equal(a, b)
    assert metrics == other_metrics


def test_killed_twice_and_resumed_ends_bit_identical(book, whole, tmp_path):
    out = tmp_path / "killed"
    process = start(book, out)
    wait_for(lambda: any((out / "checkpoints").glob("8*")), process)  # perhaps in the middle of saving
    process.kill()
    finish(process)
    process = start(book, out, "--resume")
    wait_for(lambda: (out / "checkpoints" / "16").exists(), process)
    process.kill()
    finish(process)
    assert not (out / "result.json").exists()
    code, output = finish(start(book, out, "--resume"))
    assert code == 0, output
    assert_same_end(out, whole)


def test_ctrl_c_saves_and_exits_cleanly(book, whole, tmp_path):
    out = tmp_path / "stopped"
    process = start(book, out)
    wait_for(lambda: (out / "checkpoints" / "4").exists(), process)
    process.send_signal(signal.SIGINT)
    code, output = finish(process)
    if "stopped and saved at step" in output:  # a fast machine may have been through before the signal came
        assert code == 130, output
        assert "Traceback" not in output
        code, output = finish(start(book, out, "--resume"))
    assert code == 0, output
    assert_same_end(out, whole)


def test_what_a_run_leaves_behind(whole):
    found = result(whole)
    assert list(found) == ["config", "versions", "machine", "metrics", "floors", "seconds"]
    assert found["config"]["cell"] == "gru"
    nats = found["metrics"]["nats_per_character"]["valid"]
    assert found["metrics"]["bits_per_character"]["valid"] == pytest.approx(nats / np.log(2))
    assert nats == pytest.approx(min(record["valid"] for record in found["metrics"]["records"]), rel=1e-6)
    assert [record["step"] for record in found["metrics"]["records"]] == [4, 8, 12, 16, 20, 24]
    assert found["floors"]["5-gram valid"] > 0
    assert (whole / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert any((whole / "tensorboard").iterdir())
    assert (whole / "samples.txt").read_text().count("--- step") == 6


def test_sampling_streams_what_the_whole_sequence_predicts(whole, capsys):
    """At temperature 0 each character written is the most likely one after all before it, run as one sequence."""
    char_lm.main(["sample", "--run", str(whole), "--prompt", "12 times", "--length", "30", "--temperature", "0"])
    written = capsys.readouterr().out.removesuffix("\n")
    assert len(written) == len("12 times") + 30
    assert written.startswith("12 times")
    _, vocabulary, model, params = char_lm.open_trained(whole)
    _, logits = model.apply(params, text.encode(written[:-1], vocabulary))
    predicted = text.decode(np.asarray(logits.argmax(-1)), vocabulary)
    assert predicted[len("12 times") - 1 :] == written[len("12 times") :]


def test_sampling_is_seeded(whole, capsys):
    def write(*options):
        char_lm.main(["sample", "--run", str(whole), "--length", "40", "--top-k", "9", "--top-p", "0.9", *options])
        return capsys.readouterr().out

    assert write() == write()
    assert write() != write("--seed", "1")


@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_by_name(cell):
    config = char_lm.Config(cell=cell, layers=2, hidden=6, embedding=4)
    model = char_lm.build(config, "abc")
    params = model.init(jax.random.key(0))
    state, logits = model.apply(params, jax.numpy.zeros((5, 2), int))
    assert logits.shape == (5, 2, 3)
    assert jax.tree.structure(state) == jax.tree.structure(model.initial_state(params, (2,)))


def run(*arguments):
    char_lm.main([*TINY, *map(str, arguments)])


def fails(capsys, *arguments, sample=False):
    """The sentence that a user's mistake gives: on stderr, with exit status 2."""
    with pytest.raises(SystemExit) as caught:
        char_lm.main(["sample", *map(str, arguments)]) if sample else run(*arguments)
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    return said


def test_an_existing_directory_is_not_touched(book, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    assert "exists, and nothing is overwritten" in fails(capsys, "--data", book, "--out", tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_bad_texts_leave_no_run_behind(tmp_path, capsys):
    out = tmp_path / "run"
    (tmp_path / "empty").write_text("")
    (tmp_path / "latin").write_bytes("caf\xe9 ".encode("latin-1") * 100)
    (tmp_path / "short").write_text("to be or not to be, that is the question")
    for name, words in {
        "nowhere": "nowhere",
        "empty": "empty",
        "latin": "UTF-8",
        "short": "lower batch or time",
    }.items():
        assert words in fails(capsys, "--data", tmp_path / name, "--out", out)
        assert not out.exists()


def test_resuming_what_is_not_there(book, whole, tmp_path, capsys):
    assert "found no run in runs/char_lm" in fails(capsys, "--resume")
    assert "is not a run directory" in fails(capsys, "--resume", "--out", tmp_path / "nowhere")
    said = fails(capsys, "--resume", "--out", whole, "--hidden", 13)
    assert "--hidden is 13 (the run has 12)" in said
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"name": "sentiment"}')
    assert "is not a run of char_lm" in fails(capsys, "--resume", "--out", tmp_path / "other")


def test_bad_prompts(whole, capsys):
    assert "'ß', 'é'" in fails(capsys, "--run", whole, "--prompt", "éß 1", sample=True)
    assert "--length is -1; expected at least 1" in fails(capsys, "--run", whole, "--length", "-1", sample=True)
    assert "--prompt is empty" in fails(capsys, "--run", whole, "--prompt", "", sample=True)
    assert "temperature is -1.0" in fails(capsys, "--run", whole, "--temperature", "-1", sample=True)
    assert "is not a run directory" in fails(capsys, "--run", "nowhere", sample=True)


def test_ctrl_c_outside_of_training_leaves_no_traceback():
    with pytest.raises(SystemExit) as caught, explained("char_lm"):
        raise KeyboardInterrupt
    assert caught.value.code == 130


def test_a_damaged_checkpoint_is_explained(whole, tmp_path, capsys):
    damaged = tmp_path / "damaged"
    shutil.copytree(whole, damaged)
    for file in (damaged / "checkpoints").rglob("*"):
        if file.is_file() and file.parent.name == "d":
            file.write_bytes(b"")
    assert "cannot be read" in fails(capsys, "--run", damaged, sample=True)
    assert "cannot be read" in fails(capsys, "--resume", "--out", damaged)
    assert result(damaged) == result(whole)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--hidden", 0, "--hidden is 0; expected at least 1"),
        ("--dropout", 2, "--dropout is 2.0; expected a share in [0, 1)"),
    ],
)
def test_a_bad_option_leaves_no_run_behind(book, tmp_path, capsys, option, value, message):
    with pytest.raises(SystemExit) as caught:
        run(option, value, "--data", book, "--out", tmp_path / "run")
    assert caught.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


def test_a_loss_that_explodes_is_explained(book, tmp_path, capsys):
    said = fails(capsys, "--data", book, "--out", tmp_path / "run", "--learning-rate", "1e30", "--clip", "1e30")
    assert "at step" in said
    assert "Try a lower learning rate" in said
