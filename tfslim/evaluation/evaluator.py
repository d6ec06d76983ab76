"""Runs anything callable over data: what it answers, how well, what is in doubt."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from tfslim import preprocessing, tasks
from tfslim.evaluation import chance

# Batch as the model takes it -> one array [n, ...] for each output.
Predict = Callable[[Any], list[np.ndarray]]
# Starts a pass over batches (x, targets); targets are one array, one for each output,
# or None.
Batches = Callable[[], Iterable[tuple[Any, Any]]]

# Examples that other preprocessing is tried on.
_NUM_TRIED = 256


class LabelledExamples(Protocol):
    """Examples by index, before preprocessing; `tfslim.data` has them."""

    @property
    def targets(self) -> np.ndarray:
        """Targets of all examples, in order."""
        ...

    def __len__(self) -> int:
        """Returns the number of examples."""
        ...

    def inputs(self, indices: np.ndarray) -> Any:
        """Returns the inputs at `indices`."""
        ...


class Evaluator:
    """What a reference model answers over batches, and what others are held to.

    Attributes:
        task: gives metric and agreement.
        batches: starts a pass over the batches.
        scored: number of the output that the targets are of; None without targets.
    """

    def __init__(
        self,
        reference: Predict,
        batches: Batches,
        *,
        task: tasks.Task,
        scored: int | None = 0,
        classes: Collection[int] = (),
    ):
        """Takes what is needed; nothing is run yet.

        Args:
            reference: the model that is right.
            batches: what all models are run on.
            task: what the model is for.
            scored: number of the output that the targets are of; None: of none.
            classes: numbers of the outputs that hold numbers of classes.
        """
        self.task, self.scored = task, scored
        self._reference, self.batches = reference, batches
        self._classes = classes

    @functools.cached_property
    def outputs(self) -> list[np.ndarray]:
        """What the reference answers, each output [n, ...]."""
        return self.run(self._reference)

    @functools.cached_property
    def targets(self) -> Any:
        """All targets; a list of one for each output where there are several."""
        if self.scored is None:
            return None
        parts = [target for _, target in self.batches()]
        if isinstance(parts[0], list):
            return [np.concatenate(part) for part in zip(*parts, strict=True)]
        return np.concatenate(parts)

    def run(self, predict: Predict) -> list[np.ndarray]:
        """Returns what a model answers on all batches, each output [n, ...]."""
        parts = [predict(x) for x, _ in self.batches()]
        return [np.concatenate(output) for output in zip(*parts, strict=True)]

    def metric(self, outputs: Sequence[np.ndarray]) -> float | None:
        """Returns the task's metric; over several targets the mean of each output's."""
        if self.scored is None:
            return None
        if self.scored in self._classes:
            chosen = outputs[self.scored].reshape(-1)
            return float((chosen == self.targets).mean())
        return metric_of(self.task, outputs, targets=self.targets, scored=self.scored)

    def chosen(self, outputs: Sequence[np.ndarray], number: int = 0) -> np.ndarray:
        """Returns the classes that an output chooses."""
        found = outputs[number]
        if number in self._classes:
            return found.reshape(-1)
        if self.task.threshold is not None:
            return (found > self.task.threshold).reshape(-1).astype(int)
        return np.asarray(found.argmax(axis=-1))

    def doubt_preprocessing(
        self,
        examples: LabelledExamples,
        given: object,
        *,
        flag: str = "--preprocessing",
    ) -> chance.Doubt | None:
        """Says what is wrong if the reference is right as often as by chance.

        Args:
            examples: others than those of the batches, to try other preprocessing on.
            given: the preprocessing in use; nothing is said of other kinds of it.
            flag: what sets it, for the message.
        """
        number, targets = self.scored, self.targets
        if (
            number is None
            or self.task.name != "classification"
            or isinstance(targets, list)
            or not isinstance(given, preprocessing.Preprocessing)
            or not chance.is_chance(self.metric(self.outputs) or 0.0, targets)
        ):
            return None
        order = np.random.default_rng(0).permutation(len(examples))
        indices = np.sort(order[:_NUM_TRIED])
        images = examples.inputs(indices)
        if isinstance(images, dict):
            return None
        return chance.preprocessing_doubt(
            lambda x: self.chosen(self._reference(x), number),
            images,
            targets=examples.targets[indices],
            given=given,
            flag=flag,
        )


def metric_of(
    task: tasks.Task, outputs: Sequence[np.ndarray], *, targets: Any, scored: int = 0
) -> float:
    """Returns a task's metric of outputs; over several targets the mean of each's.

    Args:
        task: gives the metric.
        outputs: of a model, each [n, ...].
        targets: one array, or a list of one for each output.
        scored: number of the output that one array is of.
    """
    if task.all_outputs:
        return float(task.metric(list(outputs), targets))
    if isinstance(targets, list):
        pairs = zip(outputs, targets, strict=True)
        return float(np.mean([task.metric(*pair) for pair in pairs]))
    return float(task.metric(outputs[scored], targets))
