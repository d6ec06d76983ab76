"""What a model becomes before it is converted: as its task and the app ask for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np

from tfslim import apps, errors
from tfslim.graph import affine_input
from tfslim.graph import keras as graph_keras
from tfslim.pipeline import pixels
from tfslim.pipeline.check import EvalFn
from tfslim.pipeline.feed import Batch
from tfslim.pipeline.job import Job


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ready:
    """What is converted.

    Attributes:
        job: with the model to convert and the task of its outputs.
        layers: layers that stay in float.
        metadata: more entries for the metadata of the files.
        notes: what was changed.
        undo: of files that take pixels, from a model's input to the pixels behind it.
    """

    job: Job
    layers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    undo: Callable[[Any], np.ndarray] | None = None

    def measuring(self, eval_fn: EvalFn | None) -> EvalFn | None:
        """Returns what measures the files as `eval_fn` measures the model."""
        undo = self.undo
        if eval_fn is None or undo is None:
            return eval_fn
        return lambda predict: eval_fn(lambda x: predict(undo(x)))


def check_steps(job: Job, steps: Sequence[str]) -> None:
    """Raises ConfigError for a step that is not for the task."""
    for name in (text.partition(":")[0] for text in steps):
        if name in job.task.refused_steps:
            raise errors.ConfigError(
                f"The step '{name}' is not for the task '{job.task.name}': "
                f"{job.task.refused_steps[name]}. Leave it out."
            )


def check_pixels(job: Job, config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError where the files cannot normalize pixels themselves."""
    if not pixels.takes_pixels(job.preprocessing, config):
        return
    known, inputs = job.preprocessing, [t.shape[1:] for t in job.model.inputs]
    if known is None:
        raise errors.ConfigError(
            "--preprocess=inside needs to know how pixels become the model's input: "
            "with data of your own name it, config.model.preprocessing='torch'."
        )
    if not known.is_image or len(inputs) != 1:
        raise errors.ConfigError(
            f"--preprocess=inside is for models of one image; this one takes "
            f"{', '.join(str(tuple(shape)) for shape in inputs)}."
        )
    is_trained = any(str(text).partition(":")[0] == "quantize" for text in config.steps)
    if is_trained and (config.quantization.io or "float") != "float":
        raise errors.ConfigError(
            "The step 'quantize' trains a file whose integer inputs are normalized "
            "pixels, which --preprocess=inside cannot change. Leave out --io, or the "
            "step, or give --preprocess=outside."
        )


def prepare(job: Job, config: ml_collections.ConfigDict) -> Ready:
    """Returns the job as it is, or with what its task and the app make of the model."""
    ready = Ready(job=job)
    inside = pixels.takes_pixels(job.preprocessing, config)
    known = job.preprocessing.plain if inside and job.preprocessing else None
    if job.task.prepare_export is not None:
        names = job.feed.facts["class_names"]
        made = job.task.prepare_export(job.model, known or job.preprocessing, names)
        ready = Ready(
            job=dataclasses.replace(job, model=made.model, task=made.task),
            layers=made.layers,
            metadata=made.metadata,
            notes=made.notes,
        )
    return _with_pixels(ready) if inside else ready


def _with_pixels(ready: Ready) -> Ready:
    """Lets the model take pixels, and feeds it those behind the data."""
    job = ready.job
    known = job.preprocessing
    assert known is not None  # noqa: S101 - `check_pixels` has seen to it.
    if known == known.plain:
        return dataclasses.replace(
            ready, notes=(*ready.notes, "The model takes pixels as they are.")
        )
    kernel, bias = apps.affine(known)
    changed, layer = affine_input.put_in_front(
        graph_keras.read(job.model), kernel, bias=bias
    )

    def undo(x: Any) -> np.ndarray:
        return known.undo(np.asarray(x[0] if isinstance(x, list | tuple) else x))

    test = job.feed.test

    def batches() -> Iterator[Batch]:
        for x, y in test() if test else ():
            yield undo(x), job.task.target(x, y)

    feed = dataclasses.replace(
        job.feed,
        test=test and batches,
        calibration=job.feed.calibration and _Pixels(job.feed.calibration, undo),
        examples=None,
    )
    return dataclasses.replace(
        ready,
        job=dataclasses.replace(
            job,
            model=graph_keras.write(changed, graph_keras.keras_of(job.model)),
            # The inputs as targets are those of the model itself.
            task=dataclasses.replace(job.task, target=lambda x, y: y),
            feed=feed,
            preprocessing=known.plain,
        ),
        notes=(
            *ready.notes,
            f"The files take pixels in 0..255: layer '{layer}' normalizes them; "
            "model.keras takes them normalized.",
        ),
        undo=undo,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Pixels:
    """Samples as pixels, read anew each pass."""

    samples: Any
    undo: Callable[[Any], np.ndarray]

    def __iter__(self) -> Iterator[np.ndarray]:
        yield from map(self.undo, self.samples)
