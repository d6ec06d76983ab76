"""The sequence of steps from a model and data to verified, timed files."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np
import tensorflow as tf

from tfslim import convert, errors, tasks, training
from tfslim.pipeline import (
    accuracy,
    check,
    choices,
    deployment,
    doubts,
    figures,
    fitting,
    from_tflite,
    making,
    max_drop,
    pages,
    proving,
    result,
)
from tfslim.pipeline import folder as folder_lib
from tfslim.pipeline import job as job_lib
from tfslim.pipeline import steps as steps_lib
from tfslim.pipeline import timing as timing_lib
from tfslim.report import progress
from tfslim.training import seeds

OnStep = Callable[[str], None]


@seeds.kept()
def export_model(
    model: Any = None,
    *,
    out_dir: Path | str,
    config: ml_collections.ConfigDict | Mapping[str, Any] | None = None,
    train_data: Any = None,
    validation_data: Any = None,
    eval_data: Any = None,
    task: str | tasks.Task | None = None,
    train_fn: Callable[[Any], Any] | None = None,
    eval_fn: Callable[[Callable[[Any], list[np.ndarray]]], float] | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Turns a Keras model into verified, timed `.tflite` files; the CLI calls this.

    Args:
        model: a built tf_keras or Keras 3 model, a name of the zoo or what else
            `tfslim.load_model` opens; None: the config's. A model given as an object,
            or opened, is trained only if the config sets epochs. A float `.tflite` is
            quantized, verified and timed.
        out_dir: folder of the results; made when absent.
        config: see `tfslim.default_config`, or a dict of what differs from it; None:
            the defaults.
        train_data: batches (x, y) as a `tf.data.Dataset`, or arrays (x, y), already
            preprocessed; x or y a tuple or dict for several inputs or outputs. Also
            calibrates INT8. None: the config's data, for a model by name.
        validation_data: the same; the best epoch is chosen by it.
        eval_data: the same; every file is measured on it. Over several targets the
            metric is the mean of each output's; without y the files are compared with
            the float one alone.
        task: name in `tasks.TASKS` or a `Task` with your own loss and metric.
        train_fn: trains the model your way; returns it, or None if in place. Not
            called again after a kill if it had returned and there is a
            `config.training.backup_dir`.
        eval_fn: measures a model your way: it gets `predict(x) -> [outputs]`, the
            same for Keras and for every file, and returns the metric.
        overwrite: replace results that stand in `out_dir`.

    Each step is announced to the logger "tfslim", level INFO.

    Returns:
        The content of `result.json`. Of several workers only the chief writes and
        returns it; the others return an empty dict when all is trained.

    Raises:
        ConfigError: something asked for does not exist or cannot be.
        TfslimError: a step failed; files written before it stay, each whole. A variant
            that cannot be made is left out with its reason; where it was asked for by
            name, the error comes when all else is written.
    """
    on_step = progress.current()
    whole = choices.as_config(config)
    source = model if model is not None else whole.model.name
    if from_tflite.is_file(source):
        return from_tflite.export_file(
            str(source),
            whole,
            folder=Path(out_dir),
            overwrite=overwrite,
            on_step=on_step,
        )
    user_data = (train_data, validation_data, eval_data)
    has_data = any(part is not None for part in user_data)
    whole = choices.resolve(model, whole, has_data=has_data)
    folder = Path(out_dir)
    is_writer = training.is_chief(whole.training.strategy)
    if is_writer:
        folder_lib.claim(folder, overwrite)
    choices.check_names(whole)
    plan = _plan(whole)
    job = job_lib.prepare(model, whole, task, user_data)
    _check_job(plan, job, config=whole)
    if job.tables is not None:
        eval_fn = _behind(job.tables, train_fn, eval_fn)
    job.backup = fitting.backup_of(job, whole)
    run = _Run(job, whole, plan, train_fn, eval_fn, on_step)
    if not is_writer:
        run.train()
        return {}
    names = [recipe.name for recipe in plan.choices.recipes]
    with folder_lib.taken(folder, overwrite, variants=names) as own:
        return run.write(own)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Plan:
    """The config's choices, looked up: a wrong one fails before anything runs."""

    choices: choices.Choices
    training: training.FitOptions | None
    steps: list[steps_lib.Step]


def _plan(config: ml_collections.ConfigDict) -> _Plan:
    chosen = choices.look_up(config)
    timing_lib.require_phones(chosen.timing)
    proving.require(config.verify.consumers)
    return _Plan(
        choices=chosen,
        training=fitting.options_of(config),
        steps=steps_lib.plan(config),
    )


