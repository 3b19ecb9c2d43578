"""Training: an Optax loop as functions. Rows are divided among all devices of all processes; a killed run resumes bit for bit."""

from .fit import Batches as Batches
from .fit import Fitted as Fitted
from .fit import NonFiniteLoss as NonFiniteLoss
from .fit import Observer as Observer
from .fit import Record as Record
from .fit import Stream as Stream
from .fit import fit as fit
from .placement import own_mesh as own_mesh
from .placement import own_part as own_part
from .placement import own_rows as own_rows
from .processes import ProcessLost as ProcessLost
from .processes import is_first as is_first
from .processes import of_first as of_first
from .step import Info as Info
from .step import Loss as Loss
from .step import TrainState as TrainState
from .step import init_state as init_state
from .step import make_evaluate as make_evaluate
from .step import make_step as make_step
