"""Windows over a long text for truncated back-propagation through time."""

from typing import Any, NamedTuple

import numpy as np


class Window(NamedTuple):
    """One batch: `targets` are `inputs` one token later."""

    inputs: Any  # int32 [time, batch], NumPy's outside jit
    targets: Any  # int32 [time, batch]
    first: Any  # bool []: whether the rows start here, so that no state is carried in


BATCH_AXES = Window(inputs=1, targets=1, first=None)


class Windows:
    """A text cut into `batch` rows, read side by side in windows of `time` tokens; `windows[step]` is what a step trains on.

    Row by row the windows follow each other, so the recurrent state can be carried; past the end they begin again. With
    `drop_last` all windows are full, and up to `batch * time` tokens at the end are left out; without it the last window may
    be shorter, and fewer than `batch` tokens are left out.
    """

    def __init__(self, tokens: np.ndarray, *, batch: int, time: int, drop_last: bool = True):
        full = (len(tokens) - 1) // (batch * time)
        length = full * time if drop_last else (len(tokens) - 1) // batch
        self._count = -(-length // time)
        if self._count < 1:
            raise ValueError(
                f"the text has {len(tokens)} tokens; one window of batch={batch} rows and time={time} steps needs "
                f"{batch * time + 1}: lower batch or time, or use a longer text"
            )
        rows = np.arange(batch)[:, None] * length + np.arange(length + 1)
        self._rows = np.ascontiguousarray(tokens[rows].T)  # [length + 1, batch]
        self._time = time

    def __len__(self) -> int:
        """How many windows one pass takes."""
        return self._count

    def __getitem__(self, step: int) -> Window:
        turn = step % self._count
        rows = self._rows[turn * self._time : (turn + 1) * self._time + 1]
        return Window(inputs=rows[:-1], targets=rows[1:], first=np.asarray(turn == 0))
