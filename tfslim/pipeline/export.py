"""The sequence of steps from a model and data to verified, timed files."""

from __future__ import annotations

import dataclasses
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np
import tensorflow as tf

from tfslim import config as config_lib
from tfslim import (
    errors,
    files,
    quantization,
    registry,
    report,
    tasks,
    training,
)
from tfslim.graph import keras as graph_keras
from tfslim.methods.backup import Backup
from tfslim.methods.fitting import Training
from tfslim.pipeline import check, deployment, result
from tfslim.pipeline import job as job_lib
from tfslim.pipeline import steps as steps_lib
from tfslim.pipeline import timing as timing_lib
from tfslim.pipeline import variants as variants_lib

_RESULT = "result.json"
_RANGES = "ranges.json"

OnStep = Callable[[str], None]


def export_model(
    model: Any = None,
    *,
    out_dir: Path | str,
    config: ml_collections.ConfigDict | None = None,
    train_data: Any = None,
    validation_data: Any = None,
    eval_data: Any = None,
    task: str | tasks.Task | None = None,
    train_fn: Callable[[Any], Any] | None = None,
    eval_fn: Callable[[Callable[[Any], list[np.ndarray]]], float] | None = None,
    overwrite: bool = False,
    on_step: OnStep = lambda text: None,
) -> dict[str, Any]:
    """Turns a Keras model into verified, timed `.tflite` files; the CLI calls this.

    Args:
        model: a built tf_keras or Keras 3 model, a name of the zoo or what else
            `tfslim.load_model` opens; None: the config's. A model given as an object
            is trained only if `train_data` is given and the config's epochs are not
            0; one that is opened only if the config sets epochs.
        out_dir: folder of the results; made when absent.
        config: see `tfslim.config.default_config`; None: the defaults.
        train_data: batches (x, y) as a `tf.data.Dataset`, or arrays (x, y), already
            preprocessed; None: the config's data, for a model by name.
        validation_data: the same; the best epoch is chosen by it.
        eval_data: the same; every file is measured on it.
        task: name in `tasks.TASKS` or a `Task` with your own loss and metric.
        train_fn: trains the model your way; returns it, or None if in place. Not
            called again after a kill if it had returned and there is a
            `config.training.backup_dir`.
        eval_fn: measures a model your way: it gets `predict(x) -> [outputs]`, the
            same for Keras and for every file, and returns the metric.
        overwrite: replace results that stand in `out_dir`.
        on_step: called with a line of text before each step.

    Returns:
        The content of `result.json`. Of several workers only the chief writes and
        returns it; the others return an empty dict when all is trained.

    Raises:
        ConfigError: something asked for does not exist or cannot be.
        TfslimError: a step failed; files written before it stay, each whole.
    """
    config = job_lib.resolve(model, config or config_lib.default_config())
    folder = Path(out_dir)
    is_writer = training.is_chief(config.training.strategy)
    if is_writer:
        _claim(folder, overwrite)
    plan = _plan(config)
    job = job_lib.prepare(model, config, task, (train_data, validation_data, eval_data))
    _check_samples(plan, job)
    deployment.check_steps(job, config.steps)
    job.backup = _backup(job, config)
    if is_writer:
        _make(folder)
    for note in job.feed.facts["notes"]:
        on_step(note)
    trained = _train(job, plan.training, train_fn, on_step)
    steps = _slim(job, plan, train_fn, eval_fn, on_step)
    if not is_writer:
        return {}
    stale = _start_writing(folder)
    on_step("saving model.keras")
    package, notes = variants_lib.save_keras(
        job.model, config.model.save_format, folder / "model.keras"
    )
    made = _make_variants(folder, job, config, plan, eval_fn, on_step)
    timings, problem = timing_lib.run(made.contents, plan.timing, on_step)
    notes += made.notes
    if problem is not None:
        notes.append(f"Not timed on every phone: {problem}")
    variants = [row | timings[row["name"]] for row in made.rows]
    content = result.build_result(
        job,
        config,
        saved_by=package,
        trained=trained,
        steps=steps,
        metric=made.keras_metric,
        variants=variants,
        notes=notes,
    )
    files.write_text(folder / "config.json", result.config_text(config))
    files.write_text(folder / "report.md", report.to_markdown(content))
    files.write_json(folder / _RESULT, content)
    for name in stale - {row["file"] for row in variants}:
        (folder / name).unlink(missing_ok=True)
    if problem is not None:
        raise problem
    job.backup.finish()
    return content


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Made:
    """The files, written and checked: their rows for the report and their bytes."""

    rows: list[dict[str, Any]]
    contents: dict[str, bytes]
    notes: list[str]
    keras_metric: float | None


