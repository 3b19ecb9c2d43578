"""The benchmark end to end, on layers too small to time: every peer computes what jrnn computes, results are written."""

import dataclasses
import functools
import importlib.util
import json
import sys

import jax
import numpy as np
import pytest
from test_oracle_numpy import sigma

pytest.importorskip("tyro", reason="the experiments extra is not installed")

from experiments.benchmarks import measure, report, textbook, unroll
from experiments.benchmarks.peers import JaxLayer, cudnn_weights, ours

CELLS = ("elman", "lstm", "gru", "projected_lstm")
SMALL = {"hidden": 4, "batch": 2, "time": 3}
HAVE = {  # the layers that each library has
    "flax-nnx": ("elman", "lstm", "gru"),
    "flax-linen": ("elman", "lstm", "gru"),
    "haiku": ("elman", "lstm", "gru"),
    "equinox": ("lstm", "gru"),
    "keras": ("elman", "lstm", "gru"),
    "jax-cudnn": (),  # on a GPU alone
    "plain-scan": CELLS,
    "pytorch": CELLS,
}
# Those that jrnn does not come with.
LIBRARIES = {"haiku": "haiku", "equinox": "equinox", "keras": "keras", "pytorch": "torch"}
PAIRS = [(name, cell) for name, cells in HAVE.items() for cell in cells]
LACKING = [(name, cell) for name, cells in HAVE.items() for cell in CELLS if cell not in cells]

pytestmark = [
    pytest.mark.usefixtures("as_a_user"),
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),
    # Of the other libraries themselves, not of how they are used.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@functools.cache
def small(cell, function=None, dtype="float32"):
    """Data of a cell, as parameters of `function`, and its reference; no parameter is zero but the b_n of the GRU."""
    data = textbook.draw(cell, **SMALL, dtype=np.dtype(jax.numpy.dtype(dtype)), seed=1)
    data = textbook.variant(function or cell, data)
    return data, textbook.reference(function or cell, data)


def distances(layer, cell, dtype="float32"):
    """Of outputs and of gradients."""
    data, want = small(cell, layer.function, dtype)
    programs = {mode: layer.program(mode, data) for mode in ("forward", "train")}
    got = {mode: program.read(program.call()) for mode, program in programs.items()}
    return [measure.distance(got[mode], want[mode])[0] for mode in programs], got


def built(name, cell, dtype="float32"):
    """A peer; an import that fails though the library is there is an error."""
    library = LIBRARIES.get(name, "jax")
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    return unroll.build(name, cell, SMALL["hidden"], dtype)


def peer(name, cell, dtype="float32"):
    layer = built(name, cell, dtype)
    assert layer is not None
    return layer


@pytest.mark.parametrize(("name", "cell"), PAIRS, ids=lambda part: part)
def test_a_peer_is_the_reference(name, cell):
    found, got = distances(peer(name, cell), cell)
    assert max(found) < 2e-6
    lacks = {"b_n"} if name in ("flax-nnx", "haiku") else set()
    assert set(got["train"]) == {"xs", *small(cell)[0].params._fields} - lacks
    assert got["forward"]["ys"].shape == small(cell)[0].cotangent.shape


@pytest.mark.parametrize(("name", "cell"), LACKING, ids=lambda part: part)
def test_a_library_without_the_layer_has_no_peer(name, cell):
    assert built(name, cell) is None


def test_the_weights_of_cudnn_are_those_of_the_reference_that_jax_keeps_for_it():
    """Which runs without a GPU."""
    from jax.experimental import rnn

    data, want = small("lstm")
    size, batch, time = SMALL["hidden"], SMALL["batch"], SMALL["time"]
    weights = rnn.unpack_lstm_weights(cudnn_weights(data.params), size, size, 1, False)
    zero, lengths = np.zeros((1, batch, size), np.float32), np.full(batch, time, np.int32)
    ys = rnn.lstm_ref(np.swapaxes(data.xs, 0, 1), zero, zero, *weights, lengths, size, size, 1, 0.0, False)[0]
    np.testing.assert_allclose(np.swapaxes(ys, 0, 1), want["forward"]["ys"], atol=1e-6)


@pytest.mark.parametrize("name", [name for name, cells in HAVE.items() if "lstm" in cells])
def test_a_peer_computes_in_bfloat16(name):
    found, _ = distances(peer(name, "lstm", "bfloat16"), "lstm", "bfloat16")
    assert min(found) > 1e-4  # in float32 it would be nearer
    assert max(found) < 3e-2


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("cell", textbook.FUNCTIONS)
def test_jrnn_is_the_reference(cell, sharded):
    found, _ = distances(ours(textbook.FUNCTIONS[cell].cell(SMALL["hidden"]), sharded=sharded), cell)
    assert max(found) < 2e-6


