"""The step `factorize`: low rank in place of full kernels."""

from __future__ import annotations

from typing import Any

from tfslim import checks, errors
from tfslim.factorization import METHODS
from tfslim.factorization.factorize_model import factorize_model
from tfslim.pipeline.job import Job
from tfslim.pipeline.steps import base


def plan(section: base.Config, config: base.Config) -> base.Step:
    """Looks up the section `factorize`."""
    method = section.method or "tucker"
    for name in method.split("+"):
        METHODS.get(name)
    checks.choice("config.factorize.ranks", section.ranks, known=[None, "vbmf"])
    given = [name for name in ("energy", "target", "ranks") if section[name]]
    if len(given) != 1:
        raise errors.ConfigError(
            "config.factorize needs one of energy (e.g. 0.9), target and ranks=vbmf, "
            f"got {' and '.join(given) or 'none'}."
        )

    def apply(job: Job) -> tuple[Any, base.Outcome]:
        model, report = factorize_model(
            job.model,
            method=method,
            divisor=section.divisor,
            ignore=tuple(section.ignore),
            **{given[0]: section[given[0]]},
        )
        # The kernels change, so there is no proof of equality.
        return model, base.Outcome(
            layers=tuple(report.table()), skipped=dict(report.skipped)
        )

    return base.Step(
        title=f"factorizing by {method}",
        apply=apply,
        fine_tune=base.fine_tune(config, section),
    )