@dataclasses.dataclass
class _Run:
    """One job, from the model as given to the files."""

    job: job_lib.Job
    config: ml_collections.ConfigDict
    plan: _Plan
    train_fn: Callable[[Any], Any] | None
    eval_fn: check.EvalFn | None
    on_step: OnStep
    trained: dict[str, Any] | None = None
    original: making.Original | None = None
    steps: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def train(self) -> None:
        """Trains the model and makes it smaller; the result is `job.model`."""
        for note in self.job.feed.facts["notes"]:
            self.on_step(note)
        convert.require_finite(self.job.model)
        if self.train_fn is None:  # Else it is the caller's model as it is.
            fitting.to_float32(self.job, self.on_step)
        self._rehearse()
        if self.train_fn is not None:
            self.trained = fitting.by_caller(
                self.job, self.train_fn, on_step=self.on_step
            )
        else:
            self.trained = fitting.fit(
                self.job, self.plan.training, on_step=self.on_step
            )
        fitting.to_float32(self.job, self.on_step)
        self.job.original = self.job.model
        if self.plan.steps:
            convert.require_finite(self.job.model)
        if self.plan.steps and self.config.verify.original:
            self.original = making.original(self.job, self.config, eval_fn=self.eval_fn)
        for step in self.plan.steps:
            self.on_step(step.title)
            row = steps_lib.run(
                step,
                self.job,
                train=lambda options: fitting.fit(
                    self.job, options, on_step=self.on_step
                ),
                measure=lambda: self.job.backup.value(
                    lambda: check.measure(self.job, self.eval_fn)
                ),
            )
            self.steps.append(row)

    def _rehearse(self) -> None:
        """Finds out before the training what could only fail after it."""
        is_ours = self.plan.training is not None and self.job.feed.train is not None
        if self.train_fn is None and not is_ours and not self.plan.steps:
            return
        try:
            making.rehearse(
                self.job,
                self.config,
                chosen=self.plan.choices,
                eval_fn=self.eval_fn,
                on_step=self.on_step,
            )
        except errors.TfslimError as error:
            if self.train_fn is None:
                raise
            # It may return another model.
            self.on_step(f"the model as given cannot be exported: {error}")

    def write(self, folder: folder_lib.Folder) -> dict[str, Any]:
        """Trains, and writes the folder; returns the content of `result.json`."""
        with self._kept(folder):
            self.train()
            made = making.make(
                folder,
                self.job,
                config=self.config,
                chosen=self.plan.choices,
                eval_fn=self.eval_fn,
                on_step=self.on_step,
            )
        made.warnings += doubts.of_sizes(self.job, self.trained)
        first = (
            {} if self.original is None else {making.ORIGINAL: self.original.content}
        )
        timings = made.time(self.plan.choices.timing, self.on_step, first)
        made.warnings += doubts.of_variants(made.rows)
        original = None
        if self.original is not None:
            original = self.original.row | timings[making.ORIGINAL]
        accuracy.compare(made, original)
        content = result.build_result(
            self.job,
            self.config,
            made=made,
            trained=self.trained,
            original=original,
            steps=self.steps,
        )
        more = figures.of_models(self.job.original, self.job.model)
        more |= {"samples": made.samples, "histograms": made.histograms}
        pages.write(folder, content, config=self.config, files=made.files, more=more)
        if made.problem is not None:
            raise made.problem
        self.job.backup.finish()
        return content

    @contextlib.contextmanager
    def _kept(self, folder: folder_lib.Folder) -> Iterator[None]:
        """Saves what was trained where the job fails before it would be saved."""
        try:
            yield
        except Exception as error:
            # What failed a check is of no use.
            is_sound = not isinstance(error, errors.VerificationError)
            if is_sound and (self.trained is not None or self.steps):
                making.keep(
                    folder, self.job.model, config=self.config, on_step=self.on_step
                )
            if folder.had_results:
                self.on_step("the job failed; the earlier results were removed")
            raise


def _behind(
    tables: convert.TableSplit,
    train_fn: Callable[[Any], Any] | None,
    eval_fn: check.EvalFn | None,
) -> check.EvalFn | None:
    """Returns `eval_fn` for what lies behind the tables of words."""
    if train_fn is not None:
        raise errors.ConfigError(
            "train_fn would get the model without its tables of words. Train it "
            "before, or give what tfslim.split_tables(model) returns."
        )
    if eval_fn is None:
        return None
    measure = eval_fn
    return lambda predict: measure(lambda x: predict(tables.apply(x)))


def _check_job(
    plan: _Plan, job: job_lib.Job, *, config: ml_collections.ConfigDict
) -> None:
    """Refuses before the training what would fail after it."""
    for recipe in plan.choices.recipes:
        has_ranges = job.feed.calibration is not None or plan.choices.ranges
        if recipe.needs_ranges and not has_ranges:
            raise errors.ConfigError(
                f"The recipe '{recipe.name}' needs samples to calibrate with: pass "
                "train_data or eval_data, or leave it out of quantization.recipes."
            )
    deployment.check_steps(job, config.steps)
    deployment.check_pixels(job, config)
    max_drop.require_data(job, plan.choices.max_drop)


def start_tensorflow(strategy: str = "none") -> None:
    """Makes TensorFlow look for devices now, not in the middle of the job."""
    if strategy == "multiworker":  # It can join others only before its first tensor.
        training.start_workers()
    tf.config.list_physical_devices()
    tf.constant(0)
