"""`fit`: trains a tf_keras model and leaves the best epoch's weights in it."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
import tf_keras

from tfslim import errors, registry, tasks
from tfslim.training import backup, inputs, optimizers, replicas
from tfslim.training.callbacks import BestWeights, Progress
from tfslim.training.options import FitOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What a training did.

    Attributes:
        model: the model that was passed in, with the best epoch's weights.
        history: Keras' logs, one value per epoch, also of the epochs before a kill.
        best_epoch: the epoch whose weights the model has now, from 0.
        monitor: the log that the best epoch was chosen by.
        first_epoch: where this run began; above 0 after a kill.
        seconds: wall time of this run.
    """

    model: tf_keras.Model
    history: dict[str, list[float]]
    best_epoch: int
    monitor: str
    first_epoch: int
    seconds: float


def fit(
    model: tf_keras.Model,
    train: tf.data.Dataset | inputs.Arrays | inputs.EpochFn,
    validation: tf.data.Dataset | inputs.Arrays | None = None,
    *,
    task: str | tasks.Task,
    options: FitOptions | None = None,
    callbacks: Sequence[tf_keras.callbacks.Callback] = (),
    **overrides: Any,
) -> TrainingResult:
    """Trains `model` in place and leaves the best epoch's weights in it.

    The best epoch has the best validation metric of the task (its loss where the task
    names none, the training loss without validation data). The model keeps its own
    dtype policy and strategy: where another was asked for, a copy is trained and its
    weights are set back.

    Resuming gives the same weights as not having been killed if the data's order
    depends on the epoch only and the model has no random layers such as dropout.

    Args:
        model: a built tf_keras model; it is compiled anew.
        train: batches (x, target) as a `tf.data.Dataset`, the same for every epoch;
            or a function epoch -> dataset, called with a scalar tensor; or arrays
            (x, y), shuffled by the seed and the epoch.
        validation: batches (x, target), or arrays (x, y).
        task: what the model is for: gives loss, metric and the target of arrays.
        options: how to train; None takes the defaults.
        callbacks: more Keras callbacks; they run before the best epoch is chosen.
        **overrides: fields of `FitOptions` that replace those of `options`.

    Raises:
        ConfigError: an option is unknown or wrong, or `train` has no known length.
        DataError: an example cannot be read.
    """
    options = with_overrides(options, overrides)
    _check_model(model)
    task = tasks.resolve(task)
    tf_keras.utils.set_random_seed(options.seed)
    strategy = replicas.resolve_strategy(options.strategy)
    make_epoch, steps = inputs.training_epochs(
        train,
        task=task,
        batch_size=options.batch_size,
        seed=options.seed,
        steps_per_epoch=options.steps_per_epoch,
    )
    if validation is not None:
        validation = inputs.validation_dataset(
            validation, task=task, batch_size=options.batch_size
        )
    copy = replicas.copy_for_training(
        model, strategy, mixed_bfloat16=options.mixed_precision
    )
    with replicas.batch_norm_for(copy, steps * options.epochs):
        with copy.distribute_strategy.scope():
            optimizer = optimizers.build(options, steps * options.epochs)
            metrics = [] if task.keras_metric is None else [task.keras_metric]
            copy.compile(optimizer=optimizer, loss=task.loss, metrics=metrics)
        result = _run(
            copy,
            make_epoch,
            steps,
            validation,
            _best_weights(task, validation, options),
            options,
            callbacks,
        )
    if copy is not model:
        model.set_weights(copy.get_weights())
    return dataclasses.replace(result, model=model)


def check_names(options: FitOptions) -> None:
    """Raises ConfigError for an unknown optimizer, schedule or strategy."""
    optimizers.build(options, total_steps=1)
    name = options.strategy
    if isinstance(name, str) and name not in replicas.STRATEGIES:
        raise registry.unknown_name("strategy", name, replicas.STRATEGIES)


