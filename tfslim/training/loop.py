"""`fit`: trains a model of either Keras and leaves the best epoch's weights in it."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import re
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf
import tf_keras

from tfslim import checks, errors, quiet, tasks
from tfslim.training import (
    input_range,
    inputs,
    keras3,
    losses,
    optimizers,
    randomness,
    replicas,
    seeds,
    state,
    workers,
)
from tfslim.training.callbacks import BestWeights, FiniteLoss, Progress
from tfslim.training.options import FitOptions, with_overrides


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

    model: Any
    history: dict[str, list[float]]
    best_epoch: int
    monitor: str
    first_epoch: int
    seconds: float


@checks.by_name
@seeds.kept()
def fit(
    model: Any,
    train: tf.data.Dataset | inputs.Arrays | inputs.EpochFn,
    *,
    validation: tf.data.Dataset | inputs.Arrays | None = None,
    task: str | tasks.Task,
    options: FitOptions | None = None,
    callbacks: Sequence[Any] = (),
    **overrides: Any,
) -> TrainingResult:
    """Trains `model` in place and leaves the best epoch's weights in it.

    The best epoch has the best validation metric of the task (its loss where the task
    names none, the training loss without validation data). The model keeps its own
    Keras, dtype policy and strategy: where another is needed, a copy is trained and
    its weights are set back. A Keras 3 model is always trained as a tf_keras copy.

    With `backup_dir`, a training that was killed resumes from the end of its last
    epoch, and ends with the weights that it would have had: the order of the data and
    the numbers that random layers draw depend on the seed and the step only.

    Args:
        model: a built model of tf_keras, compiled anew; or a functional or Sequential
            one of Keras 3.
        train: batches (x, target) as a `tf.data.Dataset`, over and over; or a function
            epoch -> dataset, called with a scalar tensor; or arrays (x, y), shuffled
            by the seed and the epoch. A third part has one weight per example, which
            multiplies its loss.
        validation: batches (x, target), or arrays (x, y), or either with weights.
        task: what the model is for: gives loss, metric and the target of arrays.
        options: how to train; None takes the defaults.
        callbacks: more callbacks of either Keras; they run before the best epoch is
            chosen and see the model that is trained, which may be the copy. The state
            of those with `get_state()` and `set_state(state)` is part of the backup.
        **overrides: fields of `FitOptions` that replace those of `options`.

    Raises:
        ConfigError: an option is unknown or wrong, or `train` has no known length.
        DataError: an example cannot be read.
        GraphError: a Keras 3 model has no equal in tf_keras.
        TrainingError: the loss or a weight is not finite any more; the model is what
            the last step made of it.
        TfslimError: another worker died.

    Warns:
        TfslimWarning: the model normalizes inputs that are normalized already, which
            INT8 will have few levels for.
    """
    options = with_overrides(options, overrides)
    task = tasks.resolve(task, model)
    strategy = replicas.resolve_strategy(options.strategy)
    if options.deterministic:
        tf.config.experimental.enable_op_determinism()
    seeds.set_all(options.seed)
    _check_model(model)
    epochs = inputs.training_epochs(train, task, options=options)
    if validation is not None:
        validation = inputs.validation_dataset(
            validation, task=task, batch_size=options.batch_size
        )
    best = _best_weights(task, validation, options=options)
    total_steps = epochs.steps * options.epochs
    with _short_errors():
        _check_shapes(model, task, epochs=epochs, validation=validation)
        for doubt in input_range.doubts(model, epochs.stream(0)):
            # Behind `seeds.kept` and `by_name`: the line that calls `fit`.
            warnings.warn(doubt, errors.TfslimWarning, stacklevel=4)
        copy = _copy(model, epochs, strategy=strategy, options=options)
        with replicas.batch_norm_for(copy, total_steps):
            _compile(copy, task, options=options, total_steps=total_steps)
            with randomness.drawn_by_step(copy, options.seed):
                result = _run(
                    copy,
                    epochs,
                    validation=validation,
                    best=best,
                    options=options,
                    more=callbacks,
                )
    if keras3.is_keras3(model):
        keras3.set_back(model, copy)
    elif copy is not model:
        model.set_weights(copy.get_weights())
    return dataclasses.replace(result, model=model)


def check_names(options: FitOptions) -> None:
    """Raises ConfigError for an unknown optimizer, schedule or strategy."""
    optimizers.build(options, total_steps=1)
    if isinstance(options.strategy, str):
        checks.choice("strategy", options.strategy, known=replicas.STRATEGIES)


def _copy(
    model: Any,
    epochs: inputs.Epochs,
    *,
    strategy: tf.distribute.Strategy,
    options: FitOptions,
) -> tf_keras.Model:
    """Returns the model to train: `model` itself, or a copy of it."""
    own = model
    if keras3.is_keras3(model):
        own = keras3.copy_of(model)
        keras3.check_copy(model, own, batch=epochs.stream(0))
    copy = replicas.copy_for_training(
        own,
        strategy,
        mixed_bfloat16=options.mixed_precision,
        sync_batch_norm=options.sync_batch_norm,
    )
    if own is not model:
        keras3.compute_alike(copy)
    return copy


def _compile(
    model: tf_keras.Model, task: tasks.Task, *, options: FitOptions, total_steps: int
) -> None:
    with model.distribute_strategy.scope():
        metric = losses.resolve_metric(task.keras_metric)
        metric = keras3.to_tf_keras(metric, tf_keras.metrics)
        model.compile(
            optimizer=optimizers.build(options, total_steps),
            loss=keras3.to_tf_keras(losses.resolve(task.loss), tf_keras.losses),
            metrics=[] if metric is None else [metric],
        )


def _run(
    model: tf_keras.Model,
    epochs: inputs.Epochs,
    *,
    validation: tf.data.Dataset | None,
    best: BestWeights,
    options: FitOptions,
    more: Sequence[Any],
) -> TrainingResult:
    started = time.perf_counter()
    bar = Progress(options.epochs, epochs.steps) if _is_verbose(options) else None
    callbacks = _callbacks(
        model, epochs.steps, best=best, bar=bar, options=options, more=more
    )
    kept, first_epoch = None, 0
    if options.backup_dir is not None:
        description = state.describe(
            model, options, steps=epochs.steps, monitor=best.monitor
        )
        kept = state.EpochState(options.backup_dir, description, callbacks)
        # Last: an epoch counts as done when everything else about it is.
        callbacks.append(kept)
        first_epoch = kept.load(model)
    try:
        if first_epoch < options.epochs and not (kept and kept.is_stopped):
            model.fit(
                epochs.stream(first_epoch),
                epochs=options.epochs,
                steps_per_epoch=epochs.steps,
                initial_epoch=first_epoch,
                validation_data=validation,
                callbacks=callbacks,
                verbose=0,
            )
        else:
            # Ended, or killed after its last epoch: only the end is left to do.
            rest = tf_keras.callbacks.CallbackList(callbacks, model=model)
            rest.on_train_begin()
            rest.on_train_end()
    finally:
        if bar is not None:
            bar.close()
    if kept is not None:
        kept.finish(keep=options.keep_backup)
    seconds = time.perf_counter() - started
    return _result(model, best, first_epoch=first_epoch, seconds=seconds)


def _result(
    model: tf_keras.Model, best: BestWeights, *, first_epoch: int, seconds: float
) -> TrainingResult:
    names = best.epochs[0] if best.epochs else {}
    return TrainingResult(
        model=model,
        history={name: [logs[name] for logs in best.epochs] for name in names},
        best_epoch=best.best_epoch or 0,
        monitor=best.monitor,
        first_epoch=first_epoch,
        seconds=seconds,
    )


def _callbacks(
    model: tf_keras.Model,
    steps: int,
    *,
    best: BestWeights,
    bar: Progress | None,
    options: FitOptions,
    more: Sequence[Any],
) -> list[tf_keras.callbacks.Callback]:
    # Tracing anew costs seconds: only where a backup promises equal results.
    retrace = options.backup_dir is not None
    found = [
        randomness.EpochSeeds(options.seed, steps, retrace=retrace),
        *map(keras3.adapted, more),
        FiniteLoss(),
        best,
    ]
    if options.log_dir is not None:
        if importlib.util.find_spec("tensorboard") is None:
            raise errors.MissingExtraError(
                "tensorboard", extra="tensorflow", needed_for="log_dir"
            )
        if workers.is_chief(model.distribute_strategy):
            found.append(tf_keras.callbacks.TensorBoard(str(options.log_dir)))
    if bar is not None:
        found.append(bar)
    return found


def _best_weights(
    task: tasks.Task, validation: tf.data.Dataset | None, *, options: FitOptions
) -> BestWeights:
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
        first_epoch=options.best_from_epoch,
    )


def _check_model(model: Any) -> None:
    if not isinstance(model, tf_keras.Model) and not (
        keras3.is_keras3(model) and hasattr(model, "layers")
    ):
        raise errors.ConfigError(
            f"fit trains models of tf_keras and Keras 3, got a {type(model).__module__}"
            f".{type(model).__qualname__}."
        )
    if not model.built:
        raise errors.ConfigError(
            f"The model '{model.name}' has no weights yet: call it once on a batch."
        )


def _check_shapes(
    model: Any,
    task: tasks.Task,
    *,
    epochs: inputs.Epochs,
    validation: tf.data.Dataset | None,
) -> None:
    """Refuses, with a short error, what Keras would refuse with a long one."""
    inputs.check_fits(model, epochs.stream(0), name="train")
    if validation is not None:
        inputs.check_fits(model, validation, name="validation")
    outputs = getattr(model, "outputs", None) or [None]
    if len(outputs) > 1 and isinstance(task.keras_metric, str):
        raise errors.ConfigError(
            f"'{task.name}' watches the {task.keras_metric} of one output, the model "
            f"'{model.name}' has {len(outputs)}. Pass a Task with a loss and a metric "
            "for all of them (all_outputs=True)."
        )


def _is_verbose(options: FitOptions) -> bool:
    is_shown = sys.stderr.isatty() and not quiet.is_silent()
    return is_shown if options.verbose is None else options.verbose


# What TensorFlow's pages have in them -> what to tell of it.
_DATA_ERRORS = {
    r"DataError: (.+)": "{}",
    r"label value of (-?\d+).*range of \[0, (\d+)\)": (
        "A target is class {}, but the model has {} outputs. Classes count from 0."
    ),
    rf"\[{losses.NOT_BINARY}\] \[(\S+)\] \[(\S+)\]": (
        "The targets go from {} to {}, but a model with one column of outputs knows "
        "the classes 0 and 1."
    ),
}


@contextlib.contextmanager
def _short_errors() -> Iterator[None]:
    """Raises our own errors in place of those that TensorFlow made of them."""
    try:
        yield
    except tf.errors.OpError as error:
        for pattern, text in _DATA_ERRORS.items():
            found = re.search(pattern, str(error))
            if found:
                raise errors.DataError(text.format(*found.groups())) from None
        raise workers.lost(error) or error from None
