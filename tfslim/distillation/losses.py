"""Losses by which one model learns from another."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf
import tf_keras

from tfslim import checks, errors, fields, tasks
from tfslim.training import keras3, losses


@checks.by_name
def distillation_loss(
    teacher_logits: Any, student_logits: Any, *, temperature: float = 1.0
) -> tf.Tensor:
    """Returns T^2 KL(softmax(teacher / T) || softmax(student / T)) per example.

    The factor T^2 keeps the gradient's size: it falls with 1 / T^2. KL differs from
    the cross-entropy of the source by the teacher's entropy, which has no gradient; it
    is 0 where both agree. Works in custom loops of both Keras.

    Source: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015,
    https://arxiv.org/abs/1503.02531, section 2.

    Args:
        teacher_logits: float [..., classes], before the softmax; no gradient flows
            into them. The logarithm of probabilities does as well.
        student_logits: float [..., classes].
        temperature: above 0; larger ones show more of the small probabilities.

    Returns:
        float32 [...], 0 or more.

    Raises:
        ConfigError: the temperature is not positive, or there are not two classes.
    """
    check_temperature(temperature)
    student = tf.cast(tf.convert_to_tensor(student_logits), tf.float32) / temperature
    teacher = tf.cast(tf.convert_to_tensor(teacher_logits), tf.float32) / temperature
    if student.shape[-1] is not None and student.shape[-1] < 2:
        raise errors.ConfigError(
            f"distillation_loss compares classes, got logits of shape {student.shape}. "
            "For a single output take the mean squared error."
        )
    teacher = tf.stop_gradient(tf.nn.log_softmax(teacher))
    student = tf.nn.log_softmax(student)
    divergence = tf.reduce_sum(tf.exp(teacher) * (teacher - student), axis=-1)
    return temperature**2 * divergence


def check_temperature(temperature: float) -> None:
    """Raises ConfigError unless the temperature is a positive number."""
    checks.number(
        "temperature", temperature, span="(0, inf)", hint="Usual are 2 to 10."
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistillOptions(fields.Checked):
    """What a student learns from a teacher.

    Attributes:
        temperature: softens both softmaxes.
        teacher_weight: share of the teacher's output in the loss, in [0, 1].
        features: pairs of a layer of the student and one of the teacher, whose outputs
            are compared; where their widths differ, a linear map of the student's
            channels (1x1) is learnt with it and dropped at the end.
        feature_weight: weight of the features, all together.
        outputs: how outputs are compared: `logits`, `mse`, or `auto`, which takes
            logits for the task classification, if there is more than one column, and
            for students that end in a softmax.
    """

    temperature: float = 4.0
    teacher_weight: float = fields.field(0.9, least=0, most=1)
    features: Mapping[str, str] | Sequence[tuple[str, str]] = ()
    feature_weight: float = fields.field(1.0, least=0)
    outputs: str = fields.field("auto", choices=("auto", "logits", "mse"))

    def __post_init__(self) -> None:
        """Checks the values."""
        super().__post_init__()
        check_temperature(self.temperature)
        if self.teacher_weight == 0.0 and not self.pairs:
            raise errors.ConfigError(
                "With teacher_weight=0 and no features nothing is learnt from the "
                "teacher: use fit."
            )
        if any(isinstance(pair, str) or len(pair) != 2 for pair in self.pairs):
            raise errors.ConfigError(
                "features must be pairs (layer of the student, layer of the teacher), "
                f"got {self.pairs!r}."
            )

    @property
    def pairs(self) -> tuple[Any, ...]:
        """The features as pairs."""
        features = self.features
        return tuple(features.items() if isinstance(features, Mapping) else features)


Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objective:
    """Task and teacher as one Keras loss, over packed targets and packed outputs.

    Keras gives a loss one target and one output. So what the teacher says travels
    behind the task's target, and what the student is compared in behind its output:
    rows [batch, numbers], each part flattened.

    Attributes:
        task: the student's own; gives the loss and the Keras metric.
        has_logits: whether output and teacher are logits to compare with a
            temperature; otherwise by the mean squared error.
        ends_in_softmax: whether the task sees the softmax of the student's logits.
        target_shape: of one example's target; () for a class index.
        target_dtype: of the target, which travels as float32.
        output_shape: of one example's output.
        feature_shapes: of the intermediate tensors that are compared.
        how: the weights of the parts, and the temperature.
    """

    task: tasks.Task
    has_logits: bool
    ends_in_softmax: bool
    target_shape: Shape
    target_dtype: Any
    output_shape: Shape
    feature_shapes: tuple[Shape, ...]
    how: DistillOptions

    def loss(self, packed_target: Any, packed_output: Any) -> tf.Tensor:
        """Returns the loss [batch] of packed rows."""
        target, teacher, hints = self._target_parts(packed_target)
        output, features = self._output_parts(packed_output)
        total = tf.zeros(tf.shape(output)[:1])
        if self.how.teacher_weight < 1.0:
            own = _per_example(_unreduced(self.task.loss)(target, self._seen(output)))
            total += (1.0 - self.how.teacher_weight) * own
        if self.how.teacher_weight > 0.0:
            total += self.how.teacher_weight * self._from_teacher(teacher, output)
        for hint, feature in zip(hints, features, strict=True):
            weight = self.how.feature_weight / len(features)
            total += weight * _per_example(tf.math.squared_difference(hint, feature))
        return total

    def _from_teacher(self, teacher: tf.Tensor, output: tf.Tensor) -> tf.Tensor:
        if self.has_logits:
            temperature = self.how.temperature
            return _per_example(
                distillation_loss(teacher, output, temperature=temperature)
            )
        return _per_example(tf.math.squared_difference(teacher, output))

    def _seen(self, output: tf.Tensor) -> tf.Tensor:
        return tf.nn.softmax(output) if self.ends_in_softmax else output

    def _target_parts(self, packed: Any) -> tuple[Any, Any, list[Any]]:
        shapes = (self.target_shape, self.output_shape, *self.feature_shapes)
        target, teacher, *hints = _parts(packed, shapes)
        return tf.cast(target, self.target_dtype), teacher, hints

    def _output_parts(self, packed: Any) -> tuple[Any, list[Any]]:
        output, *features = _parts(packed, (self.output_shape, *self.feature_shapes))
        return output, features

    def keras_metric(self) -> Any:
        """Returns the task's metric over packed rows, None if it has none."""
        wanted = losses.resolve_metric(self.task.keras_metric)
        if wanted is None:
            return None
        wanted = keras3.to_tf_keras(wanted, tf_keras.metrics)
        metric = tf_keras.metrics.get(_named(wanted, self))
        if isinstance(metric, tf_keras.metrics.Metric):
            return _unpacking(metric, self.task_view)

        def packed(target: Any, output: Any) -> Any:
            return metric(*self.task_view(target, output))

        name = self.task.keras_metric
        packed.__name__ = name if isinstance(name, str) else metric.__name__
        return packed

    def task_view(self, packed_target: Any, packed_output: Any) -> tuple[Any, Any]:
        """Returns target and output as the task knows them."""
        target, _, _ = self._target_parts(packed_target)
        output, _ = self._output_parts(packed_output)
        return target, self._seen(output)


