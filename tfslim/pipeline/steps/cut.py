"""Steps that remove channels of a trained model: `width` and `prune`."""

from __future__ import annotations

import dataclasses
from typing import Any

import ml_collections

from tfslim import errors, registry, training
from tfslim.pipeline.job import Job
from tfslim.pipeline.steps import base
from tfslim.pruning import budget as budget_lib
from tfslim.pruning import constants, criteria, prune


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cut:
    """Removal of channels by a criterion."""

    title: str
    fine_tune: training.FitOptions | None
    criterion: str
    budget: budget_lib.Budget
    fold: str = "exact"
    trains: str = ""

    def apply(self, job: Job) -> tuple[Any, base.Outcome]:
        """Cuts; criteria that look at data see the first training batches."""
        model, report = prune.prune_channels(
            job.model,
            criterion=self.criterion,
            budget=self.budget,
            data=base.batches(job) or None,
            loss=job.task.loss,
            fold=self.fold,
        )
        return model, base.Outcome(
            proof_error=report.error,
            layers=tuple(report.cut.lines()),
            skipped=dict(report.skipped),
            notes=report.notes,
        )


def plan_pruning(
    section: ml_collections.ConfigDict, config: ml_collections.ConfigDict
) -> Cut:
    """Looks up the section `prune`."""
    if section.method not in ("channels", ""):
        raise registry.unknown_name("pruning method", section.method, ["channels"])
    criteria.CRITERIA.get(section.criterion)
    constants.check_mode(section.fold)
    return Cut(
        title=f"pruning channels by {section.criterion}",
        fine_tune=base.fine_tune(config, section),
        criterion=section.criterion,
        budget=budget_of("prune", section, scope=section.scope),
        fold=section.fold,
    )


def plan_width(
    section: ml_collections.ConfigDict, config: ml_collections.ConfigDict
) -> Cut:
    """Looks up the section `width`."""
    if not 0.0 < section.alpha <= 1.0:
        raise errors.ConfigError(
            f"config.width.alpha must be in (0, 1], got {section.alpha}: 0.5 halves "
            "the width of every layer."
        )
    criteria.CRITERIA.get(section.criterion)
    return Cut(
        title=f"width times {section.alpha:g}",
        fine_tune=base.fine_tune(config, section),
        criterion=section.criterion,
        budget=budget_lib.Budget(
            pruning_ratio=1.0 - section.alpha,
            divisor=section.divisor,
            ignore=tuple(section.ignore),
        ),
    )


def budget_of(
    name: str, section: ml_collections.ConfigDict, *, scope: str
) -> budget_lib.Budget:
    """Returns the budget that the fields of the section `name` ask for."""
    has_limit = section.max_params or section.max_macs
    if not has_limit and not section.ratio:
        raise errors.ConfigError(
            f"config.{name} needs ratio (0.5 removes half of the channels), max_macs "
            "or max_params, got none."
        )
    return budget_lib.Budget(
        pruning_ratio=None if has_limit and not section.ratio else section.ratio,
        max_params=section.max_params or None,
        max_macs=section.max_macs or None,
        scope=scope,
        divisor=section.divisor,
        min_channels=section.min_channels,
        ignore=tuple(section.ignore),
    )
