"""The steps that make the model smaller before it is converted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import ml_collections
import numpy as np

from tfslim import errors, registry, training
from tfslim.factorize import METHODS
from tfslim.graph import count
from tfslim.graph import keras as graph_keras
from tfslim.methods import channels
from tfslim.methods.factorize import factorize_model
from tfslim.pipeline.job import Job
from tfslim.pruning import budget as budget_lib
from tfslim.pruning import constants, criteria

# Batches that criteria with gradients, and the proof, look at.
_NUM_BATCHES = 8


class Step(Protocol):
    """One way to make a model smaller, with its options looked up."""

    @property
    def title(self) -> str:
        """What the user is told, e.g. "pruning channels by taylor"."""
        ...

    @property
    def fine_tune(self) -> training.FitOptions | None:
        """How to train afterwards; None: not at all."""
        ...

    def apply(self, job: Job) -> tuple[Any, dict[str, Any]]:
        """Returns the smaller model and what the report says of it."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prune:
    """Removal of channels."""

    title: str
    fine_tune: training.FitOptions | None
    criterion: str
    budget: budget_lib.Budget
    fold: str

    def apply(self, job: Job) -> tuple[Any, dict[str, Any]]:
        """Cuts; criteria that look at data see the first training batches."""
        model, report = channels.prune_channels(
            job.model,
            criterion=self.criterion,
            budget=self.budget,
            data=_batches(job) or None,
            loss=job.task.loss,
            fold=self.fold,
        )
        return model, {
            "proof_error": report.error,
            "layers": list(report.cut.lines()),
            "left_alone": dict(report.left_alone),
            "notes": list(report.notes),
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Factorize:
    """Low rank in place of full kernels."""

    title: str
    fine_tune: training.FitOptions | None
    options: dict[str, Any]

    def apply(self, job: Job) -> tuple[Any, dict[str, Any]]:
        """Factorizes; the kernels change, so there is no proof of equality."""
        model, report = factorize_model(job.model, **self.options)
        lines = [line for line in report.lines() if not line.startswith("left alone")]
        return model, {
            "proof_error": None,
            "layers": lines,
            "left_alone": dict(report.left_alone),
            "notes": [],
        }


def plan(config: ml_collections.ConfigDict) -> list[Step]:
    """Looks up the sections `prune` and `factorize`, in this order.

    Raises:
        ConfigError: a wrong name or number.
    """
    steps: list[Step] = []
    if config.prune.method:
        steps.append(_plan_pruning(config))
    if config.factorize.method:
        steps.append(_plan_factorization(config))
    return steps


def _plan_pruning(config: ml_collections.ConfigDict) -> Prune:
    section = config.prune
    if section.method != "channels":
        raise registry.unknown_name("pruning method", section.method, ["channels"])
    criteria.CRITERIA.get(section.criterion)
    constants.check_mode(section.fold)
    has_limit = section.max_params or section.max_macs
    return Prune(
        title=f"pruning channels by {section.criterion}",
        fine_tune=_fine_tune(config, section),
        criterion=section.criterion,
        budget=budget_lib.Budget(
            pruning_ratio=None if has_limit and not section.ratio else section.ratio,
            max_params=section.max_params or None,
            max_macs=section.max_macs or None,
            scope=section.scope,
            divisor=section.divisor,
            min_channels=section.min_channels,
            ignore=tuple(section.ignore),
        ),
        fold=section.fold,
    )


def _plan_factorization(config: ml_collections.ConfigDict) -> Factorize:
    section = config.factorize
    for method in section.method.split("+"):
        METHODS.get(method)
    if section.ranks not in ("", "vbmf"):
        raise registry.unknown_name("config.factorize.ranks", section.ranks, ["vbmf"])
    given = [name for name in ("energy", "target", "ranks") if section[name]]
    if len(given) != 1:
        raise errors.ConfigError(
            "config.factorize needs one of energy (e.g. 0.9), target and ranks=vbmf, "
            f"got {' and '.join(given) or 'none'}."
        )
    for name in ("energy", "target"):
        if not 0.0 <= section[name] <= 1.0:
            raise errors.ConfigError(
                f"config.factorize.{name} must be in (0, 1], got {section[name]}."
            )
    return Factorize(
        title=f"factorizing by {section.method}",
        fine_tune=_fine_tune(config, section),
        options={
            "method": section.method,
            given[0]: section[given[0]],
            "divisor": section.divisor,
            "ignore": tuple(section.ignore),
        },
    )


def _fine_tune(
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
        learning_rate=section.learning_rate or config.training.learning_rate or None,
        strategy=config.training.strategy,
    )


def run(
    step: Step,
    job: Job,
    train: Callable[[training.FitOptions], Any],
    measure: Callable[[], float | None],
) -> dict[str, Any]:
    """Replaces `job.model` by a smaller one, fine-tunes it, and says what happened.

    Args:
        step: what to do.
        job: its model is replaced.
        train: trains `job.model`.
        measure: returns the metric of `job.model`; called before and after.
    """
    metric: dict[str, float | None] = {"before": measure()}
    before = count.count(graph_keras.read(job.model))
    job.model, report = step.apply(job)
    metric["cut"] = measure()
    if step.fine_tune is not None and train(step.fine_tune) is not None:
        metric["fine_tuned"] = measure()
    after = count.count(graph_keras.read(job.model))
    return {
        "step": step.title,
        "params": [before.params, after.params],
        "macs": [before.macs, after.macs],
        "metric": metric,
        **report,
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
