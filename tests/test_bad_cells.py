"""Cells that cannot be: options that are no plain values, flags that are neither True nor False, a class without its decorators."""

import dataclasses
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import key

import jrnn

XS = jnp.ones((5, 2, 3))

REMEDY = "expected a plain value that can be hashed"

OPTIONS = {
    "flag-text": (lambda: jrnn.LSTM(3, 4, bias="False"), "LSTM: bias is 'False'; expected True or False"),
    "flag-word": (lambda: jrnn.GRU(3, 4, reset_after="no"), "GRU: reset_after is 'no'; expected True or False"),
    "flag-number": (lambda: jrnn.CTRNN(3, 4, learn_tau=1), "CTRNN: learn_tau is 1; expected True or False"),
    "flag-none": (lambda: jrnn.Elman(3, 4, bias=None), "Elman: bias is None; expected True or False"),
    "flag-numpy": (lambda: jrnn.Jordan(3, 4, 2, bias=np.True_), r"Jordan: bias is np\.True_; expected True or False"),
    "flag-in-a-stack": (
        lambda: jrnn.rnn(jrnn.GRU, input_size=3, hidden_size=4, bias="no"),
        "GRU: bias is 'no'; expected True or False",
    ),
    "array-numpy": (lambda: jrnn.LSTM(3, 4, forget_bias=np.array(1.0)), rf"LSTM: forget_bias is float64\[\]; {REMEDY}"),
    "array-jax": (lambda: jrnn.LSTM(3, 4, forget_bias=jnp.ones(4)), rf"LSTM: forget_bias is float32\[4\]; {REMEDY}"),
    "array-tau": (lambda: jrnn.CTRNN(3, 4, tau=np.ones(4)), rf"CTRNN: tau is float64\[4\]; {REMEDY}.*tuple"),
    "array-dt": (lambda: jrnn.CTRNN(3, 4, dt=jnp.ones(())), rf"CTRNN: dt is float32\[\]; {REMEDY}"),
    "array-size": (lambda: jrnn.LSTM(np.array(3), 4), rf"LSTM: input_size is int64\[\]; {REMEDY}"),
    "list": (lambda: jrnn.CTRNN(3, 4, tau=[1.0] * 4), rf"CTRNN: tau is list \[1\.0, .*; {REMEDY}.*tuple"),
    "dt-text": (lambda: jrnn.CTRNN(3, 4, dt="1"), "CTRNN: dt is '1'; expected a plain number"),
    "noise-text": (lambda: jrnn.CTRNN(3, 4, noise="0.1"), "CTRNN: noise is '0.1'; expected a plain number"),
    "noise-none": (lambda: jrnn.CTRNN(3, 4, noise=None), "CTRNN: noise is None; expected a plain number"),
}


@pytest.mark.parametrize(("mistake", "words"), OPTIONS.values(), ids=OPTIONS)
def test_an_option_that_is_no_plain_value(mistake, words):
    with pytest.raises(TypeError, match=words):
        mistake()


# A cell that someone wrote without its decorators


class Still(NamedTuple):
    w: jax.Array


class Pieces(jrnn.Cell):
    def init(self, key):
        return Still(jnp.ones((3, 4)))

    def initial_state(self, params, batch=(), key=None):
        return Still(jnp.zeros((*batch, 4)))

    def project(self, params, x):
        return x @ params.w

    def recur(self, params, state):
        return state.w

    def update(self, params, state, z, r):
        return Still(z + r)

    def readout(self, params, state, x):
        return state.w


def undecorated():
    class Bare(Pieces):
        input_size: int = 3
        output_size: int = 4

    return Bare


def frozen():
    return dataclasses.dataclass(frozen=True)(undecorated())


WRITTEN = {
    "no-dataclass": (lambda: jrnn.unroll(undecorated()(), Still(jnp.ones((3, 4))), XS), "not a frozen dataclass"),
    "not-frozen": (lambda: dataclasses.dataclass(undecorated())(), "not a frozen dataclass"),
    "not-registered": (lambda: frozen()(), "not registered as static"),
}


@pytest.mark.parametrize(("mistake", "words"), WRITTEN.values(), ids=WRITTEN)
def test_a_cell_without_its_decorators(mistake, words):
    remedy = "@jax.tree_util.register_static and @dataclasses.dataclass(frozen=True)"
    with pytest.raises(TypeError, match=f"Bare is {words}.*{re.escape(remedy)}"):
        mistake()


def test_a_cell_with_its_decorators():
    cell = jax.tree_util.register_static(frozen())()
    assert jrnn.unroll(cell, cell.init(key(0)), XS)[1].shape == (5, 2, 4)
