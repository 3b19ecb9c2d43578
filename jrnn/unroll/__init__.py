"""From a cell and a sequence to states and outputs: the unroll, and the engines that run it."""

from .engine import Engine as Engine
from .scan import Scan as Scan
from .unroll import unroll as unroll
