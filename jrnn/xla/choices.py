"""How many steps a tile has and whether the gates are kept, from byte counts alone.

Measured on two cores (AMD EPYC, jax 0.10.2).
"""

from typing import NamedTuple

MIB = 2**20


class Sizes(NamedTuple):
    """Of one unroll; in bytes, but for `time` and `flop`."""

    time: int  # steps
    z: int  # of one step: what the projection makes
    kept: int  # of one step: what a derivative keeps, the gates included
    weights: int
    flop: float  # multiplications of making z and r of one step once more


class Choice(NamedTuple):
    """What `LinearSolve` leaves open."""

    plain: int | None  # steps in a tile where no derivative is taken; None: all
    tile: int | None  # steps in a tile where one is taken
    gates: bool  # whether z, r and products are kept for the derivative


def choose(sizes: Sizes, tile: int | None, save: str | None) -> Choice:
    """`LinearSolve(tile, save)` with what is None chosen for a CPU."""
    # Calls that took 34 MiB were a quarter slower than those of 29, as if they got fresh pages each time: above 32 MiB glibc does
    # (DEFAULT_MMAP_THRESHOLD_MAX). All steps at once take up to four and a quarter times what a derivative keeps, tiles twice
    # what it keeps. Above that, keeping was slower than computing again at 64 FLOP per byte of z and r, and faster at 128.
    whole = sizes.time * sizes.kept <= max(7 * MIB, sizes.weights)
    gates = save == "gates" if save else whole or 5 * sizes.time * sizes.kept < 64 * MIB or sizes.flop / sizes.z > 100
    if tile or (whole and gates):
        return Choice(tile, tile, gates)
    # Where only the states are kept, the tile itself should not take much either.
    most = max(4, min(max(3 * MIB // 2, sizes.weights // 2) // sizes.z, sizes.time if gates else sizes.time // 16))
    tile = dividing(sizes.time, most)
    # Without a derivative all steps at once were 1.02 to 1.26 times as fast for a z of 6 to 8 MiB, 0.9 to 1.07 above.
    return Choice(None if sizes.time * sizes.z <= 8 * MIB else tile, tile, gates)


def dividing(time: int, most: int) -> int:
    """How many steps to take at once, at most `most`: rather a few less than a shorter rest, which is compiled apart."""
    return next((steps for steps in range(most, most // 2, -1) if time % steps == 0), most)
