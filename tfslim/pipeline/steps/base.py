"""What every step that makes a model smaller has, and how one is run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import ml_collections
import numpy as np

from tfslim import errors, training
from tfslim.graph import count
from tfslim.graph import keras as graph_keras
from tfslim.pipeline.job import Job

# The sections of a config, and the whole.
Config: TypeAlias = ml_collections.ConfigDict
# Batches that criteria with gradients, and the proof, look at.
_NUM_BATCHES = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the report says of a step.

    Attributes:
        layers: a line for each layer that changed.
        proof_error: largest relative difference from the masked original; None where
            weights change on purpose.
        skipped: what stayed as it was, with the reason.
        notes: what the user should know.
        details: figures of the method's own, e.g. the histogram of the scales.
    """

    layers: tuple[str, ...] = ()
    proof_error: float | None = None
    skipped: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """One way to make a model smaller, with its options looked up.

    Attributes:
        title: what the user is told, e.g. "pruning channels by taylor".
        apply: returns the smaller model and what the report says of it.
        fine_tune: how to train afterwards; None: not at all, or the step does it.
        trains: how the step trains by itself, e.g. "5 epochs"; "" if it does not.
    """

    title: str
    apply: Callable[[Job], tuple[Any, Outcome]]
    fine_tune: training.FitOptions | None = None
    trains: str = ""


def fine_tune(config: Config, section: Config) -> training.FitOptions | None:
    """Returns how to train after a step: as before, but for epochs and rate."""
    return fit_options(config, section) if section.epochs else None


def fit_options(config: Config, section: Config) -> training.FitOptions:
    """Returns `config.training` with a step's own epochs and learning rate."""
    return training.FitOptions(
        seed=config.seed,
        epochs=section.epochs,
        batch_size=config.training.batch_size,
        optimizer=config.training.optimizer,
        learning_rate=section.learning_rate or config.training.learning_rate,
        strategy=config.training.strategy,
        mixed_precision=config.training.mixed_precision,
    )


def run(
    step: Step,
    job: Job,
    *,
    train: Callable[[training.FitOptions], Any],
    measure: Callable[[], float | None],
) -> dict[str, Any]:
    """Replaces `job.model` by a smaller one, fine-tunes it, and says what happened.

    Args:
        step: what to do.
        job: its model is replaced.
        train: trains `job.model`.
        measure: returns the metric of `job.model`; called before and after.

    Raises:
        ConfigError: the step trains by itself, and there is nothing to train on.
    """
    if step.trains and job.feed.train is None:
        raise errors.ConfigError(
            f"The step '{step.title}' trains the model: pass train_data, or name data "
            "in the config."
        )
    metric: dict[str, float | None] = {"before": measure()}
    before = count.count(graph_keras.read(job.model))
    job.model, outcome = step.apply(job)
    metric["cut"] = measure()
    trained = None
    if step.fine_tune is not None:
        trained = train(step.fine_tune)
    if trained is not None:
        metric["fine_tuned"] = measure()
    after = count.count(graph_keras.read(job.model))
    return {
        "step": step.title,
        "params": [before.params, after.params],
        "macs": [before.macs, after.macs],
        "metric": metric,
        "trains": step.trains,
        "training": trained,
        **dataclasses.asdict(outcome),
    }


def batches(job: Job) -> list[Any]:
    """Returns the first training batches (x, target) as arrays."""
    data = job.feed.train
    if data is None:
        return []
    if isinstance(data, tuple):
        x, y = data
        spans = [slice(i * 32, (i + 1) * 32) for i in range(_NUM_BATCHES)]
        return [(x[s], job.task.target(x[s], y[s])) for s in spans if len(y[s])]
    dataset = data(np.int64(0)) if callable(data) else data
    return list(dataset.take(_NUM_BATCHES).as_numpy_iterator())
