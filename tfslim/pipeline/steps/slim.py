"""The step `slim`: a training that makes channels idle, their removal, retraining."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_collections

from tfslim import checks, errors
from tfslim.activation.activation_pruning import activation_pruning
from tfslim.pipeline.job import Job
from tfslim.pipeline.steps import base, prune
from tfslim.proximal.prox_sg import prox_sg
from tfslim.pruning import budget as budget_lib
from tfslim.pruning import loop
from tfslim.slimming.slim_network import slim_network
from tfslim.training import FitOptions
from tfslim.training.training import Training


def plan(
    section: ml_collections.ConfigDict, config: ml_collections.ConfigDict
) -> base.Step:
    """Looks up the section `slim`."""
    checks.choice("slimming method", section.method, _METHODS)
    checks.whole("config.slim.epochs", section.epochs)
    budget = _budget(section)
    options = base.fit_options(config, section)
    method = _METHODS[section.method]

    def apply(job: Job) -> tuple[Any, base.Outcome]:
        model, report = method(
            job, section, budget, job.backup.part(options, job.model)
        )
        return model, base.Outcome(
            layers=tuple(report.lines()),
            proof_error=max(step.error for step in report.steps),
            skipped=dict(report.skipped),
        )

    trains = f"{section.epochs} epochs after each of {section.passes} cuts"
    if section.method != "activation":  # It has no penalty.
        trains = f"{section.sparse_epochs} epochs under the penalty, {trains}"
    title = f"slimming by {section.method}"
    return base.Step(title=title, apply=apply, trains=trains)


def _budget(section: ml_collections.ConfigDict) -> budget_lib.Budget | None:
    """Returns the budget; Prox-SG without a limit cuts what its zeros say."""
    if section.method != "prox_sg":
        return prune.budget_of("slim", section, scope="global")
    if section.ratio:
        raise errors.ConfigError(
            f"config.slim.ratio is {section.ratio}, but Prox-SG takes the ratio of "
            "each layer from its zeros: set max_macs or max_params, or strength."
        )
    if not (section.max_macs or section.max_params):
        return None
    return prune.budget_of("slim", section, scope="uniform")


def _sparse(method: Any, *names: str) -> Any:
    """Returns a method with a penalty, which takes some fields of the section."""

    def run(
        job: Job,
        section: ml_collections.ConfigDict,
        budget: budget_lib.Budget | None,
        options: FitOptions,
    ) -> Any:
        return method(
            job.model,
            job.feed.train,
            job.feed.validation,
            task=job.task,
            budget=budget,
            options=options,
            strength=section.strength,
            sparse_epochs=section.sparse_epochs,
            fine_tune_epochs=options.epochs,
            **{name: section[name] for name in names},
        )

    return run


def _activation(
    job: Job,
    section: ml_collections.ConfigDict,
    budget: budget_lib.Budget | None,
    options: FitOptions,
) -> Any:
    training = Training(
        train=job.feed.train,
        validation=job.feed.validation,
        task=job.task,
        options=options,
    )
    return activation_pruning(
        job.model,
        base.batches(job),
        training,
        budget=budget,
        cycles=section.passes,
        is_trained=True,
    )


_METHODS: dict[str, Callable[..., tuple[Any, loop.LoopReport]]] = {
    "activation": _activation,
    "prox_sg": _sparse(prox_sg, "divisor"),
    "slimming": _sparse(slim_network, "passes"),
}
