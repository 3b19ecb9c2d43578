"""Several processes train one model, and one device needs not hold it."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import jax
import numpy as np
import optax
import pytest

import jrnn
from jrnn import losses
from jrnn.train import init_state, make_step, own_rows

SGD = optax.sgd(0.1)
PROGRAM = pathlib.Path(__file__).with_name("one_of_several.py")
ROOT = str(pathlib.Path(jrnn.__file__).parents[1])


def free_port():
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return one.getsockname()[1]


def addresses():
    """The variables of each process of an experiment on two."""
    port = free_port()
    return {
        "JAX_COORDINATOR_ADDRESS": lambda n: f"localhost:{port}",
        "JAX_NUM_PROCESSES": lambda n: "2",
        "JAX_PROCESS_ID": str,
    }


def together(commands, **variables):
    """What each of the programs prints, side by side; (status, stdout, stderr) of each."""
    environment = {**os.environ, "PYTHONPATH": ROOT}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = [
        subprocess.Popen(command, env=environment | {name: value(n) for name, value in variables.items()}, **pipes)
        for n, command in enumerate(commands)
    ]
    try:
        said = [one.communicate(timeout=300) for one in started]
    finally:
        for one in started:
            one.kill()
    return [(one.returncode, *texts) for one, texts in zip(started, said)]


def run(directory, what="whole", of=2):
    port = free_port()
    commands = [[sys.executable, PROGRAM, str(n), str(of), str(port), str(directory), what] for n in range(of)]
    found = together(commands)
    lines = [[line for line in stdout.splitlines() if line.startswith("{")] for _, stdout, _ in found]
    return [(status, json.loads(line[-1]) if line else stderr) for (status, _, stderr), line in zip(found, lines)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process with as many devices comes to."""
    [(status, said)] = run(tmp_path_factory.mktemp("alone"), of=1)
    assert status == 0, said
    return said


def close(found, wanted):
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-7)


@pytest.mark.slow
def test_two_processes_train_one_model(tmp_path, alone):
    (_, first), (_, second) = run(tmp_path)
    assert first["places"] + second["places"] == alone["places"]
    for one in first, second:
        close([one["b"], one["evaluated"]], [alone["b"], alone["evaluated"]])
        close(one["params"], alone["params"])
        close(one["records"], alone["records"])
        assert (one["stopped"], one["first"]) == ("finished", 0)
    close([a + b for a, b in zip(first["carry"], second["carry"])], alone["carry"])
    assert first["params"] == second["params"]
    assert (first["watched"], second["watched"]) == (list(range(1, 21)), [])


@pytest.mark.slow
def test_killed_then_stopped_then_resumed(tmp_path, alone):
    """The other one says so; both stop where one is told to; the end is that of a run that was not disturbed."""
    (status, first), (killed, _) = run(tmp_path, "killed")
    assert (status, killed) == (3, -9)
    assert "another one ended" in first["lost"]
    assert f"last checkpoint: step 10 in {tmp_path}" in first["lost"]
    for _, said in run(tmp_path, "stopped"):
        assert (said["stopped"], said["records"][-1][0]) == ("interrupted", 15)
    (_, first), (_, second) = run(tmp_path)
    assert first["watched"] == [19, 20]  # the signal came before step 18, which was finished
    for said in first, second:
        close(said["params"], alone["params"])
        close(said["records"], alone["records"])


@pytest.mark.slow
def test_every_process_has_as_many_rows(tmp_path):
    for _, said in run(tmp_path, "unequal"):
        assert "batch has [2, 1] rows on the processes; expected as many on each" in said["error"]


