"""`max_drop`: layers return to float until the accuracy of INT8 is kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from tfslim import errors, evaluation, quantization
from tfslim.pipeline import job as job_lib


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
    *,
    model: bytes,
    samples: quantization.Samples,
    value: Callable[[bytes], float],
    options: quantization.Options,
    on_step: Callable[[str], None],
) -> tuple[quantization.AccurateResult, dict[str, Any]]:
    """Returns layers to float, worst first, where INT8 misses the goal.

    Args:
        accurate: the INT8 file.
        wanted: the goal.
        model: the float `.tflite` that it was made from.
        samples: to calibrate and repair with.
        value: a file's figure that decides.
        options: by which the file was made.
        on_step: called with a line of text before each step.

    Returns:
        The file, and what the result says of the way there; "is_met" tells whether
        the goal is reached.
    """
    found = quantization.keep_accuracy(
        accurate,
        model,
        samples=samples,
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
