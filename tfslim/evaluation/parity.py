"""Distance between the outputs of two models on the same inputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfslim import errors, tasks
from tfslim.evaluation.columns import Columns
from tfslim.evaluation.places import is_picture

# Float kernels may add in another order, not compute another function.
MAX_RELATIVE_ERROR = 1e-4
# Where float32 itself is less exact, so many times the noise of Keras is allowed, but
# no more than what no other function would keep to.
_TIMES_NOISE = 10.0
_MOST_NOISE = 1e-3


@dataclasses.dataclass(frozen=True)
class Parity:
    """How far a model's outputs are from a reference's, over all outputs.

    Attributes:
        num_samples: inputs that both models saw.
        max_abs_error: in the unit of the output.
        relative_error: largest error of a column divided by the range
            (max - min) of that column's reference; the worst of all, see `Columns`.
        sqnr_db: signal-to-quantization-noise ratio of the worst column.
        agreement: share (or measure) of agreement by the task.
        where: which column of which output `sqnr_db` is of; "" where there is one.
    """

    num_samples: int
    max_abs_error: float
    relative_error: float
    sqnr_db: float
    agreement: float
    where: str = ""


def compare(
    reference: Sequence[np.ndarray],
    outputs: Sequence[np.ndarray],
    *,
    task: tasks.Task,
    inputs: Sequence[Sequence[int | None]] = (),
) -> Parity:
    """Compares two models' outputs.

    Args:
        reference: per output, [samples, ...], of the model that is right.
        outputs: the same of the model in question, in the same order.
        task: gives the measure of agreement.
        inputs: shapes of the model's inputs: an output like them is one picture.

    Raises:
        VerificationError: number or shapes of the outputs differ, or a value of
            `outputs` is not finite.
    """
    shapes = [value.shape for value in reference], [value.shape for value in outputs]
    if shapes[0] != shapes[1]:
        raise errors.VerificationError(
            f"The file's outputs have shapes {shapes[1]}, the model's {shapes[0]}."
        )
    absolute, rows = [], []
    for expected, got in zip(reference, outputs, strict=True):
        if not np.isfinite(got[np.isfinite(expected)]).all():
            raise errors.VerificationError(
                "The file's output holds NaN or infinity; the model it came from "
                "may overflow for these inputs: check their preprocessing."
            )
        absolute.append(_largest_error(expected, got))
        is_row = task.name == "classification" and expected.ndim == 2
        alike = is_row or is_picture(expected.shape, inputs)
        rows.append(Columns(expected, alike=alike).errors(got))
    agreement = task.agreement(task.measured(reference), task.measured(outputs))
    worst = int(np.argmin([row.sqnr_db for row in rows]))
    column = rows[worst].column
    places = [f"output {worst}"] if len(rows) > 1 else []
    places += [] if column is None else [f"column {column}"]
    return Parity(
        num_samples=len(reference[0]),
        max_abs_error=max(absolute),
        relative_error=max(row.relative_error for row in rows),
        sqnr_db=rows[worst].sqnr_db,
        agreement=float(agreement),
        where=", ".join(places),
    )


def _largest_error(expected: np.ndarray, got: np.ndarray) -> float:
    finite = np.isfinite(expected)
    errors_ = np.abs(got[finite].astype(np.float64) - expected[finite])
    return float(errors_.max(initial=0.0))


def noise_floor(predict: Callable[[Any], Sequence[np.ndarray]], x: Any) -> float:
    """Returns how far a model is from itself in float32.

    The same inputs are run together and one by one, whose kernels add in another order,
    and once more with each input moved by its last bit, which shows what the network
    makes of a rounding error.

    Args:
        predict: batch -> outputs, of the Keras model.
        x: a batch as `predict` takes it: an array, a list or a dict of arrays [n, ...];
            some 64 samples.

    Returns:
        The relative error, as in `Parity`.
    """
    together = list(predict(x))
    count = len(together[0])
    singles = [predict(_map(_rows(index), x)) for index in range(count)]
    apart = [np.concatenate(parts) for parts in zip(*singles, strict=True)]
    nudged = list(predict(_map(_next_float, x)))
    return max(
        Columns(expected).errors(got).relative_error
        for other in (apart, nudged)
        for expected, got in zip(together, other, strict=True)
    )


def _rows(index: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda array: array[index : index + 1]


def _next_float(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind != "f":
        return array
    moved: np.ndarray = np.nextafter(array, array.dtype.type(np.inf))
    return moved


def _map(function: Callable[[np.ndarray], np.ndarray], x: Any) -> Any:
    if isinstance(x, dict):
        return {name: function(np.asarray(value)) for name, value in x.items()}
    if isinstance(x, list | tuple):
        return [function(np.asarray(value)) for value in x]
    return function(np.asarray(x))


def require_parity(parity: Parity, *, name: str, noise: float = 0.0) -> None:
    """Raises unless a float file computes what its Keras model computes.

    Args:
        parity: of the file against the model.
        name: of the file.
        noise: how far the Keras model is from itself, see `noise_floor`.

    Raises:
        VerificationError: the error is above 1e-4 of the column's range, and above 10
            times the noise of the model itself.
    """
    allowed = max(MAX_RELATIVE_ERROR, _TIMES_NOISE * min(noise, _MOST_NOISE))
    if not parity.relative_error <= allowed:
        raise errors.VerificationError(
            f"'{name}' differs from the Keras model by {parity.relative_error:.2e} of "
            f"the output's range over {parity.num_samples} samples; at most "
            f"{allowed:.0e} is allowed"
            + (f", as Keras differs from itself by {noise:.0e}" if noise else "")
            + ". A layer was converted to another "
            "function: look for custom layers, or random ones active at inference."
        )
