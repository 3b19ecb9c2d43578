"""Recurrent cells, one family a file."""

from .ctrnn import CTRNN as CTRNN
from .elman import Elman as Elman
from .elman import Jordan as Jordan
from .gru import GRU as GRU
from .lstm import LSTM as LSTM
from .lstm import PeepholeLSTM as PeepholeLSTM
from .lstm import ProjectedLSTM as ProjectedLSTM
