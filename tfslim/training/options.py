"""How to train, as plain data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import tensorflow as tf

from tfslim import checks, fields, registry

OptionsT = TypeVar("OptionsT")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitOptions(fields.Checked):
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
        backup_dir: where a training leaves its state after every epoch; after a kill
            the same call resumes from there. Removed at the end.
        keep_backup: leave in `backup_dir` what the training ended with, so that the
            same call does not train again: for scripts of several trainings.
        seed: of the order of arrays and of random layers; sets TensorFlow's, NumPy's
            and Python's global seeds until the training ends, and then gives their
            state back.
        deterministic: make two runs bit-equal also where threads add up in any order;
            turns on TensorFlow's op determinism for the rest of the process.
        verbose: whether to show a progress bar; None shows it on a terminal only.
    """

    epochs: int = fields.field(10, least=1)
    batch_size: int = fields.field(32, least=1)
    optimizer: Any = "adam"
    learning_rate: float | None = fields.field(None, kind=float, above=0)
    schedule: str = "one_cycle"
    patience: int = fields.field(0, least=0)
    best_from_epoch: int = fields.field(0, least=0)
    strategy: str | tf.distribute.Strategy = "none"
    sync_batch_norm: bool = False
    mixed_precision: bool = False
    steps_per_epoch: int | None = fields.field(None, kind=int, least=1)
    log_dir: Path | str | None = None
    backup_dir: Path | str | None = None
    keep_backup: bool = False
    seed: int = fields.field(0)
    deterministic: bool = False
    verbose: bool | None = None

    def __post_init__(self) -> None:
        """Checks the numbers."""
        super().__post_init__()
        checks.number(
            "best_from_epoch", self.best_from_epoch, span=f"[0, {self.epochs})"
        )


def with_overrides(
    options: OptionsT | None, overrides: Mapping[str, Any], *, kind: type = FitOptions
) -> OptionsT:
    """Returns options with some fields replaced; None takes the defaults of `kind`.

    Raises:
        ConfigError: there is no such field, or its value is out of range.
    """
    known = [field.name for field in dataclasses.fields(kind)]
    for name in overrides:
        if name not in known:
            raise registry.unknown_name("training option", name, known=known)
    made: Any = kind() if options is None else options
    replaced: OptionsT = dataclasses.replace(made, **overrides)
    return replaced
