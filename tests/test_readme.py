"""The README's examples run, as they stand, one after the other."""

import re
from pathlib import Path

import jax
import pytest

README = Path(__file__).parents[1] / "README.md"


def test_examples_run():
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 3
    names = {"__name__": "readme"}
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        for block in blocks:
            exec(compile(block, str(README), "exec"), names)
    assert names["layer"].output_size == 20
    assert names["ys"].shape == (7, 3, 10)
    assert not names["ys"][4:, 1].any()
    assert not names["ys"][:, 2].any()


@pytest.mark.parametrize("words", ["python -m experiments.char_lm", "python -m pytest"])
def test_one_command_to_run_and_one_to_test(words):
    commands = re.findall(r"```sh\n(.*?)\n```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert sum(words in command and command.startswith("pip install") for command in commands) == 1
