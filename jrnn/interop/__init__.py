"""Weights in and out: other libraries' parameters, and files; and models for where jrnn is not.

No other library is imported before it is needed; `jrnn.interop.onnx`, which needs onnx itself, is imported by name.
"""

from . import equinox as equinox
from . import flax as flax
from . import haiku as haiku
from . import int8 as int8
from . import keras as keras
from . import stablehlo as stablehlo
from . import torch as torch
from .weights import load as load
from .weights import save as save
