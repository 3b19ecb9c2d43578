"""Training: an Optax loop as functions. The batch is sharded over local devices; a killed run resumes bit for bit."""

from .fit import Batches as Batches
from .fit import Fitted as Fitted
from .fit import NonFiniteLoss as NonFiniteLoss
from .fit import Observer as Observer
from .fit import Record as Record
from .fit import Stream as Stream
from .fit import fit as fit
from .step import Info as Info
from .step import Loss as Loss
from .step import TrainState as TrainState
from .step import init_state as init_state
from .step import make_evaluate as make_evaluate
from .step import make_step as make_step
