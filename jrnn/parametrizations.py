"""What weights must obey, as functions from raw parameters to those that obey it: `jrnn.Parametrized(cell, parametrization)`.

A parametrization is a function `(cell, params) -> params`, with as many arrays of the same shapes; one that also chooses where raw
parameters start is a `Parametrization`. Those here act on the recurrent weights (`cell.recurrent`) of any cell, on all blocks of
a gated one alike, and on a wrapper on those of the cell inside. Rows of such a matrix are the units that send, columns those that
receive.
"""

import abc
import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .cell import Cell
from .initializers import inside, recurrent_names


class Parametrization(abc.ABC):
    """A function from raw parameters to those that a cell computes with. A frozen dataclass of hyperparameters."""

    @abc.abstractmethod
    def __call__(self, cell: Cell, params: Any) -> Any:
        """The parameters that `cell` computes with, from raw ones."""

    def start(self, cell: Cell, params: Any) -> Any:
        """Raw parameters to start from, from fresh ones of the cell, `cell.init(key)`: these, where nothing better is known."""
        return params


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class DalesLaw(Parametrization):
    """Each unit excites or inhibits: all weights that leave it have one sign (Song, Yang & Wang 2016, "Training
    excitatory-inhibitory recurrent neural networks for cognitive tasks").

        W_h = D |raw|

    D is diagonal: 1 for the first units, a share `excitatory` of all, -1 for the rest. It says something of a network whose units
    are never negative (`activation="relu"`). The paper rectifies raw weights; |raw| has a derivative where they would be
    negative.

    At the start, weights that inhibit are larger by the ratio of the numbers of units, so that both sides are in balance, and all
    are scaled so that squares sum to what they were.
    """

    excitatory: float = 0.8

    def __post_init__(self) -> None:
        _check_share("DalesLaw", "excitatory", self.excitatory)

    def signs(self, units: int) -> np.ndarray:
        """1 for each unit that excites, -1 for each that inhibits: [units]."""
        return np.where(np.arange(units) < round(self.excitatory * units), 1, -1)

    def __call__(self, cell: Cell, params: Any) -> Any:
        return _each(cell, params, lambda w: jnp.abs(w) * _like(self.signs(w.shape[-2])[:, None], w))

    def start(self, cell: Cell, params: Any) -> Any:
        def balance(w: jax.Array) -> jax.Array:
            signs = self.signs(w.shape[-2])
            excite, inhibit = int((signs > 0).sum()), int((signs < 0).sum())
            sizes = np.where(signs > 0, 1.0, excite / max(inhibit, 1) or 1.0)
            return w * _like((sizes / np.sqrt(np.mean(sizes**2)))[:, None], w)

        return _each(cell, params, balance)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Sparse(Parametrization):
    """A share `density` of all connections between units; the others are 0 and stay 0 (Song, Yang & Wang 2016).

        W_h = M * raw

    M holds 0 and 1, drawn once by `seed`, the same for all gates; `self_connections=False` leaves out those of a unit to itself,
    where as many units send as receive. At the start, weights are larger by 1 / sqrt(density).
    """

    density: float
    seed: int = 0
    self_connections: bool = dataclasses.field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        _check_share("Sparse", "density", self.density)
        if self.density == 0:
            raise ValueError("Sparse: density is 0; expected a share of the connections in (0, 1]")

    def mask(self, send: int, receive: int) -> np.ndarray:
        """M of one gate: bool [send, receive]."""
        drawn = np.random.default_rng(self.seed).random((send, receive)) < self.density
        return drawn & ~np.eye(send, dtype=bool) if send == receive and not self.self_connections else drawn

    def __call__(self, cell: Cell, params: Any) -> Any:
        gates = len(cell.gates)
        return _each(
            cell, params, lambda w: w * _like(np.tile(self.mask(w.shape[-2], w.shape[-1] // gates), (1, gates)), w)
        )

    def start(self, cell: Cell, params: Any) -> Any:
        return _each(cell, params, lambda w: w / _like(np.sqrt(self.density), w))


@inside
def _each(cell: Cell, params: Any, change: Any) -> Any:
    """`params` with every recurrent weight [..., send, gates * receive] changed."""
    return params._replace(**{name: change(getattr(params, name)) for name in recurrent_names(cell, params)})


def _like(values: Any, w: jax.Array) -> jax.Array:
    """Of w's dtype, repeated over its axes."""
    return jnp.broadcast_to(jnp.asarray(values, w.dtype), w.shape)


def _check_share(owner: str, name: str, value: Any) -> None:
    """A plain number in [0, 1]."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{owner}: {name} is {value!r}; expected a plain number, a share in [0, 1]")
    if not (math.isfinite(value) and 0 <= value <= 1):
        raise ValueError(f"{owner}: {name} is {value}; expected a share in [0, 1]")
