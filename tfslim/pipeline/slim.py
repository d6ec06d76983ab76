"""The steps that make the model smaller before it is converted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import ml_collections
import numpy as np

from tfslim import errors, registry, training
from tfslim.graph import count
from tfslim.graph import keras as graph_keras
from tfslim.methods import channels
from tfslim.pipeline.job import Job
from tfslim.pruning import budget as budget_lib
from tfslim.pruning import criteria

# Batches that criteria with gradients, and the proof, look at.
_NUM_BATCHES = 8

Train = Callable[[Any, training.FitOptions], Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pruning:
    """The config's section `prune`, looked up."""

    budget: budget_lib.Budget
    criterion: str
    fold: str
    fine_tune: training.FitOptions | None


def plan_pruning(config: ml_collections.ConfigDict) -> Pruning | None:
    """Checks the section `prune`; None if nothing is to be pruned.

    Raises:
        ConfigError: a wrong name or number.
    """
    section = config.prune
    if not section.method:
        return None
    if section.method != "channels":
        raise registry.unknown_name("pruning method", section.method, ["channels"])
    criteria.CRITERIA.get(section.criterion)
    has_limit = section.max_params or section.max_macs
    return Pruning(
        budget=budget_lib.Budget(
            pruning_ratio=None if has_limit and not section.ratio else section.ratio,
            max_params=section.max_params or None,
            max_macs=section.max_macs or None,
            scope=section.scope,
            divisor=section.divisor,
            min_channels=section.min_channels,
            ignore=tuple(section.ignore),
        ),
        criterion=section.criterion,
        fold=section.fold,
        fine_tune=fine_tune_options(config, section),
    )


def fine_tune_options(
    config: ml_collections.ConfigDict, section: ml_collections.ConfigDict
) -> training.FitOptions | None:
    """Returns how to train after a step: as before, but for epochs and rate."""
    if section.epochs < 0:
        raise errors.ConfigError(f"epochs must be 0 or more, got {section.epochs}.")
    if not section.epochs:
        return None
    return training.FitOptions(
        seed=config.seed,
        epochs=section.epochs,
        batch_size=config.training.batch_size,
        optimizer=config.training.optimizer,
        learning_rate=section.learning_rate or None,
        strategy=config.training.strategy,
    )


def prune(
    job: Job, plan: Pruning, train: Train, measure: Callable[[], float | None]
) -> dict[str, Any]:
    """Cuts channels out of `job.model`, fine-tunes, and says what it did.

    Args:
        job: its model is replaced.
        plan: what to cut.
        train: trains a model in place, as asked.
        measure: returns the metric of `job.model`; called before and after.
    """
    before = measure()
    original = count.count(graph_keras.read(job.model))
    job.model, report = channels.prune_channels(
        job.model,
        criterion=plan.criterion,
        budget=plan.budget,
        data=_batches(job) or None,
        loss=job.task.loss,
        fold=plan.fold,
    )
    after_cut = measure()
    if plan.fine_tune is not None:
        train(job.model, plan.fine_tune)
    smaller = count.count(graph_keras.read(job.model))
    return {
        "step": "prune",
        "criterion": plan.criterion,
        "params": [original.params, smaller.params],
        "macs": [original.macs, smaller.macs],
        "proof_error": report.error,
        "metric": {
            "before": before,
            "cut": after_cut,
            "fine_tuned": measure() if plan.fine_tune is not None else None,
        },
        "layers": list(report.cut.lines()),
        "left_alone": dict(report.left_alone),
        "notes": list(report.notes),
    }


def _batches(job: Job) -> list[Any]:
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
