"""The files of an export: each made, checked and written, or left out with a reason."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import ml_collections

from tfslim import convert, errors, quantization
from tfslim.pipeline import check, choices, deployment, doubts, drop, proving
from tfslim.pipeline import folder as folder_lib
from tfslim.pipeline import job as job_lib
from tfslim.pipeline import variants as variants_lib

OnStep = Callable[[str], None]
# The model before the steps: a row of the report, not a file.
ORIGINAL = "original"


@dataclasses.dataclass(kw_only=True)
class Made:
    """What was made.

    Attributes:
        saved_by: the Keras that opens `model.keras`.
        keras_metric: of the Keras model.
        rows: what the result says of each variant.
        contents: name -> file.
        consumers: name -> consumer -> what came of the file in it.
        failed: variant -> why it could not be made.
        notes: what the user should know.
        warnings: what speaks against the figures.
        problem: what the job ends with though all else is written.
    """

    saved_by: str
    keras_metric: float | None
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    contents: dict[str, bytes] = dataclasses.field(default_factory=dict)
    consumers: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    failed: dict[str, str] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)
    problem: errors.TfslimError | None = None

    @property
    def files(self) -> dict[str, bytes]:
        """Name of the file -> its content."""
        return {row["file"]: self.contents[row["name"]] for row in self.rows}


@dataclasses.dataclass(frozen=True)
class Original:
    """The model before the steps, which all files are compared with."""

    row: dict[str, Any]
    content: bytes


def rehearse(
    job: job_lib.Job,
    config: ml_collections.ConfigDict,
    chosen: choices.Choices,
    eval_fn: check.EvalFn | None,
    on_step: OnStep,
) -> None:
    """Tries on the untrained model what would fail after its training.

    Raises:
        TfslimError: it cannot be converted, or options do not fit it.
    """
    ready = deployment.prepare(job)
    if eval_fn is None:
        check.rehearse(ready.job)
    content, _ = variants_lib.convert_float(ready.job, config, ready.metadata)
    samples = variants_lib.samples_for(ready.job, content)
    first = None if samples is None else [next(iter(samples))]
    for recipe in chosen.recipes:
        is_static = recipe.scheme == "static_int8"
        try:
            quantization.quantize_tflite(
                content,
                recipe,
                samples=first if recipe.needs_ranges else None,
                ranges=chosen.ranges if is_static and first is None else None,
                calibration="minmax",
                layers={**ready.layers, **chosen.quantization.layers},
                io=chosen.quantization.io if is_static else "float",
            )
        except errors.ConfigError:
            raise
        except errors.TfslimError as error:
            on_step(f"{recipe.name} will not be made: {error}")


def keep(
    folder: folder_lib.Folder,
    model: Any,
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
        variants_lib.save_keras(model, config.model.save_format, folder)
        on_step("the job failed; the model that it trained is kept: model.keras")


def original(
    job: job_lib.Job,
    config: ml_collections.ConfigDict,
    eval_fn: check.EvalFn | None,
) -> Original:
    """Converts and measures the model before the steps."""
    ready = deployment.prepare(job)
    content, _ = variants_lib.convert_float(ready.job, config, ready.metadata)
    row = {
        "name": ORIGINAL,
        "metric": check.measure_file(ready.job, content, eval_fn),
        **variants_lib.sizes(content),
        **variants_lib.costs(ready.job.model),
    }
    return Original(row, content)


def make(
    folder: folder_lib.Folder,
    job: job_lib.Job,
    config: ml_collections.ConfigDict,
    chosen: choices.Choices,
    eval_fn: check.EvalFn | None,
    on_step: OnStep,
) -> Made:
    """Saves, converts, quantizes, checks and writes.

    Raises:
        TfslimError: there is no sound model or float file to make variants of, or
            none of them can be made.
    """
    convert.require_finite(job.model)
    ready = deployment.prepare(job)
    checker = check.Checker(ready.job, eval_fn, config)
    folder.start()
    on_step("saving model.keras")
    saved_by, notes = variants_lib.save_keras(
        job.model, config.model.save_format, folder
    )
    made = Made(saved_by=saved_by, keras_metric=checker.keras_metric, notes=notes)
    made.warnings += doubts.of_model(ready.job, checker)
    on_step("converting to a float .tflite, checked against the Keras model")
    float_file, unmapped = variants_lib.convert_float(ready.job, config, ready.metadata)
    made.notes += [*ready.notes, *unmapped]
    maker = _Maker(ready, chosen, float_file, checker, folder, made, on_step)
    checked = checker.check_float(float_file)
    for recipe in chosen.recipes:
        maker.add(recipe, checked)
    if job.quantization_aware is not None:
        maker.add_quantization_aware(job, config)
    made.consumers = proving.prove(
        ready.job, made.contents, config.verify.consumers, checker.outputs, on_step
    )
    made.warnings += proving.warnings(made.consumers)
    if not made.rows:
        reasons = [f"{name}: {reason}" for name, reason in made.failed.items()]
        raise errors.QuantizationError(
            f"None of the files could be made. {' '.join(reasons)}"
        )
    return made


@dataclasses.dataclass(frozen=True)
class _Maker:
    """Makes one variant after another."""

    ready: deployment.Ready
    chosen: choices.Choices
    float_file: bytes
    checker: check.Checker
    folder: folder_lib.Folder
    made: Made
    on_step: OnStep

    def add(self, recipe: quantization.Recipe, checked: dict[str, Any]) -> None:
        """Makes the variant of a recipe; `checked` is what the float file gave."""
        self.on_step(f"quantizing and verifying {recipe.name}")
        try:
            row, content = self._quantized(recipe, checked)
        except errors.ConfigError:
            raise
        except errors.TfslimError as error:
            self._fail(recipe.name, error)
            return
        self._write(row, content)

    def add_quantization_aware(
        self, job: job_lib.Job, config: ml_collections.ConfigDict
    ) -> None:
        """Makes the variant that was trained with 8 bits."""
        name = folder_lib.QUANTIZATION_AWARE
        self.on_step(f"converting and verifying {name}")
        try:
            row, content = variants_lib.convert_quantization_aware(job, config)
            row |= self.checker.check(name, content)
        except errors.TfslimError as error:
            self._fail(name, error, was_named=True)
            return
        self._write(row, content)

    def _quantized(
        self, recipe: quantization.Recipe, checked: dict[str, Any]
    ) -> tuple[dict[str, Any], bytes]:
        options = dataclasses.replace(
            self.chosen.quantization,
            # What the config says of a layer comes first.
            layers={**self.ready.layers, **self.chosen.quantization.layers},
        )
        job = self.ready.job
        accurate = variants_lib.quantize(
            job, recipe, self.float_file, options, self.chosen.ranges
        )
        is_static = recipe.scheme == "static_int8"
        fallen: dict[str, Any] = {}
        if is_static and self.chosen.max_drop is not None:
            goal = drop.goal(job, self.chosen.max_drop, checked["metric"])
            self.on_step(f"--max_drop: {goal.least:.4f} wanted, as {goal.reason}")
            accurate, fallen = drop.keep_accuracy(
                accurate,
                goal,
                job,
                self.float_file,
                options,
                self.checker,
                self.on_step,
            )
            if not fallen["is_met"]:
                self._miss(recipe.name, goal)
        done = accurate.quantized
        row = variants_lib.describe(recipe, accurate) | fallen
        is_float = recipe.name == "float32"
        row |= checked if is_float else self.checker.check(recipe.name, done.tflite)
        if is_static and done.calibration:
            self.folder.write_ranges(done.calibration, self.float_file)
        return row, done.tflite

    def _write(self, row: dict[str, Any], content: bytes) -> None:
        self.folder.write_bytes(row["file"], content)
        self.made.rows.append(row)
        self.made.contents[row["name"]] = content

    def _fail(
        self, name: str, error: errors.TfslimError, *, was_named: bool = False
    ) -> None:
        self.on_step(f"{name} is left out: {error}")
        self.made.failed[name] = str(error)
        if was_named or self.chosen.are_named:
            self.made.problem = self.made.problem or type(error)(
                f"{name} could not be made, the rest is written: {error}"
            )

    def _miss(self, name: str, goal: drop.Goal) -> None:
        self.made.problem = self.made.problem or errors.QuantizationError(
            f"{name}.tflite is written, but --max_drop={self.chosen.max_drop:g} "
            f"({goal.reason}; {goal.least:.4f} wanted) cannot be met: with all layers "
            "in float it is missed, too. Test on more examples."
        )
