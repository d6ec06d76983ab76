"""What a model is for: its target, its loss, and how well it does.

Nothing else in tfslim knows about "accuracy": whoever trains, verifies or reports
asks the `Task`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tfslim import binary, errors, registry


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """A job for a model. Make your own, or take one from `TASKS`.

    Attributes:
        name: noun, for reports.
        loss: a Keras loss: its name, or a function or `Loss` object; or "crossentropy",
            see `tfslim.training.losses`.
        target: (x, y) -> what the outputs are compared with; x are the model's
            inputs after preprocessing, y the data's targets.
        metric_name: name of `metric`, for reports.
        metric: (outputs, targets) -> float over all examples at once.
        higher_is_better: whether a larger `metric` is a better model.
        agreement_name: name of `agreement`, for reports.
        agreement: (reference outputs, other outputs) -> share in 0..1 to which the
            second model does what the first does; 1 is equal.
        keras_metric: the same metric for Keras, to be watched while training; None
            where the loss says it all.
        all_outputs: `metric` and `agreement` take the list of all outputs of a model,
            instead of the first one.
        has_boxes: the data's targets are boxes in the image, [n, max_boxes, 5] (see
            `tfslim.data.boxes`), which move when the image is changed.
        threshold: of a model with one column of outputs, which answers the second of
            two classes above it; None for all others.
        prepare_export: (model, preprocessing or None, class names) -> what is converted
            in the model's place; None where it is the model itself.
        refused_steps: step of an export -> why it is not for this task.
        for_model: (task, model) -> the task with the loss and metric for that model;
            None where they fit every model.
    """

    name: str
    loss: Any
    target: Callable[[Any, Any], Any]
    metric_name: str
    metric: Callable[[Any, np.ndarray], float]
    higher_is_better: bool
    agreement_name: str
    agreement: Callable[[Any, Any], float]
    keras_metric: Any = None
    all_outputs: bool = False
    has_boxes: bool = False
    threshold: float | None = None
    prepare_export: Callable[[Any, Any, Sequence[str]], Exported] | None = None
    refused_steps: Mapping[str, str] = dataclasses.field(default_factory=dict)
    for_model: Callable[[Task, Any], Task] | None = None

    def measured(self, outputs: Sequence[np.ndarray]) -> Any:
        """Returns what `metric` and `agreement` take of a model's outputs."""
        return list(outputs) if self.all_outputs else outputs[0]

    @property
    def is_binary(self) -> bool:
        """Whether one number decides between two classes."""
        return self.threshold is not None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exported:
    """What is converted of a model.

    Attributes:
        model: a Keras model.
        task: of its outputs.
        layers: layer -> recipe, for those that must stay in float.
        metadata: more entries for the metadata of the files.
        notes: what was changed.
    """

    model: Any
    task: Task
    layers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()


TASKS: registry.Registry[Task] = registry.Registry("task")


def resolve(task: str | Task, model: Any = None) -> Task:
    """Returns `task`, looked up in `TASKS` if it is a name.

    Args:
        task: the name or the task itself.
        model: what a task that depends on the model is completed for: a model of
            either Keras, or a `.tflite` as `tflite.read` gives it.
    """
    task = task if isinstance(task, Task) else TASKS.get(task)
    if model is not None and task.for_model is not None:
        return task.for_model(task, model)
    return task


def sqnr_db(reference: np.ndarray, other: np.ndarray) -> float:
    """Returns the signal-to-quantization-noise ratio in decibels.

    10 * log10(sum(reference^2) / sum((reference - other)^2)); larger is closer,
    `inf` for equal arrays. Compare logits rather than softmax outputs, whose small
    values vanish.

    Args:
        reference: array of any shape.
        other: array of the same shape.

    Raises:
        ConfigError: the shapes differ or are empty.
    """
    reference, other = _same_shape(reference, other)
    signal = float(np.sum(reference**2))
    noise = float(np.sum((reference - other) ** 2))
    if noise == 0.0:
        return float("inf")
    return 10.0 * float(np.log10(signal / noise)) if signal else float("-inf")


def relative_agreement(reference: np.ndarray, other: np.ndarray) -> float:
    """Returns 1 - |reference - other| / |reference| (Euclidean norms), at least 0.

    It is `sqnr_db` as a share: 20 dB are 0.9, 40 dB are 0.99; NaNs count as 0.
    """
    if np.isnan(other).any():
        return 0.0
    return max(0.0, 1.0 - float(10.0 ** (-sqnr_db(reference, other) / 20.0)))


