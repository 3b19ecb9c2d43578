"""jrnn inside Flax, and Flax's cells inside jrnn: `jrnn.flax.linen` and `jrnn.flax.nnx`."""

from . import linen as linen
from . import nnx as nnx
