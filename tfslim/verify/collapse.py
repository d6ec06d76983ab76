"""Detects models that run and are useless: their output has collapsed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfslim import errors
from tfslim.verify.columns import Columns

_MIN_SAMPLES = 8
# Share of the float outputs that may lie beyond what the quantized file ever puts out.
_MAX_BEYOND = 0.1
# A class that the float model chooses this often cannot vanish by chance.
_MIN_CLASS_SHARE = 0.1
# Columns that a message lists.
_MOST_LISTED = 5


def require_healthy(
    reference: Sequence[np.ndarray] | np.ndarray,
    outputs: Sequence[np.ndarray] | np.ndarray,
    *,
    name: str,
    classes: bool,
    calibrated: tuple[float, float] | None = None,
    seen: tuple[float, float] | None = None,
) -> None:
    """Raises if an output of a quantized model has collapsed against its float model's.

    Args:
        reference: the float model's outputs, each [samples, ...]; one array is one.
        outputs: the quantized model's, of the same shapes.
        name: of the file, for the message.
        classes: whether the first output's last axis holds one score a class.
        calibrated: smallest and largest input value among the calibration samples.
        seen: the same among the inputs of this check.

    Raises:
        VerificationError: a constant, one-class or saturated output, a column that is
            constant, or values that are not finite; with the likely cause.
    """
    if isinstance(reference, np.ndarray):
        reference = [reference]
    if isinstance(outputs, np.ndarray):
        outputs = [outputs]
    for number, (truth, found) in enumerate(zip(reference, outputs, strict=True)):
        symptom = symptom_of(truth, found, classes=classes and number == 0)
        if symptom:
            which = "its output" if len(reference) == 1 else f"its output {number}"
            raise errors.VerificationError(
                f"'{name}' is useless, {which} collapsed: {symptom}. "
                f"{_likely_cause(calibrated, seen)}"
            )


def symptom_of(
    truth: np.ndarray,
    found: np.ndarray,
    *,
    classes: bool,
    columns: Columns | None = None,
) -> str | None:
    """Says how a quantized model's output has collapsed; None if it has not.

    Args:
        truth: the float model's output, [samples, ...].
        found: the quantized model's, of the same shape.
        classes: whether the last axis holds one score a class.
        columns: of `truth`, where they are known already.
    """
    if len(truth) < 2 or truth.dtype.kind != "f":
        return None
    if not np.isfinite(found[np.isfinite(truth)]).all():
        return "it holds NaN or infinity"
    columns = columns or Columns(truth, alike=classes)
    dead = columns.errors(found).dead
    if len(truth) < _MIN_SAMPLES:
        return _dead(dead, columns)
    if _is_constant(found) and not _is_constant(truth):
        return "it is the same for every input"
    if classes and truth.ndim == 2 and truth.shape[1] > 1:
        chosen = np.unique(found.argmax(axis=1))
        counts = np.bincount(truth.argmax(axis=1)) / len(truth)
        if len(chosen) == 1 and (counts >= _MIN_CLASS_SHARE).sum() > 1:
            return f"it answers class {chosen[0]} for every input"
    truth = np.where(np.isfinite(truth), truth, 0.0)
    extent = float(truth.max() - truth.min())
    slack = 0.05 * extent
    beyond = (truth > found.max() + slack) | (truth < found.min() - slack)
    if beyond.mean() > _MAX_BEYOND:
        return (
            f"it is saturated: {beyond.mean():.0%} of the float values lie "
            f"beyond its range [{found.min():.4g}, {found.max():.4g}]"
        )
    return _dead(dead, columns)


def _dead(dead: Sequence[int], columns: Columns) -> str | None:
    if not dead:
        return None
    listed = ", ".join(map(str, dead[:_MOST_LISTED]))
    more = ", …" if len(dead) > _MOST_LISTED else ""
    what = "column" if len(dead) == 1 else "columns"
    verb = "varies" if len(dead) == 1 else "vary"
    return (
        f"{what} {listed}{more} of axis {columns.axis} {verb} in the float model and "
        f"{'is' if len(dead) == 1 else 'are'} the same for every input"
    )


def one_answer(
    outputs: Sequence[np.ndarray],
    targets: np.ndarray | None = None,
    *,
    classes: bool,
) -> str | None:
    """Says whether a model, looked at alone, gives one answer for every input.

    Args:
        outputs: its outputs, each [samples, ...]; the first is looked at.
        targets: class numbers [samples] or one-hot rows. One class for all is a fault
            only where these hold several, each for a tenth of the samples or more.
        classes: whether the first output holds one score a class, or one for the
            second of two classes.

    Returns:
        The symptom; None where there is none, or are fewer than 8 samples.
    """
    values = np.asarray(outputs[0])
    if len(values) < _MIN_SAMPLES or values.dtype.kind != "f":
        return None
    values = values.reshape(len(values), -1)
    if not np.isfinite(values).all():
        return None
    moves = values.max(axis=0) - values.min(axis=0)
    if (moves <= 1e-6 * np.abs(values).max()).all():
        return "its output is the same for every input"
    if not classes or targets is None or np.ndim(outputs[0]) != 2:
        return None
    targets = np.asarray(targets)
    if targets.ndim == 2 and targets.shape[1] > 1:
        targets = targets.argmax(axis=1)
    _, counts = np.unique(targets, return_counts=True)
    if (counts >= _MIN_CLASS_SHARE * len(targets)).sum() < 2:
        return None
    if values.shape[1] > 1:
        chosen = values.argmax(axis=1)
    else:  # A probability, or a logit.
        is_share = values.min() >= 0.0 and values.max() <= 1.0
        chosen = (values[:, 0] > (0.5 if is_share else 0.0)).astype(int)
    if (chosen == chosen[0]).all():
        return f"it answers class {chosen[0]} for every input"
    return None


def _is_constant(values: np.ndarray) -> bool:
    return bool((values == values[:1]).all())


def _likely_cause(
    calibrated: tuple[float, float] | None, seen: tuple[float, float] | None
) -> str:
    if calibrated and seen:
        width = max(calibrated[1] - calibrated[0], 1e-12)
        if (seen[1] - seen[0]) > 2 * width or (seen[1] - seen[0]) < width / 2:
            return (
                f"Likely cause: the calibration samples span [{calibrated[0]:.4g}, "
                f"{calibrated[1]:.4g}] and the model's inputs [{seen[0]:.4g}, "
                f"{seen[1]:.4g}]: preprocess both in the same way."
            )
    return (
        "Likely cause: too few or unrepresentative calibration samples (give some 300 "
        "real ones), or values of unlike size that share one INT8 scale (take "
        "dynamic_int8 or float16)."
    )
