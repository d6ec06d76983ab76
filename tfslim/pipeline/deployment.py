"""What a model becomes before it is converted, where its task asks for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tfslim import errors
from tfslim.pipeline.job import Job


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ready:
    """What is converted.

    Attributes:
        job: with the model to convert and the task of its outputs.
        layers: layers that stay in float.
        metadata: more entries for the metadata of the files.
        notes: what was changed.
    """

    job: Job
    layers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()


def check_steps(job: Job, steps: Sequence[str]) -> None:
    """Raises ConfigError for a step that is not for the task."""
    for name in (text.partition(":")[0] for text in steps):
        if name in job.task.refused_steps:
            raise errors.ConfigError(
                f"The step '{name}' is not for the task '{job.task.name}': "
                f"{job.task.refused_steps[name]}. Leave it out."
            )


def prepare(job: Job) -> Ready:
    """Returns the job as it is, or with what its task makes of the model."""
    if job.task.prepare_export is None:
        return Ready(job=job)
    names = job.feed.facts["class_names"]
    made = job.task.prepare_export(job.model, job.preprocessing, names)
    return Ready(
        job=dataclasses.replace(job, model=made.model, task=made.task),
        layers=made.layers,
        metadata=made.metadata,
        notes=made.notes,
    )
