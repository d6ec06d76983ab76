"""The step `factorize`: low rank in place of full kernels."""

from __future__ import annotations

import dataclasses
from typing import Any

import ml_collections

from tfslim import errors, registry, training
from tfslim.factorization import METHODS
from tfslim.factorization.factorize_model import factorize_model
from tfslim.pipeline.job import Job
from tfslim.pipeline.steps import base


@dataclasses.dataclass(frozen=True, kw_only=True)
class Factorize:
    """Low rank in place of full kernels."""

    title: str
    fine_tune: training.FitOptions | None
    options: dict[str, Any]
    trains: str = ""

    def apply(self, job: Job) -> tuple[Any, base.Outcome]:
        """Factorizes; the kernels change, so there is no proof of equality."""
        model, report = factorize_model(job.model, **self.options)
        lines = [line for line in report.lines() if not line.startswith("skipped")]
        return model, base.Outcome(layers=tuple(lines), skipped=dict(report.skipped))


def plan(
    section: ml_collections.ConfigDict, config: ml_collections.ConfigDict
) -> Factorize:
    """Looks up the section `factorize`."""
    method = section.method or "tucker"
    for name in method.split("+"):
        METHODS.get(name)
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
        title=f"factorizing by {method}",
        fine_tune=base.fine_tune(config, section),
        options={
            "method": method,
            given[0]: section[given[0]],
            "divisor": section.divisor,
            "ignore": tuple(section.ignore),
        },
    )
