"""What `fit` is given, as one stream of batches whose epochs are reproducible."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfslim import errors, tasks
from tfslim.training.options import FitOptions

# One epoch's batches by the number of the epoch (a scalar int64 tensor).
EpochFn = Callable[[Any], tf.data.Dataset]
Arrays = tuple[np.ndarray, np.ndarray]

_PREFETCHED_BATCHES = 2


@dataclasses.dataclass(frozen=True)
class Epochs:
    """Training data: `stream(start)` has the epochs from `start` on, joined."""

    stream: Callable[[int], tf.data.Dataset]
    steps: int


def training_epochs(
    data: tf.data.Dataset | Arrays | EpochFn,
    *,
    task: tasks.Task,
    batch_size: int,
    seed: int,
    num_epochs: int,
    steps_per_epoch: int | None,
) -> Epochs:
    """Returns the epochs of whatever `fit` takes.

    Raises:
        ConfigError: `data` is of another kind, empty, or of unknown length.
    """
    if isinstance(data, tf.data.Dataset):
        steps = steps_per_epoch or _checked(data)
        # It may shuffle by counters of its own, so what was read before a kill is
        # read again.
        return Epochs(lambda start: _feed(data.repeat().skip(start * steps)), steps)
    if isinstance(data, tuple):
        make = _shuffled_arrays(data, task=task, batch_size=batch_size, seed=seed)
    elif callable(data):
        make = data
    else:
        raise errors.ConfigError(
            f"train is a {type(data).__name__}; expected a tf.data.Dataset, a tuple "
            "(x, y) of arrays, or a function epoch -> tf.data.Dataset."
        )

    def epoch_of(epoch: Any) -> tf.data.Dataset:
        if steps_per_epoch is None:
            return make(epoch)
        return make(epoch).repeat().take(steps_per_epoch)

    def stream(start: int) -> tf.data.Dataset:
        return _feed(tf.data.Dataset.range(start, num_epochs).flat_map(epoch_of))

    return Epochs(stream, steps_per_epoch or _checked(make(0)))


def num_steps(
    data: tf.data.Dataset | Arrays | EpochFn, task: tasks.Task, options: FitOptions
) -> int:
    """Returns the steps of one epoch of `fit`.

    Raises:
        ConfigError: as `training_epochs`.
    """
    epochs = training_epochs(
        data,
        task=task,
        batch_size=options.batch_size,
        seed=options.seed,
        num_epochs=options.epochs,
        steps_per_epoch=options.steps_per_epoch,
    )
    return epochs.steps


def _checked(dataset: tf.data.Dataset) -> int:
    """Returns the number of batches."""
    steps = int(dataset.cardinality())
    if steps < 0:
        raise errors.ConfigError(
            "The length of the training data is not known. Pass steps_per_epoch, or "
            "set it with tf.data.experimental.assert_cardinality."
        )
    if steps == 0:
        raise errors.ConfigError("The training data has no batches.")
    return steps


def _feed(dataset: tf.data.Dataset) -> tf.data.Dataset:
    # Over the seam between two epochs, too.
    return without_autotune(dataset.prefetch(_PREFETCHED_BATCHES))


def validation_dataset(
    data: tf.data.Dataset | Arrays, *, task: tasks.Task, batch_size: int
) -> tf.data.Dataset:
    """Returns the validation data as batches in order."""
    if isinstance(data, tuple):
        x, y = data
        data = tf.data.Dataset.from_tensor_slices((x, task.target(x, y)))
        data = data.batch(batch_size)
    if not isinstance(data, tf.data.Dataset):
        raise errors.ConfigError(
            f"validation is a {type(data).__name__}; expected a tf.data.Dataset or a "
            "tuple (x, y) of arrays."
        )
    return without_autotune(data)


def without_autotune(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Turns off tf.data's tuner, for whose next tick the end of an epoch waits."""
    options = tf.data.Options()
    options.autotune.enabled = False
    # Each worker reads all and takes its part of every batch, so that all parts
    # together are the batch that one process would have.
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    return dataset.with_options(options)


def _shuffled_arrays(
    arrays: Arrays, *, task: tasks.Task, batch_size: int, seed: int
) -> EpochFn:
    x, y = (tf.constant(array) for array in arrays)
    count = len(arrays[0])

    def make(epoch: Any) -> tf.data.Dataset:
        key = tf.stack([tf.constant(seed, tf.int64), tf.cast(epoch, tf.int64)])
        order = tf.random.experimental.stateless_shuffle(tf.range(count), seed=key)
        # A small rest would spoil batch normalization's statistics.
        indices = tf.data.Dataset.from_tensor_slices(order).batch(
            batch_size, drop_remainder=count > batch_size
        )
        return indices.map(lambda i: _gather(x, y, i, task))

    return make


def _gather(x: tf.Tensor, y: tf.Tensor, indices: tf.Tensor, task: tasks.Task) -> Any:
    batch = tf.gather(x, indices)
    return batch, task.target(batch, tf.gather(y, indices))
