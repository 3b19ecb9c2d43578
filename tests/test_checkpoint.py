import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jrnn
from jrnn.checkpoint import CheckpointError, Checkpoints

CELL = jrnn.LSTM(3, 4)


def tree(seed=0, hidden=4):
    return {
        "params": jrnn.LSTM(3, hidden).init(jax.random.key(seed)),
        "half": jnp.arange(5, dtype=jnp.bfloat16) / 3,
        "key": jax.random.key(seed),
        "keys": jax.random.split(jax.random.key(seed), (2, 3)),
        "step": jnp.int32(seed),
        "nothing": (),
    }


@pytest.fixture
def checkpoints(tmp_path):
    opened = Checkpoints(tmp_path / "checkpoints", keep=2)
    yield opened
    opened.close()


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        assert np.array_equal(
            *(jax.random.key_data(k) if jnp.issubdtype(k.dtype, jax.dtypes.prng_key) else k for k in (x, y))
        )


def test_round_trip_is_bit_exact_keys_included(checkpoints):
    record = {"losses": [0.1, 1 / 3], "name": "x"}
    checkpoints.save(3, tree(1), record)
    restored = checkpoints.restore(tree(2))
    assert restored.step == 3
    assert restored.record == record
    same(restored.state, tree(1))


def test_newest_and_best_are_kept(checkpoints):
    for step, metric in enumerate([3.0, 1.0, 2.0, None, 4.0, 5.0]):
        checkpoints.save(step, tree(step), {}, metric=metric)
    assert checkpoints.steps() == [1, 4, 5]
    assert checkpoints.best() == 1
    same(checkpoints.restore(tree(), 1).state, tree(1))
    again = Checkpoints(checkpoints.directory, keep=2)
    assert (again.steps(), again.best()) == ([1, 4, 5], 1)
    again.close()


def test_a_saved_step_is_not_overwritten(checkpoints):
    checkpoints.save(1, tree(1), {})
    checkpoints.save(1, tree(2), {})
    same(checkpoints.restore(tree()).state, tree(1))
    assert checkpoints.best() is None


def test_without_room_it_says_what_there_is(checkpoints, monkeypatch):
    enough = shutil.disk_usage(checkpoints.directory)
    for before, there in ((), "none is there"), ((1, 2), "those of steps 1, 2 are there"):
        for step in before:
            checkpoints.save(step, tree(step), {})
        with monkeypatch.context() as patch:
            patch.setattr(shutil, "disk_usage", lambda path: enough._replace(free=300_000))
            with pytest.raises(
                OSError, match=rf"of step 3 needs about 1\.\d MB, and 0\.3 are free; {there}: free some"
            ):
                checkpoints.save(3, tree(3), {})
        assert checkpoints.steps() == list(before)


def test_missing(checkpoints):
    with pytest.raises(CheckpointError, match=r"holds no checkpoint; it has steps \[\]"):
        checkpoints.restore(tree())
    checkpoints.save(1, tree(), {})
    with pytest.raises(CheckpointError, match=r"no checkpoint of step 7; it has steps \[1\]"):
        checkpoints.restore(tree(), 7)


def test_of_another_model(checkpoints):
    checkpoints.save(1, tree(), {})
    with pytest.raises(CheckpointError, match=r"w_x is float32\[3, 16\]; expected float32\[3, 20\]"):
        checkpoints.restore(tree(hidden=5))
    with pytest.raises(CheckpointError, match=r"lacks .*other.* and has .*half"):
        checkpoints.restore({("other" if k == "half" else k): v for k, v in tree().items()})


@pytest.mark.parametrize("damage", ["truncate", "remove"])
def test_damaged(checkpoints, damage):
    checkpoints.save(1, tree(), {})
    checkpoints.save(2, tree(), {})
    folder = checkpoints.directory / "2" / "state"
    if damage == "remove":
        shutil.rmtree(folder)
    else:
        for file in folder.rglob("*"):
            if file.is_file():
                file.write_bytes(file.read_bytes()[:9])
    with pytest.raises(CheckpointError, match=r"2 cannot be read .* to go on from step 1"):
        Checkpoints(checkpoints.directory).restore(tree())


def test_a_foreign_folder_is_an_error_and_is_left_alone(tmp_path):
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match=r"cannot be read|holds no checkpoint"):
        Checkpoints(tmp_path).restore(tree())
    assert (tmp_path / "7" / "notes.txt").read_text() == "mine"


def test_keep_must_be_positive(tmp_path):
    with pytest.raises(ValueError, match="keep is 0"):
        Checkpoints(tmp_path, keep=0)