def top1_agreement(reference: np.ndarray, other: np.ndarray) -> float:
    """Returns the share of examples for which both models choose the same class."""
    reference, other = _same_shape(reference, other)
    return float(np.mean(_top1(reference) == _top1(other)))


def accuracy(outputs: np.ndarray, targets: np.ndarray) -> float:
    """Returns the share of examples whose largest output is the target's class.

    Args:
        outputs: float array [n, classes], probabilities or logits.
        targets: class indices [n] or [n, 1], or one-hot rows [n, classes].
    """
    outputs, targets = np.asarray(outputs), np.asarray(targets)
    chosen = _top1(outputs)
    if targets.ndim == outputs.ndim and targets.shape[-1] > 1:
        if targets.shape[-1] != outputs.shape[-1]:
            raise errors.ConfigError(
                f"{outputs.shape[-1]} outputs were compared with one-hot targets of "
                f"{targets.shape[-1]} classes."
            )
        targets = targets.argmax(axis=-1)
    targets = targets.reshape(-1)
    if targets.shape != chosen.shape:
        raise errors.ConfigError(
            f"{chosen.size} outputs were compared with {targets.size} targets."
        )
    return float(np.mean(chosen == targets))


def mean_squared_error(outputs: np.ndarray, targets: np.ndarray) -> float:
    """Returns the mean of the squared differences over all elements."""
    outputs, targets = _same_shape(outputs, targets)
    return float(np.mean((outputs - targets) ** 2))


def _top1(outputs: np.ndarray) -> np.ndarray:
    if outputs.size == 0 or outputs.ndim < 2 or outputs.shape[-1] < 2:
        raise errors.ConfigError(
            f"Classification needs outputs [n, classes] with 2 or more classes, got "
            f"shape {outputs.shape}. Of one column, complete the task with its model: "
            "tasks.resolve('classification', model)."
        )
    chosen: np.ndarray = outputs.reshape(-1, outputs.shape[-1]).argmax(axis=-1)
    return chosen


def _same_shape(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # Squares of float32 outputs over a whole test split lose digits.
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim == b.ndim + 1 and a.shape[-1] == 1:
        b = b[..., None]
    if a.shape != b.shape or not a.size:
        raise errors.ConfigError(
            f"Arrays of shapes {a.shape} and {b.shape} cannot be compared; they must "
            "be equal and not empty."
        )
    return a, b


def _targets_of_data(x: Any, y: Any) -> Any:
    return y


def _inputs_themselves(x: Any, y: Any) -> Any:
    return x


def _for_outputs(task: Task, model: Any) -> Task:
    """Returns the classification of a model: by the largest output, or by the one."""
    if not binary.has_one_column(model):
        return task
    of_what = "_of_logits" if binary.gives_logits(model) else ""
    threshold = 0.0 if of_what else 0.5
    own_loss, own_metric = task.loss != "crossentropy", task.keras_metric != "accuracy"
    return dataclasses.replace(
        task,
        loss=task.loss if own_loss else f"binary_crossentropy{of_what}",
        metric=functools.partial(binary.accuracy, threshold=threshold),
        agreement_name="agreement",
        agreement=functools.partial(binary.agreement, threshold=threshold),
        keras_metric=task.keras_metric if own_metric else f"binary_accuracy{of_what}",
        threshold=threshold,
        for_model=None,
    )


TASKS.register("classification")(
    Task(
        name="classification",
        loss="crossentropy",
        target=_targets_of_data,
        metric_name="accuracy",
        metric=accuracy,
        higher_is_better=True,
        agreement_name="top-1 agreement",
        agreement=top1_agreement,
        keras_metric="accuracy",
        for_model=_for_outputs,
    )
)
_REGRESSION = Task(
    name="regression",
    loss="mean_squared_error",
    target=_targets_of_data,
    metric_name="mean squared error",
    metric=mean_squared_error,
    higher_is_better=False,
    agreement_name="1 - relative error",
    agreement=relative_agreement,
)
TASKS.register("regression")(_REGRESSION)
TASKS.register("reconstruction")(
    dataclasses.replace(_REGRESSION, name="reconstruction", target=_inputs_themselves)
)
TASKS.register_lazy("detection", "tfslim.detection.task:DETECTION")
