"""Keras callbacks: the best epoch's weights, and a progress bar."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tf_keras
from rich import console, progress

from tfslim import errors


class BestWeights(tf_keras.callbacks.Callback):
    """Keeps the weights of the best epoch and puts them into the model at the end.

    The best epoch is the one with the best `monitor`; between equal ones, the lower
    loss decides (a small validation set gives equal accuracies often), then the later
    epoch, which has learnt for longer.

    Attributes:
        epochs: one dict of logs per finished epoch.
        best_epoch: index of the best epoch from 0; None before the first.
    """

    def __init__(
        self,
        monitor: str,
        *,
        higher_is_better: bool,
        patience: int = 0,
        first_epoch: int = 0,
    ):
        """Prepares to watch.

        Args:
            monitor: a key of Keras' logs, such as "val_accuracy".
            higher_is_better: which of two values of it is better.
            patience: stops after so many epochs without a better one; 0 never.
            first_epoch: the first epoch, from 0, that may be the best one.
        """
        super().__init__()
        self.monitor = monitor
        self._sign = 1.0 if higher_is_better else -1.0
        self._patience = patience
        self._first_epoch = first_epoch
        self._best_weights: list[np.ndarray] | None = None
        self.epochs: list[dict[str, float]] = []
        self.best_epoch: int | None = None
        self._best_rank = (-math.inf, -math.inf)
        # Equal epochs follow each other without progress.
        self._progress_epoch = 0

    @property
    def is_exhausted(self) -> bool:
        """Tells whether `patience` epochs have brought nothing better."""
        if not self._patience or self.best_epoch is None:
            return False
        return len(self.epochs) - 1 - self._progress_epoch >= self._patience

    def get_state(self) -> dict[str, Any]:
        """Returns all it knows, for a backup."""
        return {
            "epochs": self.epochs,
            "best_epoch": self.best_epoch,
            "best_rank": self._best_rank,
            "progress_epoch": self._progress_epoch,
            "best_weights": self._best_weights,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes what `get_state` returned."""
        self.epochs = state["epochs"]
        self.best_epoch = state["best_epoch"]
        self._best_rank = tuple(state["best_rank"])
        self._progress_epoch = state["progress_epoch"]
        self._best_weights = state["best_weights"]

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Compares the epoch with the best one so far."""
        self.epochs.append({name: float(value) for name, value in (logs or {}).items()})
        if self.monitor not in self.epochs[-1]:
            raise errors.ConfigError(
                f"There is no '{self.monitor}' to choose the best epoch by; Keras "
                f"reports {', '.join(sorted(self.epochs[-1]))}."
            )
        rank, number = self._rank(self.epochs[-1]), len(self.epochs) - 1
        if number >= self._first_epoch and (
            self.best_epoch is None or rank >= self._best_rank
        ):
            if self.best_epoch is None or rank > self._best_rank:
                self._progress_epoch = number
            self.best_epoch, self._best_rank = number, rank
            self._best_weights = self.model.get_weights()
        if self.is_exhausted:
            self.model.stop_training = True

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Puts the best weights into the model."""
        if self._best_weights is not None:
            self.model.set_weights(self._best_weights)
            self._best_weights = None

    def _rank(self, logs: dict[str, float]) -> tuple[float, float]:
        loss = logs.get("val_loss", logs.get("loss", 0.0))
        return _nan_last(self._sign * logs[self.monitor]), _nan_last(-loss)


class FiniteLoss(tf_keras.callbacks.Callback):
    """Ends a training at the first loss or weight that is not finite."""

    _epoch = 0
    _step = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Notes the epoch."""
        self._epoch, self._step = epoch, 0

    def on_train_batch_end(
        self, batch: int, logs: dict[str, float] | None = None
    ) -> None:
        """Looks at the loss; Keras gives the mean since the epoch began.

        Raises:
            TrainingError: it is not finite.
        """
        self._step = batch + 1
        loss = (logs or {}).get("loss", 0.0)
        if not np.isfinite(loss):
            raise self._error(f"the loss is {float(loss)}")

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Looks at the weights, which no loss has seen since the last step.

        Raises:
            TrainingError: one is not finite.
        """
        for weight in self.model.weights:
            if weight.dtype.is_floating and not np.isfinite(weight.numpy()).all():
                raise self._error(f"the weight '{weight.name}' is not finite")

    def _error(self, what: str) -> errors.TrainingError:
        rate = getattr(self.model.optimizer, "learning_rate", math.nan)
        if callable(rate):
            rate = rate(self.model.optimizer.iterations)
        how = "Lower the learning rate (--config.training.learning_rate)."
        if (self._epoch, self._step) == (0, 1):
            how = f"{how} Look for inputs, targets and weights that are not finite."
        return errors.TrainingError(
            f"The training diverged: {what} after step {self._step} of epoch "
            f"{self._epoch + 1}, at the learning rate {float(rate):.4g}. {how}"
        )


class Progress(tf_keras.callbacks.Callback):
    """One bar over the whole training, on stderr."""

    def __init__(self, num_epochs: int, steps_per_epoch: int | None):
        """Takes the length of the training; None steps if it is not known."""
        super().__init__()
        self._num_epochs = num_epochs
        self._steps = steps_per_epoch
        self._bar: Any = None
        self._task: Any = None

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Shows the bar."""
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.TimeRemainingColumn(),
            console=console.Console(stderr=True),
        )
        total = self._steps and self._steps * self._num_epochs
        self._task = self._bar.add_task("training", total=total)
        self._bar.start()

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Moves to the epoch's first step, also after a resumed training."""
        if self._steps:
            self._bar.update(self._task, completed=epoch * self._steps)

    def on_train_batch_end(
        self, batch: int, logs: dict[str, float] | None = None
    ) -> None:
        """Moves by one step."""
        self._bar.advance(self._task)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Writes the epoch's figures beside the bar."""
        figures = " ".join(
            f"{name} {value:.4g}" for name, value in (logs or {}).items()
        )
        self._bar.update(
            self._task, description=f"epoch {epoch + 1}/{self._num_epochs} {figures}"
        )

    def close(self) -> None:
        """Removes the bar; harmless when there is none."""
        if self._bar is not None:
            self._bar.stop()


def _nan_last(value: float) -> float:
    return -math.inf if math.isnan(value) else value
