"""What a recurrent network's derivatives and dynamics are like: functions of (model, params, xs, state) that draw nothing.

`model` is a cell or a causal layer, of which `step` alone is used; its state may be any pytree. All of them are for looking at a
network, at any time in training or after it, and none changes one.

- `gradient_by_lag`: how much of a loss reaches the states before; `gradient_bound`: how much can.
- `lyapunov`: whether small differences grow or fade, and how fast; `kaplan_yorke` is the dimension that follows.
- `fixed_points`: the states that a constant input leaves where they are, and what the network does around them.
- `gate_values`, `saturation`: what gates do, and how often they are stuck; `memory`: how long units remember by themselves.
- `spectra`, `weight_spectra`: how much matrices stretch; `surface`: the loss over two parameters.
- `jacobians`, `state_gradients`: what these are made of.
"""

from ..arrays import with_vector as with_vector
from .fixed_points import FixedPoints as FixedPoints
from .fixed_points import fixed_points as fixed_points
from .fixed_points import mixtures as mixtures
from .gates import Memory as Memory
from .gates import Saturation as Saturation
from .gates import gate_values as gate_values
from .gates import memory as memory
from .gates import saturation as saturation
from .gradients import GradientByLag as GradientByLag
from .gradients import gradient_bound as gradient_bound
from .gradients import gradient_by_lag as gradient_by_lag
from .gradients import jacobians as jacobians
from .gradients import state_gradients as state_gradients
from .lyapunov import Lyapunov as Lyapunov
from .lyapunov import kaplan_yorke as kaplan_yorke
from .lyapunov import lyapunov as lyapunov
from .spectra import Spectra as Spectra
from .spectra import spectra as spectra
from .spectra import weight_spectra as weight_spectra
from .states import vector as vector
from .surface import surface as surface
