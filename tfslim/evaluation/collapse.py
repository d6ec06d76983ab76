"""Detects models that run and are useless: their output has collapsed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfslim import errors
from tfslim.evaluation.columns import ColumnErrors, Columns
from tfslim.evaluation.places import is_picture, still_places

_MIN_SAMPLES = 8
# Share of the float outputs that may lie beyond what the quantized file ever puts out.
_MAX_BEYOND = 0.1
# A class that the float model chooses this often cannot vanish by chance.
_MIN_CLASS_SHARE, _MIN_CLASS_SAMPLES = 0.1, 3
# A column that ends so far from the float model's is saturated; less is clipping that
# calibration does on purpose.
_SATURATED_DB = 10.0
# Columns that a message lists.
_MOST_LISTED = 5


def require_healthy(
    reference: Sequence[np.ndarray] | np.ndarray,
    outputs: Sequence[np.ndarray] | np.ndarray,
    *,
    name: str,
    classes: bool,
    inputs: Sequence[Sequence[int | None]] = (),
    calibrated: tuple[float, float] | None = None,
    seen: tuple[float, float] | None = None,
) -> None:
    """Raises if an output of a quantized model has collapsed against its float model's.

    Args:
        reference: the float model's outputs, each [samples, ...]; one array is one.
        outputs: the quantized model's, of the same shapes.
        name: of the file, for the message.
        classes: whether the first output's last axis holds one score a class.
        inputs: shapes of the model's inputs: an output like them is one picture.
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
        own = classes and number == 0
        columns = Columns(truth, alike=own or is_picture(truth.shape, inputs))
        symptom = symptom_of(truth, found, classes=own, columns=columns)
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
    if len(truth) < 2 or not truth.size or truth.dtype.kind != "f":
        return None
    if not np.isfinite(found[np.isfinite(truth)]).all():
        return "it holds NaN or infinity"
    columns = columns or Columns(truth, alike=classes)
    measured = columns.errors(found)
    dead = measured.dead
    if len(truth) < _MIN_SAMPLES:
        return _dead(dead, columns)
    if _is_constant(found) and not _is_constant(truth):
        return "it is the same for every input"
    if classes and truth.ndim == 2 and truth.shape[1] > 1:
        chosen = np.unique(found.argmax(axis=1))
        if len(chosen) == 1 and _are_several(np.bincount(truth.argmax(axis=1))):
            return f"it answers class {chosen[0]} for every input"
    truth = np.where(np.isfinite(truth), truth, 0.0)
    if measured.sqnr_db < _SATURATED_DB:
        beyond = _beyond(truth, found, 0.05)
        if beyond > _MAX_BEYOND:
            return (
                f"it is saturated: {beyond:.0%} of the float values lie "
                f"beyond its range [{found.min():.4g}, {found.max():.4g}]"
            )
    symptom = _dead(dead, columns)
    if symptom is None and not classes:
        symptom = _saturated(truth, found, axis=columns.axis, measured=measured)
    return symptom or _still(truth, found, column_axis=columns.axis)


def _are_several(counts: np.ndarray) -> bool:
    """Whether two classes or more occur so often that none can vanish by chance."""
    least = max(_MIN_CLASS_SHARE * counts.sum(), _MIN_CLASS_SAMPLES)
    return int((counts >= least).sum()) > 1


def _beyond(truth: np.ndarray, found: np.ndarray, slack: float) -> float:
    """Returns the share of `truth` that lies beyond what `found` ever reaches."""
    slack *= float(truth.max() - truth.min())
    beyond = (truth > found.max() + slack) | (truth < found.min() - slack)
    return float(beyond.mean())


def _saturated(
    truth: np.ndarray, found: np.ndarray, *, axis: int, measured: ColumnErrors
) -> str | None:
    """Says that one of several columns is saturated."""
    if truth.ndim < 2:
        return None
    for column in measured.lost:
        pair = truth.take(column, axis), found.take(column, axis)
        beyond = _beyond(*pair, 0.25)
        if beyond > _MAX_BEYOND:
            return (
                f"column {column} of axis {axis} is saturated: {beyond:.0%} of its "
                "float values lie far beyond its range "
                f"[{pair[1].min():.4g}, {pair[1].max():.4g}]"
            )
    return None


def _still(truth: np.ndarray, found: np.ndarray, *, column_axis: int) -> str | None:
    axis = still_places(truth, found, axis=column_axis)
    if axis is None:
        return None
    return (
        f"places of axis {axis} move in the float model and are the same for every "
        "input"
    )


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
            only where these hold several, each for a tenth of the samples or more and
            for three of them.
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
    if not _are_several(counts):
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
