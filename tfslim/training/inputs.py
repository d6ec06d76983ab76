"""What `fit` is given, as one stream of batches whose epochs are reproducible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfslim import errors, tasks

# One epoch's batches by the number of the epoch (an int or a scalar int64 tensor).
EpochFn = Callable[[Any], tf.data.Dataset]
Arrays = tuple[np.ndarray, np.ndarray]

_PREFETCHED_BATCHES = 2


def training_epochs(
    data: tf.data.Dataset | Arrays | EpochFn,
    *,
    task: tasks.Task,
    batch_size: int,
    seed: int,
    steps_per_epoch: int | None,
) -> tuple[EpochFn, int]:
    """Returns the function that makes an epoch, and the number of its steps.

    Raises:
        ConfigError: `data` is of another kind, empty, or of unknown length.
    """
    if isinstance(data, tuple):
        make = _shuffled_arrays(data, task=task, batch_size=batch_size, seed=seed)
    elif isinstance(data, tf.data.Dataset):
        make = _same_dataset(data)
    elif callable(data):
        make = data
    else:
        raise errors.ConfigError(
            f"train is a {type(data).__name__}; expected a tf.data.Dataset, a tuple "
            "(x, y) of arrays, or a function epoch -> tf.data.Dataset."
        )
    if steps_per_epoch is not None:
        return (lambda epoch: make(epoch).repeat().take(steps_per_epoch)), (
            steps_per_epoch
        )
    steps = int(make(0).cardinality())
    if steps < 0:
        raise errors.ConfigError(
            "The length of the training data is not known. Pass steps_per_epoch, or "
            "set it with tf.data.experimental.assert_cardinality."
        )
    if steps == 0:
        raise errors.ConfigError("The training data has no batches.")
    return make, steps


def stream(make_epoch: EpochFn, start: int, stop: int) -> tf.data.Dataset:
    """Joins the epochs start..stop-1; the next one is read ahead at the seam."""
    epochs = tf.data.Dataset.range(start, stop).flat_map(make_epoch)
    return without_autotune(epochs.prefetch(_PREFETCHED_BATCHES))


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
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    return dataset.with_options(options)


def _same_dataset(dataset: tf.data.Dataset) -> EpochFn:
    return lambda epoch: dataset


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
