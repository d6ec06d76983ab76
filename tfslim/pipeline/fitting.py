"""The trainings of a job: the first one, and those after its steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import ml_collections

from tfslim import training
from tfslim.graph import keras as graph_keras
from tfslim.pipeline import steps as steps_lib
from tfslim.pipeline.job import Job
from tfslim.training.job import ResumableJob
from tfslim.training.training import Training

OnStep = Callable[[str], None]


def options_of(config: ml_collections.ConfigDict) -> training.FitOptions | None:
    """Returns how the model is trained first; None: not at all."""
    fields = config.training.to_dict()
    fields.pop("augment")
    fields.pop("backup_dir")  # Of the whole job; each training has its own in it.
    if not fields["epochs"]:
        return None
    options = training.FitOptions(seed=config.seed, **fields)
    training.check_names(options)
    return options


def backup_of(job: Job, config: ml_collections.ConfigDict) -> ResumableJob:
    """Opens the folder from which the job resumes after a kill, if it has one."""
    options = training.FitOptions(
        seed=config.seed,
        strategy=config.training.strategy,
        backup_dir=config.training.backup_dir,
    )
    fields = config.to_dict()
    for name in ("backup_dir", "log_dir"):
        fields["training"].pop(name)
    # What comes after the steps may differ: it is done anew.
    decisive = ("seed", "task", "model", "data", "training", "steps")
    names = [*decisive, *steps_lib.STEPS.names()]
    return ResumableJob(
        options, job.model, description={f"config.{n}": fields[n] for n in names}
    )


def to_float32(job: Job, on_step: OnStep) -> None:
    """Makes the job's model compute in float32, and notes it where it did not."""
    job.model, found = graph_keras.to_float32(job.model)
    if found:
        note = f"The model computed in {', '.join(found)}; it is float32 now."
        job.feed.facts["notes"].append(note)
        on_step(note)


def by_caller(
    job: Job, train_fn: Callable[[Any], Any], *, on_step: OnStep
) -> dict[str, Any]:
    """Has the caller's function train the model; returns what the report says of it."""
    start = time.monotonic()
    on_step("training by the caller's train_fn")
    job.model = job.backup.tuned(job.model, train_fn)
    return {"by": "train_fn", "seconds": time.monotonic() - start}


def fit(
    job: Job, options: training.FitOptions | None, *, on_step: OnStep
) -> dict[str, Any] | None:
    """Trains the job's model, given options and data; returns what the report says."""
    if options is None or job.feed.train is None:
        return None
    start = time.monotonic()
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
