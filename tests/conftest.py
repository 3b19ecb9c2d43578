"""Strict configuration, set before JAX starts; where the data lies."""

import ctypes
import functools
import importlib.metadata
import os
import pathlib
import sys
import tempfile

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("KERAS_BACKEND", "jax")  # one for all tests of a process: the first import of Keras fixes it
# For thousands of small programs, each run a few times: most of the time would go into optimising them. Processes that a test
# starts too. `optimised_compilation` is for the tests that read what the compiler made.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# 0.10 has two ways to make code for a CPU: with the older one the laws take half the CPU time. 0.12 refuses the flag.
if importlib.metadata.version("jaxlib").startswith("0.10."):
    older = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {older}"
# Workers, and runs that go on with others, share what was compiled.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    compiled = tempfile.TemporaryDirectory(prefix="jrnn-tests-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = compiled.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"

import jax
import pytest
from hypothesis import settings

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

settings.register_profile("jrnn", max_examples=20, deadline=None, derandomize=True)
settings.load_profile("jrnn")

pytest.register_assert_rewrite("laws")


QUICK = (
    "test_bad_cells", "test_bad_input", "test_decode", "test_gradient", "test_house", "test_laws", "test_layers", "test_losses",
    "test_noise", "test_oracle_numpy",
)  # fmt: skip
"""The modules that run without the slow tests, which take the rest: experiments, other libraries, whole grids of combinations."""


@functools.cache
def imports_experiments(path):
    return "experiments" in path.read_text(encoding="utf-8")


def pytest_collection_modifyitems(items):
    for item in items:
        if imports_experiments(item.path):
            item.add_marker(pytest.mark.experiment)
        quick = item.module.__name__ in QUICK
        if item.module.__name__ in ("test_laws", "test_gradient"):
            quick = any(name in item.name for name in ("lstm]", "lstm-peephole-states-one-tile"))
        if item.module.__name__ in ("test_gradient_by_lag", "test_fixed_points", "test_gates"):
            quick = any(
                name in item.name for name in ("of_numpy", "logarithms", "theory_has_it[3.0]", "bistable", "made[lstm]")
            )
        if not quick:
            item.add_marker(pytest.mark.slow)


def resident():
    """The bytes of memory that this process has."""
    statm = pathlib.Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0


cleared = {"tests ago": 0, "bytes then": resident()}


@pytest.fixture(autouse=True)
def few_programs_at_a_time():
    """Each compiled program takes memory, and several of the 65,530 maps that Linux grants a process before it crashes."""
    yield
    cleared["tests ago"] += 1
    # By memory too: twenty tests of learning online held 2.7 GB.
    if cleared["tests ago"] == 40 or resident() > cleared["bytes then"] + 600e6:
        jax.clear_caches()
        if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
            trim(0)  # else glibc keeps most of what was freed: 720 MB in place of 330 after a hundred laws
        cleared.update({"tests ago": 0, "bytes then": resident()})


@pytest.fixture(scope="session", autouse=True)
def wide_terminal():
    """Errors are not broken into lines, whose ends would depend on the length of a path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "1000")
        yield


@pytest.fixture(scope="session", autouse=True)
def keras_at_home(tmp_path_factory):
    """Keras writes its settings where they end with the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
        yield


@pytest.fixture(scope="session")
def data_dir() -> pathlib.Path:
    """The directory of data sets: $JRNN_DATA, or shared/data next to the checkout."""
    beside = pathlib.Path(__file__).parents[2] / "shared" / "data"
    path = pathlib.Path(os.environ.get("JRNN_DATA", beside))
    if not path.is_dir():
        pytest.skip(f"no data: {path} is not a directory; set JRNN_DATA")
    return path


@pytest.fixture
def standard_promotion():
    """Optax's own arithmetic mixes integers and floats."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture
def optimised_compilation():
    """As users compile."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture
def isolated(monkeypatch, tmp_path):
    """No data folder from the environment, an empty download cache, no network."""
    pooch = pytest.importorskip("pooch", reason="the experiments extra is not installed")

    def retrieve(url, **_):
        raise OSError("no network")

    monkeypatch.delenv("JRNN_DATA", raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    monkeypatch.setattr(pooch, "retrieve", retrieve)


@pytest.fixture
def as_a_user(monkeypatch, tmp_path):
    """JAX's own promotion rules, a fresh folder to work in, no data folder from the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JRNN_DATA", raising=False)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
