"""The files of an export: each made, checked and written, or left out with a reason."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import ml_collections
import numpy as np

from tfslim import apps, convert, errors, evaluation, quantization
from tfslim.pipeline import (
    check,
    choices,
    deployment,
    doubts,
    max_drop,
    proving,
    structure,
)
from tfslim.pipeline import folder as folder_lib
from tfslim.pipeline import job as job_lib
from tfslim.pipeline import samples as samples_lib
from tfslim.pipeline import variants as variants_lib
from tfslim.pipeline.maker import Made, Maker, sizes
from tfslim.quantization.quantize import quantize

OnStep = Callable[[str], None]
# The model before the steps: a row of the report, not a file.
ORIGINAL = "original"


@dataclasses.dataclass(kw_only=True)
class MadeOfKeras(Made):
    """What was made of a Keras model.

    Attributes:
        saved_by: the Keras that opens `model.keras`.
        keras_metric: of the Keras model.
        keras_right: which of its answers are right, None where the metric is no share.
        samples: pictures with the answers of two files, for the page.
    """

    saved_by: str
    keras_metric: float | None
    keras_right: np.ndarray | None = None
    samples: list[dict[str, Any]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class _Judge:
    """Holds the files against the Keras model, and against what its float file gave."""

    job: job_lib.Job
    checker: check.Checker
    checked: dict[str, Any]

    def goal(self, points: float) -> evaluation.Goal:
        return max_drop.goal(self.job, points, float_metric=self.checked["metric"])

    def value(self, key: str, content: bytes) -> float:
        row = self.checker.figures(content)
        return float(row.get(key, row["parity"].get(key)))

    def check(self, name: str, content: bytes) -> dict[str, Any]:
        return self.checked if name == "float32" else self.checker.check(name, content)


@dataclasses.dataclass(frozen=True)
class Original:
    """The model before the steps, which all files are compared with."""

    row: dict[str, Any]
    content: bytes


def rehearse(
    job: job_lib.Job,
    config: ml_collections.ConfigDict,
    *,
    chosen: choices.Choices,
    eval_fn: check.EvalFn | None,
    on_step: OnStep,
) -> None:
    """Tries on the untrained model what would fail after its training.

    Raises:
        TfslimError: it cannot be converted, or options do not fit it.
    """
    ready = deployment.prepare(job, config)
    if eval_fn is None:
        check.rehearse(ready.job)
    content, _ = variants_lib.convert_float(ready.job, config, metadata=ready.metadata)
    samples = ready.job.feed.calibration
    first = None if samples is None else [next(iter(samples))]
    for recipe in chosen.recipes:
        is_static = recipe.scheme == "static_int8"
        try:
            options = quantization.Options(
                calibration="minmax",
                layers={**ready.layers, **chosen.quantization.layers},
                target=chosen.quantization.target,
                io=chosen.quantization.io if is_static else None,
            )
            quantize(
                content,
                recipe,
                options=options.for_target(recipe.scheme, recipe.name),
                samples=first if recipe.needs_ranges else None,
                ranges=chosen.ranges if is_static and first is None else None,
            )
        except errors.ConfigError:
            raise
        except errors.TfslimError as error:
            on_step(f"{recipe.name} will not be made: {error}")


def keep(
    folder: folder_lib.Folder,
    model: Any,
    *,
    config: ml_collections.ConfigDict,
    on_step: OnStep,
) -> None:
    """Saves a trained model of a job that failed, unless it is saved or not sound."""
    if folder.has(folder_lib.MODEL):
        return
    # What the job fails with matters more than why this cannot be done either.
    with contextlib.suppress(errors.TfslimError, OSError):
        convert.require_finite(model)
        folder.start()
        variants_lib.save_keras(model, config.model.save_format, folder=folder)
        on_step("the job failed; the model that it trained is kept: model.keras")


def original(
    job: job_lib.Job,
    config: ml_collections.ConfigDict,
    *,
    eval_fn: check.EvalFn | None,
) -> Original:
    """Converts and measures the model before the steps."""
    ready = deployment.prepare(job, config)
    content, _ = variants_lib.convert_float(ready.job, config, metadata=ready.metadata)
    row = {
        "name": ORIGINAL,
        **check.measure_file(ready.job, content, eval_fn=ready.measuring(eval_fn)),
        **sizes(content),
        **variants_lib.costs(ready.job.model),
    }
    return Original(row, content)


def make(
    folder: folder_lib.Folder,
    job: job_lib.Job,
    *,
    config: ml_collections.ConfigDict,
    chosen: choices.Choices,
    eval_fn: check.EvalFn | None,
    on_step: OnStep,
) -> MadeOfKeras:
    """Saves, converts, quantizes, checks and writes.

    Raises:
        TfslimError: there is no sound model or float file to make variants of, or
            none of them can be made.
    """
    convert.require_finite(job.model)
    ready = deployment.prepare(job, config)
    checker = check.Checker(ready.job, ready.measuring(eval_fn), config=config)
    folder.start()
    on_step("saving model.keras")
    saved_by, notes = variants_lib.save_keras(
        job.model, config.model.save_format, folder=folder
    )
    made = MadeOfKeras(
        saved_by=saved_by,
        keras_metric=checker.keras_metric,
        keras_right=checker.keras_right,
        notes=[*notes, *_write_tables(job, folder, on_step=on_step)],
    )
    made.warnings += doubts.of_model(ready.job, checker)
    on_step("converting to a float .tflite, checked against the Keras model")
    float_file, unmapped = variants_lib.convert_float(
        ready.job, config, metadata=ready.metadata
    )
    made.notes += [*ready.notes, *unmapped]
    maker = Maker(
        float_file=float_file,
        samples=ready.job.feed.calibration,
        layers=ready.layers,
        chosen=chosen,
        judge=_Judge(ready.job, checker, checker.check_float(float_file)),
        folder=folder,
        made=made,
        on_step=on_step,
    )
    maker.add_all()
    if job.quantization_aware is not None:
        _add_quantization_aware(maker, job, config=config, ready=ready, checker=checker)
    maker.require_any()
    made.samples = samples_lib.pick(ready.job, checker)
    _prove(made, ready.job, config=config, checker=checker, on_step=on_step)
    return made


def _write_tables(
    job: job_lib.Job, folder: folder_lib.Folder, *, on_step: OnStep
) -> list[str]:
    """Writes what an app needs of the tables that were split off, and says so."""
    if job.tables is None:
        return []
    on_step(job.tables.note)
    for name, content in job.tables.files.items():
        folder.write_bytes(name, content)
    return [f"{job.tables.note}; model.keras begins there, too"]


def _prove(
    made: MadeOfKeras,
    job: job_lib.Job,
    *,
    config: ml_collections.ConfigDict,
    checker: check.Checker,
    on_step: OnStep,
) -> None:
    """Runs the files in the consumers that the config names."""
    test, names = job.feed.test, config.verify.consumers
    truth = proving.Truth(inputs=None)
    if test is not None and names:
        inputs = proving.first_inputs(test(), structure.input_names(job.model))
        inputs = proving.as_pictures(inputs, job.preprocessing)
        outputs = checker.outputs_of([inputs if len(inputs) > 1 else inputs[0]])
        truth = proving.Truth(inputs=inputs, outputs=outputs)
    made.prove(names, truth, on_step)


def _add_quantization_aware(
    maker: Maker,
    job: job_lib.Job,
    *,
    config: ml_collections.ConfigDict,
    ready: deployment.Ready,
    checker: check.Checker,
) -> None:
    name = folder_lib.QUANTIZATION_AWARE
    maker.on_step(f"converting and verifying {name}")

    def trained() -> tuple[dict[str, Any], bytes]:
        row, content = variants_lib.convert_quantization_aware(job, config)
        if ready.undo is not None:
            content = apps.normalize_inside(content)
            row |= sizes(content)
        return row | checker.check(name, content), content

    maker.put(name, trained, was_named=True)
