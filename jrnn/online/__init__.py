"""Online gradients: learning while the sequence runs, with a trace in place of the way back through time.

`Online(layer, method)` is a layer with the parameters of `layer` and the state `OnlineState(state, trace)`. Within the window of
steps that `apply` is given the derivative is ordinary; that of the state before it is what `method` kept:

- `RTRL()`: all of it. Exact; n x P floats a row, for n floats of state and P parameters.
- `UORO()`: an unbiased random estimate of rank one, n + P floats.
- `SnAp()`: what returns to the unit that a parameter moved, at most P floats for each array of the state; with a `pattern`, what
  reaches so many units of a sparse network.
- `EProp()`: what stays within a unit, without its recurrent weights: eligibility traces; as many floats.
- `Truncated(steps)`: the last steps, run again.

A layer that is not `Online`, run window by window with its state carried on, is truncated back-propagation through time: nothing
stands for what lies before the window. Which layers a method takes it finds out itself; a `TypeError` names those that work.
"""

from .feedback import feedback_product as feedback_product
from .method import Method as Method
from .method import Window as Window
from .online import Online as Online
from .online import OnlineState as OnlineState
from .rtrl import RTRL as RTRL
from .snap import Pattern as Pattern
from .snap import SnAp as SnAp
from .snap import pattern as pattern
from .truncated import Replay as Replay
from .truncated import Truncated as Truncated
from .units import EProp as EProp
from .uoro import UORO as UORO
from .uoro import RankOne as RankOne
