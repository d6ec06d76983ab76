"""What `max_drop` means for a model and its data."""

from __future__ import annotations

from tfslim import errors, evaluation
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
    goal(job, max_drop, float_metric=0.0 if job.feed.has_targets else None)


def goal(
    job: job_lib.Job, max_drop: float, *, float_metric: float | None
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
