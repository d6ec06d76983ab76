"""How to train, as plain data."""

from __future__ import annotations

import dataclasses
import numbers
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfslim import errors

_FROM_ONE = ("epochs", "batch_size", "steps_per_epoch")
_WHOLE = (*_FROM_ONE, "patience", "best_from_epoch", "seed")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitOptions:
    """How to train.

    Attributes:
        epochs: passes over the training data.
        batch_size: examples per step, where the data is given as arrays.
        optimizer: a key of `optimizers.OPTIMIZERS`; an optimizer of either Keras, which
            brings its own learning rate, and of which each training makes a new one
            with equal options; or a function that takes the schedule of the learning
            rate and makes one, called under the strategy's scope.
        learning_rate: peak of the schedule; None takes the optimizer's default.
        schedule: "one_cycle" (up for a fifth of the steps, then down to 0 by a
            cosine), "cosine" or "constant".
        patience: stop after so many epochs without a better one; 0 never stops.
        best_from_epoch: the first epoch, from 0, that may be chosen as the best one:
            for trainings in which the model itself still changes at the beginning.
        strategy: "none", "mirrored", "multiworker" (see `start_workers`), or a
            `tf.distribute.Strategy`.
        sync_batch_norm: take batch normalization's statistics over the batches of all
            replicas; each has its own otherwise. Of no effect with one replica.
        mixed_precision: compute in bfloat16; the weights stay float32.
        steps_per_epoch: for data whose length is unknown or endless; a Dataset goes on
            in the next epoch where it stopped in the last.
        log_dir: where to write TensorBoard's logs.
        backup_dir: where a training that is killed leaves its state after every
            epoch; the same call goes on from there. Removed at the end.
        keep_backup: leave in `backup_dir` what the training ended with, so that the
            same call does not train again: for scripts of several trainings.
        seed: of the order of arrays and of random layers; sets TensorFlow's, NumPy's
            and Python's global seeds.
        deterministic: make two runs bit-equal also where threads add up in any order;
            turns on TensorFlow's op determinism for the rest of the process.
        verbose: whether to show a progress bar; None shows it on a terminal only.
    """

    epochs: int = 10
    batch_size: int = 32
    optimizer: Any = "adam"
    learning_rate: float | None = None
    schedule: str = "one_cycle"
    patience: int = 0
    best_from_epoch: int = 0
    strategy: str | tf.distribute.Strategy = "none"
    sync_batch_norm: bool = False
    mixed_precision: bool = False
    steps_per_epoch: int | None = None
    log_dir: Path | str | None = None
    backup_dir: Path | str | None = None
    keep_backup: bool = False
    seed: int = 0
    deterministic: bool = False
    verbose: bool | None = None

    def __post_init__(self) -> None:
        """Checks the numbers."""
        for name in _WHOLE:
            value = getattr(self, name)
            if value is None and name == "steps_per_epoch":
                continue
            if isinstance(value, bool) or not isinstance(value, numbers.Integral):
                raise errors.ConfigError(
                    f"{name} must be a whole number, got {value!r}."
                )
            if name in _FROM_ONE and value < 1:
                raise errors.ConfigError(f"{name} must be 1 or more, got {value}.")
        if self.patience < 0:
            raise errors.ConfigError(
                f"patience must be 0 (never stop) or more, got {self.patience}."
            )
        if not 0 <= self.best_from_epoch < self.epochs:
            raise errors.ConfigError(
                f"best_from_epoch must be an epoch from 0 to {self.epochs - 1}, got "
                f"{self.best_from_epoch}."
            )
        rate = self.learning_rate
        if rate is not None and not (isinstance(rate, numbers.Real) and rate > 0):
            raise errors.ConfigError(f"learning_rate must be above 0, got {rate!r}.")
