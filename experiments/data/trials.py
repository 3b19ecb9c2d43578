"""Trials of neuroscience tasks, from NeuroGym (Molano-Mazón et al. 2022): what is seen, and what is to be done, at every step."""

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.common.extras import need


class Trials(NamedTuple):
    """Trials side by side, all of one length."""

    seen: np.ndarray  # float32 [count, time, features]: fixation point, then the stimulus at each place
    action: np.ndarray  # int32 [count, time]: 0 while to fixate, then the choice; -1 after the end
    conditions: Mapping[str, np.ndarray]  # [count]: what the trial was made of, by NeuroGym's names


@dataclasses.dataclass(frozen=True)
class Setting:
    """A task with its time step."""

    name: str  # of NeuroGym, such as PerceptualDecisionMaking-v0
    dt: int  # milliseconds
    timing: tuple[tuple[str, int], ...] = ()  # milliseconds of periods, where they are not the task's own

    def make(self) -> Any:
        """The environment. Raises MissingPackage where NeuroGym, or PyTorch, which it imports, is not installed."""
        need("torch", "ctrnn")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Gymnasium, about pictures that nobody asked for
            neurogym = need("neurogym", "ctrnn")
            return neurogym.make(self.name, dt=self.dt, timing=dict(self.timing)).unwrapped


def periods(setting: Setting) -> dict[str, tuple[int, int]]:
    """The first step of each period of a trial and the first after it."""
    environment = setting.make()
    environment.seed(0)
    environment.new_trial()
    return {name: (environment.start_ind[name], environment.end_ind[name]) for name in environment.start_ind}


def draw(setting: Setting, count: int, seed: int, **conditions: Any) -> Trials:
    """`count` random trials; those of the same seed are the same. `conditions` are fixed, by NeuroGym's names."""
    environment = setting.make()
    environment.seed(seed)
    seen, action, made = [], [], []
    for _ in range(count):
        made.append(environment.new_trial(**conditions))
        seen.append(np.array(environment.ob, np.float32))
        action.append(np.array(environment.gt, np.int32))
    names = made[0].keys()
    return Trials(np.stack(seen), np.stack(action), {name: np.array([trial[name] for trial in made]) for name in names})


def together(parts: Sequence[Trials]) -> Trials:
    """Trials of several lengths: after the end of the shorter ones nothing is seen, and the action is -1."""
    longest = max(part.seen.shape[1] for part in parts)

    def padded(a: np.ndarray, value: int) -> np.ndarray:
        return np.pad(a, [(0, 0), (0, longest - a.shape[1]), *[(0, 0)] * (a.ndim - 2)], constant_values=value)

    return Trials(
        np.concatenate([padded(part.seen, 0) for part in parts]),
        np.concatenate([padded(part.action, -1) for part in parts]),
        {name: np.concatenate([part.conditions[name] for part in parts]) for name in parts[0].conditions},
    )