def _make_variants(
    folder: Path,
    job: job_lib.Job,
    config: ml_collections.ConfigDict,
    plan: _Plan,
    eval_fn: check.EvalFn | None,
    on_step: OnStep,
) -> _Made:
    """Converts, quantizes, checks and writes each variant."""
    on_step("converting to a float .tflite, checked against the Keras model")
    ready = deployment.prepare(job)
    float_file, unmapped = variants_lib.convert_float(ready.job, config, ready.metadata)
    checker = check.Checker(ready.job, eval_fn, config)
    checked = checker.check_float(float_file)
    rows, contents = [], {}

    def add(row: dict[str, Any], content: bytes) -> None:
        files.write_bytes(folder / row["file"], content)
        rows.append(row)
        contents[row["name"]] = content

    for recipe in plan.recipes:
        on_step(f"quantizing and verifying {recipe.name}")
        accurate = variants_lib.quantize(
            ready.job, recipe, float_file, _options(plan, ready), plan.ranges
        )
        done = accurate.quantized
        if done.calibration and recipe.scheme == "static_int8":
            quantization.write_ranges(folder / _RANGES, done.calibration, float_file)
        is_float = recipe.name == "float32"
        found = checked if is_float else checker.check(recipe.name, done.tflite)
        add(variants_lib.describe(recipe, accurate) | found, done.tflite)
    if job.quantization_aware is not None:
        on_step("converting and verifying int8_qat")
        add(*variants_lib.convert_quantization_aware(job, config, checker))
    return _Made(
        rows=rows,
        contents=contents,
        notes=[*ready.notes, *unmapped],
        keras_metric=checker.keras_metric,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Plan:
    """The config's choices, looked up: a wrong one fails before anything runs."""

    recipes: list[quantization.Recipe]
    quantization: quantization.Options
    ranges: Any
    timing: timing_lib.Timing
    training: training.FitOptions | None
    steps: list[steps_lib.Step]


def _plan(config: ml_collections.ConfigDict) -> _Plan:
    quantization.check_method(config.quantization.calibration)
    for field, value, known in (
        ("quantization.io", config.quantization.io, quantization.IO),
        ("model.save_format", config.model.save_format, ("keras", "tf_keras")),
    ):
        if value not in known:
            raise registry.unknown_name(f"config.{field}", value, known)
    if not config.quantization.recipes:
        raise errors.ConfigError(
            "config.quantization.recipes is empty. Name at least one of: "
            f"{', '.join(quantization.recipe_names())}."
        )
    recipes = [quantization.get_recipe(name) for name in config.quantization.recipes]
    io = config.quantization.io
    if io != "float" and all(r.scheme != "static_int8" for r in recipes):
        raise errors.ConfigError(
            f"config.quantization.io is '{io}', and none of the recipes has such "
            f"inputs and outputs: {', '.join(r.name for r in recipes)}. Add 'int8'."
        )
    return _Plan(
        recipes=recipes,
        quantization=quantization.Options(
            calibration=config.quantization.calibration,
            equalize=config.quantization.equalize,
            rounding=config.quantization.rounding,
            bias_correction=config.quantization.bias_correction,
            io=config.quantization.io,
            layers=config.quantization.layers.to_dict(),
        ),
        ranges=(
            quantization.read_ranges(config.quantization.ranges)
            if config.quantization.ranges
            else None
        ),
        timing=timing_lib.plan(config),
        training=_fit_options(config),
        steps=steps_lib.plan(config),
    )


def _options(plan: _Plan, ready: deployment.Ready) -> quantization.Options:
    """Returns the config's options; what it says of a layer comes first."""
    layers = {**ready.layers, **plan.quantization.layers}
    return dataclasses.replace(plan.quantization, layers=layers)


def _fit_options(config: ml_collections.ConfigDict) -> training.FitOptions | None:
    fields = config.training.to_dict()
    fields.pop("augment")
    fields.pop("backup_dir")  # Of the whole job; each training has its own in it.
    if not fields["epochs"]:
        return None
    # 0 and "" stand for "not set" in a config, whose fields have fixed types.
    given = {name: value for name, value in fields.items() if value not in (0, "")}
    options = training.FitOptions(seed=config.seed, **given)
    training.check_names(options)
    return options


def _backup(job: job_lib.Job, config: ml_collections.ConfigDict) -> Backup:
    """Opens the folder from which the job goes on after a kill, if it has one."""
    options = training.FitOptions(
        seed=config.seed,
        strategy=config.training.strategy,
        backup_dir=config.training.backup_dir or None,
    )
    fields = config.to_dict()
    for name in ("backup_dir", "log_dir"):
        fields["training"].pop(name)
    # What comes after the steps may differ: it is done anew.
    decisive = ("seed", "task", "model", "data", "training", "steps")
    names = [*decisive, *steps_lib.STEPS.names()]
    return Backup(options, job.model, {f"config.{n}": fields[n] for n in names})


def start_tensorflow(strategy: str = "none") -> None:
    """Makes TensorFlow look for devices now, not in the middle of the job."""
    if strategy == "multiworker":  # It can join others only before its first tensor.
        training.start_workers()
    tf.config.list_physical_devices()
    tf.constant(0)


def _claim(folder: Path, overwrite: bool) -> None:
    """Refuses a folder that holds results."""
    if folder.exists() and not folder.is_dir():
        raise errors.ConfigError(f"out_dir '{folder}' is a file, not a folder.")
    ours = ["model.keras", "config.json", "report.md", _RANGES, _RESULT]
    standing = [name for name in ours if (folder / name).exists()]
    standing += sorted(path.name for path in folder.glob("*.tflite"))
    if standing and not overwrite:
        raise errors.ConfigError(
            f"{folder} already holds {standing[0]}. Pass --overwrite (overwrite=True) "
            "to replace it, or choose another --out_dir."
        )


def _check_samples(plan: _Plan, job: job_lib.Job) -> None:
    """Refuses before the training what would fail after it."""
    for recipe in plan.recipes:
        if recipe.needs_ranges and job.feed.calibration is None and not plan.ranges:
            raise errors.ConfigError(
                f"The recipe '{recipe.name}' needs samples to calibrate with: pass "
                "train_data or eval_data, or leave it out of quantization.recipes."
            )


def _make(folder: Path) -> None:
    """Makes the folder, before there is work to lose."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise errors.ConfigError(
            f"out_dir '{folder}' cannot be written to: {error.strerror}. Choose "
            "another."
        ) from error


def _start_writing(folder: Path) -> set[str]:
    """Returns the variants that an earlier export left.

    Its result goes first: from here on it would describe files that are no longer
    those. Only files that it names are ours to remove.
    """
    (folder / _RANGES).unlink(missing_ok=True)
    old = folder / _RESULT
    if not old.exists():
        return set()
    try:
        variants = json.loads(old.read_text(encoding="utf-8"))["variants"]
        stale = {Path(variant["file"]).name for variant in variants}
    except (ValueError, KeyError, TypeError):
        stale = set()
    old.unlink()
    return stale


def _slim(
    job: job_lib.Job,
    plan: _Plan,
    train_fn: Callable[[Any], Any] | None,
    eval_fn: check.EvalFn | None,
    on_step: OnStep,
) -> list[dict[str, Any]]:
    """Makes `job.model` smaller, step by step; returns what each step did."""
    done = []
    job.original = job.model
    for step in plan.steps:
        on_step(step.title)
        row = steps_lib.run(
            step,
            job,
            lambda options: _train(job, options, train_fn, on_step),
            lambda: job.backup.value(lambda: check.measure(job, eval_fn)),
        )
        done.append(row)
    return done


def _train(
    job: job_lib.Job,
    options: training.FitOptions | None,
    train_fn: Callable[[Any], Any] | None,
    on_step: OnStep,
) -> dict[str, Any] | None:
    """Trains `job.model`; returns what the report says of it, None if it was not."""
    start = time.monotonic()
    if train_fn is not None:
        on_step("training by the caller's train_fn")
        job.model = job.backup.tuned(job.model, train_fn)
        return {"by": "train_fn", "seconds": time.monotonic() - start}
    if options is None or job.feed.train is None:
        return None
    on_step(f"training {job.name} for {options.epochs} epochs")
    if graph_keras.keras_of(job.model) == "keras":
        # `fit` is tf_keras's; model.keras crosses the bridge back.
        job.model = graph_keras.to_tf_keras(job.model)
    how = Training(
        train=job.feed.train,
        validation=job.feed.validation,
        task=job.task,
        options=options,
    )
    done = job.backup.train(job.model, how)
    return {
        "by": "tfslim.fit",
        "epochs": len(done.history["loss"]),
        "best_epoch": done.best_epoch + 1,
        "monitor": done.monitor,
        "seconds": time.monotonic() - start,
        "history": done.history,
    }
