"""The cliff: why gradients explode, and what clipping them is good for, in one picture.

One sigmoid unit that sees itself alone, a_t = sigmoid(w a_{t-1} + b), 50 times, shall end at 0.7. Its loss over (w, b) has a cliff
(Pascanu, Mikolov & Bengio 2013, figure 6): on both sides of it the gradient is small, on it hundreds of times larger.

    python -m experiments.cliff

draws the surface and two runs of gradient descent from the same place in five seconds of one core. Of 120 steps the plain run meets
a gradient of length 23 at the cliff, is thrown 6.8 away to where all gradients are 0, and its loss stays at 0.09; the run whose
gradients are clipped to length 0.2 bounces off the cliff by 0.06 at most, with a loss of 0.0003 to 0.005 in its last 20 steps.
"""

import dataclasses
import time
from typing import Annotated, Any, ClassVar

import numpy as np

from experiments.common.command import command
from experiments.common.options import Count, Limit
from experiments.common.run import Run, RunConfig, console
from experiments.descents.pictures import draw
from experiments.descents.unit import descend

NAME = "cliff"
Positive = Annotated[float, Limit("more than 0", lambda value: value > 0)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """Draw the cliff, and gradient descent with and without clipping."""

    time: Count = 50
    """Steps of the unit."""
    w: float = 5.0
    """Where descent starts: the recurrent weight."""
    b: float = -1.5
    """Where descent starts: the bias."""
    learning_rate: Positive = 0.3
    """Of plain gradient descent."""
    clip: Positive = 0.2
    """Largest length of a gradient, of the run that is clipped."""
    steps: Count = 120
    """Of gradient descent."""
    resolution: Count = 240
    """Points of the map along each side."""

    SMOKE: ClassVar[dict[str, Any]] = {"resolution": 30}


def experiment(run: Run, config: Config) -> None:
    """Descend twice, draw, write result.json."""
    began = time.perf_counter()
    run.start()
    plain, clipped = (
        descend(config.w, config.b, time=config.time, learning_rate=config.learning_rate, steps=config.steps, clip=clip)
        for clip in (None, config.clip)
    )
    picture = run.directory / "cliff.png"
    draw(picture, plain, clipped, time=config.time, clip=config.clip, resolution=config.resolution)
    metrics = {
        name: {
            "loss": float(one.loss[-1]),
            "w": float(one.w[-1]),
            "b": float(one.b[-1]),
            "largest_gradient": float(one.gradient.max()),
            "longest_step": float(np.hypot(np.diff(one.w), np.diff(one.b)).max()),
        }
        for name, one in (("plain", plain), ("clipped", clipped))
    }
    path = run.write_result(metrics=metrics, floors={}, seconds=time.perf_counter() - began)
    for name, one in metrics.items():
        console.print(
            f"{name:8} largest gradient {one['largest_gradient']:8.3g}, longest step {one['longest_step']:6.3g}, in the end "
            f"w = {one['w']:.3g}, b = {one['b']:.3g}, loss {one['loss']:.2g}"
        )
    console.print(f"{path}; the picture is {picture}")


main = command(NAME, Config, experiment)

if __name__ == "__main__":
    main()
