"""How programs are written so that XLA runs them fast. The numbers are the same without any of it.

Everything here exists for XLA's CPU backend, as of jax 0.10, and is left out on other backends. Each workaround is one
function, with its reason and what it gained where it was measured (two cores, AMD EPYC, jax 0.10.2), and has a switch:
`off(name)`. `python -m experiments.benchmarks.workarounds` measures each for the jax at hand, as in
`experiments/benchmarks/results/2026-11-27-epyc-2-cores-workarounds`; what no longer pays is to be deleted.

| file | what |
|---|---|
| switches | the names, and how to switch one off |
| loops | the loop: hoisting, 16-bit floats in stacks, results stacked once, weights transposed once, barriers |
| products | sums in float32 for 16-bit products, gradients of weights, sums of large arrays over rows |
| convolutions | the order of their axes |
| gates | a gate read from the whole; one tanh for all gates |
| choices | how many steps in a tile, and what is kept: numbers alone |
"""

from .switches import WORKAROUNDS as WORKAROUNDS
from .switches import off as off
from .switches import on as on
from .switches import on_cpu as on_cpu
