"""Data sets that a test needs and may lack."""

from pathlib import Path

import pytest


def needs(data_dir: Path, name: str) -> None:
    """Skip the test where the data set `name` is not among the data."""
    if not (data_dir / name).is_dir():
        pytest.skip(f"no {name} in {data_dir}: set JRNN_DATA to a folder that holds {name}/")
