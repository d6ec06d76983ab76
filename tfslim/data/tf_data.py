"""Examples as a `tf.data.Dataset` whose order depends on nothing but its arguments."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfslim import errors, registry, tasks
from tfslim.data.augment import AUGMENTATIONS
from tfslim.data.box_augment import BOX_AUGMENTATIONS, BoxAugmentation, without_boxes
from tfslim.data.examples import Examples
from tfslim.preprocessing import Preprocessing

_PARALLEL_BATCHES = 2


def to_tf_data(
    examples: Examples,
    preprocessing: Preprocessing,
    *,
    task: str | tasks.Task,
    batch_size: int = 32,
    seed: int = 0,
    shuffle: bool = False,
    augment: Sequence[str] = (),
    epoch: int | tf.Tensor = 0,
) -> tf.data.Dataset:
    """Makes the batches of one epoch.

    The same (seed, epoch) gives the same batches, in this process or in another, so a
    training that was killed goes on as if it had not been. For `training.fit`, pass
    `lambda epoch: to_tf_data(..., shuffle=True, epoch=epoch)`.

    tf.data's autotuning is off: it stalls the end of short epochs by seconds.

    Args:
        examples: read batch by batch, two batches at a time.
        preprocessing: of the model.
        task: tells what the targets are.
        batch_size: examples per batch. With `shuffle`, the rest that does not fill a
            batch is left out of the epoch: batch normalization over one or two
            examples would spoil the statistics.
        seed: of the order and of the augmentation.
        shuffle: a new random order for every epoch.
        augment: names in `AUGMENTATIONS`, or in `BOX_AUGMENTATIONS` where the task's
            targets are boxes, applied after preprocessing.
        epoch: number of the epoch, from 0; may be a scalar tensor.

    Returns:
        Batches (x, target): x float32 [batch, *input_shape].

    Raises:
        ConfigError: an unknown augmentation, or one that needs images.
    """
    if batch_size < 1:
        raise errors.ConfigError(f"batch_size must be 1 or more, got {batch_size}.")
    task = tasks.resolve(task)
    steps = augmentations(augment, preprocessing, task=task)
    targets = np.asarray(examples.targets)

    def read(indices: np.ndarray, epoch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x, y = preprocessing.apply(examples.inputs(indices)), targets[indices]
        for position, index in enumerate(indices if steps else ()):
            rng = np.random.default_rng([seed, int(epoch), int(index)])
            for step in steps:
                x[position], y[position] = step(x[position], y[position], rng)
        return x, y

    def to_batch(indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        x, y = tf.numpy_function(
            read, (indices, epoch), (tf.float32, targets.dtype), stateful=False
        )
        x.set_shape((*indices.shape, *preprocessing.input_shape))
        y.set_shape((*indices.shape, *targets.shape[1:]))
        return x, task.target(x, y)

    order = tf.range(len(examples), dtype=tf.int64)
    if shuffle:
        key = tf.stack([tf.constant(seed, tf.int64), tf.cast(epoch, tf.int64)])
        order = tf.random.experimental.stateless_shuffle(order, seed=key)
    dataset = tf.data.Dataset.from_tensor_slices(order).batch(
        batch_size, drop_remainder=shuffle and len(examples) > batch_size
    )
    dataset = dataset.map(to_batch, num_parallel_calls=_PARALLEL_BATCHES)
    return dataset.prefetch(_PARALLEL_BATCHES).with_options(_options())


def augmentations(
    names: Sequence[str], preprocessing: Preprocessing, *, task: tasks.Task
) -> list[BoxAugmentation]:
    """Returns the augmentations of these names, each (image, target, rng) -> both.

    Raises:
        ConfigError: an unknown name, or the model takes no images.
    """
    if not names:
        return []
    known = BOX_AUGMENTATIONS if task.has_boxes else AUGMENTATIONS
    if not isinstance(names, list | tuple):
        raise errors.ConfigError(
            f"augment must be a list of names ({', '.join(known)}), got {names!r}."
        )
    if not preprocessing.is_image:
        raise errors.ConfigError(
            f"augment={list(names)} needs images; the model takes "
            f"{preprocessing.input_shape}."
        )
    for name in names:
        if name not in known:
            raise registry.unknown_name("augmentation", name, known=known)
    if task.has_boxes:
        return [BOX_AUGMENTATIONS[name] for name in names]
    return [without_boxes(AUGMENTATIONS[name]) for name in names]


def _options() -> tf.data.Options:
    options = tf.data.Options()
    options.autotune.enabled = False
    # Workers of a tf.distribute strategy share the examples, not the files.
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    return options
