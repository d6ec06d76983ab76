"""Whether a program gives the answers that the Interpreter gives on the same inputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfslim import errors, evaluation, tasks

# What a program rounds in another order, or computes in 16 bits, stays above; below,
# the error is a tenth of all that varies in a column.
_LEAST_DB = 20.0
# Share of the samples that may be given another class; one of them always may.
_OTHERS = 0.02
# An INT8 file is off itself: a program that is off as far, in dB, is not to blame.
_SLACK_DB = 3.0
# Nobody is to blame for choosing between two classes whose scores are as near as this
# share of the scores' extent.
_TIE = 0.01


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """How far a program's outputs are from others on the same inputs.

    Attributes:
        against: whose outputs are the reference: "interpreter", "keras", ….
        max_abs_error: largest difference, in the unit of the output.
        sqnr_db: of the worst column of the worst output.
        agreement: share of the samples that get the same class; None for no classes.
        where: the worst column.
        reason: why it is wrong; "" where it is right.
    """

    against: str
    max_abs_error: float
    sqnr_db: float
    agreement: float | None
    where: str
    reason: str

    @property
    def is_right(self) -> bool:
        """Whether the answers are the same but for rounding."""
        return not self.reason


def judge(
    reference: Mapping[str, np.ndarray],
    outputs: Mapping[str, np.ndarray],
    *,
    against: str,
    classes: bool,
) -> Verdict:
    """Compares outputs by column, and by class where they are scores.

    Args:
        reference: output name -> array [samples, ...] that is right.
        outputs: of the program in question, in the same order.
        against: whose `reference` is.
        classes: whether the first output holds one score a class.

    Raises:
        VerificationError: shapes differ.
    """
    truth, found = list(reference.values()), list(outputs.values())
    task = tasks.TASKS.get("classification" if classes else "regression")
    if not all(np.isfinite(array).all() for array in found):
        return Verdict(
            against=against,
            max_abs_error=float("inf"),
            sqnr_db=-evaluation.MOST_DB,
            agreement=None,
            where="",
            reason="its outputs hold NaN or infinity",
        )
    parity = evaluation.compare(truth, found, task=task)
    agreement = _agreement(truth[0], found[0]) if classes else None
    return Verdict(
        against=against,
        max_abs_error=parity.max_abs_error,
        sqnr_db=parity.sqnr_db,
        agreement=agreement,
        where=parity.where,
        reason=_reason(parity, agreement),
    )


def is_no_worse(found: Verdict, other: Verdict, *, count: int) -> bool:
    """Whether a program is as near to a model as another one that runs its file.

    In a network that is sensitive to rounding, every program that quantizes rounds its
    own way: the answers differ, and none is wrong.

    Args:
        found: of the program in question, against the model.
        other: of the Interpreter, against the model.
        count: samples.
    """
    shares = found.agreement, other.agreement
    is_near = found.sqnr_db >= other.sqnr_db - _SLACK_DB
    if None in shares:
        return is_near
    lost = float(shares[1] or 0.0) - float(shares[0] or 0.0)
    return is_near and lost <= _allowed(count)


def _allowed(count: int) -> float:
    """Returns the share of the samples that may get another class."""
    return max(_OTHERS, 1.0 / count) + 1e-9


def _agreement(truth: np.ndarray, found: np.ndarray) -> float:
    """Returns the share of samples that get a class as good as the reference's."""
    chosen = found.argmax(axis=-1)[..., None]
    lost = truth.max(axis=-1) - np.take_along_axis(truth, chosen, -1)[..., 0]
    extent = float(truth.max() - truth.min())
    return float((lost <= _TIE * extent).mean())


def _reason(parity: evaluation.Parity, agreement: float | None) -> str:
    if agreement is not None and 1.0 - agreement > _allowed(parity.num_samples):
        return f"{1.0 - agreement:.1%} of the samples get another class"
    if parity.sqnr_db < _LEAST_DB:
        where = f" in {parity.where}" if parity.where else ""
        return (
            f"the error{where} is {parity.sqnr_db:.1f} dB below what varies; "
            f"{_LEAST_DB:.0f} dB are wanted"
        )
    return ""


def has_classes(outputs: Mapping[str, np.ndarray], entry: Mapping[str, Any]) -> bool:
    """Tells whether the first output holds one score a class.

    Args:
        outputs: output name -> array [samples, ...].
        entry: the file's own metadata, which names the task or the classes.

    Raises:
        VerificationError: there are no outputs.
    """
    if not outputs:
        raise errors.VerificationError("The program gave no outputs.")
    first = next(iter(outputs.values()))
    is_row = first.ndim == 2 and first.shape[1] > 1
    is_named = len(entry.get("labels") or ()) == first.shape[-1]
    return is_row and (entry.get("task") == "classification" or is_named)
