"""What a model becomes before it is converted, where its task asks for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tfslim import errors
from tfslim.detection import info as info_lib
from tfslim.detection.deployment import prepare_deployment
from tfslim.detection.task import DetectionTask
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
    """Raises ConfigError for a step that the task's deployment does not know."""
    names = [text.partition(":")[0] for text in steps]
    if isinstance(job.task, DetectionTask) and "quantize" in names:
        raise errors.ConfigError(
            "The step 'quantize' does not know of boxes: the heads of a detector are "
            "decoded in float. Leave it out; the recipe 'int8' keeps the heads apart."
        )


def prepare(job: Job) -> Ready:
    """Returns the job as it is, or a detector with boxes and scores as its outputs."""
    if not isinstance(job.task, DetectionTask):
        return Ready(job=job)
    ready = prepare_deployment(job.model, job.task.heads)
    metadata = {}
    if job.preprocessing is not None:
        metadata = info_lib.DetectorInfo(
            preprocessing=job.preprocessing,
            heads=job.task.heads,
            outputs=ready.outputs,
            resize=_RESIZE,
            labels=tuple(job.feed.facts["class_names"]),
        ).to_metadata()
    return Ready(
        job=dataclasses.replace(job, model=ready.model, task=job.task.decoded()),
        layers=ready.layers,
        metadata=metadata,
        notes=ready.notes,
    )


# As our sources of data with boxes make images fit.
_RESIZE = "stretch"
