"""Steps that remove channels of a trained model: `width` and `prune`."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfslim import checks, errors
from tfslim.pipeline.job import Job
from tfslim.pipeline.steps import base
from tfslim.pruning import budget as budget_lib
from tfslim.pruning import constants, output_error, prune, reconstruct

_FIT_SAMPLES = 256


def plan_pruning(section: base.Config, config: base.Config) -> base.Step:
    """Looks up the section `prune`."""
    checks.choice("pruning method", section.method, known=["channels", None])
    constants.check_mode(section.fold)
    budget = budget_of("prune", section, scope=section.scope)
    return _cut(
        f"pruning channels by {section.criterion}",
        section,
        config=config,
        budget=budget,
        fold=section.fold,
        # The scores of this criterion hold for layers that are fitted.
        is_fitted=section.reconstruct or section.criterion == output_error.NAME,
    )


def plan_width(section: base.Config, config: base.Config) -> base.Step:
    """Looks up the section `width`."""
    if section.alpha is None:
        raise errors.ConfigError(
            "config.width.alpha must be in (0, 1], got None: 0.5 halves the width of "
            "every layer."
        )
    budget = budget_lib.Budget(
        pruning_ratio=1.0 - section.alpha,
        divisor=section.divisor,
        ignore=tuple(section.ignore),
    )
    return _cut(f"width times {section.alpha:g}", section, config=config, budget=budget)


def _cut(
    title: str,
    section: base.Config,
    *,
    config: base.Config,
    budget: budget_lib.Budget,
    fold: str = "exact",
    is_fitted: bool = False,
) -> base.Step:
    prune.check_criterion(section.criterion)

    def apply(job: Job) -> tuple[Any, base.Outcome]:
        # Criteria that look at data see the first training batches.
        batches = base.batches(job) or None
        model, report = prune.prune_channels(
            job.model,
            criterion=section.criterion,
            budget=budget,
            data=batches,
            loss=job.task.loss,
            fold=fold,
        )
        skipped = dict(report.skipped)
        if is_fitted and batches:
            # The activations of all samples are held, at one depth of the network.
            few = max(1, _FIT_SAMPLES // len(tf.nest.flatten(batches[0])[0]))
            model, fit = reconstruct.reconstruct_kernels(
                job.model, model, keep=report.keep, data=batches[:few], seed=config.seed
            )
            skipped |= {
                f"{name} (reconstruction)": why for name, why in fit.skipped.items()
            }
        elif is_fitted:
            skipped["reconstruction"] = "there is no training data"
        return model, base.Outcome(
            proof_error=report.error,
            layers=tuple(report.cut.lines()),
            skipped=skipped,
            notes=report.notes,
        )

    return base.Step(
        title=title, apply=apply, fine_tune=base.fine_tune(config, section)
    )


def budget_of(name: str, section: base.Config, *, scope: str) -> budget_lib.Budget:
    """Returns the budget that the fields of the section `name` ask for."""
    ratios = dict(section.get("ratios", {}))
    if not (section.max_params or section.max_macs or section.ratio or ratios):
        raise errors.ConfigError(
            f"config.{name} needs ratio (0.5 removes half of the channels), max_macs "
            "or max_params, got none."
        )
    return budget_lib.Budget(
        pruning_ratio=section.ratio or None,
        ratios=ratios,
        scope=scope,
        divisor=section.divisor,
        min_channels=section.min_channels,
        ignore=tuple(section.ignore),
        max_params=section.max_params,
        max_macs=section.max_macs,
    )
