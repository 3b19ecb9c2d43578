"""One step at a time: the state is donated, the numbers are those of the whole sequence; the worked example."""

import functools
import wave

import jax
import numpy as np
import pytest
from cases import ALL, CANNOT_STREAM, random_inputs, random_params, random_state, run, same

STREAMED = {name: model for name, model in ALL.items() if name not in CANNOT_STREAM}


@pytest.mark.parametrize("name", STREAMED)
def test_steps_with_a_donated_state_are_the_whole_sequence(name):
    model = STREAMED[name]
    params = random_params(model)
    xs = random_inputs(model, 4, 2)
    wanted = run(model, params, xs, random_state(model, params, (2,)))

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, x):
        return model.step(params, state, x)

    state, ys = random_state(model, params, (2,)), []
    for x in xs:
        before = state
        state, y = step(before, x)
        ys.append(y)
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before))
    same((state, np.stack(ys)), wanted)


@pytest.fixture
def streaming():
    pytest.importorskip("tyro", reason="the experiments extra is not installed")
    from experiments import streaming

    return streaming


def test_the_worked_example_agrees_with_unroll_however_it_is_run(streaming):
    for package in ("torch", "onnx", "onnxruntime"):
        pytest.importorskip(package)
    found = streaming.stream(streaming.Config(hidden=(5, 8), samples=120))
    assert [(row.hidden, row.way) for row in found] == [(hidden, way) for hidden in (5, 8) for way in streaming.WAYS]
    assert all(row.difference < 1e-5 for row in found)
    assert all(0 < row.median <= row.slowest for row in found)


def test_the_example_tells_what_is_not_installed(streaming, monkeypatch, capsys):
    assert streaming.missing(("jax", "no_such_package")) == ["no_such_package"]
    absent = ("torch", "onnxruntime")
    monkeypatch.setattr(streaming, "missing", lambda packages: [name for name in packages if name in absent])
    streaming.main(["--hidden", "4", "--samples", "60"])
    said = capsys.readouterr().out
    assert "| 4 | jrnn, jit, state donated |" in said
    assert "torch.nn.LSTMCell: torch not installed" in said
    assert "onnxruntime not installed" in said


def test_a_difference_is_seen(streaming):
    """A way that drops its state is told apart from one that keeps it."""
    xs = streaming.audio(streaming.Config(samples=60))
    cell = streaming.jrnn.LSTM(1, 4)
    params = cell.init(jax.random.key(0))
    whole = run(cell, params, xs)[1]
    kept, _ = streaming.measure(streaming.start_jrnn(cell, params), xs)
    forgetful, _ = streaming.measure(lambda x: streaming.start_jrnn(cell, params)(x), xs[:2])
    np.testing.assert_allclose(kept, whole, atol=1e-6)
    assert np.abs(forgetful - whole[:2]).max() > 1e-3


def write_wav(path, samples, width=2, channels=1):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(8000)
        file.writeframes(samples)


def test_recordings(streaming, tmp_path, capsys):
    left = np.arange(-50, 50, dtype="<i2") * 300
    write_wav(tmp_path / "two.wav", np.stack([left, np.zeros_like(left)], -1).tobytes(), channels=2)
    config = streaming.Config(hidden=(4,), samples=80, wav=tmp_path / "two.wav")
    np.testing.assert_array_equal(streaming.audio(config).ravel(), left[:80] / np.float32(2**15))

    def fails(words, *arguments):
        with pytest.raises(SystemExit) as caught:
            streaming.main(list(map(str, arguments)))
        assert caught.value.code == 2
        assert words in " ".join(capsys.readouterr().err.split())

    write_wav(tmp_path / "bytes.wav", bytes(200), width=1)
    write_wav(tmp_path / "short.wav", bytes(20))
    (tmp_path / "text.wav").write_text("not a recording")
    fails("8 bits a sample; expected 16", "--wav", tmp_path / "bytes.wav")
    fails("has 10 samples; expected more than 50", "--wav", tmp_path / "short.wav")
    fails("cannot be read as a WAV file", "--wav", tmp_path / "text.wav")
    fails("No such file", "--wav", tmp_path / "nowhere.wav")
    fails("expected more than 50", "--samples", 3)
    fails("expected one or more sizes", "--hidden", 0)
