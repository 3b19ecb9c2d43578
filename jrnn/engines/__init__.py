"""Engines: how the states of a recurrence are found and differentiated.

An unroll is a recurrence, s_t = step(s_{t-1}, t), with restarts and padding in the step (`system`). An engine says how
its states are found; `Scan` runs a loop. Their tangents obey a linear recurrence (`linear_system`), whatever found
them; a solver says how that one is solved, forwards for forward mode, transposed for back-propagation through time
(`solver`). `implicit` puts the three together. `Autodiff` uses none of this: it is a plain `jax.lax.scan`, which the
tests hold all others against.

| file | what |
|---|---|
| engine | what an engine is |
| system | the recurrence, and the same of a cell whose pieces were traced |
| scan, gradient | the loop, and how it may be differentiated: `Autodiff` |
| linear_solve | `LinearSolve`, the default: which tiles, and what is kept |
| checkpointed, tiles | most states forgotten; a sequence in parts |
| linear_system, residuals | the linear recurrence of the tangents, and what of a step is kept for it |
| solver, solve, implicit | how it is solved, as a primitive of JAX, as the derivative of the states |
"""

from .checkpointed import Checkpointed as Checkpointed
from .engine import Engine as Engine
from .gradient import Autodiff as Autodiff
from .gradient import Gradient as Gradient
from .linear_solve import LinearSolve as LinearSolve
from .scan import Scan as Scan
