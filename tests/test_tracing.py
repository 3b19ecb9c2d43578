"""What a call costs before anything runs: frames from the call to the cell, compilations, arrays that are kept."""

import dataclasses
import gc
import inspect
import pathlib

import cases
import jax
import jax.numpy as jnp
import pytest
from jax import lax

import jrnn
from jrnn import Checkpointed, LinearSolve, Scan
from jrnn.engines.system import System, traced


def frames_of_update(**options):
    """The frames of the package between a call of `unroll` and `update`, outermost first, as (file, function)."""
    root = str(pathlib.Path(jrnn.__file__).parent)
    seen = []

    @jax.tree_util.register_static
    @dataclasses.dataclass(frozen=True)
    class Watched(jrnn.Cell):
        input_size: int = 3
        output_size: int = 4

        def init(self, key):
            return jrnn.ElmanParams(jnp.ones((3, 4)), jnp.ones((4, 4)), None)

        def initial_state(self, params, batch=(), key=None):
            return jrnn.ElmanState(jnp.zeros((*batch, 4)))

        def project(self, params, x):
            return x @ params.w_x

        def recur(self, params, state):
            return state.h @ params.w_h

        def update(self, params, state, z, r):
            stack = [frame for frame in inspect.stack() if frame.filename.startswith(root)]
            seen.append([(frame.filename, frame.function) for frame in stack][::-1])
            return jrnn.ElmanState(jnp.tanh(z + r))

        def readout(self, params, state, x):
            return state.h

    cell = Watched()
    params = cell.init(None)
    jax.grad(lambda p: jnp.sum(jrnn.unroll(cell, p, jnp.ones((5, 2, 3)), **options)[1]))(params)
    return seen


@pytest.mark.parametrize(
    ("engine", "frames", "files"),
    [(Scan(), 9, 5), (Scan(gradient=jrnn.Autodiff()), 5, 5), (Scan(gradient=LinearSolve(tile=2)), 9, 5)],
    ids=repr,
)
def test_the_way_from_the_call_to_the_update_is_short_and_enters_no_file_twice(engine, frames, files):
    stacks = frames_of_update(engine=engine)
    assert stacks
    for stack in stacks:
        names = [name for name, _ in stack]
        visits = [name for index, name in enumerate(names) if index == 0 or names[index - 1] != name]
        assert len(stack) <= frames
        assert len(set(names)) <= files
        assert len(visits) == len(set(visits))


def test_a_second_eager_call_of_an_equal_cell_compiles_nothing_and_keeps_nothing(caplog):
    cell = jrnn.LSTM(5, 11)
    params, xs = cell.init(jax.random.key(0)), jnp.ones((7, 3, 5))

    def call():
        equal = dataclasses.replace(cell)
        ys = jrnn.unroll(equal, params, xs, lengths=jnp.array([7, 3, 0]))[1]
        slope = jax.grad(lambda p: jnp.sum(jrnn.unroll(equal, p, xs)[1]))(params)
        return jax.block_until_ready((ys, slope))

    def compiled():
        return [record for record in caplog.records if "Finished XLA compilation" in record.getMessage()]

    with jax.log_compiles(), caplog.at_level("WARNING", logger="jax"):
        call()
        assert compiled()
        caplog.clear()
        call()
        gc.collect()
        before = len(jax.live_arrays())
        for _ in range(3):
            call()
        gc.collect()
    assert not compiled()
    assert len(jax.live_arrays()) == before


def test_a_traced_system_steps_like_the_cell():
    cell = jrnn.GRU(3, 4)
    params = cases.random_params(cell)
    state = cases.random_state(cell, params, (2,))
    xs = cases.random_inputs(cell, 5, 2)
    system = System(cell, params, state, cell.initial_state(params, (2,)), xs, None, None, False, 1)
    for one in (system, traced(system)):
        states = lax.scan(one.step, one.state, one.steps())[1]
        cases.same(states.h, jrnn.unroll(cell, params, xs, state, engine=Scan(gradient=Checkpointed()))[1])
