"""What speaks against the figures of an export, said beside them."""

from __future__ import annotations

import itertools
from typing import Any

from tfslim import evaluation, report
from tfslim.pipeline import check
from tfslim.pipeline import job as job_lib

# Fewer samples move an accuracy by more than 2 points each.
_FEW = 50
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
    """Says that the Keras model itself is of no use, whatever its files are."""
    classes = job.task.name == "classification"
    targets = None if isinstance(checker.keras.targets, list) else checker.keras.targets
    symptom = evaluation.one_answer(checker.keras.outputs, targets, classes=classes)
    if symptom is None:
        if job.feed.examples is None:
            return []
        doubt = checker.keras.doubt_preprocessing(
            job.feed.examples, job.preprocessing, flag="--preprocessing"
        )
        return [] if doubt is None else [doubt.text]
    seen = list(itertools.islice(job.feed.calibration or (), _SEEN))
    if seen and classes:
        chosen = checker.keras.chosen(checker.outputs_of(seen))
        symptom += " of the test"
        if (chosen == chosen[0]).all():
            symptom += ", and of the training, too"
    return [
        f"The Keras model has collapsed: {symptom}. Every file of it is as useless, "
        "however well it agrees. Train for longer, on more data, at a lower learning "
        "rate, or look at the preprocessing."
    ]


def of_variants(rows: list[dict[str, Any]]) -> list[str]:
    """Names the better file where a variant is worse in all there is to measure.

    Args:
        rows: the variants, timed; nothing is said without the float file among them,
            and nothing of times that are not valid figures.
    """
    timed = [row.get("benchmark") or {} for row in rows]
    is_valid = not any(one.get("invalid") for one in timed)
    found = [
        {
            "name": row["name"],
            "size_bytes": row["size_bytes"],
            "sqnr_db": row["parity"]["sqnr_db"],
            "p50_us": one["latency"].get("p50") if one and is_valid else None,
        }
        for row, one in zip(rows, timed, strict=True)
    ]
    floats = [row for row in found if row["name"] == "float32"]
    if not floats:
        return []
    return report.better_files([*floats, *(row for row in found if row not in floats)])
