"""Losses that Keras has not."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras

from tfslim import errors

# By which `fit` finds this error in TensorFlow's pages, to shorten it.
NOT_BINARY = "not of two classes"
# By which the sum of a softmax in float16 may differ from 1.
_ROUNDING = 1e-3


def crossentropy(targets: Any, outputs: Any) -> Any:
    """Returns the cross-entropy of each example, as a tf_keras loss does.

    A batch whose rows are distributions (from 0, sum 1), or that a softmax or sigmoid
    made, is one of probabilities; any other is one of logits.

    Args:
        targets: class indices [n, ...] or [n, ..., 1], or rows as wide as the outputs,
            such as one-hot ones.
        outputs: [n, ..., classes].
    """
    if outputs.shape[-1] == 1:
        raise errors.ConfigError(
            "Classification needs outputs [n, classes] with 2 or more classes, got "
            f"shape {tuple(outputs.shape)}. Of one column, complete the task with its "
            "model: tasks.resolve('classification', model)."
        )
    targets = tf.convert_to_tensor(targets)
    rank = len(outputs.shape)
    is_sparse = targets.shape.rank != rank or targets.shape[-1] != outputs.shape[-1]
    name = f"{'sparse_' if is_sparse else ''}categorical_crossentropy"
    loss = getattr(tf_keras.losses, name)
    if hasattr(outputs, "_keras_logits") or (
        tf.is_symbolic_tensor(outputs) and outputs.op.type in ("Softmax", "Sigmoid")
    ):
        # Keras goes back to the logits, which is exact.
        return loss(targets, outputs)
    sums = tf.reduce_sum(outputs, axis=-1)
    are_distributions = tf.reduce_all(tf.abs(sums - 1.0) < _ROUNDING) & tf.reduce_all(
        outputs >= 0.0
    )
    return tf.where(
        are_distributions,
        loss(targets, outputs),
        loss(targets, outputs, from_logits=True),
    )


def binary_crossentropy(targets: Any, outputs: Any) -> Any:
    """Returns the cross-entropy of probabilities of the second of two classes.

    Args:
        targets: 0 or 1, [n, ...] or [n, ..., 1].
        outputs: [n, ..., 1].
    """
    return tf_keras.losses.binary_crossentropy(_like(targets, outputs), outputs)


def binary_crossentropy_of_logits(targets: Any, outputs: Any) -> Any:
    """Returns what `binary_crossentropy` does, for logits."""
    return tf_keras.losses.binary_crossentropy(
        _like(targets, outputs), outputs, from_logits=True
    )


def binary_accuracy(targets: Any, outputs: Any) -> Any:
    """Returns the share of right answers of each example, by probabilities."""
    targets = _like(targets, outputs)
    return tf_keras.metrics.binary_accuracy(targets, outputs, threshold=0.5)


def binary_accuracy_of_logits(targets: Any, outputs: Any) -> Any:
    """Returns what `binary_accuracy` does, for logits."""
    targets = _like(targets, outputs)
    return tf_keras.metrics.binary_accuracy(targets, outputs, threshold=0.0)


def _like(targets: Any, outputs: Any) -> Any:
    """Returns targets in the outputs' shape: [n] against [n, 1] would be [n, n]."""
    targets = tf.reshape(tf.cast(targets, outputs.dtype), tf.shape(outputs))
    fit = tf.reduce_all((targets >= 0.0) & (targets <= 1.0))
    extremes = [tf.reduce_min(targets), tf.reduce_max(targets)]
    check = tf.debugging.Assert(fit, [NOT_BINARY, *extremes])
    with tf.control_dependencies([] if check is None else [check]):
        return tf.identity(targets)


# Name -> loss; what a `Task` may name besides Keras' own.
LOSSES = {
    loss.__name__: loss
    for loss in (crossentropy, binary_crossentropy, binary_crossentropy_of_logits)
}
METRICS = {
    metric.__name__: metric for metric in (binary_accuracy, binary_accuracy_of_logits)
}


def resolve(loss: Any) -> Any:
    """Returns the loss of a name in `LOSSES`; all else as it is."""
    return LOSSES.get(loss, loss) if isinstance(loss, str) else loss


def resolve_metric(metric: Any) -> Any:
    """Returns the metric of a name in `METRICS`; all else as it is."""
    return METRICS.get(metric, metric) if isinstance(metric, str) else metric