@pytest.mark.slow
@pytest.mark.experiment
def test_an_experiment_on_two_processes(tmp_path):
    """One directory, one result, that of one process with as many devices; the other process is silent."""
    options = ["--hidden", "8", "--dropout", "0", "--epochs", "2", "--every", "8", "--out"]
    command = [sys.executable, "-m", "experiments.time_series", *options]
    (first, said, _), (second, silent, _) = together([[*command, str(tmp_path / "two")]] * 2, **addresses())
    assert (first, second) == (0, 0)
    assert "validation" in said
    assert "validation" not in silent
    [(status, *_)] = together([[*command, str(tmp_path / "one")]])
    assert status == 0
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("one", "two")]
    assert len(results[1]["machine"]["devices"]) == 2 * len(results[0]["machine"]["devices"])
    one, two = ([record["valid"] for record in result["metrics"]["records"]] for result in results)
    np.testing.assert_allclose(two, one, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.experiment
def test_what_was_trained_by_two_is_tried_by_two(tmp_path):
    """With a state carried from batch to batch, of which each process trained its rows; the first one writes."""
    text = tmp_path / "text.txt"
    text.write_text("".join(f"{n} bottles of beer\n" for n in range(200)))
    small = ["--hidden", "4", "--embedding", "4", "--batch", "4", "--window", "8", "--steps", "2", "--every", "1"]
    command = [sys.executable, "-m", "experiments.char_lm"]
    trained = together([[*command, "--data", text, *small, "--out", tmp_path / "run"]] * 2, **addresses())
    assert [status for status, *_ in trained] == [0, 0], trained
    options = ["sample", "--run", tmp_path / "run", "--prompt", "1", "--length", "9"]
    (first, said, _), (second, silent, _) = together([[*command, *options]] * 2, **addresses())
    own = [[line for line in text.splitlines() if "[Gloo]" not in line] for text in (said, silent)]
    assert (first, second, own[1]) == (0, 0, [])
    assert own[0]


@pytest.mark.slow
@pytest.mark.experiment
@pytest.mark.parametrize("which", [0, 1])
def test_an_error_on_one_of_two_processes(tmp_path, which):
    """The other one ends too, and says what that one said."""
    (tmp_path / "0.txt").write_text("one line\n" * 500)
    names = ("0.txt", "none.txt") if which else ("none.txt", "0.txt")
    command = [sys.executable, "-m", "experiments.char_lm", "--smoke", "--out", tmp_path / "run", "--data"]
    found = together([[*command, tmp_path / name] for name in names], **addresses())
    assert [status for status, *_ in found] == [2, 2], found
    wrong = f"file {tmp_path / 'none.txt'} does not exist"
    assert found[which][2].startswith(f"error: {wrong}")
    assert f"process {which} of 2 ended: {wrong}" in found[1 - which][2]
    assert not (tmp_path / "run").exists()


MODEL_AXIS = """
import jax
jax.config.update("jax_num_cpu_devices", 4)
import numpy as np, optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
import jrnn
from jrnn import losses
from jrnn.train import init_state, make_evaluate, make_step

random = np.random.default_rng(0)
batch = random.normal(size=(5, 4, 3)).astype("f4"), random.normal(size=(5, 4, 8)).astype("f4")
optimizer = optax.adamw(0.1)
for cell in jrnn.LSTM(3, 8), jrnn.GRU(3, 8), jrnn.Jordan(3, 8, 8):
    layer = jrnn.Recurrent(cell)

    def loss(params, carry, batch, key):
        return losses.squared_error(layer.apply(params, batch[0])[1], batch[1], None), carry

    def trained(mesh, place):
        state = init_state(jax.tree.map(place, layer.init(jax.random.key(0))), optimizer, jax.random.key(0))
        step = make_step(loss, optimizer, mesh=mesh)
        for _ in range(3):
            state, info = step(state, batch)
        return state, info.loss, make_evaluate(loss, mesh=mesh)(state.params, (), [batch])

    plain, *numbers = trained(None, lambda leaf: leaf)
    for shape in (2, 2), (1, 4):
        mesh = jax.make_mesh(shape, ("rows", "hidden"), axis_types=(AxisType.Auto,) * 2)
        columns = lambda leaf: NamedSharding(mesh, P(*(None,) * (leaf.ndim - 1), "hidden"))
        state, *found = trained(mesh, lambda leaf: jax.device_put(leaf, columns(leaf)))
        for leaf in jax.tree.leaves((state.params, state.opt_state)):
            if leaf.ndim:  # each device holds its columns, of Adam's moments too
                assert leaf.addressable_shards[0].data.shape[-1] == leaf.shape[-1] // shape[1], leaf.sharding
        np.testing.assert_allclose(found, numbers, rtol=1e-5)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), state.params, plain.params)
print("equal")
"""


@pytest.mark.slow
def test_hidden_units_divided_among_devices():
    [(_, stdout, stderr)] = together([[sys.executable, "-c", MODEL_AXIS]])
    assert stdout == "equal\n", stderr


@pytest.mark.experiment
@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"JAX_NUM_PROCESSES": "2"}, "JAX_NUM_PROCESSES is set but JAX_COORDINATOR_ADDRESS, JAX_PROCESS_ID is not"),
        ({"JAX_PROCESS_ID": "2"}, "JAX_PROCESS_ID is 2; expected 0..1"),
        ({"JAX_PROCESS_ID": "one"}, "JAX_PROCESS_ID is 'one'; expected a whole number"),
    ],
)
def test_variables_that_do_not_say_which_process(monkeypatch, variables, said):
    from experiments.common.processes import join

    if "JAX_PROCESS_ID" in variables:
        variables = {"JAX_COORDINATOR_ADDRESS": "localhost:1", "JAX_NUM_PROCESSES": "2"} | variables
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=said):
        join()


def test_rows_of_each_process(monkeypatch):
    """Along the axis that is named, what all share left whole; as many for each, or an error."""
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    whole = {"xs": np.arange(12).reshape(2, 6), "label": np.arange(6), "shared": np.arange(5)}
    own = own_rows(whole, {"xs": 1, "label": 0, "shared": None})
    assert [own["xs"].tolist(), own["label"].tolist()] == [[[2, 3], [8, 9]], [2, 3]]
    assert own["shared"] is whole["shared"]
    with pytest.raises(ValueError, match=r"tree has 5 rows; expected a multiple of 3"):
        own_rows(np.zeros((2, 5)))


def test_a_mesh_without_rows():
    layer = jrnn.Recurrent(jrnn.Elman(2, 2))
    mesh = jax.make_mesh((1,), ("batch",))
    step = make_step(lambda p, c, b, k: (losses.squared_error(layer.apply(p, b)[1], b, None), c), SGD, mesh=mesh)
    with pytest.raises(ValueError, match=r'mesh has axes \(\'batch\',\); expected one named "rows"'):
        step(init_state(layer.init(jax.random.key(0)), SGD, jax.random.key(0)), np.zeros((3, 2, 2), np.float32))
