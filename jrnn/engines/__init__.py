"""From a cell and a sequence to states and outputs: the engines that run the loop."""

from .checkpointed import Checkpointed as Checkpointed
from .engine import Engine as Engine
from .gradient import Autodiff as Autodiff
from .gradient import Gradient as Gradient
from .scan import Scan as Scan
from .solve import LinearSolve as LinearSolve
