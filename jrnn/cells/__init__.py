"""Recurrent cells, one family a file."""

from .ctrnn import CTRNN as CTRNN
from .elman import Elman as Elman
from .elman import Jordan as Jordan
from .gru import GRU as GRU
from .learned_state import LearnedState as LearnedState
from .lstm import LSTM as LSTM
from .lstm import PeepholeLSTM as PeepholeLSTM
from .lstm import ProjectedLSTM as ProjectedLSTM
from .recurrent_dropout import RecurrentDropout as RecurrentDropout
from .zoneout import Zoneout as Zoneout
