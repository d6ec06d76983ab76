"""Models that decide between two classes by one number: a sigmoid, or its logit."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfslim import errors, ops

# Ops and layers that pass on what they are given, in another form at most.
_PASSING_OPS = ops.tflite("converting", "reshaping")
_PASSING_LAYERS = ops.keras("idle", "moving") | {"Activation", "InputLayer"}


def has_one_column(model: Any) -> bool:
    """Tells whether a model has one output [n, ..., 1]; see `tasks.resolve`."""
    outputs: Any = getattr(model, "outputs", None) or ()
    if len(outputs) != 1:
        return False
    shape = tuple(outputs[0].shape)
    return len(shape) > 1 and shape[-1] == 1


def gives_logits(model: Any) -> bool:
    """Tells whether the one column is anything else than what a sigmoid gives."""
    if hasattr(model, "ops"):
        return not _file_ends_in_sigmoid(model)
    return not _model_ends_in_sigmoid(model)


def _file_ends_in_sigmoid(model: Any) -> bool:
    tensor = model.outputs[0].index
    for op in reversed(model.ops):
        if tensor not in op.outputs:
            continue
        if op.name not in _PASSING_OPS:
            return bool(op.name == "LOGISTIC")
        tensor = op.inputs[0]
    return False


def _model_ends_in_sigmoid(model: Any) -> bool:
    # Functions of Keras 3 are no layers.
    parts: Any = getattr(model, "operations", None) or getattr(model, "layers", ())
    for part in reversed(parts):
        part = getattr(part, "layer", part)  # Of a wrapper, such as TimeDistributed.
        if getattr(part, "layers", None):
            return _model_ends_in_sigmoid(part)
        name = type(part).__name__
        activation = getattr(part, "activation", None)
        if name == "TFOpLambda":  # A function of TensorFlow; its name tells which.
            name = part.name
        elif callable(activation):
            function = getattr(activation, "__name__", type(activation).__name__)
            name = name if function == "linear" else function
        if name not in _PASSING_LAYERS:
            return "sigmoid" in name.lower()
    return False


def accuracy(outputs: np.ndarray, targets: np.ndarray, *, threshold: float) -> float:
    """Returns the share of outputs on the side of the threshold where they belong.

    Args:
        outputs: float array [n, ..., 1].
        targets: 0 or 1, [n, ...] or [n, ..., 1].
        threshold: above it, the answer is 1.

    Raises:
        ConfigError: there are more or fewer targets, or others than 0 and 1.
    """
    answers = np.asarray(outputs).reshape(-1) > threshold
    wanted = np.asarray(targets).reshape(-1)
    if wanted.size != answers.size:
        raise errors.ConfigError(
            f"{answers.size} outputs were compared with {wanted.size} targets."
        )
    others = wanted[(wanted != 0) & (wanted != 1)]
    if others.size:
        raise errors.ConfigError(
            f"A model with one column of outputs knows the classes 0 and 1; there is a "
            f"target {others[0]}."
        )
    return float(np.mean(answers == (wanted == 1)))


def agreement(reference: np.ndarray, other: np.ndarray, *, threshold: float) -> float:
    """Returns the share of outputs on the same side of the threshold in both."""
    reference, other = np.asarray(reference), np.asarray(other)
    if reference.size != other.size or not reference.size:
        raise errors.ConfigError(
            f"Arrays of shapes {reference.shape} and {other.shape} cannot be compared."
        )
    return float(np.mean((reference > threshold) == (other > threshold)))
