"""What methods share that train a model sparse, cut it, and train it again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tf_keras

from tfslim import fields
from tfslim.graph import count
from tfslim.graph import keras as graph_keras
from tfslim.pruning import budget as budget_lib
from tfslim.pruning import channels as channels_lib
from tfslim.pruning import loop
from tfslim.pruning import scores as scores_lib
from tfslim.training import TrainingResult, check_names
from tfslim.training.job import ResumableJob
from tfslim.training.training import Training

# Of the trainings under a penalty.
MOMENTUM = 0.9


def sgd(rate: Any) -> tf_keras.optimizers.Optimizer:
    """Makes the optimizer of a training under a penalty."""
    return tf_keras.optimizers.SGD(rate, momentum=MOMENTUM)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TwoTrainings(fields.Checked):
    """Options of a training that makes channels idle and of the one after the cut.

    Attributes:
        sparse_epochs: length of the first; its last epoch counts, not its most accurate
            one.
        fine_tune_epochs: length of the second.
        sparse_learning_rate: peak of the first.
    """

    sparse_epochs: int = fields.field(10, least=1)
    fine_tune_epochs: int = fields.field(10, least=1)
    sparse_learning_rate: float = fields.field(0.05, above=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SparseOptions(TwoTrainings):
    """Options that methods with a penalty on weights have in common.

    Attributes:
        strength: weight of the penalty; None chooses it by the length of the training.
        share: which part of what is penalized counts, the smallest; None chooses it by
            the cut.
        layers: names or patterns of the layers to penalize.
    """

    strength: float | None = None
    share: float | None = None
    layers: str | Sequence[str] = "*"


class SparseMethod(loop.Method):
    """Trains a model sparse, cuts what became idle, and trains the rest.

    A method is a subclass that has `name`, by which its job is known again,
    `step_type` and `cut`.
    """

    name: str
    budget: Any

    def __init__(
        self,
        model: Any,
        training: Training,
        how: Any,
        budget: budget_lib.Budget | None,
    ):
        """Opens the job.

        Args:
            model: what the user passed in.
            training: for all trainings alike; the number of epochs is that of `how`.
            how: the method's options, some `TwoTrainings`.
            budget: the target; what None means is for the method to say.

        Raises:
            ConfigError: an option, or a backup folder of another job.
        """
        check_names(training.options)
        self.training = training
        self.how = how
        self.budget = budget
        description = {"method": self.name, "budget": budget, **vars(how)}
        self.job = ResumableJob(training.options, model, description=description)

    def train_sparse(
        self, model: Any, optimizer: Any = sgd, callbacks: Sequence[Any] = ()
    ) -> TrainingResult:
        """Trains a model in place; the weights of the last epoch stay."""
        return self.job.train(
            model,
            self.training,
            callbacks,
            epochs=self.how.sparse_epochs,
            best_from_epoch=self.how.sparse_epochs - 1,
            patience=0,
            optimizer=optimizer,
            learning_rate=self.how.sparse_learning_rate,
        )

    def total_rate(self) -> float:
        """Returns the sum of the learning rates of a training under the penalty."""
        how = self.how
        return self.training.total_rate(how.sparse_epochs, how.sparse_learning_rate)

    def train(self, model: Any) -> tuple[Any, Mapping[str, Any]]:
        """Fine-tunes a model in place."""
        epochs = self.how.fine_tune_epochs
        result = self.job.train(model, self.training, epochs=epochs)
        return model, {"fine_tuning": result.history}

    def run(self, model: Any) -> tuple[Any, loop.LoopReport]:
        """Runs the loop on a copy, in tf_keras; returns a model of the user's Keras."""
        before = count.count(graph_keras.read(model))
        smaller, steps = loop.run(self, graph_keras.to_tf_keras(model))
        self.job.finish()
        graph = graph_keras.read(smaller)
        report = loop.LoopReport(steps=steps, before=before, after=count.count(graph))
        return graph_keras.write(graph, graph_keras.keras_of(model)), report


def fraction_to_prune(
    channels: channels_lib.Channels,
    scores: scores_lib.Scores,
    budget: budget_lib.Budget,
) -> float:
    """Returns the share of all channels that a cut to a budget would take now.

    At least that of one channel, as a penalty that counts nothing is none.
    """
    keep = np.concatenate([*budget_lib.plan(channels, scores, budget=budget).values()])
    return max(1.0 - float(keep.mean()), 1.0 / keep.size)
