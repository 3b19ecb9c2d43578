"""Spectral norms and radii: how much a matrix can stretch at most, at once and in the long run."""

from typing import Any, NamedTuple

import numpy as np

from ..cell import Cell, check_cell
from ..cells.wrapper import Wrapper
from ..checks import check_params, describe


class Spectra(NamedTuple):
    """Of one matrix, or of an array of them."""

    norms: np.ndarray  # [...]: the largest singular value: no vector is stretched by more
    radii: (
        np.ndarray
    )  # [...]: the largest |eigenvalue|: the factor per step in the long run; NaN where it is not square


def spectra(matrices: Any) -> Spectra:
    """Spectral norms and radii of matrices [..., rows, columns], such as `jacobians(...)`. By NumPy: not under `jit`."""
    matrices = np.asarray(matrices)
    if matrices.ndim < 2 or 0 in matrices.shape[-2:]:
        raise ValueError(f"matrices is {describe(matrices)}; expected [..., rows, columns]")
    matrices = matrices.astype(np.complex128 if np.iscomplexobj(matrices) else np.float64)
    norms = np.linalg.norm(matrices, 2, axis=(-2, -1))
    if matrices.shape[-1] != matrices.shape[-2]:
        return Spectra(norms, np.full(norms.shape, np.nan))
    return Spectra(norms, np.abs(np.linalg.eigvals(matrices)).max(-1))


def weight_spectra(cell: Cell, params: Any) -> dict[str, Spectra]:
    """Spectral norm and radius of each gate's block of a cell's recurrent weights, by weight and gate: "w_h.f" of an LSTM.

    Not under `jit`. Of a wrapper such as `LearnedState` they are those of the cell inside, of a `Parametrized` those it makes.
    """
    check_cell(cell)
    check_params(cell, params)
    while isinstance(cell, Wrapper):
        cell, params = cell.cell, cell.made(params)
    found = {}
    for name in cell.recurrent:
        w = np.asarray(getattr(params, name))
        if w.ndim != 2:
            raise ValueError(
                f"{name} of {cell} is {describe(w)}, no matrix; expected a cell whose recurrent weights are matrices"
            )
        blocks = np.split(w, len(cell.gates), -1)
        found |= {f"{name}.{gate}": spectra(block) for gate, block in zip(cell.gates, blocks, strict=True)}
    if not found:
        raise ValueError(f"{cell} has no recurrent weights; expected a cell with some, such as LSTM or Elman")
    return found
