"""The step `slim`: a training that makes channels idle, their removal, retraining."""

from __future__ import annotations

from typing import Any

from tfslim import checks, errors
from tfslim.activation.activation_pruning import activation_pruning
from tfslim.bayesian.compress import bayesian_compression
from tfslim.pipeline.job import Job
from tfslim.pipeline.steps import base, prune
from tfslim.proximal.prox_sg import prox_sg
from tfslim.pruning import budget as budget_lib
from tfslim.slimming.slim_network import slim_network
from tfslim.training.training import Training

# Name -> a method with a penalty, and which fields of the section it takes beside those
# that all do.
_SPARSE: dict[str, tuple[Any, tuple[str, ...]]] = {
    "bayesian": (bayesian_compression, ("divisor",)),
    "prox_sg": (prox_sg, ("divisor",)),
    "slimming": (slim_network, ("passes",)),
}


def plan(section: base.Config, config: base.Config) -> base.Step:
    """Looks up the section `slim`."""
    checks.choice("slimming method", section.method, known=[*_SPARSE, "activation"])
    checks.whole("config.slim.epochs", section.epochs)
    budget = _budget(section)
    options = base.fit_options(config, section)

    def apply(job: Job) -> tuple[Any, base.Outcome]:
        training = Training(
            train=job.feed.train,
            validation=job.feed.validation,
            task=job.task,
            options=job.backup.part(options, job.model),
        )
        run = _activation if section.method == "activation" else _sparse
        model, report = run(job, section, budget, training)
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


def _budget(section: base.Config) -> budget_lib.Budget | None:
    """Returns the budget; without one two methods say themselves what goes."""
    has_limit = section.max_macs or section.max_params
    if section.method == "bayesian":
        if not (has_limit or section.ratio):
            return None
        # Compared across layers, the deep ones lose nearly all.
        return prune.budget_of("slim", section, scope="uniform")
    if section.method != "prox_sg":
        return prune.budget_of("slim", section, scope="global")
    if section.ratio:
        raise errors.ConfigError(
            f"config.slim.ratio is {section.ratio}, but Prox-SG takes the ratio of "
            "each layer from its zeros: set max_macs or max_params, or strength."
        )
    if not has_limit:
        return None
    return prune.budget_of("slim", section, scope="uniform")


def _sparse(job: Job, section: base.Config, budget: Any, training: Training) -> Any:
    method, names = _SPARSE[section.method]
    given = {name: section[name] for name in names}
    if section.strength is not None:
        given["strength"] = section.strength
    return method(
        job.model,
        training,
        budget=budget,
        sparse_epochs=section.sparse_epochs,
        fine_tune_epochs=section.epochs,
        **given,
    )


def _activation(job: Job, section: base.Config, budget: Any, training: Training) -> Any:
    return activation_pruning(
        job.model,
        base.batches(job),
        fine_tune=training,
        budget=budget,
        cycles=section.passes,
        is_trained=True,
    )
