"""The trainings between two cuts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tf_keras

from tfslim import errors, tasks
from tfslim.graph import count
from tfslim.pruning import budget as budget_lib
from tfslim.pruning import channels as channels_lib
from tfslim.pruning import scores as scores_lib
from tfslim.training import (
    FitOptions,
    TrainingResult,
    check_names,
    inputs,
    optimizers,
    with_overrides,
)
from tfslim.training.job import Backup
from tfslim.training.training import Training

# Of the learning rate, to average it.
_RATE_SAMPLES = 100
# With which the trainings that make a model sparse run.
MOMENTUM = 0.9


def sgd(rate: Any) -> tf_keras.optimizers.Optimizer:
    """Makes the optimizer of the trainings that make a model sparse."""
    return tf_keras.optimizers.SGD(rate, momentum=MOMENTUM)


@dataclasses.dataclass(frozen=True)
class Trainer:
    """What all trainings of a method share: the data, the task and the options.

    Attributes:
        train: as for `tfslim.fit`.
        validation: as for `tfslim.fit`, or None.
        task: as for `tfslim.fit`.
        options: how to train; None takes the defaults.
        overrides: fields of `FitOptions` that replace those of `options`.
        backup: where finished trainings are kept.
    """

    train: Any
    validation: Any
    task: Any
    options: FitOptions | None
    overrides: Mapping[str, Any]
    backup: Backup = dataclasses.field(default_factory=lambda: Backup(FitOptions()))

    @property
    def training(self) -> Training:
        """The same without what is kept."""
        return Training(
            train=self.train,
            validation=self.validation,
            task=self.task,
            options=with_overrides(self.options, self.overrides),
        )

    def check(self, *, sparse_learning_rate: float, **epochs: int) -> None:
        """Refuses before the first training what would fail after it.

        Args:
            sparse_learning_rate: has to be above 0.
            **epochs: name of an argument -> length of a training.

        Raises:
            ConfigError: one of them is wrong, or an option of the trainings.
        """
        for name, value in epochs.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise errors.ConfigError(f"{name} must be 1 or more, got {value!r}.")
        if not sparse_learning_rate > 0.0:
            raise errors.ConfigError(
                f"sparse_learning_rate must be above 0, got {sparse_learning_rate}."
            )
        check_names(self.training.options)

    def backed_up(self, model: Any, job: Mapping[str, Any]) -> Trainer:
        """Returns the same for a job on a model that goes on after a kill."""
        backup = Backup(self.training.options, model, job)
        return dataclasses.replace(self, backup=backup)

    def total_rate(self, epochs: int, peak: float) -> float:
        """Returns the sum of the learning rates of all steps of a training.

        Args:
            epochs: its length.
            peak: the largest learning rate; the schedule is that of the options.
        """
        options = self.training.options
        steps = epochs * inputs.num_steps(self.train, tasks.resolve(self.task), options)
        rates = optimizers.schedule(options.schedule, peak, steps)
        average = peak
        if callable(rates):
            at = np.linspace(0, steps - 1, min(steps, _RATE_SAMPLES)).astype(int)
            average = float(np.mean([float(rates(step)) for step in at]))
        return steps * average

    def run(
        self,
        model: tf_keras.Model,
        epochs: int,
        *,
        callbacks: Sequence[tf_keras.callbacks.Callback] = (),
        keep: str = "best",
        **more: Any,
    ) -> TrainingResult:
        """Trains `model` in place.

        Args:
            model: a built tf_keras model.
            epochs: how long.
            callbacks: more Keras callbacks.
            keep: whose weights stay: those of the "best" epoch, or of the "last" one,
                where a training makes a model sparse rather than accurate.
            **more: further fields of `FitOptions`.
        """
        if keep == "last":
            more |= {"best_from_epoch": epochs - 1, "patience": 0}
        return self.backup.train(model, self.training, callbacks, epochs=epochs, **more)


def share_to_go(
    channels: channels_lib.Channels,
    scores: scores_lib.Scores,
    budget: budget_lib.Budget,
) -> float:
    """Returns the share of the channels that a cut to a budget takes, above 0."""
    keep = np.concatenate([*budget_lib.plan(channels, scores, budget).values()])
    return max(1.0 - float(keep.mean()), 1.0 / keep.size)


def summary(before: count.Counts, after: count.Counts) -> str:
    """Returns the sums of two counts and their change in one line."""
    return ", ".join(
        f"{noun} {old:,} -> {new:,} ({new / old - 1:+.1%})"
        for noun, old, new in (
            ("params", before.params, after.params),
            ("MACs", before.macs, after.macs),
        )
        if old
    )