def test_the_reference_is_that_of_the_equations():
    """Against loops in NumPy, one row and one step at a time."""
    data, want = small("lstm")
    p = jax.tree.map(np.float64, data.params)
    for row in range(SMALL["batch"]):
        h = c = np.zeros(SMALL["hidden"])
        for step, x in enumerate(np.float64(data.xs[:, row])):
            i, f, g, o = np.split(x @ p.w_x + h @ p.w_h + p.b, 4)
            c = sigma(f) * c + sigma(i) * np.tanh(g)
            h = sigma(o) * np.tanh(c)
            np.testing.assert_allclose(want["forward"]["ys"][step, row], h, rtol=1e-12)


@pytest.mark.parametrize("cell", CELLS)
def test_the_reference_is_pytorch_in_float64(cell):
    torch = pytest.importorskip("torch")
    data, want = small(cell)
    layer = peer("pytorch", cell)
    layer.net.double()
    names = [name for name, _ in layer.net.named_parameters()]
    with torch.no_grad():
        for weight, value in zip(layer.net.parameters(), layer.convert(data.params), strict=True):
            weight.copy_(torch.tensor(np.asarray(value, np.float64)))
    xs = torch.tensor(np.float64(data.xs), requires_grad=True)
    ys = layer.net(xs)[0]
    ys.backward(torch.tensor(np.float64(data.cotangent)))
    np.testing.assert_allclose(ys.detach().numpy(), want["forward"]["ys"], rtol=1e-10)
    np.testing.assert_allclose(xs.grad.numpy(), want["train"]["xs"], rtol=1e-9)
    for name, ours_ in (("weight_ih_l0", "w_x"), ("weight_hh_l0", "w_h"), ("bias_ih_l0", "b")):
        got = list(layer.net.parameters())[names.index(name)].grad.numpy().T
        np.testing.assert_allclose(got, want["train"][ours_], rtol=1e-9, atol=1e-12)


def run(*arguments):
    unroll.main(["--hidden=4", "--batch=2", "--time=3", "--rounds=2", "--dtypes=float32", *arguments])


def test_a_run_writes_its_report_and_goes_on_where_it_was_killed(tmp_path, capsys, monkeypatch):
    out = tmp_path / "run"
    options = ["--cells=gru", "--peers", "plain-scan", "haiku", "--engines=states", f"--out={out}"]
    monkeypatch.setattr(measure, "matrix_rates", functools.partial(measure.matrix_rates, size=64))
    write_json, points = unroll.write_json, []

    def killed(path, value):
        write_json(path, value)
        points.append(len(value["points"]))
        if points == [1]:
            raise KeyboardInterrupt

    monkeypatch.setattr(unroll, "write_json", killed)
    with pytest.raises(SystemExit) as stopped:
        run(*options)
    assert stopped.value.code == 130
    before = json.loads((out / "result.json").read_text())
    assert len(before["points"]) == 1

    with pytest.raises(SystemExit) as stopped:
        run(*options)  # nothing is overwritten
    assert stopped.value.code == 2
    assert "nothing is overwritten" in capsys.readouterr().err

    run("--resume", f"--out={out}")
    assert points == [1, 2]  # what is done is not done again
    after = json.loads((out / "result.json").read_text())
    assert after["points"][:1] == before["points"]
    assert [(point["cell"], point["mode"]) for point in after["points"]] == [("gru", "forward"), ("gru", "train")]
    rows = after["points"][1]["rows"]
    assert {"jrnn", "jrnn states", "jrnn sharded", "plain-scan", "haiku"} <= set(rows)
    failed = {name: row["failed"] for name, row in rows.items() if "failed" in row}
    assert [name for name, why in failed.items() if not why.startswith("not installed")] == []
    for name in ("jrnn", "plain-scan"):
        assert rows[name]["median"] >= rows[name]["min"] > 0
        assert rows[name]["temporary_bytes"] > 0
        assert rows[name]["compile_seconds"] > 0

    markdown = (out / "grid.md").read_text()
    assert "### gru, train, float32" in markdown
    assert (out / "grid.png").read_bytes().startswith(b"\x89PNG")


