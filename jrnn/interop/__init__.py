"""Weights in and out: other libraries' parameters, and files. No other library is imported before it is needed."""

from . import equinox as equinox
from . import flax as flax
from . import haiku as haiku
from . import keras as keras
from . import torch as torch
from .weights import load as load
from .weights import save as save
