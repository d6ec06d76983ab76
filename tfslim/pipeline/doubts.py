"""What speaks against the figures of an export, said beside them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from tfslim.pipeline import check
from tfslim.pipeline import job as job_lib

# Fewer samples move an accuracy by more than 2 points each.
_FEW = 50
# A model that answers alike by chance for so many is none that has learnt.
_LEAST = 8
# Training samples that are looked at.
_SEEN = 64


def of_sizes(job: job_lib.Job, trained: dict[str, Any] | None) -> list[str]:
    """Says which sets are too small for what is concluded from them."""
    found = []
    number = job.feed.facts.get("validation")
    if trained is not None and number is not None and number < _FEW:
        chosen = trained.get("best_epoch")
        epoch = "" if chosen is None else f": epoch {chosen} may be the best by chance"
        found.append(f"The validation set is too small, {_moves(job, number)}{epoch}.")
    number = job.feed.facts.get("test")
    if number is not None and number < _FEW:
        found.append(f"The test set is too small, {_moves(job, number)}.")
    return found


def _moves(job: job_lib.Job, number: int) -> str:
    text = f"{number} samples"
    if job.task.name == "classification" and number:
        text += f", each of which moves the accuracy by {100 / number:.1f} points"
    return text


def of_model(job: job_lib.Job, checker: check.Checker) -> list[str]:
    """Says that the Keras model itself gives one answer, whatever it sees."""
    symptom = _one_answer(job, checker.outputs, checker.targets)
    if symptom is None:
        return []
    seen = list(itertools.islice(job.feed.calibration or (), _SEEN))
    where = "every test input"
    if seen and _one_answer(job, checker.outputs_of(seen), None) is not None:
        where = "every input, those of the training included"
    return [
        f"The Keras model has collapsed: {symptom} for {where}. Every file of it is as "
        "useless, however well it agrees. Train for longer, on more data, at a lower "
        "learning rate, or look at the preprocessing."
    ]


def _one_answer(
    job: job_lib.Job, outputs: list[np.ndarray], targets: Any
) -> str | None:
    first = outputs[0]
    if len(first) < _LEAST:
        return None
    if all((output == output[:1]).all() for output in outputs):
        return "it gives the same answer"
    if job.task.name != "classification" or len(outputs) > 1:
        return None
    if targets is not None and len(np.unique(_classes(job, targets))) < 2:
        return None
    chosen = np.unique(_classes(job, first))
    return (
        f"it answers class {int(chosen[0])}, one class," if len(chosen) == 1 else None
    )


def _classes(job: job_lib.Job, values: Any) -> np.ndarray:
    """Returns the class of each answer or target."""
    values = np.asarray(values)
    if job.task.threshold is not None and values.dtype.kind == "f":
        return values > job.task.threshold
    if values.ndim > 1 and values.shape[-1] > 1:
        return values.argmax(axis=-1)
    return values
