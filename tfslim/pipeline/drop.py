"""`max_drop`: layers return to float until the accuracy of INT8 is kept."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np

from tfslim import errors, quantization
from tfslim.pipeline import check
from tfslim.pipeline import job as job_lib
from tfslim.pipeline import variants as variants_lib

# Samples on which each layer is tried alone.
_FEW = 32


@dataclasses.dataclass(frozen=True)
class Goal:
    """What `max_drop` asks for.

    Attributes:
        key: the figure that decides: "metric", or one of the parity.
        least: the value to reach.
        reason: why this figure.
    """

    key: str
    least: float
    reason: str

    def value(self, row: dict[str, Any]) -> float:
        """Returns the figure of what `Checker.figures` gives."""
        return float(row["metric"] if self.key == "metric" else row["parity"][self.key])


def require_data(job: job_lib.Job, max_drop: float | None) -> None:
    """Raises ConfigError where a drop cannot be measured, before the work."""
    if max_drop is None:
        return
    if job.feed.test is None or job.feed.calibration is None:
        raise errors.ConfigError(
            "--max_drop needs data to calibrate with and to measure on: name data, or "
            "pass train_data and eval_data."
        )
    if max_drop <= 0 and not _is_counted(job):
        raise errors.ConfigError(
            "--max_drop is the error's share in percent of the output for models that "
            f"do not classify; it must be above 0, got {max_drop}."
        )


def _is_counted(job: job_lib.Job) -> bool:
    has_metric = job.feed.has_targets and job.task.higher_is_better
    return has_metric or job.task.name == "classification"


def goal(job: job_lib.Job, max_drop: float, float_metric: float | None) -> Goal:
    """Returns what a drop of `max_drop` points means for a model and its data."""
    share = max_drop / 100.0
    if float_metric is not None and job.task.higher_is_better:
        reason = f"the data has targets: {job.task.metric_name}"
        return Goal("metric", float_metric - share, reason)
    if job.task.name == "classification":
        reason = f"the data has no labels: {job.task.agreement_name}"
        return Goal("agreement", 1.0 - share, reason)
    reason = f"the model does not classify: an RMS error of {max_drop:g}% at most"
    return Goal("sqnr_db", -20.0 * float(np.log10(share)), reason)


def keep_accuracy(
    accurate: quantization.AccurateResult,
    wanted: Goal,
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
    done = accurate.quantized
    found: dict[str, Any] = {"goal": dataclasses.asdict(wanted), "is_met": True}
    if wanted.value(checker.figures(done.tflite)) >= wanted.least:
        return accurate, found | {"fallback": []}
    samples = variants_lib.samples_for(job, float_file)
    assert samples is not None and done.calibration is not None  # noqa: S101
    ranked = quantization.rank_layers(
        accurate.source,
        done.calibration,
        list(itertools.islice(samples, _FEW)),
        recipe_name=done.recipe,
        on_step=on_step,
    )
    fallen = quantization.fall_back(
        accurate.source,
        done.calibration,
        ranked,
        evaluate=lambda content: wanted.value(checker.figures(content)),
        least=wanted.least,
        recipe_name=done.recipe,
        improver=quantization.Improver(
            float_file,
            samples,
            rounding=options.rounding,
            bias_correction=options.bias_correction,
        ),
        io=options.io,
        layers=options.layers,
        on_step=on_step,
    )
    steps = [dataclasses.asdict(step) for step in fallen.steps]
    equalized = tuple(step for step in accurate.taken if step == "equalized")
    better = dataclasses.replace(
        accurate,
        quantized=fallen.quantized,
        taken=(*equalized, *fallen.taken),
        outputs=fallen.outputs,
    )
    return better, found | {"is_met": fallen.is_met, "fallback": steps}