def pack(parts: list[Any]) -> tf.Tensor:
    """Returns tensors [batch, ...] as float32 rows [batch, numbers]."""
    rows = [tf.cast(part, tf.float32) for part in parts]
    return tf.concat([tf.reshape(row, [tf.shape(row)[0], -1]) for row in rows], axis=1)


def _parts(packed: Any, shapes: tuple[Shape, ...]) -> list[Any]:
    packed = tf.cast(packed, tf.float32)
    rows = tf.split(packed, [math.prod(shape) for shape in shapes], axis=1)
    return [
        tf.reshape(row, [-1, *shape]) for row, shape in zip(rows, shapes, strict=True)
    ]


def _per_example(values: tf.Tensor) -> tf.Tensor:
    """Returns the mean [batch] over all other axes."""
    values = tf.cast(values, tf.float32)
    return tf.reduce_mean(tf.reshape(values, [tf.shape(values)[0], -1]), axis=1)


def _unreduced(loss: Any) -> Callable[[Any, Any], Any]:
    """Returns a loss that gives one value per example or position."""
    loss = keras3.to_tf_keras(losses.resolve(loss), tf_keras.losses)
    function = tf_keras.losses.get(loss) if isinstance(loss, str) else loss
    # A Loss object reduces to the mean of the batch when called.
    return function.call if hasattr(function, "reduction") else function


def _named(metric: Any, objective: Objective) -> Any:
    """Returns what Keras makes of "accuracy" when it sees targets and outputs."""
    if metric not in ("accuracy", "acc"):
        return metric
    if objective.output_shape[-1:] == (1,):
        return "binary_accuracy"
    if objective.target_shape == objective.output_shape:
        return "categorical_accuracy"
    return "sparse_categorical_accuracy"


def _unpacking(metric: Any, view: Callable[[Any, Any], tuple[Any, Any]]) -> Any:
    """Returns a copy of a metric that unpacks what it is given."""
    base = type(metric)

    def update_state(
        self: Any, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> Any:
        return base.update_state(self, *view(y_true, y_pred), sample_weight)

    unpacking: Any = type(base.__name__, (base,), {"update_state": update_state})
    return unpacking.from_config(metric.get_config())
