"""What experiments that choose a class for each example share: predictions of the parts, and their result."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grain
import jax
import numpy as np

from experiments.common import pictures, supervised
from experiments.common.run import Run, console
from jrnn.data import Batch
from jrnn.train import Fitted


class HeldOut:
    """The parts that are not trained on: `labels` [count] of each, and what a model says about them."""

    def __init__(
        self,
        logits: Callable[[Any, Batch], jax.Array],
        batches: Mapping[str, grain.MapDataset],
        labels: Mapping[str, np.ndarray],
    ):
        self._log_probabilities = jax.jit(lambda params, batch: jax.nn.log_softmax(logits(params, batch)))
        self._batches, self.labels = batches, labels

    def log_probabilities(self, params: Any, part: str) -> np.ndarray:
        """Of each class, [count, classes]."""
        return np.stack(supervised.predict(self._log_probabilities, params, self._batches[part]))

    def surprise(self, params: Any, part: str = "valid") -> float:
        """Cross-entropy in nats: finer than the number of mistakes where a part is small."""
        found = np.take_along_axis(self.log_probabilities(params, part), self.labels[part][:, None], axis=1)
        return float(-found.mean())


def report(
    run: Run,
    fitted: Fitted,
    params: Any,
    held_out: HeldOut,
    *,
    trained_on: np.ndarray,
    names: Sequence[Any],
    target: float | None,
    published: Sequence[Mapping[str, Any]],
) -> None:
    """Accuracy on "valid" and "test" beside the floor, on the console and in result.json; confusion.png of "test".

    `trained_on` [count] are the classes of the training part; the floor always says the most frequent of them. `published` are
    other systems and their accuracy: [{"system": ..., "accuracy": ...}].
    """
    found = {part: held_out.log_probabilities(params, part).argmax(-1) for part in ("valid", "test")}
    accuracy = {part: float((found[part] == held_out.labels[part]).mean()) for part in found}
    floor = most_frequent(trained_on, held_out.labels["test"])
    pictures.confusion(run.directory / "confusion.png", held_out.labels["test"].tolist(), found["test"].tolist(), names)
    known = [{"system": "always the most frequent class", "accuracy": floor}, *published]
    beside = [f"{one['system']} {one['accuracy']:.1%}" for one in known]
    if target is not None:
        beside.append(f"target {target:.1%} {'reached' if accuracy['test'] >= target else 'NOT reached'}")
    console.print(f"validation: {accuracy['valid']:.2%} of {len(found['valid']):,} right, of the best checkpoint")
    supervised.finish(
        run,
        fitted,
        f"test: {accuracy['test']:.2%} of {len(found['test']):,} right; {'; '.join(beside)}",
        metrics={"accuracy": accuracy, "published": list(published)},
        floors={"most frequent class": floor},
    )


def most_frequent(trained_on: np.ndarray, test: np.ndarray) -> float:
    """Accuracy on `test` of the most frequent class of `trained_on`; where several are, the mean of theirs."""
    counts = np.bincount(trained_on)
    classes = np.flatnonzero(counts == counts.max())
    return float(np.isin(test, classes).mean() / len(classes))