def _run(
    model: tf_keras.Model,
    make_epoch: inputs.EpochFn,
    steps: int,
    validation: tf.data.Dataset | None,
    best: BestWeights,
    options: FitOptions,
    callbacks: Sequence[tf_keras.callbacks.Callback],
) -> TrainingResult:
    started = time.perf_counter()
    first_epoch = 0
    if options.backup_dir is not None:
        first_epoch = backup.prepare(Path(options.backup_dir), model, options, steps)
        best.restore(first_epoch)
    if first_epoch < options.epochs and not best.is_exhausted:
        bar = Progress(options.epochs, steps) if _is_verbose(options) else None
        try:
            model.fit(
                inputs.stream(make_epoch, first_epoch, options.epochs),
                epochs=options.epochs,
                steps_per_epoch=steps,
                initial_epoch=first_epoch,
                validation_data=validation,
                callbacks=_callbacks(best, bar, options, callbacks),
                verbose=0,
            )
        except tf.errors.OpError as error:
            raise _data_error(error) or error from None
        finally:
            if bar is not None:
                bar.close()
    else:
        best.load_best_into(model)
    if options.backup_dir is not None:
        shutil.rmtree(options.backup_dir, ignore_errors=True)
    names = best.epochs[0] if best.epochs else {}
    return TrainingResult(
        model=model,
        history={name: [logs[name] for logs in best.epochs] for name in names},
        best_epoch=best.best_epoch or 0,
        monitor=best.monitor,
        first_epoch=first_epoch,
        seconds=time.perf_counter() - started,
    )


def _callbacks(
    best: BestWeights,
    bar: Progress | None,
    options: FitOptions,
    more: Sequence[tf_keras.callbacks.Callback],
) -> list[tf_keras.callbacks.Callback]:
    found = [*more, best]
    if options.log_dir is not None:
        if importlib.util.find_spec("tensorboard") is None:
            raise errors.MissingExtraError(
                "tensorboard", extra="tensorflow", needed_for="log_dir"
            )
        found.append(tf_keras.callbacks.TensorBoard(str(options.log_dir)))
    if bar is not None:
        found.append(bar)
    if options.backup_dir is not None:
        # Last: an epoch counts as done when everything else about it is written.
        folder = backup.keras_folder(Path(options.backup_dir))
        found.append(tf_keras.callbacks.BackupAndRestore(str(folder)))
    return found


def _best_weights(
    task: tasks.Task, validation: tf.data.Dataset | None, options: FitOptions
) -> BestWeights:
    folder = None
    if options.backup_dir is not None:
        folder = backup.best_folder(Path(options.backup_dir))
    monitor, higher_is_better = "loss", False
    if validation is not None:
        monitor = "val_loss"
        if task.keras_metric is not None:
            metric = task.keras_metric
            name = metric if isinstance(metric, str) else getattr(metric, "name", None)
            monitor = f"val_{name or metric.__name__}"
            higher_is_better = task.higher_is_better
    return BestWeights(
        monitor,
        higher_is_better=higher_is_better,
        patience=options.patience,
        folder=folder,
    )


def with_overrides(
    options: FitOptions | None, overrides: Mapping[str, Any]
) -> FitOptions:
    """Returns the options with some fields replaced.

    Raises:
        ConfigError: there is no such field, or its value is out of range.
    """
    known = [field.name for field in dataclasses.fields(FitOptions)]
    for name in overrides:
        if name not in known:
            raise registry.unknown_name("training option", name, known)
    return dataclasses.replace(options or FitOptions(), **overrides)


def _check_model(model: Any) -> None:
    if not isinstance(model, tf_keras.Model):
        raise errors.ConfigError(
            f"fit trains tf_keras models, got a {type(model).__module__}."
            f"{type(model).__qualname__}. Bring a Keras 3 model over with "
            "tfslim.to_tf_keras."
        )
    if not model.built:
        raise errors.ConfigError(
            f"The model '{model.name}' has no weights yet: call it once on a batch."
        )


def _is_verbose(options: FitOptions) -> bool:
    return sys.stderr.isatty() if options.verbose is None else options.verbose


def _data_error(error: tf.errors.OpError) -> errors.DataError | None:
    """Finds our own error in the text that TensorFlow made of it."""
    found = re.search(r"DataError: (.+)", str(error))
    return errors.DataError(found.group(1)) if found else None
