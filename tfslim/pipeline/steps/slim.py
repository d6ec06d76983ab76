"""The step `slim`: a training that makes channels idle, their removal, retraining."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import ml_collections

from tfslim import errors, registry, training
from tfslim.activation.activation_pruning import activation_pruning
from tfslim.pipeline.job import Job
from tfslim.pipeline.steps import base, cut
from tfslim.proximal.prox_sg import prox_sg
from tfslim.pruning import budget as budget_lib
from tfslim.slimming.slim_network import slim_network
from tfslim.training.training import Training


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slim:
    """A method that trains, cuts and trains again by itself."""

    title: str
    method: Callable[[Slim, Job], tuple[Any, base.Outcome]]
    budget: budget_lib.Budget | None
    divisor: int
    options: training.FitOptions
    sparse_epochs: int
    passes: int
    strength: dict[str, float]
    fine_tune: None = None

    @property
    def trains(self) -> str:
        """How the step trains by itself; activation pruning has no penalty."""
        after = f"{self.options.epochs} epochs after each of {self.passes} cuts"
        if self.method is _activation:
            return after
        return f"{self.sparse_epochs} epochs under the penalty, {after}"

    def apply(self, job: Job) -> tuple[Any, base.Outcome]:
        """Runs the method on the training data."""
        base.require_data(job, self.title)
        return self.method(self, job)


def _slimming(step: Slim, job: Job) -> tuple[Any, base.Outcome]:
    return _trained_sparse(
        slim_network,
        step,
        job,
        passes=step.passes,
        fine_tune_epochs=step.options.epochs,
    )


def _prox_sg(step: Slim, job: Job) -> tuple[Any, base.Outcome]:
    return _trained_sparse(
        prox_sg,
        step,
        job,
        divisor=step.divisor,
        retrain_epochs=step.options.epochs,
    )


def _trained_sparse(
    method: Any, step: Slim, job: Job, **more: Any
) -> tuple[Any, base.Outcome]:
    model, report = method(
        job.model,
        job.feed.train,
        job.feed.validation,
        task=job.task,
        budget=step.budget,
        sparse_epochs=step.sparse_epochs,
        options=job.backup.part(step.options, job.model),
        **step.strength,
        **more,
    )
    return model, base.Outcome(layers=tuple(report.lines()))


def _activation(step: Slim, job: Job) -> tuple[Any, base.Outcome]:
    model, history = activation_pruning(
        job.model,
        base.batches(job),
        Training(
            train=job.feed.train,
            validation=job.feed.validation,
            task=job.task,
            options=job.backup.part(step.options, job.model),
        ),
        budget=step.budget,
        cycles=step.passes,
        is_trained=True,
    )
    lines = [
        f"cycle {cycle.number}: {cycle.removed} units removed, active at most "
        f"{cycle.rate:.2%} of the time; {cycle.units} left"
        for cycle in history
    ]
    return model, base.Outcome(
        layers=tuple(lines),
        proof_error=max(cycle.error for cycle in history),
        skipped=dict(history[-1].skipped),
    )


_METHODS: dict[str, Callable[[Slim, Job], tuple[Any, base.Outcome]]] = {
    "activation": _activation,
    "prox_sg": _prox_sg,
    "slimming": _slimming,
}


def plan(section: ml_collections.ConfigDict, config: ml_collections.ConfigDict) -> Slim:
    """Looks up the section `slim`."""
    if section.method not in _METHODS:
        raise registry.unknown_name("slimming method", section.method, _METHODS)
    for name in ("epochs", "sparse_epochs", "passes"):
        if section[name] < 1:
            raise errors.ConfigError(
                f"config.slim.{name} must be 1 or more, got {section[name]}."
            )
    return Slim(
        title=f"slimming by {section.method}",
        method=_METHODS[section.method],
        budget=_budget(section),
        divisor=section.divisor,
        options=base.fit_options(config, section, section.epochs),
        sparse_epochs=section.sparse_epochs,
        passes=section.passes,
        strength={"strength": section.strength} if section.strength else {},
    )


def _budget(section: ml_collections.ConfigDict) -> budget_lib.Budget | None:
    """Returns the budget; Prox-SG without a limit cuts what its zeros say."""
    if section.method != "prox_sg":
        return cut.budget_of("slim", section, scope="global")
    if section.ratio:
        raise errors.ConfigError(
            f"config.slim.ratio is {section.ratio}, but Prox-SG takes the ratio of "
            "each layer from its zeros: set max_macs or max_params, or strength."
        )
    if not (section.max_macs or section.max_params):
        return None
    return cut.budget_of("slim", section, scope="uniform")
