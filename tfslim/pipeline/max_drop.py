"""`max_drop`: layers return to float until the accuracy of INT8 is kept."""

from __future__ import annotations

import dataclasses
from typing import Any

from tfslim import errors, evaluation, quantization
from tfslim.pipeline import check
from tfslim.pipeline import job as job_lib
from tfslim.pipeline import variants as variants_lib


def require_data(job: job_lib.Job, max_drop: float | None) -> None:
    """Raises ConfigError where a drop cannot be measured, before the work."""
    if max_drop is None:
        return
    if job.feed.test is None or job.feed.calibration is None:
        raise errors.ConfigError(
            "--max_drop needs data to calibrate with and to measure on: name data, or "
            "pass train_data and eval_data."
        )
    goal(job, max_drop, 0.0 if job.feed.has_targets else None)


def goal(
    job: job_lib.Job, max_drop: float, float_metric: float | None
) -> evaluation.Goal:
    """Returns what a drop of `max_drop` points means for a model and its data.

    Raises:
        ConfigError: it means nothing.
    """
    metric = agreement = None
    if float_metric is not None and job.task.higher_is_better:
        reason = f"the data has targets: {job.task.metric_name}"
        metric = "metric", float_metric, reason
    if job.task.name == "classification":
        agreement = "agreement", f"the data has no labels: {job.task.agreement_name}"
    return evaluation.goal_of(max_drop, metric=metric, agreement=agreement)


def keep_accuracy(
    accurate: quantization.AccurateResult,
    wanted: evaluation.Goal,
    job: job_lib.Job,
    float_file: bytes,
    options: quantization.Options,
    checker: check.Checker,
    on_step: Any,
) -> tuple[quantization.AccurateResult, dict[str, Any]]:
    """Returns layers to float, worst first, where INT8 misses the goal.

    Returns:
        The file, and what the result says of the way there; "is_met" tells whether
        the goal is reached.
    """
    samples = variants_lib.samples_for(job, float_file)
    assert samples is not None  # noqa: S101 - `require_data` has seen to it.

    def value(content: bytes) -> float:
        row = checker.figures(content)
        return float(row.get(wanted.key, row["parity"].get(wanted.key)))

    found = quantization.keep_accuracy(
        accurate,
        float_file,
        samples,
        evaluate=value,
        least=wanted.least,
        options=options,
        on_step=on_step,
    )
    return found.accurate, {
        "goal": dataclasses.asdict(wanted),
        "is_met": found.is_met,
        "fallback": [dataclasses.asdict(step) for step in found.steps],
    }
