"""Distance between the outputs of two models on the same inputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from tfslim import errors, tasks

# Float kernels may add in another order, not compute another function.
MAX_RELATIVE_ERROR = 1e-4


@dataclasses.dataclass(frozen=True)
class Parity:
    """How far a model's outputs are from a reference's, over all outputs.

    Attributes:
        num_samples: inputs that both models saw.
        max_abs_error: in the unit of the output.
        relative_error: largest error of an output divided by the range
            (max - min) of that output's reference; the worst of the outputs.
        sqnr_db: signal-to-quantization-noise ratio of the worst output.
        agreement: share (or measure) of agreement by the task.
    """

    num_samples: int
    max_abs_error: float
    relative_error: float
    sqnr_db: float
    agreement: float


def compare(
    reference: Sequence[np.ndarray],
    outputs: Sequence[np.ndarray],
    task: tasks.Task,
) -> Parity:
    """Compares two models' outputs.

    Args:
        reference: per output, [samples, ...], of the model that is right.
        outputs: the same of the model in question, in the same order.
        task: gives the measure of agreement.

    Raises:
        VerificationError: number or shapes of the outputs differ, or a value of
            `outputs` is not finite.
    """
    shapes = [value.shape for value in reference], [value.shape for value in outputs]
    if shapes[0] != shapes[1]:
        raise errors.VerificationError(
            f"The file's outputs have shapes {shapes[1]}, the model's {shapes[0]}."
        )
    absolute, relative, sqnr = [], [], []
    for expected, got in zip(reference, outputs, strict=True):
        if not np.isfinite(got).all():
            raise errors.VerificationError(
                "The file's output holds NaN or infinity; the model it came from "
                "may overflow for these inputs: check their preprocessing."
            )
        error = float(np.abs(got.astype(np.float64) - expected).max())
        extent = float(expected.max() - expected.min()) or float(
            np.abs(expected).max() or 1.0
        )
        absolute.append(error)
        relative.append(error / extent)
        sqnr.append(tasks.sqnr_db(expected, got))
    agreement = task.agreement(task.measured(reference), task.measured(outputs))
    return Parity(
        num_samples=len(reference[0]),
        max_abs_error=max(absolute),
        relative_error=max(relative),
        sqnr_db=min(sqnr),
        agreement=float(agreement),
    )


def require_parity(parity: Parity, *, name: str) -> None:
    """Raises unless a float file computes what its Keras model computes.

    Raises:
        VerificationError: the error is above 1e-4 of the output's range.
    """
    if not parity.relative_error <= MAX_RELATIVE_ERROR:
        raise errors.VerificationError(
            f"'{name}' differs from the Keras model by {parity.relative_error:.2e} of "
            f"the output's range over {parity.num_samples} samples; at most "
            f"{MAX_RELATIVE_ERROR:.0e} is allowed. A layer was converted to another "
            "function: look for custom layers, or random ones active at inference."
        )
