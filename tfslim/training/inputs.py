"""What `fit` is given, as one stream of batches whose epochs are reproducible."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfslim import errors, tasks
from tfslim.training.options import FitOptions

# One epoch's batches by the number of the epoch (a scalar int64 tensor).
EpochFn = Callable[[Any], tf.data.Dataset]
# Inputs and targets, each an array, or a tuple or dict of arrays for several; and one
# weight per example where there are three.
Arrays = tuple[Any, Any] | tuple[Any, Any, Any]

_PREFETCHED_BATCHES = 2


@dataclasses.dataclass(frozen=True)
class Epochs:
    """Training data: `stream(start)` has the epochs from `start` on, joined."""

    stream: Callable[[int], tf.data.Dataset]
    steps: int


def training_epochs(
    data: tf.data.Dataset | Arrays | EpochFn, task: tasks.Task, *, options: FitOptions
) -> Epochs:
    """Returns the epochs of whatever `fit` takes.

    Raises:
        ConfigError: `data` is of another kind, empty, or of unknown length.
    """
    steps_per_epoch = options.steps_per_epoch
    if isinstance(data, tf.data.Dataset):
        steps = steps_per_epoch or _checked(data)
        # It may shuffle by counters of its own, so what was read before a kill is
        # read again.
        return Epochs(lambda start: _feed(data.repeat().skip(start * steps)), steps)
    if isinstance(data, tuple):
        make = _shuffled_arrays(data, task, options=options)
    elif callable(data):
        make = data
    else:
        raise errors.ConfigError(
            f"train is a {type(data).__name__}; expected a tf.data.Dataset, a tuple "
            "(x, y) of arrays, or a function epoch -> tf.data.Dataset."
        )

    first = make(0)
    if not isinstance(first, tf.data.Dataset):
        raise errors.ConfigError(
            f"train is a function that returns a {type(first).__name__}; expected a "
            "tf.data.Dataset of the epoch whose number it is given."
        )

    def epoch_of(epoch: Any) -> tf.data.Dataset:
        if steps_per_epoch is None:
            return make(epoch)
        return make(epoch).repeat().take(steps_per_epoch)

    def stream(start: int) -> tf.data.Dataset:
        return _feed(tf.data.Dataset.range(start, options.epochs).flat_map(epoch_of))

    return Epochs(stream, steps_per_epoch or _checked(first))


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
        (x, y, *weights), _ = _tensors(data, "validation")
        data = tf.data.Dataset.from_tensor_slices((x, task.target(x, y), *weights))
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
    arrays: Arrays, task: tasks.Task, *, options: FitOptions
) -> EpochFn:
    parts, count = _tensors(arrays, "train")

    def make(epoch: Any) -> tf.data.Dataset:
        key = [tf.constant(options.seed, tf.int64), tf.cast(epoch, tf.int64)]
        order = tf.random.experimental.stateless_shuffle(
            tf.range(count), seed=tf.stack(key)
        )
        # A small rest would spoil batch normalization's statistics.
        indices = tf.data.Dataset.from_tensor_slices(order).batch(
            options.batch_size, drop_remainder=count > options.batch_size
        )
        return indices.map(lambda i: _gather(parts, i, task=task))

    return make


def _gather(parts: tuple[Any, ...], indices: tf.Tensor, *, task: tasks.Task) -> Any:
    x, y, *weights = tf.nest.map_structure(
        lambda values: tf.gather(values, indices), parts
    )
    return (x, task.target(x, y), *weights)


def _tensors(arrays: Arrays, name: str) -> tuple[tuple[Any, ...], int]:
    """Returns inputs, targets and weights as tensors, and how many examples."""
    if len(arrays) not in (2, 3):
        raise errors.ConfigError(
            f"{name} is a tuple of {len(arrays)}; expected arrays (x, y), or "
            "(x, y, weight) with one weight for each example."
        )
    parts = tuple(
        tf.nest.map_structure(tf.constant, part)
        if isinstance(part, dict | tuple)
        else tf.constant(part)
        for part in arrays
    )
    counts = {len(part) if part.ndim else 0 for part in tf.nest.flatten(parts)}
    if len(counts) != 1 or counts == {0}:
        raise errors.ConfigError(
            f"{name} has arrays of {' and '.join(map(str, sorted(counts)))} examples; "
            "expected as many inputs as targets, at least one."
        )
    return parts, counts.pop()


def check_fits(model: Any, data: tf.data.Dataset, *, name: str) -> None:
    """Compares what a dataset gives with what a model takes.

    Args:
        model: of either Keras; subclassed ones, which tell no shapes, are not checked.
        data: batches as the training reads them.
        name: of the argument.

    Raises:
        ConfigError: no pairs, or inputs of another number or shape.
    """
    batch = data.element_spec
    if not isinstance(batch, tuple) or len(batch) not in (2, 3):
        raise errors.ConfigError(
            f"{name} gives {_kind(batch)}; expected batches (inputs, targets)."
        )
    wanted = getattr(model, "inputs", None)
    if not wanted or isinstance(batch[0], dict):
        return
    given = tf.nest.flatten(batch[0])
    if len(given) != len(wanted):
        raise errors.ConfigError(
            f"{name} gives {len(given)} inputs, the model '{model.name}' takes "
            f"{len(wanted)}."
        )
    for ours, theirs in zip(given, wanted, strict=True):
        if _core(ours.shape).is_compatible_with(_core(theirs.shape)):
            continue
        raise errors.ConfigError(
            f"{name} gives inputs of shape {tuple(ours.shape)}, the model "
            f"'{model.name}' takes {tuple(theirs.shape)}; the first axis is the batch."
        )


def _core(shape: Any) -> tf.TensorShape:
    """Returns a shape without a last axis of 1, which Keras adds and takes away."""
    shape = tf.TensorShape(shape)
    if shape.rank is not None and shape.rank > 1 and shape[-1] == 1:
        return shape[:-1]
    return shape


def _kind(batch: Any) -> str:
    return f"tuples of {len(batch)}" if isinstance(batch, tuple) else "no pairs"