def test_a_peer_that_is_not_installed_is_listed(tmp_path, monkeypatch):
    for module in ("haiku", "equinox"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(measure, "matrix_rates", functools.partial(measure.matrix_rates, size=64))
    run("--cells=lstm", "--modes=forward", "--peers", "haiku", "plain-scan", f"--out={tmp_path / 'run'}")
    rows = json.loads((tmp_path / "run" / "result.json").read_text())["points"][0]["rows"]
    assert rows["haiku"]["failed"].startswith("not installed")
    assert "median" in rows["plain-scan"]
    assert "not installed" in (tmp_path / "run" / "grid.md").read_text()


def test_a_wrong_peer_is_reported_and_not_timed():
    right = peer("plain-scan", "lstm")
    wrong = dataclasses.replace(right, convert=lambda p: p._replace(b=p.b[::-1]))
    broken = JaxLayer(apply=lambda weights, xs: xs @ weights.w_h[:-1])
    config = unroll.Config(hidden=(4,), batch=(2,), time=(3,), rounds=2)
    data, want = small("lstm")
    rows = [
        unroll.Row("wrong", "jax", wrong, "lstm", "jrnn"),
        unroll.Row("broken", "jax", broken, "lstm", "jrnn"),
        unroll.Row("jrnn", "jrnn", ours(textbook.FUNCTIONS["lstm"].cell(4)), "lstm", "jrnn"),
    ]
    for mode in ("forward", "train"):
        found = unroll.measured(config, unroll.Point("lstm", 4, 2, 3, "float32", mode), rows, data, {"lstm": want})
        assert "off the float64 reference" in found["wrong"]["failed"]
        assert "TypeError" in found["broken"]["failed"]
        assert "median" not in found["wrong"]
        assert "median" in found["jrnn"]


def test_ratios_are_a_peers_time_over_that_of_jrnn_computing_the_same():
    rows = {
        "jrnn": {"kind": "jrnn", "against": "jrnn", "median": 2.0, "min": 1.0},
        "jrnn (gru, reset before)": {"kind": "jrnn", "against": "", "median": 4.0, "min": 4.0},
        "jrnn sharded": {"kind": "jrnn", "against": "jrnn", "median": 1.0, "min": 0.5},
        "flax-nnx": {"kind": "jax", "against": "jrnn", "median": 3.0, "min": 2.0},
        "haiku": {"kind": "jax", "against": "jrnn (gru, reset before)", "median": 5.0, "min": 5.0},
        "keras": {"kind": "jax", "against": "jrnn", "failed": "it does not start"},
        "pytorch": {"kind": "torch", "against": "jrnn", "median": 0.5, "min": 0.5},
    }
    point = {"rows": rows}
    assert report.best(point) == 1.25
    assert report.best(point, "min") == 1.25
    assert report.torch(point) == 0.5
    assert report.peer(point, "pytorch", "min") == 0.5
    assert report.peer(point, "keras") is None
    assert report.mean([2.0, None, 8.0]) == pytest.approx(4.0)


def test_quick_points_are_of_the_grid():
    quick = unroll.grid(unroll.Config(quick=True))
    assert sorted(quick) == sorted(unroll.QUICK)
    assert set(quick) < set(unroll.grid(unroll.Config()))
    assert {point[0] for point in quick} == set(CELLS)


@pytest.mark.parametrize("arguments", [["--hidden", "0"], ["--rounds", "0"], ["--batch"]])
def test_what_cannot_be_measured_is_refused(arguments, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        unroll.main([f"--out={tmp_path / 'run'}", *arguments])
    assert stopped.value.code == 2
    assert arguments[0] in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


# What each workaround gains


def test_every_workaround_has_a_row_and_the_control_too(tmp_path, capsys):
    from experiments.benchmarks import workarounds

    small = ["--cells", "lstm", "--hidden", "4", "--batch", "2", "--time", "3", "--dtypes", "float32", "--rounds", "1"]
    workarounds.main([*small, "--names", "one_tanh", "halves_as_integers", f"--out={tmp_path / 'run'}"])
    result = json.loads((tmp_path / "run" / "result.json").read_text())["workarounds"]
    assert list(result) == ["nothing", "one_tanh", "halves_as_integers"]
    assert all(ratios["time"] > 0 for ratios in result["one_tanh"].values())
    assert set(result["halves_as_integers"].values()) == {None}  # float32 has none: the same program
    printed = capsys.readouterr().out
    assert "| one_tanh |" in printed
    assert "| halves_as_integers | same program | same program |" in printed
    assert "halves_as_integers" in workarounds.useless(result)

    path = tmp_path / "run" / "result.json"
    whole = json.loads(path.read_text())
    path.write_text(json.dumps(whole | {"workarounds": {name: result[name] for name in ("nothing", "one_tanh")}}))
    workarounds.main([*small, "--names", "one_tanh", "halves_as_integers", f"--out={tmp_path / 'run'}", "--resume"])
    assert json.loads(path.read_text()) == whole  # what was measured before the end is not measured anew


def test_every_learner_is_timed_where_its_trace_is_not_too_large(tmp_path, monkeypatch, capsys):
    import jrnn
    from experiments.benchmarks import online

    small = online.Point(jrnn.Elman(2, 8), 2, 3)
    monkeypatch.setattr(online, "POINTS", {"small": small, "trained": small._replace(run=online.trained)})
    monkeypatch.setattr(online, "LARGEST", 500)  # RTRL holds 8 x 88 x 2 floats
    online.main([f"--out={tmp_path / 'run'}", "--rounds", "1"])
    for found in json.loads((tmp_path / "run" / "result.json").read_text())["steps"].values():
        assert set(found) == set(online.METHODS) - {"RTRL"}
        assert {found[name]["floats"] for name in ("EProp", "SnAp")} == {2 * 88}
    assert "too large" in capsys.readouterr().out
