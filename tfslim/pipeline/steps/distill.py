"""The step `distill`: a teacher helps the model to what the cuts took."""

from __future__ import annotations

from typing import Any

from tfslim import checks, errors, loading
from tfslim.distillation import distill, losses
from tfslim.pipeline.job import Job
from tfslim.pipeline.steps import base


def plan(section: base.Config, config: base.Config) -> base.Step:
    """Looks up the section `distill`."""
    checks.whole("config.distill.epochs", section.epochs)
    how = losses.DistillOptions(
        temperature=section.temperature, teacher_weight=section.teacher_weight
    )
    source = section.teacher
    if source and not loading.is_known(source):
        raise errors.ConfigError(f"config.distill.teacher '{source}' does not exist.")
    options = base.fit_options(config, section)

    def apply(job: Job) -> tuple[Any, base.Outcome]:
        teacher = source or job.original
        if source and not source.endswith(".tflite"):
            teacher = loading.load_model(source)
        model, report = distill.distill(
            job.model,
            teacher,
            data=job.feed.train,
            validation=job.feed.validation,
            task=job.task,
            how=how,
            options=job.backup.part(options, job.model),
        )
        return model, base.Outcome(
            layers=report.compared, details={"history": report.history}
        )

    return base.Step(
        title=f"distilling {source or 'the model before the steps'}",
        apply=apply,
        trains=f"{options.epochs} epochs",
    )
