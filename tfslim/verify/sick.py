"""Detects quantized files that run and are useless."""

from __future__ import annotations

import numpy as np

from tfslim import errors

_MIN_SAMPLES = 8
# Share of the float outputs that may lie beyond what the quantized file ever puts out.
_MAX_BEYOND = 0.1
# A class that the float model chooses this often cannot vanish by chance.
_MIN_CLASS_SHARE = 0.1


def require_healthy(
    reference: np.ndarray,
    outputs: np.ndarray,
    *,
    name: str,
    classes: bool,
    calibrated: tuple[float, float] | None = None,
    seen: tuple[float, float] | None = None,
) -> None:
    """Raises if a quantized model's output has collapsed against its float model's.

    Args:
        reference: float model's output, [samples, ...].
        outputs: quantized model's output, same shape.
        name: of the file, for the message.
        classes: whether the last axis holds one score a class.
        calibrated: smallest and largest input value among the calibration samples.
        seen: the same among the inputs of this check.

    Raises:
        VerificationError: constant, one-class or saturated output, or values that are
            not finite; with the likely cause.
    """
    if len(reference) < _MIN_SAMPLES:
        return
    symptom = _symptom(reference, outputs, classes)
    if symptom:
        raise errors.VerificationError(
            f"'{name}' is sick: {symptom}. {_likely_cause(calibrated, seen)}"
        )


def _symptom(reference: np.ndarray, outputs: np.ndarray, classes: bool) -> str | None:
    if not np.isfinite(outputs).all():
        return "its output holds NaN or infinity"
    if _is_constant(outputs) and not _is_constant(reference):
        return "its output is the same for every input"
    if classes and reference.ndim == 2 and reference.shape[1] > 1:
        chosen = np.unique(outputs.argmax(axis=1))
        counts = np.bincount(reference.argmax(axis=1)) / len(reference)
        if len(chosen) == 1 and (counts >= _MIN_CLASS_SHARE).sum() > 1:
            return f"it answers class {chosen[0]} for every input"
    extent = float(reference.max() - reference.min())
    slack = 0.05 * extent
    beyond = (reference > outputs.max() + slack) | (reference < outputs.min() - slack)
    if beyond.mean() > _MAX_BEYOND:
        return (
            f"its output is saturated: {beyond.mean():.0%} of the float outputs lie "
            f"beyond its range [{outputs.min():.4g}, {outputs.max():.4g}]"
        )
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
        "Likely cause: too few or unrepresentative calibration samples; give some "
        "300 real ones (--config.quantization.calibration_samples)."
    )
