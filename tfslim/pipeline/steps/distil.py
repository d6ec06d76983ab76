"""The step `distil`: a teacher helps the model to what the cuts took."""

from __future__ import annotations

import dataclasses
from typing import Any

import ml_collections

from tfslim import errors, loading, training
from tfslim.distillation.distill import distill
from tfslim.pipeline.job import Job
from tfslim.pipeline.steps import base


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distil:
    """Training by a teacher."""

    title: str
    teacher: str | None
    temperature: float
    alpha: float
    options: training.FitOptions
    fine_tune: None = None

    @property
    def trains(self) -> str:
        """How the step trains by itself."""
        return f"{self.options.epochs} epochs"

    def apply(self, job: Job) -> tuple[Any, base.Outcome]:
        """Trains on the training data; without a named teacher, by the first model."""
        base.require_data(job, self.title)
        teacher = job.original
        if self.teacher and self.teacher.endswith(".tflite"):
            teacher = self.teacher
        elif self.teacher:
            teacher = loading.load_model(self.teacher)
        model, report = distill(
            job.model,
            teacher,
            job.feed.train,
            validation=job.feed.validation,
            task=job.task,
            temperature=self.temperature,
            alpha=self.alpha,
            options=job.backup.part(self.options, job.model),
        )
        return model, base.Outcome(
            layers=report.compared, details={"history": report.history}
        )


def plan(
    section: ml_collections.ConfigDict, config: ml_collections.ConfigDict
) -> Distil:
    """Looks up the section `distil`."""
    base.require_epochs("distil", section)
    teacher = section.teacher
    if teacher and not loading.is_known(teacher):
        raise errors.ConfigError(f"config.distil.teacher '{teacher}' does not exist.")
    return Distil(
        title=f"distilling {teacher or 'the model before the steps'}",
        teacher=teacher,
        temperature=section.temperature,
        alpha=section.alpha,
        options=base.fit_options(config, section, section.epochs),
    )
